//! Tests that compare runs in bf16 with runs in f32.

use super::judge::Judge;
use impasto::attention::Tap;
use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Denoiser, Input, Noise};
use impasto::methods::ColorForce;
use impasto::saliency::{Daam, DaamRun};
use impasto::{Branch, Codec, Pipeline, Raster, Result, Rgb, Step};
use impasto_yardstick::statistics::median;
use tch::{Kind, Tensor};

const PORTRAIT: &str = "1girl, eyes, hair bow, hair, skin, shirt, background";
const GOLD: Rgb = Rgb(255, 215, 0);

#[test]
fn hooks_and_forces_work_in_half_precision() -> Result<()> {
    use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest};
    use impasto::{Branch, Codec};
    use tch::{Kind, Tensor};

    /// A hook that mixes single-precision tensors into everything that hooks may edit.
    struct Mixed(Tensor);
    impl CrossAttentionHook for Mixed {
        fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
            let edits = Interest::CONTEXT | Interest::SCORES | Interest::OUTPUT;
            if site.is_cross() && branch == Branch::Cond { edits } else { Interest::NONE }
        }
        fn context(&mut self, _: &At, context: &mut Tensor) -> Result<()> {
            *context = Tensor::f_cat(&[&context.f_to_kind(Kind::Float)?, &self.0], 1)?;
            Ok(())
        }
        fn output(&mut self, at: &At, output: &mut Tensor) -> Result<()> {
            *output = &*output * Tensor::from(0.9f32) + at.attend(&self.0)? * 0.1;
            *output = output.to_kind(Kind::Float);
            Ok(())
        }
    }
    let pipeline = Pipeline::builder().precision(Kind::BFloat16).build()?;
    let context = pipeline.model().text("a red boat".into())?.context;
    let force = ColorForce::published("eyes", GOLD).color_var(15.0);
    let request = pipeline.request(PORTRAIT).seed(7).steps(10).guide(force.clone()).guide(Daam::of("eyes"));
    let output = request.hook(Mixed(context)).run()?;
    assert!(output.details::<DaamRun>("eyes")?.heat_map(0)?.max()? > 0.0);
    let forced = pipeline.request(PORTRAIT).seed(7).steps(14).guide(force).run()?;
    assert!(Judge::new().look(forced.image(0)?)?.color("eyes").is_some_and(|eyes| eyes.delta_e(GOLD) < 20.0));
    Ok(())
}

#[test]
fn bf16_gives_the_same_picture_and_exact_colors() -> Result<()> {
    let (judge, exact) = (Judge::new(), Pipeline::builder().build()?);
    let fast = Pipeline::builder().precision(Kind::BFloat16).build()?;
    let (mut errors, mut apart, mut missed, mut decoded) = (vec![], vec![], vec![], vec![]);
    for seed in 0..2 {
        // Predictions of both networks for the same latent.
        let x = Noise::seeded(seed).draw(&[1, 4, 32, 32])? * 3.0;
        let step = Step::new(0, 1, 3.0, 0.0, 600.0);
        let noise = |pipeline: &Pipeline| -> Result<Tensor> {
            let _no_grad = tch::no_grad_guard();
            let words = pipeline.model().text(PORTRAIT.into())?;
            let inputs = [Input::new(Branch::Cond, &x, &words)];
            pipeline.model().denoise(&step, &inputs, &mut Tap::none())?.eps(Branch::Cond)
        };
        let (want, got) = (noise(&exact)?, noise(&fast)?);
        errors.push(((got - &want).norm() / want.norm()).double_value(&[]));
        // A whole run of each network. A run with a forced color in bf16 follows below.
        let plain = exact.request(PORTRAIT).seed(seed).steps(14).solver(Euler).run()?;
        let alike = fast.request(PORTRAIT).seed(seed).steps(14).solver(Euler).run()?;
        // Compares every pixel of the same latents, decoded in either precision.
        let again = Raster::from_tensor(&fast.model().decode(&plain.latents)?)?;
        decoded.extend(deltas(plain.image(0)?, &again));
        apart.push(judge.look(plain.image(0)?)?.change_outside(&judge.look(alike.image(0)?)?, "eyes"));
        let forced = fast.request(PORTRAIT).seed(seed).steps(14).guide(ColorForce::exact("eyes", GOLD)).run()?;
        missed.push(judge.look(forced.image(0)?)?.color("eyes").map_or(f64::INFINITY, |eyes| eyes.delta_e(GOLD)));
    }
    decoded.sort_by(f64::total_cmp);
    let [middle, high, most] = [0.5, 0.99, 1.0].map(|share| decoded[((decoded.len() - 1) as f64 * share) as usize]);
    println!(
        "prediction off by {:.4}, pictures by {:.2}, eyes by {:.2}; decoding alone {middle:.2}, 99 % of pixels {high:.2}, at most {most:.1}",
        median(errors.clone()),
        median(apart.clone()),
        median(missed.clone())
    );
    assert!(median(errors) < 0.01 && median(apart) < 1.0 && median(missed) < 4.0);
    assert!(middle < 1.0 && high < 4.0);
    Ok(())
}

/// CIEDE2000 between two pictures, pixel by pixel.
fn deltas(a: &Raster, b: &Raster) -> Vec<f64> {
    let colors = |picture: &Raster| -> Vec<Rgb> {
        let (pixels, _) = picture.bytes().as_chunks::<3>();
        pixels.iter().map(|&[red, green, blue]| Rgb(red, green, blue)).collect()
    };
    colors(a).into_iter().zip(colors(b)).map(|(a, b)| a.delta_e(b)).collect()
}
