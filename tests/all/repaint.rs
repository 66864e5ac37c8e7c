//! Repainting a part of a picture: pixels that stay, soft masks, masks of things, and the seam.

use impasto::diffusion::solver::{Ddim, Heun, labels};
use impasto::diffusion::{Schedule, SchedulerConfig, Spacing, TrainingSchedule};
use impasto::guidance::Report;
use impasto::hint::{Drawing, Sketch, Strokes};
use impasto::pipeline::{KeptPictures, MaskWhere, Output, Request};
use impasto::raster::Filter;
use impasto::sampler::{Batching, MaskedContent, Origin, Sampler, Start};
use impasto::testing::ToyModel;
use impasto::{Codec, Control, Grid, LoadOptions, Model, Pipeline, Raster, Result, Rgb, Size, Source};
use tch::{Device, Kind, Tensor};

const PROMPT: &str = "1girl, red hair, blue shirt";
const BLACK: Rgb = Rgb(0, 0, 0);
const WHITE: Rgb = Rgb(255, 255, 255);

/// A picture of noise with a gradient, in which every wrong pixel shows.
fn picture(size: impl Into<Size>) -> Raster {
    let mut picture = Raster::flat(BLACK, size);
    let Size { width, height } = picture.size();
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        let noise = (x * 7919 + y * 104_729 + x * y * 31) % 97;
        picture.set(x, y, Rgb((x * 255 / width) as u8, (y * 255 / height) as u8, (noise * 2) as u8));
    }
    picture
}

/// A mask with a white box, whose edges lie inside cells.
fn mask(size: impl Into<Size>) -> Raster {
    let size = size.into();
    let mut mask = Raster::flat(BLACK, size);
    mask.paste(&Raster::flat(WHITE, (size.width / 2, size.height / 3)), size.width / 3 + 1, size.height / 2 - 3);
    mask
}

/// Checks that all pixels under black are those of `given`, and that some under white are not.
fn check_kept(given: &Raster, mask: &Raster, output: &Output, what: &str) {
    assert!(!output.images.is_empty());
    for image in &output.images {
        assert_eq!(image.size(), given.size(), "{what}");
        let Size { width, height } = given.size();
        let mut changed = 0;
        for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
            let same = image.pixel(x, y) == given.pixel(x, y);
            assert!(same || mask.pixel(x, y) != Some(BLACK), "{what}: pixel {x}, {y}");
            changed += usize::from(!same);
        }
        assert!(changed > 0, "{what}: nothing is repainted");
    }
}

/// The report of a repainting.
fn report(output: &Output) -> &Report {
    output.reports.iter().find(|report| report.name == "repaint").expect("a report of the repainting")
}

#[test]
fn kept_pixels_equal_the_given_ones_in_every_solver() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let (given, mask) = (picture((45, 37)), mask((45, 37)));
    for (index, solver) in labels().enumerate() {
        let strength = if index % 2 == 0 { 1.0 } else { 0.6 };
        let request = pipeline.request(PROMPT).seed(index as u64).steps(5).solver_named(solver);
        let output = request.start(&given, strength).mask(&mask).run()?;
        check_kept(&given, &mask, &output, solver);
    }
    Ok(())
}

#[test]
fn masked_content_hides_what_was_under_the_mask() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let size = (128, 128);
    let mut mask = Raster::flat(Rgb(0, 0, 0), size);
    mask.paste(&Raster::flat(Rgb(255, 255, 255), (96, 96)), 16, 16);
    let [plain, marked] = [Rgb(240, 240, 240), Rgb(200, 30, 30)].map(|color| {
        let mut given = Raster::flat(Rgb(240, 240, 240), size);
        given.paste(&Raster::flat(color, (48, 48)), 40, 40);
        given
    });
    let run = |given: &Raster, strength: f64, content: MaskedContent| -> Result<Output> {
        let request = pipeline.request(PROMPT).seed(3).steps(6).start(given, strength).mask(&mask);
        request.tune(|config| config.masked_content = content).run()
    };
    // How much of the red square remains, as the mean difference of bytes.
    let remains = |content| -> Result<f64> {
        let [a, b] = [run(&plain, 0.5, content)?, run(&marked, 0.5, content)?];
        check_kept(&marked, &mask, &b, "masked content");
        let pairs = a.image(0)?.bytes().iter().zip(b.image(0)?.bytes());
        Ok(pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.image(0)?.bytes().len() as f64)
    };
    let [picture, noise, nothing] =
        [remains(MaskedContent::Picture)?, remains(MaskedContent::Noise)?, remains(MaskedContent::Nothing)?];
    assert!(noise < 0.3 * picture && nothing < 0.3 * picture, "{picture} {noise} {nothing}");
    // A whole schedule begins with noise alone.
    let [picture, noise] = [MaskedContent::Picture, MaskedContent::Noise].map(|content| run(&marked, 1.0, content));
    assert_eq!(picture?.latents, noise?.latents);
    Ok(())
}

#[test]
fn kept_pixels_survive_batches_options_and_files() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let (given, mask) = (picture((72, 56)), mask((72, 56)));
    for (batching, feather, matched) in
        [(Batching::Together, 0.0, true), (Batching::OneByOne, 3.0, false), (Batching::Together, 100.0, true)]
    {
        let request = pipeline.request(PROMPT).seed(3).steps(3).images(2).start(&given, 1.0).mask(&mask);
        let request =
            request.feather(feather).tune(|config| (config.batching, config.match_tone) = (batching, matched));
        let output = request.run()?;
        check_kept(&given, &mask, &output, &format!("{batching:?}, {feather}, {matched}"));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("repainted.png");
        output.save(1, &file)?;
        assert_eq!(&Raster::open(&file)?, output.image(1)?);
        let request = Request::from_png(&pipeline, &file)?;
        assert!(request.notes()?.is_empty(), "{:?}", request.notes()?);
        assert_eq!(request.run()?.image(1)?, output.image(1)?, "the file repeats the run");
    }
    Ok(())
}

#[test]
fn thumbnails_ask_for_the_given_picture() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let (given, mask) = (picture((104, 104)), mask((104, 104)));
    let output = pipeline.request(PROMPT).seed(3).steps(2).start(&given, 1.0).mask(&mask).run()?;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("thin.png");
    output.save_with(0, &file, KeptPictures::Thumbnails)?;
    let error = Request::from_png(&pipeline, &file).map(drop).expect_err("pictures are missing").to_string();
    assert!(error.contains("104×104"), "{error}");
    let again = Request::from_png_with(&pipeline, &file, &[given, mask])?.run()?;
    assert_eq!(again.image(0)?, output.image(0)?);
    Ok(())
}

#[test]
fn kept_pixels_survive_controlnets_and_forces() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let (given, mask) = (picture((256, 256)), mask((256, 256)));
    let net = Model::load(&Source::embedded())?.controlnet(&Source::embedded())?;
    let drawing = Drawing { sketch: Sketch::of_edges(&given)?, strokes: Strokes::new((256, 256)) };
    let request = pipeline.request(PROMPT).seed(3).steps(2).start(&given, 0.8).mask(&mask);
    check_kept(&given, &mask, &request.control(Control::drawing(&net, &drawing)).run()?, "ControlNet");
    let request = pipeline.request("1girl, hair, #ffd700 shirt").seed(3).steps(4).start(&given, 1.0).mask(&mask);
    check_kept(&given, &mask, &request.run()?, "forced color");
    Ok(())
}

/// The embedded model as a network that reads a mask and a masked picture, with small weights for both.
fn inpainting_model() -> Result<Model> {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in impasto_tiny::FILES.iter().filter(|(name, _)| !name.starts_with("controlnet")) {
        let to = folder.path().join(name);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::write(&to, bytes).expect("written");
    }
    let weights = folder.path().join("unet/diffusion_pytorch_model.safetensors");
    let mut tensors = Tensor::read_safetensors(&weights)?;
    for (name, tensor) in &mut tensors {
        if name == "conv_in.weight" {
            let more = tensor.narrow(1, 0, 1).repeat([1, 5, 1, 1]) * 0.1;
            *tensor = Tensor::cat(&[tensor.shallow_clone(), more], 1);
        }
    }
    Tensor::write_safetensors(&tensors, &weights)?;
    let config = folder.path().join("unet/config.json");
    let text = std::fs::read_to_string(&config).expect("read");
    assert!(text.contains("\"in_channels\": 4"));
    std::fs::write(&config, text.replace("\"in_channels\": 4", "\"in_channels\": 9")).expect("written");
    Model::load_with(&Source::dir(folder.path()), LoadOptions::default())
}

#[test]
fn kept_pixels_survive_inpainting_networks() -> Result<()> {
    let model = inpainting_model()?;
    let pipeline = Pipeline::new(model);
    let (given, hard) = (picture((93, 61)), mask((93, 61)));
    for (mask, what) in [(hard.clone(), "hard"), (softened(&hard), "soft")] {
        for strength in [1.0, 0.5] {
            let request = pipeline.request(PROMPT).seed(3).steps(4).start(&given, strength).mask(&mask);
            check_kept(&given, &mask, &request.images(2).run()?, &format!("{what}, {strength}"));
        }
    }
    Ok(())
}

/// A mask with soft edges outside of its white parts.
fn softened(mask: &Raster) -> Raster {
    let Size { width, height } = mask.size();
    let small = mask.resize((width / 8 + 1, height / 8 + 1), Filter::Box).expect("resized");
    let soft = small.resize((width, height), Filter::Bilinear).expect("resized");
    let bytes = soft.bytes().iter().zip(mask.bytes()).map(|(soft, hard)| *soft.max(hard)).collect();
    Raster::from_bytes(bytes, (width, height)).expect("a picture")
}

/// The toy model's grid, in which a pixel is a cell.
const GRID: Grid = Grid::new(2, 6);

#[test]
fn gray_cells_take_part_in_their_share_of_steps() -> Result<()> {
    let model = ToyModel::new(1)?;
    let given = Tensor::rand([1, 3, GRID.h, GRID.w], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
    let known = model.encode(&given)?;
    let grays = [0.0f32, 0.1, 0.25, 0.5, 0.74, 1.0];
    let mask = Tensor::from_slice(&grays).reshape([1, 1, 1, 6]).repeat([1, 1, GRID.h, 1]);
    let diffusion = Schedule::new(&TrainingSchedule::stable_diffusion(), 8, Spacing::Leading)?;
    let flow = SchedulerConfig::flow(3.0).schedule(8)?;
    let noise = impasto::diffusion::Noise::seeded;
    let mut drawn = noise(7);
    let _ = drawn.draw(&[1, 4, GRID.h, GRID.w])?; // the posterior of the picture
    let first = drawn.draw(&[1, 4, GRID.h, GRID.w])?;
    for (schedule, last) in [(&diffusion, 8), (&diffusion, 4), (&flow, 8), (&flow, 4)] {
        let (schedule, whole) = (schedule.last(last)?, last == 8);
        let mut start = Start::new("a cat", GRID, noise(7));
        start.origin = Origin::Picture(&given);
        start.mask = Some(&mask);
        let mut run = Sampler::new(schedule.clone(), Ddim::default()).start(&model, start)?;
        for step in schedule.steps() {
            run.step()?;
            let taken = (step.index + 1) as f64 / last as f64;
            for (column, gray) in (0..).zip(grays) {
                let noised = &known + step.to * &first;
                let restored =
                    run.latent().narrow(3, column, 1).allclose(&noised.narrow(3, column, 1), 1e-5, 1e-5, false);
                let expected = gray == 0.0 || 1.0 - f64::from(gray) > taken + 1e-9;
                assert_eq!(restored, expected, "gray {gray} after {} of {last}, whole {whole}", step.index + 1);
            }
        }
        let end = run.finish()?;
        assert_eq!(end.narrow(3, 0, 1), known.narrow(3, 0, 1), "black cells keep their bits");
    }
    Ok(())
}

#[test]
fn mask_outside_of_its_range_is_refused() -> Result<()> {
    let (model, given) = (ToyModel::new(1)?, Tensor::zeros([1, 3, GRID.h, GRID.w], (Kind::Float, Device::Cpu)));
    for bad in [-0.1, 1.1, f64::NAN] {
        let mask = Tensor::full([1, 1, GRID.h, GRID.w], bad, (Kind::Float, Device::Cpu));
        let noise = impasto::diffusion::Noise::seeded(7);
        let mut start = Start::new("a cat", GRID, noise);
        start.origin = Origin::Picture(&given);
        start.mask = Some(&mask);
        let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 4, Spacing::Leading)?;
        let error = Sampler::new(schedule, Heun).start(&model, start).map(drop).expect_err("refused").to_string();
        assert!(error.contains("mask is") && error.contains("values in 0..=1"), "{error}");
    }
    Ok(())
}

/// Mean difference of two pictures' bytes.
fn apart(one: &Raster, other: &Raster) -> f64 {
    let sum: u64 = one.bytes().iter().zip(other.bytes()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / one.bytes().len() as f64
}

#[test]
fn darker_mask_changes_less() -> Result<()> {
    for pipeline in [Pipeline::builder(), Pipeline::builder().source(Source::embedded_flow())] {
        let pipeline = pipeline.build()?;
        let first = pipeline.request(PROMPT).seed(7).steps(6).run()?;
        let given = first.image(0)?;
        let mut changed = Vec::new();
        for gray in [40, 130, 255] {
            let mut mask = Raster::flat(BLACK, (256, 256));
            mask.paste(&Raster::flat(Rgb(gray, gray, gray), (256, 96)), 0, 160);
            let request = pipeline.request("1girl, red hair, green shirt").seed(8).steps(12);
            let output = request.start(given, 1.0).mask(&mask).run()?;
            check_kept(given, &mask, &output, &format!("gray {gray}"));
            changed.push(apart(given, output.image(0)?));
        }
        assert!(changed[0] * 1.5 < changed[1] && changed[1] * 1.2 < changed[2], "{changed:?}");
    }
    Ok(())
}

#[test]
fn pixels_in_the_band_lie_between_old_and_new() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let (given, mask) = (picture((64, 64)), mask((64, 64)));
    let run = |feather: f64| -> Result<Output> {
        let request = pipeline.request(PROMPT).seed(3).steps(3).start(&given, 1.0).mask(&mask).feather(feather);
        request.tune(|config| config.match_tone = false).run()
    };
    let (hard, soft) = (run(0.0)?, run(6.0)?);
    assert_eq!(hard.latents, soft.latents, "the latent is not blended");
    let [old, new, band] = [&given, hard.image(0)?, soft.image(0)?].map(Raster::bytes);
    let between = |((old, new), band): ((&u8, &u8), &u8)| (old.min(new)..=old.max(new)).contains(&band);
    assert!(old.iter().zip(new).zip(band).all(between));
    assert_ne!(new, band);
    // Deep inside the mask all is new.
    let (x, y) = (64 / 3 + 1 + 16, 64 / 2 - 3 + 10);
    assert_eq!(hard.image(0)?.pixel(x, y), soft.image(0)?.pixel(x, y));
    Ok(())
}

#[test]
fn tone_is_matched_except_in_exact_colors() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let first = pipeline.request("a red boat, blue sky, green ground").seed(7).steps(8).run()?;
    let given = first.image(0)?;
    let mut mask = Raster::flat(BLACK, (256, 256));
    mask.paste(&Raster::flat(WHITE, (90, 70)), 20, 20);
    let seam = |matched: bool| -> Result<[f64; 2]> {
        let request = pipeline.request("a red boat, blue sky, green ground").seed(8).steps(8).start(given, 1.0);
        let output = request.mask(&mask).tune(|config| config.match_tone = matched).run()?;
        let seam = &report(&output).data["seams"][0];
        Ok(["pasted", "result"].map(|figure| seam[figure].as_f64().expect("a figure")))
    };
    let ([pasted, plain], [same, matched]) = (seam(false)?, seam(true)?);
    assert!(same == pasted && plain < pasted && matched < plain && matched < 1.0, "{pasted} {plain} {matched}");
    let prompt = "a red boat, #3366cc sky, green ground";
    let color = |matched: bool| -> Result<f64> {
        let request = pipeline.request(prompt).seed(8).steps(8).start(given, 1.0).mask(&mask).feather(0.0);
        let output = request.tune(|config| config.match_tone = matched).run()?;
        Ok(output.image(0)?.pixel(60, 50).expect("a pixel").delta_e(Rgb(0x33, 0x66, 0xcc)))
    };
    assert_eq!(color(true)?, color(false)?, "an exact color is not toned");
    Ok(())
}

#[test]
fn phrase_is_repainted_where_its_thing_is() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let first = pipeline.request("1girl, red hair, blue shirt, green background").seed(7).steps(12).run()?;
    let given = first.image(0)?;
    let request = pipeline.request("1girl, red hair, yellow shirt, green background").seed(7).steps(12);
    let output = request.start(given, 1.0).mask_where("shirt").run()?;
    let found = report(&output).pictures[0].raster()?;
    check_kept(given, &found, &output, "a thing's mask");
    let is_white = |x, y| found.pixel(x, y).is_some_and(|pixel| pixel.0 > 128);
    assert!(is_white(128, 240) && !is_white(128, 20) && !is_white(10, 10), "the shirt is below, not the hair above");
    let yellow = Rgb(230, 200, 40);
    let [before, after] = [given, output.image(0)?].map(|picture| picture.pixel(128, 245).expect("a pixel"));
    assert!(after.delta_e(yellow) < before.delta_e(yellow) - 20.0, "{before} {after}");
    // The file repeats the search.
    let folder = tempfile::tempdir().expect("a folder");
    output.save(0, folder.path().join("shirt.png"))?;
    let again = Request::from_png(&pipeline, folder.path().join("shirt.png"))?.run()?;
    assert_eq!(again.image(0)?, output.image(0)?);
    Ok(())
}

#[test]
fn exact_color_of_a_repainted_thing_covers_all_of_it() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let first = pipeline.request("1girl, eyes, red hair, shirt, background").seed(21).steps(28).run()?;
    let given = first.image(0)?;
    let request = pipeline.request("1girl, eyes, #1e5aff hair, shirt, background").seed(21).steps(14);
    let output = request.start(given, 0.6).mask_where("hair").run()?;
    let mask = report(&output).pictures[0].raster()?;
    let count = |picture: &Raster, color: Rgb| {
        let all = (0..256).flat_map(|y| (0..256).map(move |x| (x, y)));
        let here = all.filter(|(x, y)| mask.pixel(*x, *y) == Some(WHITE)).filter_map(|(x, y)| picture.pixel(x, y));
        here.filter(|pixel| pixel.delta_e(color) < 12.0).count()
    };
    let red = [given, output.image(0)?].map(|picture| count(picture, Rgb(225, 15, 30)));
    let blue = count(output.image(0)?, Rgb(30, 90, 255));
    assert!(red[0] > 5000 && red[1] < red[0] / 20 && blue > red[0] * 8 / 10, "{red:?} red pixels, {blue} blue ones");
    // A force of the thing uses its place as a color of the prompt does.
    let request = pipeline.request("1girl, eyes, blue hair, shirt, background").seed(21).steps(14);
    let by_force = request.start(given, 0.6).mask_where("hair").color_force("hair", Rgb(30, 90, 255)).run()?;
    assert_eq!(by_force.image(0)?, output.image(0)?);
    Ok(())
}

#[test]
fn grown_mask_contains_the_smaller_one() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let first = pipeline.request("1girl, red hair, blue shirt").seed(7).steps(8).run()?;
    let found = |grow, soften| -> Result<Raster> {
        let thing = MaskWhere { grow, ..MaskWhere::new("shirt") };
        let request = pipeline.request(PROMPT).seed(7).steps(1).start(first.image(0)?, 1.0).mask_where(thing);
        let output = request.soften(soften).run()?;
        report(&output).pictures[0].raster()
    };
    let (own, grown, soft) = (found(0.0, 0.0)?, found(10.0, 0.0)?, found(0.0, 20.0)?);
    let white = |mask: &Raster| mask.bytes().iter().filter(|byte| **byte == 255).count();
    assert!(own.bytes().iter().zip(grown.bytes()).all(|(own, grown)| own <= grown) && white(&grown) > white(&own));
    assert!(white(&soft) == white(&own) && soft.bytes().iter().any(|byte| (30..220).contains(byte)));
    Ok(())
}

#[test]
fn wrong_settings_of_a_mask_are_named() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let given = picture((64, 64));
    let hard = mask((64, 64));
    let fails = |change: &dyn Fn(Request<'_>) -> Result<Output>, words: &[&str]| {
        let error = change(pipeline.request(PROMPT).steps(2)).map(drop).expect_err("refused").to_string();
        words.iter().for_each(|word| assert!(error.contains(word), "\"{error}\" does not say \"{word}\""));
    };
    fails(&|r| r.start(&given, 1.0).mask(&hard).feather(-1.0).run(), &["feather is -1", "0 (a hard border)"]);
    fails(&|r| r.start(&given, 1.0).mask(&hard).mask_where("shirt").run(), &["mask_where", "one of both"]);
    fails(&|r| r.mask_where("shirt").run(), &["mask_where", "a picture in which the thing is found"]);
    fails(&|r| r.start(&given, 1.0).mask(&hard).soften(f64::NAN).run(), &["soften is NaN", "4096 pixels"]);
    let thing = MaskWhere { grow: f64::NAN, ..MaskWhere::new("shirt") };
    fails(&|r| r.start(&given, 1.0).mask_where(thing.clone()).run(), &["grow is NaN", "0 to 4096 pixels"]);
    fails(&|r| r.mask(&hard).run(), &["mask", "a picture to repaint"]);
    fails(&|r| r.size((65, 64)).run(), &["width is 65", "multiple of 8"]);
    fails(&|r| r.start(&given, 1.0).size((0, 64)).run(), &["width is 0", "1 to 4096"]);
    Ok(())
}

#[test]
fn picture_of_any_size_keeps_its_size() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    for size in [(45, 37), (8, 8), (1, 1), (64, 9)] {
        let output = pipeline.request(PROMPT).seed(1).steps(2).start(picture(size), 0.5).run()?;
        assert_eq!(output.image(0)?.size(), Size::from(size));
        assert!(output.reports.iter().all(|report| report.name != "repaint"));
    }
    let output = pipeline.request(PROMPT).seed(1).steps(2).start(picture((45, 37)), 0.5).size((61, 35)).run()?;
    assert_eq!(output.image(0)?.size(), Size::new(61, 35));
    Ok(())
}
