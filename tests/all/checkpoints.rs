//! Published checkpoints: names and shapes of their tensors, and the configurations that follow from them.
//!
//! `tests/golden/specs/checkpoints/` holds the names, with the scripts that wrote them.

use crate::with;
use flate2::read::GzDecoder;
use impasto::attention::Tap;
use impasto::nn::{ClipText, ClipTextConfig, ConfigFile, ControlNet, ControlNetConfig, Taesd, TaesdConfig};
use impasto::nn::{UNet, UnetConfig, Vae, VaeConfig};
use impasto::weights::{Contents, Embedding, Lora, ModelFamily, Parts, SingleFile, Tensors, Weights};
use impasto::{Codec, Error, LoadOptions, Model, Pipeline, Result, Source};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use tch::{Device, Kind, Tensor};

fn golden(file: &str) -> Value {
    let path = format!("{}/tests/golden/specs/checkpoints/{file}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).expect("the file is there");
    let mut text = Vec::new();
    match file.ends_with(".gz") {
        true => drop(GzDecoder::new(bytes.as_slice()).read_to_end(&mut text).expect("gzip")),
        false => text = bytes,
    }
    serde_json::from_slice(&text).expect("it is JSON")
}

fn shape(value: &Value) -> Vec<i64> {
    value.as_array().expect("a shape").iter().map(|side| side.as_i64().expect("a side")).collect()
}

/// Returns a tensor of the given shape that only takes the memory of its first axis.
fn stand_in(shape: &[i64]) -> Tensor {
    let rows = shape.first().copied().unwrap_or(1);
    let mut column = vec![1; shape.len()];
    column.iter_mut().take(1).for_each(|side| *side = rows);
    Tensor::arange(rows, (Kind::Float, Device::Cpu)).reshape(column).expand(shape, false)
}

pub(super) type Rows = Vec<(String, Vec<i64>, String, Vec<i64>, String)>;

/// Rows of a model's key map by part: name and shape in a single file, name and shape in diffusers, and the operation.
pub(super) fn key_map(kind: &str) -> BTreeMap<String, Rows> {
    serde_json::from_value(golden(&format!("keymap_{kind}.json.gz"))).expect("parts of rows")
}

fn file_of<'r>(rows: impl Iterator<Item = &'r Rows>) -> Tensors {
    rows.flatten().map(|(name, shape, ..)| (name.clone(), stand_in(shape))).collect()
}

#[test]
fn published_names_become_diffusers_names() -> Result<()> {
    for kind in ["sd15", "sd21", "sdxl", "sdxl_refiner", "controlnet_sd15"] {
        let map = key_map(kind);
        let tensors = file_of(map.values());
        let sources: Tensors = tensors.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
        let file = SingleFile::of(kind, tensors);
        for (part, rows) in &map {
            let got = file.part(part)?.unwrap_or_default();
            for (name, _, renamed, shape, operation) in rows {
                let source = &sources[name];
                let want = match operation.split_once(' ') {
                    Some(("rows", range)) => {
                        let (from, to) = range.split_once("..").expect("a range");
                        let [from, to] = [from, to].map(|end| end.parse::<i64>().expect("a row"));
                        source.narrow(0, from, to - from)
                    }
                    _ => match operation.as_str() {
                        "transpose" => source.transpose(0, 1),
                        "squeeze" => source.squeeze(),
                        _ => source.shallow_clone(),
                    },
                };
                let x = got.get(renamed).unwrap_or_else(|| panic!("{kind}: {name} did not become {renamed}"));
                assert_eq!(x.size(), *shape, "{kind}: {renamed}");
                // Equal pointers and strides mean equal values.
                assert_eq!((x.data_ptr(), x.stride()), (want.data_ptr(), want.stride()), "{kind}: {renamed}");
            }
            assert_eq!(got.len(), rows.len(), "{kind}: {part}");
        }
    }
    Ok(())
}

#[test]
fn files_are_recognized_by_names_and_shapes() {
    let family = |name: &str| match name.trim_end_matches("_inpaint") {
        "sd1" => ModelFamily::Sd1,
        "sd2" => ModelFamily::Sd2,
        "sdxl" => ModelFamily::Sdxl,
        "sdxl_refiner" => ModelFamily::SdxlRefiner,
        "sd3" => ModelFamily::Sd3,
        other => panic!("{other}"),
    };
    for case in golden("recognition.json")["cases"].as_array().expect("cases") {
        let name = case["name"].as_str().expect("a name");
        let names = case["names"].as_object().expect("names");
        let tensors = names.iter().map(|(name, value)| (name.clone(), stand_in(&shape(value)))).collect();
        let (file, kind) = (SingleFile::of("it.safetensors", tensors), case["kind"].as_str().expect("a kind"));
        let got = file.contents();
        if kind == "refuse" {
            let message = got.expect_err(name).to_string();
            let says = case["says"].as_str().expect("words");
            assert!(message.starts_with("it.safetensors: ") && message.contains(says), "{name}: {message}");
            continue;
        }
        let base = || case["base"].as_str().map(family);
        let want = match kind {
            "vae" => Contents::Vae,
            "taesd" => Contents::Taesd,
            "text_encoder" => Contents::TextEncoder { width: 768 },
            "controlnet" => Contents::ControlNet { family: base().unwrap(), hint: case["hint"].as_i64().unwrap() },
            "controlnet_union" => {
                Contents::ControlNetUnion { family: base().unwrap(), types: case["types"].as_i64().unwrap() }
            }
            "lora" => Contents::Lora { family: base() },
            "textual_inversion" => {
                Contents::TextualInversion { family: base().unwrap(), vectors: case["vectors"].as_i64().unwrap() }
            }
            model => Contents::Model { family: family(model), inpaint: model.ends_with("_inpaint") },
        };
        assert_eq!(got.expect(name), want, "{name}");
        if let Some(prediction) = case["prediction"].as_str() {
            let evidence = file.prediction().expect("told");
            assert_eq!(evidence.v, prediction == "v", "{name}");
            assert_eq!(evidence.zero_snr, case["zero_snr"] == true, "{name}");
        }
    }
}

/// Prefixes that training programs and converters leave before tensor names.
const WRAPPERS: [&str; 7] =
    ["state_dict.", "model.", "diffusion_model.", "module.", "_orig_mod.", "unet.", "state_dict.model."];

/// Returns the tensors by names with a wrapper.
fn wrap(tensors: &Tensors, wrapper: &str) -> Tensors {
    tensors.iter().map(|(name, x)| (format!("{wrapper}{name}"), x.shallow_clone())).collect()
}

#[test]
fn wrapped_names_are_recognized_as_what_they_are() {
    for case in golden("recognition.json")["cases"].as_array().expect("cases") {
        let names = case["names"].as_object().expect("names");
        let contents = |wrapper: &str| {
            let tensors = names.iter().map(|(name, value)| (format!("{wrapper}{name}"), stand_in(&shape(value))));
            SingleFile::of("it", tensors.collect()).contents().map_err(|error| error.to_string())
        };
        let bare = contents("");
        for wrapper in WRAPPERS {
            let what = format!("{}: {}", case["name"], case["kind"]);
            match (&bare, contents(wrapper)) {
                (Ok(bare), got) => assert_eq!(got.as_ref(), Ok(bare), "{wrapper} {what}"),
                // A file that is no Stable Diffusion file at all is described by its names, which have the wrapper.
                (Err(bare), Err(got)) => {
                    let is_same = got == *bare || bare.contains("include") && got.contains("include");
                    assert!(is_same, "{wrapper} {what}: {got} instead of {bare}");
                }
                (Err(bare), Ok(got)) => panic!("{wrapper} {what}: {got} instead of {bare}"),
            }
        }
    }
}

#[test]
fn wrapped_parts_are_those_of_the_bare_file() -> Result<()> {
    for kind in ["sd15", "sd21", "sdxl", "controlnet_sd15"] {
        let map = key_map(kind);
        let tensors = file_of(map.values());
        let bare = SingleFile::of(kind, wrap(&tensors, ""));
        for wrapper in WRAPPERS {
            let wrapped = SingleFile::of(kind, wrap(&tensors, wrapper));
            assert_eq!(wrapped.contents()?, bare.contents()?, "{kind} in {wrapper}");
            for part in map.keys() {
                let [got, want] = [wrapped.part(part)?, bare.part(part)?].map(|tensors| tensors.expect("the part"));
                assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "{kind} in {wrapper}");
                assert!(got.iter().all(|(name, x)| x.data_ptr() == want[name].data_ptr()), "{kind} in {wrapper}");
            }
        }
    }
    Ok(())
}

#[test]
fn parts_without_own_prefix_are_read_in_wrappers() -> Result<()> {
    for (kind, part) in [("sd15", "unet"), ("sd15", "vae"), ("sd15", "text_encoder"), ("sd21", "text_encoder")] {
        let rows = &key_map(kind)[part];
        let prefixes = [
            "model.diffusion_model.",
            "first_stage_model.",
            "cond_stage_model.transformer.",
            "cond_stage_model.model.",
        ];
        let bare =
            |name: &str| prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).expect("a prefix").to_owned();
        for wrapper in WRAPPERS.into_iter().chain([""]) {
            let tensors = rows.iter().map(|(name, shape, ..)| (format!("{wrapper}{}", bare(name)), stand_in(shape)));
            let file = SingleFile::of(kind, tensors.collect());
            let contents = file.contents()?.to_string();
            let (want, width) =
                (["a SD 1.x model", "a VAE", "a text encoder"], if kind == "sd15" { 768 } else { 1024 });
            let want = match part {
                "unet" => want[0].to_owned(),
                "vae" => want[1].to_owned(),
                _ => format!("{} of width {width}", want[2]),
            };
            assert_eq!(contents, want, "{kind} {part} in {wrapper}");
            let names: BTreeSet<String> = file.part(part)?.expect("the part").into_keys().collect();
            assert_eq!(names, rows.iter().map(|row| row.2.clone()).collect(), "{kind} {part} in {wrapper}");
        }
    }
    Ok(())
}

#[test]
fn whole_published_files_are_recognized() -> Result<()> {
    for (kind, family) in [("sd15", ModelFamily::Sd1), ("sd21", ModelFamily::Sd2), ("sdxl", ModelFamily::Sdxl)] {
        let file = SingleFile::of(kind, file_of(key_map(kind).values()));
        assert_eq!(file.contents()?, Contents::Model { family, inpaint: false });
    }
    let hint = SingleFile::of("control", file_of(key_map("controlnet_sd15").values()));
    assert_eq!(hint.contents()?, Contents::ControlNet { family: ModelFamily::Sd1, hint: 3 });
    Ok(())
}

#[test]
fn prediction_type_comes_from_the_best_evidence() -> Result<()> {
    let evidence = |kind: &str, edit: &dyn Fn(&mut Tensors)| {
        let mut tensors = file_of(key_map(kind).values());
        edit(&mut tensors);
        SingleFile::of(kind, tensors).prediction()
    };
    let spread = |spread: f64| {
        move |tensors: &mut Tensors| {
            let name = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias";
            let x = Tensor::arange(320, (Kind::Double, Device::Cpu));
            let x = (&x - x.mean(Kind::Double)) / x.std(false) * spread;
            tensors.insert(name.into(), x);
        }
    };
    assert!(!evidence("sd21", &spread(0.089))?.v);
    let guessed = evidence("sd21", &spread(0.091))?;
    assert!(guessed.v && guessed.because.contains("estimated from the standard deviation 0.091"), "{guessed:?}");
    assert!(!evidence("sd15", &spread(0.5))?.v, "the estimate is for SD 2.x only");
    let marked = |name: &'static str| move |tensors: &mut Tensors| drop(tensors.insert(name.into(), stand_in(&[0])));
    assert!(evidence("sdxl", &marked("v_pred"))?.because.contains("v_pred"));
    assert!(evidence("sdxl", &marked("ztsnr"))?.zero_snr);
    let last = |level: f64| {
        move |tensors: &mut Tensors| {
            drop(tensors.insert("alphas_cumprod".into(), Tensor::full([1000], level, (Kind::Float, Device::Cpu))))
        }
    };
    assert!(evidence("sd15", &last(0.0))?.zero_snr);
    assert!(
        !evidence("sd15", &last(0.004_660_1))?.zero_snr,
        "the last value of Stable Diffusion's own table is no evidence"
    );
    Ok(())
}

#[test]
fn prediction_type_is_read_from_yaml_and_metadata() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let header =
        r#"{"__metadata__":{"modelspec.prediction_type":"v"},"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    std::fs::write(&path, bytes).expect("written");
    assert!(SingleFile::open(&path)?.prediction()?.because.contains("metadata"));
    std::fs::write(path.with_extension("yaml"), "  parameterization: \"eps\"").expect("written");
    let evidence = SingleFile::open(&path)?.prediction()?;
    assert!(!evidence.v && evidence.because.contains("yaml"), "{evidence:?}");
    for v in ["\"v\"", "'v'", "v", "v # not epsilon"] {
        std::fs::write(path.with_extension("yaml"), format!("params:\n  parameterization: {v}\n")).expect("written");
        let evidence = SingleFile::open(&path)?.prediction()?;
        assert!(evidence.v && evidence.because.contains("yaml"), "{v}: {evidence:?}");
    }
    std::fs::write(path.with_extension("yaml"), "  # parameterization: eps").expect("written");
    assert!(SingleFile::open(&path)?.prediction()?.because.contains("metadata"), "a YAML comment is no evidence");
    assert!(matches!(SingleFile::open(&path)?.contents(), Err(Error::Malformed { .. })));
    Ok(())
}

/// The configuration that was published with a full-size network.
fn published(name: &str) -> String {
    let path = format!("{}/tests/golden/real_{name}/config.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("the file is there")
}

#[test]
fn shapes_give_the_published_configurations() -> Result<()> {
    for (kind, name, family) in [
        ("sd15", "sd15", ModelFamily::Sd1),
        ("sd21", "sd21", ModelFamily::Sd2),
        ("sdxl", "sdxl", ModelFamily::Sdxl),
        ("sdxl_refiner", "sdxl-refiner", ModelFamily::SdxlRefiner),
    ] {
        let file = SingleFile::of(kind, file_of(key_map(kind).values()));
        let config = |part| file.config(part, family).map(|config| config.expect(part));
        let [got, want] = [config("unet")?, published(&format!("{name}-unet"))];
        let [got, want] = [UnetConfig::from_json("got", &got)?, UnetConfig::from_json("want", &want)?];
        let significant = |config: &UnetConfig| -> Result<_> {
            let mut levels = config.levels()?;
            // Heads and depth have no meaning at levels without attention.
            for level in levels.iter_mut().rev().skip(1).filter(|level| !level.down_attends && !level.up_attends) {
                (level.heads, level.depth) = (0, 0);
            }
            Ok((levels, config.in_channels, config.out_channels, config.use_linear_projection))
        };
        assert_eq!(significant(&got)?, significant(&want)?, "{kind}");
        assert_eq!(got.projection_class_embeddings_input_dim, want.projection_class_embeddings_input_dim);
        assert_eq!(got.addition_time_embed_dim, want.addition_time_embed_dim);
        if kind == "sdxl_refiner" {
            continue; // the refiner's key map has the UNet alone
        }
        let [got, want] = [config("vae")?, published(&format!("{name}-vae"))];
        let [got, want] = [VaeConfig::from_json("got", &got)?, VaeConfig::from_json("want", &want)?];
        assert_eq!(got.block_out_channels, want.block_out_channels);
        assert_eq!((got.layers_per_block, got.scaling_factor), (want.layers_per_block, want.scaling_factor));
        let towers: &[(&str, &str)] = match kind {
            "sd15" => &[("text_encoder", "sd15-clip-l-text")],
            "sd21" => &[("text_encoder", "sd21-clip-h-text")],
            _ => &[("text_encoder", "sdxl-clip-l-text"), ("text_encoder_2", "sdxl-clip-bigg-text")],
        };
        for (part, name) in towers {
            let [got, want] = [config(part)?, published(name)];
            let [got, mut want] = [ClipTextConfig::from_json("got", &got)?, ClipTextConfig::from_json("want", &want)?];
            // Older published files have 2 as `eos_token_id`, which is not the end token.
            (want.eos_token_id, want.projection_dim) = (49407, got.projection_dim);
            assert_eq!(got, want, "{name}");
        }
    }
    Ok(())
}

#[test]
fn every_published_lora_name_finds_its_module() -> Result<()> {
    type Module = (String, String, Vec<i64>, Vec<String>);
    let table: BTreeMap<String, Vec<Module>> =
        serde_json::from_value(golden("lora_names.json.gz")).expect("models of modules");
    for (kind, modules) in table {
        let mut parts = Parts::new();
        let (zero, mut names) = (Tensor::from(0f32), 0);
        for (part, path, shape, _) in &modules {
            // Only the names matter here, so every weight is one number.
            let shape = vec![1; shape.len()];
            parts.entry(part.clone()).or_default().insert(format!("{path}.weight"), zero.reshape(shape));
        }
        let longest = modules.iter().map(|(.., names)| names.len()).max().unwrap_or_default();
        for style in 0..longest {
            // Every module has its own number, so that each name must find the right one.
            let mut tensors = Tensors::new();
            for (i, (_, _, _, names)) in modules.iter().enumerate() {
                let name = names.get(style).unwrap_or(&names[0]);
                tensors
                    .insert(format!("{name}.lora_down.weight"), Tensor::from_slice(&[i as f32 + 1.0]).reshape([1, 1]));
                tensors.insert(format!("{name}.lora_up.weight"), Tensor::ones([1, 1], (Kind::Float, Device::Cpu)));
            }
            names += tensors.len() / 2;
            let mut merged: Parts = parts
                .iter()
                .map(|(part, tensors)| {
                    (part.clone(), tensors.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect())
                })
                .collect();
            let notes = Lora::merge(&[Lora::of(kind.as_str(), tensors)?], &mut merged)?;
            assert!(notes.is_empty(), "{notes:?}");
            for (i, (part, path, ..)) in modules.iter().enumerate() {
                let got = merged[part][&format!("{path}.weight")].double_value(&[0]);
                assert_eq!(got, i as f64 + 1.0, "{kind}: {path}");
            }
        }
        assert!(names >= modules.len());
    }
    Ok(())
}

/// Tensors of a small SD 1.x model by the names of a single file, and by diffusers' names in their parts.
fn small_model() -> Result<(Tensors, BTreeMap<&'static str, Tensors>)> {
    let random = |seed| Weights::random(seed, Kind::Float, Device::Cpu);
    let [unet, vae, text] = [random(1), random(2), random(3)];
    let config = r#"{ "block_out_channels": [32, 64], "cross_attention_dim": 768, "attention_head_dim": 8,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"] }"#;
    let _ = UNet::new(&unet, &UnetConfig::from_json("unet", config)?)?;
    let config = r#"{ "block_out_channels": [32, 32, 32, 32], "layers_per_block": 2 }"#;
    let _ = Vae::new(&vae, &VaeConfig::from_json("vae", config)?)?;
    let config = r#"{ "vocab_size": 1, "hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 1,
        "intermediate_size": 64 }"#;
    let _ = ClipText::new(&text, &ClipTextConfig::from_json("text", config)?)?;
    let mut parts = BTreeMap::from([("unet", unet.drawn()?), ("vae", vae.drawn()?), ("text_encoder", text.drawn()?)]);
    let table = Tensor::zeros([49408, 768], (Kind::Half, Device::Cpu));
    drop(parts.get_mut("text_encoder").unwrap().insert("text_model.embeddings.token_embedding.weight".into(), table));
    let mut file = Tensors::new();
    for (part, rows) in key_map("sd15") {
        for (name, old_shape, renamed, ..) in rows {
            let Some(x) = parts[&*part].get(&renamed) else { continue };
            let x =
                if old_shape.len() == 4 && x.dim() == 2 { x.unsqueeze(-1).unsqueeze(-1) } else { x.shallow_clone() };
            file.insert(name, x);
        }
    }
    assert_eq!(file.len(), parts.values().map(|tensors| tensors.len()).sum::<usize>());
    Ok((file, parts))
}

fn write(path: &Path, tensors: &Tensors) {
    let tensors: Vec<(&String, &Tensor)> = tensors.iter().collect();
    Tensor::write_safetensors(&tensors, path).expect("written");
}

#[test]
fn single_file_runs_and_pruned_file_takes_other_vae() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut tensors, parts) = small_model()?;
    drop(tensors.insert("v_pred".into(), Tensor::zeros([0], (Kind::Float, Device::Cpu))));
    let path = folder.path().join("whole.safetensors");
    write(&path, &tensors);
    let pipeline = Pipeline::builder().source(Source::file(&path)).build()?;
    for (part, tensors) in &parts {
        let loaded = pipeline.model().tensors(part).expect(part);
        assert_eq!(loaded.len(), tensors.len(), "{part}");
        assert!(tensors.iter().all(|(name, x)| loaded[name].to_kind(x.kind()) == *x), "{part}");
    }
    let output = pipeline.request("a cat, (very) ANGRY!").size((64, 64)).steps(2).seed(1).run()?;
    assert_eq!(output.image(0)?.size().width, 64);
    assert!(
        output.notes.iter().any(|note| note.text == "prediction type: v, because the file has the tensor v_pred"),
        "{:?}",
        &output.notes
    );
    assert_eq!(pipeline.model().defaults().width, 512);

    tensors.retain(|name, _| !name.starts_with("first_stage_model."));
    let (pruned, vae) = (folder.path().join("pruned.safetensors"), folder.path().join("vae.safetensors"));
    write(&pruned, &tensors);
    write(&vae, &parts["vae"]);
    let message = Model::load(&Source::file(&pruned)).map(drop).expect_err("no VAE").to_string();
    assert!(message.contains("the VAE is missing in") && message.contains("`LoadOptions::vae`"), "{message}");
    let same = Pipeline::builder()
        .source(Source::file(&pruned))
        .tune(|options| options.vae = Some(Source::file(&vae)))
        .build()?;
    let x = Tensor::ones([1, 4, 4, 4], (Kind::Float, Device::Cpu));
    assert_eq!(same.model().decode(&x)?, pipeline.model().decode(&x)?);
    let wrapped = folder.path().join("wrapped.safetensors");
    write(&wrapped, &wrap(&small_model()?.0, "state_dict."));
    assert_eq!(Model::load(&Source::file(&wrapped))?.decode(&x)?, pipeline.model().decode(&x)?);
    write(&wrapped, &wrap(&parts["vae"], "model."));
    let mut other = LoadOptions::default();
    other.vae = Some(Source::file(&wrapped));
    assert_eq!(Model::load_with(&Source::file(&pruned), other)?.decode(&x)?, pipeline.model().decode(&x)?);
    let wrong = Source::dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model"));
    let wrong =
        Model::load_with(&wrong, with(LoadOptions::default(), |options| options.vae = Some(Source::file(&vae))))?;
    assert_eq!(wrong.tensors("vae").expect("a VAE").len(), parts["vae"].len(), "of another width than the tiny one's");
    let message = Model::load(&Source::file(&vae)).map(drop).expect_err("a VAE").to_string();
    assert!(message.contains("is a VAE"), "{message}");
    Ok(())
}

#[test]
fn lora_changes_a_copy_and_shares_other_weights() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let model = Model::load(&Source::embedded())?;
    let unet = model.tensors("unet").expect("a UNet");
    let key = unet.keys().find(|name| name.ends_with("attn2.to_k.weight")).expect("cross-attention").clone();
    let (rows, columns) = unet[&key].size2()?;
    let path = folder.path().join("ink.safetensors");
    let name = key.trim_end_matches(".weight");
    let ones = |shape: [i64; 2]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
    let tensors = [("lora_A", ones([1, columns])), ("lora_B", ones([rows, 1]))];
    write(&path, &tensors.map(|(end, x)| (format!("unet.{name}.{end}.weight"), x)).into());
    let before: Tensors = unet.iter().map(|(name, x)| (name.clone(), x.copy())).collect();
    let inked = model.with_lora(&[Lora::open(&path)?.scale(0.5)])?;
    let after = inked.tensors("unet").expect("a UNet");
    assert!(unet.iter().all(|(name, x)| *x == before[name]), "the base is as it was");
    for (name, x) in &after {
        assert_eq!(x.data_ptr() == unet[name].data_ptr(), *name != key, "{name}");
    }
    assert_eq!(after[&key], &unet[&key] + 0.5);
    let text = |model: &Model| model.text("a cat".into()).map(|text| text.context);
    assert_eq!(text(&inked)?, text(&model)?);
    let message = Model::load(&Source::file(&path)).map(drop).expect_err("a LoRA").to_string();
    assert!(message.contains("Model::with_lora"), "{message}");
    let picture = |pipeline: Pipeline| -> Result<Tensor> {
        Ok(pipeline.request("1girl, eyes").seed(1).steps(2).run()?.latents.shallow_clone())
    };
    assert_ne!(picture(Pipeline::new(inked))?, picture(Pipeline::builder().build()?)?);
    assert_eq!(picture(Pipeline::new(model))?, picture(Pipeline::builder().build()?)?);
    Ok(())
}

#[test]
fn learned_word_has_as_many_tokens_as_file_rows() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let model = Model::load(&Source::embedded())?;
    let text = model.tensors("text_encoder").expect("a text encoder");
    let width = text["text_model.embeddings.token_embedding.weight"].size()[1];
    let path = folder.path().join("zzqx.safetensors");
    let file = |shape: &[i64]| {
        write(&path, &Tensors::from([("emb_params".to_owned(), Tensor::ones(shape, (Kind::Float, Device::Cpu)))]));
        Embedding::open(&path)
    };
    let learned = model.with_embedding(&file(&[3, width])?)?;
    let prompt = learned.prompt("a ZZQX boat".into())?;
    assert_eq!(prompt.find("zzqx")?[0].len(), 3);
    assert_eq!(prompt.find("boat")?[0].start, prompt.find("zzqx")?[0].end);
    assert_eq!(learned.text("a boat".into())?.context, model.text("a boat".into())?.context);
    let message = model.with_embedding(&file(&[3, 768])?).map(drop).expect_err("too wide").to_string();
    assert!(
        message.contains(&format!("the embedding is 768 wide (SD 1.x); this model's text encoder is {width} wide")),
        "{message}"
    );
    Ok(())
}

#[test]
fn word_is_the_files_name_or_the_tensors_name() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("zzqx.safetensors");
    let wrapped = ["state_dict.emb_params", "state_dict.<cat-toy>"];
    for tensor in ["emb_params", "emp_params", "string_to_param.*", "clip_l", "<cat-toy>"].into_iter().chain(wrapped) {
        write(&path, &Tensors::from([(tensor.to_owned(), Tensor::ones([2, 768], (Kind::Float, Device::Cpu)))]));
        let word = if tensor.ends_with("<cat-toy>") { "<cat-toy>" } else { "zzqx" };
        assert_eq!(Embedding::open(&path)?.word(), word, "{tensor}");
        assert!(matches!(SingleFile::open(&path)?.contents()?, Contents::TextualInversion { vectors: 2, .. }));
    }
    Ok(())
}

#[test]
fn word_of_a_pt_file_is_its_name() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pickle_textual_inversion");
    let copied = tempfile::tempdir().expect("a folder");
    let path = copied.path().join("other.pt");
    // The second file has no name inside, so the file's own name counts.
    for (file, word, vectors) in [("gold-eyes.pt", "gold-eyes", 3), ("old-ink.pt", "other", 2)] {
        std::fs::copy(folder.join(file), &path).expect("copied");
        let embedding = Embedding::open(&path)?;
        assert_eq!(embedding.word(), word);
        let mut text = Tensors::from([(
            "embeddings.token_embedding.weight".to_owned(),
            Tensor::zeros([5, 32], (Kind::Float, Device::Cpu)),
        )]);
        assert_eq!(embedding.append(&mut text)?, Some(5..5 + vectors));
    }
    assert_eq!(Embedding::open(folder.join("learned_embeds.bin"))?.word(), "<style>");
    Ok(())
}

#[test]
fn output_embedding_is_told() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let model = Model::load(&Source::embedded())?;
    let width = model.tensors("text_encoder").expect("a text encoder")["text_model.embeddings.token_embedding.weight"]
        .size()[1];
    let path = folder.path().join("zzqx.safetensors");
    let open = |names: &[&str]| {
        let rows = || Tensor::ones([2, width], (Kind::Float, Device::Cpu));
        write(&path, &names.iter().map(|name| ((*name).to_owned(), rows())).collect());
        Embedding::open(&path)
    };
    let learned = model.with_embedding(&open(&["clip_l", "clip_g", "clip_l_out", "clip_g_out"])?)?;
    assert!(learned.notes().iter().any(|note| note.text.contains("are not used (clip_l_out, clip_g_out)")));
    assert!(model.with_embedding(&open(&["clip_l", "clip_g"])?)?.notes().is_empty());
    for names in [&["clip_l_out", "clip_g_out"][..], &["emp_params_out"], &["clip_l_out"]] {
        let message = open(names).unwrap_err().to_string();
        assert!(message.contains(&format!("a text encoder's outputs ({})", names.join(", "))), "{message}");
        let message = SingleFile::open(&path)?.contents().unwrap_err().to_string();
        assert!(message.contains("is an embedding of a text encoder's outputs, which is not supported"), "{message}");
    }
    Ok(())
}

#[test]
fn taesd_of_16_channels_is_known_by_its_file() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let random = Weights::random(5, Kind::Float, Device::Cpu);
    let mut config = TaesdConfig::default();
    config.latent_channels = 16;
    Taesd::new(&random, &config)?;
    let path = folder.path().join("taesd3.safetensors");
    write(&path, &random.drawn()?);
    assert_eq!(SingleFile::open(&path)?.contents()?, Contents::Taesd);
    // The file is read, and its channels are compared with the model's.
    let model = Model::load(&Source::embedded())?;
    let error = model.taesd(&Source::file(&path)).map(drop).unwrap_err().to_string();
    assert!(error.contains("latent_channels") && error.contains("16"), "{error}");
    Ok(())
}

#[test]
fn taesd_replaces_the_vae_in_every_layout() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let random = Weights::random(5, Kind::Float, Device::Cpu);
    let taesd = Taesd::new(&random, &TaesdConfig::default())?;
    let ours = random.drawn()?;
    // TAESD's original layout also counts the decoder's first layer, which has no weights.
    let original = ours.iter().map(|(name, x)| {
        let [half, _, layer, rest] = *name.splitn(4, '.').collect::<Vec<_>>() else { panic!("{name}") };
        let layer = layer.parse::<usize>().expect("a number") + usize::from(half == "decoder");
        (format!("taesd_{half}.{layer}.{rest}"), x.shallow_clone())
    });
    let [diffusers, single] = ["diffusers", "single"].map(|name| folder.path().join(format!("{name}.safetensors")));
    write(&diffusers, &ours);
    write(&single, &original.collect());
    let latent = Tensor::ones([1, 4, 3, 2], (Kind::Float, Device::Cpu)) * 0.7;
    let picture = taesd.decode(&latent)?;
    for path in [&diffusers, &single] {
        let mut options = LoadOptions::default();
        options.vae = Some(Source::file(path));
        let model = Model::load_with(&Source::embedded(), options)?;
        assert_eq!(model.decode(&latent)?, picture);
        assert_eq!(model.encode(&picture)?, taesd.encode(&picture)?);
        assert_eq!(model.taesd(&Source::file(path))?.decode(&latent)?, picture);
        assert!(!model.notes().iter().any(|note| note.text.contains("scales latents")), "{:?}", model.notes());
    }
    Ok(())
}

#[test]
fn controlnet_loads_equally_from_original_names() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let config = r#"{ "block_out_channels": [32, 64, 64, 64], "cross_attention_dim": 768, "attention_head_dim": 8,
        "conditioning_channels": 5 }"#;
    let config = ControlNetConfig::from_json("config.json", config)?;
    let random = Weights::random(5, Kind::Float, Device::Cpu);
    let net = ControlNet::new(&random, &config)?;
    let mut tensors = random.drawn()?;
    let rows: BTreeMap<String, Rows> = key_map("controlnet_sd15");
    let mut file = Tensors::new();
    for (name, _, renamed, ..) in rows.values().flatten() {
        file.extend(tensors.remove(renamed).map(|x| (name.clone(), x)));
    }
    assert!(tensors.is_empty(), "{:?}", tensors.keys());
    let path = folder.path().join("control.safetensors");
    write(&path, &file);
    let single = SingleFile::open(&path)?;
    let read = ControlNetConfig::from_json("", &single.config("controlnet", ModelFamily::Sd1)?.expect("one"))?;
    assert_eq!(read.conditioning_channels, 5);
    assert_eq!(read.conditioning_embedding_out_channels, config.conditioning_embedding_out_channels);
    let again = Weights::new("again", single.part("controlnet")?.expect("one"), Kind::Float, Device::Cpu);
    let again = ControlNet::new(&again, &read)?;
    let ones = |shape: &[i64]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
    let run = |net: &ControlNet| {
        let (x, context, hint) = (ones(&[1, 4, 8, 8]), ones(&[1, 3, 768]), ones(&[1, 5, 64, 64]));
        net.forward(&x, &Tensor::from(7.0), &context, None, &net.embed(&hint)?, &mut Tap::none())
    };
    assert_eq!(run(&again)?.mid, run(&net)?.mid);
    let message = Model::load(&Source::embedded())?.controlnet(&Source::file(&path)).unwrap_err().to_string();
    assert!(message.contains("block_out_channels") && message.contains("is for another model"), "{message}");
    let message = Model::load(&Source::file(&path)).map(drop).unwrap_err().to_string();
    assert!(message.contains("is a ControlNet for SD 1.x with 5 hint channels"), "{message}");
    Ok(())
}

#[test]
fn single_file_solver_follows_its_prediction_type() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut tensors, _) = small_model()?;
    let path = folder.path().join("whole.safetensors");
    let sampler = |tensors: &Tensors| -> Result<String> {
        write(&path, tensors);
        let model = Model::load(&Source::file(&path))?;
        assert_eq!(model.scheduler().schedule(4)?.steps().len(), 4);
        Ok(model.scheduler().solver()?.name().to_owned())
    };
    assert_eq!(sampler(&tensors)?, "Pndm");
    drop(tensors.insert("v_pred".into(), Tensor::zeros([0], (Kind::Float, Device::Cpu))));
    assert_eq!(sampler(&tensors)?, "Ddim");
    Ok(())
}

#[test]
fn cpu_refuses_f16_and_computes_in_bf16_when_asked() -> Result<()> {
    let half = |options: LoadOptions| Model::load_with(&Source::embedded(), options).unwrap_err().to_string();
    let message = half(with(LoadOptions::default(), |options| options.precision = Kind::Half.into()));
    assert!(message.contains("precision is f16 on cpu; expected f32 or bf16"), "{message}");
    let message = half(with(LoadOptions::default(), |options| options.vae_precision = Some(Kind::Half.into())));
    assert!(message.contains("vae_precision is f16 on cpu; expected f32 or bf16"), "{message}");
    let plain = Model::load(&Source::embedded())?; // the embedded files are f16
    assert!(plain.tensors("unet").expect("a UNet").values().all(|x| x.kind() == Kind::Float));
    let pipeline = Pipeline::builder().precision(Kind::BFloat16).build()?;
    assert!(pipeline.model().tensors("unet").expect("a UNet").values().all(|x| x.kind() == Kind::BFloat16));
    let output = pipeline.request("a red boat").seed(7).steps(2).run()?;
    assert_eq!(output.image(0)?.size().width, 256);
    Ok(())
}

#[test]
fn missing_part_error_names_part_and_way_out() -> Result<()> {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model");
    for (missing, words) in [
        ("unet", "unet/config.json is missing in"),
        ("vae", "add a VAE with `LoadOptions::vae`"),
        ("text_encoder", "add a text encoder with `LoadOptions::text_encoder`"),
        ("tokenizer", "tokenizer/tokenizer.json (or vocab.json and merges.txt) is missing in"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        for part in
            ["unet", "vae", "text_encoder", "tokenizer", "scheduler"].into_iter().filter(|part| *part != missing)
        {
            std::fs::create_dir(folder.path().join(part)).expect("a folder");
            for file in std::fs::read_dir(tiny.join(part)).expect("a folder").flatten() {
                std::fs::copy(file.path(), folder.path().join(part).join(file.file_name())).expect("copied");
            }
        }
        let message = Model::load(&Source::dir(folder.path())).map(drop).expect_err(missing).to_string();
        assert!(message.contains(words) && message.contains(&folder.path().display().to_string()), "{message}");
        let mut options = LoadOptions::default();
        options.vae = Some(Source::embedded());
        assert_eq!(Model::load_with(&Source::dir(folder.path()), options).is_ok(), missing == "vae");
    }
    Ok(())
}

#[test]
fn nan_weights_are_noted_and_make_no_picture() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut tensors, _) = small_model()?;
    let name = "first_stage_model.decoder.conv_out.bias";
    tensors.insert(name.into(), Tensor::full([3], f64::NAN, (Kind::Float, Device::Cpu)));
    let path = folder.path().join("broken.safetensors");
    write(&path, &tensors);
    let pipeline = Pipeline::builder().source(Source::file(&path)).build()?;
    let notes = pipeline.model().notes();
    let told = "broken.safetensors: NaNs or infinities in decoder.conv_out.bias";
    assert!(notes.iter().any(|note| note.text.contains(told)), "{notes:?}");
    let message = pipeline.request("a cat").size((64, 64)).steps(1).run().unwrap_err().to_string();
    assert!(message.contains("not a number in some pixels") && message.contains("vae_precision"), "{message}");
    Ok(())
}

/// A copy of the embedded model's folder.
fn copied() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model");
    for part in ["", "unet", "vae", "text_encoder", "tokenizer", "scheduler"] {
        std::fs::create_dir_all(folder.path().join(part)).expect("a folder");
        for entry in std::fs::read_dir(from.join(part)).expect("the embedded model's files") {
            let entry = entry.expect("a file");
            if entry.path().is_file() {
                let to = folder.path().join(part).join(entry.file_name());
                assert!(std::fs::copy(entry.path(), to).expect("copied") > 0);
            }
        }
    }
    folder
}

#[test]
fn guidance_embedding_reads_scale_and_no_negative() -> Result<()> {
    let folder = copied();
    let (config, weights) = ("unet/config.json", "unet/diffusion_pytorch_model.safetensors");
    let (config, weights) = (folder.path().join(config), folder.path().join(weights));
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let width = UnetConfig::from_json("unet", &text)?.block_out_channels[0];
    let text = text.replacen('{', "{ \"time_cond_proj_dim\": 16,", 1).replace("\"time_cond_proj_dim\": null,", "");
    std::fs::write(&config, text).expect("written");
    let mut tensors: Tensors = Tensor::read_safetensors(&weights)?.into_iter().collect();
    let project = Tensor::arange(width * 16, (Kind::Float, Device::Cpu)).sin().reshape([width, 16]).to_kind(Kind::Half);
    drop(tensors.insert("time_embedding.cond_proj.weight".into(), project));
    write(&weights, &tensors);
    let pipeline = Pipeline::builder().source(Source::dir(folder.path())).build()?;
    let run = |scale: f64, negative: &str| -> Result<Tensor> {
        let request = pipeline.request("1girl, red hair").negative(negative).guidance_scale(scale).seed(1);
        Ok(request.solver_named("LCM").steps(2).run()?.latents.shallow_clone())
    };
    let eight = run(8.0, "")?;
    assert_ne!(run(2.0, "")?, eight);
    assert_eq!(run(8.0, "hat")?, eight);
    let message = run(f64::NAN, "").expect_err("no number").to_string();
    assert!(message.contains("guidance_scale is NaN"), "{message}");
    Ok(())
}

#[test]
fn controlnet_in_the_file_keeps_the_models_names() -> Result<()> {
    let mut tensors = Tensors::new();
    for (_, rows) in key_map("sd15") {
        tensors.extend(rows.into_iter().map(|(name, old_shape, ..)| (name, stand_in(&old_shape))));
    }
    let names = |tensors: &Tensors| -> Result<Vec<String>> {
        let tensors = tensors.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
        Ok(SingleFile::of("both", tensors).part("unet")?.expect("a UNet").into_keys().collect())
    };
    let alone = names(&tensors)?;
    for rows in key_map("controlnet_sd15").into_values() {
        let name = |name: String| format!("control_model.{}", name.trim_start_matches("control_model."));
        tensors.extend(rows.into_iter().map(|(old, shape, ..)| (name(old), stand_in(&shape))));
    }
    assert_eq!(names(&tensors)?, alone);
    Ok(())
}

#[test]
fn peft_scale_is_read_from_adapter_config() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let model = Model::load(&Source::embedded())?;
    let unet = model.tensors("unet").expect("a UNet");
    let key = unet.keys().find(|name| name.ends_with("attn2.to_k.weight")).expect("cross-attention").clone();
    let (rows, columns) = unet[&key].size2()?;
    let path = folder.path().join("adapter_model.safetensors");
    let name = format!("base_model.model.{}", key.trim_end_matches(".weight"));
    let ones = |shape: [i64; 2]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
    let tensors = [("lora_A", ones([1, columns])), ("lora_B", ones([rows, 1]))];
    write(&path, &tensors.map(|(end, x)| (format!("{name}.{end}.weight"), x)).into());
    let added = || -> Result<f64> {
        let inked = model.with_lora(&[Lora::open(&path)?])?;
        Ok((&inked.tensors("unet").expect("a UNet")[&key] - &unet[&key]).mean(Kind::Double).double_value(&[]))
    };
    assert!((added()? - 1.0).abs() < 1e-6, "without a configuration, α is the rank");
    let config = folder.path().join("adapter_config.json");
    std::fs::write(&config, r#"{ "r": 1, "lora_alpha": 2 }"#).expect("written");
    assert!((added()? - 2.0).abs() < 1e-6);
    std::fs::write(&config, "{").expect("written");
    let message = Lora::open(&path).map(drop).expect_err("no JSON").to_string();
    assert!(message.contains("adapter_config.json"), "{message}");
    Ok(())
}

#[test]
fn lora_given_as_vae_or_text_encoder_is_named() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ink.safetensors");
    let key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k";
    let ones = |shape: [i64; 2]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
    let tensors = [("lora_down", ones([1, 768])), ("lora_up", ones([64, 1]))];
    write(&path, &tensors.map(|(end, x)| (format!("{key}.{end}.weight"), x)).into());
    for part in ["vae", "text_encoder"] {
        let source = Some(Source::file(&path));
        let options = match part {
            "vae" => with(LoadOptions::default(), |options| options.vae = source),
            _ => with(LoadOptions::default(), |options| options.text_encoder = source),
        };
        let message = Model::load_with(&Source::embedded(), options).map(drop).expect_err("a LoRA").to_string();
        assert!(message.contains("is a LoRA") && message.contains("with_lora"), "{part}: {message}");
    }
    Ok(())
}

#[test]
fn model_index_of_another_family_is_named() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |file: &str, text: &str| {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    let error = || Model::load(&Source::dir(folder.path())).expect_err("another family").to_string();
    write(
        "model_index.json",
        r#"{ "_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"] }"#,
    );
    assert!(error().contains("of FluxPipeline, whose network is not supported; set another"), "{}", error());
    write("transformer/config.json", r#"{ "_class_name": "FluxTransformer2DModel", "patch_size": 1 }"#);
    assert!(error().contains("of FluxPipeline") && error().contains("CosmosTransformer3DModel"), "{}", error());
    std::fs::remove_file(folder.path().join("transformer/config.json")).expect("removed");
    write(
        "model_index.json",
        r#"{ "_class_name": "KandinskyV22Pipeline", "unet": ["diffusers", "UNet2DConditionModel"] }"#,
    );
    write("unet/config.json", r#"{ "addition_embed_type": "image" }"#);
    assert!(error().contains("KandinskyV22Pipeline") && error().contains("addition_embed_type"), "{}", error());
    // Classes of this crate's families are no explanation.
    write("model_index.json", r#"{ "_class_name": "StableDiffusionPipeline" }"#);
    assert!(!error().contains("StableDiffusionPipeline") && error().contains("addition_embed_type"), "{}", error());
    Ok(())
}
