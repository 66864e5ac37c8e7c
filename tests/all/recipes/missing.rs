//! Notes about parts of a run that its picture cannot repeat: functions, types of users, start pictures, other models.

use super::{Folder, GOLD, PORTRAIT, again, paint, told};
use impasto::attention::{AttentionSite, CrossAttentionHook, Interest};
use impasto::diffusion::solver::{DpmppSde, Euler, Eval, Solver};
use impasto::diffusion::{Noise, Predictions, Transition};
use impasto::guidance::{Cfg, Combine, Guidance, GuidanceRun, Setup};
use impasto::methods::ColorForce;
use impasto::methods::color_force::StepVariance;
use impasto::pipeline::{Pipeline, Request};
use impasto::saliency::Daam;
use impasto::text::TextOptions;
use impasto::weights::Embedding;
use impasto::{Branch, Error, LoadOptions, Model, Recipe, Result, Source, Step};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tch::{Device, Kind, Tensor};

/// A guidance method that the crate does not know.
struct Tint;

impl GuidanceRun for Tint {
    fn transition(&mut self, _: &Step, transition: &mut Transition) -> Result<()> {
        transition.mean = transition.mean.f_mul_scalar(1.01)?;
        Ok(())
    }
    fn name(&self) -> &'static str {
        "Tint"
    }
}

/// A guidance method that the crate does not know, but that writes its settings.
struct Told(f64);

impl GuidanceRun for Told {}

impl Guidance for Told {
    fn begin(&self, _: &mut Setup, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        Ok(Box::new(Self(self.0)))
    }
    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Told", &self.0)
    }
}

/// A part of a run that the crate does not know, with more numbers than a recipe may have. It counts the recipes that
/// it writes.
#[derive(Clone, Default)]
struct Many(Arc<AtomicUsize>);

impl Many {
    fn told(&self) -> Result<Recipe> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Recipe::of("Many", &vec![0; 600_000])
    }
}

impl GuidanceRun for Many {}

impl Guidance for Many {
    fn begin(&self, _: &mut Setup, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        Ok(Box::new(self.clone()))
    }
    fn recipe(&self) -> Result<Recipe> {
        self.told()
    }
}

impl Solver for Many {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        Euler.step(step, x, eval)
    }
    fn name(&self) -> &'static str {
        "Many"
    }
    fn recipe(&self) -> Result<Recipe> {
        self.told()
    }
}

impl Combine for Many {
    fn branches(&self, step: &Step) -> Vec<Branch> {
        Cfg(2.0).branches(step)
    }
    fn combine(&self, step: &Step, predictions: &Predictions) -> Result<Tensor> {
        Cfg(2.0).combine(step, predictions)
    }
    fn recipe(&self) -> Result<Recipe> {
        self.told()
    }
}

/// A hook that is never called.
struct Watch;

impl CrossAttentionHook for Watch {
    fn interest(&self, _: &AttentionSite, _: Branch) -> Interest {
        Interest::NONE
    }
}

/// Euler's method under a name that the crate does not know.
struct Stranger;

impl Solver for Stranger {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        Euler.step(step, x, eval)
    }
    fn name(&self) -> &'static str {
        "Stranger"
    }
}

/// Classifier-free guidance as a type that the crate does not know.
struct Mix;

impl Combine for Mix {
    fn branches(&self, step: &Step) -> Vec<Branch> {
        Cfg(2.0).branches(step)
    }
    fn combine(&self, step: &Step, predictions: &Predictions) -> Result<Tensor> {
        Cfg(2.0).combine(step, predictions)
    }
}

#[test]
fn parts_that_no_file_can_hold_are_noted() -> Result<()> {
    type Asked = fn(Request<'_>) -> Request<'_>;
    let cases: [(Asked, &str); 8] = [
        (|r| r.guide(|| Tint), "Tint cannot be stored in a recipe or restored from one"),
        (|r| r.hook(Watch), "Watch cannot be stored in a recipe"),
        (|r| r.solver(Stranger), "the solver Stranger cannot be stored in a recipe"),
        (|r| r.combine(Mix), "Mix cannot be stored in a recipe"),
        (|r| r.guide(Daam::of("eyes").sites(|_| true)), "Daam (a setting is a function"),
        (|r| r.guide(paint().sites(|_| true)), "PaintWithWords (a setting is a function"),
        (
            |r| {
                r.guide(
                    ColorForce::published("eyes", GOLD)
                        .tune(|options| options.step_variance = StepVariance::custom(|_| 1.0)),
                )
            },
            "ColorForce (the enum variant StepVariance::Custom",
        ),
        (
            |r| r.guide(ColorForce::published("eyes", GOLD).saliency(Daam::of("eyes").sites(|_| true))),
            "Daam (a setting is",
        ),
    ];
    let pipeline = Pipeline::builder().build()?;
    for (asked, named) in cases {
        let output = asked(pipeline.request(PORTRAIT).seed(7).steps(2)).guide(Daam::of("hair")).run()?;
        let (notes, twice) = again(&pipeline, &output, 0)?;
        assert!(notes.len() == 1 && notes[0].text.contains(named), "{notes:?}");
        assert_eq!(twice.notes.iter().filter(|note| **note == notes[0]).count(), 1, "the output has the same note");
        assert_eq!(twice.reports.len(), 1, "all other parts are repeated");
    }
    // The note about a method that writes its settings has the settings. A method that the caller adds again repeats
    // its run.
    let output = pipeline.request(PORTRAIT).seed(7).steps(2).guide(Told(0.25)).run()?;
    let (notes, _) = again(&pipeline, &output, 0)?;
    assert!(notes.len() == 1 && notes[0].text.contains("Told") && notes[0].text.contains("0.25"), "{notes:?}");
    let folder = Folder::new();
    let output = pipeline.request(PORTRAIT).seed(7).steps(2).attach(&mut Tint).run()?;
    assert!(
        told(&output.recipe().missing).starts_with("Tint cannot be stored in a recipe"),
        "the name of a lent value"
    );
    output.save(0, folder.file("tint.png"))?;
    let twice = Request::from_png(&pipeline, folder.file("tint.png"))?.guide(|| Tint).run()?;
    assert_eq!(twice.image(0)?, output.image(0)?);
    Ok(())
}

#[test]
fn parts_that_are_too_large_are_noted_and_left_out() -> Result<()> {
    type Asked = fn(Request<'_>) -> Request<'_>;
    let cases: [Asked; 4] = [
        |r| r.guide(Many::default()),
        |r| r.solver(Many::default()),
        |r| r.combine(Many::default()),
        |r| r.guide(Told(0.5)).guide(Many::default()).guide(Many::default()),
    ];
    let pipeline = Pipeline::builder().build()?;
    let expected = "the saved picture will not repeat Many: a PNG holds";
    for asked in cases {
        let request = asked(pipeline.request(PORTRAIT).seed(7).steps(2));
        assert!(told(&request.notes()?).contains(expected), "{:?}", request.notes()?);
        let output = request.run()?;
        assert!(told(&output.notes).contains(expected), "{:?}", output.notes);
        let (notes, _) = again(&pipeline, &output, 0)?;
        assert!(told(&notes).contains(expected), "{notes:?}");
    }
    let seeds: Vec<u64> = (0..1024).collect();
    let noisy = pipeline.request(PORTRAIT).images(1024).tune(|config| config.noise = Some(Noise::seeds(&seeds)));
    assert!(told(&noisy.notes()?).contains("will not repeat the noise: a PNG holds"), "{:?}", noisy.notes()?);
    let quiet = noisy.tune(|config| config.noise = Some(Noise::seeded(7)));
    assert!(!told(&quiet.notes()?).contains("the noise"), "{:?}", quiet.notes()?);
    Ok(())
}

#[test]
fn recipes_are_written_once_for_notes_and_run() -> Result<()> {
    let (many, pipeline) = (Many::default(), Pipeline::builder().build()?);
    let written = || many.0.load(Ordering::Relaxed);
    let request = pipeline.request(PORTRAIT).seed(7).steps(1).guide(many.clone());
    assert_eq!((request.notes()?.len(), request.notes()?.len(), written()), (1, 1, 1));
    let request = request.guide(many.clone());
    assert_eq!((request.notes()?.len(), written()), (2, 3), "another method");
    request.run()?;
    assert_eq!(written(), 3);
    Ok(())
}

#[test]
fn settings_that_no_file_can_hold_are_noted() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let request = pipeline.request(PORTRAIT).seed(7).steps(2).solver(DpmppSde { r: f64::NAN, ..DpmppSde::default() });
    if let Ok(output) = request.run() {
        let (notes, _) = again(&pipeline, &output, 0)?;
        assert!(told(&notes).contains("recipe of DpmppSde"), "{notes:?}");
    }
    // The request ignores the name of another solver.
    let request = pipeline.request(PORTRAIT).seed(7).steps(2).solver(Euler);
    let output = request.tune(|config| config.solver_named = Some("Mine".into())).run()?;
    again(&pipeline, &output, 0)?;
    let request = pipeline.request(PORTRAIT).seed(7).steps(2).combine(Cfg(2.0));
    let error = request.tune(|config| config.guidance_rescale = f64::NAN).run().map(drop).expect_err("not a number");
    assert!(error.to_string().starts_with("guidance_rescale is NaN"), "{error}");
    Ok(())
}

#[test]
fn other_model_is_noted() -> Result<()> {
    let model = Model::load(&Source::embedded())?;
    let same = Model::load(&Source::embedded())?;
    assert_eq!(model.identity()?, same.identity()?);
    assert_eq!(model.identity()?.fingerprint.len(), 16);
    let pipeline = Pipeline::builder().build()?;
    let output = pipeline.request(PORTRAIT).seed(7).steps(2).run()?;
    let text = TextOptions { clip_skip: Some(2), ..TextOptions::default() };
    let (notes, _) = again(&Pipeline::builder().tune(|options| options.text = text).build()?, &output, 0)?;
    let told = "the picture was made with the embedded model (";
    assert!(notes.iter().any(|note| note.text.starts_with(told) && note.text.contains("other settings")), "{notes:?}");
    Ok(())
}

#[test]
fn layer_of_clip_is_repeated_on_the_same_model() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let output = pipeline.request(PORTRAIT).seed(7).steps(2).tune(|config| config.clip_skip = Some(2)).run()?;
    let (notes, repeated) = again(&pipeline, &output, 0)?;
    assert_eq!(notes, []);
    assert_eq!(repeated.images, output.images);
    assert_ne!(pipeline.request(PORTRAIT).seed(7).steps(2).run()?.images, output.images);
    Ok(())
}

#[test]
fn learned_words_and_image_encoders_change_identity() -> Result<()> {
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
    assert_ne!(fingerprint("zzqx", 0.2)?, learned, "another embedding of the word");
    assert_ne!(fingerprint("xqzz", 0.1)?, learned, "another word");
    let seeing = |tower: &str| {
        let mut options = LoadOptions::default();
        options.image_encoder = Some(Source::dir(folder.file(tower)));
        Ok::<_, Error>(Model::load_with(&Source::embedded(), options)?.identity()?.fingerprint)
    };
    assert_ne!(seeing("clip-l")?, seeing("clip-h")?);
    Ok(())
}
