//! T2I adapters on the embedded model, with random weights: these tests compare numbers, not pictures.

use impasto::attention::Tap;
use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Denoiser, Input, Noise, Schedule, Spacing};
use impasto::job::Nets;
use impasto::mask::Region;
use impasto::methods::{ColorForce, PaintWithWords};
use impasto::model::{Controlled, Guess};
use impasto::nn::ConfigFile;
use impasto::nn::t2i_adapter::{T2iAdapter, T2iAdapterConfig};
use impasto::pipeline::Request;
use impasto::saliency::Daam;
use impasto::sampler::{Batching, Sampler, Start};
use impasto::weights::{Contents, ModelFamily, SingleFile, Tensors, Weights, write_safetensors};
use impasto::wording::Remedy;
use impasto::{Branch, Codec, Control, Error, Grid, Model, Pipeline, Raster, Result, Rgb, Source, Step, Window};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

const GRID: Grid = Grid::new(8, 6);

/// Channels and architecture that fit the embedded model.
const CONFIG: &str = r#"{ "_class_name": "T2IAdapter", "adapter_type": "full_adapter_xl", "downscale_factor": 16,
    "channels": [48, 80, 80, 80], "in_channels": 3, "num_res_blocks": 2 }"#;

/// The random tensors of an adapter for the embedded model.
fn tensors(seed: u64) -> Result<Tensors> {
    let random = Weights::random(seed, Kind::Float, Device::Cpu);
    T2iAdapter::new(&random, &T2iAdapterConfig::from_json("config.json", CONFIG)?)?;
    random.drawn()
}

fn adapter(seed: u64) -> Result<T2iAdapter> {
    let w = Weights::new("adapter", tensors(seed)?, Kind::Float, Device::Cpu);
    T2iAdapter::new(&w, &T2iAdapterConfig::from_json("config.json", CONFIG)?)
}

/// A hint of `rows` rows that all differ.
fn hint(rows: i64) -> Tensor {
    let shape = [rows, 3, 8 * GRID.h, 8 * GRID.w];
    let count = shape.iter().product::<i64>();
    ((Tensor::arange(count, (Kind::Float, Device::Cpu)) * 0.013).sin() + 1.0).reshape(shape) / 2.0
}

/// Predictions x0 of Uncond and Cond at the fifth step of 10.
fn x0(model: &impl Denoiser, codec: &Model) -> Result<[Tensor; 2]> {
    let x = Noise::seeded(3).draw(&[1, 4, GRID.h, GRID.w])? * 4.0;
    let [uncond, cond] = [codec.text("".into())?, codec.text("a red boat".into())?];
    let inputs = [Input::new(Branch::Uncond, &x, &uncond), Input::new(Branch::Cond, &x, &cond)];
    let predictions = tch::no_grad(|| model.denoise(&Step::new(4, 10, 4.0, 3.0, 700.0), &inputs, &mut Tap::none()))?;
    Ok([Branch::Uncond, Branch::Cond].map(|branch| predictions.x0(branch).unwrap().shallow_clone()))
}

#[test]
fn adapter_of_strength_zero_keeps_every_bit() -> Result<()> {
    let (model, adapter, hint) = (Model::load(&Source::embedded())?, adapter(1)?, hint(1));
    let bare = x0(&model, &model)?;
    let with = |control: Control| x0(&Controlled::new(&model, &[control])?, &model);
    let [uncond, cond] = with(Control::new(&adapter, &hint))?;
    assert!(uncond != bare[0] && cond != bare[1], "both branches get the features");
    assert_eq!(with(Control::new(&adapter, &hint).scale(0.0))?, bare);
    assert_eq!(with(Control::new(&adapter, &hint).window(Window::progress(0.0..=0.4)))?, bare);
    assert_ne!(with(Control::new(&adapter, &hint).window(Window::progress(0.0..=0.5)))?, bare);
    Ok(())
}

#[test]
fn several_adapters_add_up() -> Result<()> {
    let (model, adapters, hint) = (Model::load(&Source::embedded())?, [adapter(1)?, adapter(2)?], hint(1));
    let run = |controls: &[Control]| x0(&Controlled::new(&model, controls)?, &model);
    let near = |a: &[Tensor; 2], b: &[Tensor; 2]| a.iter().zip(b).all(|(a, b)| a.allclose(b, 1e-4, 1e-4, false));
    let [first, second] = adapters.each_ref().map(|adapter| Control::new(adapter, &hint));
    assert!(near(&run(&[first.clone(), second.clone()])?, &run(&[second.clone(), first.clone()])?));
    assert!(!near(&run(&[first.clone(), second])?, &run(std::slice::from_ref(&first))?));
    let half = first.clone().scale(0.5);
    assert!(near(&run(&[half.clone(), half])?, &run(&[first])?));
    Ok(())
}

#[test]
fn each_image_has_its_own_features_in_any_batching() -> Result<()> {
    let (model, adapter, hints) = (Model::load(&Source::embedded())?, adapter(1)?, hint(2));
    let run = |hint: &Tensor, images, batching| -> Result<Tensor> {
        let controlled = Controlled::new(&model, &[Control::new(&adapter, hint).scale(0.5)])?;
        let schedule = Schedule::new(model.training_schedule(), 2, Spacing::Leading)?;
        let mut start = Start::new("a red boat", GRID, Noise::seeded(7));
        start.images = images;
        let sampler = Sampler::new(schedule, Euler).batching(batching);
        Ok(sampler.start(&controlled, start)?.finish()?.shallow_clone())
    };
    let each = run(&hints, 2, Batching::OneByOne)?;
    assert_eq!(each.narrow(0, 0, 1), run(&hints.narrow(0, 0, 1), 1, Batching::OneByOne)?);
    assert!(run(&hints, 2, Batching::Together)?.allclose(&each, 1e-3, 1e-3, false));
    let error = run(&hints, 3, Batching::Together).unwrap_err().to_string();
    assert!(error.contains("the T2I adapter's hint has shape [2]; expected 1 row"), "{error}");
    Ok(())
}

#[test]
fn adapter_errors_name_the_wrong_value() -> Result<()> {
    let (model, adapter) = (Model::load(&Source::embedded())?, adapter(1)?);
    let message = |control: Control| Controlled::new(&model, &[control]).map(drop).unwrap_err().to_string();
    let whole = hint(1);
    let narrow = whole.narrow(1, 0, 1);
    let odd = whole.narrow(3, 0, 40);
    let wide = &whole * 255.0;
    assert!(message(Control::new(&adapter, &narrow)).contains("the T2I adapter's hint has shape [1, 1, 64, 48]"));
    assert!(message(Control::new(&adapter, &odd)).contains("multiples of 16"));
    assert!(message(Control::new(&adapter, &wide)).contains("the T2I adapter's hint is a tensor of values"));
    assert!(message(Control::new(&adapter, &whole).scale(f64::NAN)).contains("scale is NaN"));
    let guessing = message(Control::new(&adapter, &whole).guess(Guess::Even));
    assert!(guessing.contains("guess is Even; expected none"), "{guessing}");
    let other = CONFIG.replace("80, 80, 80", "80, 80, 88");
    let other = T2iAdapterConfig::from_json("config.json", &other.replace("[48, 80, 80", "[48, 80, 96"))?;
    let other = T2iAdapter::new(&Weights::random(1, Kind::Float, Device::Cpu), &other)?;
    let misfit = message(Control::new(&other, &whole));
    assert!(
        misfit.contains("channels is [(48, 16), (80, 16), (96, 32)") && misfit.contains("another model"),
        "{misfit}"
    );
    Ok(())
}

/// Writes an adapter's folder and its file in the original layout.
fn written(folder: &Path, tensors: &Tensors) -> Result<[PathBuf; 2]> {
    let (own, file) = (folder.join("adapter"), folder.join("adapter.safetensors"));
    std::fs::create_dir(&own).expect("a folder");
    std::fs::write(own.join("config.json"), CONFIG).expect("written");
    write_safetensors(tensors, &own.join("diffusion_pytorch_model.safetensors"))?;
    // adapter.body.i.resnets.j.block1 → body.(2i + j).block1
    let original = |name: &str| {
        let parts: Vec<&str> = name.split('.').collect();
        match parts[..] {
            ["adapter", "body", i, "resnets", j, block, last] => {
                let n = 2 * i.parse::<usize>().expect("a number") + j.parse::<usize>().expect("a number");
                format!("body.{n}.{block}.{last}")
            }
            ["adapter", "body", i, "in_conv", last] => {
                format!("body.{}.in_conv.{last}", 2 * i.parse::<usize>().expect("a number"))
            }
            _ => name.trim_start_matches("adapter.").to_owned(),
        }
    };
    let renamed: Tensors = tensors.iter().map(|(name, x)| (original(name), x.shallow_clone())).collect();
    write_safetensors(&renamed, &file)?;
    Ok([own, file])
}

#[test]
fn adapter_loads_equally_from_folder_and_file() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let [own, file] = written(folder.path(), &tensors(4)?)?;
    let contents = SingleFile::open(&file)?.contents()?;
    assert_eq!(contents, Contents::T2iAdapter { family: ModelFamily::Sdxl, hint: 3 });
    assert_eq!(contents.to_string(), "a T2I adapter for SDXL with 3 hint channels");
    let (model, hint) = (Model::load(&Source::embedded())?, hint(1));
    let want = adapter(4)?.features(&hint)?;
    let mut nets = Nets::default();
    for source in [Source::dir(&own), Source::file(&file)] {
        assert_eq!(model.t2i_adapter(&source)?.features(&hint)?, want);
        nets.open("colors", &source, &model)?;
        let control = Control::new(nets.get("colors")?, &hint);
        let [got, want] = [control, Control::new(&adapter(4)?, &hint)]
            .map(|control| x0(&Controlled::new(&model, &[control]).unwrap(), &model).unwrap());
        assert_eq!(got, want);
    }
    Ok(())
}

#[test]
fn wrong_files_are_refused_with_the_way_out() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let [own, file] = written(folder.path(), &tensors(4)?)?;
    let model = Model::load(&Source::embedded())?;
    let Error::OtherKind { remedy, .. } = model.controlnet(&Source::file(&file)).unwrap_err() else { panic!() };
    assert_eq!(remedy, Remedy::T2iAdapter);
    let message = model.controlnet(&Source::dir(&own)).map(drop).unwrap_err().to_string();
    assert!(message.contains("a T2I adapter") && message.contains("load T2I adapters with"), "{message}");
    let message = model.t2i_adapter(&Source::embedded()).map(drop).unwrap_err().to_string();
    assert!(message.contains("t2i_adapter"), "{message}");

    let refused = |names: &[&str]| {
        let tensors = names.iter().map(|name| ((*name).to_owned(), Tensor::zeros([4, 4], (Kind::Float, Device::Cpu))));
        SingleFile::of("it", tensors.collect()).contents().unwrap_err().to_string()
    };
    for (names, says) in [
        (["style_embedding", "ln_post.weight"], "a T2I style adapter"),
        (["transformer_layers.0.ln_1.weight", "ln_post.weight"], "a T2I style adapter"),
        (["control_to_base_for_conv_in.weight", "down_blocks.0.base_to_ctrl.0.weight"], "a ControlNet-XS"),
        (["adapter.body.0.resnets.0.block1.weight", "adapter.body.0.resnets.0.block2.weight"], "without its first"),
    ] {
        assert!(refused(&names).contains(says), "{}", refused(&names));
    }
    Ok(())
}

#[test]
fn adapter_acts_beside_methods_and_repeats() -> Result<()> {
    let (pipeline, adapter) = (Pipeline::builder().build()?, adapter(1)?);
    let picture = Raster::flat(Rgb(90, 120, 200), (70, 50));
    let run = |scale: f64| {
        let control = Control::picture(&adapter, &picture).scale(scale);
        let request = pipeline.request("a red boat").size((64, 64)).seed(7).steps(2).control(control);
        let request = request.guide(ColorForce::published("boat", Rgb(20, 160, 60))).guide(Daam::of("boat"));
        request.guide(PaintWithWords::default().mask(Region::rect(0.0..0.5, 0.0..1.0), "boat", 1.0)).run()
    };
    let output = run(0.3)?;
    assert_ne!(output.latents, run(0.0)?.latents);
    assert!(output.reports.iter().any(|report| report.name == "T2I adapter" && report.pictures.len() == 1));
    assert!(output.notes.iter().any(|note| note.text.contains("the T2I adapter's picture of 70×50 pixels")));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.png");
    output.save(0, &path)?;
    assert_eq!(Request::from_png(&pipeline, &path)?.net(&adapter)?.run()?.latents, output.latents);
    Ok(())
}
