//! What users set out to do with the embedded model, and whether the pictures show it.

mod judge;

use impasto::attention::Tap;
use impasto::diffusion::solver::{Euler, EulerAncestral};
use impasto::diffusion::{Denoiser, Input, Noise};
use impasto::guidance::{
    Accumulate, Area, ColorForce, ColorWarning, Daam, Feedback, GoldMode, Occurrence, PaintWithWords, PaintedColor,
    Refine, Region, Saliency, WeightFn,
};
use impasto::nn::{ClipImageProcessor, ClipText, ClipTextConfig, ClipVision, ClipVisionConfig};
use impasto::pipeline::{Builder, ColorWords};
use impasto::sampler::CancelToken;
use impasto::text::{TextOptions, Tokenizer};
use impasto::weights::Weights;
use impasto::{Branch, Codec, Error, Model, Pipeline, Raster, Result, Rgb, Source, Step};
use judge::{Judge, median};
use ndarray::Array2;
use std::ops::ControlFlow;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const PORTRAIT: &str = "1girl, eyes, hair bow, hair, skin, shirt, background";
const GOLD: Rgb = Rgb(255, 215, 0);

/// Median CIEDE2000 of the eyes to gold, mask area, and change outside, over seeds.
fn eyes(seeds: std::ops::Range<u64>, color_var: f64) -> Result<(f64, f64, f64, f64)> {
    let (judge, mut pipeline) = (Judge::new(), Pipeline::builder().build()?);
    let (mut before, mut after, mut areas, mut outside) = (vec![], vec![], vec![], vec![]);
    for seed in seeds {
        let plain = pipeline.request(PORTRAIT).seed(seed).solver(EulerAncestral::default()).run()?;
        let mut force = ColorForce::published("eyes", GOLD).color_var(color_var);
        let forced = pipeline.request(PORTRAIT).seed(seed).solver(EulerAncestral::default()).guide(&mut force).run()?;
        let (plain, forced) = (judge.look(plain.image(0)?)?, judge.look(forced.image(0)?)?);
        before.extend(plain.color("eyes").map(|color| color.delta_e(GOLD)));
        after.extend(forced.color("eyes").map(|color| color.delta_e(GOLD)));
        let details = force.details()?;
        areas.extend(details.steps.iter().flat_map(|step| step.areas.clone()));
        outside.push(plain.change_outside(&forced, "eyes"));
    }
    Ok((median(before), median(after), median(areas), median(outside)))
}

#[test]
fn gold_eyes_are_golden_and_the_rest_stays() -> Result<()> {
    // Half of the 32 seeds that docs/color-forcing.md reports, with the bounds that all 32 must keep, for the document's settings. Eight
    // are too few for a median: the change outside is 2.0 for the first eight and 1.7 for all.
    let (unforced, forced, area, outside) = eyes(0..16, 40.0)?;
    assert!(forced <= 0.25 * unforced, "CIEDE2000 {unforced:.1} → {forced:.1}");
    assert!(area <= 0.08, "mask {area:.3}");
    assert!(outside <= 2.0, "change outside {outside:.2}");
    let (_, stronger, ..) = eyes(0..16, 15.0)?;
    assert!(stronger < forced && stronger < 0.15 * unforced, "c = 40: {forced:.1}, c = 15: {stronger:.1}");
    Ok(())
}

#[test]
fn every_solver_makes_gold_eyes() -> Result<()> {
    let judge = Judge::new();
    let mut pipeline = Pipeline::builder().build()?;
    let names = [
        "Euler",
        "Euler a",
        "DDIM",
        "Heun",
        "DPM++ 2M",
        "DPM++ 2M Karras",
        "UniPC",
        "PLMS",
        "DEIS",
        "DPM++ SDE Karras",
    ];
    for name in names {
        let mut eyes = |color_var: Option<f64>| -> Result<f64> {
            let mut apart = Vec::new();
            for seed in 0..3 {
                let mut request = pipeline.request(PORTRAIT).seed(seed).sampler(name);
                if let Some(color_var) = color_var {
                    request = request.guide(ColorForce::published("eyes", GOLD).color_var(color_var));
                }
                apart.extend(judge.look(request.run()?.image(0)?)?.color("eyes").map(|color| color.delta_e(GOLD)));
            }
            Ok(median(apart))
        };
        let (unforced, forced) = (eyes(None)?, eyes(Some(15.0))?);
        println!("{name}: CIEDE2000 {unforced:.1} → {forced:.1}");
        assert!(forced <= 0.3 * unforced, "{name}: CIEDE2000 {unforced:.1} → {forced:.1}");
    }
    Ok(())
}

#[test]
#[ignore = "the figures of docs/color-forcing.md: cargo test --release --test stories figures_of_the_documents -- --ignored --nocapture"]
fn figures_of_the_documents_settings() -> Result<()> {
    let (judge, mut pipeline) = (Judge::new(), Pipeline::builder().build()?);
    let rows: [(&str, Rgb, f64, f64, bool); 6] = [
        ("eyes", GOLD, 40.0, 0.15, false),
        ("eyes", GOLD, 15.0, 0.15, false),
        ("hair bow", Rgb(255, 105, 180), 15.0, 0.17, false),
        ("hair", Rgb(255, 99, 71), 25.0, 0.20, true),
        ("skin", Rgb(0, 0, 139), 20.0, 0.12, true),
        ("shirt", Rgb(0, 128, 128), 25.0, 0.20, false),
    ];
    println!("part | asked | c | cutoff | alternative saliency | unforced | forced | mask | outside");
    for (part, asked, color_var, cutoff, alternative) in rows {
        let (mut before, mut after, mut areas, mut outside) = (vec![], vec![], vec![], vec![]);
        for seed in 0..32 {
            let plain = pipeline.request(PORTRAIT).seed(seed).solver(EulerAncestral::default()).run()?;
            let force = ColorForce::published(part, asked).color_var(color_var).saliency_cutoff(cutoff);
            let mut force = if alternative { force.alternative_saliency("pink") } else { force };
            let forced =
                pipeline.request(PORTRAIT).seed(seed).solver(EulerAncestral::default()).guide(&mut force).run()?;
            let (plain, forced) = (judge.look(plain.image(0)?)?, judge.look(forced.image(0)?)?);
            before.extend(plain.color(part).map(|color| color.delta_e(asked)));
            after.extend(forced.color(part).map(|color| color.delta_e(asked)));
            areas.extend(force.details()?.steps.iter().flat_map(|step| step.areas.clone()));
            outside.push(plain.change_outside(&forced, part));
        }
        println!(
            "{part} | {asked} | {color_var} | {cutoff} | {alternative} | {:.1} | {:.1} | {:.3} | {:.2}",
            median(before),
            median(after),
            median(areas),
            median(outside)
        );
    }
    Ok(())
}

/// Of portraits with `part` forced to `asked` exactly: CIEDE2000 as the judge sees the part, and change outside, per seed.
fn exactly(part: &str, asked: Rgb, seeds: std::ops::Range<u64>) -> Result<(Vec<f64>, Vec<f64>)> {
    let (judge, mut pipeline) = (Judge::new(), Pipeline::builder().build()?);
    let (mut missed, mut outside) = (vec![], vec![]);
    for seed in seeds {
        let plain = pipeline.request(PORTRAIT).seed(seed).solver(EulerAncestral::default()).run()?;
        let mut force = ColorForce::exact(part, asked);
        let forced = pipeline.request(PORTRAIT).seed(seed).solver(EulerAncestral::default()).guide(&mut force).run()?;
        let details = force.details()?;
        // Where nothing was found nothing is forced, nor said to be met.
        assert!(details.trimmed.iter().all(|trimmed| trimmed.after <= trimmed.before), "{:?}", details.trimmed);
        let met = |painted: &PaintedColor| {
            painted.delta_e <= 2.0
                && painted.mean_delta_e <= 5.0
                && painted.coverage >= 0.6
                && painted.least_covered.is_none_or(|covered| covered >= 0.5)
                && painted.remainder.is_none_or(|left| left <= 0.1)
                && painted.undecided.is_none_or(|cells| cells <= 1.5)
        };
        assert_eq!(details.converged, !details.trimmed.is_empty() && details.painted.iter().all(met));
        let (plain, forced) = (judge.look(plain.image(0)?)?, judge.look(forced.image(0)?)?);
        missed.extend(forced.color(part).map(|color| color.delta_e(asked)));
        outside.push(plain.change_outside(&forced, part));
    }
    Ok((missed, outside))
}

#[test]
fn an_exact_color_is_met_without_settings() -> Result<()> {
    // The bounds are those of docs/color-forcing.md's table, for all its seeds.
    for (part, asked, bound, leak) in
        [("skin", Rgb(0, 0, 139), 1.5, 3.0), ("shirt", Rgb(0, 128, 128), 1.5, 3.0), ("eyes", GOLD, 5.0, 2.0)]
    {
        let (missed, outside) = exactly(part, asked, 0..4)?;
        assert!(median(missed.clone()) <= bound, "{part}: {missed:?}");
        assert!(median(outside.clone()) <= leak, "{part}: {outside:?}");
    }
    Ok(())
}

#[test]
fn where_the_maps_are_undecided_nothing_is_said_to_be_met() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    let mut force = ColorForce::exact("masterpiece", GOLD);
    pipeline.request("1girl, eyes, hair, masterpiece").seed(1).guide(&mut force).run()?;
    let told = force.details()?;
    assert!(told.painted[0].undecided.is_some_and(|cells| cells > 1.5), "{:?}", told.painted);
    let undecided = |warning: &ColorWarning| matches!(warning, ColorWarning::Undecided { image: 0, .. });
    assert!(!told.converged && told.warnings.iter().any(undecided), "{:?}", told.warnings);
    Ok(())
}

#[test]
fn attention_along_outlines_is_where_the_part_is() -> Result<()> {
    let (judge, mut pipeline) = (Judge::new(), Pipeline::builder().build()?);
    let (mut coarse, mut fine) = (vec![], vec![]);
    for seed in 0..2 {
        let parts = ["hair bow", "hair", "skin", "shirt"];
        let look = |part| Daam::of(part).accumulate(Accumulate::Mean).refine(Refine::compete());
        let mut looks = parts.map(look);
        let mut request = pipeline.request(PORTRAIT).seed(seed);
        for look in &mut looks {
            request = request.guide(look);
        }
        let output = request.run()?;
        let seen = judge.look(output.image(0)?)?;
        for (part, look) in parts.iter().zip(&looks) {
            let truth = seen.part(part).flatten(0, -1).to_kind(Kind::Float);
            let iou = |map: Tensor| {
                let found = map.adaptive_avg_pool2d([64, 64]).ge(0.5).flatten(0, -1).to_kind(Kind::Float);
                let sum = |x: Tensor| x.sum(Kind::Double).double_value(&[]);
                sum(&found * &truth) / sum((found + &truth).clamp(0.0, 1.0)).max(1.0)
            };
            let map = look.map()?.expect("the run had steps");
            let region = Region::along_outlines(&map, output.image(0)?)?;
            let values: Vec<f32> = region.values().expect("a drawing").iter().copied().collect();
            let (h, w) = region.values().expect("a drawing").dim();
            let size = [h as i64, w as i64];
            coarse.push(iou(map.upsample_nearest2d(size, None, None)));
            fine.push(iou(Tensor::from_slice(&values).reshape([1, 1, size[0], size[1]])));
        }
    }
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let (before, after) = (mean(&coarse), mean(&fine));
    assert!(after > 0.65 && after > before + 0.05, "IoU {before:.2} → {after:.2}");
    Ok(())
}

#[test]
fn an_exact_force_covers_the_part_better_along_outlines() -> Result<()> {
    let (judge, mut pipeline) = (Judge::new(), Pipeline::builder().build()?);
    let (mut coarse, mut fine) = (0.0, 0.0);
    for seed in 0..2 {
        let seen = judge.look(pipeline.request(PORTRAIT).seed(seed).run()?.image(0)?)?;
        for part in ["hair bow", "skin"] {
            let truth = seen.part(part).to_kind(Kind::Float).reshape([1, 1, 64, 64]);
            for (outlines, sum) in [(false, &mut coarse), (true, &mut fine)] {
                let mut force = ColorForce::exact(part, GOLD).trim(0);
                if !outlines {
                    force = force.outlines(false);
                }
                let _ = pipeline.request(PORTRAIT).seed(seed).guide(&mut force).run()?;
                let mask = force.masks()?.narrow(0, 0, 1);
                let truth = truth.adaptive_avg_pool2d(&mask.size()[2..]).ge(0.5).to_kind(Kind::Float);
                let total = |x: Tensor| x.sum(Kind::Double).double_value(&[]);
                *sum += total(&mask * &truth) / total((mask + &truth).clamp(0.0, 1.0)).max(1.0) / 4.0;
            }
        }
    }
    assert!(fine > coarse + 0.02, "IoU of the forced cells {coarse:.2} → {fine:.2}");
    Ok(())
}

#[test]
fn feedback_meets_what_a_weak_force_misses() -> Result<()> {
    let (judge, mut pipeline, asked) = (Judge::new(), Pipeline::builder().build()?, Rgb(0, 128, 128));
    let mut median_of = |feedback: Option<Feedback>| -> Result<f64> {
        let mut missed = vec![];
        for seed in 0..4 {
            let force = ColorForce::exact("shirt", asked).color_var(200.0).max_timestep(700.0).trim(0);
            let force = feedback.into_iter().fold(force, ColorForce::feedback);
            let picture = pipeline.request(PORTRAIT).seed(seed).guide(force).run()?;
            missed.extend(judge.look(picture.image(0)?)?.color("shirt").map(|color| color.delta_e(asked)));
        }
        Ok(median(missed))
    };
    let (open, closed) = (median_of(None)?, median_of(Some(Feedback::default()))?);
    assert!(closed < 0.5 * open && closed < 5.0, "CIEDE2000 {open:.1} → {closed:.1}");
    Ok(())
}

#[test]
#[ignore = "the figures of docs/color-forcing.md: cargo test --release --test stories figures_of_exact -- --ignored --nocapture"]
fn figures_of_exact_forces() -> Result<()> {
    println!("part | asked | median | 90th percentile | outside");
    let rows = [
        ("eyes", GOLD),
        ("hair bow", Rgb(255, 105, 180)),
        ("hair", Rgb(255, 99, 71)),
        ("skin", Rgb(0, 0, 139)),
        ("shirt", Rgb(0, 128, 128)),
        ("background", Rgb(60, 179, 113)),
    ];
    for (part, asked) in rows {
        let (mut missed, outside) = exactly(part, asked, 0..32)?;
        missed.sort_by(f64::total_cmp);
        let most = missed[missed.len() * 9 / 10];
        println!("{part} | {asked} | {:.1} | {most:.1} | {:.1}", median(missed), median(outside));
    }
    Ok(())
}

#[test]
fn attention_to_a_word_lies_where_the_judge_sees_it() -> Result<()> {
    let (judge, mut pipeline) = (Judge::new(), Pipeline::builder().build()?);
    let mut inside = Vec::new();
    for seed in 0..4 {
        let mut look = Daam::of("eyes");
        let output = pipeline.request(PORTRAIT).seed(seed).guide(&mut look).run()?;
        let eyes = judge.look(output.image(0)?)?.part("eyes");
        let map = look.heat_map(0)?.expand(64, 64)?;
        inside.push(
            map.masked_select(&eyes).mean(tch::Kind::Double).double_value(&[])
                / map.mean(tch::Kind::Double).double_value(&[]),
        );
    }
    assert!(median(inside.clone()) > 3.0, "attention in the eyes over the mean: {inside:?}");
    Ok(())
}

#[test]
fn a_region_forces_what_no_word_names() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    let left = Array2::from_shape_fn((16, 16), |(_, column)| if column < 4 { 1.0 } else { 0.0 });
    let mut painted = |force: fn(&'static str, Rgb) -> ColorForce| -> Result<(PaintedColor, Vec<String>)> {
        let mut force = force("the left edge", Rgb(60, 179, 113)).saliency(Region::new(left.clone()));
        let output = pipeline.request("a red house, ground, sky").seed(1).guide(&mut force).run()?;
        Ok((force.details()?.painted[0], output.notes().to_vec()))
    };
    let (plain, _) = painted(|phrase, color| ColorForce::published(phrase, color).color_var(1e9))?;
    let (forced, notes) = painted(|phrase, color| ColorForce::published(phrase, color).color_var(5.0))?;
    let (exact, _) = painted(|phrase, color| ColorForce::exact(phrase, color).outlines(false))?;
    assert_eq!((forced.area, exact.area), (0.25, 0.25));
    let distances = [plain, forced, exact].map(|painted| painted.delta_e);
    assert!(distances[1] < distances[0] && distances[2] < 1.0 && distances[0] > 20.0, "{distances:?}");
    assert!(notes.iter().any(|note| note.contains("color_var is 5")), "{notes:?}");
    Ok(())
}

const OBJECTS: [&str; 8] = ["house", "tree", "boat", "star", "fish", "flower", "moon", "sun"];

/// Of pictures of every object, its word painted over one quadrant and what surrounds it over the rest: the shares in which the judge
/// finds the object (1 % of the picture or more), and finds it in its place (its middle and at least half of it in the quadrant).
fn placement(seeds: usize, strength: f64, surroundings: f64) -> Result<(f64, f64)> {
    let (judge, mut pipeline) = (Judge::new(), Pipeline::builder().build()?);
    let paper = Rgb(255, 255, 255);
    let (mut found, mut placed, mut all) = (0.0, 0.0, 0.0);
    for (number, object) in OBJECTS.iter().enumerate() {
        let (left, top) = (number % 2 * 32, number / 2 % 2 * 32);
        let mut map = Raster::flat(paper, 256, 256);
        map.paste(&Raster::flat(GOLD, 128, 128), 4 * left as u32, 4 * top as u32);
        let area = Area::color(GOLD, *object).strength(strength).outside(-strength / 3.0);
        let paint = PaintWithWords::new(&map).area(area).weight(WeightFn::LogMax(0.4));
        let paint = ["ground", "sky"].into_iter().fold(paint, |paint, word| paint.color(paper, word, surroundings));
        let prompt = format!("a {object}, ground, sky");
        let output = pipeline.request(&prompt).solver(Euler).seed(0).images(seeds).guide(paint).run()?;
        let (x, y) = (left as i64..left as i64 + 32, top as i64..top as i64 + 32);
        for picture in output.images() {
            let (share, inside, middle) = judge.look(picture)?.place(object, x.clone(), y.clone());
            let there = share >= 0.01;
            let here = x.contains(&(middle.0 as i64)) && y.contains(&(middle.1 as i64)) && inside >= 0.5;
            found += f64::from(u8::from(there));
            placed += f64::from(u8::from(there && here));
            all += 1.0;
        }
    }
    Ok((found / all, placed / all))
}

#[test]
fn things_are_where_their_word_is_painted() -> Result<()> {
    // Two of the eight seeds that docs/painting.md reports.
    let (_, by_chance) = placement(2, 0.0, 0.0)?;
    let (found, placed) = placement(2, 1.5, 0.5)?;
    assert!(by_chance <= 0.35, "unpainted, {by_chance:.2} are there by chance");
    assert!(found >= 0.85 && placed >= 0.8, "found {found:.2}, placed {placed:.2}");
    Ok(())
}

#[test]
fn the_seed_makes_the_picture_and_image_i_has_seed_plus_i() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    let one = pipeline.request("a red boat").seed(5).steps(4).run()?;
    let again = pipeline.request("a red boat").seed(5).steps(4).run()?;
    assert_eq!(one.image(0)?, again.image(0)?);
    let batching = impasto::sampler::Batching::OneByOne;
    let batch = pipeline.request("a red boat").seed(4).steps(4).images(2).batching(batching).run()?;
    assert_ne!(batch.image(0)?, batch.image(1)?);
    let alone = pipeline.request("a red boat").seed(5).steps(4).batching(batching).run()?;
    assert_eq!(batch.image(1)?, alone.image(0)?);
    let free = pipeline.request("a red boat").steps(1).run()?;
    let repeated = pipeline.request("a red boat").steps(1).seed(free.seed().expect("it was drawn")).run()?;
    assert_eq!(free.image(0)?, repeated.image(0)?);
    Ok(())
}

#[test]
fn pictures_need_not_be_square() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    let mut look = Daam::of("boat");
    let output = pipeline.request("a red boat, blue sky").size(168, 104).steps(3).seed(1).guide(&mut look).run()?;
    assert_eq!((output.image(0)?.width(), output.image(0)?.height()), (168, 104));
    assert_eq!(look.heat_map(0)?.values().size(), [13, 21]);
    Ok(())
}

#[test]
fn bad_requests_name_the_value_and_the_way_out() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    let mut fails = |request: fn(impasto::pipeline::Request<'_>) -> impasto::pipeline::Request<'_>, words: &[&str]| {
        let request = request(pipeline.request("1girl, gold eyes").steps(2).seed(1));
        let message = request.run().map(drop).expect_err("bad input").to_string();
        for word in words {
            assert!(message.contains(word), "\"{message}\" does not say \"{word}\"");
        }
    };
    fails(|r| r.size(100, 128), &["width is 100", "multiple of 8"]);
    fails(|r| r.size(128, 4104), &["height is 4104", "4096"]);
    fails(|r| r.size(0, 128), &["width is 0"]);
    fails(|r| r.steps(0), &["steps is 0", "1000"]);
    fails(|r| r.steps(1001), &["steps is 1001", "1000"]);
    fails(|r| r.images(0), &["images is 0", "1 to 1024"]);
    fails(|r| r.guidance_scale(f64::NAN), &["guidance scale is NaN"]);
    fails(|r| r.guidance_scale(-1.0), &["guidance scale is -1"]);
    fails(|r| r.color_force("ears", GOLD), &["ColorForce", "\"ears\"", "did you mean \"eyes\""]);
    fails(|r| r.guide(ColorForce::published("eyes", GOLD).color_var(f64::NAN)), &["color_var is NaN", "15 to 70"]);
    fails(|r| r.guide(ColorForce::published("eyes", GOLD).color_var(-3.0)), &["color_var is -3"]);
    fails(|r| r.guide(ColorForce::published("eyes", GOLD).saliency_cutoff(-0.1)), &["saliency_cutoff is -0.1"]);
    fails(|r| r.guide(ColorForce::published("eyes", GOLD).max_timestep(1200.0)), &["0..=1200", "0..=999"]);
    fails(|r| r.guide(ColorForce::published("eyes", GOLD).reference_steps(0)), &["reference_steps is 0"]);
    fails(|r| r.guide(Daam::of(" , ")), &["the phrase is empty"]);
    fails(|r| r.guide(Daam::of("eyes").occurrence(Occurrence::Nth(1))), &["occurrence Nth is 1", "less than 1"]);
    fails(|r| r.guide(Daam::of("eyes").window(-5.0, 5000.0)), &["window is -5..=5000", "0..=999"]);
    fails(|r| r.images(usize::MAX), &["images is 18446744073709551615"]);
    drop(pipeline.request("").steps(1).run()?); // an empty prompt is fine
    Ok(())
}

#[test]
fn a_pipeline_is_checked_when_it_is_built() {
    let built = Pipeline::builder().guide(ColorForce::published("eyes", GOLD).color_var(0.0)).build();
    assert!(built.map(drop).expect_err("variance 0").to_string().contains("color_var is 0"));
    let missing = Pipeline::builder().source(Source::dir("no/such/folder")).build();
    let message = missing.map(drop).expect_err("no folder").to_string();
    assert!(message.contains("no/such/folder") && message.contains("unet/"), "{message}");
}

#[test]
fn hooks_and_forces_work_in_half_precision() -> Result<()> {
    use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest};
    use impasto::{Branch, Codec};
    use tch::{Kind, Tensor};

    /// Mixes single-precision tensors into everything it may edit.
    struct Mixed(Tensor);
    impl CrossAttentionHook for Mixed {
        fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
            let edits = Interest::CONTEXT | Interest::SCORES | Interest::OUTPUT;
            if site.is_cross() && branch == Branch::Cond { edits } else { Interest::NONE }
        }
        fn context(&mut self, _: &At, context: &mut Tensor) -> Result<()> {
            *context = Tensor::f_cat(&[&context.f_to_kind(Kind::Float)?, &self.0], 1)?;
            Ok(())
        }
        fn output(&mut self, at: &At, output: &mut Tensor) -> Result<()> {
            *output = &*output * Tensor::from(0.9f32) + at.attend(&self.0)? * 0.1;
            *output = output.to_kind(Kind::Float);
            Ok(())
        }
    }
    let mut pipeline = Pipeline::builder().precision(Kind::BFloat16).build()?;
    let context = pipeline.model().text("a red boat")?.context;
    let (mut force, mut look) = (ColorForce::published("eyes", GOLD).color_var(15.0), Daam::of("eyes"));
    let request = pipeline.request(PORTRAIT).seed(7).steps(10).guide(&mut force).guide(&mut look).hook(Mixed(context));
    let _ = request.run()?;
    assert!(look.heat_map(0)?.max()? > 0.0);
    let forced = pipeline.request(PORTRAIT).seed(7).guide(&mut force).run()?;
    assert!(Judge::new().look(forced.image(0)?)?.color("eyes").is_some_and(|eyes| eyes.delta_e(GOLD) < 20.0));
    Ok(())
}

#[test]
fn in_bf16_it_is_the_same_picture_and_colors_are_met() -> Result<()> {
    let (judge, mut exact) = (Judge::new(), Pipeline::builder().build()?);
    let mut fast = Pipeline::builder().precision(Kind::BFloat16).build()?;
    let (mut errors, mut apart, mut missed, mut decoded) = (vec![], vec![], vec![], vec![]);
    for seed in 0..6 {
        // What a network predicts of the same latent.
        let x = Noise::seeded(seed).draw(&[1, 4, 32, 32])? * 3.0;
        let step = Step::new(0, 1, 3.0, 0.0, 600.0);
        let noise = |pipeline: &Pipeline| -> Result<Tensor> {
            let _no_grad = tch::no_grad_guard();
            let words = pipeline.model().text(PORTRAIT)?;
            let inputs = [Input::new(Branch::Cond, &x, &words)];
            pipeline.model().denoise(&step, &inputs, &mut Tap::none())?.eps(Branch::Cond)
        };
        let (want, got) = (noise(&exact)?, noise(&fast)?);
        errors.push(((got - &want).norm() / want.norm()).double_value(&[]));
        // A whole run of each, the second colored.
        let plain = exact.request(PORTRAIT).seed(seed).solver(Euler).run()?;
        let alike = fast.request(PORTRAIT).seed(seed).solver(Euler).run()?;
        // The same latents, decoded in either kind: every pixel.
        let again = Raster::from_tensor(&fast.model().decode(plain.latents())?)?;
        decoded.extend(deltas(plain.image(0)?, &again));
        apart.push(judge.look(plain.image(0)?)?.change_outside(&judge.look(alike.image(0)?)?, "eyes"));
        let forced = fast.request(PORTRAIT).seed(seed).guide(ColorForce::exact("eyes", GOLD)).run()?;
        missed.push(judge.look(forced.image(0)?)?.color("eyes").map_or(f64::INFINITY, |eyes| eyes.delta_e(GOLD)));
    }
    decoded.sort_by(f64::total_cmp);
    let [middle, high, most] = [0.5, 0.99, 1.0].map(|share| decoded[((decoded.len() - 1) as f64 * share) as usize]);
    println!(
        "prediction off by {:.4}, pictures by {:.2}, eyes by {:.2}; decoding alone {middle:.2}, 99 % of pixels {high:.2}, at most {most:.1}",
        median(errors.clone()),
        median(apart.clone()),
        median(missed.clone())
    );
    assert!(median(errors) < 0.01 && median(apart) < 1.0 && median(missed) < 4.0);
    assert!(middle < 1.0 && high < 4.0);
    Ok(())
}

/// CIEDE2000 between two pictures, pixel by pixel.
fn deltas(a: &Raster, b: &Raster) -> Vec<f64> {
    let colors = |picture: &Raster| -> Vec<Rgb> {
        let (pixels, _) = picture.bytes().as_chunks::<3>();
        pixels.iter().map(|&[red, green, blue]| Rgb(red, green, blue)).collect()
    };
    colors(a).into_iter().zip(colors(b)).map(|(a, b)| a.delta_e(b)).collect()
}

#[test]
fn vae_computes_in_the_kind_of_the_rest_unless_told() -> Result<()> {
    let latent = Noise::seeded(3).draw(&[1, 4, 16, 16])?;
    let decode = |builder: Builder| -> Result<Tensor> { builder.build()?.model().decode(&latent) };
    let plain = decode(Pipeline::builder())?;
    let bf16 = decode(Pipeline::builder().precision(Kind::BFloat16))?;
    assert_ne!(plain, bf16);
    assert_eq!(decode(Pipeline::builder().precision(Kind::BFloat16).vae_precision(Kind::Float))?, plain);
    assert_eq!(decode(Pipeline::builder().vae_precision(Kind::BFloat16))?, bf16);
    Ok(())
}

#[test]
fn every_gold_decodes_to_its_color() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    let cells = i64::from(pipeline.model().defaults().width) / 8;
    let mut gold = |mode| -> Result<(f64, tch::Tensor)> {
        let mut force = ColorForce::published("eyes", GOLD).gold(mode);
        let _ = pipeline.request(PORTRAIT).seed(1).steps(1).guide(&mut force).run()?;
        Ok((force.details()?.representable_delta_e, force.gold_latent()?.shallow_clone()))
    };
    for mode in [GoldMode::Full, GoldMode::Constant] {
        let name = format!("{mode:?}");
        let (delta_e, latent) = gold(mode)?;
        assert!(delta_e < 1.0, "{name}: {delta_e}");
        assert_eq!(latent.size(), [1, 4, cells, cells]);
    }
    let half = tch::Tensor::full([1, 4, 1, 1], 0.5, (tch::Kind::Float, tch::Device::Cpu));
    let (delta_e, latent) = gold(GoldMode::Latent(half))?;
    assert!(delta_e > 5.0 && latent == latent.full_like(0.5));
    Ok(())
}

#[test]
fn a_long_prompt_is_read_to_its_end_and_guidances_find_its_words() -> Result<()> {
    let long = format!("1girl, {}gold hair, eyes, shirt", "simple picture, ".repeat(28));
    let mut pipeline = Pipeline::builder().build()?;
    let (mut force, mut words, mut daam) = (ColorForce::published("eyes", GOLD), Daam::words(), Daam::of("eyes"));
    let half = Region::new(Array2::from_shape_fn((16, 16), |(_, x)| if x < 8 { 1.0 } else { 0.0 }));
    let paint = PaintWithWords::default().mask(half, "shirt", 1.0);
    // The negative prompt is one chunk, the prompt two.
    let request = pipeline.request(&long).negative("a car").steps(2).guide(&mut force).guide(&mut words);
    let output = request.guide(&mut daam).guide(paint).run()?;
    assert!(output.notes().iter().all(|note| !note.contains("too long")), "{:?}", output.notes());
    words.heat_map("shirt", 0)?; // a word of the second chunk
    let apart = (output.image(0)?, pipeline.request(&long).negative("a car").steps(2).run()?);
    assert_ne!(apart.0, apart.1.image(0)?);

    let mut pipeline = Pipeline::builder().text(TextOptions::PLAIN).build()?;
    let output = pipeline.request(&long).steps(1).run()?;
    let note = output.notes().iter().find(|note| note.contains("too long")).expect("a note");
    assert!(note.contains("eyes, shirt"), "{note}");
    Ok(())
}

#[test]
fn weights_of_words_change_the_picture_and_a_weight_of_one_does_not() -> Result<()> {
    let prompt = "1girl, gold eyes, red hair";
    let mut pipeline = Pipeline::builder().build()?;
    let mut picture = |prompt: &str| Ok::<_, Error>(pipeline.request(prompt).steps(4).seed(1).run()?.image(0)?.clone());
    let plain = picture(prompt)?;
    assert_eq!(picture("1girl, (gold eyes:1.0), red hair")?, plain);
    assert_ne!(picture("1girl, (gold eyes:1.5), red hair")?, plain);
    // Without markup, brackets are signs of the prompt.
    let mut unmarked = Pipeline::builder().text(TextOptions { markup: false, ..TextOptions::default() }).build()?;
    assert_eq!(unmarked.request(prompt).steps(4).seed(1).run()?.image(0)?, &plain);
    assert_ne!(unmarked.request("1girl, (gold eyes:1.0), red hair").steps(4).seed(1).run()?.image(0)?, &plain);
    // The embedded model's text encoder has three layers.
    let skipped = |clip_skip| {
        Pipeline::builder().text(TextOptions { clip_skip: Some(clip_skip), ..TextOptions::default() }).build()
    };
    assert_ne!(skipped(2)?.request(prompt).steps(4).seed(1).run()?.image(0)?, &plain);
    assert_eq!(skipped(1)?.request(prompt).steps(4).seed(1).run()?.image(0)?, &plain);
    let message = skipped(4).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("clip_skip is 4; expected 1 to 3"), "{message}");
    Ok(())
}

#[test]
fn a_cancelled_run_ends_within_a_step() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    let token = CancelToken::new();
    let mut steps = 0;
    let request = pipeline.request("a red boat").steps(20).cancel(&token).on_step(|_| {
        steps += 1;
        if steps == 3 {
            token.cancel();
        }
        ControlFlow::Continue(())
    });
    assert!(request.run().map(drop).expect_err("cancelled").is_cancelled());
    assert_eq!(steps, 3);
    let stopped = pipeline.request("a red boat").on_step(|_| ControlFlow::Break(())).run();
    assert!(matches!(stopped, Err(Error::Cancelled)));
    Ok(())
}

#[test]
fn broken_checkpoints_are_described() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model"), folder.path());
    let load = || Model::load(&Source::dir(folder.path())).map(drop);
    load()?;
    let fails = |words: &[&str]| {
        let message = load().expect_err("broken").to_string();
        words.iter().for_each(|word| assert!(message.contains(word), "\"{message}\" does not say \"{word}\""));
    };
    let path = folder.path().join("unet/diffusion_pytorch_model.safetensors");
    let whole = std::fs::read(&path).expect("read");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    fails(&["diffusion_pytorch_model.safetensors", "cut off", "again"]);
    std::fs::write(&path, b"<!DOCTYPE html><html>not found</html>").expect("written");
    fails(&["diffusion_pytorch_model.safetensors", "HTML"]);
    std::fs::write(&path, &whole).expect("written");

    let config = folder.path().join("unet/config.json");
    let text = std::fs::read_to_string(&config).expect("read");
    std::fs::write(&config, text.replace("\"in_channels\": 4", "\"in_channels\": 5")).expect("written");
    fails(&["conv_in.weight", "5", "4"]);
    std::fs::write(&config, text.replace("\"act_fn\": \"silu\"", "\"act_fn\": \"mish\"")).expect("written");
    fails(&["act_fn", "mish"]);
    std::fs::write(&config, text.replace("\"cross_attention_dim\": 128", "\"cross_attention_dim\": 64"))
        .expect("written");
    fails(&["attn2.to_k.weight"]);
    std::fs::write(&config, text.replace("\"sample_size\": 32", "\"sample_size\": 9223372036854775807"))
        .expect("written");
    fails(&["sample_size", "9223372036854775807"]);
    std::fs::write(&config, &text).expect("written");

    std::fs::remove_file(folder.path().join("vae/config.json")).expect("removed");
    fails(&["vae/config.json is missing"]);
    Ok(())
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            let _ = std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[test]
fn pictures_and_captions_of_the_embedded_model_find_each_other() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model");
    let text = |file: &str| std::fs::read_to_string(folder.join(file)).expect(file);
    let weights = |part: &str| Weights::open(&folder.join(part).join("model.safetensors"), Kind::Float, Device::Cpu);
    let config = ClipTextConfig::from_json("text", &text("text_encoder/config.json"))?;
    let text_encoder = ClipText::new(&weights("text_encoder")?, &config)?;
    let config = ClipVisionConfig::from_json("vision", &text("image_encoder/config.json"))?;
    let image_encoder = ClipVision::new(&weights("image_encoder")?, &config)?;
    let processor = ClipImageProcessor::from_json("pictures", &text("feature_extractor/preprocessor_config.json"))?;
    let (vocab, merges) = (text("tokenizer/vocab.json"), text("tokenizer/merges.txt"));
    let special = text("tokenizer/special_tokens_map.json");
    let tokenizer = Tokenizer::from_vocab(vocab.as_bytes(), merges.as_bytes(), Some(special.as_bytes()), None)?;

    let captions = [
        "1girl, gold eyes, pink hair bow, red hair, pale skin, blue shirt, green background",
        "1girl, green eyes, red hair bow, blue hair, brown skin, yellow shirt, white background",
        "a red house and a yellow moon, green ground, navy sky",
        "a blue boat and a white star, tan ground, black sky",
    ];
    let mut pipeline = Pipeline::builder().build()?;
    let (mut texts, mut pictures) = (Vec::new(), Vec::new());
    for caption in captions {
        texts.push(Tensor::from_slice(&tokenizer.padded(caption)?).unsqueeze(0));
        pictures.push(processor.pixels(pipeline.request(caption).seed(1).run()?.image(0)?)?);
    }
    let texts = text_encoder.forward(&Tensor::cat(&texts, 0))?.text_embeds.expect("a projection");
    let pictures = image_encoder.forward(&Tensor::cat(&pictures, 0))?.image_embeds.expect("a projection");
    let unit = |x: Tensor| &x / x.norm_scalaropt_dim(2.0, [-1], true);
    let cosines = unit(pictures).matmul(&unit(texts).transpose(0, 1)); // [pictures, captions]
    for axis in 0..2 {
        assert_eq!(Vec::<i64>::try_from(cosines.argmax(axis, false))?, [0, 1, 2, 3], "{cosines}");
    }
    Ok(())
}

#[test]
fn colors_in_the_prompt_are_met_and_the_model_reads_words() -> Result<()> {
    let (judge, mut pipeline) = (Judge::new(), Pipeline::builder().build()?);
    let prompt = "1girl, eyes, hair bow, hair, rgb(0, 0, 139) skin, #008080 shirt, background";
    let request = pipeline.request(prompt).seed(2);
    let understood: Vec<_> = request.colors()?.into_iter().map(|found| (found.phrase, found.word)).collect();
    let expected = [("skin", "navy"), ("shirt", "teal")];
    assert_eq!(understood, expected.map(|(phrase, word)| (phrase.to_owned(), word.to_owned())));
    let output = request.run()?;
    let seen = judge.look(output.image(0)?)?;
    for (part, color) in [("skin", Rgb(0, 0, 139)), ("shirt", Rgb(0, 128, 128))] {
        let missed = seen.color(part).expect("it is there").delta_e(color);
        assert!(missed < 3.0, "{part}: CIEDE2000 {missed:.1}");
    }
    assert_eq!(output.reports().iter().filter(|report| report.name.starts_with("ColorForce")).count(), 2);
    let plain = pipeline.request("1girl, eyes, #008080 shirt").color_words(ColorWords::Nothing);
    assert_eq!(plain.colors()?[0].word, "");
    drop(plain);
    let error = pipeline.request("#ffd700 eyes and hair").steps(2).run().expect_err("which?").to_string();
    assert!(error.contains("\"eyes\", or \"eyes and hair\"?"), "{error}");
    Ok(())
}
