//! Runs with guidance methods are repeated from their pictures. Every registered method has a test here.
//!
//! The name of a test begins with the method's type: `color_force_exact_repeats` is about `ColorForce`.

use super::{GOLD, PORTRAIT, again, assert_same, paint, repeats};
use crate::ip_adapter::adapted;
use crate::sd3;
use crate::unmerged_lora::model_beside;
use impasto::diffusion::NoiseEdges;
use impasto::guidance::{Apg, CfgPlusPlus, CfgZeroStar, FrequencyDecoupled, Guidance};
use impasto::mask::Region;
use impasto::methods::color_force::{
    Cutoff, Feedback, ForceRun, ForceTarget, GoldMode, MaskEdge, StepVariance, Texture,
};
use impasto::methods::colorize::{DualCfg, FigureAndGround, Injection, Ink, Manipulation, ReferenceScales};
use impasto::methods::image_guidance::{GuidanceParams, Space};
use impasto::methods::ip_adapter::ImagePrompt;
use impasto::methods::paint_with_words::{Area, AreaBlend};
use impasto::methods::{
    ColorForce, Colorize, FreeU, ImageGuidance, IpAdapter, PaintWithWords, Palette, PerturbedAttention, PromptBlend,
    ReferenceColor, RegionPrompt, RegionPrompts, SkipLayers, SmoothedEnergy, UnmergedLora,
};
use impasto::pipeline::{Pipeline, Request};
use impasto::recipe::Registry;
use impasto::saliency::{Accumulate, ConceptAttention, Daam, Differential, Reference, Saliency, Spread};
use impasto::vision::{Crop, View};
use impasto::{Raster, Result, Rgb, Source, Window};
use ndarray::Array2;
use serde_json::json;
use std::collections::BTreeSet;

/// Names of the registered guidance methods and saliencies, as test names spell them: `ColorForce` is `color_force`.
fn registered() -> BTreeSet<String> {
    let registry = Registry::default();
    let names = registry.names::<dyn Guidance>().into_iter().chain(registry.names::<dyn Saliency>());
    names.filter(|name| *name != "Sum").map(snake_case).collect()
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[test]
fn every_registered_method_has_a_test_here() {
    let methods = registered();
    assert!(methods.len() >= 12, "{methods:?}");
    let tests = include_str!("methods.rs").split("#[test]\nfn ").skip(1);
    // The longest name counts: `region_prompts_repeat` is no test of `Region`.
    let tested = tests.filter_map(|test| {
        methods.iter().filter(|method| test.starts_with(&format!("{method}_"))).max_by_key(|method| method.len())
    });
    let tested: BTreeSet<String> = tested.cloned().collect();
    assert_eq!(tested, methods, "each method needs a test in this file whose name begins with the method's");
}

#[test]
fn daam_in_a_window_repeats() -> Result<()> {
    repeats(|r| r.guide(Daam::of("eyes").window(Window::timesteps(100.0..=800.0))))
}

#[test]
fn unmerged_lora_repeats_with_its_model() -> Result<()> {
    let pipeline = Pipeline::new(model_beside()?);
    let ink = UnmergedLora::new("ink", 0.5).window(Window::progress(0.4..=1.0));
    let (ink, glow) = (ink.within(Region::rect(0.0..0.6, 0.0..1.0)), UnmergedLora::new("glow", 0.8).on("hair"));
    let output = pipeline.request(PORTRAIT).seed(7).steps(3).guide(ink).guide(glow).run()?;
    let file = tempfile::Builder::new().suffix(".png").tempfile().expect("a file");
    output.save(0, file.path())?;
    let request = Request::from_png(&pipeline, file.path())?;
    assert_eq!(request.notes()?, []);
    assert_eq!(request.run()?.latents, output.latents);
    let bare = Pipeline::builder().build()?;
    let error = Request::from_png(&bare, file.path())?.run().expect_err("a model without the LoRA");
    assert!(error.to_string().contains("lora is \"ink\""), "{error}");
    Ok(())
}

#[test]
fn word_maps_repeat() -> Result<()> {
    repeats(|r| r.guide(Daam::words()))
}

#[test]
fn differential_repeats() -> Result<()> {
    repeats(|r| r.guide(Differential::of("hair", "pink").weight(0.7)))
}

#[test]
fn spread_of_a_region_repeats() -> Result<()> {
    repeats(|r| {
        let under = Spread::of(Region::rect(0.3..0.5, 0.2..0.4)).power(2).among([Region::rect(0.6..0.8, 0.2..0.4)]);
        r.guide(ColorForce::published("a stroke", Rgb(255, 99, 71)).saliency(under).saliency_cutoff(0.5))
    })
}

#[test]
fn spread_among_a_list_of_regions_is_read() -> Result<()> {
    let recipe = Spread::of(Region::rect(0.3..0.5, 0.2..0.4)).among([Region::rect(0.6..0.8, 0.2..0.4)]).recipe()?;
    // The form of the first files: a list, which is left out if it is empty.
    assert_eq!(recipe.settings["rivals"].as_array().map(Vec::len), Some(1), "{}", recipe.settings);
    for (rivals, want) in [(recipe.settings["rivals"].clone(), true), (json!([]), false), (json!("OtherLabels"), true)]
    {
        let mut read = recipe.clone();
        read.settings["rivals"] = rivals.clone();
        let written = Registry::default().make::<dyn Guidance>(read)?.recipe()?.settings;
        assert_eq!(written.get("rivals"), want.then_some(&rivals));
    }
    Ok(())
}

#[test]
fn ip_adapter_repeats_with_its_net() -> Result<()> {
    let (mut pipeline, net) = adapted()?;
    let (red, blue) = (Raster::flat(Rgb(200, 30, 30), (40, 30)), Raster::flat(Rgb(20, 40, 160), (40, 30)));
    let left = ImagePrompt::new(&blue).within(Region::rect(0.0..0.5, 0.0..1.0)).strength(0.5);
    let like = IpAdapter::new(&net, &red).picture(left).picture(ImagePrompt::new(&blue).on("hair")).strength(0.4);
    let like = like.block("up_blocks", 1.0).block("mid_block", 0.5).window(Window::progress(0.0..=0.8));
    let output = pipeline.request(PORTRAIT).seed(7).steps(4).guide(like).run()?;
    let (notes, _) = again(&pipeline, &output, 0)?;
    assert!(notes[0].to_string().contains("IpAdapter with random.safetensors, whose weights"), "{notes:?}");
    let read = move |recipe, _: &_| Ok(Box::new(IpAdapter::from_recipe(&net, &recipe)?) as Box<dyn Guidance>);
    pipeline.registry_mut().add("IpAdapter", read);
    let (notes, twice) = again(&pipeline, &output, 0)?;
    assert!(notes.is_empty(), "{notes:?}");
    assert_same(&output, &twice);
    Ok(())
}

#[test]
fn region_as_saliency_repeats() -> Result<()> {
    repeats(|r| {
        let region = Region::rect(0.0..1.0, 0.5..1.0);
        r.guide(ColorForce::published("the lower half", GOLD).saliency(region))
    })
}

#[test]
fn recorded_maps_and_latents_repeat() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let first = ColorForce::published("hair", GOLD);
    let first = pipeline.request(PORTRAIT).seed(7).steps(6).guide(first).run()?;
    let first = first.details::<ForceRun>("hair")?;
    let gold = first.gold_latent().shallow_clone();
    let force = ColorForce::published("hair", GOLD)
        .tune(|options| options.gold = GoldMode::Latent(gold.into()))
        .replay(first.recorded()?);
    let output = pipeline.request(PORTRAIT).seed(7).steps(6).guide(force).run()?;
    let (notes, twice) = again(&pipeline, &output, 0)?;
    assert_eq!((notes.len(), output.reports[0].pictures.len()), (0, 4));
    assert_same(&output, &twice);
    Ok(())
}

#[test]
fn color_force_published_repeats() -> Result<()> {
    repeats(|r| r.guide(ColorForce::published("eyes", GOLD).color_var(15.0)))
}

#[test]
fn color_force_exact_repeats() -> Result<()> {
    repeats(|r| r.guide(ColorForce::exact("hair", Rgb(255, 99, 71))))
}

/// A color force whose settings all differ from the defaults.
fn force() -> ColorForce {
    let region = Region::new(Array2::from_shape_fn((16, 16), |(_, column)| if column < 12 { 0.9 } else { 0.1 }));
    ColorForce::published("hair", Rgb(255, 99, 71))
        .saliency((
            Daam::of("hair").tune(|options| options.accumulate = Accumulate::Ema(0.3)),
            Differential::of("hair", "pink").weight(0.7),
        ))
        .color_var(20.1)
        .saliency_cutoff(Cutoff::Auto)
        .tune(|options| options.edge = MaskEdge::Soft(0.07))
        .mask(region)
        .protect("eyes")
        .protect_where(
            "the left",
            Region::new(Array2::from_shape_fn((16, 16), |(_, x)| if x < 4 { 1.0 } else { 0.0 })),
            0.5,
        )
        .tune(|options| options.texture = Texture::MaskedMean)
        .tune(|options| options.feedback = Some(Feedback { goal: 2.1, ..Feedback::default() }))
        .tune(|options| options.target = ForceTarget::Denoised)
        .tune(|options| options.step_variance = StepVariance::NextLevel)
        .window(Window::timesteps(0.0..=900.0))
        .tune(|options| options.trim = 1)
}

#[test]
fn color_force_with_all_settings_repeats() -> Result<()> {
    repeats(|r| r.guide(force()))
}

#[test]
fn paint_with_words_repeats() -> Result<()> {
    repeats(|r| r.guide(paint()))
}

#[test]
fn paint_with_words_in_a_window_repeats() -> Result<()> {
    repeats(|r| r.guide(paint().window(Window::sigmas(0.5..=8.0))))
}

#[test]
fn paint_with_words_areas_repeat() -> Result<()> {
    repeats(|r| {
        let lower_left = Region::rect(0.0..0.5, 0.5..1.0);
        let area = Area { strength: 1.2, outside: -0.1, seed: Some(3), ..Area::mask(lower_left, "shirt") };
        let lower = Area { negative: true, ..Area::mask(Region::rect(0.0..1.0, 0.5..1.0), "hair") };
        let paint = PaintWithWords::default().area(area).area(lower).tune(|options| {
            options.blend = AreaBlend::Strongest;
            options.on_uncond = 0.5;
        });
        r.negative("hair").guide(paint.tune(|options| options.noise_edges = NoiseEdges::Blend))
    })
}

#[test]
fn region_prompts_repeat() -> Result<()> {
    repeats(|r| {
        let teal = Raster::flat(Rgb(0, 128, 128), (32, 24));
        let guide = ImageGuidance::new(&teal).tune(|params| *params = GuidanceParams::ui());
        let house = RegionPrompt::new(Region::rect(0.5..1.0, 0.5..1.0), "a red house", 0.8).thing("house");
        r.guide(
            RegionPrompts::default().region(house.guided(guide)).hold(1.5).window(Window::sigmas(1.0..=f64::INFINITY)),
        )
    })
}

#[test]
fn image_guidance_by_a_picture_repeats() -> Result<()> {
    repeats(|r| {
        let teal = Raster::flat(Rgb(0, 128, 128), (32, 24));
        let guide = ImageGuidance::new(&teal).patches(false).tune(|params| {
            *params = GuidanceParams::off();
            params.space = Space::Joint;
            params.linear = (0.4, 0.4);
        });
        r.guide(guide.view(View { crop: Crop::Pad, ..View::default() }))
    })
}

#[test]
fn image_guidance_by_a_text_repeats() -> Result<()> {
    repeats(|r| r.guide(ImageGuidance::text("red hair").window(Window::progress(0.5..=1.0))))
}

#[test]
fn perturbed_attention_repeats() -> Result<()> {
    repeats(|r| r.guide(PerturbedAttention::new(2.0).window(Window::timesteps(200..=999))))
}

/// Colors of a part of a drawn reference.
fn reference_color() -> Result<ReferenceColor> {
    let mut picture = Raster::flat(Rgb(72, 61, 139), (64, 64));
    picture.paste(&Raster::flat(Rgb(255, 99, 71), (32, 32)), 0, 0);
    let drawn = Region::new(Array2::from_shape_fn((64, 64), |(y, x)| f32::from(u8::from(y < 32 && x < 32))));
    let reference = Reference::new(picture.clone(), [("hair".to_owned(), drawn)])?;
    let upper = || Region::rect(0.0..1.0, 0.0..0.5);
    let colors = ReferenceColor::new(&picture).described("a red sun").strength(1.5).statistics(0.2);
    colors.window(Window::timesteps(0..=900)).region(upper(), upper()).part(&reference, "hair")
}

#[test]
fn reference_color_repeats() -> Result<()> {
    repeats(|r| r.guide(reference_color().expect("the reference has hair")))
}

#[test]
fn colorize_repeats() -> Result<()> {
    let (mut sketch, reference) = (Raster::flat(Rgb(255, 255, 255), (64, 48)), Raster::flat(GOLD, (40, 40)));
    (8..56).for_each(|x| sketch.set(x, 24, Rgb(0, 0, 0)));
    let scales = ReferenceScales { all: 0.9, bottom: 1.5, ..ReferenceScales::default() };
    let (figure, behind) = (Region::rect(0.0..0.5, 0.0..1.0), Region::rect(0.0..1.0, 0.0..0.5));
    let colors = Colorize::new(&sketch, &reference).window(Window::progress(0.0..=0.75)).tune(|options| {
        options.ink = Ink::Uneven;
        options.padding = 1.2;
        options.sketch_strength = 1.3;
        options.scales = scales;
        options.sites = Some(vec![0.5; 4]);
        options.pause = Some(Window::timesteps(700.0..=800.0));
        options.parts = Some(FigureAndGround::new(figure, behind));
        let window = Window::timesteps(300.0..=999.0);
        options.injection = Some(Injection { reference: 0.2, sketch: 0.1, window });
    });
    let colors = colors.manipulate(Manipulation::parse("[target] red hair; [control] hair; [scale] 3")?);
    let pipeline = Pipeline::builder().source(Source::embedded_colorizer()).build()?;
    let request = pipeline.request("hair, background").seed(5).steps(4).combine(DualCfg::new(2.0, 1.5));
    let output = request.guide(colors).run()?;
    let (notes, twice) = again(&pipeline, &output, 0)?;
    assert!(notes.is_empty(), "{notes:?}");
    assert_same(&output, &twice);
    Ok(())
}

#[test]
fn prompt_blend_repeats() -> Result<()> {
    repeats(|r| r.guide(PromptBlend::to("a red house").window(Window::progress(0.25..=0.75))))
}

#[test]
fn palette_repeats() -> Result<()> {
    repeats(|r| r.guide(Palette::new([(Rgb(20, 30, 90), 2.0), (Rgb(250, 240, 210), 1.0)]).shading(0.3).trim(1)))
}

#[test]
fn smoothed_energy_repeats() -> Result<()> {
    repeats(|r| r.guide(SmoothedEnergy::new(2.0).blur(1.5).window(Window::timesteps(200..=999))))
}

/// Asserts that a run of a small model of Stable Diffusion 3.5 is repeated from its picture.
fn repeats_on_sd3(asked: fn(Request<'_>) -> Request<'_>) -> Result<()> {
    let pipeline = Pipeline::new(sd3::load()?);
    let output = asked(pipeline.request(sd3::PROMPT).seed(7).steps(4).size((64, 64))).run()?;
    let (notes, twice) = again(&pipeline, &output, 0)?;
    assert!(notes.is_empty(), "{notes:?}");
    assert_same(&output, &twice);
    Ok(())
}

#[test]
fn skip_layers_repeat() -> Result<()> {
    repeats_on_sd3(|r| r.guide(SkipLayers::new(2.0).blocks([1, 2]).window(Window::progress(0.0..=0.5))))
}

#[test]
fn concept_attention_repeats() -> Result<()> {
    repeats_on_sd3(|r| r.guide(ConceptAttention::of("hat").window(Window::progress(0.0..=0.5))))
}

#[test]
fn third_prompt_repeats() -> Result<()> {
    repeats_on_sd3(|r| r.third_prompt("a dog, red hat").tune(|config| config.third_negative = Some("cat".into())))
}

#[test]
fn free_u_repeats() -> Result<()> {
    repeats(|r| r.guide(FreeU::sd15()))
}

#[test]
fn combinations_of_branches_repeat() -> Result<()> {
    repeats(|r| r.combine(Apg::new(7.5).parallel(0.3).threshold(5.0).momentum(-0.5)))?;
    repeats(|r| r.combine(Apg::new(7.5).clean()))?;
    repeats(|r| r.combine(CfgZeroStar { scale: 7.5, zero_steps: 0 }))?;
    repeats(|r| r.combine(CfgPlusPlus::new(0.8)))?;
    repeats(|r| r.combine(FrequencyDecoupled::new([9.0, 4.5])))
}

#[test]
fn several_methods_at_once_repeat() -> Result<()> {
    repeats(|r| {
        let r = r.guide(paint()).guide(ColorForce::exact("eyes", GOLD).protect("hair bow"));
        r.guide(Daam::of("shirt")).color_force("background", Rgb(60, 179, 113)).solver_named("Euler a")
    })
}
