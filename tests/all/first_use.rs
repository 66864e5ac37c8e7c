//! First use of the crate: progress, threads, custom errors, and notes about requests with an unexpected result.

use impasto::diffusion::{NoiseKind, solver};
use impasto::guidance::{Cfg, GuidanceRun, Setup};
use impasto::methods::ColorForce;
use impasto::methods::color_force::ColorReport;
use impasto::model::Controlled;
use impasto::pipeline::{Builder, Output, Pipeline, Preview, Request, RunRecipe, Timing};
use impasto::prompt::PromptSyntax;
use impasto::sampler::{CancelToken, Sampler};
use impasto::{Codec, Error, LoadOptions, Model, Raster, Result, Rgb, Source};
use std::ops::ControlFlow;
use tch::Device;

const PORTRAIT: &str = "1girl, eyes, hair, shirt, background";
const GOLD: Rgb = Rgb(255, 215, 0);

/// Mean CIEDE2000 between two pictures, over the mean colors of 8×8 parts.
fn apart(a: &Raster, b: &Raster) -> f64 {
    let small = |picture: &Raster| picture.resize((8, 8), impasto::raster::Filter::Box).expect("resized");
    let (a, b) = (small(a), small(b));
    let pairs = (0..64).map(|i| (a.pixel(i % 8, i / 8).expect("inside"), b.pixel(i % 8, i / 8).expect("inside")));
    pairs.map(|(a, b)| a.delta_e(b)).sum::<f64>() / 64.0
}

#[test]
fn preview_shows_the_picture_before_it_is_done() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let (mut seen, mut steps) = (Vec::new(), Vec::new());
    let request = pipeline.request(PORTRAIT).seed(7).steps(10).images(2);
    let output = request
        .on_step(|progress| {
            steps.push((progress.pass, progress.done));
            ControlFlow::Continue(())
        })
        .on_preview(4, |preview| {
            assert_eq!(preview.progress.total, 10);
            seen.push((preview.progress.done, preview.pictures()?, preview.decoded()?));
            Ok(())
        })
        .run()?;
    assert_eq!(seen.iter().map(|(done, ..)| *done).collect::<Vec<_>>(), [4, 8, 10], "every fourth step, and the last");
    assert_eq!(steps, (1..=10).map(|done| (0, done)).collect::<Vec<_>>());
    let last = &seen[2];
    for image in [0, 1] {
        assert_eq!(&last.2[image], output.image(image)?, "the last clean latent is the picture");
        assert_eq!(last.1[image].size(), output.image(image)?.size());
        // The preview's colors are approximate, but nearer to its own picture than to the other.
        let (own, other) =
            (apart(&last.1[image], output.image(image)?), apart(&last.1[image], output.image(1 - image)?));
        assert!(own < 20.0 && own < 0.6 * other, "image {image}: {own} from its own, {other} from the other");
    }
    Ok(())
}

#[test]
fn first_pass_reports_its_steps_and_its_time() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let (mut steps, mut previews) = (Vec::new(), Vec::new());
    let output = pipeline
        .request(PORTRAIT)
        .seed(7)
        .steps(6)
        .guide(ColorForce::exact("eyes", GOLD))
        .on_step(|progress| {
            steps.push((progress.pass, progress.passes, progress.done, progress.total));
            ControlFlow::Continue(())
        })
        .on_preview(6, |preview| {
            previews.push((preview.progress.pass, preview.reports()?.len()));
            Ok(())
        })
        .run()?;
    let expected: Vec<_> = (1..=12).map(|done| ((done - 1) / 6, 2, done, 12)).collect();
    assert_eq!(steps, expected);
    assert_eq!(previews, [(0, 1), (1, 1)]);
    let Timing { first_pass, steps, .. } = &output.timing;
    assert_eq!((first_pass.len(), steps.len()), (6, 6));
    Ok(())
}

#[test]
fn run_ends_where_a_callback_says_so() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let stopped =
        pipeline.request(PORTRAIT).steps(4).color_force("eyes", GOLD).on_step(|_| ControlFlow::Break(())).run();
    assert!(matches!(stopped, Err(Error::Cancelled)));
    let exact = ColorForce::exact("eyes", GOLD);
    let in_first_pass = pipeline.request(PORTRAIT).steps(4).guide(exact).on_step(|progress| {
        assert_eq!(progress.pass, 0);
        ControlFlow::Break(())
    });
    assert!(matches!(in_first_pass.run(), Err(Error::Cancelled)));
    let own = pipeline.request(PORTRAIT).steps(4).on_preview(1, |_| Err(Error::custom("enough"))).run();
    assert_eq!(own.unwrap_err().to_string(), "enough");
    let never = pipeline.request(PORTRAIT).on_preview(0, |_| Ok(())).run().unwrap_err().to_string();
    assert!(never.contains("on_preview is every 0 steps; expected every 1 or more"), "{never}");
    Ok(())
}

#[test]
fn public_types_can_cross_threads() {
    fn send<T: Send>() {}
    fn share<T: Send + Sync>() {}
    send::<Model>();
    send::<Pipeline>();
    send::<Builder>();
    send::<Output>();
    send::<Sampler<'static>>();
    share::<ColorForce>();
    share::<Raster>();
    share::<Error>();
    share::<CancelToken>();
    share::<RunRecipe>();
    share::<Source>();
    share::<LoadOptions>();
}

#[test]
fn shared_model_paints_the_same_without_copies() -> Result<()> {
    let model = Model::load(&Source::embedded())?;
    let shared = model.share()?;
    for part in ["unet", "vae", "text_encoder"] {
        let (own, theirs) = (model.tensors(part).expect("a part"), shared.tensors(part).expect("a part"));
        assert!(own.len() == theirs.len() && !own.is_empty());
        assert!(own.iter().all(|(name, x)| theirs[name].data_ptr() == x.data_ptr()), "{part} was copied");
    }
    let paint = |model: Model| -> Result<Raster> {
        let pipeline = Pipeline::new(model);
        Ok(pipeline.request(PORTRAIT).seed(3).steps(3).run()?.image(0)?.clone())
    };
    let there = std::thread::spawn(move || paint(shared));
    let here = paint(model)?;
    assert!(there.join().expect("no panic")? == here);
    Ok(())
}

/// A guidance method that fails in one phase with a custom error.
struct Failing(&'static str);

#[derive(Debug, PartialEq)]
struct NoLight(u32);

impl std::fmt::Display for NoLight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "lamp {} is off", self.0)
    }
}

impl std::error::Error for NoLight {}

impl Failing {
    fn at(&self, phase: &str) -> Result<()> {
        if self.0 == phase { Err(Error::custom(NoLight(3))) } else { Ok(()) }
    }
}

impl GuidanceRun for Failing {
    fn begin(&mut self, _: &mut Setup<'_>) -> Result<()> {
        self.at("begin")
    }
    fn transition(&mut self, _: &impasto::Step, _: &mut impasto::diffusion::Transition) -> Result<()> {
        self.at("transition")
    }
    fn finish(&mut self, _: &mut tch::Tensor, _: &dyn Codec) -> Result<()> {
        self.at("finish")
    }
    fn name(&self) -> &'static str {
        "Lamp"
    }
}

#[test]
fn custom_error_names_its_phase_and_downcasts() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    for (failing, at) in [("begin", None), ("transition", Some(0)), ("finish", None)] {
        let error = pipeline.request(PORTRAIT).steps(1).attach(&mut Failing(failing)).run().unwrap_err();
        assert_eq!(error.to_string(), "Lamp: lamp 3 is off");
        let Error::Guidance { phase, step, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*phase, *step), (failing, at));
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        let mut found = None;
        while let Some(error) = cause {
            found = found.or(error.downcast_ref::<NoLight>());
            cause = error.source();
        }
        assert_eq!(found, Some(&NoLight(3)));
    }
    Ok(())
}

#[test]
fn missing_device_error_names_the_way_out() {
    if tch::utils::has_cuda() {
        return; // this libtorch has CUDA
    }
    let message = Pipeline::builder().device(Device::Cuda(0)).build().expect_err("no GPU").to_string();
    assert!(
        message.contains("device is cuda:0; expected cpu, because this libtorch is built without CUDA"),
        "{message}"
    );
    assert!(message.contains("LIBTORCH_USE_PYTORCH=1"), "{message}");
}

#[test]
fn words_unknown_to_the_embedded_model_are_one_note() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let request = pipeline.request("1girl, a dragon with #ffd700 eyes, castle, hair bow").steps(1);
    let notes = request.notes()?;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].text.contains("does not know \"dragon\"") && notes[0].text.contains("\"castle\""), "{notes:?}");
    assert!(
        !notes[0].text.contains("hair") && !notes[0].text.contains("1girl") && !notes[0].text.contains("eyes"),
        "{notes:?}"
    );
    assert_eq!(request.run()?.notes.iter().filter(|note| note.text.contains("does not know")).count(), 1);
    assert!(pipeline.request("1girl, gold eyes, hair bow, red shirt").notes()?.is_empty());
    // A folder with the same weights counts as any other checkpoint and gets no such note.
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model");
    let same = Pipeline::builder().source(Source::dir(folder)).build()?;
    assert!(same.request("a dragon").notes()?.is_empty());
    Ok(())
}

#[test]
fn syntax_without_an_effect_is_noted() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let told = |request: &Request<'_>| -> Result<String> {
        Ok(request.notes()?.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    let prompt = "1girl, [red:blue:0.5] hair <lora:ink:0.8> AND eyes";
    let request = pipeline.request(prompt).negative("<lora:ink:0.8>").steps(1);
    let request = request.tune(|config| config.syntax = PromptSyntax::Plain);
    let notes = told(&request)?;
    for told in
        ["such as <lora:ink:0.8>, are read as text", "AND in the prompt is read as a word", "[red:blue:0.5], are"]
    {
        assert_eq!(notes.matches(told).count(), 1, "{told} in {notes}");
    }
    assert!(request.run()?.notes.iter().any(|note| note.text.contains("<lora:ink:0.8>")));
    let request =
        pipeline.request("1girl, hair <hypernet:ink:1> :1.5").negative("<lora:ink:1>, eyes AND hair").steps(1);
    let notes = told(&request)?;
    for told in ["<hypernet:ink:1> in the prompt adds nothing", "<lora:ink:1>, are read", "AND", "1.5 after the colon"]
    {
        assert_eq!(notes.matches(told).count(), 1, "{told} in {notes}");
    }
    assert!(request.run().is_ok());
    assert!(pipeline.request("1girl, (red hair:1.2), [eyes], [red|blue] shirt").notes()?.is_empty());
    Ok(())
}

#[test]
fn size_far_beyond_the_models_own_is_noted() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let notes = pipeline.request("1girl").size((4096, 4096)).notes()?;
    assert!(notes[0].text.contains("4096×4096 has 256 times the pixels of 256×256"), "{notes:?}");
    assert!(
        notes[0].text.contains("at least 256 times as long") && notes[0].text.contains("up to 65536 times"),
        "{notes:?}"
    );
    assert!(pipeline.request("1girl").size((512, 512)).notes()?.is_empty());
    Ok(())
}

#[test]
fn mistyped_sampler_is_named_with_the_right_one() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let message = pipeline.request("1girl").solver_named("DPM++ 2M Karas").run().unwrap_err().to_string();
    assert!(message.contains("did you mean \"DPM++ 2M Karras\""), "{message}");
    assert!(solver::by_name("DPM++ 2M Karras").is_ok());
    Ok(())
}

#[test]
fn noise_kind_changes_the_run_and_repeats() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let pipeline = Pipeline::builder().build()?;
    let run = |kind| -> Result<Output> {
        pipeline.request("1girl").seed(7).steps(1).tune(|config| config.noise_kind = kind).run()
    };
    let float = run(NoiseKind::Float)?;
    assert_eq!(float.latents, pipeline.request("1girl").seed(7).steps(1).run()?.latents);
    let half = run(NoiseKind::Half)?;
    assert_ne!(half.latents, float.latents);
    let path = folder.path().join("half.png");
    half.save(0, &path)?;
    assert_eq!(Request::from_png(&pipeline, &path)?.run()?.latents, half.latents);
    Ok(())
}

#[test]
fn color_beyond_the_vae_is_not_trimmed() -> Result<()> {
    /// A model whose decoder counts its calls and shows nearly gray pictures only.
    struct Gray<'m>(&'m Model, std::cell::Cell<usize>);

    impl Codec for Gray<'_> {
        fn prompt(&self, texts: impasto::Texts<'_>) -> Result<impasto::Prompt> {
            self.0.prompt(texts)
        }
        fn text(&self, texts: impasto::Texts<'_>) -> Result<impasto::Conditioning> {
            self.0.text(texts)
        }
        fn encode(&self, picture: &tch::Tensor) -> Result<tch::Tensor> {
            self.0.encode(picture)
        }
        fn decode(&self, latent: &tch::Tensor) -> Result<tch::Tensor> {
            self.1.set(self.1.get() + 1);
            Ok(self.0.decode(latent)? * 0.1)
        }
    }

    impl impasto::diffusion::Denoiser for Gray<'_> {
        fn sites(&self) -> &[impasto::attention::AttentionSite] {
            self.0.sites()
        }
        fn denoise(
            &self,
            step: &impasto::Step,
            inputs: &[impasto::diffusion::Input<'_>],
            tap: &mut impasto::attention::Tap<'_>,
        ) -> Result<impasto::diffusion::Predictions> {
            self.0.denoise(step, inputs, tap)
        }
    }

    use impasto::diffusion::{Noise, Schedule, Spacing, solver::Euler};
    let model = Model::load(&Source::embedded())?;
    let gray = Gray(&model, std::cell::Cell::new(0));
    let schedule = Schedule::new(model.training_schedule(), 4, Spacing::Leading)?;
    let start = impasto::sampler::Start::new(PORTRAIT, impasto::Grid::new(16, 16), Noise::seeded(7));
    let force = ColorForce::exact("hair", Rgb(255, 0, 0));
    let mut run = Sampler::new(schedule, Euler).guide(force).start(&gray, start)?;
    let _ = run.decode()?;
    let details = run.into_details()?;
    let told = details.get::<ColorReport>("hair")?;
    assert!(told.representable_delta_e > 10.0 && told.trimmed.is_empty() && !told.converged);
    // The decoder is called four times: for the color in each of two passes, for the outlines, and for the picture.
    assert_eq!(gray.1.get(), 4);
    Ok(())
}

#[test]
fn controlled_model_has_the_models_channels() -> Result<()> {
    use impasto::diffusion::Denoiser;
    let model = Model::load(&Source::embedded())?;
    let controlled = Controlled::new(&model, &[])?;
    assert_eq!((model.channels(), controlled.channels()), (4, 4));
    assert_eq!(model.inpaints(), Denoiser::inpaints(&controlled));
    Ok(())
}

#[test]
fn preview_can_be_named_as_a_type() {
    fn shows(_: impl FnMut(&Preview<'_>) -> Result<()>) {}
    shows(|preview| preview.pictures().map(drop));
}

#[test]
fn run_that_ends_early_says_that_it_has_no_images() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let output = pipeline.request("a red boat").steps(2).until(0.5).run()?;
    let message = output.image(0).expect_err("no image").to_string();
    assert_eq!(message, "image is 0; expected no index, because a run that ends early makes latents and no images");
    Ok(())
}

#[test]
fn combination_stays_and_an_unused_scale_is_noted() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let alone = pipeline.request("a red boat").seed(7).steps(2).combine(Cfg(1.0)).run()?;
    assert_eq!(alone.recipe().config.guidance_scale, None, "the run used no scale");
    let request = pipeline.request("a red boat").seed(7).steps(2).combine(Cfg(1.0)).guidance_scale(5.0);
    let notes = request.notes()?;
    assert!(notes.len() == 1 && notes[0].text.starts_with("guidance scale and rescale have no effect"), "{notes:?}");
    assert_eq!(request.run()?.images, alone.images);
    assert_ne!(pipeline.request("a red boat").seed(7).steps(2).guidance_scale(5.0).run()?.images, alone.images);
    Ok(())
}
