//! Smoothed-energy guidance, FreeU and CFG++ in runs. The golden cases `tiny_txt2img_seg` and `tiny_txt2img_free_u`
//! compare their numbers with diffusers.

use impasto::diffusion::Noise;
use impasto::diffusion::solver::Euler;
use impasto::guidance::{CfgPlusPlus, CfgZeroStar, FrequencyDecoupled};
use impasto::methods::{FreeU, SmoothedEnergy};
use impasto::pipeline::Request;
use impasto::{Pipeline, Result, Source};
use tch::Tensor;

/// Makes a picture of the embedded model, and returns its latent.
fn latents(set: impl FnOnce(Request<'_>) -> Request<'_>) -> Result<Tensor> {
    latents_of(Source::embedded(), set)
}

/// Makes a picture of a model, and returns its latent.
fn latents_of(source: Source, set: impl FnOnce(Request<'_>) -> Request<'_>) -> Result<Tensor> {
    let pipeline = Pipeline::builder().source(source).build()?;
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
    for source in [Source::embedded, Source::embedded_flow] {
        let cfg = latents_of(source(), |request| request.guidance_scale(6.0))?;
        let run = |scales| latents_of(source(), |request| request.combine(FrequencyDecoupled::new(scales)));
        assert!(run([6.0, 6.0])?.allclose(&cfg, 1e-3, 1e-3, false));
        assert!(!run([9.0, 3.0])?.allclose(&cfg, 1e-3, 1e-3, false));
    }
    Ok(())
}

#[test]
fn cfg_plus_plus_without_scale_is_the_negative_prompt() -> Result<()> {
    for source in [Source::embedded, Source::embedded_flow] {
        let none = latents_of(source(), |request| request.negative("a house").combine(CfgPlusPlus::new(0.0)))?;
        let pipeline = Pipeline::builder().source(source()).build()?;
        let alone = pipeline.request("a house").seed(7).steps(3).solver(Euler).guidance_scale(1.0).run()?;
        assert!(none.allclose(&alone.latents, 1e-3, 1e-3, false));
    }
    Ok(())
}

#[test]
fn zeros_of_a_flow_leave_the_noise() -> Result<()> {
    let run = |zero_steps| {
        latents_of(Source::embedded_flow(), |request| request.combine(CfgZeroStar { scale: 4.0, zero_steps }))
    };
    let all = run(3)?;
    let noise = Noise::seeded(7).draw(&all.size())?;
    assert!(all.allclose(&noise, 1e-4, 1e-4, false));
    assert!(!run(1)?.allclose(&noise, 0.1, 0.1, false));
    Ok(())
}
