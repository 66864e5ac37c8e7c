//! Image guidance in runs of a toy model and of the embedded model.

use impasto::diffusion::solver::EulerAncestral;
use impasto::diffusion::{Noise, Schedule, Spacing, TrainingSchedule};
use impasto::guidance::{Details, GuidanceRun, Report};
use impasto::mask::Region;
use impasto::methods::image_guidance::{GuidanceParams, ImageGuidanceReport, Mapping, Space, tween};
use impasto::methods::{ColorForce, ImageGuidance, PaintWithWords, PromptBlend, RegionPrompt, RegionPrompts};
use impasto::nn::{ClipVision, ClipVisionConfig, ConfigFile};
use impasto::saliency::{Daam, Differential};
use impasto::sampler::{Batching, Sampler, Start};
use impasto::testing::ToyModel;
use impasto::vision::{Crop, View, VisionEncoder};
use impasto::wording::Note;
use impasto::{BranchInfo, Codec, Conditioning, Grid, Model, Output, Pipeline, Raster, Result, Rgb, Source, Window};
use ndarray::Array2;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const PROMPT: &str = "girl with gold eyes";
const GRID: Grid = Grid::new(8, 6);

/// A picture that is red above and blue below.
fn picture() -> Raster {
    let mut picture = Raster::flat(Rgb(200, 30, 30), (60, 40));
    picture.paste(&Raster::flat(Rgb(20, 40, 220), (60, 20)), 0, 20);
    picture
}

/// Parameters that move every token except the header halfway to the picture's tokens.
fn half() -> GuidanceParams {
    let mut params = GuidanceParams::off();
    params.linear = (0.5, 0.5);
    params.header_max = 0.0;
    params.snap = false;
    params
}

fn guide() -> ImageGuidance {
    ImageGuidance::new(&picture()).tune(|params| *params = half())
}

fn sampler<'g>() -> Sampler<'g> {
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 6, Spacing::Karras).expect("steps in range");
    Sampler::new(schedule, EulerAncestral::default()).batching(Batching::OneByOne)
}

/// The latent of a run of the toy model after some steps, and the notes of image guidance.
fn noted_after(steps: usize, sampler: Sampler<'_>, images: usize, seed: u64) -> Result<(Tensor, Vec<Note>)> {
    let model = ToyModel::new(3)?;
    let mut start = Start::new(PROMPT, GRID, Noise::seeded(seed));
    start.images = images;
    let mut run = sampler.start(&model, start)?;
    for _ in 0..steps {
        run.step()?;
    }
    let notes = run.notes().into_iter().filter(|note| note.origin == Some("ImageGuidance")).collect();
    Ok((run.latent().shallow_clone(), notes))
}

fn latent_after(steps: usize, sampler: Sampler<'_>, images: usize, seed: u64) -> Result<Tensor> {
    Ok(noted_after(steps, sampler, images, seed)?.0)
}

fn noted(sampler: Sampler<'_>) -> Result<(Tensor, Vec<Note>)> {
    noted_after(6, sampler, 1, 7)
}

fn latent(sampler: Sampler<'_>) -> Result<Tensor> {
    latent_after(6, sampler, 1, 7)
}

/// A guidance method that keeps the contexts of all branches at some steps.
struct Contexts {
    steps: Vec<usize>,
    seen: BTreeMap<(&'static str, usize), Tensor>,
}

impl Contexts {
    fn at(steps: &[usize]) -> Self {
        Self { steps: steps.to_vec(), seen: BTreeMap::new() }
    }
    /// Returns the contexts of the given steps, as they are when a run begins.
    fn of(sampler: Sampler<'_>, steps: &[usize], prompt: &str) -> Result<Begun> {
        let (model, mut contexts) = (ToyModel::new(3)?, Self::at(steps));
        let run = sampler.attach(&mut contexts).start(&model, Start::new(prompt, GRID, Noise::seeded(7)))?;
        let (notes, reports, details) = (run.notes(), run.reports()?, run.into_details()?);
        Ok(Begun { seen: contexts.seen, notes, reports, details })
    }
}

/// The contexts of a run that has begun, and what its guidance methods say.
struct Begun {
    seen: BTreeMap<(&'static str, usize), Tensor>,
    notes: Vec<Note>,
    reports: Vec<Report>,
    details: Details,
}

impl Begun {
    fn guide(&self) -> Result<&ImageGuidanceReport> {
        self.details.get("ImageGuidance")
    }
}

impl GuidanceRun for Contexts {
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, _: &dyn Codec) -> Result<()> {
        for &step in &self.steps {
            self.seen.insert((branch.role, step), conditioning.at(step).context.copy());
        }
        Ok(())
    }
}

fn near(got: &Tensor, want: &Tensor, tolerance: f64) {
    let apart = (got - want).abs().max().double_value(&[]);
    assert!(apart <= tolerance, "{apart:e} apart");
}

#[test]
fn image_guidance_changes_only_the_prompt() -> Result<()> {
    let plain = latent(sampler())?;
    let off = ImageGuidance::new(&picture()).tune(|params| *params = GuidanceParams::off());
    let (same, notes) = noted(sampler().guide(off))?;
    assert_eq!(same, plain);
    assert!(notes[0].text.contains("moved nothing"), "{notes:?}");
    let (other, notes) = noted(sampler().guide(guide()))?;
    assert_ne!(other, plain);
    assert!(notes.is_empty());

    let model = ToyModel::new(3)?;
    let before = Contexts::of(sampler(), &[0], PROMPT)?;
    let after = Contexts::of(sampler().guide(guide()), &[0], PROMPT)?;
    assert_eq!(before.seen[&("uncond", 0)], after.seen[&("uncond", 0)]);
    let tokens = model.vision(&picture(), View::default())?.tokens;
    let (want, report) = tween(&model.text(PROMPT.into())?.context, &tokens, &half())?;
    assert_eq!(after.seen[&("cond", 0)], want);
    assert_eq!(after.guide()?.prompts, report.prompts);
    assert_eq!(after.guide()?.steps, Some((0, 6)));

    let both = Contexts::of(sampler().guide(guide().on_negative(true)), &[0], PROMPT)?;
    assert_eq!(both.seen[&("uncond", 0)], tween(&model.text("".into())?.context, &tokens, &half())?.0);
    Ok(())
}

#[test]
fn prompt_variation_is_guided_like_the_prompt() -> Result<()> {
    let difference = Differential::of("eyes", "pink");
    let contexts = Contexts::of(sampler().guide(difference).guide(guide()), &[0], PROMPT)?;
    let model = ToyModel::new(3)?;
    let tokens = model.vision(&picture(), View::default())?.tokens;
    let varied = tween(&model.text("girl with gold pink eyes".into())?.context, &tokens, &half())?.0;
    assert_eq!(contexts.seen[&("differential", 0)], varied);
    assert_eq!(contexts.guide()?.prompts.len(), 1);
    Ok(())
}

#[test]
fn a_prompt_of_a_region_is_not_guided() -> Result<()> {
    let model = ToyModel::new(3)?;
    for negative in [false, true] {
        let regions = RegionPrompts::default().add(Region::rect(0.0..0.5, 0.0..1.0), "a dog", 1.0);
        let guide = guide().on_negative(negative);
        let contexts = Contexts::of(sampler().guide(regions).guide(guide), &[0], PROMPT)?;
        assert_eq!(contexts.seen[&("region", 0)], model.text("a dog".into())?.context);
        assert_ne!(contexts.seen[&("cond", 0)], model.text(PROMPT.into())?.context);
        assert_eq!(contexts.seen[&("uncond", 0)] != model.text("".into())?.context, negative);
    }
    Ok(())
}

#[test]
fn a_region_may_be_guided_by_a_picture_of_its_own() -> Result<()> {
    let model = ToyModel::new(3)?;
    let region = RegionPrompt::new(Region::rect(0.0..0.5, 0.0..1.0), "a dog", 1.0).guided(guide());
    let contexts = Contexts::of(sampler().guide(RegionPrompts::default().region(region)), &[0], PROMPT)?;
    let tokens = model.vision(&picture(), View::default())?.tokens;
    assert_eq!(contexts.seen[&("region", 0)], tween(&model.text("a dog".into())?.context, &tokens, &half())?.0);
    assert_eq!(contexts.seen[&("cond", 0)], model.text(PROMPT.into())?.context, "the prompt is not guided");
    let report = &contexts.reports[0];
    assert!(report.data[0]["guide"]["prompts"][0]["tokens"].is_array(), "{}", report.data);
    Ok(())
}

#[test]
fn several_guides_act_one_after_another() -> Result<()> {
    let model = ToyModel::new(3)?;
    let second = ImageGuidance::text("a dog").tune(|params| *params = half());
    let chained = Contexts::of(sampler().guide(guide()).guide(second), &[0], PROMPT)?;
    let tokens = model.vision(&picture(), View::default())?.tokens;
    let once = tween(&model.text(PROMPT.into())?.context, &tokens, &half())?.0;
    let twice = tween(&once, &model.text("a dog".into())?.context, &half())?.0;
    assert_eq!(chained.seen[&("cond", 0)], twice);
    Ok(())
}

#[test]
fn windows_switch_guides_during_a_run() -> Result<()> {
    let plain = latent_after(3, sampler(), 1, 7)?;
    assert_eq!(latent_after(3, sampler().guide(guide().window(Window::progress(0.5..=1.0))), 1, 7)?, plain);
    assert_ne!(
        latent_after(4, sampler().guide(guide().window(Window::progress(0.5..=1.0))), 1, 7)?,
        latent_after(4, sampler(), 1, 7)?
    );
    let always = latent_after(3, sampler().guide(guide()), 1, 7)?;
    assert_eq!(latent_after(3, sampler().guide(guide().window(Window::progress(0.0..=0.5))), 1, 7)?, always);
    // Two guides in half of the steps each equal one guide in all steps. Keys and values follow the context.
    let halves =
        sampler().guide(guide().window(Window::progress(0.0..=0.5))).guide(guide().window(Window::progress(0.5..=1.0)));
    assert_eq!(latent(halves)?, latent(sampler().guide(guide()))?);
    assert_ne!(
        latent(sampler().guide(guide().window(Window::progress(0.0..=0.5))))?,
        latent(sampler().guide(guide()))?
    );

    // Each guide of a chain sees the context that the guides before it made at the same step.
    let late = guide().window(Window::progress(0.34..=0.84));
    let always = ImageGuidance::text("a dog").tune(|params| *params = half());
    let chained = Contexts::of(sampler().guide(late).guide(always.clone()), &[0, 2, 3, 4, 5], PROMPT)?;
    let alone = Contexts::of(sampler().guide(always.clone()), &[0], PROMPT)?;
    let both = Contexts::of(sampler().guide(guide()).guide(always), &[0], PROMPT)?;
    for (step, same) in [(0, &alone), (2, &alone), (3, &both), (4, &both), (5, &alone)] {
        assert_eq!(chained.seen[&("cond", step)], same.seen[&("cond", 0)], "step {step}");
    }
    let (never, notes) = noted(sampler().guide(guide().window(Window::progress(0.9..=1.0))))?;
    assert_eq!(never, latent(sampler())?);
    let said = "no step of this run is in the window (progress 0.9..=1)";
    assert!(notes[0].text.contains(said), "{notes:?}");
    Ok(())
}

#[test]
fn prompt_blend_reaches_the_other_prompt() -> Result<()> {
    let model = ToyModel::new(3)?;
    let other = "a dog in a garden";
    let contexts = Contexts::of(sampler().guide(PromptBlend::to(other)), &[0, 1, 5], PROMPT)?;
    let (a, b) = (model.text(PROMPT.into())?.context, model.text(other.into())?.context);
    assert_eq!((&contexts.seen[&("cond", 0)], &contexts.seen[&("cond", 5)]), (&a, &b));
    near(&contexts.seen[&("cond", 1)], &(&a + (&b - &a) * 0.2), 1e-6);
    assert_eq!(contexts.seen[&("uncond", 5)], model.text("".into())?.context);

    assert_eq!(latent(sampler().guide(PromptBlend::to(other).curve(|_| 0.0)))?, latent(sampler())?);
    let mut run = sampler().start(&model, Start::new(other, GRID, Noise::seeded(7)))?;
    assert_eq!(latent(sampler().guide(PromptBlend::to(other).curve(|_| 1.0)))?, *run.finish()?);
    // A window of one point changes the prompt at once, here halfway from the first step to the last.
    let sudden = PromptBlend::to(other).window(Window::progress(0.5..=0.5));
    let contexts = Contexts::of(sampler().guide(sudden), &[2, 3], PROMPT)?;
    assert_eq!((&contexts.seen[&("cond", 2)], &contexts.seen[&("cond", 3)]), (&a, &b));
    for (wrong, said) in [
        (PromptBlend::to(other).window(Window::progress(0.6..=0.5)), "window is progress 0.6..=0.5"),
        (PromptBlend::to(other).window(Window::progress(-0.1..=0.5)), "window is progress -0.1..=0.5"),
        (PromptBlend::to(other).curve(|_| f64::NAN), "curve is NaN"),
    ] {
        let error = latent(sampler().guide(wrong)).expect_err("refused").to_string();
        assert!(error.contains(said), "{error}");
    }
    Ok(())
}

/// A sampler with every guidance method that could interfere.
fn everything<'g>(guide: ImageGuidance) -> Sampler<'g> {
    let above = Region::new(Array2::from_shape_fn((8, 6), |(row, _)| 1.0 - row as f32 / 7.0));
    let seen = (Daam::of("eyes"), Differential::of("eyes", "pink"));
    let force = ColorForce::published("eyes", Rgb(255, 215, 0)).color_var(5.0).window(Window::WHOLE).saliency(seen);
    sampler().guide(guide).guide(PaintWithWords::default().mask(above, "eyes", 2.0)).guide(force).guide(Daam::words())
}

#[test]
fn image_guidance_with_others_keeps_images_apart() -> Result<()> {
    let (on, off) = (
        guide().window(Window::progress(0.0..=0.7)),
        ImageGuidance::new(&picture()).tune(|params| *params = GuidanceParams::off()),
    );
    let batch = latent_after(6, everything(on.clone()), 3, 7)?;
    assert_ne!(batch, latent_after(6, everything(off), 3, 7)?);
    for image in 0..3 {
        let alone = latent_after(6, everything(on.clone()), 1, 7 + image)?;
        assert_eq!(batch.narrow(0, image as i64, 1), alone, "image {image}");
    }
    // Each image has a guide of its own.
    let tokens = Noise::shared(9).draw(&[2, 5, 16])?;
    let each = latent_after(6, sampler().guide(ImageGuidance::tokens(&tokens).tune(|params| *params = half())), 2, 7)?;
    for image in 0..2 {
        let own = ImageGuidance::tokens(&tokens.get(image)).tune(|params| *params = half());
        assert_eq!(each.narrow(0, image, 1), latent_after(6, sampler().guide(own), 1, 7 + image as u64)?);
    }
    Ok(())
}

#[test]
fn direct_guide_and_concepts_replace_tokens() -> Result<()> {
    let model = ToyModel::new(3)?;
    let tokens = model.vision(&picture(), View::default())?.tokens;
    let empty = model.text("".into())?.context;
    let alone = Contexts::of(sampler().guide(ImageGuidance::direct(&picture())), &[0], "")?;
    let context = &alone.seen[&("cond", 0)];
    assert_eq!((context.narrow(1, 1, 4), context.narrow(1, 5, 5)), (tokens.narrow(1, 1, 4), empty.narrow(1, 5, 5)));
    let (class, header) = (tokens.select(1, 0), empty.select(1, 0));
    near(&context.select(1, 0), &(&class + (&header - &class) * 0.85), 1e-6);
    assert!(alone.guide().is_err());

    // Words of the toy model do not depend on their position, so a word has a similarity of 1 to itself.
    let concept = ImageGuidance::new(&picture()).tune(|params| *params = GuidanceParams::off()).concepts("gold", 0.9);
    let contexts = Contexts::of(sampler().guide(concept), &[0], PROMPT)?;
    let context = &contexts.seen[&("cond", 0)];
    let prompt = &contexts.guide()?.prompts[0];
    let &[hit] = prompt.concepts.as_slice() else { panic!("{:?}", prompt.concepts) };
    assert_eq!((hit.position, hit.concept, prompt.replaced.as_slice()), (3, 1, [3].as_slice()));
    assert_eq!(context.get(0).get(3), tokens.get(0).get(hit.alternate));
    assert_eq!(context.get(0).get(2), model.text(PROMPT.into())?.context.get(0).get(2));
    let said = |note: &&Note| note.origin == Some("ImageGuidance");
    let note = contexts.notes.iter().find(said).expect("it says what it replaced");
    assert!(note.text.contains("replaced tokens of \"gold\""), "{note}");
    Ok(())
}

#[test]
fn bad_settings_fail_before_the_first_step() -> Result<()> {
    let message = |prompt: &str, guide: ImageGuidance| -> Result<String> {
        let model = ToyModel::new(3)?;
        let mut start = Start::new(prompt, GRID, Noise::seeded(7));
        start.images = 2;
        Ok(sampler().guide(guide).start(&model, start).expect_err("refused").to_string())
    };
    let picture = picture();
    let new = || ImageGuidance::new(&picture);
    let rows = |n| Tensor::ones([n, 4, 16], (Kind::Float, Device::Cpu));
    for (prompt, guide, said) in [
        (" ", new(), "prompt is \" \"; expected at least one word; to use a picture alone, call ImageGuidance::direct"),
        ("", ImageGuidance::text("a dog"), "to use the guide's text alone, make the text the prompt"),
        (PROMPT, ImageGuidance::text(" "), "text is \" \"; expected a text of at least one word"),
        (PROMPT, new().tune(|params| params.threshold = (2.0, 0.5)), "threshold is 2"),
        (PROMPT, new().tune(|params| params.threshold = (0.5, 2.0)), "threshold floor is 2"),
        (PROMPT, new().tune(|params| params.clustered = f64::NAN), "clustered is NaN"),
        (PROMPT, new().tune(|params| params.linear = (-1.5, 0.0)), "linear start is -1.5"),
        (PROMPT, new().tune(|params| params.max_guidance = -0.5), "max_guidance is -0.5"),
        (PROMPT, new().tune(|params| params.header_max = 1.5), "header_max is 1.5"),
        (PROMPT, new().tune(|params| params.temperature = -1.0), "temperature is -1"),
        (PROMPT, new().pooled(2.0), "pooled is 2"),
        (PROMPT, new().window(Window::progress(0.0..=1.5)), "window is progress 0..=1.5; expected shares of the run"),
        (PROMPT, new().concepts("", 0.9), "concepts is \"\""),
        (PROMPT, new().concepts("eyes", 1.1), "accept is 1.1"),
        (PROMPT, ImageGuidance::text("a dog").concepts("eyes", 0.9), "no concepts with this guide"),
        (PROMPT, ImageGuidance::direct(&picture).concepts("eyes", 0.9), "no concepts with this guide"),
        (
            PROMPT,
            ImageGuidance::tokens(&rows(3)),
            "guide tokens has shape [3, 4, 16]; expected 1 row for all images, or 2",
        ),
        (PROMPT, ImageGuidance::tokens(&rows(1).narrow(2, 0, 9)), "[1, 4, 9]; expected a width of 16"),
        (
            PROMPT,
            ImageGuidance::tokens(&rows(1).reshape([-1])),
            "guide tokens has shape [64]; expected [tokens, width]",
        ),
        (PROMPT, ImageGuidance::tokens(&(rows(1) * 0.0)), "guide token is a vector of length 0 at position 0"),
        (PROMPT, new().tune(|params| params.space = Space::Joint), "space is Joint"),
    ] {
        let got = message(prompt, guide)?;
        assert!(got.contains(said) && got.contains("ImageGuidance: "), "{got}");
    }
    Ok(())
}

#[test]
fn long_prompts_are_guided_chunk_by_chunk() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let prompt = "1girl, red hair BREAK a blue shirt, green background";
    let mut line = GuidanceParams::off();
    line.linear = (0.0, 1.0);
    line.max_guidance = 1.0;
    line.snap = false;
    let guide = ImageGuidance::new(&picture()).tune(|params| *params = line);
    let output = pipeline.request(prompt).seed(1).steps(1).guide(guide).run()?;
    let tokens = &output.details::<ImageGuidanceReport>("ImageGuidance")?.prompts[0].tokens;
    assert_eq!(tokens.len(), 2 * 77);
    assert_eq!((tokens[0].share, tokens[77].alternate, tokens[77].similarity), (0.0, Some(0), 0.0));
    assert_eq!((tokens[76].weight, tokens[153].weight), (0.5, 1.0));
    assert_eq!(tokens[77].weight, 0.15, "each chunk has its own header");
    assert_eq!(tokens[78].weight, 77.0 / 152.0);
    Ok(())
}

#[test]
fn batching_keeps_prompts_of_different_lengths() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let latents = |batching| -> Result<Tensor> {
        let request = pipeline.request("a boat BREAK red sky BREAK green ground").negative("a red house");
        Ok(request.seed(1).steps(2).tune(|config| config.batching = batching).run()?.latents.shallow_clone())
    };
    let apart = (latents(Batching::Together)? - latents(Batching::OneByOne)?).abs().max().double_value(&[]);
    assert!(apart < 1e-4, "the negative prompt has the prompt's length in any batching: {apart}");
    Ok(())
}

#[test]
fn prompts_of_different_lengths_blend() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let (short, long) = ("a red house", "a boat BREAK red sky BREAK green ground");
    for (from, to) in [(short, long), (long, short)] {
        let mut contexts = Contexts::at(&[0, 2]);
        pipeline.request(from).seed(1).steps(3).guide(PromptBlend::to(to)).attach(&mut contexts).run()?;
        let model = pipeline.model();
        let [a, b] = [from, to].map(|text| model.text(text.into()).unwrap().context);
        let (first, last) = (&contexts.seen[&("cond", 0)], &contexts.seen[&("cond", 2)]);
        assert_eq!(*first, a, "{from}: the first step has the first prompt unchanged");
        assert_eq!(last.size(), [1, 3 * 77, 128]);
        assert_eq!(last.narrow(1, 0, b.size()[1]), b);
        // Three chunks may run in another kernel than one chunk, so headers are equal except for rounding.
        let apart = (a.get(0).get(0) - b.get(0).get(0)).abs().max().double_value(&[]);
        assert!(apart < 1e-5, "the header does not depend on the prompt: {apart}");
    }
    Ok(())
}

#[test]
fn the_embedded_model_is_guided_by_a_picture() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let seen = pipeline.model().vision(&picture(), View::default())?;
    assert_eq!((seen.tokens.size(), seen.columns.clone()), (vec![1, 1 + 64, 128], 0..128));
    assert_eq!(seen.text_projection.map(|projection| projection.size()), Some(vec![128, 128]));
    let padded = pipeline.model().vision(&picture(), View { crop: Crop::Pad, ..View::default() })?;
    assert_ne!(padded.tokens, seen.tokens);

    let prompt = "a house, ground, sky";
    let plain = pipeline.request(prompt).seed(3).steps(4).run()?;
    let guide = ImageGuidance::new(&picture()).tune(|params| params.space = Space::Joint);
    let guided = pipeline.request(prompt).seed(3).steps(4).guide(guide.clone()).run()?;
    assert_ne!(plain.image(0)?, guided.image(0)?);
    let report = &guided.reports[0];
    assert_eq!((report.name.as_str(), report.pictures.len()), ("ImageGuidance a picture of 40×60", 1));
    assert_eq!(report.data["report"]["prompts"][0]["tokens"].as_array().map(Vec::len), Some(77));
    assert_eq!(report.data["params"]["space"], "Joint");

    // Only tokens of words are replaced by the picture's tokens for a concept.
    let concept = ImageGuidance::new(&picture()).tune(|params| {
        *params = GuidanceParams::off();
        params.space = Space::Joint;
    });
    let output = pipeline.request(prompt).seed(3).steps(1).guide(concept.concepts("a house", 0.3)).run()?;
    let words = pipeline.model().prompt(prompt.into())?.content();
    let hits = &output.details::<ImageGuidanceReport>("ImageGuidance")?.prompts[0].concepts;
    assert!(!hits.is_empty(), "texts with the same beginning have the same first tokens, because attention is causal");
    assert!(hits.iter().all(|hit| (words[0].start..words[0].end).contains(&hit.position)), "{hits:?}");

    let half = Pipeline::builder().precision(Kind::BFloat16).build()?;
    let in_half = half.request(prompt).seed(3).steps(1).guide(guide).run()?;
    let similar = |output: &Output| -> Result<f64> {
        Ok(output.details::<ImageGuidanceReport>("ImageGuidance")?.prompts[0].mean_similarity)
    };
    assert!((similar(&in_half)? - similar(&guided)?).abs() < 0.05);

    let itself = ImageGuidance::text(prompt).tune(|params| {
        params.mapping = Mapping::Direct;
        params.max_guidance = 1.0;
        params.linear = (1.0, 1.0);
    });
    let same = pipeline.request(prompt).seed(3).steps(4).guide(itself).run()?;
    assert_eq!(plain.image(0)?, same.image(0)?);
    let error = pipeline.request(prompt).steps(1).guide(ImageGuidance::new(&Raster::flat(Rgb(0, 0, 0), (5, 0)))).run();
    let error = error.expect_err("no picture").to_string();
    assert!(error.contains("picture is 0×5; expected a picture with pixels"), "{error}");
    Ok(())
}

/// Copies a folder without the named parts.
fn copy(from: &Path, to: &Path, without: &[&str]) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        match entry.path() {
            _ if without.contains(&name.as_str()) => {}
            path if path.is_dir() => copy(&path, &to.join(name), without),
            path => drop(std::fs::copy(path, to.join(name)).unwrap()),
        }
    }
}

#[test]
fn image_encoder_can_come_from_another_folder() -> Result<()> {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model");
    let folder = tempfile::tempdir().unwrap();
    copy(&tiny, folder.path(), &["image_encoder", "feature_extractor"]);
    let error = Model::load(&Source::dir(folder.path()))?.vision(&picture(), View::default()).unwrap_err().to_string();
    assert!(error.contains("image_encoder") && error.contains("`LoadOptions::image_encoder`"), "{error}");

    let source = Source::dir(tiny.join("image_encoder"));
    let pipeline = Pipeline::builder()
        .source(Source::dir(folder.path()))
        .tune(|options| options.image_encoder = Some(source))
        .build()?;
    let seen = pipeline.model().vision(&picture(), View::default())?;
    let embedded = Model::load(&Source::embedded())?.vision(&picture(), View::default())?;
    assert_eq!(seen.tokens, embedded.tokens);
    assert!(embedded.text_projection.is_some());
    assert_eq!(
        seen.text_projection, embedded.text_projection,
        "the encoder's folder has no projection, but the model has one"
    );

    // A whole CLIP has both encoders and the projection of texts in one file.
    let whole = tempfile::tempdir().unwrap();
    let read = |part: &str| {
        let tensors = impasto::weights::read_safetensors(&tiny.join(part).join("model.safetensors"))?;
        let json = std::fs::read_to_string(tiny.join(part).join("config.json")).unwrap();
        Ok::<_, impasto::Error>((tensors, serde_json::from_str::<serde_json::Value>(&json).unwrap()))
    };
    let ((tower, mut config), (text, _)) = (read("image_encoder")?, read("text_encoder")?);
    config["architectures"] = serde_json::Value::Null;
    let config = serde_json::json!({ "architectures": ["CLIPModel"], "projection_dim": 128, "vision_config": config });
    std::fs::write(whole.path().join("config.json"), config.to_string()).unwrap();
    let all: Vec<(String, Tensor)> = tower.into_iter().chain(text).collect();
    Tensor::write_safetensors(&all, whole.path().join("model.safetensors"))?;
    let source = Source::dir(whole.path());
    let pipeline = Pipeline::builder()
        .source(Source::dir(folder.path()))
        .tune(|options| options.image_encoder = Some(source))
        .build()?;
    let again = pipeline.model().vision(&picture(), View::default())?;
    // Without a preprocessor's configuration, CLIP's usual preprocessing for an encoder of this size applies.
    assert_eq!(again.tokens, seen.tokens);
    assert_eq!(again.text_projection.map(|projection| projection.size()), Some(vec![128, 128]));

    let wide = tempfile::tempdir().unwrap();
    copy(&tiny.join("image_encoder"), wide.path(), &["model.safetensors"]);
    let config = wide.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap().replace("\"projection_dim\": 128", "\"projection_dim\": 96");
    std::fs::write(&config, text).unwrap();
    let w = impasto::weights::Weights::random(1, Kind::Float, Device::Cpu);
    let read = ClipVisionConfig::from_json("config.json", &std::fs::read_to_string(&config).unwrap())?;
    ClipVision::new(&w, &read)?;
    let tensors: Vec<(String, Tensor)> = w.drawn()?.into_iter().collect();
    Tensor::write_safetensors(&tensors, wide.path().join("model.safetensors"))?;
    let wide = Source::dir(wide.path());
    let pipeline = Pipeline::builder().tune(|options| options.image_encoder = Some(wide)).build()?;
    let error = pipeline.model().vision(&picture(), View::default()).unwrap_err().to_string();
    assert!(error.contains("projection_dim is 96; expected the width of the text encoder's states, [128]"), "{error}");
    Ok(())
}
