//! Larger pictures than the model's own: second runs, details at full size, and pictures that continue at their edges.

use crate::with;
use impasto::pipeline::{Detail, Enlarge, Hires, MaskWhere, Output, Request, Seamless};
use impasto::raster::Filter;
use impasto::saliency::{Daam, DaamRun};
use impasto::{Pipeline, Raster, Result, Rgb, Size};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

const PROMPT: &str = "1girl, gold eyes, red hair, blue shirt, green background";
const BLACK: Rgb = Rgb(0, 0, 0);
const WHITE: Rgb = Rgb(255, 255, 255);

/// Mean difference of two pictures' bytes.
fn apart(one: &Raster, other: &Raster) -> f64 {
    let sum: u64 = one.bytes().iter().zip(other.bytes()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / one.bytes().len() as f64
}

#[test]
fn second_run_paints_the_first_picture_larger() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let boat = "red boat, blue sky, green ground";
    let first = pipeline.request(boat).seed(7).steps(8).size((128, 96)).run()?;
    for enlarge in [Enlarge::Lanczos, Enlarge::Latent] {
        let mut hires = Hires::new(1.5, 0.5);
        hires.enlarge = enlarge;
        hires.steps = Some(6);
        let request = pipeline.request(boat).seed(7).steps(8).size((128, 96)).images(2).guide(Daam::of("boat"));
        let output = request.tune(|config| config.hires = Some(hires)).run()?;
        assert_eq!(output.image(0)?.size(), Size::new(192, 144));
        assert_eq!((output.images.len(), output.latents.size()), (2, vec![2, 4, 18, 24]));
        assert_eq!(output.timing.steps.len(), 8 + 3, "the share of the second run's steps");
        let look = output.details::<DaamRun>("boat")?;
        assert_eq!(look.heat_map(1)?.values.size(), [18, 24], "methods act on the larger grid");
        let enlarged = first.image(0)?.resize((192, 144), Filter::Lanczos)?;
        let difference = apart(&enlarged, output.image(0)?);
        assert!((0.5..25.0).contains(&difference), "{enlarge:?}: {difference}");
    }
    Ok(())
}

#[test]
fn exact_color_is_met_in_the_larger_picture() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let request = pipeline.request("#ff8000 boat, blue sky, green ground").seed(7).steps(8).size((128, 128));
    let output = request.hires(1.5, 0.4).run()?;
    let swatch = &output.reports.iter().find_map(|report| report.swatches.first()).expect("a forced color");
    assert!(swatch.delta_e < 3.0, "{swatch:?}");
    Ok(())
}

#[test]
fn saved_file_repeats_second_runs_and_details() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let mut mask = Raster::flat(BLACK, (96, 96));
    mask.paste(&Raster::flat(WHITE, (30, 30)), 20, 30);
    let request = pipeline.request("red boat, blue sky").seed(7).steps(4).size((64, 64)).hires(1.5, 0.5);
    let output = request.detail(with(Detail::under(mask), |detail| detail.padding = 4)).run()?;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("large.png");
    output.save(0, &file)?;
    let texts = Raster::texts_of(&file)?;
    let infotext = &texts.iter().find(|(keyword, _)| keyword == "parameters").expect("a text").1;
    for words in ["Size: 64x64", "Denoising strength: 0.5", "Hires upscale: 1.5", "Hires upscaler: Lanczos"] {
        assert!(infotext.contains(words), "{infotext}");
    }
    let again = Request::from_png(&pipeline, &file)?;
    assert!(again.notes()?.is_empty());
    assert_eq!(again.run()?.image(0)?, output.image(0)?);
    // The web UI's own text asks for the same second run.
    let bare = folder.path().join("web.png");
    std::fs::write(&bare, output.image(0)?.to_png(&[("parameters", infotext)])?).expect("written");
    let told = Request::from_png(&pipeline, &bare)?;
    assert!(told.notes()?.iter().all(|note| !note.text.contains("Hires")), "{:?}", told.notes()?);
    assert_eq!(told.run()?.image(0)?.size(), Size::new(96, 96));
    Ok(())
}

/// A portrait, and a scene with the small portrait in a frame, whose place is (`x`, `y`).
fn scene(pipeline: &Pipeline, (x, y): (u32, u32)) -> Result<(Raster, Raster, Raster)> {
    let portrait = pipeline.request(PROMPT).seed(7).steps(12).run()?.image(0)?.clone();
    let mut scene = Raster::flat(Rgb(245, 240, 225), (301, 277));
    scene.paste(&portrait.resize((72, 72), Filter::Box)?, x, y);
    let mut frame = Raster::flat(BLACK, scene.size());
    frame.paste(&Raster::flat(WHITE, (72, 72)), x, y);
    Ok((portrait, scene, frame))
}

#[test]
fn detail_changes_its_part_alone() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let (portrait, scene, frame) = scene(&pipeline, (150, 130))?;
    let mut detail = Detail::under(frame.clone());
    detail.padding = 0;
    detail.strength = 0.5;
    let mut stages = BTreeSet::new();
    let request = pipeline.request(PROMPT).seed(9).steps(12).start(&scene, 0.0).detail(detail);
    let output = request
        .on_step(|progress| {
            stages.insert(progress.stage);
            ControlFlow::Continue(())
        })
        .run()?;
    let result = output.image(0)?;
    assert_eq!(stages, BTreeSet::from([1]), "nothing is painted but the detail");
    let mut changed = 0;
    for (x, y) in (0..277).flat_map(|y| (0..301).map(move |x| (x, y))) {
        let same = result.pixel(x, y) == scene.pixel(x, y);
        assert!(same || frame.pixel(x, y) == Some(WHITE), "pixel {x}, {y}");
        changed += usize::from(!same);
    }
    assert!(changed > 1000, "{changed}");
    // The part shows the portrait still.
    let part = result.crop(130..202, 150..222)?;
    let small = portrait.resize((72, 72), Filter::Box)?;
    assert!(apart(&part, &small) < 25.0, "{}", apart(&part, &small));
    let report = output.reports.iter().find(|report| report.name == "detail 1: detail").expect("a report");
    assert_eq!(report.data["size"], serde_json::json!({ "width": 256, "height": 256 }));
    Ok(())
}

/// The differences from the colors that details asked for, before and after.
fn measured(output: &Output) -> Vec<[f64; 2]> {
    let data = output.reports.iter().filter(|report| report.name.ends_with(": detail")).map(|report| &report.data);
    let colors = data.flat_map(|data| data["colors"].as_array().expect("colors"));
    colors.map(|color| [&color["before"], &color["after"]].map(|number| number.as_f64().expect("a number"))).collect()
}

#[test]
fn exact_color_in_a_detail_is_met_in_the_picture() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let (_, scene, frame) = scene(&pipeline, (150, 130))?;
    let prompt = PROMPT.replace("blue shirt", "#20c0a0 shirt");
    let mut by_prompt = Detail::under(frame.clone());
    by_prompt.padding = 0;
    by_prompt.prompt = Some(prompt.clone());
    let mut by_color = Detail::under(frame.clone());
    by_color.padding = 0;
    by_color.colors = vec![("shirt".into(), Rgb(0x20, 0xc0, 0xa0))];
    let mut by_request = Detail::under(frame);
    by_request.padding = 0;
    for (prompt, detail) in [(PROMPT, by_prompt), (PROMPT, by_color), (prompt.as_str(), by_request)] {
        let output = pipeline.request(prompt).seed(9).steps(12).start(&scene, 0.0).detail(detail).run()?;
        let colors = measured(&output);
        assert!(colors.len() == 1 && colors[0][0] > 20.0 && colors[0][1] < 3.0, "{colors:?}");
    }
    Ok(())
}

#[test]
fn color_of_the_run_stays_in_its_detail() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let thing = MaskWhere { grow: 12.0, ..MaskWhere::new("shirt") };
    let request = pipeline.request("1girl, hair, #20c0a0 shirt, background").seed(7).steps(12);
    let output = request.detail(with(Detail::of(thing), |detail| detail.padding = 16)).run()?;
    let colors = measured(&output);
    assert!(!colors.is_empty() && colors.iter().all(|[before, after]| *before < 5.0 && *after < 3.0), "{colors:?}");
    assert!(output.timing.details.as_millis() > 0);
    Ok(())
}

#[test]
fn pieces_apart_are_repainted_in_turn() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let scene = pipeline.request("green ground, blue sky").seed(7).steps(4).run()?.image(0)?.clone();
    let mut mask = Raster::flat(BLACK, (256, 256));
    for (x, y) in [(20, 20), (200, 190)] {
        mask.paste(&Raster::flat(WHITE, (24, 24)), x, y);
    }
    mask.paste(&Raster::flat(WHITE, (2, 2)), 120, 100); // too small to be a thing
    let detail = |mask: &Raster| with(Detail::under(mask.clone()), |detail| detail.padding = 4);
    let output = pipeline.request("red star").seed(7).steps(4).start(&scene, 0.0).detail(detail(&mask)).run()?;
    let parts = output.reports.iter().filter(|report| report.name.ends_with(": detail")).count();
    assert_eq!(parts, 2);
    let empty = Raster::flat(BLACK, (256, 256));
    let output = pipeline.request("red star").seed(7).steps(4).start(&scene, 0.0).detail(detail(&empty)).run()?;
    assert_eq!(output.image(0)?, &scene);
    assert!(output.notes.iter().any(|note| note.text.contains("too small to be repainted")), "{:?}", output.notes);
    Ok(())
}

/// Mean difference between neighboring columns of a picture: at its right edge, and inside.
fn columns(picture: &Raster) -> [f64; 2] {
    let Size { width, height } = picture.size();
    let step = |x: u32, next: u32| -> f64 {
        let pixel = |x, y| picture.pixel(x, y).expect("a pixel");
        (0..height).map(|y| pixel(x, y).delta_e(pixel(next, y))).sum::<f64>() / f64::from(height)
    };
    let inside = (8..width - 8).map(|x| step(x, x + 1)).fold(0.0, f64::max);
    [step(width - 1, 0), inside]
}

#[test]
fn seamless_picture_continues_at_its_edges() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let paint = |seamless| -> Result<Raster> {
        let request = pipeline.request("pink flower, yellow star, teal ground").seed(11).steps(8).size((128, 96));
        Ok(request.seamless(seamless).run()?.image(0)?.clone())
    };
    let turned = |picture: &Raster| {
        let Size { width, height } = picture.size();
        let mut turned = Raster::flat(BLACK, (height, width));
        for (x, y) in (0..width).flat_map(|x| (0..height).map(move |y| (x, y))) {
            turned.set(y, x, picture.pixel(x, y).expect("a pixel"));
        }
        turned
    };
    let [plain, across, down, both] =
        [paint(Seamless::No)?, paint(Seamless::Across)?, paint(Seamless::Down)?, paint(Seamless::Both)?];
    for picture in [&across, &both, &turned(&down), &turned(&both)] {
        let [edge, inside] = columns(picture);
        assert!(edge <= inside, "{edge} at the edge, {inside} inside");
    }
    let [edge, inside] = columns(&turned(&across));
    assert!(edge > inside, "only the asked edges continue: {edge} {inside}");
    assert!(apart(&plain, &both) > 1.0);
    Ok(())
}

#[test]
fn wrong_settings_of_larger_pictures_are_named() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let given = Raster::flat(WHITE, (61, 64));
    let fails = |change: &dyn Fn(Request<'_>) -> Result<Output>, words: &[&str]| {
        let error =
            change(pipeline.request(PROMPT).steps(2).size((64, 64))).map(drop).expect_err("refused").to_string();
        words.iter().for_each(|word| assert!(error.contains(word), "\"{error}\" does not say \"{word}\""));
    };
    fails(&|r| r.hires(0.5, 0.5).run(), &["hires.scale is 0.5", "above 1 and up to 8"]);
    fails(&|r| r.hires(2.0, 1.5).run(), &["strength is 1.5"]);
    fails(&|r| r.hires(2.0, 0.5).until(0.5).run(), &["hires", "no `until`"]);
    fails(&|r| r.start(&given, 1.0).mask(&given).hires(2.0, 0.5).run(), &["hires", "no mask"]);
    fails(&|r| r.detail("eyes").until(0.5).run(), &["detail", "no `until`"]);
    fails(&|r| r.detail(with(Detail::of("eyes"), |detail| detail.strength = 0.0)).run(), &["details.strength is 0"]);
    fails(&|r| r.detail(with(Detail::of("eyes"), |detail| detail.padding = 9999)).run(), &["details.padding is 9999"]);
    fails(&|r| r.start(&given, 0.0).run(), &["strength is 0"]);
    let odd = |r: Request<'_>| r.tune(|config| config.size = None).start(&given, 0.5).seamless(Seamless::Both).run();
    fails(&odd, &["seamless", "multiples of 8"]);
    Ok(())
}
