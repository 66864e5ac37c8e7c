//! ControlNet unions on the embedded model, with random weights: these tests compare numbers, not pictures.

use impasto::attention::Tap;
use impasto::diffusion::{Denoiser, Input, Noise};
use impasto::job::Follow;
use impasto::methods::ColorForce;
use impasto::model::{ControlType, Controlled, Guess};
use impasto::nn::{ConfigFile, ControlNet, ControlNetConfig};
use impasto::pipeline::Request;
use impasto::saliency::Daam;
use impasto::weights::{Contents, ModelFamily, SingleFile, Tensors, Weights, write_safetensors};
use impasto::{Branch, Codec, Control, Grid, Model, Pipeline, Raster, Result, Rgb, Source, Step};
use serde_json::Value;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const GRID: Grid = Grid::new(8, 6);

/// The configuration of a union of six types for the embedded model, or of a plain ControlNet.
fn config(types: Option<i64>) -> Result<ControlNetConfig> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model/unet/config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(path).expect("it is there")).expect("JSON");
    config["conditioning_channels"] = 3.into();
    config["conditioning_embedding_out_channels"] = vec![4, 8, 8, 16].into();
    config["num_control_type"] = types.into();
    config["addition_time_embed_dim"] = 8.into();
    ControlNetConfig::from_json("config.json", &config.to_string())
}

fn tensors() -> Result<Tensors> {
    let random = Weights::random(5, Kind::Float, Device::Cpu);
    ControlNet::new(&random, &config(Some(6))?)?;
    random.drawn()
}

fn union() -> Result<ControlNet> {
    ControlNet::new(&Weights::new("union", tensors()?, Kind::Float, Device::Cpu), &config(Some(6))?)
}

/// Hints of `rows` rows that all differ.
fn hint(rows: i64, wave: f64) -> Tensor {
    let shape = [rows, 3, 8 * GRID.h, 8 * GRID.w];
    let count = shape.iter().product::<i64>();
    ((Tensor::arange(count, (Kind::Float, Device::Cpu)) * wave).sin() + 1.0).reshape(shape) / 2.0
}

/// Predictions x0 of Uncond and Cond for `images` images.
fn x0(model: &impl Denoiser, codec: &Model, images: i64) -> Result<[Tensor; 2]> {
    let x = Noise::seeded(3).draw(&[1, 4, GRID.h, GRID.w])?.repeat([images, 1, 1, 1]) * 4.0;
    let [uncond, cond] = [codec.text("".into())?, codec.text("a red boat".into())?];
    let inputs = [Input::new(Branch::Uncond, &x, &uncond), Input::new(Branch::Cond, &x, &cond)];
    let predictions = tch::no_grad(|| model.denoise(&Step::new(4, 10, 4.0, 3.0, 700.0), &inputs, &mut Tap::none()))?;
    Ok([Branch::Uncond, Branch::Cond].map(|branch| predictions.x0(branch).unwrap().shallow_clone()))
}

#[test]
fn union_of_strength_zero_keeps_every_bit() -> Result<()> {
    let (model, net, first, second) = (Model::load(&Source::embedded())?, union()?, hint(1, 0.013), hint(1, 0.03));
    let bare = x0(&model, &model, 1)?;
    let with = |control: Control| x0(&Controlled::new(&model, &[control])?, &model, 1);
    let depth = Control::new(&net, &first).control_type(ControlType::Depth);
    let pose = Control::new(&net, &second).control_type(ControlType::Pose);
    assert_ne!(with(depth.clone())?, bare);
    assert_eq!(with(depth.clone().scale(0.0))?, bare);
    assert_eq!(with(depth.clone().scale(0.0).and(pose.clone().scale(0.0)))?, bare);
    assert_ne!(with(depth.clone().scale(0.0).and(pose.clone()))?, bare);
    assert_ne!(with(depth.clone().control_type(ControlType::Normal))?, with(depth.clone())?, "the type counts");
    assert_ne!(with(depth.clone().and(pose.clone()))?, with(depth.clone())?);
    let [uncond, cond] = with(depth.and(pose).guess(Guess::Diffusers))?;
    assert!(uncond.allclose(&bare[0], 1e-5, 1e-5, false) && cond != bare[1]);
    Ok(())
}

#[test]
fn order_of_a_unions_hints_does_not_count() -> Result<()> {
    let (model, net, first, second) = (Model::load(&Source::embedded())?, union()?, hint(1, 0.013), hint(1, 0.03));
    let depth = Control::new(&net, &first).control_type(ControlType::Depth).scale(0.7);
    let pose = Control::new(&net, &second).control_type(ControlType::Pose).scale(0.4);
    let run = |control: Control| x0(&Controlled::new(&model, &[control])?, &model, 1);
    let [a, b] = [run(depth.clone().and(pose.clone()))?, run(pose.and(depth))?];
    assert!(a.iter().zip(&b).all(|(a, b)| a.allclose(b, 1e-4, 1e-4, false)));
    Ok(())
}

#[test]
fn unions_images_do_not_see_each_other() -> Result<()> {
    let (model, net, hints, shared) = (Model::load(&Source::embedded())?, union()?, hint(2, 0.013), hint(1, 0.03));
    let run = |hint: &Tensor, images| -> Result<[Tensor; 2]> {
        let depth = Control::new(&net, hint).control_type(ControlType::Depth);
        let pose = Control::new(&net, &shared).control_type(ControlType::Pose).scale(0.5);
        x0(&Controlled::new(&model, &[depth.and(pose)])?, &model, images)
    };
    let both = run(&hints, 2)?;
    for row in 0..2 {
        let alone = run(&hints.narrow(0, row, 1), 1)?;
        let near = |(both, alone): (&Tensor, &Tensor)| both.narrow(0, row, 1).allclose(alone, 1e-4, 1e-4, false);
        assert!(both.iter().zip(&alone).all(near), "image {row}");
    }
    Ok(())
}

#[test]
fn union_errors_name_the_wrong_value() -> Result<()> {
    let (model, net, one, two, three) =
        (Model::load(&Source::embedded())?, union()?, hint(1, 0.013), hint(2, 0.013), hint(3, 0.013));
    let plain = ControlNet::new(&Weights::random(1, Kind::Float, Device::Cpu), &config(None)?)?;
    let message = |control: Control| Controlled::new(&model, &[control]).map(drop).unwrap_err().to_string();
    let depth = |hint| Control::new(&net, hint).control_type(ControlType::Depth);
    let untyped = message(Control::new(&net, &one));
    assert!(untyped.contains("control_type is missing") && untyped.contains("`Control::control_type`"), "{untyped}");
    assert!(message(depth(&one).and(Control::new(&net, &one))).contains("control_type is missing"));
    assert!(message(depth(&one).control_type(ControlType::Tile)).contains("only a ProMax net knows"));
    assert!(
        message(Control::new(&plain, &one).control_type(ControlType::Depth)).contains("this ControlNet is no union")
    );
    assert!(message(Control::new(&plain, &one).and(depth(&one))).contains("attach the control by itself"));
    assert!(message(depth(&one).and(Control::new(&plain, &one))).contains("of the same ControlNet union"));
    assert!(message(depth(&two).and(depth(&three))).contains("the ControlNet's hint has shape [2]"));
    assert!(message(depth(&one).and(depth(&one).scale(f64::INFINITY))).contains("scale is inf"));
    for (field, value) in [("num_control_type", "0"), ("num_trans_layer", "1000"), ("addition_time_embed_dim", "0")] {
        let text = config(Some(6))?.to_json()?;
        let mut text: Value = serde_json::from_str(&text).expect("JSON");
        text[field] = serde_json::from_str(value).expect("a number");
        let error = ControlNetConfig::from_json("config.json", &text.to_string()).unwrap_err().to_string();
        assert!(error.contains(&format!("{field} is {value}")), "{error}");
    }
    Ok(())
}

#[test]
fn union_loads_from_a_folder_and_is_recognized() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let (tensors, text) = (tensors()?, config(Some(6))?.to_json()?);
    assert!(text.contains("ControlNetUnionModel"));
    std::fs::write(folder.path().join("config.json"), text).expect("written");
    write_safetensors(&tensors, &folder.path().join("diffusion_pytorch_model.safetensors"))?;
    let (model, net, hint) = (Model::load(&Source::embedded())?, union()?, hint(1, 0.013));
    let loaded = model.controlnet(&Source::dir(folder.path()))?;
    let run = |net: &ControlNet| {
        let control = Control::new(net, &hint).control_type(ControlType::Depth);
        x0(&Controlled::new(&model, &[control])?, &model, 1)
    };
    assert_eq!(run(&loaded)?, run(&net)?);

    // Names and shapes as in the published file of SDXL.
    let of = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let file = SingleFile::of(
        "union",
        [
            ("conv_in.weight".to_owned(), of(&[320, 4, 3, 3])),
            ("down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight".to_owned(), of(&[640, 2048])),
            ("add_embedding.linear_1.weight".to_owned(), of(&[1280, 2816])),
            ("controlnet_cond_embedding.conv_in.weight".to_owned(), of(&[16, 3, 3, 3])),
            ("task_embedding".to_owned(), of(&[8, 320])),
        ]
        .into(),
    );
    assert_eq!(file.contents()?, Contents::ControlNetUnion { family: ModelFamily::Sdxl, types: 8 });
    assert_eq!(file.contents()?.to_string(), "a ControlNet union for SDXL with 8 hint types");
    Ok(())
}

#[test]
fn union_acts_beside_methods_and_repeats() -> Result<()> {
    let (pipeline, net) = (Pipeline::builder().build()?, union()?);
    let [depth, pose] = [Rgb(90, 120, 200), Rgb(200, 20, 30)].map(|color| Raster::flat(color, (64, 64)));
    let run = |scale: f64| {
        let pose = Control::picture(&net, &pose).control_type(ControlType::Pose).scale(scale);
        let control = Control::picture(&net, &depth).control_type(ControlType::Depth).scale(scale).and(pose);
        let request = pipeline.request("a red boat").size((64, 64)).seed(7).steps(2).control(control);
        request.guide(ColorForce::published("boat", Rgb(20, 160, 60))).guide(Daam::of("boat")).run()
    };
    let output = run(0.2)?;
    assert_ne!(output.latents, run(0.0)?.latents);
    let report = output.reports.iter().find(|report| report.name == "ControlNet").expect("a report");
    assert_eq!((report.pictures.len(), &report.data["control_type"]), (2, &"depth".into()));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.png");
    output.save(0, &path)?;
    assert_eq!(Request::from_png(&pipeline, &path)?.net(&net)?.run()?.latents, output.latents);
    Ok(())
}

#[test]
fn types_have_the_names_that_jobs_read() {
    for control_type in ControlType::ALL {
        assert_eq!(serde_json::to_value(control_type).expect("a name"), control_type.name());
        let follow: Follow = format!("union={}:map.png:0.5", control_type.name()).parse().expect("a control");
        assert_eq!((follow.control_type, follow.scale), (Some(control_type), Some(0.5)));
    }
}
