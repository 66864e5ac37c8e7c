//! Pictures in the colors of another picture. The yardstick's judge measures how near the colors come.

use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest};
use impasto::guidance::GuidanceRun;
use impasto::mask::Region;
use impasto::methods::color_force::ColorReport;
use impasto::methods::{ColorForce, ReferenceColor};
use impasto::saliency::{Daam, DaamRun, Reference};
use impasto::sampler::Batching;
use impasto::wording::Note;
use impasto::{Branch, BranchInfo, Codec, Conditioning, Output, Pipeline, Raster, Result, Rgb, Window};
use std::collections::BTreeMap;
use tch::Tensor;

const PROMPT: &str = "1girl, eyes, hair, shirt, background";
const BLUE: Rgb = Rgb(70, 130, 180);

/// The reference: a portrait in other colors.
fn liked(pipeline: &Pipeline) -> Result<Raster> {
    let request = pipeline.request("1girl, green eyes, red hair, orange shirt, navy background");
    Ok(request.seed(100).steps(10).run()?.image(0)?.clone())
}

fn run(pipeline: &Pipeline, steps: usize, colors: Option<ReferenceColor>) -> Result<Output> {
    let request = pipeline.request(PROMPT).seed(7).steps(steps);
    colors.into_iter().fold(request, impasto::pipeline::Request::guide).run()
}

/// The color in a corner, where portraits have their background.
fn corner(picture: &Raster) -> Rgb {
    picture.pixel(12, 12).expect("a pixel")
}

/// Contexts of the branches by their roles.
#[derive(Default)]
struct Contexts(BTreeMap<&'static str, Tensor>);

impl GuidanceRun for Contexts {
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, _: &dyn Codec) -> Result<()> {
        self.0.insert(branch.role, conditioning.context.shallow_clone());
        Ok(())
    }
}

#[test]
fn default_description_keeps_the_prompts_markup() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let flat = Raster::flat(BLUE, (64, 64));
    for prompt in ["1girl, (red:1.5) hair", r"1girl, \(red\) hair", "1girl BREAK red hair"] {
        let mut contexts = Contexts::default();
        let request = pipeline.request(prompt).seed(7).steps(1).guide(ReferenceColor::new(&flat)).attach(&mut contexts);
        let _ = request.run()?;
        assert_eq!(contexts.0["reference"], contexts.0["cond"], "{prompt}");
    }
    let mut contexts = Contexts::default();
    let described = ReferenceColor::new(&flat).described("1girl, (blue:1.5) hair");
    let _ = pipeline.request("1girl").seed(7).steps(1).guide(described).attach(&mut contexts).run()?;
    let own = pipeline.model().text("1girl, (blue:1.5) hair".into())?.context;
    assert_eq!(contexts.0["reference"], own);
    Ok(())
}

#[test]
fn nothing_changes_without_strength_or_window() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let flat = Raster::flat(BLUE, (64, 64));
    let bare = run(&pipeline, 3, None)?;
    let idle =
        [ReferenceColor::new(&flat).strength(0.0), ReferenceColor::new(&flat).window(Window::timesteps(0.0..=0.5))];
    for colors in idle {
        let output = run(&pipeline, 3, Some(colors))?;
        assert_eq!(output.latents, bare.latents);
        let said = |note: &Note| note.origin == Some("ReferenceColor") && note.text.contains("did nothing");
        let said = output.notes.iter().any(said);
        assert!(said, "{:?}", output.notes);
    }
    assert_ne!(run(&pipeline, 3, Some(ReferenceColor::new(&flat)))?.latents, bare.latents);
    Ok(())
}

#[test]
fn background_takes_the_color_of_the_reference() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let liked = liked(&pipeline)?;
    let wanted = corner(&liked);
    let plain = corner(run(&pipeline, 10, None)?.image(0)?).delta_e(wanted);
    let colored = corner(run(&pipeline, 10, Some(ReferenceColor::new(&liked)))?.image(0)?).delta_e(wanted);
    assert!(plain > 30.0 && colored < 8.0, "CIEDE2000 {plain:.1} → {colored:.1}");
    Ok(())
}

#[test]
fn part_alone_takes_the_color_of_its_phrase() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let liked = liked(&pipeline)?;
    let reference = pipeline.reference(&liked, PROMPT, ["hair", "background"])?;
    let (hair, background) = (reference.color("hair")?, reference.color("Background")?);
    assert!(background.delta_e(corner(&liked)) < 3.0, "{background}");
    let plain = run(&pipeline, 14, None)?;
    let colored = run(&pipeline, 14, Some(ReferenceColor::new(&liked).part(&reference, "hair")?))?;
    let read = |picture: &Raster| pipeline.reference(picture, PROMPT, ["hair"]);
    let [before, after] = [read(plain.image(0)?)?.color("hair")?, read(colored.image(0)?)?.color("hair")?];
    assert!(after.delta_e(hair) < 10.0 && before.delta_e(hair) > 20.0, "hair {hair}: {before} → {after}");
    let moved = corner(plain.image(0)?).delta_e(corner(colored.image(0)?));
    assert!(moved < 10.0, "the background moved by {moved:.1}");
    Ok(())
}

#[test]
fn force_takes_its_color_from_the_reference() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let liked = liked(&pipeline)?;
    let reference = pipeline.reference(&liked, PROMPT, ["shirt"])?;
    let force = ColorForce::like(&reference, "shirt")?;
    let output = pipeline.request(PROMPT).seed(7).steps(14).guide(force).run()?;
    let report: &ColorReport = output.details("shirt")?;
    assert_eq!(report.asked, reference.color("shirt")?);
    assert!(report.asked.delta_e(Rgb(255, 165, 0)) < 20.0, "the shirt is orange: {}", report.asked);
    assert!(report.painted[0].delta_e <= 2.0, "{:?}", report.painted);
    Ok(())
}

#[test]
fn two_references_color_their_own_halves() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let sides = [(Rgb(200, 30, 30), 0.0..0.5), (BLUE, 0.5..1.0)];
    let halves = sides.map(|(color, x)| {
        let here = Region::rect(x, 0.0..1.0);
        ReferenceColor::new(&Raster::flat(color, (64, 64))).region(here, Region::rect(0.0..1.0, 0.0..1.0)).strength(4.0)
    });
    let request = pipeline.request("background").seed(7).steps(10);
    let output = halves.into_iter().fold(request, impasto::pipeline::Request::guide).run()?;
    let picture = output.image(0)?;
    let mean = |columns: std::ops::Range<u32>| -> f64 {
        // Red less blue tells the two colors apart.
        let pixels = columns.flat_map(|x| (0..picture.size().height).filter_map(move |y| picture.pixel(x, y)));
        let (sum, count) =
            pixels.fold((0.0, 0.0), |(sum, count), Rgb(r, _, b)| (sum + f64::from(r) - f64::from(b), count + 1.0));
        sum / count
    };
    let half = picture.size().width / 2;
    let (left, right) = (mean(0..half), mean(half..picture.size().width));
    assert!(left > 40.0 && right < -40.0, "red less blue: {left:.0} on the left, {right:.0} on the right");
    Ok(())
}

#[test]
fn images_of_a_batch_stay_apart() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let mut picture = Raster::flat(BLUE, (96, 64));
    picture.paste(&Raster::flat(Rgb(255, 215, 0), (40, 30)), 20, 16);
    let whole = || Region::rect(0.0..1.0, 0.0..1.0);
    let here = || Region::each([whole(), Region::rect(0.0..0.5, 0.0..1.0)]);
    let latents = |images, batching, here: Region| -> Result<Tensor> {
        let colors = ReferenceColor::new(&picture).statistics(0.3).region(here, whole());
        let request = pipeline.request(PROMPT).size((96, 64)).seed(7).steps(3).images(images);
        Ok(request.tune(|config| config.batching = batching).guide(colors).run()?.latents.shallow_clone())
    };
    let alone = latents(2, Batching::OneByOne, here())?;
    assert_eq!(alone.narrow(0, 0, 1), latents(1, Batching::OneByOne, whole())?);
    let together = latents(2, Batching::Together, here())?;
    assert!((together - alone).abs().max().double_value(&[]) < 2e-2);
    Ok(())
}

/// A hook that counts the tokens that the prompt's cells attend to, in multiples of the grid's cells.
struct Tokens(Vec<i64>);

impl CrossAttentionHook for Tokens {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if !site.is_cross() && branch == Branch::Cond { Interest::OUTPUT } else { Interest::NONE }
    }
    fn output(&mut self, at: &At<'_>, _: &mut Tensor) -> Result<()> {
        self.0.extend(at.values().map(|values| values.size()[2] / at.grid.cells()));
        Ok(())
    }
}

#[test]
fn reference_of_another_shape_is_stretched() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let wide = liked(&pipeline)?.crop(40..168, 0..256)?;
    let reference = pipeline.reference(&wide, PROMPT, ["hair"])?;
    let size = reference.picture().size();
    assert!(size.width > size.height);
    let colored = run(&pipeline, 4, Some(ReferenceColor::new(&wide).part(&reference, "hair")?))?;
    assert_ne!(colored.latents, run(&pipeline, 4, None)?.latents);
    Ok(())
}

#[test]
fn chosen_sites_alone_see_the_reference() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let flat = Raster::flat(BLUE, (64, 64));
    let mut seen = Tokens(Vec::new());
    let colors = ReferenceColor::new(&flat).sites(|site| site.halvings == 2);
    let _ = pipeline.request(PROMPT).steps(1).guide(colors).hook(&mut seen).run()?;
    assert_eq!(seen.0, [1, 2, 1, 1], "the middle block's cells see themselves and the reference");
    Ok(())
}

#[test]
fn maps_are_read_beside_reference_color() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let liked = liked(&pipeline)?;
    let (look, force) = (Daam::competing("hair"), ColorForce::exact("shirt", Rgb(0, 128, 128)));
    let request = pipeline.request(PROMPT).seed(7).steps(14).guide(ReferenceColor::new(&liked));
    let output = request.guide(look).guide(force).run()?;
    assert!(output.details::<DaamRun>("hair")?.heat_map(0)?.max()? > 0.0);
    let painted = &output.details::<ColorReport>("shirt")?.painted;
    assert!(painted[0].delta_e <= 2.0, "{painted:?}");
    assert!(output.reports.iter().any(|report| report.name == "ReferenceColor" && !report.pictures.is_empty()));
    Ok(())
}

#[test]
fn wrong_settings_are_named() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let flat = Raster::flat(BLUE, (64, 64));
    let whole = || Region::rect(0.0..1.0, 0.0..1.0);
    let says = |colors: ReferenceColor| -> Result<String> {
        Ok(pipeline.request(PROMPT).steps(1).guide(colors).run().map(drop).expect_err("it is wrong").to_string())
    };
    let new = || ReferenceColor::new(&flat);
    assert!(says(new().strength(f64::NAN))?.contains("strength is NaN; expected 0..=8"));
    assert!(says(new().statistics(1.5))?.contains("statistics is 1.5; expected a share in 0..=1"));
    assert!(says(new().sites(|_| false))?.contains("no attention site is selected"));
    assert!(says(new().region(Region::rect(0.0..2.0, 0.0..1.0), whole()))?.contains("rect"));
    assert!(says(new().region(Region::each([whole(), whole()]), whole()))?.contains("2"));
    let each = says(new().region(whole(), Region::each([whole(), whole()])))?;
    assert!(each.contains("there is one reference"), "{each}");
    assert!(says(new().described("word ".repeat(2000)))?.contains("word"));
    let missing = pipeline.reference(&flat, "1girl, hair", ["hat"]).expect_err("no hat").to_string();
    assert!(missing.contains("phrase \"hat\" is not in the prompt \"1girl, hair\""), "{missing}");
    let reference = pipeline.reference(&flat, "1girl, hair", ["hair"])?;
    let unread = ReferenceColor::new(&flat).part(&reference, "eyes").expect_err("not read").to_string();
    assert!(unread.contains("\"hair\"") && unread.ends_with("name the phrase when the reference is read"), "{unread}");
    let small = [("hair".to_owned(), whole())];
    let no_drawing = Reference::new(flat, small).expect_err("a box has no pixels").to_string();
    assert!(no_drawing.contains("64 rows and 64 columns"), "{no_drawing}");
    Ok(())
}
