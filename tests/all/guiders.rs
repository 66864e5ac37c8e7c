//! Smoothed-energy guidance, FreeU and CFG++ in runs. The golden cases `tiny_txt2img_seg` and `tiny_txt2img_free_u`
//! compare their numbers with diffusers.

use impasto::diffusion::solver::Euler;
use impasto::guidance::{CfgPlusPlus, FrequencyDecoupled};
use impasto::methods::{FreeU, SmoothedEnergy};
use impasto::pipeline::Request;
use impasto::{Pipeline, Result};
use tch::Tensor;

/// Makes a picture of the embedded model, and returns its latent.
fn latents(set: impl FnOnce(Request<'_>) -> Request<'_>) -> Result<Tensor> {
    let pipeline = Pipeline::builder().build()?;
    let request = pipeline.request("a red boat, blue sky").seed(7).steps(3).solver(Euler);
    Ok(set(request).run()?.latents.shallow_clone())
}

#[test]
fn methods_that_change_nothing_keep_every_bit() -> Result<()> {
    let bare = latents(|request| request)?;
    assert_eq!(latents(|request| request.guide(SmoothedEnergy::new(0.0)))?, bare);
    assert_ne!(latents(|request| request.guide(SmoothedEnergy::new(3.0)))?, bare);
    assert_ne!(latents(|request| request.guide(FreeU::sd15()))?, bare);
    let kept = latents(|request| request.guide(FreeU::new([1.0; 2], [1.0; 2])))?;
    assert!(kept.allclose(&bare, 1e-4, 1e-4, false));
    Ok(())
}

#[test]
fn wide_blur_is_close_to_the_mean() -> Result<()> {
    let mean = latents(|request| request.guide(SmoothedEnergy::new(3.0)))?;
    let moved = |blur: f64| -> Result<f64> {
        let blurred = latents(|request| request.guide(SmoothedEnergy::new(3.0).blur(blur)))?;
        Ok((blurred - &mean).abs().max().double_value(&[]))
    };
    assert!(moved(1000.0)? < moved(0.3)?);
    Ok(())
}

#[test]
fn equal_scales_of_frequencies_are_cfg() -> Result<()> {
    let cfg = latents(|request| request.guidance_scale(6.0))?;
    let frequencies = latents(|request| request.combine(FrequencyDecoupled::new([6.0, 6.0])))?;
    assert!(frequencies.allclose(&cfg, 1e-3, 1e-3, false));
    assert!(
        !latents(|request| request.combine(FrequencyDecoupled::new([9.0, 3.0])))?.allclose(&cfg, 1e-3, 1e-3, false)
    );
    Ok(())
}

#[test]
fn cfg_plus_plus_without_scale_is_the_negative_prompt() -> Result<()> {
    let none = latents(|request| request.negative("a house").combine(CfgPlusPlus::new(0.0)))?;
    let pipeline = Pipeline::builder().build()?;
    let alone = pipeline.request("a house").seed(7).steps(3).solver(Euler).guidance_scale(1.0).run()?;
    assert!(none.allclose(&alone.latents, 1e-3, 1e-3, false));
    Ok(())
}
