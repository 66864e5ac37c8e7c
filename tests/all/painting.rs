//! Paint with Words: reference figures, laws, and messages about bad input.
//!
//! The figures are in `tests/golden/specs/paint_with_words.json`; numpy made them in double precision.

use super::attention_only::{
    AttentionOnly, BLUE, GRAY, GREEN, PROMPT, Painter, RED, Reader, TOKENS, apart, attend, close, four_steps, golden,
    numbers, tensor, weights,
};
use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest};
use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Noise, Predictions, Schedule, Spacing, TrainingSchedule};
use impasto::guidance::{Details, GuidanceRun, Plan, Report, Setup};
use impasto::mask::{Region, Resample};
use impasto::methods::color_force::ColorReport;
use impasto::methods::paint_with_words::{MapColors, PaintReport, PaintWarning, WeightFn};
use impasto::methods::{ColorForce, PaintWithWords};
use impasto::sampler::{Batching, Sampler, Start};
use impasto::testing::ToyModel;
use impasto::wording::{Note, Remedy};
use impasto::{Branch, Error, Grid, Raster, Result, Rgb, Step, Window};
use ndarray::Array2;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// The golden case's map, 16 rows of 24 pixels.
fn map() -> Raster {
    let golden = golden();
    let mut map = Raster::flat(GRAY, (24, 16));
    for (y, row) in golden["map"]["rows"].as_array().expect("rows").iter().enumerate() {
        for (x, letter) in row.as_str().expect("letters").chars().enumerate() {
            let color = match letter {
                'r' => RED,
                'f' => BLUE,
                'm' => GREEN,
                _ => GRAY,
            };
            map.set(x as u32, y as u32, color);
        }
    }
    map
}

/// The golden case's areas.
fn painted() -> PaintWithWords {
    PaintWithWords::new(&map()).color(RED, "red boat", 1.5).color(BLUE, "full moon", 0.5).color(GREEN, "moon", -0.4)
}

#[test]
fn weights_equal_the_reference_on_both_grids() -> Result<()> {
    let (golden, grid) = (golden(), Grid::new(4, 6));
    for (name, resample) in [("corners", Resample::Corners), ("area", Resample::Area)] {
        let mut paint = Painter::new(painted().weight(WeightFn::Flat(1.0)).tune(|options| options.resample = resample));
        AttentionOnly::new().begin(PROMPT, grid, four_steps().attach(&mut paint))?;
        for (site, size) in [(0, "4x6"), (1, "2x3")] {
            close(&weights(&mut paint, grid, site, Branch::Cond)?, &golden["weights"][format!("{size}_{name}")], 1e-5);
        }
    }
    Ok(())
}

#[test]
fn thin_stripe_follows_the_resampling_mode() -> Result<()> {
    let (golden, grid) = (golden(), Grid::new(64, 64));
    let mut map = Raster::flat(GRAY, (512, 512));
    map.paste(&Raster::flat(RED, (8, 512)), 100, 0);
    for (name, resample) in [("corners", Resample::Corners), ("area", Resample::Area), ("", Resample::Cover)] {
        let paint = PaintWithWords::new(&map).color(RED, "sea", 1.0).weight(WeightFn::Flat(1.0));
        let mut paint = Painter::new(paint.tune(|options| options.resample = resample));
        AttentionOnly::new().begin(PROMPT, grid, four_steps().attach(&mut paint))?;
        for (site, row) in golden["resample_probe"]["rows"].as_array().expect("rows").iter().enumerate() {
            let w = weights(&mut paint, grid, site, Branch::Cond)?.select(1, 2);
            let (max, mean) = (w.max().double_value(&[]), w.mean(Kind::Double).double_value(&[]));
            if resample == Resample::Cover {
                assert_eq!(max, 1.0, "a thin stroke at full strength");
                continue;
            }
            let want = |what: &str| row[format!("{name}_{what}")].as_f64().expect("a number");
            assert!((max - want("max")).abs() < 1e-5 && (mean - want("mean")).abs() < 1e-5, "{name} {row}");
        }
    }
    Ok(())
}

#[test]
fn blurred_edge_equals_the_reference() -> Result<()> {
    let (golden, grid) = (golden(), Grid::new(24, 24));
    let mut map = Raster::flat(GRAY, (24, 24));
    map.paste(&Raster::flat(RED, (11, 9)), 9, 6);
    let paint = PaintWithWords::new(&map).color(RED, "sea", 1.5).weight(WeightFn::Flat(1.0));
    let mut paint = Painter::new(paint.tune(|options| options.blur = 2.0));
    AttentionOnly::new().begin(PROMPT, grid, four_steps().attach(&mut paint))?;
    let w = weights(&mut paint, grid, 0, Branch::Cond)?.select(1, 2).reshape([24, 24]);
    close(&w.get(10), &golden["blur"]["radius8_row10"], 1e-5);
    close(&w, &golden["blur"]["kernel39"], 1e-4); // the package cuts its kernel off elsewhere
    Ok(())
}

/// The golden case's q, k and v of some images, on a grid of 2 × 3.
fn queries(images: std::ops::Range<i64>) -> [Tensor; 3] {
    let (golden, n) = (golden(), images.end - images.start);
    [("q", 6), ("k", TOKENS), ("v", TOKENS)]
        .map(|(name, rows)| tensor(&golden["attention"][name], &[2, 2, rows, 4]).narrow(0, images.start, n))
}

fn law(case: &Value) -> WeightFn {
    let gain = case["gain"].as_f64().expect("a gain");
    match case["fn"].as_str().expect("a name") {
        "paper" => WeightFn::paper(),
        "std" => WeightFn::LogStd(gain),
        "std_sq" => WeightFn::LogSqStd(gain),
        _ => WeightFn::LogMax(gain),
    }
}

#[test]
fn attention_equals_the_reference_in_both_kernels() -> Result<()> {
    let (golden, grid) = (golden(), Grid::new(2, 3));
    let cases = golden["attention"]["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 24);
    for case in cases {
        let paint = painted().weight(law(case)).tune(|options| options.resample = Resample::Corners);
        let mut paint = Painter::new(paint);
        AttentionOnly::new().begin(PROMPT, grid, four_steps().attach(&mut paint))?;
        let image = case["image"].as_i64().expect("an index");
        let sigma = case["sigma"].as_f64().expect("a level");
        let [q, k, v] = queries(image..image + 1);
        let spot = (0, grid, Branch::Cond);
        let fused = attend(vec![paint.hook()], spot, sigma, [&q, &k, &v])?;
        close(&fused, &case["out"], 2e-5);
        // `per_weight` is the amount that a weight of 1 adds to scaled scores.
        let told = paint.details()?.steps[0].per_weight[0];
        let want = case["mask_scale"].as_f64().expect("a number");
        assert!((told - want).abs() <= 1e-5 * want.abs().max(1.0), "{told} is not {want}");
        let explicit = attend(vec![paint.hook(), &mut Reader::default()], spot, sigma, [&q, &k, &v])?;
        close(&explicit, &case["out"], 2e-5);
    }
    Ok(())
}

#[test]
fn half_precision_stays_near() -> Result<()> {
    let (golden, grid) = (golden(), Grid::new(2, 3));
    let case = &golden["attention"]["cases"][0];
    let [q, k, v] = queries(0..1).map(|x| x.to_kind(Kind::BFloat16));
    let paint = painted().weight(law(case)).tune(|options| options.resample = Resample::Corners);
    let mut paint = Painter::new(paint);
    AttentionOnly::new().begin(PROMPT, grid, four_steps().attach(&mut paint))?;
    let out = attend(vec![paint.hook()], (0, grid, Branch::Cond), 14.614647, [&q, &k, &v])?;
    close(&out.to_kind(Kind::Float), &case["out"], 2e-2);
    Ok(())
}

#[test]
fn an_image_of_a_batch_has_its_own_statistic() -> Result<()> {
    let grid = Grid::new(2, 3);
    for law in [WeightFn::LogMax(1.0), WeightFn::LogStd(0.4)] {
        let mut paint = Painter::new(painted().weight(law));
        AttentionOnly::new().begin(PROMPT, grid, four_steps().attach(&mut paint))?;
        let mut out = |images| -> Result<Tensor> {
            let [q, k, v] = queries(images);
            attend(vec![paint.hook()], (0, grid, Branch::Cond), 3.0, [&q, &k, &v])
        };
        assert!(apart(&out(0..2)?, &Tensor::cat(&[out(0..1)?, out(1..2)?], 0)) < 1e-6);
    }
    Ok(())
}

#[test]
fn strength_raises_attention_inside_the_mask() -> Result<()> {
    let (golden, grid) = (golden(), Grid::new(2, 3));
    let inside = golden["mass"]["cells_inside"][0].as_i64().expect("a cell");
    let mask = Array2::from_shape_fn((2, 3), |(y, x)| if (y * 3 + x) as i64 == inside { 1.0 } else { 0.0 });
    let [q, k, _] = queries(0..1);
    // With a value of 1 for the phrase's tokens and 0 for all others, the output is the phrase's probability.
    let v = Tensor::zeros([1, 2, TOKENS, 4], (Kind::Float, Device::Cpu));
    let _ = v.narrow(2, 5, 2).fill_(1.0);
    let mut last = 0.0;
    for row in golden["mass"]["rows"].as_array().expect("rows") {
        let strength = row["strength"].as_f64().expect("a number");
        let paint = PaintWithWords::default().mask(Region::new(mask.clone()), "red boat", strength);
        let mut paint = Painter::new(paint);
        AttentionOnly::new().begin(PROMPT, grid, four_steps().attach(&mut paint))?;
        let mass = attend(vec![paint.hook()], (0, grid, Branch::Cond), 14.614647, [&q, &k, &v])?.select(0, 0);
        let mass = mass.mean_dim([1i64].as_slice(), false, Kind::Double);
        let here = mass.double_value(&[inside]);
        let elsewhere = (mass.sum(Kind::Double).double_value(&[]) - here) / 5.0;
        assert!((here - row["inside"].as_f64().expect("a number")).abs() < 1e-5, "{here} {row}");
        assert!((elsewhere - row["outside"].as_f64().expect("a number")).abs() < 1e-5, "{elsewhere} {row}");
        assert!(here > last, "attention grows with strength");
        last = here;
    }
    Ok(())
}

#[test]
fn noise_levels_follow_sd_and_are_capped() -> Result<()> {
    let golden = golden();
    let table = TrainingSchedule::stable_diffusion();
    for (timestep, sigma) in golden["sigma"]["train"].as_object().expect("levels") {
        let schedule = Schedule::from_timesteps(&table, &[timestep.parse().expect("a number")], &Default::default())?;
        let (got, want) = (schedule.sigma_max(), sigma.as_f64().expect("a number"));
        assert!((got / want - 1.0).abs() < 1e-4, "{got} is not {want}");
    }
    let grid = Grid::new(2, 3);
    let [q, k, v] = queries(0..1);
    let mut paint = Painter::new(painted());
    AttentionOnly::new().begin(PROMPT, grid, four_steps().attach(&mut paint))?;
    let mut at = |sigma| attend(vec![paint.hook()], (0, grid, Branch::Cond), sigma, [&q, &k, &v]);
    assert_eq!(at(4096.0)?, at(14.6146)?);
    assert!(at(f64::INFINITY).expect_err("infinite").to_string().contains("sigma is inf"));
    Ok(())
}

#[test]
fn a_statistic_below_zero_counts_as_zero() -> Result<()> {
    let grid = Grid::new(2, 3);
    let [q, _, v] = queries(0..1);
    let k = -&q.mean_dim([2i64].as_slice(), true, Kind::Float).expand([-1, -1, TOKENS, -1], false) * 10.0;
    let q = q.mean_dim([2i64].as_slice(), true, Kind::Float).expand([-1, -1, 6, -1], false).contiguous();
    let mut paint = Painter::new(painted().weight(WeightFn::paper()));
    AttentionOnly::new().begin(PROMPT, grid, four_steps().attach(&mut paint))?;
    let spot = (0, grid, Branch::Cond);
    let plain = attend(vec![], spot, 3.0, [&q, &k.contiguous(), &v])?;
    assert!(apart(&attend(vec![paint.hook()], spot, 3.0, [&q, &k.contiguous(), &v])?, &plain) < 1e-6);
    Ok(())
}

#[test]
fn boxes_stay_in_place_on_uneven_grids() -> Result<()> {
    let golden = golden();
    for row in golden["grids"].as_array().expect("rows") {
        let size = numbers(&row["size"]);
        let latent = Grid::new(size[0] as i64 / 8, size[1] as i64 / 8);
        let grids: Vec<f64> = (0..4).map(|n| latent.halved(n)).flat_map(|g| [g.h as f64, g.w as f64]).collect();
        assert_eq!(grids, numbers(&row["unet"]));
    }
    let (h, w) = (264u32, 1000u32);
    let mut map = Raster::flat(GRAY, (w, h));
    map.paste(&Raster::flat(RED, (300, 100)), 610, 90);
    let grid = Grid::new(33, 125);
    let paint = PaintWithWords::new(&map).color(RED, "sea", 1.0).weight(WeightFn::Flat(1.0));
    let mut paint = Painter::new(paint);
    AttentionOnly::new().begin(PROMPT, grid, four_steps().attach(&mut paint))?;
    for site in [2, 3] {
        let Grid { h: rows, w: columns } = grid.halved(site as u32);
        let weights = weights(&mut paint, grid, site, Branch::Cond)?.select(1, 2).reshape([rows, columns]);
        // Shares of the cells that the box covers along one axis.
        let covered = |from: f64, to: f64, cells: i64, size: u32| -> Vec<f64> {
            let side = f64::from(size) / cells as f64;
            (0..cells).map(|i| i as f64 * side).map(|at| ((at + side).min(to) - at.max(from)).max(0.0) / side).collect()
        };
        let (down, across) = (covered(90.0, 190.0, rows, h), covered(610.0, 910.0, columns, w));
        for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
            let want = down[y as usize] * across[x as usize];
            assert!((weights.double_value(&[y, x]) - want).abs() < 1e-5, "cell {y}, {x} of {rows} × {columns}");
        }
    }
    Ok(())
}

#[test]
fn mirrored_map_has_mirrored_weights() -> Result<()> {
    for (h, w) in [(96u32, 160u32), (136, 104)] {
        let grid = Grid::new(i64::from(h) / 8, i64::from(w) / 8);
        let paint = |mirrored: bool| -> Result<Painter> {
            let mut map = Raster::flat(GRAY, (w, h));
            map.paste(&Raster::flat(RED, (w / 3, h / 2)), if mirrored { w - w / 3 - 11 } else { 11 }, 13);
            let paint = PaintWithWords::new(&map).color(RED, "sea", 1.0).weight(WeightFn::Flat(1.0));
            let mut paint = Painter::new(paint);
            AttentionOnly::new().begin(PROMPT, grid, four_steps().attach(&mut paint))?;
            Ok(paint)
        };
        let (mut one, mut other) = (paint(false)?, paint(true)?);
        for site in 0..4 {
            let Grid { h: rows, w: columns } = grid.halved(site as u32);
            let of = |paint: &mut Painter| -> Result<Tensor> {
                Ok(weights(paint, grid, site, Branch::Cond)?.reshape([rows, columns, TOKENS]))
            };
            assert!(apart(&of(&mut one)?.flip([1]), &of(&mut other)?) < 1e-6);
        }
    }
    Ok(())
}

#[test]
fn palette_counts_colors_and_finds_the_nearest() {
    let (golden, palette) = (golden(), MapColors::of(&map()));
    let entries = golden["palette"]["entries"].as_array().expect("entries");
    assert_eq!(palette.colors().len(), entries.len());
    let rgb = |value: &Value| {
        let rgb = numbers(value);
        Rgb(rgb[0] as u8, rgb[1] as u8, rgb[2] as u8)
    };
    for (got, want) in palette.colors().iter().zip(entries) {
        assert_eq!((got.color, got.pixels as f64), (rgb(&want["rgb"]), numbers(&want["pixels"])[0]));
        assert!((got.share - numbers(&want["share"])[0]).abs() < 1e-6);
    }
    for case in golden["palette"]["nearest"].as_array().expect("cases") {
        let (color, distance) = palette.nearest(rgb(&case["asked"])).expect("there are colors");
        assert_eq!(color, rgb(&case["nearest"]));
        assert!((distance - numbers(&case["distance"])[0]).abs() < 1e-4);
    }
    assert_eq!(palette.colors().iter().filter(|entry| entry.share > 0.2).count(), 2);
    assert_eq!(MapColors::default().nearest(RED), None);
}

#[test]
fn pixels_take_the_nearest_color_in_tolerance() -> Result<()> {
    let grid = Grid::new(2, 4);
    let mut map = Raster::flat(RED, (4, 2));
    [Rgb(200, 0, 0), Rgb(90, 0, 160), BLUE].into_iter().zip(1..).for_each(|(color, x)| map.set(x, 0, color));
    let shares = |tolerance: f64| -> Result<Vec<f64>> {
        let paint = PaintWithWords::new(&map).color(RED, "red", 1.0).color(BLUE, "moon", 1.0);
        let mut paint = Painter::new(paint.tune(|options| options.tolerance = tolerance));
        AttentionOnly::new().begin(PROMPT, grid, four_steps().attach(&mut paint))?;
        Ok(paint.details()?.areas.iter().map(|area| area.share * 8.0).collect())
    };
    assert_eq!(shares(0.0)?, [5.0, 1.0]);
    assert_eq!(shares(60.0)?, [6.0, 1.0]);
    assert_eq!(shares(100.0)?, [6.0, 1.0]);
    Ok(())
}

/// A guidance method that adds a variation of a branch, with the given prompt.
struct Vary(&'static str, Branch);

impl GuidanceRun for Vary {
    fn begin(&mut self, setup: &mut Setup) -> Result<()> {
        setup.add("varied", self.1, self.0, setup.text(self.0)?).map(drop)
    }
    fn plan(&mut self, _: &Step, plan: &mut Plan) -> Result<()> {
        plan.evaluate(Branch::Extra(0));
        Ok(())
    }
}

#[test]
fn varied_prompt_is_painted_at_its_own_tokens() -> Result<()> {
    let grid = Grid::new(4, 6);
    let begun = |text: &'static str, like| -> Result<Painter> {
        let mut paint = Painter::new(painted().weight(WeightFn::Flat(1.0)));
        let sampler = four_steps().attach(&mut paint).guide(move || Vary(text, like));
        AttentionOnly::new().begin(PROMPT, grid, sampler)?;
        Ok(paint)
    };
    let of = |paint: &mut Painter, branch| weights(paint, grid, 0, branch);

    let mut shifted = begun("at a sea under a red boat with a full moon above a moon", Branch::Cond)?;
    let (own, moved) = (of(&mut shifted, Branch::Cond)?, of(&mut shifted, Branch::Extra(0))?);
    assert_eq!(moved.narrow(1, 1, TOKENS - 1), own.narrow(1, 0, TOKENS - 1), "shifted by one token");
    assert!(own.abs().max().double_value(&[]) > 0.4);

    let mut broken = begun("a sea under a red old boat with a full moon above a moon", Branch::Cond)?;
    let moved = of(&mut broken, Branch::Extra(0))?;
    assert_eq!(moved.narrow(1, 5, 3).abs().max().double_value(&[]), 0.0, "the broken phrase is left alone");
    assert!(apart(&moved.narrow(1, 10, 2), &own.narrow(1, 9, 2)) == 0.0, "the others are painted");
    assert!(
        broken.notes().iter().any(|note| note.text.contains("\"red boat\" is not in") && note.text.contains("varied"))
    );

    let mut other = begun(PROMPT, Branch::Uncond)?;
    assert_eq!(
        of(&mut other, Branch::Extra(0))?.abs().max().double_value(&[]),
        0.0,
        "a variation of Uncond is not painted"
    );
    assert_eq!(of(&mut other, Branch::Uncond)?.abs().max().double_value(&[]), 0.0);
    Ok(())
}

#[test]
fn paint_works_on_a_context_made_longer() -> Result<()> {
    struct Longer;
    impl CrossAttentionHook for Longer {
        fn interest(&self, _: &AttentionSite, _: Branch) -> Interest {
            Interest::CONTEXT
        }
        fn context(&mut self, _: &At, context: &mut Tensor) -> Result<()> {
            *context = Tensor::f_cat(&[&*context, &context.narrow(1, 0, 2)], 1)?;
            Ok(())
        }
    }
    let model = ToyModel::new(3)?;
    let mut run = toy().guide(toy_paint()).hook(Longer).start(&model, toy_start(1))?;
    let _ = run.finish()?;
    Ok(())
}

// ---- Whole runs of the toy model ----

const GRID: Grid = Grid::new(8, 6);

fn toy<'g>() -> Sampler<'g> {
    Sampler::new(
        Schedule::new(&TrainingSchedule::stable_diffusion(), 6, Spacing::Karras).expect("steps in range"),
        Euler,
    )
}

fn toy_start(images: usize) -> Start<'static> {
    let mut start = Start::new("girl with gold eyes", GRID, Noise::seeded(7));
    start.images = images;
    start
}

/// A painted map with eyes in the left half and the girl in the right half.
fn toy_paint() -> PaintWithWords {
    let mut map = Raster::flat(GRAY, (6, 8));
    map.paste(&Raster::flat(RED, (3, 8)), 0, 0);
    PaintWithWords::new(&map).color(RED, "eyes", 2.0).color(GRAY, "girl", 1.0).weight(WeightFn::LogMax(1.0))
}

/// The results of a whole run of the toy model.
pub struct Ran {
    pub latent: Tensor,
    pub reports: Vec<Report>,
    pub details: Details,
    notes: Vec<Note>,
}

impl Ran {
    pub fn new(sampler: Sampler<'_>, start: Start<'_>) -> Result<Self> {
        let model = ToyModel::new(3)?;
        let mut run = sampler.start(&model, start)?;
        let latent = run.finish()?.shallow_clone();
        Ok(Self { latent, notes: run.notes(), reports: run.reports()?, details: run.into_details()? })
    }
    /// Returns the notes of a guidance method.
    pub fn notes(&self, of: &str) -> Vec<&Note> {
        self.notes.iter().filter(|note| note.origin == Some(of)).collect()
    }
    pub fn paint(&self) -> Result<&PaintReport> {
        self.details.get("PaintWithWords")
    }
}

fn ran(sampler: Sampler<'_>) -> Result<Ran> {
    Ran::new(sampler, toy_start(1))
}

fn latent(sampler: Sampler<'_>) -> Result<Tensor> {
    Ok(ran(sampler)?.latent)
}

#[test]
fn paint_that_cannot_act_keeps_every_bit() -> Result<()> {
    let plain = latent(toy())?;
    let idle = |paint: PaintWithWords| latent(toy().guide(paint));
    let nothing = PaintWithWords::default().mask(Region::new(Array2::ones((8, 6))), "eyes", 0.0);
    assert_eq!(idle(nothing)?, plain, "strength 0");
    for law in [WeightFn::LogMax(0.0), WeightFn::LogStd(0.0), WeightFn::LogSqStd(0.0), WeightFn::Flat(0.0)] {
        assert_eq!(idle(toy_paint().weight(law))?, plain, "gain 0");
    }
    let closed = ran(toy().guide(toy_paint().window(Window::sigmas(0.0..=1e-6))))?;
    assert_eq!(closed.latent, plain, "a window without a step");
    let said = closed.notes("PaintWithWords");
    assert!(said[0].text.contains("no step of the schedule is in the window (sigmas 0..=0.000001)"));
    assert!(closed.paint()?.steps.is_empty());
    assert!(apart(&idle(toy_paint())?, &plain) > 1e-2);
    Ok(())
}

#[test]
fn a_window_paints_the_steps_inside_it() -> Result<()> {
    let windowed = ran(toy().guide(toy_paint().window(Window::sigmas(1.0..=f64::INFINITY))))?;
    let steps = &windowed.paint()?.steps;
    assert!(!steps.is_empty() && steps.len() < 6 && steps.iter().all(|step| step.sigma >= 1.0));
    assert!(steps.windows(2).all(|pair| pair[0].index + 1 == pair[1].index));
    Ok(())
}

/// A guidance method that keeps the first evaluation's predictions.
#[derive(Default)]
struct First(Option<(Tensor, Tensor)>);

impl GuidanceRun for First {
    fn predicted(&mut self, _: &Step, predictions: &mut Predictions) -> Result<()> {
        let both = (predictions.x0(Branch::Uncond)?.copy(), predictions.x0(Branch::Cond)?.copy());
        self.0.get_or_insert(both);
        Ok(())
    }
}

#[test]
fn negative_prompt_is_not_painted_in_any_batching() -> Result<()> {
    let model = ToyModel::new(3)?;
    let first = |batching, paint: Option<PaintWithWords>| -> Result<(Tensor, Tensor)> {
        let mut first = First::default();
        let mut sampler = toy().batching(batching).attach(&mut first);
        if let Some(paint) = paint {
            sampler = sampler.guide(paint);
        }
        sampler.start(&model, toy_start(2))?.step()?;
        Ok(first.0.expect("there was a step"))
    };
    let (uncond, cond) = first(Batching::OneByOne, None)?;
    let (painted_uncond, painted_cond) = first(Batching::OneByOne, Some(toy_paint()))?;
    assert_eq!(uncond, painted_uncond);
    assert!(apart(&cond, &painted_cond) > 1e-3);
    let (together_uncond, together_cond) = first(Batching::Together, Some(toy_paint()))?;
    assert!(apart(&together_uncond, &painted_uncond) < 1e-5 && apart(&together_cond, &painted_cond) < 1e-5);
    Ok(())
}

#[test]
fn details_say_what_was_painted_and_how_strongly() -> Result<()> {
    for batching in [Batching::Together, Batching::OneByOne] {
        let run = Ran::new(toy().batching(batching).guide(toy_paint()), toy_start(2))?;
        let details = run.paint()?;
        assert_eq!((details.areas[0].share, details.areas[0].color), (0.5, Some(RED)));
        assert_eq!((details.areas[0].tokens[0].start, details.areas[0].largest_cell), (4, 1.0));
        assert!(details.unused.is_empty() && details.warnings.is_empty());
        assert_eq!(details.steps.len(), 6);
        let per_weight: Vec<f64> = details.steps.iter().map(|step| step.per_weight[1]).collect();
        assert!(details.steps.iter().all(|step| step.per_weight.len() == 2), "one for each image");
        assert!(per_weight[0] > per_weight[5] && per_weight[5] > 0.0, "{per_weight:?}");
        let report = &run.reports[0];
        assert_eq!((report.name.as_str(), report.pictures.len()), ("PaintWithWords \"eyes\", \"girl\"", 2));
        assert_eq!(report.pictures[0].raster()?.pixel(0, 0), Some(Rgb(255, 255, 255)));
        assert_eq!(report.data["areas"][1]["phrase"], "girl");
    }
    Ok(())
}

#[test]
fn custom_weight_function_sees_weights_and_scores() -> Result<()> {
    let own = WeightFn::custom(|w, sigma, scores| {
        assert_eq!(w.size(), [1, 1, 48, scores.tokens().len()]);
        Ok(w.f_mul(&scores.max()?)?.f_mul_scalar(sigma.min(14.6146).ln_1p())?)
    });
    let custom = latent(toy().guide(toy_paint().weight(own)))?;
    assert!(apart(&custom, &latent(toy().guide(toy_paint()))?) < 1e-3);
    Ok(())
}

#[test]
fn a_painted_region_is_a_saliency_for_others() -> Result<()> {
    let paint = toy_paint();
    let region = paint.region("eyes")?;
    let force = ColorForce::published("eyes", BLUE).saliency(region).saliency_cutoff(0.5).window(Window::WHOLE);
    let forced = ran(toy().guide(paint.clone()).guide(force))?;
    assert!(forced.details.get::<ColorReport>("eyes")?.steps.iter().all(|step| step.areas == [0.5]));
    let message = paint.region("hair").map(drop).expect_err("not painted").to_string();
    assert!(message.contains("phrase is \"hair\"") && message.contains("eyes, girl"), "{message}");
    Ok(())
}

// ---- Bad input ----

#[test]
fn bad_input_names_the_value_and_the_way_out() {
    let model = ToyModel::new(3).expect("a model");
    let begin = |paint: PaintWithWords| toy().guide(paint).start(&model, toy_start(1)).map(drop);
    let fails = |paint: PaintWithWords, words: &[&str]| {
        let message = begin(paint).expect_err("bad input").to_string();
        words.iter().for_each(|word| assert!(message.contains(word), "\"{message}\" does not say \"{word}\""));
    };
    let map = || PaintWithWords::new(&Raster::flat(RED, (6, 8)));
    let red = |strength| map().color(RED, "eyes", strength);

    fails(map(), &["PaintWithWords", "paint is empty", "at least one area"]);
    fails(red(f64::NAN), &["strength is NaN for \"eyes\"", "-10..=10"]);
    fails(red(11.0), &["strength is 11"]);
    fails(red(1.0).weight(WeightFn::LogMax(-0.1)), &["gain is -0.1", "0..=10"]);
    fails(red(1.0).weight(WeightFn::Flat(f64::INFINITY)), &["gain is inf"]);
    fails(red(1.0).tune(|options| options.blur = 1.6), &["blur is 1.6", "0..=1.5", "quarter"]);
    fails(red(1.0).tune(|options| options.blur = f64::NAN), &["blur is NaN"]);
    fails(red(1.0).tune(|options| options.tolerance = 101.0), &["tolerance is 101", "0..=100"]);
    fails(red(1.0).window(Window::sigmas(2.0..=1.0)), &["window is sigmas 2..=1", "smaller one first"]);
    fails(red(1.0).window(Window::sigmas(0.0..=f64::NAN)), &["window is sigmas 0..=NaN"]);
    fails(red(1.0).sites(|_| false), &["no attention site is selected", "block.attn2"]);
    fails(red(1.0).color(RED, "Eyes", 2.0), &["#ff0000 with the phrase \"Eyes\" twice", "one strength"]);
    fails(map().color(RED, " ,", 1.0), &["the phrase has no letter or digit"]);
    fails(map().color(RED, "ears", 1.0), &["\"ears\"", "did you mean \"eyes\""]);
    fails(
        map().color(Rgb(250, 10, 0), "eyes", 1.0).color(BLUE, "girl", 1.0),
        &[
            "color #fa0a00 is not in the map; the nearest color is #ff0000 (100 % of the map), at an RGB distance of \
             11.2",
            "color #0000ff is not in the map",
            "the map's colors are #ff0000 (100 %); use one of these colors",
        ],
    );
    // The proposed tolerance accepts every missing color: the distances are 11.2 and 30.8.
    fails(
        map().color(Rgb(250, 10, 0), "eyes", 1.0).color(Rgb(230, 0, 18), "girl", 1.0),
        &["; a tolerance of 31 accepts the nearest colors; set `PaintOptions::tolerance`"],
    );
    fails(PaintWithWords::default().color(RED, "eyes", 1.0), &["color is #ff0000", "PaintWithWords::new"]);
    fails(
        PaintWithWords::new(&Raster::flat(RED, (8, 8))).color(RED, "eyes", 1.0),
        &["the painted map has shape [8, 8]", "8 rows × 6 columns, or another size of the same aspect"],
    );
    let mask = |value| PaintWithWords::default().mask(Region::new(Array2::from_elem((8, 6), value)), "eyes", 1.0);
    fails(mask(1.5), &["mask is 1.5", "0..=1"]);
    fails(mask(f32::NAN), &["mask is NaN"]);
    fails(mask(0.0), &["paint is nothing at any attention site"]);
    begin(red(1.0).color(RED, "girl", 2.0)).expect("two phrases of one color are fine");
    begin(map().color(Rgb(250, 10, 0), "eyes", 1.0).tune(|options| options.tolerance = 12.0)).expect("near enough");

    let missing = begin(map().color(BLUE, "eyes", 1.0)).expect_err("not in the map");
    let Error::Guidance { source, .. } = missing else { panic!("it is named") };
    assert!(matches!(*source, Error::ColorNotInMap { ref missing, .. } if missing[0].asked == BLUE));
}

#[test]
fn doubts_about_a_map_are_notes() -> Result<()> {
    let mut thin = Raster::flat(GRAY, (60, 80));
    thin.paste(&Raster::flat(RED, (2, 80)), 0, 0);
    let run = ran(toy().guide(PaintWithWords::new(&thin).color(RED, "eyes", 1.0)))?;
    assert!(matches!(run.paint()?.warnings[..], [PaintWarning::Thin { .. }]));
    let note = run.notes("PaintWithWords")[0];
    assert!(note.text.contains("20 % of any cell") && note.remedy == Some(Remedy::LargerArea), "{note}");

    // Pixels differ slightly from each other, as in a JPEG file.
    let mut noisy = Raster::flat(RED, (60, 80));
    (0..80 * 30).for_each(|i| noisy.set(i % 60, i / 60 * 2, Rgb(200 + (i % 50) as u8, (i / 50) as u8, 3)));
    let run = ran(toy().guide(PaintWithWords::new(&noisy).color(RED, "eyes", 1.0)))?;
    assert!(matches!(run.paint()?.warnings[..], [PaintWarning::NearColors { .. }]), "half of it is red");
    (0..600).for_each(|i| noisy.set(i % 60, i / 60 * 2 + 1, Rgb(7, 7, 7)));
    let run = ran(toy().guide(PaintWithWords::new(&noisy).color(RED, "eyes", 1.0)))?;
    let note = run.notes("PaintWithWords")[0];
    assert!(note.text.ends_with("belongs to no area") && note.remedy == Some(Remedy::Tolerance), "{note}");
    Ok(())
}
