//! Paths that are no regular files, and files that are larger than they look.

use impasto::composition::Composition;
use impasto::pipeline::Request;
use impasto::raster::Layer;
use impasto::weights::{Tensors, read_safetensors, write_safetensors};
use impasto::{LoadOptions, Model, Pipeline, Raster, Result, Source};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use tch::Tensor;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model")
}

/// Copies the embedded model's folder.
fn copied(to: &Path) {
    for part in ["", "unet", "vae", "text_encoder", "tokenizer", "scheduler"] {
        fs::create_dir_all(to.join(part)).expect("a folder");
        for entry in fs::read_dir(tiny().join(part)).expect("a folder").flatten() {
            if entry.path().is_file() {
                fs::copy(entry.path(), to.join(part).join(entry.file_name())).expect("copied");
            }
        }
    }
}

/// Writes a black PNG of one bit a pixel.
fn black(path: &Path, width: u32, height: u32) {
    let file = fs::File::create(path).expect("a file");
    let mut encoder = png::Encoder::new(std::io::BufWriter::new(file), width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().expect("a header");
    let mut pixels = writer.stream_writer().expect("a writer");
    let row = vec![0; width.div_ceil(8) as usize];
    (0..height).for_each(|_| pixels.write_all(&row).expect("a row"));
    pixels.finish().expect("an end");
}

#[test]
fn picture_of_gigabytes_is_refused_everywhere() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("black.png");
    black(&path, 30_000, 30_000);
    assert!(fs::metadata(&path).expect("a file").len() < 200_000);
    let says = |message: String| {
        assert!(message.contains("30000×30000 pixels take 2574 MiB; expected at most 512"), "{message}")
    };
    says(Raster::open(&path).unwrap_err().to_string());
    says(Layer::open(&path).unwrap_err().to_string());
    let json = format!(
        r#"{{"prompt": "a", "width": 8, "height": 8, "entities": [
            {{"prompt": "b", "left": 0, "top": 0, "width": 8, "height": 8, "image": {path:?}}}]}}"#
    );
    let composition = Composition::from_json(&json)?;
    says(composition.regions().expect_err("too large").to_string());
    says(composition.preview().unwrap_err().to_string());
    black(&path, 3000, 2000);
    assert_eq!(Raster::open(&path)?.size().width, 3000);
    // A short file may claim fewer pixels than a long file.
    let claims = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/hint/claims_76_mb.webp");
    let message = Raster::open(&claims).unwrap_err().to_string();
    assert!(
        message.contains("8208×2304 pixels take 72 MiB; expected at most 16 MiB for a file of 78 bytes"),
        "{message}"
    );
    Ok(())
}

#[test]
#[cfg(unix)]
fn fifos_and_devices_are_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let fifo = |path: PathBuf| {
        let _ = fs::remove_file(&path);
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        path
    };
    let says = |error: impasto::Error| {
        let message = error.to_string();
        assert!(message.contains("is a FIFO, a socket or a device; expected a regular file"), "{message}");
    };
    let pipe = fifo(folder.path().join("pipe"));
    let pipeline = Pipeline::builder().build().expect("the embedded model");
    for path in [pipe.as_path(), Path::new("/dev/zero")] {
        says(Raster::open(path).unwrap_err());
        says(Request::from_png(&pipeline, path).expect_err("no file"));
        says(read_safetensors(path).unwrap_err());
        says(Composition::open(path).unwrap_err());
        says(Model::load(&Source::file(path)).unwrap_err());
    }
    for file in ["unet/config.json", "model_index.json", "tokenizer/tokenizer.json", "scheduler/scheduler_config.json"]
    {
        let model = tempfile::tempdir().expect("a folder");
        copied(model.path());
        fifo(model.path().join(file));
        says(Model::load(&Source::dir(model.path())).expect_err(file));
    }
}

#[test]
fn configuration_of_megabytes_is_refused() {
    let model = tempfile::tempdir().expect("a folder");
    copied(model.path());
    let path = model.path().join("vae/config.json");
    let config = fs::read_to_string(&path).expect("a file");
    fs::write(&path, config + &" ".repeat(1 << 20)).expect("written");
    let message = Model::load(&Source::dir(model.path())).unwrap_err().to_string();
    assert!(
        message.contains("config.json: the file has more than 1048576 bytes, the limit for such a file"),
        "{message}"
    );
}

#[test]
fn more_than_256_layers_are_refused_by_name() {
    let model = tempfile::tempdir().expect("a folder");
    copied(model.path());
    for (part, field) in [
        ("unet", "layers_per_block"),
        ("unet", "transformer_layers_per_block"),
        ("vae", "layers_per_block"),
        ("text_encoder", "num_hidden_layers"),
    ] {
        let path = model.path().join(part).join("config.json");
        let text = fs::read_to_string(&path).expect("a file");
        let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for count in [257, 100_000, 1 << 20] {
            config[field] = count.into();
            fs::write(&path, config.to_string()).expect("written");
            let message = Model::load(&Source::dir(model.path())).unwrap_err().to_string();
            assert!(message.contains(&format!("{field} is {count}; expected 1 to 256 layers")), "{message}");
        }
        // A configuration may ask for tensors that no file has. Loading ends at the first few thousand of them.
        config[field] = 256.into();
        fs::write(&path, config.to_string()).expect("written");
        match Model::load(&Source::dir(model.path())).unwrap_err() {
            impasto::Error::Weights(report) => assert!(report.missing.len() <= 4096, "{}", report.missing.len()),
            other => panic!("{other}"),
        }
        fs::write(&path, text).expect("written");
    }
    assert!(Model::load(&Source::dir(model.path())).is_ok());
}

/// Checks that mapped weights change with their file, and that copied weights do not.
#[test]
#[cfg(target_os = "linux")]
fn weights_in_memory_do_not_change_with_their_file() -> Result<()> {
    let picture = |options: LoadOptions, folder: &Path| -> Result<[Vec<u8>; 2]> {
        copied(folder);
        // The file has the kind in which the network computes, so that nothing is converted.
        let path = folder.join("unet/diffusion_pytorch_model.safetensors");
        let tensors: Tensors =
            read_safetensors(&path)?.into_iter().map(|(name, x)| (name, x.to_kind(tch::Kind::Float))).collect();
        write_safetensors(&tensors, &path)?;
        let model = Model::load_with(&Source::dir(folder), options)?;
        let pipeline = Pipeline::new(model);
        let paint = || -> Result<Vec<u8>> {
            Ok(pipeline.request("1girl, eyes").seed(1).steps(2).run()?.image(0)?.bytes().to_vec())
        };
        let before = paint()?;
        let length = fs::metadata(&path).expect("a file").len();
        let file = fs::OpenOptions::new().write(true).open(&path).expect("opened");
        std::os::unix::fs::FileExt::write_all_at(&file, &vec![0; 1 << 20], length / 2).expect("written in place");
        Ok([before, paint()?])
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = LoadOptions::default();
    options.in_memory = true;
    let [before, after] = picture(options, folder.path())?;
    assert!(before == after, "copied weights do not change");
    let [before, after] = picture(LoadOptions::default(), folder.path())?;
    assert!(before != after, "mapped weights change; if they did not, the check above would prove nothing");
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn full_disk_error_has_the_path_and_leaves_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("large.safetensors");
    let tensors = Tensors::from([("a".into(), Tensor::zeros([1 << 20], tch::kind::FLOAT_CPU))]);
    // The process may write only files that are smaller than these tensors.
    let program = std::env::current_exe().expect("this program");
    let script =
        "trap '' XFSZ; ulimit -f 800; exec \"$0\" --exact limits::files::write_for_another_test --ignored --nocapture";
    let output = Command::new("sh").args(["-c", script]).arg(program).env(PLACE, &path).output().expect("an end");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("large.safetensors: ") && said.contains("File too large"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing is left behind");
    assert!(write_safetensors(&tensors, &path).is_ok());
}

const PLACE: &str = "IMPASTO_TEST_PLACE";

#[test]
#[ignore = "another test runs this test in a process of its own"]
fn write_for_another_test() {
    let Some(path) = std::env::var_os(PLACE) else { return };
    let tensors = Tensors::from([("a".into(), Tensor::zeros([1 << 20], tch::kind::FLOAT_CPU))]);
    match write_safetensors(&tensors, Path::new(&path)) {
        Err(error @ impasto::Error::Io { .. }) => println!("{error}"),
        other => println!("not an Error::Io: {other:?}"),
    }
}
