//! Rows of the benches that compare guidance methods with a run without guidance.
//!
//! `tests/all/chores.rs` reads this file too, and names a registered guidance method without a row.

use impasto::guidance::Guidance;
use impasto::mask::Region;
use impasto::methods::color_force::{GoldMode, Texture};
use impasto::methods::colorize::{FigureAndGround, Injection};
use impasto::methods::paint_with_words::WeightFn;
use impasto::methods::{
    ColorForce, Colorize, FreeU, ImageGuidance, PaintWithWords, Palette, PerturbedAttention, PromptBlend,
    ReferenceColor, RegionPrompts, SmoothedEnergy,
};
use impasto::saliency::{Daam, Differential, Refine, Spread};
use impasto::{Raster, Rgb, Window};
use ndarray::Array2;
use tch::{Device, Kind, Tensor};

/// Returns the guidance methods of a row. Forces act at every step, so that every step is the same work.
pub fn methods(row: &str) -> Vec<Box<dyn Guidance>> {
    let gold = || GoldMode::Latent(Tensor::zeros([1, 4, 1, 1], (Kind::Float, Device::Cpu)).into());
    let force = |phrase: &str| -> Box<dyn Guidance> {
        Box::new(
            ColorForce::published(phrase, Rgb(255, 215, 0)).tune(|options| options.gold = gold()).window(Window::WHOLE),
        )
    };
    let paint = || {
        let half = Region::new(Array2::from_shape_fn((32, 32), |(_, column)| if column < 16 { 1.0 } else { 0.0 }));
        PaintWithWords::default().mask(half, "eyes", 1.5)
    };
    let reference = || Raster::flat(Rgb(180, 90, 60), (256, 256));
    let sketch = || {
        let mut sketch = Raster::flat(Rgb(255, 255, 255), (256, 256));
        (40..200).for_each(|x| sketch.set(x, x, Rgb(0, 0, 0)));
        sketch
    };
    let colorize = || Colorize::new(&sketch(), &reference());
    let left = || Region::rect(0.0..0.5, 0.0..1.0);
    match row {
        "paint" => vec![Box::new(paint())],
        "paint (std)" => vec![Box::new(paint().weight(WeightFn::LogStd(0.4)))],
        "paint (flat)" => vec![Box::new(paint().weight(WeightFn::Flat(1.0)))],
        "paint (idle)" => vec![Box::new(paint().window(Window::sigmas(0.0..=1e-6)))],
        "all" => vec![force("eyes"), force("skin"), Box::new(paint()), Box::new(Daam::words())],
        "daam" => vec![Box::new(Daam::of("eyes"))],
        "word maps" => vec![Box::new(Daam::words())],
        "spread" => vec![Box::new(Spread::of(left()))],
        "refine" => {
            let look = Daam::of("eyes").tune(|options| options.refine = Refine::contrast());
            let force = ColorForce::published("eyes", Rgb(255, 215, 0)).saliency(look).saliency_cutoff(0.5);
            vec![Box::new(
                force
                    .tune(|options| {
                        options.texture = Texture::MaskedMean;
                        options.gold = gold();
                    })
                    .window(Window::WHOLE),
            )]
        }
        "force" => vec![force("eyes")],
        "daam + force" => vec![Box::new(Daam::of("hair")), force("eyes")],
        "differential" => vec![Box::new(Differential::of("hair", "pink"))],
        "perturbed attention" => vec![Box::new(PerturbedAttention::new(3.0))],
        "smoothed energy" => vec![Box::new(SmoothedEnergy::new(3.0))],
        "palette" => vec![Box::new(Palette::new([(Rgb(20, 30, 90), 2.0), (Rgb(250, 240, 210), 1.0)]))],
        "free u" => vec![Box::new(FreeU::sd15())],
        "reference color" => vec![Box::new(ReferenceColor::new(&reference()))],
        "image guidance" => vec![Box::new(ImageGuidance::text("red hair"))],
        "prompt blend" => vec![Box::new(PromptBlend::to("1girl, red hair"))],
        "region prompts" => vec![Box::new(RegionPrompts::default().add(left(), "red hair", 0.8))],
        "freely" | "freely again" => vec![Box::new(Colorize::freely(&sketch()))],
        "reference" => vec![Box::new(colorize())],
        "reference + force" => vec![Box::new(colorize()), force("eyes")],
        "figure and background" => {
            vec![Box::new(colorize().tune(|options| options.parts = Some(FigureAndGround::new(left(), left()))))]
        }
        "injection" => vec![Box::new(colorize().tune(|options| options.injection = Some(Injection::default())))],
        "3 forces" => vec![force("eyes"), force("hair"), force("skin")],
        _ => Vec::new(),
    }
}

/// Rows of the benches, `none` first. `again` repeats `none` and shows the noise of the measurement.
pub const ROWS: [&str; 23] = [
    "none",
    "again",
    "daam",
    "force",
    "daam + force",
    "3 forces",
    "refine",
    "paint",
    "paint (std)",
    "paint (flat)",
    "paint (idle)",
    "all",
    "differential",
    "perturbed attention",
    "smoothed energy",
    "free u",
    "palette",
    "reference color",
    "image guidance",
    "prompt blend",
    "region prompts",
    "word maps",
    "spread",
];

/// Rows for a model that colors sketches. The first row, the base of the ratios, has no reference.
pub const COLORIZER_ROWS: [&str; 6] =
    ["freely", "freely again", "reference", "reference + force", "figure and background", "injection"];
