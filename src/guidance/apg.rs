//! [`Apg`]: guidance without its part along the prediction.

use super::cfg::OF_IMAGE;
use super::{Cfg, Combine};
use crate::branch::{Branch, BranchInfo};
use crate::diffusion::Predictions;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use tch::{Kind, Tensor};

/// Least norm by which a prediction is divided.
const LEAST: f64 = 1e-12;

/// Adaptive projected guidance: classifier-free guidance whose change is divided into two parts. The part along the
/// network's output for the prompt saturates colors at large scales. The part at right angles to it improves the
/// picture.
///
/// With d = cond − uncond, the result is uncond + scale · (d⊥ + parallel · d∥). All are outputs of the network, and
/// lengths are those of one image. Before d is divided, it is added to `momentum` times the sum of the evaluations
/// before, and shortened to the length `threshold`. At a scale of 1 and below there is no guidance, as with [`Cfg`].
///
/// ```
/// use impasto::Pipeline;
/// use impasto::guidance::Apg;
///
/// # fn main() -> impasto::Result<()> {
/// let pipeline = Pipeline::builder().build()?;
/// pipeline.request("a red boat").seed(7).steps(2).combine(Apg::new(7.5).parallel(0.3)).run()?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Error::Parameter`] at the start of a run for a scale that [`Cfg`] rejects, a number that is not finite, a negative
/// threshold, or a momentum outside −1..1.
///
/// Source: Sadat et al., "Eliminating Oversaturation and Artifacts of High Guidance Scales in Diffusion Models" (2024,
/// arXiv 2410.02416), computed on outputs of the network as diffusers does. [`clean`](Apg::clean) computes as the paper
/// does.
#[derive(Debug, Serialize, Deserialize)]
pub struct Apg {
    scale: f64,
    parallel: f64,
    threshold: f64,
    momentum: f64,
    /// True for the paper's formula on clean pictures.
    #[serde(default)]
    clean: bool,
    /// Sum of the changes of the evaluations before.
    #[serde(skip)]
    sum: RefCell<Option<Tensor>>,
}

impl Apg {
    /// Creates guidance with a scale; 7.5 is usual, and larger scales up to 15 work. The part along the prediction is
    /// left out, changes are shortened to a length of 15, and there is no momentum.
    #[must_use]
    pub const fn new(scale: f64) -> Self {
        Self { scale, parallel: 0.0, threshold: 15.0, momentum: 0.0, clean: false, sum: RefCell::new(None) }
    }

    /// Sets the share of the part along the prediction: from 0, none of it, to 1, that of classifier-free guidance.
    #[must_use]
    pub const fn parallel(mut self, share: f64) -> Self {
        self.parallel = share;
        self
    }

    /// Sets the largest length of a change; 2.5 to 15 is usual for latents of 64×64 cells, and 0 is no limit.
    #[must_use]
    pub const fn threshold(mut self, length: f64) -> Self {
        self.threshold = length;
        self
    }

    /// Sets the share of the sum of earlier changes that is added to a change. A negative share, such as −0.5, pushes
    /// away from the direction of the earlier evaluations.
    #[must_use]
    pub const fn momentum(mut self, share: f64) -> Self {
        self.momentum = share;
        self
    }

    /// Guides as the source does: all predictions are clean pictures, and the result is cond + (scale − 1) · (d⊥ +
    /// parallel · d∥). The prompt's own picture thus keeps its part along itself, which is left out otherwise.
    #[must_use]
    pub const fn clean(mut self) -> Self {
        self.clean = true;
        self
    }
}

impl Combine for Apg {
    fn begin(&mut self, branches: &[BranchInfo]) -> Result<()> {
        self.sum.replace(None);
        let numbers = [
            ("Apg::parallel", self.parallel, self.parallel.is_finite(), "a finite number; 0 to 1 is usual"),
            ("Apg::threshold", self.threshold, (0.0..f64::INFINITY).contains(&self.threshold), "0 (no limit) or more"),
            ("Apg::momentum", self.momentum, self.momentum.abs() < 1.0, "a number between -1 and 1; 0 is none"),
        ];
        match numbers.into_iter().find(|(_, _, is_right, _)| !is_right) {
            Some((name, value, _, expected)) => Err(Error::parameter(name, value, expected)),
            None => Cfg(self.scale).begin(branches),
        }
    }

    fn branches(&self, step: &Step) -> Vec<Branch> {
        Cfg(self.scale).branches(step)
    }

    fn combine(&self, _: &Step, predictions: &Predictions) -> Result<Tensor> {
        let cond = predictions.x0(Branch::Cond)?;
        if self.scale <= 1.0 {
            return Ok(cond.shallow_clone());
        }
        let output = |branch| {
            let x0 = predictions.x0(branch)?;
            if self.clean { Ok(x0.shallow_clone()) } else { predictions.output(branch, x0) }
        };
        let (cond, uncond) = (output(Branch::Cond)?, output(Branch::Uncond)?);
        let mut change = cond.f_sub(&uncond)?;
        if self.momentum != 0.0 {
            if let Some(sum) = self.sum.borrow().as_ref().filter(|sum| sum.size() == change.size()) {
                change = change.f_add(&sum.f_mul_scalar(self.momentum)?)?;
            }
            self.sum.replace(Some(change.shallow_clone()));
        }
        let length = |x: &Tensor| x.f_square()?.f_sum_dim_intlist(&OF_IMAGE[..], true, Kind::Double)?.f_sqrt();
        if self.threshold > 0.0 {
            let share = length(&change)?.f_clamp_min(LEAST)?.f_reciprocal()?.f_mul_scalar(self.threshold)?;
            change = change.f_mul(&share.f_clamp_max(1.0)?.f_to_kind(change.f_kind()?)?)?;
        }
        let exact = cond.f_to_kind(Kind::Double)?;
        let unit = exact.f_div(&length(&exact)?.f_clamp_min(LEAST)?)?;
        let along = change.f_mul(&unit)?.f_sum_dim_intlist(&OF_IMAGE[..], true, Kind::Double)?.f_mul(&unit)?;
        let change = change.f_add(&along.f_mul_scalar(self.parallel - 1.0)?.f_to_kind(change.f_kind()?)?)?;
        if self.clean {
            return Ok(cond.f_add(&change.f_mul_scalar(self.scale - 1.0)?)?);
        }
        predictions.meaning(Branch::Cond, &uncond.f_add(&change.f_mul_scalar(self.scale)?)?)
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Apg", self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditioning::Conditioning;
    use crate::diffusion::{Input, Prediction};
    use crate::guidance::guiders;
    use tch::Device;

    #[test]
    fn outputs_are_those_of_the_reference() -> Result<()> {
        guiders::compare("apg", Apg::new(7.5).parallel(0.3).threshold(2.5))?;
        guiders::compare("apg_momentum", Apg::new(5.0).momentum(-0.5))?;
        guiders::compare("apg_clean", Apg::new(7.5).parallel(0.3).threshold(2.5).clean())?;
        guiders::compare("apg_unlimited", Apg::new(7.5).parallel(1.0).threshold(0.0))
    }

    #[test]
    fn clean_change_is_at_right_angles_to_the_picture() -> Result<()> {
        guiders::compare("apg_unlimited", Apg::new(7.5).parallel(1.0).threshold(0.0).clean())?;
        let [x, uncond, cond] = [(); 3].map(|()| Tensor::randn([1, 4, 3, 3], (Kind::Double, Device::Cpu)));
        let (step, conditioning) = (Step::new(0, 1, 2.0, 0.0, 500.0), Conditioning::new(Tensor::from(0.0)));
        let inputs = [Branch::Uncond, Branch::Cond].map(|branch| Input::new(branch, &x, &conditioning));
        let x0 = [uncond.shallow_clone(), cond.shallow_clone()];
        let predictions = Predictions::new(&step, &inputs, x0).of(Prediction::Epsilon);
        let along = |apg: Apg| -> Result<f64> {
            Ok(((apg.threshold(0.0).combine(&step, &predictions)? - &cond) * &cond).sum(Kind::Double).double_value(&[]))
        };
        assert!(along(Apg::new(7.5).clean())?.abs() < 1e-9);
        assert!(along(Apg::new(7.5))?.abs() > 1e-3, "outputs have another direction");
        Ok(())
    }

    #[test]
    fn momentum_of_another_run_is_forgotten() -> Result<()> {
        let mut apg = Apg::new(5.0).momentum(-0.5);
        guiders::run("apg_momentum", &mut apg)?;
        guiders::compare("apg_momentum", apg)
    }

    #[test]
    fn wrong_settings_are_errors() {
        let told = |mut apg: Apg| apg.begin(&[]).unwrap_err().to_string();
        assert!(told(Apg::new(7.0).momentum(1.5)).starts_with("Apg::momentum is 1.5"));
        assert!(told(Apg::new(7.0).threshold(-1.0)).starts_with("Apg::threshold is -1"));
        assert!(told(Apg::new(7.0).parallel(f64::NAN)).starts_with("Apg::parallel is NaN"));
        assert!(told(Apg::new(-1.0)).starts_with("guidance_scale is"));
    }
}
