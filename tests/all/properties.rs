//! Laws that hold for every hook and guidance, on a toy model.

use impasto::attention::{At, AttentionSite, CrossAttentionHook, HookTable, Interest, Place, Probs, Scores, SiteKind};
use impasto::diffusion::solver::{Euler, EulerAncestral, Eval, Solver, by_name};
use impasto::diffusion::{
    Denoised, Noise, Predictions, Schedule, Spacing, SpacingOptions, TrainingSchedule, Transition,
};
use impasto::guidance::{Cfg, Guidance, Plan, Report, Setup};
use impasto::mask::Region;
use impasto::methods::color_force::{ForceTarget, Overlap};
use impasto::methods::paint_with_words::WeightFn;
use impasto::methods::{ColorForce, ImageGuidance, PaintWithWords, PerturbedAttention, PromptBlend};
use impasto::saliency::{Accumulate, Daam, Differential, Occurrence, Saliency};
use impasto::sampler::{Batching, Sampler, Start};
use impasto::testing::ToyModel;
use impasto::{
    Branch, BranchInfo, Codec, Conditioning, Error, Grid, Raster, Recipe, Result, Rgb, Step, TokenSpan, Window,
};
use ndarray::Array2;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tch::{Kind, Tensor};

const PROMPT: &str = "girl with gold eyes";
const GRID: Grid = Grid::new(8, 6);
const GOLD: Rgb = Rgb(255, 215, 0);

fn schedule(steps: usize) -> Schedule {
    Schedule::new(&TrainingSchedule::stable_diffusion(), steps, Spacing::Karras).expect("steps in range")
}

fn sampler<'g>() -> Sampler<'g> {
    Sampler::new(schedule(6), EulerAncestral::default())
}

fn start(images: usize) -> Start<'static> {
    Start::new(PROMPT, GRID, Noise::seeded(7)).images(images)
}

fn latents(sampler: Sampler<'_>, images: usize) -> Result<Tensor> {
    let model = ToyModel::new(3)?;
    let mut run = sampler.start(&model, start(images))?;
    Ok(run.finish()?.shallow_clone())
}

fn latent(sampler: Sampler<'_>) -> Result<Tensor> {
    latents(sampler, 1)
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

/// A hook made of what the tests want it to do.
#[derive(Default)]
struct Probe {
    wants: Interest,
    off: bool,
    fails: bool,
    calls: usize,
    worst: f64,
    images: Vec<std::ops::Range<i64>>,
}

impl Probe {
    fn wanting(wants: Interest) -> Self {
        Self { wants, ..Self::default() }
    }
}

/// Raises the first token's scores by 70 % of the largest one.
fn raise(scores: &Tensor, max: &Tensor) -> Tensor {
    let tokens = scores.size()[3];
    let first = Tensor::zeros([tokens], (Kind::Float, tch::Device::Cpu));
    let _ = first.narrow(0, 0, 1).fill_(0.7);
    max * first
}

impl CrossAttentionHook for Probe {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        let everywhere = self.wants == Interest::PROBS;
        if everywhere || (site.is_cross() && branch == Branch::Cond) { self.wants } else { Interest::NONE }
    }
    fn active(&self, _: &Step) -> bool {
        !self.off
    }
    fn context(&mut self, _: &At, context: &mut Tensor) -> Result<()> {
        self.calls += 1;
        *context = Tensor::f_cat(&[&*context, &context.narrow(1, 0, 2)], 1)?; // two more tokens
        Ok(())
    }
    fn bias(&mut self, _: &At, scores: &Scores) -> Result<Option<Tensor>> {
        self.calls += 1;
        Ok(Some(raise(&scores.full()?, &scores.max()?)))
    }
    fn scores(&mut self, _: &At, scores: &mut Tensor) -> Result<()> {
        self.calls += 1;
        *scores = &*scores + raise(scores, &scores.amax([1i64, 2, 3], true));
        Ok(())
    }
    fn probs(&mut self, at: &At, probs: &Probs) -> Result<()> {
        self.calls += 1;
        if self.fails {
            return Err(Error::NoMaps("Probe"));
        }
        let all = probs.columns(probs.tokens())?;
        assert_eq!(all.size()[2], at.grid.cells());
        let rows = all.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float) - 1.0;
        self.worst = self.worst.max(rows.abs().max().double_value(&[]));
        self.worst = self.worst.max(apart(&all, &probs.untouched().columns(probs.tokens())?));
        self.images.push(at.images.clone());
        Ok(())
    }
    fn output(&mut self, at: &At, output: &mut Tensor) -> Result<()> {
        self.calls += 1;
        assert_eq!(output.size()[1], at.grid.cells());
        *output = &*output * 0.5;
        Ok(())
    }
}

#[test]
fn a_reader_changes_no_bit_and_sees_every_site() -> Result<()> {
    let mut probe = Probe::wanting(Interest::PROBS);
    assert_eq!(latent(sampler().hook(&mut probe))?, latent(sampler())?);
    assert_eq!(probe.calls, 6 * 2 * 2); // steps × branches × sites, self-attention included
    assert!(probe.worst < 1e-5, "rows sum to one, off by {}", probe.worst);
    Ok(())
}

#[test]
fn an_inactive_hook_is_not_called() -> Result<()> {
    let mut probe = Probe { off: true, ..Probe::wanting(Interest::PROBS) };
    assert_eq!(latent(sampler().hook(&mut probe))?, latent(sampler())?);
    assert_eq!(probe.calls, 0);
    Ok(())
}

#[test]
fn every_phase_that_edits_changes_the_picture() -> Result<()> {
    let plain = latent(sampler())?;
    for phase in [Interest::CONTEXT, Interest::BIAS, Interest::SCORES, Interest::OUTPUT] {
        let mut probe = Probe::wanting(phase);
        let edited = latent(sampler().hook(&mut probe))?;
        assert!(apart(&edited, &plain) > 1e-3, "{phase:?} changed nothing");
        assert_eq!(probe.calls, 6, "{phase:?}"); // once a step, at the prompt's site of the prompt's branch
    }
    Ok(())
}

#[test]
fn a_bias_is_the_same_in_the_fused_and_the_explicit_kernel() -> Result<()> {
    // One step: over a whole run even a rounding error grows.
    let one = || Sampler::new(schedule(1), Euler);
    let fused = latent(one().hook(&mut Probe::wanting(Interest::BIAS)))?;
    let explicit = latent(one().hook(&mut Probe::wanting(Interest::SCORES)))?;
    assert!(apart(&fused, &explicit) < 1e-4 * fused.abs().max().double_value(&[]), "{}", apart(&fused, &explicit));
    Ok(())
}

#[test]
fn the_order_of_biases_does_not_matter() -> Result<()> {
    struct Constant(f64);
    impl CrossAttentionHook for Constant {
        fn interest(&self, site: &AttentionSite, _: Branch) -> Interest {
            if site.is_cross() { Interest::BIAS } else { Interest::NONE }
        }
        fn bias(&mut self, _: &At, scores: &Scores) -> Result<Option<Tensor>> {
            Ok(Some(raise(&scores.full()?, &Tensor::from(self.0 as f32))))
        }
    }
    let (mut a, mut b) = (Constant(0.25), Constant(0.5));
    let one = latent(sampler().hook(&mut a).hook(&mut b))?;
    assert_eq!(one, latent(sampler().hook(&mut b).hook(&mut a))?);
    Ok(())
}

#[test]
fn a_hook_that_fails_is_named_with_site_phase_and_step() -> Result<()> {
    let mut probe = Probe { fails: true, ..Probe::wanting(Interest::PROBS) };
    let message = latent(sampler().hook(&mut probe)).expect_err("it fails").to_string();
    assert!(message.contains("probs of block.attn1 at step 0"), "{message}");
    Ok(())
}

#[test]
fn lending_another_number_of_hooks_is_an_error() -> Result<()> {
    #[derive(Default)]
    struct Fickle(Probe, usize);
    impl Guidance for Fickle {
        fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
            self.1 += 1;
            if self.1 > 2 { Vec::new() } else { vec![&mut self.0] }
        }
    }
    let error = latent(sampler().guide(Fickle::default())).expect_err("a hook is gone");
    assert!(matches!(error, Error::HooksChanged { before: 1, now: 0 }), "{error}");
    Ok(())
}

#[test]
fn batching_gives_the_same_picture_and_hooks_learn_which_images() -> Result<()> {
    let guided = |batching, images| {
        let force = ColorForce::published("eyes", GOLD).color_var(5.0).window(Window::WHOLE);
        latents(sampler().batching(batching).guide(force), images)
    };
    let (together, alone) = (guided(Batching::Together, 3)?, guided(Batching::OneByOne, 3)?);
    assert!(apart(&together, &alone) < 1e-3, "{}", apart(&together, &alone));
    for image in 0..3 {
        let force = ColorForce::published("eyes", GOLD).color_var(5.0).window(Window::WHOLE);
        let model = ToyModel::new(3)?;
        let start = Start::new(PROMPT, GRID, Noise::seeded(7 + image));
        let mut run = sampler().batching(Batching::OneByOne).guide(force).start(&model, start)?;
        let own = run.finish()?;
        assert_eq!(alone.narrow(0, image as i64, 1), *own, "image {image} of the batch is that image alone");
    }

    let mut probe = Probe::wanting(Interest::PROBS);
    let _ = latents(sampler().batching(Batching::OneByOne).hook(&mut probe), 2)?;
    assert!(probe.images.contains(&(0..1)) && probe.images.contains(&(1..2)));
    let mut probe = Probe::wanting(Interest::PROBS);
    let _ = latents(sampler().hook(&mut probe), 2)?;
    assert!(probe.images.iter().all(|images| *images == (0..2)));
    Ok(())
}

/// Eyes above, fading out below.
fn paint() -> PaintWithWords {
    let above = Region::new(Array2::from_shape_fn((8, 6), |(row, _)| 1.0 - row as f32 / 7.0));
    PaintWithWords::default().mask(above, "eyes", 2.0)
}

/// Every guidance of the crate, made anew, with a name for messages.
fn guidances() -> Vec<(&'static str, Box<dyn Guidance>)> {
    let force = || ColorForce::published("eyes", GOLD).color_var(5.0).window(Window::WHOLE);
    vec![
        ("Daam", Box::new(Daam::of("gold eyes"))),
        ("Daam, mean", Box::new(Daam::of("eyes").accumulate(Accumulate::Mean))),
        ("Daam, moving average", Box::new(Daam::of("eyes").accumulate(Accumulate::Ema(0.5)))),
        ("Daam::words", Box::new(Daam::words())),
        ("ColorForce", Box::new(force())),
        ("ColorForce with a differential", {
            Box::new(force().saliency((Daam::of("eyes"), Differential::of("eyes", "pink"))))
        }),
        ("ColorForce on the signal", Box::new(force().target(ForceTarget::SignalOnly))),
        ("ColorForce on x0", Box::new(force().target(ForceTarget::Denoised))),
        ("ColorForce with a moving average", {
            Box::new(force().saliency(Daam::of("eyes").accumulate(Accumulate::Ema(0.5))))
        }),
        ("ColorForce in a region", {
            Box::new(force().saliency(Region::new(Array2::from_shape_fn((8, 6), |(row, _)| row as f32 / 7.0))))
        }),
        ("PaintWithWords", Box::new(paint())),
        ("PaintWithWords by deviation", Box::new(paint().weight(WeightFn::LogStd(1.0)))),
        ("ImageGuidance", Box::new(ImageGuidance::new(&Raster::flat(Rgb(200, 30, 30), (12, 9))))),
        (
            "ImageGuidance by a text, for a while",
            Box::new(ImageGuidance::text("a dog").window(Window::progress(0.2..=0.6))),
        ),
        ("PerturbedAttention", Box::new(PerturbedAttention::new(2.0).sites(|_| true))),
        ("PromptBlend", Box::new(PromptBlend::to("a dog"))),
    ]
}

#[test]
fn the_same_value_gives_the_same_picture_and_report_twice() -> Result<()> {
    for (name, mut guidance) in guidances() {
        let mut told = || -> Result<(Tensor, String, usize)> {
            let x = latent(sampler().guide(&mut guidance))?;
            let report = guidance.report()?.map(|report| (report.data.to_string(), report.pictures.len()));
            let (data, images) = report.unwrap_or_default();
            Ok((x, format!("{data} {:?}", guidance.notes()), images))
        };
        let once = told()?;
        assert_eq!(told()?, once, "{name}");
    }
    Ok(())
}

#[test]
fn readings_do_not_outlive_a_failed_start() -> Result<()> {
    let (mut look, mut force, mut paint) = (Daam::of("eyes"), ColorForce::published("eyes", GOLD), paint());
    let _ = latent(sampler().guide(&mut look).guide(&mut force).guide(&mut paint))?;
    assert!(look.heat_map(0).is_ok() && force.details().is_ok() && paint.details().is_ok());
    let model = ToyModel::new(3)?;
    for guidance in [&mut look as &mut dyn Guidance, &mut force, &mut paint] {
        assert!(sampler().guide(guidance).start(&model, Start::new("a dog", GRID, Noise::seeded(1))).is_err());
    }
    assert!(look.heat_map(0).is_err() && force.details().is_err() && paint.details().is_err());
    Ok(())
}

#[test]
fn a_run_that_failed_does_not_go_on() -> Result<()> {
    struct Late;
    impl Guidance for Late {
        fn transition(&mut self, step: &Step, _: &mut Transition) -> Result<()> {
            if step.index == 2 { Err(Error::NoMaps("Late")) } else { Ok(()) }
        }
    }
    let model = ToyModel::new(3)?;
    let mut run = sampler().guide(Late).start(&model, start(1))?;
    assert!(run.finish().is_err());
    assert!(matches!(run.step(), Err(Error::RunFailed)));
    assert!(matches!(run.finish().map(drop), Err(Error::RunFailed)));
    assert!(matches!(run.decode(), Err(Error::RunFailed)));
    Ok(())
}

#[test]
fn a_latent_of_another_shape_or_without_numbers_is_an_error() -> Result<()> {
    struct Cut;
    impl Guidance for Cut {
        fn transition(&mut self, _: &Step, transition: &mut Transition) -> Result<()> {
            transition.mean = transition.mean.narrow(2, 0, 4);
            Ok(())
        }
        fn name(&self) -> &'static str {
            "Cut"
        }
    }
    let message = latent(sampler().guide(Cut)).expect_err("another shape").to_string();
    assert!(message.contains("Cut failed in transition at step 0") && message.contains("[1, 4, 4, 6]"), "{message}");

    struct Break;
    impl Guidance for Break {
        fn denoised(&mut self, _: &Step, denoised: &mut Denoised) -> Result<()> {
            denoised.x0 = &denoised.x0 * f64::NAN;
            Ok(())
        }
    }
    let message = latent(sampler().guide(Break)).expect_err("not a number").to_string();
    assert!(message.contains("not finite at step 0"), "{message}");
    Ok(())
}

#[test]
fn what_a_hook_returns_must_fit_and_is_named_if_it_does_not() -> Result<()> {
    struct Wrong(Interest);
    impl CrossAttentionHook for Wrong {
        fn interest(&self, site: &AttentionSite, _: Branch) -> Interest {
            if site.is_cross() { self.0 } else { Interest::NONE }
        }
        fn context(&mut self, _: &At, context: &mut Tensor) -> Result<()> {
            *context = context.narrow(2, 0, 3);
            Ok(())
        }
        fn bias(&mut self, _: &At, _: &Scores) -> Result<Option<Tensor>> {
            Ok(Some(Tensor::zeros([3, 7], (Kind::Float, tch::Device::Cpu))))
        }
        fn scores(&mut self, _: &At, scores: &mut Tensor) -> Result<()> {
            *scores = scores.narrow(3, 0, 2);
            Ok(())
        }
        fn output(&mut self, _: &At, output: &mut Tensor) -> Result<()> {
            *output = output.narrow(1, 0, 2);
            Ok(())
        }
    }
    for (phase, name) in [
        (Interest::CONTEXT, "context"),
        (Interest::BIAS, "bias"),
        (Interest::SCORES, "scores"),
        (Interest::OUTPUT, "output"),
    ] {
        let message = latent(sampler().hook(Wrong(phase))).expect_err(name).to_string();
        assert!(message.contains(&format!("{name} of block.attn2 at step 0: {name} has shape")), "{message}");
    }
    Ok(())
}

#[test]
fn a_bias_per_head_is_each_heads_own_and_readers_see_it() -> Result<()> {
    /// Steers every head to a token of its own, as a bias or as an edit of the scores.
    struct PerHead(Interest);
    fn steer() -> Tensor {
        let bias = Tensor::zeros([1, 2, 1, 10], (Kind::Float, tch::Device::Cpu));
        for head in 0..2 {
            let _ = bias.narrow(1, head, 1).narrow(3, 3 * head, 1).fill_(2.0);
        }
        bias
    }
    impl CrossAttentionHook for PerHead {
        fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
            if site.is_cross() && branch == Branch::Cond { self.0 | Interest::PROBS } else { Interest::NONE }
        }
        fn bias(&mut self, _: &At, _: &Scores) -> Result<Option<Tensor>> {
            Ok(Some(steer()))
        }
        fn scores(&mut self, _: &At, scores: &mut Tensor) -> Result<()> {
            *scores = &*scores + steer();
            Ok(())
        }
        fn probs(&mut self, _: &At, probs: &Probs) -> Result<()> {
            let (after, before) = (probs.columns(probs.tokens())?, probs.untouched().columns(probs.tokens())?);
            for head in 0..2i64 {
                let of =
                    |probs: &Tensor| probs.select(1, head).select(2, 3 * head).mean(Kind::Double).double_value(&[]);
                assert!(of(&after) > 2.0 * of(&before), "head {head}: {} → {}", of(&before), of(&after));
            }
            let values = Tensor::ones([10, 1], (Kind::Float, tch::Device::Cpu));
            assert!(apart(&probs.attend(&values)?, &Tensor::from(1f32)) < 1e-5, "rows sum to one");
            Ok(())
        }
    }
    let one = || Sampler::new(schedule(1), Euler);
    let fused = latent(one().hook(PerHead(Interest::BIAS)))?;
    let explicit = latent(one().hook(PerHead(Interest::SCORES)))?;
    assert!(apart(&fused, &explicit) < 1e-4 * fused.abs().max().double_value(&[]));
    assert!(apart(&fused, &latent(one())?) > 1e-3);
    Ok(())
}

#[test]
fn a_site_out_of_its_place_is_an_error() -> Result<()> {
    let site = AttentionSite::new("twice", SiteKind::Cross, Place::Up, 0, 1);
    let error = HookTable::new(&[], &[site.clone(), site], &[Branch::Cond]).expect_err("index 0 twice").to_string();
    assert!(error.contains("twice") && error.contains("its position"), "{error}");
    Ok(())
}

#[test]
fn nothing_selected_is_an_error_and_a_map_that_never_comes_a_note() -> Result<()> {
    let error = latent(sampler().guide(Daam::of("eyes").sites(|_| false))).expect_err("no sites").to_string();
    assert!(error.contains("block.attn2"), "{error}");
    let blind = ColorForce::published("eyes", GOLD)
        .saliency(Daam::of("eyes").window(Window::timesteps(0.0..=0.5)))
        .window(Window::WHOLE);
    let model = ToyModel::new(3)?;
    let mut run = sampler().guide(blind).start(&model, start(1))?;
    let _ = run.finish()?;
    assert!(run.notes().iter().any(|note| note.contains("no map")), "{:?}", run.notes());
    Ok(())
}

/// Two evaluations a step, both at levels of the schedule, as Heun's method has.
struct Twice;

impl Solver for Twice {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        let mut transition = Euler.step(step, x, eval)?;
        if step.to > 0.0 {
            transition.x0 = eval.x0(&transition.mean.copy(), step.to)?;
        }
        Ok(transition)
    }
    fn name(&self) -> &'static str {
        "Twice"
    }
}

#[test]
fn a_step_is_forced_with_all_its_evaluations_or_not_at_all() -> Result<()> {
    let timesteps = |force: ColorForce| -> Result<(Vec<f64>, Tensor)> {
        let mut force = force;
        let table = TrainingSchedule::stable_diffusion();
        let schedule = Schedule::from_timesteps(&table, &[701.0, 601.0, 501.0], &SpacingOptions::default())?;
        let x = latent(Sampler::new(schedule, Twice).guide(&mut force))?;
        Ok((force.details()?.steps.iter().map(|step| step.timestep).collect(), x))
    };
    for target in [ForceTarget::Mean, ForceTarget::Denoised] {
        let force = || ColorForce::published("eyes", GOLD).target(target).color_var(5.0);
        assert_eq!(timesteps(force())?.0, [601.0, 501.0], "{target:?}: recorded once a step");
        let (forced, one) = timesteps(force().window(Window::timesteps(601.0..=601.0)))?;
        assert_eq!(forced, [601.0]);
        let (none, never) = timesteps(force().window(Window::timesteps(650.0..=660.0)))?;
        assert!(none.is_empty() && apart(&one, &never) > 1e-3);
    }
    // The step from 701 evaluates at 601 too; that does not make it a forced step.
    let only_first =
        ColorForce::published("eyes", GOLD).target(ForceTarget::Denoised).window(Window::timesteps(601.0..=601.0));
    assert_eq!(timesteps(only_first)?.0.len(), 1);
    Ok(())
}

#[test]
fn a_token_share_is_the_phrases_part_of_the_attention_to_words() -> Result<()> {
    let share = |phrase: &str| -> Result<Tensor> {
        let mut look = Daam::of(phrase).normalize(impasto::saliency::Normalize::TokenShare);
        let _ = latents(sampler().guide(&mut look), 2)?;
        Ok(look.map()?.expect("there was a run"))
    };
    let parts = share("girl")? + share("with")? + share("gold eyes")?;
    assert_eq!(parts.size(), [2, 1, 8, 6]);
    assert!(apart(&parts, &Tensor::from(1f32)) < 1e-3, "all words have all of it");
    assert!(apart(&share(PROMPT)?, &Tensor::from(1f32)) < 1e-3);
    Ok(())
}

#[test]
fn a_phrase_is_read_at_the_places_that_are_asked_for() -> Result<()> {
    let model = ToyModel::new(3)?;
    let seen = |occurrence: Occurrence| -> Result<Tensor> {
        let mut look = Daam::of("eyes").occurrence(occurrence);
        let mut run =
            sampler().guide(&mut look).start(&model, Start::new("red eyes, gold eyes", GRID, Noise::seeded(7)))?;
        let _ = run.finish()?;
        drop(run);
        Ok(look.heat_map(0)?.values().shallow_clone())
    };
    let within = |start, end| seen(Occurrence::Within { start, end });
    let (first, second) = (seen(Occurrence::Nth(0))?, seen(Occurrence::Nth(1))?);
    assert!(apart(&first, &second) > 1e-6);
    assert_eq!((within(4, 8)?, within(10, 19)?), (first.shallow_clone(), second.shallow_clone()));
    assert!(apart(&within(0, 19)?, &((first + second) / 2.0)) < 1e-6, "both places");
    for (start, end) in [(0, 3), (12, 14), (40, 50)] {
        let error = within(start, end).expect_err("no eyes there").to_string();
        assert!(error.contains(&format!("{start}..{end}")) && error.contains("red eyes, gold eyes"), "{error}");
    }
    Ok(())
}

/// Two forces, one by a second prompt, a painted region, a reading, and a bare hook: everything in one run.
fn everything(batching: Batching, images: usize, first_seed: u64) -> Result<(Tensor, Vec<Tensor>)> {
    let half = Region::new(Array2::from_shape_fn((8, 6), |(row, _)| if row < 4 { 1.0 } else { 0.0 }));
    let mut paint = PaintWithWords::default().mask(half, "girl", 1.5).weight(WeightFn::LogMax(0.4));
    let force = |phrase: &str, color| ColorForce::published(phrase, color).color_var(15.0).window(Window::WHOLE);
    let mut gold = force("eyes", GOLD).saliency((Daam::of("eyes"), Differential::of("eyes", "pink")));
    let mut blue = force("gold", Rgb(0, 0, 139)).saliency_cutoff(0.4);
    let (mut look, mut probe) = (Daam::words(), Probe::wanting(Interest::PROBS));
    let model = ToyModel::new(3)?;
    let sampler = sampler().batching(batching).guide(&mut paint).guide(&mut gold).guide(&mut blue);
    let start = Start::new(PROMPT, GRID, Noise::seeded(first_seed)).images(images);
    let mut run = sampler.guide(&mut look).hook(&mut probe).start(&model, start)?;
    let x = run.finish()?.shallow_clone();
    drop(run);
    let maps: Vec<Tensor> = look.heat_maps(0)?.iter().map(|map| map.values().shallow_clone()).collect();
    Ok((x, maps))
}

#[test]
fn everything_works_together_and_each_image_is_its_own() -> Result<()> {
    let (all, maps) = everything(Batching::OneByOne, 3, 7)?;
    assert_eq!(maps.len(), 4, "a map per word");
    assert!(apart(&all, &latents(sampler(), 3)?) > 1e-2);
    let (again, same_maps) = everything(Batching::OneByOne, 3, 7)?;
    assert_eq!((&again, &same_maps), (&all, &maps));
    for image in 0..3 {
        let (alone, _) = everything(Batching::OneByOne, 1, 7 + image)?;
        assert_eq!(all.narrow(0, image as i64, 1), alone, "image {image} of the batch is that image alone");
    }
    let (together, _) = everything(Batching::Together, 3, 7)?;
    assert!(apart(&together, &all) < 1e-2, "{}", apart(&together, &all));
    Ok(())
}

/// Keeps the predictions of the last evaluation, and counts branches.
#[derive(Default)]
struct Predicted(Vec<(Branch, Tensor)>);

impl Guidance for Predicted {
    fn predicted(&mut self, _: &Step, predictions: &mut Predictions) -> Result<()> {
        let all = predictions.branches().map(|branch| Ok((branch, predictions.x0(branch)?.copy())));
        self.0 = all.collect::<Result<_>>()?;
        Ok(())
    }
}

#[test]
fn a_differential_leaves_the_other_branches_alone() -> Result<()> {
    let one = |batching| Sampler::new(schedule(1), Euler).batching(batching);
    for (batching, allowed) in [(Batching::OneByOne, 0.0), (Batching::Together, 1e-4)] {
        let (mut with, mut without) = (Predicted::default(), Predicted::default());
        let _ = latent(one(batching).guide(Differential::of("eyes", "pink")).guide(&mut with))?;
        let _ = latent(one(batching).guide(&mut without))?;
        let branches: Vec<Branch> = with.0.iter().map(|(branch, _)| *branch).collect();
        assert_eq!(branches, [Branch::Extra(0), Branch::Uncond, Branch::Cond]);
        for ((branch, with), (_, without)) in with.0.iter().skip(1).zip(&without.0) {
            assert!(apart(with, without) <= allowed, "{batching:?} {branch:?}: {}", apart(with, without));
        }
    }
    Ok(())
}

#[test]
fn forces_share_a_differential_and_drop_it_outside_their_window() -> Result<()> {
    /// Counts the branches of every evaluation.
    #[derive(Default)]
    struct Count(Vec<usize>);
    impl Guidance for Count {
        fn predicted(&mut self, _: &Step, predictions: &mut Predictions) -> Result<()> {
            self.0.push(predictions.branches().count());
            Ok(())
        }
    }
    let force = |color, word: &str| {
        ColorForce::published("eyes", color)
            .saliency(Differential::of("eyes", word))
            .window(Window::timesteps(300.0..=700.0))
    };
    let table = TrainingSchedule::stable_diffusion();
    let run = |words: [&str; 2]| -> Result<Vec<usize>> {
        let schedule = Schedule::from_timesteps(&table, &[900.0, 600.0, 400.0, 200.0], &SpacingOptions::default())?;
        let mut count = Count::default();
        let sampler = Sampler::new(schedule, Euler).guide(force(GOLD, words[0])).guide(force(Rgb(0, 0, 139), words[1]));
        let _ = latent(sampler.guide(&mut count))?;
        Ok(count.0)
    };
    assert_eq!(run(["pink", "pink"])?, [2, 3, 3, 2]);
    assert_eq!(run(["pink", "blue"])?, [2, 4, 4, 2]);
    Ok(())
}

#[test]
fn what_is_done_to_the_prompt_is_done_to_its_variation() -> Result<()> {
    /// Doubles the context of the prompt and of everything like it.
    struct Louder;
    impl Guidance for Louder {
        fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, _: &dyn Codec) -> Result<()> {
            if branch.like == Branch::Cond {
                conditioning.context = &conditioning.context * 2.0;
            }
            Ok(())
        }
    }
    let model = ToyModel::new(3)?;
    let map = |louder_first: bool| -> Result<Tensor> {
        let mut look = Differential::of("eyes", "pink");
        let sampler = Sampler::new(schedule(1), Euler);
        let sampler = match louder_first {
            true => sampler.guide(Louder).guide(&mut look),
            false => sampler.guide(&mut look).guide(Louder),
        };
        let _ = sampler.start(&model, start(1))?.finish()?;
        Ok(look.map()?.expect("one step was taken"))
    };
    assert_eq!(map(true)?, map(false)?, "whoever was attached first");
    Ok(())
}

#[test]
fn the_varied_prompt_has_the_word_before_every_place() -> Result<()> {
    /// Writes down the branches there are.
    #[derive(Default)]
    struct Names(Vec<String>);
    impl Guidance for Names {
        fn condition(&mut self, branch: &BranchInfo, _: &mut Conditioning, _: &dyn Codec) -> Result<()> {
            self.0.push(branch.prompt.clone());
            Ok(())
        }
    }
    let (model, mut names) = (ToyModel::new(3)?, Names::default());
    let start = Start::new("eyes and Eyes", GRID, Noise::seeded(1));
    let _ = sampler().guide(Differential::of("eyes", "pink")).guide(&mut names).start(&model, start)?;
    assert_eq!(names.0, ["", "eyes and Eyes", "pink eyes and pink Eyes"]);
    let weak = Differential::of("eyes", "pink").weight(-1.0);
    assert!(latent(sampler().guide(weak)).expect_err("negative").to_string().contains("weight is -1"));
    Ok(())
}

#[test]
fn daam_averages_the_evaluations_of_a_step() -> Result<()> {
    let mut look = Daam::of("eyes");
    let _ = latent(Sampler::new(schedule(3), Twice).guide(&mut look))?;
    let model = ToyModel::new(3)?;
    assert!(look.heat_map(0)?.max()? <= 1.0, "a share of the attention, however many evaluations");
    drop(model);
    Ok(())
}

#[test]
fn a_drawn_mask_limits_a_force() -> Result<()> {
    let upper = || Region::new(Array2::from_shape_fn((8, 6), |(row, _)| if row < 4 { 1.0 } else { 0.0 }));
    let mut force = ColorForce::published("eyes", GOLD).saliency_cutoff(0.0).mask(upper()).window(Window::WHOLE);
    let _ = latents(sampler().guide(&mut force), 2)?;
    let masks = force.masks()?;
    assert_eq!(masks.size(), [6, 2, 8, 6]);
    assert_eq!(masks.narrow(2, 4, 4).sum(Kind::Double).double_value(&[]), 0.0);
    assert_eq!(masks.narrow(2, 0, 4).mean(Kind::Double).double_value(&[]), 1.0);
    let details = force.details()?;
    assert!(details.steps.iter().all(|step| step.areas == [0.5, 0.5]));
    let report = force.report()?.expect("there was a run");
    assert_eq!(report.pictures.len(), 12); // six steps, two images
    Ok(())
}

#[test]
fn painted_colors_know_their_image() -> Result<()> {
    /// Knows something about the second image only.
    struct Second;
    impl Guidance for Second {}
    impl Saliency for Second {
        fn map(&self) -> Result<Option<Tensor>> {
            let one = |value: f64| Tensor::full([1, 1, 8, 6], value, (Kind::Float, tch::Device::Cpu));
            Ok(Some(Tensor::cat(&[one(0.0), one(1.0)], 0)))
        }
    }
    let mut force = ColorForce::published("second", GOLD).saliency(Second).window(Window::WHOLE);
    let model = ToyModel::new(3)?;
    let mut run = sampler().guide(&mut force).start(&model, start(2))?;
    let _ = run.decode()?;
    let notes = run.notes();
    drop(run);
    let painted = force.details()?.painted;
    assert_eq!(painted.iter().map(|painted| painted.image).collect::<Vec<_>>(), [1]);
    assert!(
        notes.iter().any(|note| note.contains("\"second\": image 0: nothing reached the cutoff in 6 of 6")),
        "{notes:?}"
    );
    Ok(())
}

#[test]
fn no_setting_makes_a_force_overflow() -> Result<()> {
    for force in [
        ColorForce::published("eyes", GOLD).color_var(1e-40),
        ColorForce::published("eyes", GOLD).reference_steps(1000),
    ] {
        let x = latent(sampler().guide(force.window(Window::WHOLE).saliency_cutoff(0.0)))?;
        assert!(x.abs().max().double_value(&[]) < 10.0, "the color itself, everywhere");
    }
    Ok(())
}

#[test]
fn only_readers_leave_the_picture_alone() -> Result<()> {
    let plain = latent(sampler())?;
    for (name, guidance) in guidances() {
        let change = apart(&latent(sampler().guide(guidance))?, &plain);
        assert_eq!(change == 0.0, name.starts_with("Daam"), "{name} changed the picture by {change}");
    }
    Ok(())
}

#[test]
fn a_force_without_strength_is_no_force() -> Result<()> {
    let plain = latent(sampler())?;
    let weak = ColorForce::published("eyes", GOLD).color_var(1e12).window(Window::WHOLE);
    assert!(apart(&latent(sampler().guide(weak))?, &plain) < 1e-4);
    for never in [
        ColorForce::published("eyes", GOLD).saliency_cutoff(2.0).window(Window::WHOLE),
        ColorForce::published("eyes", GOLD).window(Window::timesteps(998.5..=998.6)),
    ] {
        assert_eq!(latent(sampler().guide(never))?, plain, "an empty mask or window keeps every bit");
    }
    Ok(())
}

#[test]
fn cells_outside_the_mask_keep_their_bits() -> Result<()> {
    let one = || Sampler::new(schedule(6), EulerAncestral::default());
    let region = Region::new(Array2::from_shape_fn((8, 6), |(row, _)| if row < 3 { 1.0 } else { 0.0 }));
    let force = ColorForce::published("above", GOLD).saliency(region).window(Window::WHOLE);
    let model = ToyModel::new(3)?;
    let (mut plain, mut forced) = (one().start(&model, start(1))?, one().guide(force).start(&model, start(1))?);
    plain.step()?;
    forced.step()?;
    let below = |x: &Tensor| x.narrow(2, 3, 5).copy();
    assert_eq!(below(plain.latent()), below(forced.latent()));
    assert!(apart(&plain.latent().narrow(2, 0, 3), &forced.latent().narrow(2, 0, 3)) > 1e-2);
    Ok(())
}

#[test]
fn the_order_of_forces_does_not_matter() -> Result<()> {
    let make = |overlap, target| {
        let at = |phrase: &str, color| {
            ColorForce::published(phrase, color)
                .saliency_cutoff(0.3)
                .window(Window::WHOLE)
                .overlap(overlap)
                .target(target)
        };
        (at("eyes", GOLD), at("gold", Rgb(0, 0, 139)))
    };
    for overlap in [Overlap::Blend, Overlap::Winner] {
        for target in [ForceTarget::Mean, ForceTarget::SignalOnly, ForceTarget::Denoised] {
            let ((a, b), (c, d)) = (make(overlap, target), make(overlap, target));
            // One step: a run of several would magnify the rounding of a sum's order.
            let first = || Sampler::new(schedule(1), Euler);
            let (one, other) = (latent(first().guide(a).guide(b))?, latent(first().guide(d).guide(c))?);
            let scale = one.abs().max().double_value(&[]);
            assert!(apart(&one, &other) < 1e-6 * scale.max(1.0), "{overlap:?} {target:?}: {}", apart(&one, &other));
        }
    }
    Ok(())
}

#[test]
fn without_guidance_scale_only_the_prompt_is_evaluated_and_daam_reads_it() -> Result<()> {
    let (mut probe, mut look) = (Probe::wanting(Interest::PROBS), Daam::of("eyes"));
    let _ = latent(sampler().combine(Cfg(1.0)).hook(&mut probe).guide(&mut look))?;
    assert_eq!(probe.calls, 6 * 2); // steps × sites
    assert!(look.heat_map(0)?.max()? > 0.0);
    Ok(())
}

#[test]
fn a_batchs_maps_are_each_images_own() -> Result<()> {
    let maps = |images, batching| -> Result<Vec<Tensor>> {
        let mut look = Daam::of("eyes");
        let _ = latents(sampler().batching(batching).guide(&mut look), images)?;
        (0..images).map(|image| Ok(look.heat_map(image)?.values().shallow_clone())).collect()
    };
    let (batch, alone) = (maps(3, Batching::OneByOne)?, maps(1, Batching::OneByOne)?);
    assert_eq!(batch[0], alone[0]);
    assert!(apart(&batch[0], &batch[1]) > 1e-6);
    for (together, apart_) in maps(3, Batching::Together)?.iter().zip(&batch) {
        assert!(apart(together, apart_) < 1e-4);
    }
    let mut look = Daam::of("eyes");
    let _ = latent(sampler().guide(&mut look))?;
    assert!(look.heat_map(1).expect_err("one image").to_string().contains("image is 1"));
    assert!(matches!(Daam::of("eyes").heat_map(0), Err(Error::NoMaps("Daam"))));
    Ok(())
}

/// What a map shows over time follows from the maps of single steps.
#[test]
fn accumulated_maps_are_means_of_the_steps() -> Result<()> {
    let model = ToyModel::new(3)?;
    let maps = |accumulate| -> Result<(Vec<Tensor>, Tensor)> {
        let look = Daam::of("eyes").accumulate(accumulate).normalize(impasto::saliency::Normalize::Raw);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut watch = Watch(look, Arc::clone(&seen));
        let mut run = Sampler::new(schedule(3), Euler).guide(&mut watch).start(&model, start(1))?;
        let _ = run.finish()?;
        drop(run);
        let heat = watch.0.heat_map(0)?.values().shallow_clone();
        let seen = seen.lock().expect("nobody panicked").drain(..).collect();
        Ok((seen, heat))
    };
    let (steps, heat) = maps(Accumulate::Step)?;
    assert_eq!(steps.len(), 3);
    let mean = (&steps[0] + &steps[1] + &steps[2]) / 3.0;
    assert!(apart(&mean.reshape([8, 6]), &heat) < 1e-6);
    let (means, same) = maps(Accumulate::Mean)?;
    assert!(apart(&means[2], &mean) < 1e-6 && apart(&means[1], &((&steps[0] + &steps[1]) / 2.0)) < 1e-6);
    assert_eq!(same, heat, "the heat map is the mean whatever accumulates");
    let (averages, _) = maps(Accumulate::Ema(0.25))?;
    let second = &steps[0] * 0.25 + &steps[1] * 0.75;
    assert!(apart(&averages[0], &steps[0]) < 1e-6 && apart(&averages[1], &second) < 1e-6);
    assert!(apart(&averages[2], &(second * 0.25 + &steps[2] * 0.75)) < 1e-6);
    Ok(())
}

/// Writes down the map at every step.
struct Watch(Daam, Arc<Mutex<Vec<Tensor>>>);

impl Guidance for Watch {
    fn begin(&mut self, setup: &mut Setup) -> Result<()> {
        self.0.begin(setup)
    }
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        self.0.hooks()
    }
    fn transition(&mut self, _: &Step, _: &mut Transition) -> Result<()> {
        self.1.lock().expect("nobody panicked").extend(self.0.map()?);
        Ok(())
    }
}

/// Attention injection: Cond also attends to what an extra branch saw at the same self-attention site.
#[derive(Default)]
struct Inject {
    branch: Option<Branch>,
    seen: Option<Tensor>,
    injected: usize,
}

impl Guidance for Inject {
    fn begin(&mut self, setup: &mut Setup) -> Result<()> {
        let text = "a reference picture";
        self.branch = Some(setup.add("reference", Branch::Cond, text, setup.codec.text(text)?)?);
        let again = setup.add("reference", Branch::Cond, text, setup.codec.text(text)?)?;
        assert_eq!(Some(again), self.branch, "the same branch is added once");
        Ok(())
    }
    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        let noised = Noise::shared(99).draw(&[1, 4, GRID.h, GRID.w])?.f_mul_scalar(step.sigma)?;
        self.branch.into_iter().for_each(|branch| plan.evaluate_at(branch, noised.shallow_clone()));
        Ok(())
    }
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![self]
    }
}

impl CrossAttentionHook for Inject {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if !site.is_cross() && branch != Branch::Uncond { Interest::CONTEXT } else { Interest::NONE }
    }
    fn context(&mut self, at: &At, context: &mut Tensor) -> Result<()> {
        if at.branch == Branch::Cond {
            let seen = self.seen.take().expect("extra branches are evaluated first");
            *context = Tensor::f_cat(&[&*context, &seen], 1)?;
            self.injected += 1;
        } else {
            self.seen = Some(context.shallow_clone());
        }
        Ok(())
    }
}

#[test]
fn a_later_branch_sees_what_an_earlier_one_left() -> Result<()> {
    for batching in [Batching::Together, Batching::OneByOne] {
        let mut inject = Inject::default();
        let with = latent(sampler().batching(batching).guide(&mut inject))?;
        assert_eq!(inject.injected, 6);
        assert!(apart(&with, &latent(sampler())?) > 1e-2);
    }
    Ok(())
}

#[test]
fn a_prediction_that_nobody_evaluated_is_an_error_that_names_its_guidance() -> Result<()> {
    struct Curious;
    impl Guidance for Curious {
        fn predicted(&mut self, _: &Step, predictions: &mut Predictions) -> Result<()> {
            predictions.x0(Branch::Extra(0)).map(drop)
        }
        fn name(&self) -> &'static str {
            "Curious"
        }
    }
    let message = latent(sampler().guide(Curious)).expect_err("nobody evaluated it").to_string();
    assert!(message.contains("Curious failed in predicted at step 0: branch Extra(0) was not evaluated"), "{message}");
    Ok(())
}

/// Writes down what it is called for.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<&'static str>>>);

impl Diary {
    fn note(&self, call: &'static str) {
        self.0.lock().expect("nobody panicked").push(call);
    }
    /// How often each phase was called, in the order of the first calls.
    fn read(&self) -> Vec<(&'static str, usize)> {
        let mut counted: Vec<(&'static str, usize)> = Vec::new();
        for call in self.0.lock().expect("nobody panicked").iter() {
            match counted.iter_mut().find(|(known, _)| known == call) {
                Some((_, count)) => *count += 1,
                None => counted.push((call, 1)),
            }
        }
        counted
    }
}

impl Guidance for Diary {
    fn first_pass(&self) -> Option<f64> {
        self.note("first pass");
        Some(500.0)
    }
    fn recipe(&self) -> Result<Recipe> {
        self.note("recipe");
        Recipe::of("Diary", &())
    }
    fn name(&self) -> &'static str {
        self.note("name");
        "Diary"
    }
    fn check(&self) -> Result<()> {
        self.note("check");
        Ok(())
    }
    fn begin(&mut self, _: &mut Setup) -> Result<()> {
        self.note("begin");
        Ok(())
    }
    fn condition(&mut self, _: &BranchInfo, _: &mut Conditioning, _: &dyn Codec) -> Result<()> {
        self.note("condition");
        Ok(())
    }
    fn noise(&mut self, _: &mut Tensor) -> Result<()> {
        self.note("noise");
        Ok(())
    }
    fn plan(&mut self, _: &Step, _: &mut Plan) -> Result<()> {
        self.note("plan");
        Ok(())
    }
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        self.note("hooks");
        Vec::new()
    }
    fn predicted(&mut self, _: &Step, _: &mut Predictions) -> Result<()> {
        self.note("predicted");
        Ok(())
    }
    fn denoised(&mut self, _: &Step, _: &mut Denoised) -> Result<()> {
        self.note("denoised");
        Ok(())
    }
    fn transition(&mut self, _: &Step, _: &mut Transition) -> Result<()> {
        self.note("transition");
        Ok(())
    }
    fn finish(&mut self, _: &mut Tensor, _: &dyn Codec) -> Result<()> {
        self.note("finish");
        Ok(())
    }
    fn decoded(&mut self, _: &Tensor) -> Result<()> {
        self.note("decoded");
        Ok(())
    }
    fn notes(&self) -> Vec<String> {
        self.note("notes");
        Vec::new()
    }
    fn report(&self) -> Result<Option<Report>> {
        self.note("report");
        Ok(None)
    }
}

impl Saliency for Diary {
    fn map(&self) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// Two steps of a run, after a first pass of one, with everything that a run may be asked.
fn diary_of<'g>(guidance: impl Guidance + 'g) -> Result<()> {
    let model = ToyModel::new(3)?;
    guidance.recipe()?;
    let mut run = Sampler::new(schedule(2), Euler).guide(guidance).start(&model, start(1))?;
    let _ = run.decode()?;
    run.notes();
    run.reports().map(drop)
}

#[test]
fn wrappers_forward_every_phase() -> Result<()> {
    let plain = Diary::default();
    diary_of(plain.clone())?;
    // How often a name is asked for, and the parts of a sum are asked for theirs, is nobody's business.
    let unnamed = |diary: Vec<(&'static str, usize)>| -> Vec<(&'static str, usize)> {
        diary.into_iter().filter(|(name, _)| *name != "name").collect()
    };
    let wanted = plain.read();
    let names: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "recipe",
            "first pass",
            "check",
            "name",
            "begin",
            "condition",
            "hooks",
            "noise",
            "plan",
            "predicted",
            "denoised",
            "transition",
            "finish",
            "decoded",
            "notes",
            "report"
        ]
    );

    let mut lent = Diary::default();
    diary_of(&mut lent)?;
    assert_eq!(lent.read(), wanted, "&mut");

    let boxed = Diary::default();
    diary_of(Box::new(boxed.clone()) as Box<dyn Guidance>)?;
    assert_eq!(boxed.read(), wanted, "Box");

    let (a, b) = (Diary::default(), Diary::default());
    diary_of((a.clone(), b.clone()))?;
    assert_eq!([a, b].map(|each| unnamed(each.read())), [(); 2].map(|()| unnamed(wanted.clone())), "(A, B)");

    // A force asks its saliency for everything but its name and a report: its own holds the maps. In the first pass, which the
    // saliency wants, the force itself does nothing.
    let inner = Diary::default();
    diary_of(ColorForce::published("eyes", GOLD).saliency(inner.clone()).window(Window::WHOLE))?;
    let called = |diary: Vec<(&'static str, usize)>| -> BTreeMap<&'static str, usize> {
        diary.into_iter().filter(|(name, _)| !["report", "name", "first pass"].contains(name)).collect()
    };
    assert!(inner.read().iter().any(|(name, _)| *name == "first pass"), "its wish for a first pass is passed on");
    assert_eq!(called(inner.read()), called(wanted), "ColorForce");
    Ok(())
}

#[test]
fn a_lent_hook_forwards_every_phase() -> Result<()> {
    for phase in [Interest::CONTEXT, Interest::BIAS, Interest::SCORES, Interest::PROBS, Interest::OUTPUT] {
        let (mut plain, mut lent) = (Probe::wanting(phase), Probe::wanting(phase));
        let once = latent(sampler().hook(&mut plain))?;
        let twice = latent(sampler().hook(&mut &mut lent))?;
        assert_eq!((once, plain.calls), (twice, lent.calls), "{phase:?}");
    }
    Ok(())
}

#[test]
fn a_cancelled_run_calls_the_model_no_more() -> Result<()> {
    let token = impasto::sampler::CancelToken::new();
    let mut probe = Probe::wanting(Interest::PROBS);
    let model = ToyModel::new(3)?;
    let mut run = sampler().hook(&mut probe).cancel(&token).start(&model, start(1))?;
    let _ = run.step()?;
    token.cancel();
    assert!(matches!(run.step(), Err(Error::Cancelled)));
    drop(run);
    assert_eq!(probe.calls, 4);
    Ok(())
}

#[test]
fn phrases_count_wherever_they_stand() -> Result<()> {
    let model = ToyModel::new(3)?;
    let spans = model.prompt("gold eyes and gold hair")?.find("gold")?;
    assert_eq!(spans, [TokenSpan { start: 1, end: 2 }, TokenSpan { start: 4, end: 5 }]);
    Ok(())
}

/// Pulls hard toward nothing in particular, where there is nothing to pull.
struct Weightless;

impl Guidance for Weightless {
    fn transition(&mut self, _: &Step, transition: &mut Transition) -> Result<()> {
        let none = transition.mean.zeros_like();
        transition.pull(none.shallow_clone(), none);
        Ok(())
    }
}

#[test]
fn a_pull_without_weight_changes_no_bit_whatever_the_solver() -> Result<()> {
    let names = [
        "Euler a",
        "Heun",
        "LMS",
        "DPM2",
        "DPM2 a",
        "DPM++ 2S a",
        "dpmpp_2s",
        "DPM++ 2M",
        "DPM++ 3M SDE",
        "DPM++ SDE",
        "DDIM",
        "PLMS",
        "DEIS",
        "UniPC",
        "uni_pc_bh2",
        "LCM",
        "TCD",
    ];
    for name in names {
        let run = |guidance: Option<Weightless>| -> Result<Tensor> {
            let sampler = Sampler::boxed(schedule(6), by_name(name)?.0);
            latent(guidance.into_iter().fold(sampler, Sampler::guide))
        };
        let plain = run(None)?;
        assert_eq!(run(Some(Weightless))?, plain, "{name}");
        assert_eq!(plain.isfinite().all(), Tensor::from(true), "{name}");
    }
    Ok(())
}

#[test]
fn a_part_of_a_run_is_that_part_of_the_whole() -> Result<()> {
    let model = ToyModel::new(3)?;
    let all = Schedule::new(&TrainingSchedule::stable_diffusion(), 9, Spacing::Leading)?;
    let part = all.until(0.6)?;
    let places: Vec<_> = part.steps().map(|step| (step.place(), step.left())).collect();
    assert_eq!(places, (0..5).map(|i| (i, 9 - i)).collect::<Vec<_>>());
    let rest: Vec<_> = all.after(0.6)?.steps().map(|step| (step.place(), step.left())).collect();
    assert_eq!(rest, (5..9).map(|i| (i, 9 - i)).collect::<Vec<_>>());
    assert_eq!(all.last(3)?.until(0.9)?.steps().map(|step| (step.before, step.after)).last(), Some((6, 1)));
    for name in ["DPM++ 2S", "DPM++ 2M", "DPM++ 3M", "DEIS", "UniPC", "PLMS", "Heun"] {
        let solver = by_name(name)?.0;
        let mut whole = Sampler::boxed(all.clone(), solver).start(&model, start(1))?;
        for _ in 0..5 {
            let _ = whole.step()?;
        }
        let mut begun = Sampler::boxed(part.clone(), by_name(name)?.0).start(&model, start(1))?;
        while begun.step()?.is_some() {}
        assert_eq!(begun.latent(), whole.latent(), "{name}");
    }
    Ok(())
}

#[test]
fn what_is_repainted_until_a_level_is_at_that_level_everywhere() -> Result<()> {
    let model = ToyModel::new(3)?;
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 9, Spacing::Leading)?.until(0.6)?;
    let to = schedule.steps().last().expect("five").to;
    let mask = Tensor::zeros([1, 1, 8, 6], (Kind::Float, tch::Device::Cpu));
    let _ = mask.narrow(2, 4, 4).fill_(1.0);
    let finished = |prompt: &str, inside: f64| -> Result<Tensor> {
        let latent = Tensor::full([1, 4, 8, 6], 0.5, (Kind::Float, tch::Device::Cpu));
        let _ = latent.narrow(2, 4, 4).fill_(inside);
        let start = Start::new(prompt, GRID, Noise::seeded(7)).latent(&latent).mask(&mask);
        let mut run = Sampler::new(schedule.clone(), Euler).start(&model, start)?;
        Ok(run.finish()?.copy())
    };
    let (upper, lower) = ((2, 0, 4), (2, 4, 4));
    let of = |x: &Tensor, (axis, from, count): (i64, i64, i64)| x.narrow(axis, from, count).copy();
    let (a, b) = (finished(PROMPT, 0.5)?, finished(PROMPT, -3.0)?);
    assert_eq!(of(&a, lower), of(&b, lower), "nothing is left of what was there");
    // What stays is the picture and the first noise, whatever the prompt.
    let noise = Noise::seeded(7).draw(&[1, 4, 8, 6])?;
    let kept = (noise * to + 0.5) / to.hypot(1.0);
    assert!(apart(&of(&a, upper), &of(&kept, upper)) < 1e-5);
    Ok(())
}

/// Adds to the finished latent, and counts how often.
#[derive(Default)]
struct Finisher(usize);

impl Guidance for Finisher {
    fn finish(&mut self, latent: &mut Tensor, _: &dyn Codec) -> Result<()> {
        self.0 += 1;
        *latent = &*latent + 1.0;
        Ok(())
    }
}

#[test]
fn what_is_kept_stays_and_what_is_not_finished_is_not_touched() -> Result<()> {
    let model = ToyModel::new(3)?;
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 9, Spacing::Leading)?;
    let latent = Tensor::full([1, 4, 8, 6], 0.5, (Kind::Float, tch::Device::Cpu));
    let mask = Tensor::zeros([1, 1, 8, 6], (Kind::Float, tch::Device::Cpu));
    let _ = mask.narrow(2, 4, 4).fill_(1.0);
    let finished = |schedule: Schedule, finisher: &mut Finisher| -> Result<Tensor> {
        let start = Start::new(PROMPT, GRID, Noise::seeded(7)).latent(&latent).mask(&mask);
        let mut run = Sampler::new(schedule, Euler).guide(finisher).start(&model, start)?;
        Ok(run.finish()?.copy())
    };
    let mut finisher = Finisher::default();
    let whole = finished(schedule.clone(), &mut finisher)?;
    assert_eq!((whole.narrow(2, 0, 4), finisher.0), (latent.narrow(2, 0, 4), 1));
    let _ = finished(schedule.until(0.5)?, &mut finisher)?;
    assert_eq!(finisher.0, 1, "another run goes on with it");
    Ok(())
}

#[test]
fn a_context_that_is_edited_in_place_is_the_sites_own() -> Result<()> {
    /// Doubles the third token, in place or not.
    struct Doubler(bool);
    impl CrossAttentionHook for Doubler {
        fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
            if site.is_cross() && branch == Branch::Cond { Interest::CONTEXT } else { Interest::NONE }
        }
        fn context(&mut self, _: &At, context: &mut Tensor) -> Result<()> {
            if !self.0 {
                *context = context.copy();
            }
            let _ = context.narrow(1, 3, 1).f_mul_scalar_(2.0)?;
            Ok(())
        }
    }
    let mut pipeline = impasto::Pipeline::builder().build()?;
    let mut run = |in_place: bool| -> Result<Tensor> {
        let request = pipeline.request("1girl, red hair").seed(7).steps(2).hook(Doubler(in_place));
        Ok(request.run()?.latents().copy())
    };
    assert_eq!(run(true)?, run(false)?);
    Ok(())
}
