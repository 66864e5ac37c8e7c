//! A ControlNet together with every guidance method in one run: each acts, and none disturbs another.

use impasto::guidance::Guidance;
use impasto::hint::{Canny, Drawing, Strokes};
use impasto::mask::Region;
use impasto::methods::{ColorForce, ImageGuidance, PaintWithWords, ReferenceColor};
use impasto::nn::{ConfigFile, ControlNet, ControlNetConfig};
use impasto::saliency::{Daam, DaamRun, Differential};
use impasto::sampler::Batching;
use impasto::weights::Weights;
use impasto::{Control, Output, Pipeline, Raster, Result, Rgb, Source, Window};
use serde_json::{Value, json};
use std::path::Path;
use tch::{Device, Kind, Tensor};

const PROMPT: &str = "1girl, eyes, hair, shirt";

/// A ControlNet of five hint channels with random weights.
fn net() -> Result<ControlNet> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model/unet/config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(path).expect("it is there")).expect("JSON");
    config["conditioning_channels"] = 5.into();
    config["conditioning_embedding_out_channels"] = vec![4, 8, 8, 16].into();
    let config = ControlNetConfig::from_json("config.json", &config.to_string())?;
    ControlNet::new(&Weights::random(1, Kind::Float, Device::Cpu), &config)
}

fn drawing() -> Result<Drawing> {
    let mut picture = Raster::flat(Rgb(240, 240, 240), (96, 64));
    picture.paste(&Raster::flat(Rgb(40, 60, 90), (40, 30)), 20, 16);
    let strokes = Strokes::new((96, 64)).line([(8.0, 8.0), (88.0, 8.0)], 3.0, Rgb(255, 99, 71));
    Ok(Drawing { sketch: Canny::default().edges(&picture)?, strokes })
}

/// A guidance method, with a name if the method changes the picture.
type Method = (Option<&'static str>, Box<dyn Guidance>);

/// Guidance methods that users combine.
fn methods() -> Result<Vec<Method>> {
    let force = ColorForce::published("eyes", Rgb(255, 215, 0)).color_var(5.0).window(Window::WHOLE);
    let left = Region::rect(0.0..0.5, 0.0..1.0);
    let strokes = Strokes::new((96, 64)).line([(60.0, 48.0), (88.0, 48.0)], 4.0, Rgb(72, 61, 139));
    let mut all: Vec<Method> = vec![
        (None, Box::new(Daam::words())),
        (Some("a force"), Box::new(force.saliency((Daam::of("eyes"), Differential::of("eyes", "pink"))))),
        (Some("paint"), Box::new(PaintWithWords::default().mask(left, "shirt", 1.5))),
        (Some("a reference"), Box::new(ReferenceColor::new(&Raster::flat(Rgb(30, 120, 60), (24, 16))))),
        (Some("a guide"), Box::new(ImageGuidance::new(&Raster::flat(Rgb(200, 30, 30), (12, 9))))),
    ];
    all.extend(ColorForce::painted(&strokes)?.into_iter().map(|force| (Some("a stroke"), Box::new(force) as _)));
    Ok(all)
}

/// Runs `images` pictures with the given guidance methods, with or without a ControlNet.
fn run(
    pipeline: &Pipeline,
    control: Option<Control>,
    methods: Vec<Method>,
    (images, batching): (usize, Batching),
) -> Result<Output> {
    let request = pipeline.request(PROMPT).size((96, 64)).steps(4).seed(7).images(images);
    let request = request.tune(|config| config.batching = batching);
    let request = control.into_iter().fold(request, |request, control| request.control(control));
    methods.into_iter().fold(request, |request, (_, method)| request.guide(method)).run()
}

const ONE: (usize, Batching) = (1, Batching::Together);

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn reading_changes_no_bit_beside_a_controlnet() -> Result<()> {
    let (pipeline, net, drawing) = (Pipeline::builder().build()?, net()?, drawing()?);
    let control = || Some(Control::drawing(&net, &drawing).scale(0.2));
    let bare = run(&pipeline, control(), Vec::new(), ONE)?;
    let look: Vec<_> = methods()?.into_iter().filter(|(changes, _)| changes.is_none()).collect();
    let read = run(&pipeline, control(), look, ONE)?;
    assert_eq!(read.latents, bare.latents);
    assert_ne!(bare.latents, run(&pipeline, None, Vec::new(), ONE)?.latents);
    Ok(())
}

#[test]
fn daam_reads_only_the_unet_beside_a_controlnet() -> Result<()> {
    let (pipeline, net, drawing) = (Pipeline::builder().build()?, net()?, drawing()?);
    let map = |control: Option<Control>| -> Result<Tensor> {
        let request = pipeline.request(PROMPT).size((96, 64)).steps(2).seed(7).guide(Daam::of("eyes"));
        let output = control.into_iter().fold(request, |request, control| request.control(control)).run()?;
        Ok(output.details::<DaamRun>("eyes")?.heat_map(0)?.values.shallow_clone())
    };
    let plain = map(None)?;
    // The output of a net hardly counts at scale 1e-6, but the net's own attention would show in the map.
    let weak = map(Some(Control::drawing(&net, &drawing).scale(1e-6)))?;
    let strong = map(Some(Control::drawing(&net, &drawing).scale(0.5)))?;
    let [weak, strong] = [weak, strong].map(|map| apart(&map, &plain) / plain.max().double_value(&[]));
    assert!(weak < 1e-3 && strong > 1e-2, "{weak} and {strong} of the map's largest value");
    Ok(())
}

#[test]
fn methods_and_a_controlnet_act_side_by_side() -> Result<()> {
    let (pipeline, net, drawing) = (Pipeline::builder().build()?, net()?, drawing()?);
    let control = |scale| Some(Control::drawing(&net, &drawing).scale(scale));
    let all = run(&pipeline, control(0.2), methods()?, ONE)?;
    assert_eq!(run(&pipeline, control(0.2), methods()?, ONE)?.latents, all.latents, "a run repeats");
    let uncontrolled = run(&pipeline, None, methods()?, ONE)?;
    assert_ne!(all.latents, uncontrolled.latents);
    assert_eq!(run(&pipeline, control(0.0), methods()?, ONE)?.latents, uncontrolled.latents);
    for left_out in 0..methods()?.len() {
        let mut others = methods()?;
        let (name, _) = others.remove(left_out);
        let without = run(&pipeline, control(0.2), others, ONE)?;
        assert_eq!(apart(&without.latents, &all.latents) > 1e-3, name.is_some(), "without {name:?}");
    }
    Ok(())
}

#[test]
fn images_of_a_batch_stay_apart_beside_a_controlnet() -> Result<()> {
    let (pipeline, net, drawing) = (Pipeline::builder().build()?, net()?, drawing()?);
    let latents = |images, batching| -> Result<Tensor> {
        let control = Control::drawing(&net, &drawing).scale(0.2);
        Ok(run(&pipeline, Some(control), methods()?, (images, batching))?.latents.shallow_clone())
    };
    let (single, alone) = (latents(1, Batching::OneByOne)?, latents(2, Batching::OneByOne)?);
    assert_eq!(alone.narrow(0, 0, 1), single);
    let together = latents(2, Batching::Together)?;
    assert!(apart(&together, &alone) < 2e-2, "{}", apart(&together, &alone));
    Ok(())
}

#[test]
fn straight_alpha_changes_soft_strokes_and_repeats() -> Result<()> {
    let (pipeline, net, mut drawing) = (Pipeline::builder().build()?, net()?, drawing()?);
    let picture = |drawing: &Drawing, straight| -> Result<Output> {
        let control = Control::drawing(&net, drawing);
        let control = if straight { control.straight_alpha() } else { control };
        run(&pipeline, Some(control), Vec::new(), ONE)
    };
    let hard = [false, true].map(|straight| picture(&drawing, straight).map(|output| output.latents.shallow_clone()));
    let [multiplied, straight] = hard;
    assert_eq!(multiplied?, straight?, "strokes of a hard brush are the same either way");
    drawing.strokes = drawing.strokes.blur(1.5);
    let (multiplied, straight) = (picture(&drawing, false)?, picture(&drawing, true)?);
    assert_ne!(multiplied.latents, straight.latents);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("straight.png");
    straight.save(0, &path)?;
    let again = impasto::pipeline::Request::from_png(&pipeline, &path)?.net(&net)?.run()?;
    assert_eq!(again.latents, straight.latents);
    Ok(())
}

#[test]
fn nets_own_settings_are_used_unless_others_are_given() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let net = pipeline.model().controlnet(&Source::embedded())?;
    let drawing = drawing()?;
    let told = |control: Control<'_>| -> Result<Value> {
        let output = pipeline.request("1girl").seed(1).steps(1).size((64, 64)).control(control).run()?;
        let report = output.reports.into_iter().find(|report| report.name == "ControlNet").expect("a report");
        Ok(json!([report.data["scale"], report.data["guess"]]))
    };
    assert_eq!(told(Control::drawing(&net, &drawing))?, json!([0.7, "even"]));
    assert_eq!(told(Control::drawing(&net, &drawing).scale(0.5).guess(None))?, json!([0.5, null]));
    Ok(())
}
