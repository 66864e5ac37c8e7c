//! Runs that are made again from their pictures, and what is told where they cannot be.

use impasto::attention::{AttentionSite, CrossAttentionHook, Interest};
use impasto::diffusion::solver::{DpmppSde, Euler, Eval, Multistep, Solver, UniPc};
use impasto::diffusion::{Noise, NoiseEdges, Spacing, Transition};
use impasto::guidance::{Cfg, Combine, Guidance};
use impasto::mask::{Region, Resample};
use impasto::methods::color_force::{Cutoff, Feedback, ForceTarget, GoldMode, MaskEdge, StepVariance, Texture};
use impasto::methods::image_guidance::{GuidanceParams, Space};
use impasto::methods::paint_with_words::{Area, AreaBlend, WeightFn};
use impasto::methods::{ColorForce, ImageGuidance, PaintWithWords, PerturbedAttention, PromptBlend, RegionPrompts};
use impasto::pipeline::{ColorWords, Output, Pipeline, Request};
use impasto::saliency::{Accumulate, Daam, Differential};
use impasto::sampler::Batching;
use impasto::text::TextOptions;
use impasto::weights::Embedding;
use impasto::{Branch, Crop, Error, LoadOptions, Model, Raster, Recipe, Result, Rgb, Source, Step, Window};
use ndarray::Array2;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

const PORTRAIT: &str = "1girl, eyes, hair bow, hair, skin, shirt, background";
const GOLD: Rgb = Rgb(255, 215, 0);
const RED: Rgb = Rgb(200, 30, 30);

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A PNG with these texts.
    fn told(&self, texts: &[(&str, &str)]) -> PathBuf {
        let path = self.file("told.png");
        Raster::flat(GOLD, (8, 8)).save_with_texts(&path, texts).expect("written");
        path
    }
}

fn paint() -> PaintWithWords {
    let mut map = Raster::flat(Rgb(255, 255, 255), (128, 128));
    map.paste(&Raster::flat(RED, (64, 64)), 0, 64);
    let mask = Region::new(Array2::from_shape_fn((16, 16), |(row, _)| row as f32 / 15.0));
    PaintWithWords::new(&map)
        .color(RED, "hair", 1.5)
        .mask(mask, "shirt", -0.7)
        .weight(WeightFn::LogStd(0.3))
        .resample(Resample::Cover)
        .blur(2.0)
}

/// A force with nothing left as it is.
fn force() -> ColorForce {
    let region = Region::new(Array2::from_shape_fn((16, 16), |(_, column)| if column < 12 { 0.9 } else { 0.1 }));
    ColorForce::published("hair", Rgb(255, 99, 71))
        .saliency((Daam::of("hair").accumulate(Accumulate::Ema(0.3)), Differential::of("hair", "pink").weight(0.7)))
        .color_var(20.1)
        .saliency_cutoff(Cutoff::Auto)
        .edge(MaskEdge::Soft(0.07))
        .mask(region)
        .protect("eyes")
        .protect_where(
            "the left",
            Region::new(Array2::from_shape_fn((16, 16), |(_, x)| if x < 4 { 1.0 } else { 0.0 })),
            0.5,
        )
        .texture(Texture::MaskedMean)
        .feedback(Feedback { goal: 2.1, ..Feedback::default() })
        .target(ForceTarget::Denoised)
        .step_variance(StepVariance::NextLevel)
        .window(Window::timesteps(0.0..=900.0))
        .trim(1)
}

/// Saves image `index` of the run, reads it back and runs it again.
fn again(pipeline: &mut Pipeline, output: &Output, index: usize) -> Result<(Vec<String>, Output)> {
    let folder = Folder::new();
    let path = folder.file("run.png");
    output.save(index, &path)?;
    assert_eq!(Raster::open(&path)?, *output.image(index)?);
    let request = Request::from_png(pipeline, &path)?;
    let notes = request.notes()?;
    Ok((notes, request.run()?))
}

fn assert_same(name: &str, once: &Output, twice: &Output) {
    assert_eq!(once.images(), twice.images(), "{name}");
    assert_eq!(once.latents(), twice.latents(), "{name}");
    let (mut a, mut b) = (once.recipe().clone(), twice.recipe().clone());
    (a.image, b.image) = (0, 0);
    assert_eq!(a, b, "{name}");
}

#[test]
fn runs_of_the_crates_own_parts_are_made_again_bit_for_bit() -> Result<()> {
    type Asked = fn(Request<'_>) -> Request<'_>;
    let cases: [(&str, Asked); 21] = [
        ("plain", |r| r),
        ("with everything a request has", |r| {
            let r = r
                .negative("hair, \"blue\", naïve")
                .size((96, 64))
                .solver_named("DPM++ 2M SDE Karras")
                .guidance_scale(3.3);
            r.guidance_rescale(0.7).variation(9, 0.2)
        }),
        ("a solver with settings", |r| {
            r.solver(DpmppSde { eta: 0.7, r: 0.4, ..DpmppSde::default() }).spacing(Spacing::Karras)
        }),
        ("a solver that remembers", |r| r.solver(Multistep::dpmpp_3m())),
        ("UniPC", |r| r.solver(UniPc::bh2()).spacing(Spacing::Trailing)),
        ("another combination", |r| r.combine(Cfg(2.7))),
        ("noise of its own", |r| r.noise(Noise::shared(3)).solver_named("Euler a")),
        ("Daam", |r| r.guide(Daam::of("eyes").window(Window::timesteps(100.0..=800.0)))),
        ("words", |r| r.guide(Daam::words())),
        ("a force", |r| r.guide(ColorForce::published("eyes", GOLD).color_var(15.0))),
        ("a force with all settings", |r| r.guide(force())),
        ("exact", |r| r.guide(ColorForce::exact("hair", Rgb(255, 99, 71)))),
        ("painting", |r| r.guide(paint())),
        ("painting from some noise levels on", |r| r.guide(paint().window(Window::sigmas(0.5..=8.0)))),
        ("a picture that guides", |r| {
            let teal = Raster::flat(Rgb(0, 128, 128), (32, 24));
            let guide = ImageGuidance::new(&teal).params(GuidanceParams::off()).space(Space::Joint).patches(false);
            r.guide(guide.linear(0.4, 0.4).crop(Crop::Pad))
        }),
        ("a text that guides a part of the run", |r| {
            r.guide(ImageGuidance::text("red hair").window(Window::progress(0.5..=1.0)))
        }),
        ("perturbed attention", |r| r.guide(PerturbedAttention::new(2.0).window(Window::timesteps(200..=999)))),
        ("a prompt that becomes another", |r| {
            r.guide(PromptBlend::to("a red house").window(Window::progress(0.25..=0.75)))
        }),
        ("areas with all settings", |r| {
            let lower_left = Region::rect(0.0..0.5, 0.5..1.0);
            let area = Area::mask(lower_left, "shirt").strength(1.2).outside(-0.1).seed(3);
            let lower = Area::mask(Region::rect(0.0..1.0, 0.5..1.0), "hair").negative();
            let paint = PaintWithWords::default().area(area).area(lower).blend(AreaBlend::Strongest).on_uncond(0.5);
            r.negative("hair").guide(paint.noise_edges(NoiseEdges::Blend))
        }),
        ("regions after prompts of their own", |r| {
            let regions = RegionPrompts::default().thing(Region::rect(0.5..1.0, 0.5..1.0), "a red house", "house", 0.8);
            let guide = ImageGuidance::new(&Raster::flat(Rgb(0, 128, 128), (32, 24))).params(GuidanceParams::ui());
            r.guide(regions.guided(guide).hold(1.5).window(Window::sigmas(1.0..=f64::INFINITY)))
        }),
        ("several at once", |r| {
            let r = r.guide(paint()).guide(ColorForce::exact("eyes", GOLD).protect("hair bow"));
            r.guide(Daam::of("shirt")).color_force("background", Rgb(60, 179, 113)).solver_named("Euler a")
        }),
    ];
    let mut pipeline = Pipeline::builder().build()?;
    for (name, asked) in cases {
        let output = asked(pipeline.request(PORTRAIT).seed(7).steps(6)).run()?;
        assert_eq!(output.recipe().missing, [""; 0], "{name}");
        let (notes, twice) = again(&mut pipeline, &output, 0)?;
        assert_eq!(notes, [""; 0], "{name}");
        assert_same(name, &output, &twice);
    }
    Ok(())
}

#[test]
fn colors_in_a_prompt_are_made_again_and_not_twice() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    let request = pipeline.request("1girl, #ffd700 eyes, {teal} shirt").color_words(ColorWords::Nothing);
    let output = request.seed(u64::MAX - 3).steps(6).run()?;
    assert_eq!((output.recipe().guidances.len(), output.reports().len()), (0, 2));
    let (notes, twice) = again(&mut pipeline, &output, 0)?;
    assert_eq!((notes.len(), twice.reports().len()), (0, 2));
    assert_same("colors", &output, &twice);
    Ok(())
}

#[test]
fn a_picture_of_a_batch_repeats_the_batch() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    for batching in [Batching::Together, Batching::OneByOne] {
        let request = pipeline.request(PORTRAIT).seed(7).steps(4).images(3).batching(batching);
        let output = request.guide(ColorForce::exact("eyes", GOLD)).run()?;
        let (notes, twice) = again(&mut pipeline, &output, 2)?;
        assert_eq!(notes, [""; 0]);
        assert_same("batch", &output, &twice);
        let folder = Folder::new();
        output.save(2, folder.file("third.png"))?;
        let texts = Raster::texts(folder.file("third.png"))?;
        let parameters = &texts.iter().find(|(keyword, _)| keyword == "parameters").expect("words").1;
        assert!(parameters.contains("Seed: 9,"), "the third image's own: {parameters}");
        if batching == Batching::OneByOne {
            let alone = Request::from_png(&mut pipeline, folder.file("third.png"))?.images(1).seed(9).run()?;
            assert_eq!(alone.image(0)?, output.image(2)?);
        }
        assert!(output.save(3, folder.file("fourth.png")).is_err());
    }
    Ok(())
}

#[test]
fn what_a_pipeline_has_attached_is_in_the_file_and_runs_once() -> Result<()> {
    let mut pipeline = Pipeline::builder().color_force("eyes", GOLD).guide(Daam::of("hair")).build()?;
    let output = pipeline.request(PORTRAIT).seed(7).steps(4).guide(Daam::of("shirt")).run()?;
    let (notes, twice) = again(&mut pipeline, &output, 0)?;
    assert_eq!((notes.len(), twice.reports().len()), (0, 3));
    assert_same("the same pipeline", &output, &twice);
    let (_, twice) = again(&mut Pipeline::builder().build()?, &output, 0)?;
    assert_same("a bare pipeline", &output, &twice);
    Ok(())
}

#[test]
fn maps_and_latents_of_an_earlier_run_are_in_the_file() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    let mut first = ColorForce::published("hair", GOLD);
    pipeline.request(PORTRAIT).seed(7).steps(6).guide(&mut first).run()?;
    let gold = first.gold_latent()?.shallow_clone();
    let force = ColorForce::published("hair", GOLD).gold(GoldMode::Latent(gold)).replay(first.recorded()?);
    let output = pipeline.request(PORTRAIT).seed(7).steps(6).guide(force).run()?;
    let (notes, twice) = again(&mut pipeline, &output, 0)?;
    assert_eq!((notes.len(), output.reports()[0].pictures.len()), (0, 4));
    assert_same("replayed", &output, &twice);
    Ok(())
}

/// A guidance that the crate does not know.
struct Tint;

impl Guidance for Tint {
    fn transition(&mut self, _: &Step, transition: &mut Transition) -> Result<()> {
        transition.mean = transition.mean.f_mul_scalar(1.01)?;
        Ok(())
    }
    fn name(&self) -> &'static str {
        "Tint"
    }
}

/// The same, whose settings are written.
struct Told(f64);

impl Guidance for Told {
    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Told", &self.0)
    }
}

struct Watch;

impl CrossAttentionHook for Watch {
    fn interest(&self, _: &AttentionSite, _: Branch) -> Interest {
        Interest::NONE
    }
}

/// Euler's, by another name.
struct Stranger;

impl Solver for Stranger {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        Euler.step(step, x, eval)
    }
    fn name(&self) -> &'static str {
        "Stranger"
    }
}

struct Mix;

impl Combine for Mix {
    fn branches(&self, step: &Step) -> Vec<Branch> {
        Cfg(2.0).branches(step)
    }
    fn combine(&self, step: &Step, predictions: &impasto::diffusion::Predictions) -> Result<Tensor> {
        Cfg(2.0).combine(step, predictions)
    }
}

#[test]
fn what_no_file_can_say_is_named() -> Result<()> {
    type Asked = fn(Request<'_>) -> Request<'_>;
    let cases: [(Asked, &str); 8] = [
        (|r| r.guide(Tint), "Tint cannot be repeated from a file"),
        (|r| r.hook(Watch), "Watch cannot be repeated"),
        (|r| r.solver(Stranger), "the solver Stranger cannot be repeated"),
        (|r| r.combine(Mix), "Mix cannot be repeated"),
        (|r| r.guide(Daam::of("eyes").sites(|_| true)), "Daam (it was given a function"),
        (|r| r.guide(paint().sites(|_| true)), "PaintWithWords (it was given a function"),
        (
            |r| r.guide(ColorForce::published("eyes", GOLD).step_variance(StepVariance::Custom(Box::new(|_| 1.0)))),
            "ColorForce (the enum variant StepVariance::Custom",
        ),
        (
            |r| r.guide(ColorForce::published("eyes", GOLD).saliency(Daam::of("eyes").sites(|_| true))),
            "Daam (it was given",
        ),
    ];
    let mut pipeline = Pipeline::builder().build()?;
    for (asked, named) in cases {
        let output = asked(pipeline.request(PORTRAIT).seed(7).steps(2)).guide(Daam::of("hair")).run()?;
        let (notes, twice) = again(&mut pipeline, &output, 0)?;
        assert!(notes.len() == 1 && notes[0].contains(named), "{notes:?}");
        assert_eq!(twice.notes().iter().filter(|note| **note == notes[0]).count(), 1, "the output says it too");
        assert_eq!(twice.reports().len(), 1, "the rest is repeated");
    }
    // A guidance that says its settings is handed on; given again, the run is the same.
    let output = pipeline.request(PORTRAIT).seed(7).steps(2).guide(Told(0.25)).run()?;
    let (notes, _) = again(&mut pipeline, &output, 0)?;
    assert!(notes.len() == 1 && notes[0].contains("Told") && notes[0].contains("0.25"), "{notes:?}");
    let folder = Folder::new();
    let output = pipeline.request(PORTRAIT).seed(7).steps(2).guide(Tint).run()?;
    output.save(0, folder.file("tint.png"))?;
    let twice = Request::from_png(&mut pipeline, folder.file("tint.png"))?.guide(Tint).run()?;
    assert_eq!(twice.image(0)?, output.image(0)?);
    Ok(())
}

#[test]
fn a_picture_to_start_from_is_asked_for() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    let boat = Raster::flat(Rgb(90, 120, 200), (256, 256));
    let mut mask = Raster::flat(Rgb(0, 0, 0), (256, 256));
    mask.paste(&Raster::flat(Rgb(255, 255, 255), (128, 128)), 64, 64);
    let output = pipeline.request(PORTRAIT).seed(7).steps(8).start(&boat, 0.6).mask(&mask).run()?;
    let folder = Folder::new();
    output.save(0, folder.file("repainted.png"))?;
    let request = Request::from_png(&mut pipeline, folder.file("repainted.png"))?;
    let notes = request.notes()?.join("\n");
    assert!(
        notes.contains("a picture of 256×256 pixels (SHA-256") && notes.contains("start with Portion(0.6)"),
        "{notes}"
    );
    assert!(notes.contains("it had a mask of 256×256"), "{notes}");
    assert_eq!(request.start(&boat, 0.6).mask(&mask).run()?.image(0)?, output.image(0)?);
    Ok(())
}

#[test]
fn another_model_is_noticed() -> Result<()> {
    let model = impasto::Model::load(&impasto::Source::embedded())?;
    let same = impasto::Model::load(&impasto::Source::embedded())?;
    assert_eq!(model.identity()?, same.identity()?);
    assert_eq!(model.identity()?.fingerprint.len(), 16);
    let mut pipeline = Pipeline::builder().build()?;
    let output = pipeline.request(PORTRAIT).seed(7).steps(2).run()?;
    let text = TextOptions { clip_skip: Some(2), ..TextOptions::default() };
    let (notes, _) = again(&mut Pipeline::builder().text(text).build()?, &output, 0)?;
    let told = "it was made with the embedded model (";
    assert!(notes.iter().any(|note| note.starts_with(told) && note.contains("another reading")), "{notes:?}");
    Ok(())
}

#[test]
fn learned_words_and_image_encoders_are_part_of_what_a_model_is() -> Result<()> {
    let folder = Folder::new();
    let model = Model::load(&Source::embedded())?;
    let table = &model.tensors("text_encoder").expect("a text encoder")["text_model.embeddings.token_embedding.weight"];
    let width = table.size()[1];
    let fingerprint = |word: &str, value: f64| -> Result<String> {
        let rows = Tensor::full([2, width], value, (Kind::Float, Device::Cpu));
        let path = folder.file("word.safetensors");
        Tensor::write_safetensors(&[("emb_params", rows)], &path)?;
        Ok(model.with_embedding(&Embedding::open(&path)?.called(word))?.identity()?.fingerprint)
    };
    let learned = fingerprint("zzqx", 0.1)?;
    assert_eq!(fingerprint("zzqx", 0.1)?, learned);
    assert_ne!(fingerprint("zzqx", 0.2)?, learned, "another meaning");
    assert_ne!(fingerprint("xqzz", 0.1)?, learned, "another word");
    let seeing = |tower: &str| {
        let options = LoadOptions { image_encoder: Some(Source::dir(folder.file(tower))), ..LoadOptions::default() };
        Ok::<_, Error>(Model::load_with(&Source::embedded(), options)?.identity()?.fingerprint)
    };
    assert_ne!(seeing("clip-l")?, seeing("clip-h")?);
    Ok(())
}

#[test]
fn words_of_other_programs_are_followed_as_far_as_they_go() -> Result<()> {
    let folder = Folder::new();
    let mut pipeline = Pipeline::builder().build()?;
    let words = "1girl, (eyes:1.2),\nhair\nNegative prompt: shirt, \"x\"\n\
                 Steps: 5, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 3.5, Seed: 11, Size: 96x64, Model hash: 0f1e2d3c4b, \
                 Model: tiny, Variation seed: 4, Variation seed strength: 0.1, RNG: CPU, Clip skip: 2, Hires upscale: 2, \
                 Lora hashes: \"a: 1, b: 2\", Version: v1.9.0";
    let path = folder.told(&[("parameters", words)]);
    let request = Request::from_png(&mut pipeline, &path)?;
    let notes = request.notes()?.join("\n");
    assert!(notes.contains("not repeated: Clip skip 2; Hires upscale 2; Lora hashes a: 1, b: 2"), "{notes}");
    assert!(notes.contains("the model tiny") && !notes.contains("GPU") && !notes.contains("lora:"), "{notes}");
    let output = request.run()?;
    let request =
        pipeline.request("1girl, (eyes:1.2),\nhair").negative("shirt, \"x\"").seed(11).steps(5).size((96, 64));
    let want = request.solver_named("DPM++ 2M Karras").guidance_scale(3.5).variation(4, 0.1).run()?;
    assert_eq!(output.images(), want.images());

    let words = "a boat <lora:sea:0.8>\nSteps: many, Sampler: DPM fast, Seed: 1, Size: large";
    let request = Request::from_png(&mut pipeline, folder.told(&[("parameters", words)]))?;
    let notes = request.notes()?.join("\n");
    for told in ["\"DPM fast\" is not known", "a GPU's", "lora", "not repeated: Steps many; Size large"] {
        assert!(notes.contains(told), "{told} in {notes}");
    }
    drop(request);
    // Our own words are understood the same way.
    let output = pipeline
        .request("1girl, eyes: gold, \"hair\"")
        .negative("a\nb")
        .seed(3)
        .steps(3)
        .solver_named("Euler a")
        .run()?;
    let words = output.recipe().infotext().to_string();
    let again = Request::from_png(&mut pipeline, folder.told(&[("parameters", &words)]))?.run()?;
    assert_eq!(again.images(), output.images());
    Ok(())
}

#[test]
fn words_for_other_programs_have_the_schedule_and_the_layer() -> Result<()> {
    let folder = Folder::new();
    let text = TextOptions { clip_skip: Some(2), ..TextOptions::default() };
    let mut pipeline = Pipeline::builder().text(text).build()?;
    let output = pipeline.request(PORTRAIT).seed(3).steps(3).solver_named("DPM++ 2M Karras").run()?;
    let info = output.recipe().infotext();
    let told = ["Sampler", "Schedule type", "Clip skip"].map(|name| info.field(name));
    assert_eq!(told, [Some("DPM++ 2M"), Some("Karras"), Some("2")]);
    let path = folder.told(&[("parameters", &info.to_string())]);
    let request = Request::from_png(&mut pipeline, &path)?;
    assert!(request.notes()?.iter().all(|note| !note.contains("not repeated")), "{:?}", request.notes()?);
    assert_eq!(request.run()?.images(), output.images());
    let notes = Request::from_png(&mut Pipeline::builder().build()?, &path)?.notes()?.join("; ");
    assert!(notes.contains("not repeated: Clip skip 2"), "{notes}");

    let mut recipe = pipeline.request(PORTRAIT).seed(3).steps(3).run()?.recipe().clone();
    for (own, told) in [(Spacing::Exponential, Some("Exponential")), (Spacing::Leading, None)] {
        recipe.checkpoint_spacing = Some(own);
        assert_eq!(recipe.infotext().field("Schedule type"), told);
    }
    Ok(())
}

#[test]
fn broken_recipes_say_what_is_wrong() -> Result<()> {
    let folder = Folder::new();
    let mut pipeline = Pipeline::builder().build()?;
    let output = pipeline.request(PORTRAIT).seed(7).steps(2).guide(Daam::of("eyes")).run()?;
    let good = serde_json::to_value(output.recipe()).expect("JSON");
    let changed = |field: &str, value: serde_json::Value| {
        let mut recipe = good.clone();
        *recipe.pointer_mut(field).expect("there") = value;
        recipe.to_string()
    };
    let zeros = serde_json::json!({ "shape": [1 << 26], "values": "" }); // 256 MiB, as it says
    let cases = [
        (String::new(), "recipe cannot be read"),
        ("{".into(), "recipe cannot be read"),
        ("[]".into(), "recipe cannot be read"),
        (r#"{"format": 1}"#.into(), "missing field"),
        (changed("/format", 2.into()), "form 2"),
        (changed("/steps", "many".into()), "invalid type: string \"many\""),
        (changed("/seed", (-1).into()), "invalid value"),
        (changed("/sampler", "Eular".into()), "solver \"Eular\" is not known; did you mean \"Euler\""),
        (changed("/solver", serde_json::json!({ "name": "Ddim", "settings": { "eta": "x" } })), "recipe of Ddim"),
        (changed("/guidances/0/settings", serde_json::json!({ "phrase": 7 })), "recipe of Daam: invalid type"),
        (changed("/guidances/0", serde_json::json!({ "name": "PaintWithWords" })), "recipe of PaintWithWords"),
        (changed("/combine", serde_json::json!({ "name": "Cfg", "settings": [] })), "recipe of Cfg"),
        (changed("/combine", serde_json::json!([zeros, zeros, zeros])), "unpack to more than 512 MiB"),
    ];
    for (written, problem) in cases {
        let path = folder.told(&[("impasto", &written)]);
        let error = Request::from_png(&mut pipeline, path).map(drop).expect_err(&written).to_string();
        assert!(error.contains(problem), "{error}\n{written}");
    }
    let unknown = changed("/solver", serde_json::json!({ "name": "Mine" }));
    let request = Request::from_png(&mut pipeline, folder.told(&[("impasto", &unknown)]))?;
    let notes = request.notes()?.join("; ");
    assert!(notes.starts_with("Mine, which is no solver of this crate, cannot be repeated"), "{notes}");
    assert!(notes.contains("give it by Request::solver"), "{notes}");
    drop(request);
    let error = Request::from_png(&mut pipeline, folder.told(&[])).map(drop).expect_err("silent").to_string();
    assert!(error.contains("it has no recipe"), "{error}");
    assert!(matches!(Request::from_png(&mut pipeline, folder.file("none.png")).map(drop), Err(Error::Io { .. })));
    let error = output.save(0, folder.file("run.jpg")).expect_err("no place for texts").to_string();
    assert!(error.contains(".png"), "{error}");
    Ok(())
}
