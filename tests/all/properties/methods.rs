//! Laws of guidance methods, checked for every method of one list.

use super::{GOLD, apart, latent, paint, sampler, start};
use crate::{chores, ip_adapter};
use impasto::guidance::Guidance;
use impasto::mask::Region;
use impasto::methods::color_force::ForceTarget;
use impasto::methods::ip_adapter::ImagePrompt;
use impasto::methods::paint_with_words::WeightFn;
use impasto::methods::{
    ColorForce, ImageGuidance, IpAdapter, Palette, PerturbedAttention, PromptBlend, ReferenceColor, RegionPrompt,
    RegionPrompts, SmoothedEnergy,
};
use impasto::saliency::{Accumulate, Daam, Differential, Recorded, Spread};
use impasto::testing::ToyModel;
use impasto::{Raster, Result, Rgb, Window};
use ndarray::Array2;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Names of the guidance methods that only read, and so leave the picture alone.
const READERS: [&str; 6] = ["Daam", "Daam::words", "Differential", "Recorded", "Region", "Spread"];

/// Guidance methods of the crate in several settings, with a name for messages.
///
/// A new guidance method gets a line here. A test names a method without one.
fn methods() -> Vec<(&'static str, Box<dyn Guidance>)> {
    let toy = || ip_adapter::toy().expect("a net");
    let force = || ColorForce::published("eyes", GOLD).color_var(5.0).window(Window::WHOLE);
    vec![
        ("Daam", Box::new(Daam::of("gold eyes"))),
        ("Daam, mean", Box::new(Daam::of("eyes").tune(|options| options.accumulate = Accumulate::Mean))),
        ("Daam, moving average", Box::new(Daam::of("eyes").tune(|options| options.accumulate = Accumulate::Ema(0.5)))),
        ("Daam::words", Box::new(Daam::words())),
        ("ColorForce", Box::new(force())),
        ("ColorForce with a differential", {
            Box::new(force().saliency((Daam::of("eyes"), Differential::of("eyes", "pink"))))
        }),
        ("ColorForce on the signal", Box::new(force().tune(|options| options.target = ForceTarget::SignalOnly))),
        ("ColorForce on x0", Box::new(force().tune(|options| options.target = ForceTarget::Denoised))),
        ("ColorForce with a moving average", {
            Box::new(force().saliency(Daam::of("eyes").tune(|options| options.accumulate = Accumulate::Ema(0.5))))
        }),
        ("ColorForce in a region", {
            Box::new(force().saliency(Region::new(Array2::from_shape_fn((8, 6), |(row, _)| row as f32 / 7.0))))
        }),
        ("PaintWithWords", Box::new(paint())),
        ("PaintWithWords by deviation", Box::new(paint().weight(WeightFn::LogStd(1.0)))),
        ("ImageGuidance", Box::new(ImageGuidance::new(&Raster::flat(Rgb(200, 30, 30), (12, 9))))),
        (
            "ImageGuidance by a text, in a window",
            Box::new(ImageGuidance::text("a dog").window(Window::progress(0.2..=0.6))),
        ),
        ("IpAdapter", Box::new(IpAdapter::new(&toy(), &Raster::flat(Rgb(200, 30, 30), (12, 9))))),
        ("IpAdapter in a region and on a phrase", {
            let picture = || ImagePrompt::new(&Raster::flat(Rgb(200, 30, 30), (12, 9)));
            let left = picture().within(Region::rect(0.0..0.5, 0.0..1.0));
            Box::new(IpAdapter::new(&toy(), left).picture(picture().on("eyes")).strength(0.5))
        }),
        ("Palette", Box::new(Palette::new([(GOLD, 2.0), (Rgb(20, 30, 90), 1.0)]))),
        ("SmoothedEnergy", Box::new(SmoothedEnergy::new(2.0).blur(0.8).sites(|_| true))),
        ("PerturbedAttention", Box::new(PerturbedAttention::new(2.0).sites(|_| true))),
        ("ReferenceColor", Box::new(ReferenceColor::new(&Raster::flat(Rgb(200, 30, 30), (12, 9))).statistics(0.5))),
        ("ReferenceColor in a region", {
            let left = || Region::rect(0.0..0.5, 0.0..1.0);
            Box::new(ReferenceColor::new(&Raster::flat(Rgb(200, 30, 30), (12, 9))).region(left(), left()).strength(2.0))
        }),
        ("PromptBlend", Box::new(PromptBlend::to("a dog"))),
        ("RegionPrompts", Box::new(RegionPrompts::default().add(Region::rect(0.0..0.5, 0.0..1.0), "a dog", 0.8))),
        ("RegionPrompts with a thing and a guide", {
            let left = RegionPrompt::new(Region::rect(0.0..0.5, 0.0..1.0), "a dog", 0.8);
            Box::new(RegionPrompts::default().region(left.thing("dog").guided(ImageGuidance::text("a cat"))))
        }),
        ("Daam and ColorForce as one method", Box::new((Daam::of("eyes"), force()))),
        ("Differential", Box::new(Differential::of("eyes", "pink"))),
        ("Region", Box::new(Region::rect(0.0..0.5, 0.0..1.0))),
        ("Spread", Box::new(Spread::of(Region::rect(0.0..0.5, 0.0..1.0)))),
        ("Recorded", {
            let maps = Tensor::ones([2, 1, 8, 6], (Kind::Float, Device::Cpu));
            Box::new(Recorded::new(vec![900.0, 100.0], maps, 1.0).expect("maps"))
        }),
    ]
}

#[test]
fn every_registered_method_has_its_chores_done() {
    chores::assert_done(methods().iter().map(|(_, guidance)| &**guidance));
}

#[test]
fn method_used_twice_gives_same_picture_and_report() -> Result<()> {
    let model = ToyModel::new(3)?;
    for (name, guidance) in methods() {
        let guidance: Arc<dyn Guidance> = guidance.into();
        let told = || -> Result<(Tensor, String, usize)> {
            let mut run = sampler().guide(guidance.clone()).start(&model, start(1))?;
            let x = run.finish()?.shallow_clone();
            let report = run.reports()?.pop().map(|report| (report.data.to_string(), report.pictures.len()));
            let (data, images) = report.unwrap_or_default();
            Ok((x, format!("{data} {:?}", run.notes()), images))
        };
        let once = told()?;
        assert_eq!(told()?, once, "{name}");
    }
    Ok(())
}

#[test]
fn only_readers_leave_the_picture_alone() -> Result<()> {
    let plain = latent(sampler())?;
    for (name, guidance) in methods() {
        let kind = guidance.name();
        let change = apart(&latent(sampler().guide(guidance))?, &plain);
        assert_eq!(change == 0.0, READERS.contains(&kind), "{name} changed the picture by {change}");
    }
    Ok(())
}
