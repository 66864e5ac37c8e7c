//! Laws of color forces: masks, windows, strength, and the order of several forces.

use super::{GOLD, GRID, Twice, apart, found, latent, sampler, schedule, start};
use impasto::diffusion::solver::{Euler, EulerAncestral};
use impasto::diffusion::{Schedule, SpacingOptions, TrainingSchedule};
use impasto::guidance::{GuidanceRun, Setup};
use impasto::mask::Region;
use impasto::methods::ColorForce;
use impasto::methods::color_force::{ColorReport, ForceRun, ForceTarget, Overlap};
use impasto::saliency::SaliencyRun;
use impasto::sampler::Sampler;
use impasto::testing::ToyModel;
use impasto::wording::Note;
use impasto::{Result, Rgb, Window};
use ndarray::Array2;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tch::{Kind, Tensor};

#[test]
fn force_window_covers_whole_steps() -> Result<()> {
    let timesteps = |force: ColorForce| -> Result<(Vec<f64>, Tensor)> {
        let table = TrainingSchedule::stable_diffusion();
        let schedule = Schedule::from_timesteps(&table, &[701.0, 601.0, 501.0], &SpacingOptions::default())?;
        let (x, details) = found(Sampler::new(schedule, Twice).guide(force), 1)?;
        Ok((details.get::<ColorReport>("eyes")?.steps.iter().map(|step| step.timestep).collect(), x))
    };
    for target in [ForceTarget::Mean, ForceTarget::Denoised] {
        let force = || ColorForce::published("eyes", GOLD).tune(|options| options.target = target).color_var(5.0);
        assert_eq!(timesteps(force())?.0, [601.0, 501.0], "{target:?}: recorded once a step");
        let (forced, one) = timesteps(force().window(Window::timesteps(601.0..=601.0)))?;
        assert_eq!(forced, [601.0]);
        let (none, never) = timesteps(force().window(Window::timesteps(650.0..=660.0)))?;
        assert!(none.is_empty() && apart(&one, &never) > 1e-3);
    }
    // The step from 701 evaluates at 601 too, but the force does not apply to it.
    let only_first = ColorForce::published("eyes", GOLD)
        .tune(|options| options.target = ForceTarget::Denoised)
        .window(Window::timesteps(601.0..=601.0));
    assert_eq!(timesteps(only_first)?.0.len(), 1);
    Ok(())
}

#[test]
fn drawn_mask_limits_a_force() -> Result<()> {
    let upper = || Region::new(Array2::from_shape_fn((8, 6), |(row, _)| if row < 4 { 1.0 } else { 0.0 }));
    let force = ColorForce::published("eyes", GOLD).saliency_cutoff(0.0).mask(upper()).window(Window::WHOLE);
    let (_, details) = found(sampler().guide(force), 2)?;
    let force = details.get::<ForceRun>("eyes")?;
    let masks = force.masks()?;
    assert_eq!(masks.size(), [6, 2, 8, 6]);
    assert_eq!(masks.narrow(2, 4, 4).sum(Kind::Double).double_value(&[]), 0.0);
    assert_eq!(masks.narrow(2, 0, 4).mean(Kind::Double).double_value(&[]), 1.0);
    assert!(details.get::<ColorReport>("eyes")?.steps.iter().all(|step| step.areas == [0.5, 0.5]));
    let report = force.report()?.expect("there was a run");
    assert_eq!(report.pictures.len(), 12); // six steps × two images
    Ok(())
}

#[test]
fn painted_colors_name_their_image() -> Result<()> {
    /// A saliency that finds its phrase in the second image only.
    struct Second;
    impl GuidanceRun for Second {}
    impl SaliencyRun for Second {
        fn map(&self) -> Result<Option<Tensor>> {
            let one = |value: f64| Tensor::full([1, 1, 8, 6], value, (Kind::Float, tch::Device::Cpu));
            Ok(Some(Tensor::cat(&[one(0.0), one(1.0)], 0)))
        }
    }
    let force = ColorForce::published("second", GOLD).saliency(|| Second).window(Window::WHOLE);
    let model = ToyModel::new(3)?;
    let mut run = sampler().guide(force).start(&model, start(2))?;
    let _ = run.decode()?;
    let notes = run.notes();
    let details = run.into_details()?;
    let painted = &details.get::<ColorReport>("second")?.painted;
    assert_eq!(painted.iter().map(|painted| painted.image).collect::<Vec<_>>(), [1]);
    assert!(
        notes.iter().any(|note| note.text.contains("\"second\": image 0: the mask was empty in 6 of 6")),
        "{notes:?}"
    );
    Ok(())
}

#[test]
fn extreme_force_settings_do_not_overflow() -> Result<()> {
    for force in [
        ColorForce::published("eyes", GOLD).color_var(1e-40),
        ColorForce::published("eyes", GOLD).tune(|options| options.reference_steps = Some(1000)),
    ] {
        let x = latent(sampler().guide(force.window(Window::WHOLE).saliency_cutoff(0.0)))?;
        assert!(x.abs().max().double_value(&[]) < 10.0, "every cell has the color's latent");
    }
    Ok(())
}

#[test]
fn force_without_strength_changes_nothing() -> Result<()> {
    let plain = latent(sampler())?;
    let weak = ColorForce::published("eyes", GOLD).color_var(1e12).window(Window::WHOLE);
    assert!(apart(&latent(sampler().guide(weak))?, &plain) < 1e-4);
    for never in [
        ColorForce::published("eyes", GOLD).saliency_cutoff(2.0).window(Window::WHOLE),
        ColorForce::published("eyes", GOLD).window(Window::timesteps(998.5..=998.6)),
    ] {
        assert_eq!(latent(sampler().guide(never))?, plain, "an empty mask or window keeps every bit");
    }
    Ok(())
}

#[test]
fn cells_outside_the_mask_keep_their_bits() -> Result<()> {
    let one = || Sampler::new(schedule(6), EulerAncestral::default());
    let region = Region::new(Array2::from_shape_fn((8, 6), |(row, _)| if row < 3 { 1.0 } else { 0.0 }));
    let force = ColorForce::published("above", GOLD).saliency(region).window(Window::WHOLE);
    let model = ToyModel::new(3)?;
    let (mut plain, mut forced) = (one().start(&model, start(1))?, one().guide(force).start(&model, start(1))?);
    plain.step()?;
    forced.step()?;
    let below = |x: &Tensor| x.narrow(2, 3, 5).copy();
    assert_eq!(below(plain.latent()), below(forced.latent()));
    assert!(apart(&plain.latent().narrow(2, 0, 3), &forced.latent().narrow(2, 0, 3)) > 1e-2);
    Ok(())
}

#[test]
fn forces_in_any_order_give_one_picture() -> Result<()> {
    let make = |overlap, target| {
        let at = |phrase: &str, color| {
            ColorForce::published(phrase, color)
                .saliency_cutoff(0.3)
                .window(Window::WHOLE)
                .tune(|options| options.overlap = overlap)
                .tune(|options| options.target = target)
        };
        (at("eyes", GOLD), at("gold", Rgb(0, 0, 139)))
    };
    for overlap in [Overlap::Blend, Overlap::Winner] {
        for target in [ForceTarget::Mean, ForceTarget::SignalOnly, ForceTarget::Denoised] {
            let ((a, b), (c, d)) = (make(overlap, target), make(overlap, target));
            // The run has one step, because several would magnify the rounding of the sum.
            let first = || Sampler::new(schedule(1), Euler);
            let (one, other) = (latent(first().guide(a).guide(b))?, latent(first().guide(d).guide(c))?);
            let scale = one.abs().max().double_value(&[]);
            assert!(apart(&one, &other) < 1e-6 * scale.max(1.0), "{overlap:?} {target:?}: {}", apart(&one, &other));
        }
    }
    Ok(())
}

/// A saliency of the whole picture that counts how often it begins.
#[derive(Clone, Default)]
struct Everywhere(Arc<AtomicUsize>);

impl Everywhere {
    /// Returns the settings: a function that makes copies, which count together.
    fn copies(&self) -> impl Fn() -> Self + use<> {
        let own = self.clone();
        move || own.clone()
    }
}

impl GuidanceRun for Everywhere {
    fn begin(&mut self, _: &mut Setup) -> Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    fn notes(&self) -> Vec<Note> {
        vec!["looked everywhere".into()]
    }
}

impl SaliencyRun for Everywhere {
    fn map(&self) -> Result<Option<Tensor>> {
        Ok(Some(Tensor::ones([1, 1, GRID.h, GRID.w], (Kind::Float, tch::Device::Cpu))))
    }
}

#[test]
fn reused_force_asks_all_its_saliencies() -> Result<()> {
    let (own, protected) = (Everywhere::default(), Everywhere::default());
    let force = ColorForce::exact("eyes", GOLD).saliency(own.copies()).protect_where("hair", protected.copies(), 0.5);
    for runs in 1..=2 {
        let (_, details) = found(sampler().guide(force.clone()), 1)?;
        let begun = [&own, &protected].map(|saliency| saliency.0.load(Ordering::Relaxed));
        assert_eq!(begun, [runs; 2], "the saliencies begin in the first pass, and the second has their maps");
        let notes = details.get::<ForceRun>("eyes")?.notes();
        assert_eq!(notes.iter().filter(|note| note.text == "looked everywhere").count(), 2, "{notes:?}");
    }
    Ok(())
}
