//! A controller that adjusts the color variance of a force during the run.

use super::measure::{Measured, measure};
use super::options::Feedback;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::guidance::Setup;
use crate::latent_colors::LatentColors;
use crate::step::Step;
use tch::{Kind, Tensor};

/// Number of cells below which a region is too small to measure its color.
const LEAST: f64 = 8.0;
/// Lower limit of c for a force that flattens the texture.
const FLAT_FLOOR: f64 = 15.0;
/// Number of levels per color channel to which the linear map is fitted.
const LEVELS: usize = 4;
/// Side in pixels of the flat pictures to which the linear map is fitted.
const SIDE: i64 = 64;
/// Root-mean-square CIEDE2000 over the 64 colors above which the linear map fits too badly for feedback.
const MISFIT: f64 = 12.0;
/// Timestep below which c is frozen once the color was met in three measurements in a row.
const SETTLED: f64 = 100.0;

impl Feedback {
    pub(super) fn check(&self) -> Result<()> {
        let (low, high) = self.limits;
        let rows = [
            ("feedback.goal", self.goal, (0.1..=20.0).contains(&self.goal), "CIEDE2000 of .1 to 20; .75 is usual"),
            ("feedback.span", self.span, self.span.is_finite() && self.span > 0.0, "a number above 0; 5 is usual"),
            (
                "feedback.gain",
                self.gain,
                self.gain > 0.0 && self.gain <= 2.0,
                "a number above 0 and up to 2; 1 is usual",
            ),
            ("feedback.relax", self.relax, (0.0..=1.0).contains(&self.relax), "0 to 1; .25 is usual"),
            (
                "feedback.limits",
                low,
                low > 0.0 && low <= high && high.is_finite(),
                "a first limit above 0 and at most the second one, which must be finite",
            ),
        ];
        match rows.into_iter().find(|(_, _, fits, _)| !fits) {
            Some((name, value, _, expected)) => Err(Error::parameter(name, value, expected)),
            None => Ok(()),
        }
    }

    /// Returns this feedback with limits of at least `FLAT_FLOOR` if the force flattens the texture.
    pub(super) fn floored(mut self, flattens: bool) -> Self {
        if flattens {
            self.limits = (self.limits.0.max(FLAT_FLOOR), self.limits.1.max(FLAT_FLOOR));
        }
        self
    }
}

/// The feedback of one run.
#[derive(Debug)]
pub(super) struct Controlled {
    feedback: Feedback,
    images: Vec<Controller>,
    colors: LatentColors,
}

/// The controller of one image's color variance.
#[derive(Clone, Debug)]
struct Controller {
    color_var: f64,
    /// The last measurement as (CIEDE2000, the c that led to it); `best` is the measurement with the smallest
    /// CIEDE2000.
    last: Option<(f64, f64)>,
    best: Option<(f64, f64)>,
    /// Number of consecutive measurements that met the color; `worse` counts consecutive measurements that got worse
    /// although c fell.
    met: u32,
    worse: u32,
    frozen: bool,
    diverged: bool,
}

impl Controller {
    const fn new(color_var: f64) -> Self {
        Self { color_var, last: None, best: None, met: 0, worse: 0, frozen: false, diverged: false }
    }

    /// Updates c after a measurement of `delta_e` under the present c. `timestep` is that of Stable Diffusion with
    /// the measured step's noise level.
    fn update(&mut self, feedback: &Feedback, delta_e: f64, timestep: f64) {
        if self.frozen {
            return;
        }
        self.met = if delta_e <= feedback.goal { self.met + 1 } else { 0 };
        let fell = self.last.is_some_and(|(_, before)| self.color_var < before);
        let grew = self.last.is_some_and(|(before, _)| delta_e > before);
        self.worse = if grew && fell { self.worse + 1 } else { 0 };
        if self.best.is_none_or(|(best, _)| delta_e < best) {
            self.best = Some((delta_e, self.color_var));
        }
        self.last = Some((delta_e, self.color_var));
        if self.worse >= 4 {
            self.color_var = self.best.map_or(self.color_var, |(_, color_var)| color_var);
            (self.frozen, self.diverged) = (true, true);
            return;
        }
        if self.met >= 3 && timestep < SETTLED {
            self.frozen = true;
            return;
        }
        let u = ((delta_e - feedback.goal) / feedback.span).clamp(-1.0, 1.0);
        let u = if u < 0.0 { u * feedback.relax } else { u };
        let (low, high) = feedback.limits;
        self.color_var = (self.color_var * (-feedback.gain * u).exp()).clamp(low, high);
    }
}

impl Controlled {
    /// Starts every image at `color_var`, clamped to the limits.
    pub(super) fn new(feedback: Feedback, color_var: f64, setup: &Setup<'_>) -> Result<Self> {
        let (low, high) = feedback.limits;
        let images = vec![Controller::new(color_var.clamp(low, high)); setup.images as usize];
        Ok(Self { feedback, images, colors: LatentColors::fit(setup.codec, LEVELS, SIDE)? })
    }

    /// Returns the linear map's error in CIEDE2000 if the error is too large for feedback.
    pub(super) fn misfit(&self) -> Option<f64> {
        Some(self.colors.misfit()).filter(|misfit| *misfit > MISFIT)
    }

    /// Returns c of every image.
    pub(super) fn color_vars(&self) -> Vec<f64> {
        self.images.iter().map(|image| image.color_var).collect()
    }

    /// Returns the images whose color got worse while the force grew; their c is frozen at its best value.
    pub(super) fn diverged(&self) -> impl Iterator<Item = usize> {
        self.images.iter().enumerate().filter(|(_, image)| image.diverged).map(|(image, _)| image)
    }

    /// Measures the model's clean latent `x0`, [n, c, h, w], under `mask`, [n or 1, 1, h, w], and updates c of each
    /// image. An image keeps its c if its mask has too few cells. All images do if the linear map fits too badly.
    pub(super) fn look(&mut self, x0: &Tensor, mask: &Tensor, step: &Step, settings: &Settings) -> Result<()> {
        if self.misfit().is_some() {
            return Ok(());
        }
        let rows = mask.size4()?.0;
        for (image, controller) in (0i64..).zip(&mut self.images) {
            let mask = mask.f_select(0, image.min(rows - 1))?.f_select(0, 0)?.f_ge(0.5)?;
            if mask.f_sum(Kind::Double)?.f_double_value(&[])? < LEAST {
                continue;
            }
            let measured = color_under(&self.colors, &x0.f_select(0, image)?, &mask, settings)?;
            if !measured.delta_e.is_finite() {
                let what = format!("the color of \"{}\" that feedback measures", settings.phrase);
                return Err(Error::NonFinite { what, step: step.index });
            }
            controller.update(&self.feedback, measured.delta_e, step.sd_timestep);
        }
        Ok(())
    }
}

/// Measures the color of one image's latent, [c, h, w], under `mask`, [h, w] booleans. Each cell counts as one pixel,
/// so the statistic is the same as in the picture.
fn color_under(colors: &LatentColors, latent: &Tensor, mask: &Tensor, settings: &Settings) -> Result<Measured> {
    let inside = mask.f_flatten(0, -1)?.f_nonzero()?.f_flatten(0, -1)?;
    let cells = latent.f_flatten(1, -1)?.f_index_select(1, &inside)?.f_transpose(0, 1)?; // [cells, 4]
    measure(&colors.of(&cells)?, settings.options.stat, settings.color)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_controller_equals_the_reference_row_by_row() {
        let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/specs/forcing.json")).unwrap();
        let trace = golden["controller"][0]["trace"].as_array().unwrap();
        let feedback = Feedback::default();
        let mut controller = Controller::new(40.0);
        for row in trace {
            let [c, e, next] = ["c", "e", "c_next"].map(|name| row[name].as_f64().unwrap());
            assert!((controller.color_var - c).abs() < 1e-6 * c);
            // The reference never freezes c, so the counters that freeze it are reset.
            (controller.met, controller.worse) = (0, 0);
            controller.update(&feedback, e, 500.0);
            assert!((controller.color_var - next).abs() < 1e-6 * next, "{} is not {next}", controller.color_var);
        }
        assert!(trace.len() > 10);
    }

    #[test]
    fn controller_freezes_when_met_late_or_worse() {
        let feedback = Feedback::default();
        let mut met = Controller::new(1.0);
        for timestep in [150.0, 110.0, 90.0] {
            met.update(&feedback, 0.5, timestep);
        }
        let stays = met.color_var;
        met.update(&feedback, 30.0, 50.0);
        assert_eq!((met.frozen, met.color_var), (true, stays));

        let mut worse = Controller::new(40.0);
        worse.update(&feedback, 10.0, 600.0);
        worse.update(&feedback, 9.0, 570.0); // the best measurement
        for delta_e in [11.0, 13.0, 15.0, 17.0] {
            worse.update(&feedback, delta_e, 500.0);
        }
        assert!(worse.diverged && worse.frozen);
        assert_eq!(Some(worse.color_var), worse.best.map(|(_, color_var)| color_var));
        assert_eq!(worse.best.map(|(delta_e, _)| delta_e), Some(9.0));
    }

    #[test]
    fn feedback_without_texture_keeps_c_at_15_or_more() {
        let feedback = Feedback::default().floored(true);
        let mut controller = Controller::new(40.0);
        (0..20).for_each(|_| controller.update(&feedback, 60.0, 500.0));
        assert_eq!(controller.color_var, 15.0);
        assert!(Feedback { goal: 0.0, ..feedback }.check().is_err());
        assert!(Feedback { limits: (2.0, 1.0), ..feedback }.check().is_err());
        assert!(Feedback { gain: f64::NAN, ..feedback }.check().is_err());
        assert!(feedback.check().is_ok());
    }
}
