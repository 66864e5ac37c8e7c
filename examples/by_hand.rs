//! Runs the sampling loop by hand, with the parts that the pipeline is made of.

use impasto::attention::Tap;
use impasto::diffusion::{Denoiser, Input, Noise, Schedule, Spacing};
use impasto::guidance::{Cfg, Combine};
use impasto::{Branch, Codec, Model, Raster, Result, Source};

fn main() -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let model = Model::load(&Source::embedded())?;
    let (cond, uncond) = (model.text("a red boat, navy sky, green ground".into())?, model.text("".into())?);
    let schedule = Schedule::new(model.training_schedule(), 20, Spacing::Leading)?;
    let mut x = Noise::seeded(7).draw(&[1, 4, 32, 32])? * schedule.initial_scale();
    for step in schedule.steps() {
        let inputs = [Input::new(Branch::Uncond, &x, &uncond), Input::new(Branch::Cond, &x, &cond)];
        let predictions = model.denoise(&step, &inputs, &mut Tap::none())?;
        let x0 = Cfg(5.5).combine(&step, &predictions)?;
        x = &x0 + (&x - &x0) * (step.to / step.from); // Euler
    }
    Raster::from_tensor(&model.decode(&x)?)?.save("by_hand.png")?;
    println!("by_hand.png");
    Ok(())
}
