//! Painting by areas, prompts of regions, and compositions.
//!
//! Areas may differ between the images of a batch. Areas also act in the negative prompt and in the first noise.

use super::attention_only::{
    AttentionOnly, BLUE, GRAY, GREEN, PROMPT, Painter, RED, TOKENS, apart, close, each_weights, four_steps, golden,
    tensor, weights,
};
use super::painting::Ran;
use crate::with;
use impasto::attention::CrossAttentionHook;
use impasto::composition::{Composition, Entity};
use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Noise, NoiseEdges, Predictions, Schedule, Spacing, TrainingSchedule, region_noise};
use impasto::guidance::{Cfg, Guidance, GuidanceRun, Picture, Plan, Setup};
use impasto::mask::Region;
use impasto::methods::color_force::ColorReport;
use impasto::methods::image_guidance::GuidanceParams;
use impasto::methods::paint_with_words::{Area, AreaBlend, MapColors, PaintWarning, WeightFn};
use impasto::methods::{ColorForce, ImageGuidance, PaintWithWords, RegionPrompt, RegionPrompts};
use impasto::sampler::{Batching, Origin, Sampler, Start};
use impasto::testing::ToyModel;
use impasto::{Branch, Error, Grid, Raster, Result, Rgb, Size, Step, Window};
use ndarray::Array2;
use tch::{Device, Kind, Tensor};

const GRID: Grid = Grid::new(2, 2);

fn values(t: &Tensor) -> Vec<f32> {
    Vec::try_from(t.contiguous().reshape([-1])).expect("numbers")
}

fn left() -> Region {
    Region::rect(0.0..0.5, 0.0..1.0)
}

fn top() -> Region {
    Region::rect(0.0..1.0, 0.0..0.5)
}

/// Paint with Words that adds the areas' weights to the scores unscaled.
fn flat() -> PaintWithWords {
    PaintWithWords::default().weight(WeightFn::Flat(1.0))
}

// ---- Areas ----

#[test]
fn areas_of_one_word_follow_the_blend_mode() -> Result<()> {
    // Cells are in row order; left and top meet in the first cell.
    for (blend, want) in [
        (AreaBlend::Sum, [-1.0, 1.0, -2.0, 0.0]),
        (AreaBlend::Strongest, [-2.0, 1.0, -2.0, 0.0]),
        (AreaBlend::TopMost, [1.0, 1.0, -2.0, 0.0]),
    ] {
        let paint = flat()
            .area(Area { strength: -2.0, ..Area::mask(left(), "sea") })
            .area(Area { strength: 1.0, ..Area::mask(top(), "sea under") })
            .area(Area { strength: 0.5, ..Area::mask(top(), "boat") })
            .tune(|options| options.blend = blend);
        let mut paint = Painter::new(paint);
        AttentionOnly::new().begin(PROMPT, GRID, four_steps().attach(&mut paint))?;
        let w = weights(&mut paint, GRID, 0, Branch::Cond)?;
        assert_eq!(values(&w.select(1, 2)), want, "{blend:?}");
        assert_eq!(values(&w.select(1, 3)), [1.0, 1.0, 0.0, 0.0], "\"under\" is in one area only");
        assert_eq!(values(&w.select(1, 6)), [0.5, 0.5, 0.0, 0.0], "areas of other words do not matter");
    }
    Ok(())
}

#[test]
fn soft_area_covers_others_by_its_mask_value() -> Result<()> {
    let half = Region::new(Array2::from_elem((2, 2), 0.5));
    let paint = flat()
        .area(Area { strength: 2.0, ..Area::mask(left(), "sea") })
        .tune(|options| options.blend = AreaBlend::TopMost);
    let mut paint = Painter::new(paint.area(Area { strength: 1.0, ..Area::mask(half, "sea") }));
    AttentionOnly::new().begin(PROMPT, GRID, four_steps().attach(&mut paint))?;
    assert_eq!(values(&weights(&mut paint, GRID, 0, Branch::Cond)?.select(1, 2)), [1.5, 0.5, 1.5, 0.5]);
    Ok(())
}

#[test]
fn a_word_can_be_confined_to_its_area() -> Result<()> {
    let soft = Region::new(Array2::from_shape_vec((2, 2), vec![1.0, 0.25, 0.0, 0.0]).expect("four"));
    let paint = flat().area(Area { strength: 2.0, outside: -0.5, ..Area::mask(soft, "sea") });
    let mut paint = Painter::new(paint);
    AttentionOnly::new().begin(PROMPT, GRID, four_steps().attach(&mut paint))?;
    let w = weights(&mut paint, GRID, 0, Branch::Cond)?;
    assert_eq!(values(&w.select(1, 2)), [2.0, 0.5 - 0.375, -0.5, -0.5]);
    assert_eq!(w.abs().sum(Kind::Float), w.select(1, 2).abs().sum(Kind::Float), "no other token has a weight");
    Ok(())
}

#[test]
fn negative_areas_paint_only_the_negative_prompt() -> Result<()> {
    let start = || {
        let mut start = Start::new(PROMPT, GRID, Noise::seeded(1));
        start.images = 2;
        start.negative = "ugly blurry boat";
        start
    };
    let blurry = || Area { strength: 3.0, negative: true, ..Area::mask(left(), "blurry") };
    let boat = || Area { strength: 1.0, ..Area::mask(top(), "boat") };
    let mut paint = Painter::new(flat().area(blurry()).area(boat()));
    AttentionOnly::new().begin_at(start(), four_steps().attach(&mut paint))?;
    let against = weights(&mut paint, GRID, 0, Branch::Uncond)?;
    assert_eq!(values(&against.select(1, 2)), [3.0, 0.0, 3.0, 0.0]);
    assert_eq!(
        against.sum(Kind::Float).double_value(&[]),
        6.0,
        "\"boat\" is in the negative prompt too, but is not painted there"
    );
    assert_eq!(weights(&mut paint, GRID, 0, Branch::Cond)?.sum(Kind::Float).double_value(&[]), 2.0);
    let areas = paint.details()?.areas;
    assert!(areas[0].negative && areas[0].tokens[0].start == 2 && areas[1].tokens[0].start == 6, "{areas:?}");

    let shared = flat().area(blurry()).area(boat()).area(Area::mask(left(), "sea"));
    let mut shared = Painter::new(shared.tune(|options| options.on_uncond = 0.25));
    AttentionOnly::new().begin_at(start(), four_steps().attach(&mut shared))?;
    let against = weights(&mut shared, GRID, 0, Branch::Uncond)?;
    assert_eq!(values(&against.select(1, 3)), [0.25, 0.25, 0.0, 0.0], "a quarter of the boat; \"sea\" is not in it");
    assert_eq!(against.sum(Kind::Float).double_value(&[]), 6.5);

    let fails = |negative: &'static str| {
        let sampler = four_steps().guide(flat().area(blurry()));
        let begun = AttentionOnly::new().begin_at(with(start(), |start| start.negative = negative), sampler);
        begun.expect_err("it is not there").to_string()
    };
    assert!(fails("ugly blurred").contains("\"blurry\" is not in the prompt \"ugly blurred\"; did you mean"));
    let empty = fails(" ");
    assert!(empty.contains("negative is empty") && empty.contains("\"blurry\""), "{empty}");
    Ok(())
}

#[test]
fn each_image_has_its_map() -> Result<()> {
    let map = |color: Rgb, x: u32| {
        let mut map = Raster::flat(GRAY, (2, 2));
        map.paste(&Raster::flat(color, (1, 2)), x, 0);
        map
    };
    let (one, other) = (map(RED, 0), map(BLUE, 1));
    let paint = || {
        let paint = PaintWithWords::each([&one, &other]).weight(WeightFn::Flat(1.0));
        paint.color(RED, "sea", 1.0).color(BLUE, "boat", 2.0).area(Area::mask(top(), "moon"))
    };
    let mut each = Painter::new(paint());
    AttentionOnly::new().begin(PROMPT, GRID, four_steps().attach(&mut each))?;
    let w = each_weights(&mut each, GRID, 0, Branch::Cond, 2)?;
    assert_eq!(values(&w.select(2, 2)), [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0], "the sea is in the first");
    assert_eq!(values(&w.select(2, 6)), [0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 2.0], "the boat is in the second");
    assert_eq!(values(&w.select(2, 10)), [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0], "the moon is in both");
    assert_eq!(each.details()?.areas[0].share, 0.25);
    let mut two = Start::new(PROMPT, GRID, Noise::seeded(1));
    two.images = 2;
    let reports = four_steps().guide(paint()).start(&AttentionOnly::new(), two)?.reports()?;
    assert_eq!(reports[0].pictures.len(), 6);
    assert_eq!(paint().legend((8, 8))?.len(), 2 + 2 * 2 + 1, "two maps, two colors in each, and a mask of both");

    let mut three = Start::new(PROMPT, GRID, Noise::seeded(1));
    three.images = 3;
    let begun = AttentionOnly::new().begin_at(three, four_steps().guide(paint()));
    let message = begun.expect_err("two maps").to_string();
    assert!(message.contains("number of maps is 2 for 3 images"), "{message}");
    let nowhere = paint().color(GREEN, "under", 1.0);
    let begun = AttentionOnly::new().begin(PROMPT, GRID, four_steps().guide(nowhere));
    let message = begun.expect_err("no green").to_string();
    assert!(message.contains("#00ff00 is not in the map"), "{message}");
    Ok(())
}

#[test]
fn map_with_jpeg_noise_matches_within_tolerance() -> Result<()> {
    let mut map = Raster::flat(Rgb(240, 240, 240), (64, 64));
    map.paste(&Raster::flat(Rgb(200, 30, 30), (36, 64)), 28, 0);
    let folder = tempfile::tempdir().expect("a temporary folder");
    map.save(folder.path().join("map.jpg"))?;
    let noisy = Raster::open(folder.path().join("map.jpg"))?;
    let nearest = MapColors::of(&noisy).nearest(Rgb(200, 30, 30)).expect("there are colors");
    let share = |tolerance| -> Result<f64> {
        let paint = PaintWithWords::new(&noisy).color(nearest.0, "sea", 1.0);
        let mut paint = Painter::new(paint.tune(|options| options.tolerance = tolerance));
        AttentionOnly::new().begin(PROMPT, Grid::new(8, 8), four_steps().attach(&mut paint))?;
        Ok(paint.details()?.areas[0].share)
    };
    assert!(MapColors::of(&noisy).colors().len() > 4, "JPEG adds colors");
    assert!(share(0.0)? < 36.0 / 64.0 && share(60.0)? == 36.0 / 64.0, "{} {}", share(0.0)?, share(60.0)?);

    let mut paint = Painter::new(PaintWithWords::new(&noisy).color(nearest.0, "sea", 1.0));
    AttentionOnly::new().begin(PROMPT, Grid::new(8, 8), four_steps().attach(&mut paint))?;
    let notes = paint.notes().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let tolerance = notes.rsplit("a tolerance of ").next().and_then(|text| text.split(' ').next()?.parse().ok());
    let tolerance: f64 = tolerance.unwrap_or_else(|| panic!("no tolerance in {notes:?}"));
    assert!(share(tolerance)? > 34.0 / 64.0, "{tolerance}: {}", share(tolerance)?);
    let moved = PaintWithWords::new(&noisy).color(Rgb(191, 24, 24), "sea", 1.0);
    let begun = AttentionOnly::new().begin(PROMPT, Grid::new(8, 8), four_steps().guide(moved));
    let error = begun.expect_err("no such color");
    assert!(error.to_string().contains("; a tolerance of "), "{error}");
    Ok(())
}

#[test]
fn a_context_text_paints_as_the_same_areas_do() -> Result<()> {
    let mut map = Raster::flat(RED, (8, 8));
    map.paste(&Raster::flat(BLUE, (4, 8)), 4, 0);
    let read = PaintWithWords::from_context_text(&map, "{(255, 0, 0): 'sea,0.5,-1', \"#0000ff\": 'boat@2@7@1'}")?;
    let own = PaintWithWords::new(&map).color(RED, "sea", 0.5);
    let own = own.area(Area { strength: 2.0, seed: Some(7), blur: Some(1.0), ..Area::color(BLUE, "boat") });
    let mut all = Vec::new();
    for paint in [read, own] {
        let mut paint = Painter::new(paint);
        AttentionOnly::new().begin(PROMPT, Grid::new(4, 4), four_steps().attach(&mut paint))?;
        all.push((weights(&mut paint, Grid::new(4, 4), 0, Branch::Cond)?, paint.details()?.areas[1].seed));
    }
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0].1, Some(7));
    assert!(PaintWithWords::from_context_text(&map, "{(255, 0, 0): 'sea'}").is_err());
    Ok(())
}

#[test]
fn a_legend_shows_every_area_in_its_color() -> Result<()> {
    let mut map = Raster::flat(GRAY, (96, 96));
    map.paste(&Raster::flat(RED, (48, 96)), 0, 0);
    let paint = PaintWithWords::new(&map).color(RED, "sea", 1.0).area(Area::mask(top(), "boat"));
    let legend = paint.legend((1, 1))?;
    let captions: Vec<&str> = legend.iter().map(|panel| panel.caption.as_str()).collect();
    assert_eq!(captions, ["map", "sea 1", "boat 1"]);
    let panels = legend.iter().map(Picture::raster).collect::<Result<Vec<_>>>()?;
    assert_eq!(panels[0].pixel(40, 40), Some(RED), "the map");
    assert_eq!(panels[1].pixel(40, 40), Some(RED), "its left half");
    assert_ne!(panels[1].pixel(150, 40), Some(RED));
    assert!(PaintWithWords::default().legend((1, 1)).is_err(), "nothing painted");
    let wide = PaintWithWords::default().area(Area::mask(top(), "boat")).legend((200, 100))?;
    assert_eq!(wide[0].raster()?.size(), Size::new(192, 96));
    Ok(())
}

// ---- Seeds ----

#[test]
fn region_noise_equals_the_reference() -> Result<()> {
    let figures = golden();
    let golden = &figures["region_noise"];
    let of = |value: &serde_json::Value| tensor(value, &[1, 2, 4, 6]);
    // The share of a letter in each cell of 4 × 4, over the map's 16 rows of 24 letters.
    let covered = |letter: char| -> Tensor {
        let rows = figures["map"]["rows"].as_array().expect("rows");
        let letters = rows.iter().flat_map(|row| row.as_str().expect("letters").chars());
        let mask: Vec<f32> = letters.map(|other| if other == letter { 1.0 } else { 0.0 }).collect();
        Tensor::from_slice(&mask).reshape([1, 1, 16, 24]).avg_pool2d([4, 4], [4, 4], [0, 0], false, true, None::<i64>)
    };
    let noise = |of_phrase: &str| of(&golden["noise"][of_phrase]);
    let regions = [(covered('r'), noise("red boat")), (covered('f'), noise("full moon"))];
    let base = of(&golden["base"]);
    let hard = region_noise(&base, &regions, NoiseEdges::Hard)?;
    assert_eq!(hard, of(&golden["hard"]), "every value is a drawn value");
    close(&region_noise(&base, &regions, NoiseEdges::Blend)?, &golden["blend"], 1e-5);
    assert_eq!(region_noise(&base, &[], NoiseEdges::Blend)?, base);
    assert!(region_noise(&base, &[(base.shallow_clone(), base.get(0))], NoiseEdges::Hard).is_err());
    Ok(())
}

#[test]
fn blended_noise_of_many_regions_has_variance_one() -> Result<()> {
    let draw = |seed| Noise::seeded(seed).draw(&[1, 4, 64, 64]);
    let third = || Tensor::full([1, 1, 64, 64], 0.6, (Kind::Float, Device::Cpu));
    let regions = [(third(), draw(2)?), (third(), draw(3)?)];
    let mixed = region_noise(&draw(1)?, &regions, NoiseEdges::Blend)?;
    assert!((mixed.var(true).double_value(&[]) - 1.0).abs() < 0.03, "{}", mixed.var(true));
    Ok(())
}

/// A guidance method that keeps the first noise.
#[derive(Default)]
struct Drawn(Option<Tensor>);

impl GuidanceRun for Drawn {
    fn noise(&mut self, noise: &mut Tensor) -> Result<()> {
        self.0 = Some(noise.copy());
        Ok(())
    }
}

/// Returns the first noise of a run of two images with painted areas.
fn drawn(paint: PaintWithWords, seed: u64) -> Result<Tensor> {
    let (mut kept, grid) = (Drawn::default(), Grid::new(4, 4));
    let mut start = Start::new(PROMPT, grid, Noise::seeded(seed));
    start.images = 2;
    AttentionOnly::new().begin_at(start, four_steps().guide(paint).attach(&mut kept))?;
    Ok(kept.0.expect("it was drawn"))
}

#[test]
fn seeded_area_has_equal_noise_in_every_run() -> Result<()> {
    let seeded =
        |strength: f64| PaintWithWords::default().area(Area { strength, seed: Some(40), ..Area::mask(left(), "sea") });
    let plain = |seed| drawn(PaintWithWords::default().area(Area::mask(left(), "sea")), seed);
    for strength in [1.5, 0.0, -2.0] {
        let (a, b) = (drawn(seeded(strength), 7)?, drawn(seeded(strength), 8)?);
        assert_eq!(a.narrow(3, 0, 2), b.narrow(3, 0, 2), "inside, at strength {strength}");
        assert_eq!(a.narrow(3, 2, 2), plain(7)?.narrow(3, 2, 2), "outside, the noise is the run's");
        assert_eq!(a.get(1).narrow(2, 0, 2), plain(41)?.get(0).narrow(2, 0, 2), "image 1 has the next seed");
    }
    // A cell of two overlapping areas belongs to the area that covers more of the cell, or on a tie to the first area.
    let two = seeded(1.0).area(Area { seed: Some(50), ..Area::mask(top(), "boat") });
    let mixed = drawn(two, 7)?;
    assert_eq!(mixed.narrow(3, 0, 2), plain(40)?.narrow(3, 0, 2));
    assert_eq!(mixed.narrow(3, 2, 2).narrow(2, 0, 2), plain(50)?.narrow(3, 2, 2).narrow(2, 0, 2));
    Ok(())
}

// ---- Whole runs of the toy model ----

const TOY: Grid = Grid::new(8, 6);

fn toy<'g>() -> Sampler<'g> {
    Sampler::new(
        Schedule::new(&TrainingSchedule::stable_diffusion(), 6, Spacing::Karras).expect("steps in range"),
        Euler,
    )
}

fn run(sampler: Sampler<'_>, start: Start<'_>) -> Result<Tensor> {
    Ok(Ran::new(sampler, start)?.latent)
}

fn girl(images: usize) -> Start<'static> {
    let mut start = Start::new("girl with gold eyes", TOY, Noise::seeded(7));
    start.images = images;
    start
}

#[test]
fn batching_keeps_the_map_of_each_image() -> Result<()> {
    let map = |x| {
        let mut map = Raster::flat(GRAY, (6, 8));
        map.paste(&Raster::flat(RED, (3, 8)), x, 0);
        map
    };
    let (one, other) = (map(0), map(3));
    let strong = |paint: PaintWithWords| paint.color(RED, "eyes", 2.0).weight(WeightFn::LogMax(0.4));
    let of = |batching, paint: PaintWithWords, images| run(toy().batching(batching).guide(strong(paint)), girl(images));
    let both = of(Batching::OneByOne, PaintWithWords::each([&one, &other]), 2)?;
    assert_eq!(both.narrow(0, 0, 1), of(Batching::OneByOne, PaintWithWords::new(&one), 1)?, "bit for bit");
    let first = |batching| -> Result<Tensor> {
        let model = ToyModel::new(3)?;
        let mut run =
            toy().batching(batching).guide(strong(PaintWithWords::each([&one, &other]))).start(&model, girl(2))?;
        run.step()?;
        Ok(run.latent().shallow_clone())
    };
    assert!(apart(&first(Batching::OneByOne)?, &first(Batching::Together)?) < 1e-4);
    assert!(
        apart(&both.narrow(0, 1, 1), &of(Batching::OneByOne, PaintWithWords::new(&one), 2)?.narrow(0, 1, 1)) > 1e-3
    );
    Ok(())
}

#[test]
fn negative_paint_pushes_the_other_way() -> Result<()> {
    let start = || with(girl(1), |start| start.negative = "gold eyes");
    let area = || Area { strength: 3.0, ..Area::mask(left(), "eyes") };
    let law = || WeightFn::LogMax(0.4);
    let plain = run(toy(), start())?;
    let against = PaintWithWords::default().area(Area { negative: true, ..area() }).weight(law());
    let guided = Ran::new(toy().guide(against.clone()), start())?;
    let toward = run(toy().guide(PaintWithWords::default().area(area()).weight(law())), start())?;
    let (away, toward) = (&guided.latent - &plain, &toward - &plain);
    assert!((&away * &toward).sum(Kind::Double).double_value(&[]) < 0.0, "the changes point in opposite directions");
    assert_eq!(guided.paint()?.steps.len(), 6, "steps with negative paint are recorded");
    assert_eq!(guided.paint()?.warnings, []);
    let unguided = Ran::new(toy().guide(against).combine(Cfg(1.0)), start())?;
    assert_eq!(
        unguided.paint()?.warnings,
        [PaintWarning::NoNegative],
        "without guidance the negative prompt is not read"
    );
    Ok(())
}

#[test]
fn seeds_of_areas_act_from_a_picture_too() -> Result<()> {
    let picture = Tensor::zeros([1, 3, 8, 6], (Kind::Float, Device::Cpu));
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 6, Spacing::Karras)?.last(4)?;
    let latent = |paint: Option<PaintWithWords>| -> Result<Tensor> {
        let sampler = Sampler::new(schedule.clone(), Euler);
        let model = ToyModel::new(3)?;
        let sampler = paint.into_iter().fold(sampler, Sampler::guide);
        let mut start = girl(1);
        start.origin = Origin::Picture(&picture);
        Ok(sampler.start(&model, start)?.latent().shallow_clone())
    };
    let seeded = latent(Some(PaintWithWords::default().area(Area {
        strength: 0.0,
        seed: Some(9),
        ..Area::mask(left(), "eyes")
    })))?;
    let plain = latent(None)?;
    assert_eq!(seeded.narrow(3, 3, 3), plain.narrow(3, 3, 3));
    assert!(apart(&seeded.narrow(3, 0, 3), &plain.narrow(3, 0, 3)) > 0.1);
    Ok(())
}

// ---- Prompts of regions ----

/// A guidance method that keeps the first evaluation's predictions of all branches but `Uncond`.
#[derive(Default)]
struct First(Vec<Tensor>);

impl GuidanceRun for First {
    fn predicted(&mut self, _: &Step, predictions: &mut Predictions) -> Result<()> {
        if self.0.is_empty() {
            let branches: Vec<Branch> = predictions.branches().collect();
            let all = branches.into_iter().filter(|branch| *branch != Branch::Uncond);
            self.0.extend(all.map(|branch| predictions.x0(branch).expect("it is listed").copy()));
        }
        Ok(())
    }
}

/// The first predictions, extra branches first, as a guidance method after `regions` finds them.
fn first(regions: Option<RegionPrompts>, prompt: &str) -> Result<Vec<Tensor>> {
    let (model, mut kept) = (ToyModel::new(3)?, First::default());
    let sampler = regions.into_iter().fold(toy().batching(Batching::OneByOne), Sampler::guide).attach(&mut kept);
    sampler.start(&model, Start::new(prompt, TOY, Noise::seeded(7)))?.step()?;
    Ok(kept.0)
}

#[test]
fn region_follows_its_prompt_and_the_rest_stays() -> Result<()> {
    let regions = RegionPrompts::default().add(left(), "blue hair", 0.75);
    let mixed = first(Some(regions), "girl with gold eyes")?;
    let [plain, other] = ["girl with gold eyes", "blue hair"].map(|prompt| first(None, prompt).expect("it runs"));
    assert_eq!(
        (mixed.len(), &mixed[0]),
        (2, &other[0]),
        "the region's branch follows the region's prompt in every cell"
    );
    let inside = |x: &Tensor| x.narrow(3, 0, 3);
    assert_eq!(mixed[1].narrow(3, 3, 3), plain[0].narrow(3, 3, 3), "bit for bit");
    let want = inside(&plain[0]) * 0.25 + inside(&other[0]) * 0.75;
    assert!(apart(&inside(&mixed[1]), &want) < 1e-5);
    Ok(())
}

#[test]
fn later_regions_win_and_equal_prompts_share_branch() -> Result<()> {
    let both = RegionPrompts::default().add(left(), "blue hair", 1.0).add(top(), "red shirt", 1.0);
    let mixed = first(Some(both.add(left(), "blue hair", 0.0)), "girl")?;
    assert_eq!(mixed.len(), 3, "two regions and the prompt; a region of strength 0 has no branch");
    let [hair, shirt] = ["blue hair", "red shirt"].map(|prompt| first(None, prompt).expect("it runs").remove(0));
    assert!(apart(&mixed[2].narrow(2, 0, 4), &shirt.narrow(2, 0, 4)) < 1e-5);
    assert!(apart(&mixed[2].narrow(2, 4, 4).narrow(3, 0, 3), &hair.narrow(2, 4, 4).narrow(3, 0, 3)) < 1e-5);
    let one = || RegionPrompts::default().add(left(), "hair", 1.0);
    assert_eq!(first(Some(one().add(top(), "hair", 1.0)), "girl")?.len(), 2);
    let guide = || {
        ImageGuidance::text("red shirt").tune(|params| {
            *params = GuidanceParams::off();
            params.linear = (0.5, 0.5);
        })
    };
    let guided = |region| RegionPrompt::new(region, "hair", 1.0).guided(guide());
    let mixed = first(Some(one().region(guided(top())).region(guided(left()))), "girl")?;
    assert_eq!(mixed.len(), 4, "one for the plain region, and one for each guide");
    assert_ne!(mixed[0], mixed[1]);
    // The order of plain and guided regions does not change their predictions.
    let guided_first = RegionPrompts::default().region(guided(left())).add(top(), "hair", 1.0);
    let other = first(Some(guided_first), "girl")?;
    assert_eq!((&other[0], &other[1]), (&mixed[1], &mixed[0]), "the plain region is not guided");
    Ok(())
}

#[test]
fn thing_is_held_only_in_its_own_regions_branch() -> Result<()> {
    let regions = |hold| RegionPrompts::default().hold(hold).thing(left(), "blue hair", "hair", 1.0);
    let (held, free) = (first(Some(regions(1.5)), "girl hair")?, first(Some(regions(0.0)), "girl hair")?);
    assert!(apart(&held[0], &free[0]) > 1e-3, "the region's branch is painted");
    assert_eq!(held[1].narrow(3, 3, 3), free[1].narrow(3, 3, 3), "the prompt's branch is not painted");
    let painted = PaintWithWords::default().area(Area { strength: 1.5, ..Area::mask(left(), "hair") });
    let mut kept = First::default();
    let model = ToyModel::new(3)?;
    let sampler = toy().batching(Batching::OneByOne).guide(painted).attach(&mut kept);
    sampler.start(&model, Start::new("blue hair", TOY, Noise::seeded(7)))?.step()?;
    assert_eq!(held[0], kept.0[0], "equal to paint in a run of the region's prompt");
    let missing = RegionPrompts::default().thing(left(), "blue hair", "hat", 1.0);
    let message = run(toy().guide(missing), girl(1)).expect_err("no hat").to_string();
    assert!(message.contains("\"hat\" is not in the prompt \"blue hair\""), "{message}");
    Ok(())
}

#[test]
fn idle_region_prompts_keep_every_bit() -> Result<()> {
    let plain = run(toy(), girl(1))?;
    assert_eq!(run(toy().guide(RegionPrompts::default().add(left(), "hair", 0.0)), girl(1))?, plain);
    let closed = RegionPrompts::default().add(left(), "hair", 1.0).window(Window::sigmas(0.0..=1e-6));
    assert_eq!(run(toy().guide(closed), girl(1))?, plain);
    let paint = PaintWithWords::default().area(Area::mask(left(), "eyes"));
    let regions = || RegionPrompts::default().add(top(), "blue hair", 0.8);
    let with = Ran::new(toy().guide(paint).guide(regions()), girl(1))?;
    assert!(apart(&with.latent, &plain) > 1e-3);
    let notes = with.notes("PaintWithWords");
    assert!(notes.is_empty(), "no variation of the prompt lost its phrase: {notes:?}");
    let kept = regions();
    let second = Ran::new(toy().guide(kept.clone()), girl(1))?;
    assert_eq!(run(toy().guide(kept), girl(1))?, second.latent, "a second run");
    let report = &second.reports[0];
    assert_eq!((report.pictures.len(), report.data[0]["prompt"].as_str()), (1, Some("blue hair")));
    let long = RegionPrompts::default().add(left(), "one two three four five six seven eight nine", 1.0);
    let long = Ran::new(toy().guide(long), girl(1))?;
    let notes = long.notes("RegionPrompts");
    assert!(notes[0].text.contains("does not see \"nine\""), "{notes:?}");
    Ok(())
}

#[test]
fn force_acts_in_the_union_of_painted_areas() -> Result<()> {
    let paint = PaintWithWords::default().area(Area::mask(left(), "eyes")).area(Area::mask(top(), "eyes"));
    let force = ColorForce::published("eyes", BLUE).saliency(paint.region("eyes")?).saliency_cutoff(0.5);
    let forced = Ran::new(toy().guide(paint).guide(force.window(Window::WHOLE)), girl(1))?;
    let report: &ColorReport = forced.details.get("eyes")?;
    assert!(report.steps.iter().all(|step| step.areas == [0.75]), "the union of both");
    Ok(())
}

// ---- Compositions ----

const SCENE: &str = r#"{
    "prompt": "girl", "width": 6, "height": 8,
    "entities": [
        { "prompt": "blue hair", "left": 0, "top": 0, "width": 3, "height": 8, "thing": "hair" },
        { "prompt": "red shirt", "left": 0, "top": 4, "width": 6, "height": 4, "strength": 1.0 }
    ]
}"#;

#[test]
fn composition_equals_its_regions_and_its_json() -> Result<()> {
    let composition = Composition::from_json(SCENE)?;
    assert_eq!((composition.entities[0].strength, composition.negative.as_str()), (0.8, ""));
    let mut built = Composition::new("girl", (6, 8));
    built.entities = vec![Entity::new("blue hair", (0, 0), (3, 8)), Entity::new("red shirt", (0, 4), (6, 4))];
    built.entities[0].thing = Some("hair".into());
    built.entities[1].strength = 1.0;
    assert_eq!(built, composition);
    assert_eq!(Composition::from_json(&composition.to_json()?)?, composition);
    let mixed = first(Some(composition.regions()?), "girl")?;
    let by_hand = RegionPrompts::default().thing(left(), "blue hair", "hair", 0.8);
    let by_hand = first(Some(by_hand.add(Region::rect(0.0..1.0, 0.5..1.0), "red shirt", 1.0)), "girl")?;
    assert_eq!(mixed, by_hand);
    Ok(())
}

#[test]
fn image_of_a_thing_guides_its_words() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let picture = Raster::flat(Rgb(0, 128, 128), (32, 24));
    picture.save(folder.path().join("teal.png"))?;
    let text = SCENE.replace("\"thing\": \"hair\"", "\"image\": \"teal.png\", \"likeness\": 0.4");
    std::fs::write(folder.path().join("scene.json"), &text).expect("written");
    let composition = Composition::open(folder.path().join("scene.json"))?;
    let image = folder.path().join("teal.png");
    assert_eq!(composition.entities[0].image.as_ref(), Some(&image), "the path is relative to the JSON file");
    let mut built = Entity::new("blue hair", (0, 0), (3, 8));
    built.image = Some(image);
    built.likeness = 0.4;
    assert_eq!(built, composition.entities[0]);
    let guide = ImageGuidance::new(&picture).tune(|params| {
        *params = GuidanceParams::off();
        params.linear = (1.0, 1.0);
        params.snap = false;
        params.max_guidance = 0.4;
    });
    let by_hand = RegionPrompts::default().region(RegionPrompt::new(left(), "blue hair", 0.8).guided(guide));
    let by_hand = by_hand.add(Region::rect(0.0..1.0, 0.5..1.0), "red shirt", 1.0);
    assert_eq!(first(Some(composition.regions()?), "girl")?, first(Some(by_hand), "girl")?);
    let preview = composition.preview()?;
    assert_eq!(preview[1].raster()?.pixel(20, 20), Some(Rgb(0, 128, 128)), "the picture lies in its box");
    // Paths in a JSON text that was not read from a file are relative to the program's working folder.
    let missing = Composition::from_json(&text)?.regions().map(drop).expect_err("no such picture").to_string();
    assert!(missing.contains("teal.png"), "{missing}");
    Ok(())
}

#[test]
fn a_preview_shows_boxes_where_they_are() -> Result<()> {
    let preview = Composition::from_json(SCENE)?.preview()?;
    let panels = preview.iter().map(Picture::raster).collect::<Result<Vec<_>>>()?;
    let at = |panel: usize, x: u32, y: u32| panels[panel].pixel(x, y).expect("inside");
    let paper = at(0, 140, 10);
    assert_ne!(at(0, 10, 10), paper, "hair");
    assert_ne!(at(0, 10, 150), at(0, 10, 10), "the shirt lies on the hair");
    assert_eq!(at(0, 10, 150), at(0, 140, 150));
    assert_eq!((at(1, 100, 150), at(1, 10, 150)), (paper, at(0, 10, 10)), "hair alone");
    Ok(())
}

#[test]
fn bad_compositions_name_value_and_way_out() {
    let says = |message: String, words: &[&str]| {
        words.iter().for_each(|word| assert!(message.contains(word), "\"{message}\" does not say \"{word}\""));
    };
    let scene = |entity: Entity| {
        let mut composition = Composition::new("girl", (64, 64));
        composition.entities = vec![entity];
        composition.check().expect_err("bad").to_string()
    };
    let entity = |corner, size| Entity::new("a cat", corner, size);
    says(scene(entity((40, 0), (32, 8))), &["\"a cat\" at 40, 0 of 32 × 8", "inside the canvas of 64 × 64"]);
    says(scene(entity((0, 0), (0, 8))), &["of 0 × 8", "at least one pixel"]);
    says(scene(entity((u32::MAX, 0), (u32::MAX, 8))), &["4294967295"]);
    says(
        scene(with(entity((0, 0), (8, 8)), |entity| entity.strength = 1.5)),
        &["strength is 1.5 for \"a cat\"", "0..=1"],
    );
    says(scene(Entity::new(" ", (0, 0), (8, 8))), &["number 0 without a prompt"]);
    says(Composition::new("girl", (64, 64)).check().expect_err("empty").to_string(), &["entities is empty"]);
    let json = |text: &str| Composition::from_json(text).expect_err("bad").to_string();
    says(json("{"), &["composition: EOF", "line 1"]);
    says(json(&SCENE.replace("\"left\": 0, ", "")), &["missing field `left`"]);
    says(json(&SCENE.replace("\"strength\": 1.0", "\"blend\": 1.0")), &["unknown field `blend`", "`strength`"]);
    says(json(&SCENE.replace("\"left\": 0", "\"left\": -1")), &["-1"]);
    says(Composition::open("no/such.json").expect_err("missing").to_string(), &["no/such.json"]);

    let begin = |regions: RegionPrompts| run(toy().guide(regions), girl(2)).expect_err("bad").to_string();
    let regions = RegionPrompts::default;
    says(begin(regions()), &["RegionPrompts", "regions is empty"]);
    let guided = RegionPrompt::new(left(), "hair", 1.0).guided(ImageGuidance::text("red hair").pooled(2.0));
    says(begin(regions().region(guided)), &["pooled is 2", "0 to 1"]);
    says(
        scene(with(entity((0, 0), (8, 8)), |entity| (entity.image, entity.likeness) = (Some("a.png".into()), -0.1))),
        &["likeness is -0.1 for \"a cat\"", "0..=1"],
    );
    says(begin(regions().add(left(), "hair", f64::NAN)), &["strength is NaN for \"hair\""]);
    says(begin(regions().add(left(), "hair", 1.0).hold(-1.0)), &["hold is -1", "0..=10"]);
    says(begin(regions().add(left(), "hair", 1.0).window(Window::sigmas(1.0..=0.0))), &["window is sigmas 1..=0"]);
    says(begin(regions().add(Region::rect(0.0..2.0, 0.0..1.0), "hair", 1.0)), &["rect is 0.0..2.0 across"]);
    let three = Region::each([left(), top(), left()]);
    says(begin(regions().add(three, "hair", 1.0)), &["regions is 3 for 2 images"]);
    let square = Region::new(Array2::ones((8, 8)));
    says(begin(regions().add(square, "hair", 1.0)), &["mask has shape [8, 8]", "8 rows × 6 columns"]);

    let paint = |area: Area| {
        let paint = PaintWithWords::default().area(area);
        run(toy().guide(paint), girl(2)).expect_err("bad").to_string()
    };
    says(paint(Area { outside: 11.0, ..Area::mask(left(), "eyes") }), &["outside is 11 for \"eyes\"", "-10..=10"]);
    says(paint(Area { blur: Some(1.0), ..Area::mask(left(), "eyes") }), &["blur is 1 for \"eyes\"", "one drawn mask"]);
    let drawn = Region::new(Array2::ones((8, 6)));
    says(paint(Area { blur: Some(2.0), ..Area::mask(drawn, "eyes") }), &["blur is 2", "0..=1.5", "of the mask"]);
    says(paint(Area::mask(Region::rect(0.5..0.2, 0.0..1.0), "eyes")), &["rect is 0.5..0.2 across"]);
    says(paint(Area::mask(Region::each([left(), top(), top()]), "eyes")), &["number of masks is 3 for 2 images"]);
    says(paint(Area::mask(Region::each([Region::each([left()])]), "eyes")), &["each is"]);
    let share = PaintWithWords::default().area(Area::mask(left(), "eyes")).tune(|options| options.on_uncond = 1.5);
    says(run(toy().guide(share), girl(1)).expect_err("bad").to_string(), &["on_uncond is 1.5", "0..=1"]);
}

#[test]
fn variation_of_negative_prompt_is_painted_alike() -> Result<()> {
    struct Vary;
    impl GuidanceRun for Vary {
        fn begin(&mut self, setup: &mut Setup) -> Result<()> {
            for text in ["very blurry sea", "sharp sea"] {
                setup.add("varied", Branch::Uncond, text, setup.text(text)?)?;
            }
            Ok(())
        }
    }
    let mut paint = Painter::new(flat().area(Area { negative: true, ..Area::mask(left(), "blurry") }));
    let mut start = Start::new(PROMPT, GRID, Noise::seeded(1));
    start.negative = "blurry sea";
    AttentionOnly::new().begin_at(start, four_steps().guide(|| Vary).attach(&mut paint))?;
    let w = weights(&mut paint, GRID, 0, Branch::Extra(0))?;
    assert_eq!(values(&w.select(1, 2)), [1.0, 0.0, 1.0, 0.0], "shifted by one token");
    assert_eq!(w.size(), [4, TOKENS]);
    let warnings = paint.details()?.warnings;
    assert!(
        matches!(&warnings[..], [PaintWarning::NotInBranch { prompt, .. }] if prompt == "sharp sea"),
        "{warnings:?}"
    );
    let car = flat().area(Area::mask(top(), "car"));
    let missing = AttentionOnly::new().begin(PROMPT, GRID, four_steps().guide(car));
    assert!(matches!(missing, Err(Error::Guidance { .. })));
    Ok(())
}

/// A region with a prompt of its own, written outside of the crate.
struct OwnRegion {
    region: Region,
    prompt: &'static str,
    thing: &'static str,
    run: Option<(Branch, Tensor, Box<dyn GuidanceRun>)>,
}

impl GuidanceRun for OwnRegion {
    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        let prompt = setup.codec.prompt(self.prompt.into())?;
        let branch = setup.add_apart("own region", self.prompt, setup.text(self.prompt)?)?;
        let area = Area { strength: 2.0, ..Area::mask(self.region.clone(), self.thing) };
        let paint = PaintWithWords::default().area(area).tune(|options| options.branch = branch);
        let paint = paint.begin(&mut setup.for_prompt(&prompt), None)?;
        self.run = Some((branch, self.region.for_images(setup.grid, setup.images)?, paint));
        Ok(())
    }

    fn plan(&mut self, _: &Step, plan: &mut Plan) -> Result<()> {
        self.run.iter().for_each(|(branch, ..)| plan.evaluate(*branch));
        Ok(())
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        self.run.iter_mut().flat_map(|(.., paint)| paint.hooks()).collect()
    }

    fn predicted(&mut self, _: &Step, predictions: &mut Predictions) -> Result<()> {
        let Some((branch, mask, _)) = &self.run else { return Ok(()) };
        let x0 = predictions.x0(Branch::Cond)?;
        let mixed = x0.f_add(&predictions.x0(*branch)?.f_sub(x0)?.f_mul(&mask.f_mul_scalar(0.8)?)?)?;
        *predictions.x0_mut(Branch::Cond)? = mixed;
        Ok(())
    }
}

#[test]
fn region_prompts_can_be_written_outside_the_crate() -> Result<()> {
    let (prompt, thing) = ("1girl, blue hair", "hair");
    let built_in = RegionPrompts::default().thing(left(), prompt, thing, 0.8);
    let mut own = OwnRegion { region: left(), prompt, thing, run: None };
    assert_eq!(run(toy().attach(&mut own), girl(2))?, run(toy().guide(built_in), girl(2))?);
    Ok(())
}
