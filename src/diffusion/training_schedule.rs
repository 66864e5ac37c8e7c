//! [`TrainingSchedule`]: the noise levels that a model was trained at.

use crate::error::{Error, Result};
use crate::step::Process;
use std::sync::LazyLock;

/// The noise levels that a model was trained at, one per training timestep, rising.
///
/// Levels are σ of x = x0 + σ·noise with σ² = (1 − ᾱ)/ᾱ, where ᾱ is the product of 1 − β up to the timestep. ᾱ equals
/// torch's bit for bit, and σ equals torch's to the last f32 digit. A table in f64 would turn some timesteps into their
/// neighbors.
///
/// ```
/// use impasto::diffusion::TrainingSchedule;
///
/// let table = TrainingSchedule::stable_diffusion();
/// assert!((table.sigma_of(999.0) - 14.6146).abs() < 1e-4);
/// assert_eq!(table.timestep_of(1e6), 999.0);   // a level above the table has the last timestep
/// ```
///
/// Source: diffusers' schedulers; k-diffusion's `DiscreteSchedule` for the interpolation.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingSchedule {
    betas: Vec<f32>,
    alphas_cumprod: Vec<f32>,
    sigmas: Vec<f64>,
    /// ln σ of each level.
    logs: Vec<f64>,
    /// The flow that the levels belong to; `None` if they come from β.
    flow: Option<Flow>,
}

/// Noise level that stands for the start of a flow, t = 1, where σ is infinite. A step from this level leaves nothing
/// of the latent that f32 could show.
const START: f64 = 1e8;

/// Number of training timesteps of a flow.
const FLOW_TIMESTEPS: usize = 1000;

/// Stable Diffusion's levels, by which windows tell times of other models.
static STABLE_DIFFUSION: LazyLock<TrainingSchedule> = LazyLock::new(TrainingSchedule::stable_diffusion);

/// The times of a rectified flow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Flow {
    /// Shift of the training times to high noise.
    pub shift: f64,
    /// Numbers that the network is told for the times 0..=1.
    pub multiplier: f64,
}

impl Flow {
    /// Moves time `t` in 0..=1 to higher noise: shift·t/(1 + (shift − 1)·t).
    ///
    /// Source: Esser et al. (2024), "Scaling Rectified Flow Transformers", equation 23.
    pub(super) fn shift_time(shift: f64, t: f64) -> f64 {
        shift * t / (1.0 + (shift - 1.0) * t)
    }

    /// Returns the noise level σ of a time.
    pub(super) fn sigma(t: f64) -> f64 {
        if t < 1.0 { (t / (1.0 - t)).min(START) } else { START }
    }

    /// Returns the time of a noise level.
    pub(super) fn time(sigma: f64) -> f64 {
        sigma / (1.0 + sigma)
    }

    /// Returns the training time with an index, which counts from 0.
    pub(super) fn training_time(self, index: usize) -> f64 {
        Self::shift_time(self.shift, (index + 1) as f64 / FLOW_TIMESTEPS as f64)
    }
}

impl TrainingSchedule {
    /// Creates a training schedule from the β of each timestep.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless there are two or more values, and every σ is finite and larger than the σ before.
    pub fn new(betas: Vec<f32>) -> Result<Self> {
        Self::of(betas, 0.0).checked()
    }

    /// Creates the training schedule of a rectified flow with 1000 times, which `shift` moves to higher noise: 3 for
    /// Anima and SD 3.x. `multiplier` is the number that the network is told for the time 1: 1000, or 1 for Anima.
    ///
    /// ```
    /// use impasto::diffusion::TrainingSchedule;
    ///
    /// let table = TrainingSchedule::flow(3.0, 1000.0)?;
    /// assert_eq!(table.timestep_of(3.0), 750.0);   // t = σ/(1 + σ)
    /// # Ok::<(), impasto::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Parameter`] unless `shift` is in 0.01..=100 and `multiplier` is positive and finite.
    pub fn flow(shift: f64, multiplier: f64) -> Result<Self> {
        if !(0.01..=100.0).contains(&shift) {
            return Err(Error::parameter("shift", shift, "0.01 to 100; 3 is usual"));
        }
        if !(multiplier > 0.0 && multiplier.is_finite()) {
            return Err(Error::parameter("multiplier", multiplier, "a positive number; 1000 is usual"));
        }
        let flow = Flow { shift, multiplier };
        let sigmas: Vec<f64> = (0..FLOW_TIMESTEPS).map(|index| Flow::sigma(flow.training_time(index))).collect();
        let logs = sigmas.iter().map(|sigma| sigma.ln()).collect();
        Ok(Self { betas: Vec::new(), alphas_cumprod: Vec::new(), sigmas, logs, flow: Some(flow) })
    }

    /// Creates a training schedule in which β rises linearly from `start` to `end` over `count` timesteps.
    ///
    /// # Errors
    /// The errors of [`TrainingSchedule::new`].
    pub(crate) fn linear(count: usize, start: f64, end: f64) -> Result<Self> {
        Self::new(linspace(count, start as f32, end as f32).collect())
    }

    /// Creates a training schedule in which √β rises linearly from √`start` to √`end` over `count` timesteps.
    ///
    /// # Errors
    /// The errors of [`TrainingSchedule::new`].
    pub(crate) fn scaled_linear(count: usize, start: f64, end: f64) -> Result<Self> {
        Self::new(linspace(count, start.sqrt() as f32, end.sqrt() as f32).map(|root| root * root).collect())
    }

    /// Creates a training schedule in which ᾱ falls as cos² (Nichol and Dhariwal, 2021) over `count` timesteps.
    ///
    /// # Errors
    /// The errors of [`TrainingSchedule::new`].
    pub(crate) fn cosine(count: usize) -> Result<Self> {
        let abar = |i: usize| ((i as f64 / count as f64 + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
        Self::new((0..count).map(|i| (1.0 - abar(i + 1) / abar(i)).min(0.999) as f32).collect())
    }

    /// The training schedule of Stable Diffusion (1.x, 2.x and XL): scaled linear from 0.00085 to 0.012 over 1000
    /// timesteps.
    pub fn stable_diffusion() -> Self {
        let roots = linspace(1000, 0.00085f64.sqrt() as f32, 0.012f64.sqrt() as f32);
        Self::of(roots.map(|root| root * root).collect(), 0.0)
    }

    /// Shifts and scales √ᾱ so that the last level is pure noise (Lin et al., 2023, algorithm 1). The last ᾱ is
    /// `floor`, because σ would be infinite for ᾱ = 0. Diffusers' Euler classes use 2⁻²⁴ (σ = 4096). Diffusers' DDIM
    /// and DDPM use 0, for which this crate uses 1e-14 (σ = 1e7).
    ///
    /// # Errors
    /// The errors of [`TrainingSchedule::new`], also if `floor` is not a positive number below the previous level's ᾱ.
    pub(crate) fn zero_terminal_snr(self, floor: f32) -> Result<Self> {
        let roots: Vec<f32> = self.alphas_cumprod.iter().map(|abar| abar.sqrt()).collect();
        let (first, last) = (roots.first().copied().unwrap_or(1.0), roots.last().copied().unwrap_or_default());
        let scale = first / (first - last);
        let alphas_cumprod = roots.iter().map(|root| ((root - last) * scale).powi(2));
        // β = 1 − ᾱ/(ᾱ before)
        let betas = alphas_cumprod.scan(1.0, |before, abar| Some(1.0 - abar / std::mem::replace(before, abar)));
        Self::of(betas.collect(), floor).checked()
    }

    /// Computes ᾱ and σ with torch's f32 arithmetic: the product is computed in f64, and every entry is rounded to f32.
    /// `floor` is the smallest ᾱ.
    fn of(betas: Vec<f32>, floor: f32) -> Self {
        let products = betas.iter().scan(1.0, |product, beta| {
            *product *= f64::from(1.0 - beta);
            Some((*product as f32).max(floor))
        });
        let alphas_cumprod: Vec<f32> = products.collect();
        let sigmas = alphas_cumprod.iter().map(|abar| ((1.0 - abar) / abar).sqrt());
        let (sigmas, logs) = sigmas.map(|sigma| (f64::from(sigma), f64::from(sigma.ln()))).unzip();
        Self { betas, alphas_cumprod, sigmas, logs, flow: None }
    }

    fn checked(self) -> Result<Self> {
        let rises = self.sigmas.is_sorted_by(|a, b| a < b) && self.sigmas.iter().all(|sigma| sigma.is_finite());
        if rises && self.sigmas.len() > 1 {
            return Ok(self);
        }
        let value = match (self.betas.first(), self.betas.last()) {
            (Some(first), Some(last)) => format!("a list of {} numbers from {first:?} to {last:?}", self.betas.len()),
            _ => "empty".into(),
        };
        Err(Error::parameter("betas", value, "two or more numbers between 0 and 1, each large enough to add noise"))
    }

    /// Number of training timesteps.
    #[allow(clippy::len_without_is_empty)] // a schedule has two or more levels
    pub fn len(&self) -> usize {
        self.sigmas.len()
    }

    /// The flow that the levels belong to.
    pub(super) const fn as_flow(&self) -> Option<Flow> {
        self.flow
    }

    /// The noising process that the levels belong to.
    pub const fn process(&self) -> Process {
        if self.flow.is_some() { Process::Flow } else { Process::Diffusion }
    }

    /// The timestep of the highest level.
    pub(super) fn last_timestep(&self) -> f64 {
        self.flow.map_or((self.len() - 1) as f64, |flow| flow.multiplier)
    }

    /// The timestep of Stable Diffusion with the noise level `sigma`, for a flow; otherwise `timestep`.
    pub(super) fn sd_timestep(&self, sigma: f64, timestep: f64) -> f64 {
        if self.flow.is_some() { STABLE_DIFFUSION.timestep_of(sigma) } else { timestep }
    }

    /// β of each timestep; none for a flow.
    pub fn betas(&self) -> &[f32] {
        &self.betas
    }

    /// ᾱ of each timestep, falling: the share of the picture in the variance of a variance-preserving latent; none for
    /// a flow.
    pub fn alphas_cumprod(&self) -> &[f32] {
        &self.alphas_cumprod
    }

    /// The lowest noise level σ.
    pub(crate) fn sigma_min(&self) -> f64 {
        self.sigmas.first().copied().unwrap_or_default()
    }

    /// The highest noise level σ.
    pub(crate) fn sigma_max(&self) -> f64 {
        self.sigmas.last().copied().unwrap_or_default()
    }

    /// The timestep of noise level `sigma`, in 0..=999 for 1000 timesteps, interpolated linearly in ln σ. Levels
    /// outside the table have the timestep of the table's nearest end. The timestep of a flow is a multiple of its time
    /// σ/(1 + σ).
    pub fn timestep_of(&self, sigma: f64) -> f64 {
        if let Some(flow) = self.flow {
            return flow.multiplier * Flow::time(sigma);
        }
        let log = sigma.ln();
        let above = self.logs.partition_point(|&level| level <= log);
        let below = above.saturating_sub(1);
        match (self.logs.get(below), self.logs.get(above)) {
            (Some(&lower), Some(&upper)) if above > 0 => below as f64 + (log - lower) / (upper - lower),
            _ => below as f64,
        }
    }

    /// The noise level σ of a timestep, the reverse of [`TrainingSchedule::timestep_of`].
    pub fn sigma_of(&self, timestep: f64) -> f64 {
        if let Some(flow) = self.flow {
            return Flow::sigma(timestep / flow.multiplier);
        }
        at(&self.logs, timestep).exp()
    }

    /// The noise level of a timestep, interpolated linearly in σ as in diffusers.
    pub(super) fn level(&self, timestep: f64) -> f64 {
        if self.flow.is_some() {
            return self.sigma_of(timestep);
        }
        at(&self.sigmas, timestep)
    }
}

/// `torch.linspace` in f32: computed from both ends toward the middle, with one rounding per value.
fn linspace(count: usize, start: f32, end: f32) -> impl Iterator<Item = f32> {
    let step = (end - start) / (count.max(2) - 1) as f32;
    (0..count).map(move |i| match i < count / 2 {
        true => step.mul_add(i as f32, start),
        false => (-step).mul_add((count - 1 - i) as f32, end),
    })
}

/// The value at a fractional position, interpolated linearly. Positions outside have the value of the nearest end.
fn at(values: &[f64], position: f64) -> f64 {
    let last = values.len().saturating_sub(1) as f64;
    let below = position.max(0.0).min(last).floor();
    match (values.get(below as usize), values.get(below as usize + 1)) {
        (Some(lower), Some(upper)) => lower + (upper - lower) * (position - below).max(0.0),
        (lower, _) => lower.copied().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn golden() -> Value {
        serde_json::from_str(include_str!("../../tests/golden/specs/sampling.json")).unwrap()
    }

    #[test]
    fn tables_match_diffusers() {
        let scaled = || TrainingSchedule::scaled_linear(1000, 0.00085, 0.012).unwrap();
        let tables = [
            ("scaled_linear", scaled()),
            ("linear", TrainingSchedule::linear(1000, 1e-4, 0.02).unwrap()),
            ("squaredcos_cap_v2", TrainingSchedule::cosine(1000).unwrap()),
            ("scaled_linear_zsnr", scaled().zero_terminal_snr(2f32.powi(-24)).unwrap()),
        ];
        let golden = golden();
        for (name, table) in tables {
            let want = &golden["tables"][name];
            for (i, t) in want["t"].as_array().unwrap().iter().enumerate() {
                let t = t.as_u64().unwrap() as usize;
                let (abar, sigma) = (want["abar"][i].as_f64().unwrap(), want["sigma"][i].as_f64().unwrap());
                assert!((f64::from(table.alphas_cumprod()[t]) - abar).abs() <= 1e-9 * abar, "{name} {t}");
                assert!((table.sigmas[t] - sigma).abs() <= 1.5e-7 * sigma, "{name} {t}");
            }
        }
        assert_eq!(scaled(), TrainingSchedule::stable_diffusion());
    }

    #[test]
    fn levels_and_timesteps_convert_both_ways() {
        let (table, golden) = (TrainingSchedule::stable_diffusion(), golden());
        for (sigma, t) in golden["sigma_to_t"].as_object().unwrap() {
            let (sigma, t): (f64, f64) = (sigma.parse().unwrap(), t.as_f64().unwrap());
            assert!((table.timestep_of(sigma) - t).abs() < 1e-5, "{sigma}");
        }
        for t in [0.0, 0.25, 1.0, 499.5, 998.9] {
            assert!((table.timestep_of(table.sigma_of(t)) - t).abs() < 1e-9, "{t}");
            assert!((table.level(t) - table.sigma_of(t)).abs() < 0.05 * table.level(t), "{t}");
        }
        assert_eq!((table.level(-3.0), table.level(2000.0)), (table.sigma_min(), table.sigma_max()));
        assert_eq!((table.timestep_of(0.0), table.timestep_of(f64::NAN)), (0.0, 0.0));
    }

    #[test]
    fn table_that_does_not_rise_is_an_error() {
        for betas in [vec![], vec![0.1], vec![0.1, 0.0], vec![0.1, 1.0], vec![0.1, f32::NAN]] {
            assert!(matches!(TrainingSchedule::new(betas), Err(Error::Parameter { name: "betas", .. })));
        }
        assert!(TrainingSchedule::stable_diffusion().zero_terminal_snr(0.0).is_err());
    }
}
