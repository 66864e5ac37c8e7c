//! ControlNets on the embedded model, with random weights: these tests compare numbers, not pictures.

use super::closed_form::{shape, summed, tensors, wave};
use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs, Tap};
use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Denoiser, Input, Noise, Predictions, Schedule, Spacing, TrainingSchedule};
use impasto::guidance::{GuidanceRun, Plan, Setup};
use impasto::hint::{Drawing, Sketch, Strokes};
use impasto::model::{Controlled, Guess};
use impasto::nn::{AddedConditions, ConfigFile, ControlNet, ControlNetConfig, UNet};
use impasto::pipeline::Request;
use impasto::sampler::{Batching, Sampler, Start};
use impasto::weights::Weights;
use impasto::wording::{Note, Remedy};
use impasto::{Branch, Codec, Control, Error, Grid, Model, Pipeline, Raster, Result, Rgb, Source, Step, Window};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const GRID: Grid = Grid::new(8, 6);

/// A random ControlNet of `channels` hint channels for the embedded model.
fn net(seed: u64, channels: i64) -> Result<ControlNet> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model/unet/config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(path).expect("it is there")).expect("JSON");
    config["conditioning_channels"] = channels.into();
    config["conditioning_embedding_out_channels"] = vec![4, 8, 8, 16].into();
    let config = ControlNetConfig::from_json("config.json", &config.to_string())?;
    ControlNet::new(&Weights::random(seed, Kind::Float, Device::Cpu), &config)
}

/// A hint of `rows` rows that all differ.
fn hint(rows: i64, channels: i64) -> Tensor {
    let shape = [rows, channels, 8 * GRID.h, 8 * GRID.w];
    let count = shape.iter().product::<i64>();
    ((Tensor::arange(count, (Kind::Float, Device::Cpu)) * 0.013).sin() + 1.0).reshape(shape) / 2.0
}

/// Predictions x0 of Uncond and Cond at the fifth step of 10.
fn x0(model: &impl Denoiser, codec: &Model) -> Result<[Tensor; 2]> {
    x0_at(model, codec, 4, 10)
}

fn x0_at(model: &impl Denoiser, codec: &Model, index: usize, count: usize) -> Result<[Tensor; 2]> {
    let x = Noise::seeded(3).draw(&[1, 4, GRID.h, GRID.w])? * 4.0;
    let [uncond, cond] = [codec.text("".into())?, codec.text("a red boat".into())?];
    let inputs = [Input::new(Branch::Uncond, &x, &uncond), Input::new(Branch::Cond, &x, &cond)];
    let step = Step::new(index, count, 4.0, 3.0, 700.0);
    let predictions = tch::no_grad(|| model.denoise(&step, &inputs, &mut Tap::none()))?;
    Ok([Branch::Uncond, Branch::Cond].map(|branch| predictions.x0(branch).unwrap().shallow_clone()))
}

#[test]
fn no_nets_or_scale_zero_keep_every_bit() -> Result<()> {
    let (model, net, hint) = (Model::load(&Source::embedded())?, net(1, 5)?, hint(1, 5));
    let bare = x0(&model, &model)?;
    let with = |control: Control| x0(&Controlled::new(&model, &[control])?, &model);
    assert_eq!(x0(&Controlled::new(&model, &[])?, &model)?, bare);
    assert_ne!(with(Control::new(&net, &hint))?, bare);
    assert_eq!(with(Control::new(&net, &hint).scale(0.0))?, bare);
    Ok(())
}

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/specs/controlnet.json");
    serde_json::from_slice(&std::fs::read(path).expect("it is there")).expect("JSON")
}

#[test]
fn control_windows_equal_those_of_diffusers() -> Result<()> {
    let (model, net, hint) = (Model::load(&Source::embedded())?, net(1, 3)?, hint(1, 3));
    for case in golden()["windows"].as_array().expect("cases") {
        let [start, end] = ["start", "end"].map(|end| case[end].as_f64().expect("a share"));
        let control = Control::new(&net, &hint).window(Window::progress(start..=end));
        let controlled = Controlled::new(&model, &[control])?;
        let steps = case["active"].as_array().expect("a list");
        for (index, active) in steps.iter().enumerate() {
            let acts = x0_at(&controlled, &model, index, steps.len())? != x0_at(&model, &model, index, steps.len())?;
            assert_eq!(acts, active.as_bool().expect("yes or no"), "{case}, step {index}");
        }
    }
    Ok(())
}

#[test]
fn several_nets_add_up_in_any_order() -> Result<()> {
    let (model, nets, hint) = (Model::load(&Source::embedded())?, [net(1, 3)?, net(2, 3)?], hint(1, 3));
    let run = |controls: &[Control]| x0(&Controlled::new(&model, controls)?, &model);
    let near = |a: &[Tensor; 2], b: &[Tensor; 2]| a.iter().zip(b).all(|(a, b)| a.allclose(b, 1e-4, 1e-4, false));
    let [first, second] = nets.each_ref().map(|net| Control::new(net, &hint));
    assert!(near(&run(&[first.clone(), second.clone()])?, &run(&[second, first.clone()])?));
    let half = first.clone().scale(0.5);
    assert!(near(&run(&[half.clone(), half])?, &run(&[first])?));
    Ok(())
}

#[test]
fn guess_mode_leaves_the_unconditional_branch_alone() -> Result<()> {
    let (model, net, hint) = (Model::load(&Source::embedded())?, net(1, 3)?, hint(1, 3));
    let [uncond, cond] = x0(&model, &model)?;
    let mut seen = Vec::new();
    for guess in [Guess::Diffusers, Guess::Original, Guess::Even] {
        let guessing = Controlled::new(&model, &[Control::new(&net, &hint).guess(guess)])?;
        let [without, with] = x0(&guessing, &model)?;
        assert!(without.allclose(&uncond, 1e-5, 1e-5, false));
        assert!(!with.allclose(&cond, 1e-3, 1e-3, false));
        seen.push(with);
    }
    assert_ne!(seen[0], seen[1]);
    let [_, whole] = x0(&Controlled::new(&model, &[Control::new(&net, &hint)])?, &model)?;
    assert!(
        seen[2].allclose(&whole, 1e-4, 1e-4, false),
        "`Guess::Even` leaves the prompt's branch as it is without guess mode"
    );
    Ok(())
}

/// A guidance method with a second negative branch, which measures how far the two predictions are apart.
#[derive(Default)]
struct Again {
    branch: Option<Branch>,
    apart: f64,
}

impl GuidanceRun for Again {
    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        let empty = setup.text("")?;
        self.branch = Some(setup.add("again", Branch::Uncond, "again", empty)?);
        Ok(())
    }

    fn plan(&mut self, _: &Step, plan: &mut Plan) -> Result<()> {
        self.branch.iter().for_each(|branch| plan.evaluate(*branch));
        Ok(())
    }

    fn predicted(&mut self, _: &Step, predictions: &mut Predictions) -> Result<()> {
        let [again, uncond] = [self.branch.expect("begun"), Branch::Uncond].map(|branch| predictions.x0(branch));
        self.apart = self.apart.max((again? - uncond?).abs().max().double_value(&[]));
        Ok(())
    }
}

#[test]
fn guess_mode_skips_variations_of_uncond() -> Result<()> {
    let (model, net, hint) = (Model::load(&Source::embedded())?, net(1, 3)?, hint(1, 3));
    let guessing = Controlled::new(&model, &[Control::new(&net, &hint).guess(Guess::Diffusers)])?;
    let schedule = Schedule::new(model.training_schedule(), 2, Spacing::Leading)?;
    let mut again = Again::default();
    let start = Start::new("a red boat", GRID, Noise::seeded(7));
    Sampler::new(schedule, Euler).attach(&mut again).start(&guessing, start)?.finish()?;
    assert!(again.branch.is_some() && again.apart < 1e-4, "{}", again.apart);
    Ok(())
}

#[test]
fn each_image_has_its_own_hint_in_any_batching() -> Result<()> {
    let (model, net, hints) = (Model::load(&Source::embedded())?, net(1, 3)?, hint(2, 3));
    let run = |hint: &Tensor, images, batching| -> Result<Tensor> {
        let controlled = Controlled::new(&model, &[Control::new(&net, hint)])?;
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
    assert!(
        error.contains("the ControlNet's hint has shape [2]; expected 1 row, or one for each of the 3 images"),
        "{error}"
    );
    Ok(())
}

#[test]
fn request_resizes_a_controlnet_picture() -> Result<()> {
    let (pipeline, net) = (Pipeline::builder().build()?, net(1, 3)?);
    let picture = Raster::flat(Rgb(255, 0, 0), (30, 40));
    let run = |control: Option<Control>| {
        let request = pipeline.request("a red boat").size((48, 64)).steps(2).seed(7);
        Ok::<_, Error>(
            control
                .into_iter()
                .fold(request, |request, control| request.control(control))
                .run()?
                .latents
                .shallow_clone(),
        )
    };
    assert_ne!(run(Some(Control::picture(&net, &picture)))?, run(None)?);
    assert_eq!(run(Some(Control::picture(&net, &picture).scale(0.0)))?, run(None)?);
    Ok(())
}

#[test]
fn controlnet_errors_name_the_wrong_value() -> Result<()> {
    let (model, net) = (Model::load(&Source::embedded())?, net(1, 5)?);
    let message = |control: Control| Controlled::new(&model, &[control]).map(drop).unwrap_err().to_string();
    let (good, wide) = (hint(1, 5), hint(1, 3));
    assert!(message(Control::new(&net, &wide)).contains("expected [1 or n, 5, height, width]"));
    assert!(message(Control::new(&net, &(&good * 255.0))).contains("divide bytes by 255"));
    assert!(message(Control::new(&net, &(&good * f64::NAN))).contains("hint"));
    assert!(message(Control::new(&net, &good).scale(f64::NAN)).contains("scale is NaN"));
    #[allow(clippy::reversed_empty_ranges)]
    let backward = Control::new(&net, &good).window(Window::progress(0.8..=0.2));
    assert!(message(backward).contains("window is progress 0.8..=0.2"));
    assert!(message(Control::picture(&net, Raster::flat(Rgb(0, 0, 0), (48, 64)))).contains("Control::new"));
    let other = good.narrow(2, 0, 32);
    let error = x0(&Controlled::new(&model, &[Control::new(&net, &other)])?, &model).unwrap_err().to_string();
    assert!(error.contains("the embedded hint has shape"), "{error}");
    Ok(())
}

// ---- Numbers of diffusers on weights in closed form; tests/golden/specs/gen_controlnet.py ----

fn weights(keys: &Value) -> Weights {
    let is_norm = |key: &Value| {
        let name = key[0].as_str().expect("a name");
        name.contains("norm") && name.ends_with(".weight")
    };
    Weights::new("closed form", tensors(keys, is_norm), Kind::Float, Device::Cpu)
}

fn input(case: &Value, name: &str) -> Tensor {
    let input = &case["inputs"][name];
    let range = (!input["range"].is_null()).then_some((0.0, 1.0));
    let stream = input["stream"].as_u64().expect("a stream");
    wave(&shape(&input["shape"]), stream, range) * input["gain"].as_f64().unwrap_or(1.0)
}

#[test]
fn five_channel_net_equals_diffusers() -> Result<()> {
    let case = &golden()["tiny"];
    let config = r#"{ "block_out_channels": [16, 32], "layers_per_block": 1, "norm_num_groups": 8,
        "cross_attention_dim": 24, "attention_head_dim": 2, "conditioning_channels": 5,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "conditioning_embedding_out_channels": [8, 12, 16, 24] }"#;
    let config = ControlNetConfig::from_json("config.json", config)?;
    let (w, unet) = (weights(&case["control_keys"]), weights(&case["unet_keys"]));
    let (net, unet) = (ControlNet::new(&w, &config)?, UNet::new(&unet, &config.unet)?);
    assert_eq!(w.report().unused, []);
    let [x, context, hint] = ["sample", "context", "hint"].map(|name| input(case, name));
    let (timestep, embedded) = (Tensor::from(321.0), net.embed(&hint)?);
    summed(&embedded, &case["cond_embedding"]);
    let residuals = net.forward(&x, &timestep, &context, None, &embedded, &mut Tap::none())?;
    let all = |residuals: &impasto::nn::Residuals, down: &str, mid: &str| {
        let wanted = case[down].as_array().expect("residuals");
        assert_eq!(residuals.skips.len(), wanted.len());
        residuals.skips.iter().zip(wanted).for_each(|(got, want)| summed(got, want));
        summed(&residuals.mid, &case[mid]);
    };
    all(&residuals, "down", "mid");
    let scales = golden()["guess_scales"]["4"].as_array().expect("scales").clone();
    all(&residuals.map(|i, x| Ok(x * scales[i].as_f64().unwrap()))?, "guess_down", "guess_mid");
    let eps = |residuals| {
        let added = AddedConditions { residuals, ..AddedConditions::default() };
        unet.forward(&x, &timestep, &context, Some(&added), &mut Tap::none())
    };
    summed(&eps(None)?, &case["unet_plain"]);
    summed(&eps(Some(residuals))?, &case["unet_controlled"]);
    Ok(())
}

/// A hook that counts its calls by network.
///
/// The hook reads every cross-attention, or silences the cross-attention of ControlNets.
#[derive(Default)]
struct Listener {
    controls: bool,
    silences: bool,
    calls: BTreeMap<Option<usize>, usize>,
}

impl CrossAttentionHook for Listener {
    fn interest(&self, site: &AttentionSite, _: Branch) -> Interest {
        match (site.is_cross(), self.silences) {
            (true, false) => Interest::PROBS,
            (true, true) if site.control.is_some() => Interest::OUTPUT,
            _ => Interest::NONE,
        }
    }
    fn controls(&self) -> bool {
        self.controls
    }
    fn probs(&mut self, at: &At, _: &Probs) -> Result<()> {
        *self.calls.entry(at.site.control).or_default() += 1;
        assert_eq!(at.grid, GRID.halved(at.site.halvings));
        Ok(())
    }
    fn output(&mut self, at: &At, output: &mut Tensor) -> Result<()> {
        *self.calls.entry(at.site.control).or_default() += 1;
        *output = output.f_zeros_like()?;
        Ok(())
    }
}

fn run_with(model: &Controlled, hook: &mut Listener) -> Result<Tensor> {
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 2, Spacing::Karras)?;
    let start = Start::new("a red boat", GRID, Noise::seeded(3));
    let mut run = Sampler::new(schedule, Euler).hook(hook).start(model, start)?;
    Ok(run.finish()?.shallow_clone())
}

#[test]
fn controlnet_sites_come_after_the_unet_sites() -> Result<()> {
    let (model, nets, hint) = (Model::load(&Source::embedded())?, [net(1, 3)?, net(2, 3)?], hint(1, 3));
    let [first, second] = nets.each_ref().map(|net| Control::new(net, &hint));
    let controlled = Controlled::new(&model, &[first, second])?;
    let sites = controlled.sites();
    assert!(sites.iter().enumerate().all(|(index, site)| site.index == index));
    let own = nets[0].sites().len();
    assert!(own > 0 && sites.len() == model.sites().len() + 2 * own);
    let (unet, controls) = sites.split_at(model.sites().len());
    assert_eq!(unet, model.sites());
    assert!(controls.iter().enumerate().all(|(i, site)| site.control == Some(i / own)));
    assert_eq!(controls[own].name, nets[1].sites()[0].name);
    Ok(())
}

#[test]
fn hook_reaches_controlnets_only_on_request() -> Result<()> {
    let (model, nets, hint) = (Model::load(&Source::embedded())?, [net(1, 3)?, net(2, 3)?], hint(1, 3));
    let [first, second] = nets.each_ref().map(|net| Control::new(net, &hint));
    let controlled = Controlled::new(&model, &[first, second])?;
    let cross = |sites: &[AttentionSite]| sites.iter().filter(|site| site.is_cross()).count();
    let (unet, control) = (cross(model.sites()), cross(nets[0].sites()));
    let calls = 2 * 2; // steps × branches

    let mut plain = Listener::default();
    let bare = run_with(&controlled, &mut plain)?;
    assert_eq!(plain.calls, BTreeMap::from([(None, calls * unet)]));

    let mut all = Listener { controls: true, ..Listener::default() };
    assert_eq!(run_with(&controlled, &mut all)?, bare, "reading changes no bit");
    let each = calls * control;
    assert_eq!(all.calls, BTreeMap::from([(None, calls * unet), (Some(0), each), (Some(1), each)]));

    let mut silent = Listener { controls: true, silences: true, ..Listener::default() };
    assert_ne!(run_with(&controlled, &mut silent)?, bare);
    assert_eq!(silent.calls, BTreeMap::from([(Some(0), each), (Some(1), each)]));

    // In guess mode the nets see only the prompt's branch.
    let mut guessing = Listener { controls: true, ..Listener::default() };
    let [first, second] = nets.each_ref().map(|net| Control::new(net, &hint));
    let _ = run_with(
        &Controlled::new(&model, &[first.guess(Guess::Diffusers), second.guess(Guess::Diffusers)])?,
        &mut guessing,
    )?;
    assert_eq!(guessing.calls, BTreeMap::from([(None, calls * unet), (Some(0), each / 2), (Some(1), each / 2)]));
    Ok(())
}

fn drawing() -> Drawing {
    let mut paper = Raster::flat(Rgb(255, 255, 255), (96, 128));
    (10..80).for_each(|x| paper.set(x, 64, Rgb(0, 0, 0)));
    let strokes = Strokes::new((64, 64)).line([(8.0, 8.0), (40.0, 8.0)], 3.0, Rgb(255, 99, 71));
    Drawing { sketch: Sketch::of_line_art(&paper).expect("ink on paper"), strokes }
}

#[test]
fn drawing_is_shown_at_the_size_of_the_picture() -> Result<()> {
    let (pipeline, five, three, drawing) = (Pipeline::builder().build()?, net(1, 5)?, net(1, 3)?, drawing());
    let packed = drawing.hint((96, 64))?;
    let run = |pipeline: &Pipeline, control: Control| {
        pipeline.request("a red boat").size((96, 64)).seed(7).steps(2).control(control).run()
    };
    let shown = run(&pipeline, Control::drawing(&five, &drawing))?;
    let by_hand = run(&pipeline, Control::new(&five, &packed))?;
    assert_eq!(shown.image(0)?, by_hand.image(0)?);
    let told = |notes: &[Note]| notes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let notes = told(&shown.notes);
    assert!(notes.contains("the ControlNet's sketch of 96×128 pixels is resized to the picture's 96×64"), "{notes}");
    assert!(notes.contains("layer of strokes of 64×64"), "{notes}");
    assert!(!told(&by_hand.notes).contains("resized to"));
    let error = run(&pipeline, Control::drawing(&three, &drawing)).expect_err("three channels").to_string();
    assert!(
        error.contains("conditioning_channels is 3") && error.contains("expected 5, for lines and strokes of color"),
        "{error}"
    );
    Ok(())
}

#[test]
fn run_with_a_hint_is_repeated_from_its_png() -> Result<()> {
    let (pipeline, five, three, drawing) = (Pipeline::builder().build()?, net(1, 5)?, net(2, 3)?, drawing());
    let sketch = drawing.sketch.raster();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.png");
    let first = Control::drawing(&five, &drawing).scale(0.7).window(Window::progress(0.0..=0.5));
    let request = pipeline.request("a red boat").size((96, 64)).seed(7).steps(2).control(first);
    let output = request.control(Control::picture(&three, &sketch)).run()?;
    output.save(0, &path)?;
    let hints: Vec<_> = output.reports.iter().filter(|report| report.name == "ControlNet").collect();
    assert!(hints.len() == 2 && hints.iter().all(|report| report.pictures.len() == 1), "{hints:?}");

    let without = Request::from_png(&pipeline, &path)?;
    let notes = without.notes()?;
    assert_eq!(notes.iter().filter(|note| note.remedy == Some(Remedy::Net)).count(), 2, "{notes:?}");
    assert!(without.run()?.image(0)? != output.image(0)?);

    let again = Request::from_png(&pipeline, &path)?.net(&five)?.net(&three)?;
    assert!(again.notes()?.iter().all(|note| note.remedy != Some(Remedy::Net)));
    let repeated = again.run()?;
    assert!(repeated.image(0)? == output.image(0)?, "the repeated picture is another one");
    assert_eq!(repeated.recipe().controls, output.recipe().controls);
    let error = Request::from_png(&pipeline, &path)?.net(&five)?.net(&three)?.net(&three).expect_err("no hint is left");
    assert!(error.to_string().contains("one network for each hint in the file"), "{error}");

    // A hint that is a tensor is not saved in the file; a note says so.
    let packed = drawing.hint((96, 64))?;
    let request = pipeline.request("a red boat").size((96, 64)).steps(2).control(Control::new(&five, &packed));
    request.run()?.save(0, &path)?;
    let notes = Request::from_png(&pipeline, &path)?.notes()?;
    let told =
        |note: &Note| note.text.contains("a ControlNet with scale 1") && note.text.contains("a tensor as its hint");
    assert!(notes.iter().any(told), "{notes:?}");
    Ok(())
}
