//! The embedded colorizer with real sketches and references, and other methods beside it.

use impasto::hint::{Canny, LineArt};
use impasto::mask::Region;
use impasto::methods::color_force::ColorReport;
use impasto::methods::colorize::DualCfg;
use impasto::methods::colorize::{FigureAndGround, Injection, Ink, Manipulation};
use impasto::methods::image_guidance::GuidanceParams;
use impasto::methods::paint_with_words::Area;
use impasto::methods::{ColorForce, Colorize, ImageGuidance, PaintWithWords, PerturbedAttention, ReferenceColor};
use impasto::pipeline::Request;
use impasto::saliency::{Daam, DaamRun, SaliencyRun};
use impasto::sampler::Batching;
use impasto::{Pipeline, Raster, Result, Rgb, Source, Window};

const PARTS: &str = "eyes, hair, skin, shirt, background";
const GOLD: Rgb = Rgb(255, 215, 0);

/// A portrait's edges, and a reference of other colors in another pose.
fn pictures() -> Result<(Raster, Raster)> {
    let painter = Pipeline::builder().build()?;
    let paint = |prompt: &str, seed| -> Result<Raster> {
        Ok(painter.request(prompt).seed(seed).steps(8).run()?.image(0)?.clone())
    };
    let sketch = Canny::default().edges(&paint("1girl, eyes, hair, skin, shirt, background", 20)?)?.raster();
    Ok((sketch, paint("1girl, green eyes, red hair, pale skin, purple shirt, azure background", 101)?))
}

fn colorizer() -> Result<Pipeline> {
    Pipeline::builder().source(Source::embedded_colorizer()).build()
}

fn colors((sketch, reference): &(Raster, Raster)) -> Colorize {
    Colorize::new(sketch, reference).tune(|options| options.ink = Ink::Light)
}

#[test]
fn picture_takes_the_colors_and_keeps_the_lines() -> Result<()> {
    let (pipeline, both) = (colorizer()?, pictures()?);
    assert!(pipeline.model().colorizes() && pipeline.model().notes().is_empty(), "{:?}", pipeline.model().notes());
    let colored = pipeline.request("").seed(3).steps(8).guide(colors(&both)).run()?.image(0)?.clone();
    // The corner is background in both pictures, and the bottom middle is shirt in both.
    for (x, y) in [(10, 10), (128, 250)] {
        let (got, want) = (colored.pixel(x, y).unwrap(), both.1.pixel(x, y).unwrap());
        assert!(got.delta_e(want) < 12.0, "at {x}, {y}: {got}, in the reference {want}");
    }
    let lines = Canny::default().edges(&colored)?;
    let (mut met, mut all) = (0, 0);
    for (x, y) in (1..255).flat_map(|y| (1..255).map(move |x| (x, y))) {
        if both.0.pixel(x, y) == Some(Rgb(255, 255, 255)) {
            all += 1;
            met += u32::from((y - 1..=y + 1).any(|y| (x - 1..=x + 1).any(|x| lines.is_line(x, y))));
        }
    }
    assert!(
        all > 500 && f64::from(met) > 0.7 * f64::from(all),
        "{met} of {all} pixels of the sketch's lines are on a line of the picture"
    );
    let freely = Colorize::freely(&both.0).tune(|options| options.ink = Ink::Light);
    let freely = pipeline.request("").seed(3).steps(8).guide(freely).run()?;
    assert_ne!(freely.image(0)?, &colored);
    Ok(())
}

#[test]
fn line_art_of_a_picture_is_colored_too() -> Result<()> {
    let painter = Pipeline::builder().build()?;
    let painted =
        painter.request("1girl, eyes, hair, skin, shirt, background").seed(20).steps(8).run()?.image(0)?.clone();
    let lines = LineArt::default().of(&painted)?;
    let share = |dark: bool| {
        let pixels = lines.bytes().chunks_exact(3).filter(|pixel| if dark { pixel[0] < 64 } else { pixel[0] > 200 });
        pixels.count() as f64 / (256.0 * 256.0)
    };
    assert!(share(true) > 0.02 && share(false) > 0.7, "{:.3} ink, {:.3} paper", share(true), share(false));
    let reference = pictures()?.1;
    let colored = colorizer()?.request("").seed(3).steps(8).guide(Colorize::new(&lines, &reference)).run()?;
    let colored = colored.image(0)?;
    let (got, want) = (colored.pixel(10, 10).unwrap(), reference.pixel(10, 10).unwrap());
    assert!(got.delta_e(want) < 12.0, "{got} and {want}");
    for wrong in [LineArt { width: 0.0, ..LineArt::default() }, LineArt { paper: 0.2, ..LineArt::default() }] {
        assert!(wrong.of(&painted).is_err());
    }
    Ok(())
}

#[test]
fn batched_image_equals_the_image_alone() -> Result<()> {
    let (pipeline, both) = (colorizer()?, pictures()?);
    let run = |images, seed| -> Result<_> {
        let request = pipeline.request("").seed(seed).steps(3).images(images).combine(DualCfg::new(2.0, 1.5));
        let injection = Injection { sketch: 0.3, ..Injection::default() };
        let colors = colors(&both).tune(|options| options.injection = Some(injection));
        request.tune(|config| config.batching = Batching::OneByOne).guide(colors).run()
    };
    let two = run(2, 7)?;
    assert_eq!(two.image(1)?, run(1, 8)?.image(0)?);
    Ok(())
}

#[test]
fn prompt_words_name_parts_for_other_methods() -> Result<()> {
    let (pipeline, both) = (colorizer()?, pictures()?);
    let plain = pipeline.request(PARTS).seed(3).steps(10).guide(colors(&both)).run()?.image(0)?.clone();
    assert_eq!(
        plain,
        *pipeline.request("").seed(3).steps(10).guide(colors(&both)).run()?.image(0)?,
        "the prompt alone changes nothing"
    );
    let (force, look) = (ColorForce::exact("hair", GOLD), Daam::of("hair"));
    let output = pipeline.request(PARTS).seed(3).steps(10).guide(colors(&both)).guide(force).guide(look).run()?;
    let details = output.details::<ColorReport>("hair")?;
    assert!(details.painted[0].delta_e <= 4.0, "{:?}", details.painted);
    // The fringe is hair. The corner and the shirt are not, so they keep their colors.
    let at = |picture: &Raster, x, y| picture.pixel(x, y).unwrap();
    let (forced, before) = (output.image(0)?, &plain);
    assert!(
        at(forced, 10, 10).delta_e(at(before, 10, 10)) < 8.0
            && at(forced, 128, 250).delta_e(at(before, 128, 250)) < 8.0
    );
    let heat = output.details::<DaamRun>("hair")?.map()?.expect("a map").squeeze();
    let (h, w) = heat.size2()?;
    assert!(heat.double_value(&[h / 4, w / 2]) > heat.double_value(&[0, 0]), "hair is above the middle");
    let error = pipeline.request(PARTS).steps(3).guide(colors(&both)).guide(ColorForce::exact("hat", GOLD)).run();
    assert!(error.unwrap_err().to_string().contains("hat"));
    Ok(())
}

/// An addition to a request.
type With<'a> = &'a dyn for<'p> Fn(Request<'p>) -> Request<'p>;

#[test]
fn every_method_works_beside_the_colorizer() -> Result<()> {
    let (pipeline, both) = (colorizer()?, pictures()?);
    let run = |colors: Colorize, guide: With<'_>| -> Result<Raster> {
        let request = pipeline.request(PARTS).seed(3).steps(2).guide(colors);
        Ok(guide(request).run()?.image(0)?.clone())
    };
    let plain = run(colors(&both), &|request| request)?;
    let region = || Region::rect(0.2..0.8, 0.6..1.0);
    let paint = || PaintWithWords::default().area(Area { strength: 1.5, ..Area::mask(region(), "shirt") });
    let toward = || {
        ImageGuidance::new(&both.0).tune(|params| {
            *params = GuidanceParams::off();
            params.linear = (0.5, 0.5);
            params.snap = false;
        })
    };
    let halves = || FigureAndGround::new(region(), Region::rect(0.0..1.0, 0.0..0.5));
    let parted = colors(&both).tune(|options| options.parts = Some(halves()));
    assert_ne!(run(parted, &|request| request)?, plain, "parts");
    let others: [(&str, With<'_>); 5] = [
        ("force in a region", &|request| request.guide(ColorForce::exact("shirt", GOLD).mask(region()))),
        ("paint with words", &|request| request.guide(paint())),
        ("image guidance", &|request| request.guide(toward())),
        ("perturbed attention", &|request| request.guide(PerturbedAttention::new(2.0))),
        ("reference color", &|request| request.guide(ReferenceColor::new(&both.1))),
    ];
    for (name, with) in others {
        assert_ne!(run(colors(&both), with)?, plain, "{name}");
    }
    let injected = || colors(&both).tune(|options| options.injection = Some(Injection::default()));
    assert_ne!(run(injected(), &|request| request.guide(ColorForce::exact("hair", GOLD)))?, plain, "injected");
    let all = run(colors(&both), &|request| others.iter().fold(request, |request, (_, with)| with(request)))?;
    assert_ne!(all, plain);
    assert_eq!(
        run(colors(&both), &|request| request.guide(Daam::of("hair")).guide(Daam::of("shirt")))?,
        plain,
        "methods that only read"
    );
    Ok(())
}

#[test]
fn words_change_the_hair_of_the_reference() -> Result<()> {
    let (pipeline, both) = (colorizer()?, pictures()?);
    let run = |manipulations: Vec<Manipulation>| -> Result<_> {
        pipeline.request("").seed(3).steps(8).guide(colors(&both).manipulate(manipulations)).run()
    };
    let green = Manipulation {
        anchor: Some("red hair".into()),
        control: Some("hair".into()),
        thresholds: [0.01, 0.02, 0.6, 0.8],
        ..Manipulation::new("green hair", 10.0)
    };
    let (plain, changed) = (run(vec![])?, run(vec![green.clone()])?);
    let hair = |picture: &Raster| picture.pixel(128, 62).unwrap();
    let (before, after) = (hair(plain.image(0)?), hair(changed.image(0)?));
    assert!(before.0 > before.1 && after.1 > after.0, "hair was {before} and is {after}");
    let corner = |picture: &Raster| picture.pixel(10, 10).unwrap();
    assert!(corner(plain.image(0)?).delta_e(corner(changed.image(0)?)) < 10.0);
    assert!(changed.reports[0].pictures.iter().any(|picture| picture.caption.contains("\"hair\"")));
    let idle = Manipulation { scale: 0.0, ..green };
    assert_eq!(run(vec![idle])?.image(0)?, plain.image(0)?);
    Ok(())
}

#[test]
fn colorizer_errors_name_the_wrong_value() -> Result<()> {
    let (pipeline, both) = (colorizer()?, pictures()?);
    let error = pipeline.request("").steps(2).run().unwrap_err().to_string();
    assert!(error.contains("sketch is missing; expected a sketch, because this model colors sketches"), "{error}");
    let empty = Raster::flat(Rgb(0, 0, 0), (0, 3));
    let injection = Injection { reference: 2.0, ..Injection::default() };
    for (colors, said) in [
        (Colorize::new(&empty, &both.1), "a sketch with at least one pixel"),
        (Colorize::new(&both.0, &empty), "a picture with at least one pixel"),
        (colors(&both).tune(|options| options.sketch_strength = 4.0), "sketch_strength is 4; expected 0..=3"),
        (colors(&both).tune(|options| options.padding = 0.5), "padding is 0.5"),
        (colors(&both).tune(|options| options.injection = Some(injection)), "injection.reference is 2"),
        (colors(&both).tune(|options| options.sites = Some(vec![1.0; 3])), "number of sites is 3; expected"),
        (colors(&both).manipulate([Manipulation::new("", 1.0)]), "target is empty"),
    ] {
        let error = pipeline.request("").steps(2).guide(colors).run().unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let names = "hair, ".repeat(300);
    let error = pipeline.request(names).steps(2).guide(colors(&both)).run().unwrap_err().to_string();
    assert!(error.contains("names in the prompt is 300; expected at most 256"), "{error}");
    let painter = Pipeline::builder().build()?;
    let error = painter.request("1girl").steps(2).guide(colors(&both)).run().unwrap_err().to_string();
    assert!(error.contains("the sketch encoder") && error.contains("ControlNet"), "{error}");
    Ok(())
}

#[test]
fn colorizer_notes_inputs_that_are_not_read() -> Result<()> {
    let (pipeline, both) = (colorizer()?, pictures()?);
    let unread =
        pipeline.request("").negative("hat").steps(2).guide(colors(&both).window(Window::timesteps(0..=0))).run()?;
    for said in ["the negative prompt was not read", "no step of this run reads the reference"] {
        assert!(unread.notes.iter().any(|note| note.text.contains(said)), "{:?}", unread.notes);
    }
    Ok(())
}

#[test]
fn colorizer_takes_pictures_of_any_size() -> Result<()> {
    let pipeline = colorizer()?;
    for size in [(1, 1), (3, 200), (640, 90)] {
        let (sketch, reference) = (Raster::flat(Rgb(255, 255, 255), size), Raster::flat(GOLD, size));
        let output = pipeline.request("").size((128, 96)).steps(2).guide(Colorize::new(&sketch, &reference)).run()?;
        assert_eq!(output.image(0)?.size().width, 128);
    }
    Ok(())
}
