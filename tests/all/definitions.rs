//! Figures that follow from the definitions of DAAM and color forcing alone.
//!
//! Scripts made the figures in double precision and wrote the JSON files in `tests/golden/specs/`.

use crate::package_daam::{KeyFilter, PackageDaam};
use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Place, SiteKind, Tap};
use impasto::diffusion::solver::{Euler, EulerAncestral, Solver};
use impasto::diffusion::{Denoiser, Input, Noise, Predictions, Schedule, Spacing, SpacingOptions, TrainingSchedule};
use impasto::guidance::Details;
use impasto::mask::Region;
use impasto::methods::ColorForce;
use impasto::methods::color_force::{ColorReport, ForceRun, ForceTarget, GoldMode, MaskEdge, StepVariance};
use impasto::prompt::Piece;
use impasto::saliency::{Daam, DaamRun, Normalize, WordMapsRun};
use impasto::sampler::{Sampler, Start};
use impasto::testing::ToyModel;
use impasto::text::{Long, Tokenizer};
use impasto::{Branch, Codec, Conditioning, Grid, Prompt, Result, Rgb, Step, Texts, TokenSpan, Window};
use ndarray::Array2;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

fn golden(file: &str) -> Value {
    let path = format!("{}/tests/golden/specs/{file}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("the file is there")).expect("it is JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().expect("a number")],
    }
}

#[track_caller]
fn close(got: &Tensor, want: &Value, tolerance: f64) {
    let want = Tensor::from_slice(&numbers(want)).reshape(got.size());
    let apart = (got.to_kind(Kind::Double) - want).abs().max().double_value(&[]);
    assert!(apart <= tolerance, "{apart:e} apart, {tolerance:e} allowed");
}

// ---- DAAM ----

/// Sets the scores to the logarithms of the golden case's probabilities:
/// softmax over k of 3·sin(1.3k + 4y(1 + h/2) − 5x + .9·layer + .4·step + .7·b) − .2k.
struct Formula {
    tokens: i64,
}

impl CrossAttentionHook for Formula {
    fn interest(&self, _: &AttentionSite, _: Branch) -> Interest {
        Interest::SCORES
    }
    fn scores(&mut self, at: &At, scores: &mut Tensor) -> Result<()> {
        let axis = |n: i64| Tensor::arange(n, (Kind::Double, Device::Cpu));
        let (heads, side) = (scores.size()[1], at.grid.h);
        let h = axis(heads).reshape([1, heads, 1, 1, 1]);
        let y = ((axis(side) + 0.5) / side as f64).reshape([1, 1, side, 1, 1]);
        let x = ((axis(side) + 0.5) / side as f64).reshape([1, 1, 1, side, 1]);
        let k = axis(self.tokens).reshape([1, 1, 1, 1, self.tokens]);
        let b = if at.branch == Branch::Cond { 1.0 } else { 0.0 };
        let phase = 0.9 * layer(at.site) + 0.4 * at.step.index as f64 + 0.7 * b;
        let logits = (&k * 1.3 + y * 4.0 * (h * 0.5 + 1.0) - x * 5.0 + phase).sin() * 3.0 - k * 0.2;
        *scores = logits.to_kind(Kind::Float).reshape([1, heads, side * side, self.tokens]);
        Ok(())
    }
}

fn layer(site: &AttentionSite) -> f64 {
    f64::from(site.name.strip_prefix("layer").and_then(|layer| layer.parse::<u8>().ok()).expect("a layer"))
}

/// A model that has only attention sites, with the golden case's grids and heads.
struct Sites {
    sites: Vec<AttentionSite>,
    toy: ToyModel,
}

/// Layers as (side, heads), on a latent of 8 × 8 cells.
const LAYERS: [(i64, i64); 3] = [(4, 2), (8, 3), (1, 2)];
const TOKENS: i64 = 5;

impl Sites {
    fn new() -> Result<Self> {
        let site = |(index, (side, heads)): (usize, &(i64, i64))| {
            let halvings = (8 / side).ilog2();
            let mut site = AttentionSite::new(format!("layer{index}"), SiteKind::Cross, Place::Up, halvings, *heads);
            site.index = index;
            site
        };
        Ok(Self { sites: LAYERS.iter().enumerate().map(site).collect(), toy: ToyModel::new(1)? })
    }
}

impl Denoiser for Sites {
    fn sites(&self) -> &[AttentionSite] {
        &self.sites
    }
    fn denoise(&self, step: &Step, inputs: &[Input<'_>], tap: &mut Tap<'_>) -> Result<Predictions> {
        let (n, _, h, w) = inputs[0].x.size4()?;
        let b = n * inputs.len() as i64;
        for site in &self.sites {
            let (heads, cells) = (site.heads, Grid::new(h, w).halved(site.halvings).cells());
            let context = Tensor::zeros([b, TOKENS, 4 * heads], (Kind::Float, Device::Cpu));
            let q = Tensor::zeros([b, heads, cells, 4], (Kind::Float, Device::Cpu));
            let split = |context: &Tensor| context.reshape([b, TOKENS, heads, 4]).transpose(1, 2);
            let _ = tap.attend(site, &q, &context, |context| Ok((split(context), split(context))))?;
        }
        Ok(Predictions::new(step, inputs, inputs.iter().map(|input| input.x.shallow_clone())))
    }
}

/// Implements `Codec` with the words and pictures of the toy model.
macro_rules! codec_of_the_toy {
    ($($model:ty),*) => {$(
        impl Codec for $model {
            fn prompt(&self, texts: Texts<'_>) -> Result<Prompt> {
                self.toy.prompt(texts)
            }
            fn text(&self, texts: Texts<'_>) -> Result<Conditioning> {
                self.toy.text(texts)
            }
            fn encode(&self, picture: &Tensor) -> Result<Tensor> {
                self.toy.encode(picture)
            }
            fn decode(&self, latent: &Tensor) -> Result<Tensor> {
                self.toy.decode(latent)
            }
            fn cell(&self) -> i64 {
                self.toy.cell()
            }
        }
    )*};
}

codec_of_the_toy!(Sites, Linear);

/// A sampler of two steps, with the golden case's probabilities.
fn sampler<'g>() -> Result<Sampler<'g>> {
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 2, Spacing::Leading)?;
    Ok(Sampler::new(schedule, Euler).hook(Formula { tokens: TOKENS }))
}

/// The findings of a run's guidance methods.
fn attended(sampler: Sampler<'_>) -> Result<Details> {
    let model = Sites::new()?;
    let mut run = sampler.start(&model, Start::new("one two three", Grid::new(8, 8), Noise::shared(1)))?;
    let _ = run.finish()?;
    run.into_details()
}

#[test]
fn package_daam_equals_the_daam_package() -> Result<()> {
    let golden = golden("daam");
    let mut package = PackageDaam::new(64);
    let _ = attended(sampler()?.attach(&mut package))?;
    assert_eq!(package.keys().count() as u64, golden["keys"].as_u64().expect("a count"));
    close(&package.heat_maps(&KeyFilter::default())?, &golden["reference_map"], 2e-6);
    close(&package.normalized()?, &golden["normalized"], 5e-6);
    let word = package.word("one two", &Sites::new()?)?;
    close(&word.values, &golden["word_1_2"], 1e-6);
    close(&word.expand((16, 12))?, &golden["expand_12x16_minmax"], 1e-5);
    for (threshold, field) in [(0.4, "area_gt_0.4"), (0.6, "area_gt_0.6")] {
        let area = word.expand((16, 12))?.gt(threshold).sum(Kind::Int64).int64_value(&[]);
        assert_eq!(area, golden[field].as_i64().expect("a count"));
    }
    Ok(())
}

#[test]
fn daam_differs_from_the_package_only_by_clamping() -> Result<()> {
    let golden = golden("daam");
    // The model has three layers. The package leaves out the layer of a single cell, so this comparison leaves it out
    // too.
    let look = Daam::of("one two").sites(|site| site.halvings < 3);
    let found = attended(sampler()?.guide(look))?;
    let ours = found.get::<DaamRun>("one two")?.heat_map(0)?.values.shallow_clone();
    // The package sums over two steps and averages over 5 heads. The crate averages over steps too.
    let apart = (ours * 2.0).to_kind(Kind::Double) - Tensor::from_slice(&numbers(&golden["word_1_2"])).reshape([8, 8]);
    let bound = golden["running_sum_clamped_vs_reference_max_abs"].as_f64().expect("a bound");
    assert!(apart.abs().max().double_value(&[]) <= bound);
    assert!(apart.max().double_value(&[]) <= 1e-6, "clamping after the mean never gives more than clamping before");
    Ok(())
}

#[test]
fn head_maps_average_to_the_map() -> Result<()> {
    let look = Daam::of("one two").sites(|site| site.halvings < 3).tune(|options| options.per_head = true);
    let found = attended(sampler()?.guide(look))?;
    let look = found.get::<DaamRun>("one two")?;
    let whole = look.heat_map(0)?.values.shallow_clone();
    let heads = look.head_maps()?;
    assert_eq!(heads.iter().map(|head| head.maps.size()).collect::<Vec<_>>(), [[1, 2, 4, 4], [1, 3, 8, 8]]);
    let resized: Vec<Tensor> =
        heads.iter().map(|head| head.maps.upsample_bicubic2d([8, 8], false, None, None).squeeze_dim(0)).collect();
    let mean = Tensor::cat(&resized, 0).mean_dim([0i64].as_slice(), false, Kind::Float).clamp_min(0.0);
    assert!((mean - whole).abs().max().double_value(&[]) < 1e-6);
    let without = attended(sampler()?.guide(Daam::of("one")))?;
    assert!(without.get::<DaamRun>("one")?.head_maps().is_err());
    Ok(())
}

#[test]
fn maps_of_all_words_equal_single_word_maps() -> Result<()> {
    let found = attended(sampler()?.guide(Daam::words()))?;
    let words = found.get::<WordMapsRun>("Daam::words")?;
    let maps = words.heat_maps(0)?;
    assert_eq!(maps.iter().map(|map| map.label.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
    for map in &maps {
        let alone = attended(sampler()?.guide(Daam::of(&map.label)))?;
        let apart = (alone.get::<DaamRun>(&map.label)?.heat_map(0)?.values - &map.values).abs().max().double_value(&[]);
        assert!(apart < 1e-6, "{}: {apart:e}", map.label);
        assert_eq!(words.heat_map(&map.label.to_uppercase(), 0)?.values, map.values);
    }
    assert!(
        words.heat_map("four", 0).expect_err("not in the prompt").to_string().contains("\"four\" is not in the prompt")
    );
    Ok(())
}

#[test]
fn odd_and_non_square_grids_keep_their_shape_and_mass() -> Result<()> {
    // Queries of zeros attend to all tokens equally. Maps of 33 × 17, 17 × 9 and 9 × 5 cells must stay so when resized.
    for grid in [Grid::new(8, 8), Grid::new(6, 8), Grid::new(65, 33)] {
        let model = Sites::new()?;
        let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 2, Spacing::Leading)?;
        let mut start = Start::new("one two three", grid, Noise::shared(1));
        start.images = 2;
        let mut run = Sampler::new(schedule, Euler).guide(Daam::of("one two")).start(&model, start)?;
        let _ = run.finish()?;
        let found = run.into_details()?;
        for image in 0..2 {
            let map = found.get::<DaamRun>("one two")?.heat_map(image)?.values.shallow_clone();
            assert_eq!(map.size(), [grid.h, grid.w]);
            let apart = (map - 1.0 / TOKENS as f64).abs().max().double_value(&[]);
            assert!(apart < 1e-6, "{grid:?}: {apart:e}");
        }
    }
    Ok(())
}

// ---- Saliency and masks ----

/// exp(−((y−2.5)²+(x−3)²)/4) + .3·exp(−((y−6)²+(x−6)²)/2) + .02·sin(3x+5y)
fn field(y: f64, x: f64) -> f64 {
    let bump = |cy: f64, cx: f64, width: f64| (-((y - cy).powi(2) + (x - cx).powi(2)) / width).exp();
    bump(2.5, 3.0, 4.0) + 0.3 * bump(6.0, 6.0, 2.0) + 0.02 * (3.0 * x + 5.0 * y).sin()
}

fn normalized() -> Result<Tensor> {
    let cells: Vec<f64> = (0..64).map(|i| field(f64::from(i / 8), f64::from(i % 8))).collect();
    Normalize::MinMax.apply(&Tensor::from_slice(&cells).reshape([1, 1, 8, 8]).to_kind(Kind::Float))
}

#[test]
fn maps_are_scaled_and_cut_as_specified() -> Result<()> {
    let golden = golden("saliency");
    let map = normalized()?;
    close(&map, &golden["minmax"], 1e-5);
    for (cutoff, area) in golden["hard_area"].as_object().expect("a table") {
        let cutoff: f64 = cutoff.parse().expect("a number");
        assert_eq!(masked(&map, cutoff, MaskEdge::Hard)?.sum(Kind::Double).double_value(&[]), numbers(area)[0]);
    }
    close(&masked(&map, 0.3, MaskEdge::Soft(0.1))?, &golden["smoothstep_cut0.3_soft0.1"], 1e-5);
    let constant = Tensor::full([1, 1, 4, 4], 0.3, (Kind::Float, Device::Cpu));
    assert_eq!(Normalize::MinMax.apply(&constant)?, constant.zeros_like());

    let ramp = Tensor::arange(11, (Kind::Float, Device::Cpu)).reshape([1, 1, 1, 11]) - 2.0; // -2..=8
    let values =
        |normalize: Normalize| Ok::<_, impasto::Error>(Vec::<f32>::try_from(normalize.apply(&ramp)?.reshape([-1]))?);
    assert_eq!(values(Normalize::Raw)?[..4], [0.0, 0.0, 0.0, 1.0]);
    assert!((values(Normalize::Max)?[6] - 0.5).abs() < 1e-6);
    let quantile = values(Normalize::Quantile(0.1))?; // -1 and 7 become 0 and 1
    assert_eq!((quantile[0], quantile[10]), (0.0, 1.0));
    assert!((quantile[5] - 0.5).abs() < 1e-6, "{quantile:?}");
    Ok(())
}

/// Returns the mask that a force makes from a saliency map of 8 × 8 cells.
fn masked(map: &Tensor, cutoff: f64, edge: MaskEdge) -> Result<Tensor> {
    let values = Vec::<f32>::try_from(map.reshape([-1]))?;
    let drawn = Array2::from_shape_vec((8, 8), values).expect("64 values");
    let mut force = ColorForce::published("drawn", Rgb(0, 0, 0)).saliency(Region::new(drawn));
    force = force.saliency_cutoff(cutoff).tune(|options| options.edge = edge).window(Window::WHOLE);
    let model = ToyModel::new(1)?;
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 1, Spacing::Leading)?;
    let start = Start::new("a", Grid::new(8, 8), Noise::shared(1));
    let mut run = Sampler::new(schedule, Euler).guide(force).start(&model, start)?;
    let _ = run.finish()?;
    Ok(run.into_details()?.get::<ForceRun>("drawn")?.masks()?.reshape([1, 1, 8, 8]))
}

// ---- The force on exactly solvable models ----

/// The exact denoiser of a Gaussian around 0 of variance v: x0 = x·v/(v + σ²).
struct Linear {
    prior: f64,
    toy: ToyModel,
}

impl Denoiser for Linear {
    fn sites(&self) -> &[AttentionSite] {
        &[]
    }
    fn denoise(&self, step: &Step, inputs: &[Input<'_>], _: &mut Tap<'_>) -> Result<Predictions> {
        let share = 1.0 / (1.0 + step.sigma * step.sigma / self.prior);
        Ok(Predictions::new(step, inputs, inputs.iter().map(|input| input.x * share)))
    }
}

fn everywhere() -> Region {
    Region::new(Array2::ones((1, 1)))
}

fn flat(value: f64) -> GoldMode {
    GoldMode::Latent(Tensor::full([1, 4, 1, 1], value, (Kind::Float, Device::Cpu)).into())
}

/// Returns the fraction of the distance to the target by which a force moves the result in one run.
///
/// The run is linear in the target, so its first noise cancels in the difference between a target of 1 and one of 0.
fn fraction(v: f64, force: &dyn Fn() -> ColorForce, solver: &dyn Fn() -> Box<dyn Solver>, steps: usize) -> Result<f64> {
    let model = Linear { prior: v, toy: ToyModel::new(1)? };
    let mut finals = [0.0; 2];
    for (target, end) in finals.iter_mut().enumerate() {
        let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), steps, Spacing::Leading)?;
        let sampler = Sampler::new(schedule, solver())
            .guide(force().tune(|options| options.gold = flat(target as f64)).saliency(everywhere()));
        let mut run = sampler.start(&model, Start::new("a", Grid::new(1, 1), Noise::shared(1)))?;
        *end = run.finish()?.mean(Kind::Double).double_value(&[]);
    }
    Ok(finals[1] - finals[0])
}

fn prior(row: &Value) -> f64 {
    row["v"].as_f64().unwrap_or(f64::INFINITY)
}

#[test]
fn force_on_the_toy_process_equals_the_algebra() -> Result<()> {
    let golden = golden("forcing");
    let mut checked = 0;
    for row in golden["toy"].as_array().expect("rows") {
        let target = match row["target"].as_str().expect("a name") {
            "mean" => ForceTarget::Mean,
            "signal_only" => ForceTarget::SignalOnly,
            "denoised" => ForceTarget::Denoised,
            other => panic!("target is {other:?}; expected mean, signal_only or denoised"),
        };
        let solver = || -> Box<dyn Solver> {
            if row["sampler"] == "euler_a" { Box::new(EulerAncestral::default()) } else { Box::new(Euler) }
        };
        let steps = row["steps"].as_u64().expect("a count") as usize;
        for (color_var, want) in numbers(&row["c"]).into_iter().zip(numbers(&row["final"])) {
            let force = || {
                ColorForce::published("all", Rgb(0, 0, 0)).color_var(color_var).tune(|options| options.target = target)
            };
            let got = fraction(prior(row), &force, &solver, steps)?;
            assert!((got - want).abs() < 1e-4, "{row}: {got}");
            checked += 1;
        }
    }
    assert_eq!(checked, 240);
    Ok(())
}

#[test]
fn reference_steps_keep_strength_at_any_step_count() -> Result<()> {
    for row in golden("forcing")["toy_reference_steps"].as_array().expect("rows") {
        let count = |field: &str| row[field].as_u64().expect("a count") as usize;
        for (color_var, want) in numbers(&row["c"]).into_iter().zip(numbers(&row["final"])) {
            let reference = count("reference_steps");
            let force = || {
                ColorForce::published("all", Rgb(0, 0, 0))
                    .color_var(color_var)
                    .tune(|options| options.reference_steps = Some(reference))
            };
            let solver = || -> Box<dyn Solver> { Box::new(EulerAncestral::default()) };
            let got = fraction(prior(row), &force, &solver, count("steps"))?;
            assert!((got - want).abs() < 1e-4, "{row}: {got}");
        }
    }
    Ok(())
}

#[test]
fn step_variance_choices_equal_the_figures() -> Result<()> {
    let golden = &golden("forcing")["variance_choice"];
    type Make = fn() -> StepVariance;
    /// The variance of the noise that an ancestral sampler adds.
    fn ancestral(step: &Step) -> f64 {
        let (from, to) = (step.from * step.from, step.to * step.to);
        if to == 0.0 { 0.0 } else { to * (from - to) / from }
    }
    let choices: [(&str, Make); 4] = [
        ("noise_level", || StepVariance::NoiseLevel),
        ("next_level", || StepVariance::NextLevel),
        ("sampling", || StepVariance::custom(ancestral)),
        ("noise_level", || StepVariance::custom(|step| step.from * step.from)),
    ];
    for (name, variance) in choices {
        for (color_var, want) in numbers(&golden["c"]).into_iter().zip(numbers(&golden[name])) {
            let force = || {
                ColorForce::published("all", Rgb(0, 0, 0))
                    .color_var(color_var)
                    .tune(|options| options.step_variance = variance())
            };
            let solver = || -> Box<dyn Solver> { Box::new(EulerAncestral::default()) };
            let got = fraction(f64::INFINITY, &force, &solver, 28)?;
            assert!((got - want).abs() < 1e-4, "{name} {color_var}: {got}, not {want}");
        }
    }
    let broken = || {
        ColorForce::published("all", Rgb(0, 0, 0))
            .tune(|options| options.step_variance = StepVariance::custom(|_| f64::NAN))
    };
    let error = fraction(1.0, &broken, &|| Box::new(Euler), 28).expect_err("not a variance").to_string();
    assert!(error.contains("step_variance is NaN"), "{error}");
    Ok(())
}

#[test]
fn small_variance_leaves_too_little_noise() -> Result<()> {
    let model = Linear { prior: 1e-12, toy: ToyModel::new(1)? };
    for row in golden("forcing")["noise_ratio"].as_array().expect("rows") {
        let table = TrainingSchedule::stable_diffusion();
        let timesteps = [numbers(&row["t"])[0], numbers(&row["t_next"])[0]];
        let schedule = Schedule::from_timesteps(&table, &timesteps, &SpacingOptions::default())?;
        let first = schedule.steps().next().expect("two steps");
        let grid = Grid::new(512, 512); // a million values with four channels
        let force = ColorForce::published("all", Rgb(0, 0, 0))
            .color_var(numbers(&row["c"])[0])
            .tune(|options| options.gold = flat(0.0));
        let force = force.saliency(Region::new(Array2::ones((512, 512))));
        let sampler = Sampler::new(schedule, EulerAncestral::default()).guide(force);
        let mut run = sampler.start(&model, Start::new("a", grid, Noise::shared(1)))?;
        run.step()?;
        // The run starts with a deviation slightly above `from` (data and noise); the step's mean keeps that factor.
        let (from, to) = (first.from, first.to);
        let left = run.latent().std(true).double_value(&[]);
        let down = to * to / from;
        let started = (1.0 + from * from).sqrt() / from;
        let ratio = {
            let up = to * to - down * down;
            let mean = left * left - up;
            ((mean / (started * started) + up) / (to * to)).sqrt()
        };
        let want = numbers(&row["ratio"])[0];
        assert!((ratio - want).abs() < 0.003, "{row}: {ratio}");
    }
    Ok(())
}

#[test]
fn force_window_includes_its_end_timesteps() -> Result<()> {
    let forced = |force: ColorForce, steps: usize| -> Result<Vec<f64>> {
        let force = force.saliency(everywhere());
        let model = Linear { prior: 1.0, toy: ToyModel::new(1)? };
        let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), steps, Spacing::Leading)?;
        let sampler = Sampler::new(schedule, Euler).guide(force);
        let mut run = sampler.start(&model, Start::new("a", Grid::new(1, 1), Noise::shared(1)))?;
        let _ = run.finish()?;
        Ok(run.into_details()?.get::<ColorReport>("all")?.steps.iter().map(|step| step.timestep).collect())
    };
    let force = || ColorForce::published("all", Rgb(9, 9, 9));
    assert_eq!(forced(force(), 28)?.first(), Some(&666.0)); // 701 is in the noise schedule, but outside of the window
    assert_eq!(forced(force(), 50)?.first(), Some(&681.0));
    assert_eq!(forced(force().window(Window::timesteps(0.0..=701.0)), 28)?.first(), Some(&701.0));
    assert_eq!(forced(force().window(Window::timesteps(666.0..=666.0)), 28)?, [666.0]);
    let never = force().window(Window::timesteps(2.0..=3.0));
    assert!(forced(force().window(Window::timesteps(2.0..=3.0)), 28)?.is_empty());
    let model = Linear { prior: 1.0, toy: ToyModel::new(1)? };
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 28, Spacing::Leading)?;
    let sampler = Sampler::new(schedule, Euler).guide(never.saliency(everywhere()));
    let run = sampler.start(&model, Start::new("a", Grid::new(1, 1), Noise::shared(1)))?;
    assert!(run.notes().iter().any(|note| note.text.contains("nothing was forced")), "{:?}", run.notes());
    Ok(())
}

// ---- prompts ----

#[test]
fn emphasis_parses_as_in_the_prompt_grammar() {
    let golden = golden("prompt_grammar");
    let cases = golden["cases"].as_array().expect("cases");
    assert!(cases.len() > 60);
    for case in cases {
        let prompt = case["prompt"].as_str().expect("a prompt");
        let pieces = impasto::prompt::parse(prompt);
        let wanted = case["parsed"].as_array().expect("pieces");
        assert_eq!(pieces.len(), wanted.len(), "{prompt:?}: {pieces:?}");
        for (piece, wanted) in pieces.iter().zip(wanted) {
            let Piece::Text { text, weight, source } = piece else {
                assert!(wanted[1].is_null(), "{prompt:?}: expected {wanted}, got a break");
                continue;
            };
            assert_eq!(wanted[0], text.as_str(), "{prompt:?}");
            let apart = (wanted[1].as_f64().expect("a weight") - weight).abs();
            assert!(apart < 1e-12, "{prompt:?}: {text:?} weighs {weight}");
            // Positions of the letters in the prompt. The crate counts bytes, the golden file counts Unicode scalars.
            let ours: Vec<usize> = source.iter().flat_map(|range| range.clone()).collect();
            let starts: Vec<usize> = prompt.char_indices().map(|(at, _)| at).collect();
            let theirs = wanted[2].as_array().expect("spans").iter().flat_map(|span| {
                let ends = numbers(span);
                ends[0] as usize..ends[1] as usize
            });
            let theirs: Vec<usize> = theirs
                .flat_map(|scalar| starts[scalar]..starts.get(scalar + 1).copied().unwrap_or(prompt.len()))
                .collect();
            assert_eq!(ours, theirs, "{prompt:?}: {text:?}");
        }
    }
}

#[test]
fn long_prompts_break_into_the_expected_chunks() -> Result<()> {
    let tokenizer = Tokenizer::clip()?;
    let golden = golden("prompt_grammar");
    for case in golden["chunking"]["cases"].as_array().expect("cases") {
        let (name, prompt) = (&case["name"], case["prompt"].as_str().expect("a prompt"));
        let chunks = tokenizer.chunks(prompt, true, Long::Chunks)?;
        let wanted = case["chunks"].as_array().expect("chunks");
        assert_eq!(chunks.ids.len(), wanted.len(), "{name}");
        for ((ids, weights), wanted) in chunks.ids.iter().zip(&chunks.weights).zip(wanted) {
            let content = wanted["ids"].as_array().expect("ids").len();
            let ids: Vec<f64> = ids.iter().skip(1).take(content).map(|id| *id as f64).collect();
            assert_eq!(ids, numbers(&wanted["ids"]), "{name}");
            let apart = weights.iter().skip(1).zip(numbers(&wanted["weights"]));
            assert!(apart.map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max) < 1e-6, "{name}");
        }
        // A chunk is start, content, end, padding.
        let (first, content) = (&chunks.ids[0], wanted[0]["ids"].as_array().expect("ids").len());
        assert_eq!((first.len(), first[0], first[content + 1]), (77, 49406, 49407), "{name}");
        assert!(first[content + 1..].iter().all(|id| *id == 49407), "{name}");
    }
    Ok(())
}

#[test]
fn phrases_are_found_through_markup_and_chunks() -> Result<()> {
    let tokenizer = Tokenizer::clip()?;
    let prompt = |text: &str| Ok::<_, impasto::Error>(tokenizer.chunks(text, true, Long::Chunks)?.prompt);
    let span = |start, end| TokenSpan { start, end };

    let weighed = prompt(r"((golden eyes)), [hair:2] \(eyes\) BREAK eyes")?;
    assert_eq!(weighed.text(), "golden eyes, hair:2 (eyes) eyes");
    // Tokens: golden eyes , hair : 2 ( eyes ) | eyes
    assert_eq!(weighed.find("golden eyes")?, [span(1, 3)]);
    assert_eq!(weighed.find("eyes")?, [span(2, 3), span(8, 9), span(78, 79)]);
    assert_eq!(weighed.with_word_before("eyes", "red")?, r"((golden red eyes)), [hair:2] \(red eyes\) BREAK red eyes");

    // A phrase that two chunks share has a span in each. The end token of the first chunk and the start token of the
    // second lie between.
    let across = prompt(&format!("{}golden eyes", "cat ".repeat(74)))?;
    assert_eq!(across.find("golden eyes")?, [span(75, 76), span(78, 79)]);
    assert_eq!(across.content(), [span(1, 76), span(78, 79)]);
    assert_eq!(across.cut(), None);

    let cut = tokenizer.chunks(&format!("{}golden eyes", "cat ".repeat(74)), true, Long::Truncate)?;
    assert_eq!((cut.ids.len(), cut.prompt.cut()), (1, Some("eyes")));
    assert!(matches!(cut.prompt.find("eyes"), Err(impasto::Error::PhraseTruncated { limit: 75, .. })));
    Ok(())
}

#[test]
fn package_daam_refuses_two_chunks() -> Result<()> {
    let pipeline = impasto::Pipeline::builder().build()?;
    let mut maps = PackageDaam::new(64);
    let error = pipeline.request("eyes BREAK hair").size((64, 64)).steps(1).attach(&mut maps).run().map(drop);
    let error = error.expect_err("two chunks").to_string();
    assert!(error.contains("2 chunks") && error.contains("use Daam"), "{error}");
    Ok(())
}
