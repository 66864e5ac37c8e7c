//! Laws of exact color forcing, on a toy model and on the embedded model.

use impasto::attention::{AttentionSite, CrossAttentionHook, Interest};
use impasto::diffusion::solver::EulerAncestral;
use impasto::diffusion::{Noise, Schedule, Spacing, TrainingSchedule};
use impasto::guidance::{Details, Guidance, GuidanceRun, Plan, Setup};
use impasto::mask::Region;
use impasto::methods::ColorForce;
use impasto::methods::color_force::{
    ColorReport, ColorStat, ColorWarning, Cutoff, Feedback, ForceRun, ForceTarget, ProtectMode, Texture,
};
use impasto::pipeline::Request;
use impasto::saliency::{Daam, DaamRun, Differential, Occurrence, Recorded, Refine, SaliencyRun, Spread, SpreadRun};
use impasto::sampler::{Batching, Sampler, Start};
use impasto::testing::ToyModel;
use impasto::{Branch, Error, Grid, Output, Pipeline, Raster, Result, Rgb, Step, Window};
use ndarray::Array2;
use tch::{Device, Kind, Tensor};

const PROMPT: &str = "shirt, gold eyes, hair";
const GRID: Grid = Grid::new(8, 6);
const GOLD: Rgb = Rgb(255, 215, 0);

fn sampler<'g>() -> Sampler<'g> {
    steps(6)
}

fn steps<'g>(count: usize) -> Sampler<'g> {
    let schedule =
        Schedule::new(&TrainingSchedule::stable_diffusion(), count, Spacing::Karras).expect("steps in range");
    Sampler::new(schedule, EulerAncestral::default())
}

/// A start of `images` images.
fn several(images: usize, grid: Grid, seed: u64) -> Start<'static> {
    let mut start = Start::new(PROMPT, grid, Noise::seeded(seed));
    start.images = images;
    start
}

/// The finished latent of `images` images, and what the guidance methods found.
fn finished(sampler: Sampler<'_>, images: usize, seed: u64) -> Result<(Tensor, Details)> {
    let model = ToyModel::new(3)?;
    let mut run = sampler.start(&model, several(images, GRID, seed))?;
    let _ = run.decode()?;
    Ok((run.latent().copy(), run.into_details()?))
}

/// The finished latent of `images` images.
fn latents(sampler: Sampler<'_>, images: usize, seed: u64) -> Result<Tensor> {
    Ok(finished(sampler, images, seed)?.0)
}

/// The findings of a run's guidance methods.
fn details(sampler: Sampler<'_>, images: usize, seed: u64) -> Result<Details> {
    Ok(finished(sampler, images, seed)?.1)
}

fn exact() -> ColorForce {
    ColorForce::exact("eyes", GOLD).window(Window::WHOLE)
}

/// A region that is 1 in the rows that `inside` accepts and 0 elsewhere.
fn rows(inside: impl Fn(usize) -> bool) -> Region {
    Region::new(Array2::from_shape_fn((8, 6), |(row, _)| if inside(row) { 1.0 } else { 0.0 }))
}

#[test]
fn second_pass_repeats_the_noise_under_one_map() -> Result<()> {
    /// A guidance method that writes down its calls.
    #[derive(Default)]
    struct Diary(Vec<String>);
    impl GuidanceRun for Diary {
        fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
            self.0.push(format!("begin {}", setup.first_pass));
            Ok(())
        }
        fn plan(&mut self, step: &Step, _: &mut Plan) -> Result<()> {
            self.0.push(format!("{}", step.index));
            Ok(())
        }
        fn finish(&mut self, _: &mut Tensor, _: &dyn impasto::Codec) -> Result<()> {
            self.0.push("finish".into());
            Ok(())
        }
    }
    let (mut diary, force) = (Diary::default(), exact());
    let (forced, found) = finished(sampler().guide(force.clone()).attach(&mut diary), 1, 7)?;
    assert_eq!(diary.0.join(" "), "begin true 0 1 2 3 4 5 begin false 0 1 2 3 4 5 finish");
    let maps = found.get::<ForceRun>("eyes")?.saliency_maps()?;
    for step in 1..maps.size()[0] {
        assert_eq!(maps.select(0, step), maps.select(0, 0), "one map for all steps");
    }
    // A second pass without strength equals the first pass.
    let weak = exact().color_var(1e30).tune(|options| (options.trim, options.redraw) = (0, None));
    assert_eq!(latents(sampler().guide(weak), 1, 7)?, latents(sampler(), 1, 7)?);
    assert_eq!(latents(sampler().guide(force), 1, 7)?, forced, "the same force gives the same picture again");
    Ok(())
}

#[test]
fn first_pass_ends_at_the_lowest_asked_timestep() -> Result<()> {
    struct Count(usize);
    impl CrossAttentionHook for Count {
        fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
            if site.index == 1 && branch == Branch::Cond { Interest::PROBS } else { Interest::NONE }
        }
        fn probs(&mut self, _: &impasto::attention::At, _: &impasto::attention::Probs) -> Result<()> {
            self.0 += 1;
            Ok(())
        }
    }
    let steps: Vec<Step> = Schedule::new(&TrainingSchedule::stable_diffusion(), 6, Spacing::Karras)?.steps().collect();
    for (until, first_steps) in [(steps[2].timestep, 3), (steps[4].timestep, 5), (0.0, 6)] {
        let mut count = Count(0);
        let _ =
            latents(sampler().guide(exact().tune(|options| options.first_pass = Some(until))).hook(&mut count), 1, 7)?;
        assert_eq!(count.0, first_steps + 6, "until {until}");
    }
    // The force that asks for the longest first pass decides.
    let mut count = Count(0);
    let both = sampler()
        .guide(exact().tune(|options| options.first_pass = Some(steps[4].timestep)))
        .guide(exact().tune(|options| options.first_pass = Some(steps[2].timestep)));
    let _ = latents(both.hook(&mut count), 1, 7)?;
    assert_eq!(count.0, 5 + 6);
    Ok(())
}

#[test]
fn recorded_maps_repeat_the_picture_from_a_file() -> Result<()> {
    let (forced, found) = finished(sampler().guide(exact()), 2, 7)?;
    let file = tempfile::tempdir().expect("a folder");
    let path = file.path().join("maps.safetensors");
    found.get::<ForceRun>("eyes")?.recorded()?.save(&path)?;
    let replayed = exact().replay(Recorded::load(&path)?);
    assert_eq!(latents(sampler().guide(replayed), 2, 7)?, forced);
    // A force without a first pass replays its maps step by step.
    let live = || ColorForce::published("eyes", GOLD).window(Window::WHOLE);
    let (forced, found) = finished(sampler().guide(live()), 2, 7)?;
    let once = found.get::<ForceRun>("eyes")?;
    assert_eq!(latents(sampler().guide(live().replay(once.recorded()?)), 2, 7)?, forced);
    // Recorded maps are resized to another size. Maps of another number of images are refused.
    let model = ToyModel::new(3)?;
    let larger = several(2, Grid::new(16, 12), 7);
    let mut run = sampler().guide(live().replay(once.recorded()?)).start(&model, larger)?;
    let _ = run.finish()?;
    let replayed = run.into_details()?;
    let resized = once.saliency_maps()?.upsample_bilinear2d([16, 12], false, None, None);
    assert!(apart(&replayed.get::<ForceRun>("eyes")?.saliency_maps()?, &resized) < 1e-6);
    let other = several(3, GRID, 7);
    let error = sampler().guide(live().replay(once.recorded()?)).start(&model, other).err();
    let message = error.expect("another number of images").to_string();
    assert!(message.contains("recorded maps") && message.contains("[timesteps, 1 or 3, h, w]"), "{message}");
    let for_all = Recorded::new(vec![601.0], Tensor::zeros([1, 1, 8, 6], (Kind::Float, Device::Cpu)), 1.0)?;
    for images in [2, 3, 1] {
        let _ = latents(sampler().guide(for_all.clone()), images, 7)?; // one map serves any number of images
    }
    assert!(Recorded::new(vec![1.0], Tensor::zeros([2, 1, 8, 6], (Kind::Float, Device::Cpu)), 1.0).is_err());
    Ok(())
}

#[test]
fn protected_cells_keep_their_bits() -> Result<()> {
    let step = |force: Option<ColorForce>| -> Result<Tensor> {
        let model = ToyModel::new(3)?;
        let sampler = force.into_iter().fold(sampler(), Sampler::guide);
        let mut run = sampler.start(&model, Start::new(PROMPT, GRID, Noise::seeded(7)))?;
        run.step()?;
        Ok(run.latent().copy())
    };
    let everywhere = || ColorForce::published("eyes", GOLD).saliency(rows(|_| true)).window(Window::WHOLE);
    let protect = |force: ColorForce| force.protect_where("below", rows(|row| row >= 4), 0.5);
    let plain = step(None)?;
    let part = |x: &Tensor, from: i64, count: i64| x.narrow(2, from, count).copy();
    let spared = step(Some(protect(everywhere()).tune(|options| options.protect_grow = 0)))?;
    assert_eq!(part(&spared, 4, 4), part(&plain, 4, 4));
    assert_ne!(part(&spared, 3, 1), part(&plain, 3, 1));
    let grown = step(Some(protect(everywhere()).tune(|options| options.protect_grow = 2)))?;
    assert_eq!(part(&grown, 2, 6), part(&plain, 2, 6));
    assert_ne!(part(&grown, 1, 1), part(&plain, 1, 1));
    // The force's saliency is larger than one half, so the force wins its cells, unless protection is `Always`.
    let half = || Region::new(Array2::from_elem((8, 6), 0.5));
    let unsure = |mode| {
        everywhere().protect_where("all", half(), 0.4).tune(|options| {
            options.protect_mode = mode;
            options.protect_grow = 0;
        })
    };
    assert_eq!(step(Some(unsure(ProtectMode::Compete)))?, step(Some(everywhere()))?);
    assert_eq!(step(Some(unsure(ProtectMode::Always)))?, plain);
    let mostly = details(sampler().guide(unsure(ProtectMode::Always)), 1, 7)?;
    assert!(mostly.get::<ColorReport>("eyes")?.warnings.contains(&ColorWarning::MostlyProtected));
    Ok(())
}

#[test]
fn words_are_protected_in_both_passes() -> Result<()> {
    let force = exact().saliency_cutoff(0.0).protect("hair").tune(|options| options.protect_grow = 0);
    let (forced, read) = finished(sampler().guide(force), 1, 7)?;
    let found = |phrase: &str, other: &str| {
        map_of(Daam::competing(phrase).tune(|options| {
            options.against = vec![other.into()];
            options.changes = ["red", "green", "blue"].map(|word| Differential::of(phrase, word)).into();
        }))
    };
    let (hair, eyes) = (found("hair", "eyes")?, found("eyes", "hair")?);
    let masks = read.get::<ForceRun>("eyes")?.masks()?;
    // Nothing is forced in cells where hair is found, and more clearly than the eyes.
    let hair = hair.ge(0.5).logical_and(&hair.ge_tensor(&eyes)).to_kind(Kind::Float).squeeze_dim(1);
    assert!(hair.sum(Kind::Double).double_value(&[]) > 0.0);
    for step in 0..masks.size()[0] {
        assert_eq!((masks.select(0, step) * &hair).sum(Kind::Double).double_value(&[]), 0.0);
    }
    assert!(apart(&forced, &latents(sampler(), 1, 7)?) > 1e-3);
    Ok(())
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

/// Returns the map of `look` after a whole run without forces.
fn map_of(look: Daam) -> Result<Tensor> {
    let phrase = look.label();
    let found = details(sampler().guide(look), 1, 7)?;
    Ok(found.get::<DaamRun>(&phrase)?.map()?.expect("there was a run"))
}

#[test]
fn competing_phrases_share_no_cell() -> Result<()> {
    let things = ["shirt", "eyes", "hair"];
    let mut claims = Tensor::zeros([1, 1, 8, 6], (Kind::Float, Device::Cpu));
    for thing in things {
        let look = Daam::competing(thing).tune(|options| options.among = things.into_iter().map(Into::into).collect());
        claims += map_of(look)?.ge(0.5).to_kind(Kind::Float);
    }
    assert_eq!(claims.max().double_value(&[]), 1.0, "each cell belongs to one thing at most");
    let among = |others: &[&str]| -> Result<Tensor> {
        map_of(Daam::of("eyes").tune(|options| {
            options.refine = Refine::contrast();
            options.among = others.iter().copied().map(Into::into).collect();
        }))
    };
    assert!(apart(&among(&["hair"])?, &among(&["hair", "shirt"])?) > 1e-3);
    assert!(
        latents(
            sampler().guide(Daam::of("eyes").tune(|options| {
                options.refine = Refine::contrast();
                options.among = vec!["ears".into()];
            })),
            1,
            7
        )
        .is_err()
    );
    Ok(())
}

#[test]
fn batched_image_equals_the_image_alone() -> Result<()> {
    let force = || {
        exact()
            .tune(|options| options.feedback = Some(Feedback::default()))
            .saliency_cutoff(Cutoff::Auto)
            .protect("hair")
    };
    let run = |images, seed| latents(sampler().batching(Batching::OneByOne).guide(force()), images, seed);
    let all = run(3, 7)?;
    for image in 0..3 {
        assert_eq!(all.narrow(0, image as i64, 1), run(1, 7 + image)?, "image {image}");
    }
    let together = latents(sampler().guide(force()), 3, 7)?;
    assert!(apart(&together, &all) < 1e-2, "{}", apart(&together, &all));
    Ok(())
}

#[test]
fn feedback_keeps_limits_and_trim_never_gets_worse() -> Result<()> {
    let region = || rows(|row| row < 4);
    let force = |force: ColorForce| {
        force.saliency(region()).window(Window::WHOLE).tune(|options| {
            options.texture = Texture::MaskedMean;
            options.target = ForceTarget::SignalOnly;
        })
    };
    let closed =
        force(ColorForce::published("above", GOLD)).tune(|options| options.feedback = Some(Feedback::default()));
    let closed = details(steps(28).guide(closed), 2, 7)?;
    let forced = &closed.get::<ColorReport>("above")?.steps;
    let [first, last] = [forced.first(), forced.last()].map(|step| step.expect("forced").color_var);
    assert_eq!(
        (first, last),
        (40.0, Feedback::default().limits.0),
        "the variance falls to its limit, because this model never reaches the color"
    );
    let flat = force(ColorForce::published("above", GOLD)).tune(|options| {
        options.texture = Texture::Off;
        options.feedback = Some(Feedback::default());
    });
    let flat = details(steps(28).guide(flat), 2, 7)?;
    assert_eq!(
        flat.get::<ColorReport>("above")?.steps.last().expect("forced").color_var,
        15.0,
        "without texture the variance stays at 15 or above, because smaller values give solid blocks"
    );
    let trimmed = force(ColorForce::published("above", GOLD)).color_var(1000.0).tune(|options| {
        options.trim = 3;
        options.stat = ColorStat::Median;
    });
    let found = details(sampler().guide(trimmed), 2, 7)?;
    let report = found.get::<ColorReport>("above")?;
    assert_eq!(report.trimmed.len(), 2);
    for (trimmed, painted) in report.trimmed.iter().zip(&report.painted) {
        assert!(trimmed.after <= trimmed.before, "{trimmed:?}");
        assert!((trimmed.after - painted.delta_e).abs() < 1e-3, "the reported distance is the painted distance");
    }
    let converged = report
        .painted
        .iter()
        .all(|painted| painted.delta_e <= 2.0 && painted.mean_delta_e <= 5.0 && painted.coverage >= 0.6);
    let noted = report
        .warnings
        .iter()
        .any(|warning| matches!(warning, ColorWarning::NotConverged { .. } | ColorWarning::Uneven { .. }));
    assert_eq!((report.converged, noted), (converged, !converged));
    Ok(())
}

#[test]
fn bad_settings_say_what_is_expected() {
    let force = || ColorForce::published("eyes", GOLD);
    let feedback = Feedback::default();
    let rows = [
        (force().saliency_cutoff(f64::NAN), "saliency_cutoff"),
        (force().tune(|options| options.texture = Texture::LowPass(0.0)), "texture.LowPass"),
        (force().tune(|options| options.texture = Texture::Local(0.0)), "texture.Local"),
        (force().tune(|options| options.texture = Texture::Local(f64::NAN)), "texture.Local"),
        (force().tune(|options| options.stat = ColorStat::Trimmed(0.5)), "stat.Trimmed"),
        (force().tune(|options| options.first_pass = Some(1000.0)), "first_pass"),
        (force().tune(|options| options.first_pass = Some(f64::NAN)), "first_pass"),
        (force().tune(|options| options.redraw = Some(-1.0)), "redraw"),
        (force().tune(|options| options.trim = 11), "trim"),
        (force().protect("Eyes"), "a phrase other than the forced phrase"),
        (force().protect("hair").tune(|options| options.protect_grow = -1), "protect_grow"),
        (force().protect_where("hair", Region::new(Array2::zeros((8, 6))), -1.0), "saliency_cutoff"),
        (force().tune(|options| options.feedback = Some(Feedback { goal: 21.0, ..feedback })), "feedback.goal"),
        (force().tune(|options| options.feedback = Some(Feedback { span: 0.0, ..feedback })), "feedback.span"),
        (force().tune(|options| options.feedback = Some(Feedback { gain: 2.5, ..feedback })), "feedback.gain"),
        (force().tune(|options| options.feedback = Some(Feedback { relax: -0.1, ..feedback })), "feedback.relax"),
        (
            force().tune(|options| options.feedback = Some(Feedback { limits: (0.0, 1.0), ..feedback })),
            "feedback.limits",
        ),
        (
            force().saliency(Daam::of("eyes").tune(|options| options.refine = Refine::SelfAttention { power: 9 })),
            "refine.power",
        ),
        (
            force().saliency(
                Daam::of("eyes").tune(|options| options.refine = Refine::Contrast { beta: f64::NAN, power: 2 }),
            ),
            "refine.beta",
        ),
    ];
    for (force, expected) in rows {
        let message = latents(sampler().guide(force), 1, 7).expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
    }
    let message = latents(sampler().guide(exact().protect("ears")), 1, 7).expect_err("not there").to_string();
    assert!(message.contains("\"ears\" is not in the prompt"), "{message}");
}

/// A guidance method that asks for a first pass and does nothing else.
struct FirstPassOnly;

impl Guidance for FirstPassOnly {
    fn first_pass(&self) -> Option<f64> {
        Some(0.0)
    }
    fn begin(&self, _: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        Ok(Box::new(Self))
    }
}

impl GuidanceRun for FirstPassOnly {}

#[test]
fn one_pass_force_ignores_first_pass_of_others() -> Result<()> {
    let before = details(sampler().guide(exact()), 1, 7)?;
    let recorded = || before.get::<ForceRun>("eyes")?.recorded();
    let one_pass = || ColorForce::published("eyes", GOLD).window(Window::WHOLE);
    assert_eq!(
        latents(sampler().guide(one_pass()).guide(FirstPassOnly), 1, 7)?,
        latents(sampler().guide(one_pass()), 1, 7)?
    );
    assert_eq!(
        latents(sampler().guide(one_pass().replay(recorded()?)).guide(FirstPassOnly), 1, 7)?,
        latents(sampler().guide(one_pass().replay(recorded()?)), 1, 7)?
    );
    Ok(())
}

#[test]
fn first_pass_before_the_window_still_makes_a_map() -> Result<()> {
    let late = |until| {
        ColorForce::published("eyes", GOLD)
            .tune(|options| options.first_pass = Some(until))
            .window(Window::timesteps(0.0..=300.0))
    };
    let found = details(sampler().guide(late(600.0)), 1, 7)?;
    let maps = found.get::<ForceRun>("eyes")?.saliency_maps()?;
    assert!(maps.size()[0] > 1, "{maps:?}");
    assert_eq!(maps.select(0, 0), maps.select(0, 1), "one map for all steps");
    // A differential saliency reads another prompt too, whose branch must have been evaluated.
    let other = late(600.0).saliency(impasto::saliency::Differential::of("eyes", "pink"));
    let found = details(sampler().guide(other), 1, 7)?;
    let maps = found.get::<ForceRun>("eyes")?.saliency_maps()?;
    assert_eq!(maps.select(0, 0), maps.select(0, 1));
    Ok(())
}

#[test]
fn feedback_begins_within_its_limits() -> Result<()> {
    let force = ColorForce::published("eyes", GOLD)
        .color_var(2.0)
        .tune(|options| options.feedback = Some(Feedback::default()))
        .window(Window::WHOLE);
    let found = details(sampler().guide(force), 1, 7)?;
    let forced = &found.get::<ColorReport>("eyes")?.steps;
    assert!(forced.iter().all(|step| step.color_var >= 15.0), "{forced:?}");
    Ok(())
}

#[test]
fn competition_ignores_the_maps_choice_of_sites() -> Result<()> {
    let pipeline = impasto::Pipeline::builder().build()?;
    let ahead = |coarse: bool| -> Result<Tensor> {
        let look = Daam::of("eyes").tune(|options| options.refine = Refine::contrast());
        let look = if coarse { look.sites(|site| site.halvings > 0) } else { look };
        let output = pipeline.request("1girl, eyes, hair, shirt").seed(7).steps(2).guide(look).run()?;
        Ok(output.details::<DaamRun>("eyes")?.map()?.expect("there was a run"))
    };
    assert_eq!(ahead(true)?, ahead(false)?);
    Ok(())
}

#[test]
fn equal_words_are_told_apart_by_occurrence() -> Result<()> {
    let model = ToyModel::new(3)?;
    let map = |prompt: &str, occurrence: Occurrence, phrase: &str| -> Result<Tensor> {
        let look = Daam::of(phrase).tune(|options| {
            options.refine = Refine::contrast();
            options.occurrence = occurrence;
        });
        let mut run = sampler().guide(look).start(&model, Start::new(prompt, GRID, Noise::seeded(7)))?;
        let _ = run.finish()?;
        Ok(run.into_details()?.get::<DaamRun>(phrase)?.map()?.expect("there was a run"))
    };
    let hat = |n: usize| map("a hat, a hat", Occurrence::Nth(n), "hat");
    let (first, second) = (hat(0)?, hat(1)?);
    assert!(apart(&first, &second) > 1e-3);
    let claims = |map: &Tensor| map.gt(0.5).to_kind(Kind::Float);
    assert_eq!((claims(&first) * claims(&second)).max().double_value(&[]), 0.0, "they compete with each other");
    // Every place of the word counts, in other phrases too: the "hair" of "hair bow" is occurrence 0.
    let prompt = "1girl, hair bow, hair";
    let second = map(prompt, Occurrence::Nth(1), "hair")?;
    assert_eq!(map(prompt, Occurrence::Within { start: 16, end: 21 }, "hair")?, second);
    Ok(())
}

/// Tests the attention grids of SDXL at 1280×1024 and 1536×1024 pixels, and a grid that needs no pooling.
#[test]
fn competition_works_above_a_megapixel() -> Result<()> {
    let model = ToyModel::new(3)?;
    for grid in [Grid::new(32, 40), Grid::new(32, 48), Grid::new(32, 32)] {
        let start = Start::new(PROMPT, grid, Noise::seeded(7));
        let mut run = steps(2).guide(Daam::competing("eyes")).start(&model, start)?;
        let _ = run.finish()?;
        let map = run.into_details()?.get::<DaamRun>("eyes")?.map()?.expect("there was a run");
        assert_eq!(map.size(), [1, 1, grid.h, grid.w]);
        let (low, high) = (map.min().double_value(&[]), map.max().double_value(&[]));
        assert!(0.0 < low && low < 0.5 && 0.5 < high && high < 1.0, "{grid:?}: {low}..{high}");
    }
    Ok(())
}

#[test]
fn short_runs_are_forced_at_the_last_step() -> Result<()> {
    for count in [1, 2, 4] {
        let found = details(steps(count).guide(exact()), 1, 7)?;
        let report = found.get::<ColorReport>("eyes")?;
        assert!(report.steps.last().is_some_and(|step| step.index + 1 == count), "{count}: {:?}", report.steps);
        assert!(!report.painted.is_empty(), "{count}: {:?}", report.warnings);
    }
    // The window decides if `last_step` is off, and the window may have no step.
    let late = exact().tune(|options| options.last_step = false).window(Window::timesteps(0.0..=250.0));
    let found = details(steps(1).guide(late), 1, 7)?;
    let late = found.get::<ColorReport>("eyes")?;
    assert!(late.steps.is_empty());
    assert!(late.warnings.iter().any(|warning| matches!(warning, ColorWarning::NeverActive { .. })));
    let last = exact().window(Window::timesteps(0.0..=250.0));
    let found = details(steps(1).guide(last), 1, 7)?;
    assert_eq!(found.get::<ColorReport>("eyes")?.steps.len(), 1);
    Ok(())
}

#[test]
fn exact_force_reports_its_competitors() -> Result<()> {
    let told = |report: &ColorReport| -> (Vec<String>, Vec<String>) {
        let first = report.competitions.first().expect("of the image").clone();
        (first.rivals, first.joined.into_iter().map(|(word, _)| word).collect())
    };
    let competed = |force: ColorForce| -> Result<(Vec<String>, Vec<String>)> {
        Ok(told(details(sampler().guide(force), 1, 7)?.get("eyes")?))
    };
    let (rivals, joined) = competed(exact())?;
    let mut all: Vec<String> = rivals.into_iter().chain(joined).collect();
    all.sort();
    assert_eq!(all, ["gold", "hair", "shirt"], "every other word is a candidate");
    let (rivals, joined) = competed(exact().among(["hair"]))?;
    assert_eq!([rivals, joined].concat(), ["hair"]);
    let (rivals, joined) = competed(exact().except(["hair"]))?;
    assert!(!rivals.contains(&"hair".to_owned()), "{rivals:?}");
    assert!(joined.contains(&"hair".to_owned()), "the report lists a word that is left out: {joined:?}");
    // A word that would always be told from the phrase can be left out, too.
    let bow = |force: ColorForce| -> Result<(Vec<String>, Vec<String>)> {
        let pipeline = Pipeline::builder().build()?;
        Ok(told(pipeline.request("1girl, hair, hair bow").seed(7).steps(4).guide(force).run()?.details("hair")?))
    };
    let hair = || ColorForce::exact("hair", GOLD);
    assert!(bow(hair())?.0.contains(&"bow".to_owned()));
    let (rivals, joined) = bow(hair().except(["hair bow"]))?;
    assert!(!rivals.contains(&"bow".to_owned()) && joined.contains(&"bow".to_owned()), "{rivals:?} {joined:?}");
    // Of two settings for the place, the later one counts.
    let (rivals, joined) = competed(exact().saliency(rows(|row| row < 4)).among(["hair"]))?;
    assert_eq!([rivals, joined].concat(), ["hair"]);
    Ok(())
}

#[test]
fn alternative_saliency_is_the_sum_of_both() -> Result<()> {
    let force = || ColorForce::published("eyes", GOLD).window(Window::WHOLE).saliency_cutoff(0.3);
    let by_hand = force().saliency((Daam::of("eyes"), impasto::saliency::Differential::of("eyes", "pink")));
    assert_eq!(
        latents(sampler().guide(force().alternative_saliency("pink")), 1, 7)?,
        latents(sampler().guide(by_hand), 1, 7)?
    );
    Ok(())
}

#[test]
fn spread_regions_share_no_cell_and_keep_their_own() -> Result<()> {
    // Both regions lie side by side in the hair of a portrait, so that they spread over the same things.
    let drawn = || [Region::rect(0.35..0.45, 0.2..0.26), Region::rect(0.55..0.65, 0.2..0.26)];
    let pipeline = Pipeline::builder().build()?;
    // Both spreads act in a run, which gives the map of the first.
    let map = |compete: bool, first: usize| -> Result<Tensor> {
        let spread = |own: usize| {
            let [region, rival] = [own, 1 - own].map(|at| drawn()[at].clone());
            if compete { Spread::of(region).among([rival]) } else { Spread::of(region) }
        };
        let request = pipeline.request("1girl, hair").seed(7).steps(4);
        let output = request.guide(spread(first)).guide(spread(1 - first)).run()?;
        Ok(output.details::<SpreadRun>("Spread")?.map()?.expect("a map"))
    };
    let maps = |compete| -> Result<[Tensor; 2]> { Ok([map(compete, 0)?, map(compete, 1)?]) };
    let (apart, alone) = (maps(true)?, maps(false)?);
    // Cells that both regions reach equally, such as cells of the greatest value, belong to both.
    let unequal = alone[0].ne_tensor(&alone[1]);
    let shared = |[a, b]: &[Tensor; 2]| a.minimum(b).gt(0.35).logical_and(&unequal).sum(Kind::Int64).int64_value(&[]);
    assert!(shared(&alone) > 0, "without competition the regions overlap");
    assert_eq!(shared(&apart), 0);
    for (kept, region) in apart.iter().zip([(11, 14), (17, 20)]) {
        assert!(kept.slice(2, 7, 8, 1).slice(3, region.0 + 1, region.1, 1).min().double_value(&[]) > 0.9);
    }
    Ok(())
}

#[test]
fn exact_eyes_keep_pupils_and_rims() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let paint = |material: Option<bool>| -> Result<Raster> {
        let request =
            pipeline.request("1girl, background, hair, eyes, bob, hair bow, skin, shirt").seed(5_953_227_544).steps(28);
        let force = |material| ColorForce::exact("eyes", Rgb(255, 248, 220)).tune(|o| o.material = material);
        Ok(material
            .map(force)
            .into_iter()
            .fold(request, |request, force| request.guide(force))
            .run()?
            .image(0)?
            .clone())
    };
    // Dark pixels around the eyes: pupils, rims and lashes.
    let dark = |raster: &Raster| -> Vec<bool> {
        let pixels = (100..160).flat_map(|y| (90..180).map(move |x| (x, y)));
        pixels.map(|(x, y)| raster.pixel(x, y).is_some_and(|color| color.lab().l < 30.0)).collect()
    };
    let before = dark(&paint(None)?);
    let kept = |after: Vec<bool>| {
        let kept = before.iter().zip(after).filter(|(before, after)| **before && *after).count();
        kept as f64 / before.iter().filter(|dark| **dark).count() as f64
    };
    let (whole, material) = (kept(dark(&paint(Some(false))?)), kept(dark(&paint(Some(true))?)));
    assert!(
        material > 0.6 && material > 1.5 * whole,
        "{material} of the dark pixels stay, and {whole} without the rule"
    );
    Ok(())
}

/// A portrait with nearly black eyes.
fn dark_request(pipeline: &Pipeline) -> Request<'_> {
    pipeline.request("1girl, eyes").seed(5_587_400_541).steps(28).solver_named("Euler a")
}

fn olive_eyes() -> ColorForce {
    ColorForce::exact("eyes", Rgb(107, 142, 35))
}

/// The portrait with nearly black eyes, under a force.
fn dark_eyes(pipeline: &Pipeline, force: ColorForce) -> Result<Output> {
    dark_request(pipeline).guide(force).run()
}

#[test]
fn dark_eyes_are_redrawn_with_pupils() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    // Pixels as dark as a pupil, in the eye that has fewer of them.
    let pupil = |raster: &Raster| {
        let dark = |columns: std::ops::Range<u32>| {
            let pixels = (110..155).flat_map(|y| columns.clone().map(move |x| (x, y)));
            pixels.filter(|(x, y)| raster.pixel(*x, *y).is_some_and(|color| color.lab().l < 15.0)).count()
        };
        dark(85..130).min(dark(145..190))
    };
    let with = dark_eyes(&pipeline, olive_eyes())?;
    let without = dark_eyes(&pipeline, olive_eyes().tune(|options| options.redraw = None))?;
    let (pupils, smeared) = (pupil(with.image(0)?), pupil(without.image(0)?));
    assert!(pupils > 60 && pupils > 2 * smeared, "{pupils} pixels of a pupil, and {smeared} without redrawing");
    let report = with.details::<ColorReport>("eyes")?;
    assert!(report.painted[0].redrawn && report.converged, "{:?}", report.painted);
    assert!(!without.details::<ColorReport>("eyes")?.painted[0].redrawn);

    let plain = dark_request(&pipeline).run()?.latents;
    let changed = (&with.latents - plain).abs().amax([1i64].as_slice(), false).squeeze().gt(1e-4).to_kind(Kind::Float);
    let all = changed.sum(Kind::Double).double_value(&[]);
    let eyes = changed.slice(0, 12, 21, 1).slice(1, 9, 25, 1).sum(Kind::Double).double_value(&[]);
    assert!(all > 20.0 && eyes == all, "{eyes} of {all} changed cells are at the eyes");
    Ok(())
}

#[test]
fn redrawing_is_repeated_from_recorded_maps() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let first = dark_eyes(&pipeline, olive_eyes())?;
    let recorded = || first.details::<ForceRun>("eyes")?.recorded();
    let again = dark_eyes(&pipeline, olive_eyes().replay(recorded()?))?;
    assert_eq!(again.latents, first.latents);
    assert!(again.details::<ColorReport>("eyes")?.painted[0].redrawn);
    // The maps say nothing of the content of another seed.
    let other = dark_request(&pipeline).seed(8).guide(olive_eyes().replay(recorded()?)).run()?;
    assert!(!other.details::<ColorReport>("eyes")?.painted[0].redrawn);
    Ok(())
}

#[test]
fn cells_without_the_thing_keep_their_content() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let run = |forces: Vec<ColorForce>| -> Result<Output> {
        let request = pipeline.request("1girl, hair, eyes, shirt, skin, background").seed(7).steps(12);
        forces.into_iter().fold(request, |request, force| request.guide(force)).run()
    };
    let plain = run(Vec::new())?;
    let exact = |phrase: &str, color| ColorForce::exact(phrase, color).tune(|options| options.trim = 0);
    let (skin, hair) = (exact("skin", Rgb(30, 144, 255)), exact("hair", GOLD));
    // The largest change in cells that are not next to the things, and the change under the masks.
    let changes = |forced: &Output, plain: &Output, things: &[&str]| -> Result<(f64, f64)> {
        let changed = (&forced.latents - &plain.latents).abs().amax([1i64].as_slice(), true);
        let share = |thing: &&str| Ok(forced.details::<ForceRun>(thing)?.masks()?.select(0, 0).unsqueeze(1));
        let shares: Vec<Tensor> = things.iter().map(share).collect::<Result<_>>()?;
        let share = shares.into_iter().reduce(|a, b| a.maximum(&b)).expect("a force");
        let inside = |cells: Tensor| changed.masked_select(&cells).max().double_value(&[]);
        let near = share.ge(0.03).to_kind(Kind::Float).max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false);
        Ok((inside(near.lt(0.5)), inside(share.ge(0.5))))
    };
    let forced = run(vec![skin.clone()])?;
    let (held, colored) = changes(&forced, &plain, &["skin"])?;
    assert!(held < 1e-4 && colored > 1.0, "{held} and {colored}");
    let forced = run(vec![skin.clone(), hair])?;
    let (held, colored) = changes(&forced, &plain, &["skin", "hair"])?;
    assert!(held < 1e-4 && colored > 1.0, "two forces: {held} and {colored}");
    // A published force acts in both passes, so its effect stays, too.
    let black = || ColorForce::published("shirt", Rgb(0, 0, 0)).color_var(5.0);
    let shirt = run(vec![black()])?;
    let effect = (&shirt.latents - &plain.latents).abs().max().double_value(&[]);
    let forced = run(vec![skin, black()])?;
    let (held, colored) = changes(&forced, &shirt, &["skin"])?;
    assert!(colored > 1.0 && held < 0.1 * effect, "with a published force: {held}, {colored} and {effect}");
    Ok(())
}

#[test]
fn flat_texture_paints_a_flat_color() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let spread = |texture| -> Result<f64> {
        let force = ColorForce::exact("hair", GOLD).tune(|options| (options.texture, options.trim) = (texture, 0));
        let output = pipeline.request("1girl, hair, eyes, shirt").seed(7).steps(12).guide(force).run()?;
        let inside = output.details::<ForceRun>("hair")?.masks()?.select(0, 0).ge(0.99);
        Ok(output.latents.select(0, 0).select(0, 0).masked_select(&inside.squeeze()).std(true).double_value(&[]))
    };
    let (flat, shaded) = (spread(Texture::Off)?, spread(Texture::Local(1.0 / 16.0))?);
    assert!(flat < 0.8 * shaded, "standard deviations of {flat} and {shaded}");
    Ok(())
}

#[test]
fn things_are_found_in_prompts_that_name_little() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let mask = |prompt: &str, phrase: &str, seed| -> Result<Tensor> {
        let force = ColorForce::exact(phrase, GOLD).tune(|options| options.trim = 0);
        let output = pipeline.request(prompt).seed(seed).steps(12).guide(force).run()?;
        Ok(output.details::<ForceRun>(phrase)?.masks()?.select(0, -1).squeeze_dim(0))
    };
    let count = |mask: &Tensor| mask.sum(Kind::Double).double_value(&[]);
    for seed in 40..44 {
        // No word names the hair, and attention to "shirt" looks at it.
        let shirt = mask("1girl, shirt", "shirt", seed)?;
        let low = count(&shirt.narrow(0, 20, 12)) / count(&shirt);
        assert!(low > 0.9 && count(&shirt) > 40.0, "seed {seed}: {low} of the shirt");
        // No word names the face around the eyes.
        let eyes = count(&mask("1girl, eyes, hair, shirt", "eyes", seed)?);
        assert!((20.0..80.0).contains(&eyes), "seed {seed}: the eyes have {eyes} cells");
    }
    Ok(())
}

#[test]
fn details_of_an_unknown_label_list_the_known() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let force = |phrase: &str| ColorForce::published(phrase, GOLD);
    let request = pipeline.request("1girl, hair, eyes, shirt").seed(7).steps(2);
    let output = request.guide(force("hair")).guide(force("eyes")).guide(Daam::of("shirt")).run()?;
    let error = output.details::<ColorReport>("no such label").expect_err("no method has this label");
    assert!(matches!(error, Error::Parameter { name: "details", .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("\"no such label\"") && message.contains("\"hair\", \"eyes\""), "{message}");
    Ok(())
}

#[test]
fn thing_takes_the_color_of_another_thing() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let prompt = "1girl, brown eyes, blonde hair, red shirt, white background";
    let request = || pipeline.request(prompt).seed(7).steps(14);
    let run = |force: ColorForce| request().guide(force).run();
    let hair = run(ColorForce::same_as("hair", "shirt"))?;
    let asked = hair.details::<ColorReport>("hair")?.asked;
    let Rgb(red, green, blue) = asked;
    assert!(red > 100 && red > green + 50 && red > blue + 50, "{asked} is the color of a red shirt");
    let painted = &hair.details::<ColorReport>("hair")?.painted[0];
    assert!(painted.color.delta_e(asked) < 6.0, "{} for {asked}", painted.color);
    // The run is that of the exact color, and its file repeats it.
    let exact = run(ColorForce::exact("hair", asked).protect("shirt"))?;
    assert_eq!(exact.latents, hair.latents);
    let file = tempfile::Builder::new().suffix(".png").tempfile().expect("a file");
    hair.save(0, file.path())?;
    assert_eq!(Request::from_png(&pipeline, file.path())?.run()?.latents, hair.latents);
    let message = |run: Result<Output>| run.expect_err("a refusal").to_string();
    let several = message(request().images(2).guide(ColorForce::same_as("hair", "shirt")).run());
    assert!(several.contains("a run of one picture"), "{several}");
    let once = ColorForce::same_as("hair", "shirt").tune(|options| options.first_pass = None);
    let once = message(run(once));
    assert!(once.contains("a force with a first pass"), "{once}");
    Ok(())
}
