//! Perturbed-attention guidance. The golden case `tests/golden/tiny_txt2img_pag` compares its numbers with diffusers.

use impasto::diffusion::solver::Euler;
use impasto::methods::color_force::ColorReport;
use impasto::methods::{ColorForce, PerturbedAttention};
use impasto::sampler::Batching;
use impasto::{Pipeline, Result, Rgb, Window};
use tch::{Kind, Tensor};

const PROMPT: &str = "a red boat, blue sky";

/// The latents of a run of `steps` steps.
fn latents(steps: usize, guidance: Option<PerturbedAttention>) -> Result<Tensor> {
    let pipeline = Pipeline::builder().build()?;
    let request = pipeline.request(PROMPT).seed(7).steps(steps).solver(Euler);
    let request = guidance.into_iter().fold(request, impasto::pipeline::Request::guide);
    Ok(request.run()?.latents.shallow_clone())
}

#[test]
fn no_scale_and_no_window_keep_every_bit() -> Result<()> {
    let bare = latents(3, None)?;
    assert_eq!(latents(3, Some(PerturbedAttention::new(0.0)))?, bare);
    let late = PerturbedAttention::new(3.0).window(Window::timesteps(0.0..=0.5));
    assert_eq!(latents(3, Some(late))?, bare);
    assert_ne!(latents(3, Some(PerturbedAttention::new(3.0)))?, bare);
    Ok(())
}

#[test]
fn one_step_moves_in_proportion_to_the_scale() -> Result<()> {
    // A run of one step ends at x0 itself, which is linear in the scale. All runs have the same branches, because a
    // processor rounds a batch of two and a batch of three differently.
    let moved = |scale: f64| latents(1, Some(PerturbedAttention::new(scale)));
    let (one, two, four) = (moved(1.0)?, moved(2.0)?, moved(4.0)?);
    let error = ((&four - &one) - (two - &one) * 3.0).abs().max().double_value(&[]);
    let size = (four - one).abs().max().double_value(&[]);
    assert!(size > 0.01 && error < 1e-4 * size, "{error} of {size}");
    Ok(())
}

#[test]
fn batches_equal_single_images_at_every_site() -> Result<()> {
    // The first self-attention comes before the prompt is read. There, branches of one latent are computed once.
    let run = |batching: Batching| -> Result<Tensor> {
        let pipeline = Pipeline::builder().build()?;
        let guidance = PerturbedAttention::new(1.0).sites(|_| true);
        let request = pipeline
            .request(PROMPT)
            .seed(7)
            .steps(2)
            .images(2)
            .tune(|config| config.batching = batching)
            .guide(guidance);
        Ok(request.run()?.latents.shallow_clone())
    };
    let (together, alone) = (run(Batching::Together)?, run(Batching::OneByOne)?);
    assert!((together - &alone).abs().max().double_value(&[]) < 1e-3);
    let middle = latents(2, Some(PerturbedAttention::new(1.0)))?;
    assert!((alone.narrow(0, 0, 1) - middle).abs().max().double_value(&[]) > 0.01, "other sites give another picture");
    Ok(())
}

#[test]
fn force_works_beside_perturbed_attention() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let prompt = "1girl, eyes, hair, shirt";
    let force = ColorForce::exact("shirt", Rgb(0, 128, 128));
    let request = pipeline.request(prompt).seed(7).guide(PerturbedAttention::new(1.0)).guide(force);
    let output = request.run()?;
    let picture = output.image(0)?.to_tensor(tch::Device::Cpu)?;
    assert!(picture.isfinite().all().int64_value(&[]) == 1 && picture.std(false).double_value(&[]) > 0.1);
    let painted = &output.details::<ColorReport>("shirt")?.painted;
    assert!(painted.iter().all(|painted| painted.delta_e < 3.0), "{painted:?}");
    assert_eq!(picture.kind(), Kind::Float);
    Ok(())
}

#[test]
fn wrong_settings_are_named() -> Result<()> {
    let says = |guidance: PerturbedAttention| -> Result<String> {
        let pipeline = Pipeline::builder().build()?;
        let error = pipeline.request(PROMPT).steps(1).guide(guidance).run().map(drop).expect_err("it is wrong");
        Ok(error.to_string())
    };
    assert!(says(PerturbedAttention::new(-1.0))?.contains("scale is -1; expected 0..=30"));
    assert!(says(PerturbedAttention::new(f64::NAN))?.contains("scale is NaN"));
    assert!(says(PerturbedAttention::new(1.0).sites(|_| false))?.contains("no attention site is selected"));
    assert!(says(PerturbedAttention::new(1.0).window(Window::progress(0.0..=2.0)))?.contains("window is progress"));
    Ok(())
}
