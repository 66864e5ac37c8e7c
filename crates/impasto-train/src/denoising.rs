//! Timesteps, noise and weights of errors, which all trainings of denoisers share.

use impasto::Result;
use impasto::diffusion::{Noise, Prediction, TrainingSchedule};
use rand::Rng;
use tch::{Device, Kind, Tensor};

/// Signal-to-noise ratio from which on losses are weighted down (Hang et al. 2023, "min-SNR").
const SNR: f64 = 5.0;
/// Patches along each side of the noise that are off its mean: the whole, halves and quarters.
const PATCHES: [i64; 3] = [1, 2, 4];
/// Ranges of timesteps whose held-out losses are told apart.
const LEVELS: [&str; 4] = ["held-out 0-250", "held-out 250-500", "held-out 500-750", "held-out 750-1000"];

/// Noise levels, and what a network predicts at them.
#[derive(Debug)]
pub(super) struct Denoising {
    pub table: TrainingSchedule,
    pub prediction: Prediction,
}

/// Latents with noise in them, and what a network is to make of them.
pub(super) struct Noised {
    /// The network's input, [n, c, h, w].
    pub sample: Tensor,
    /// The output that it is to give, likewise.
    pub target: Tensor,
    /// Timesteps, [n].
    pub timesteps: Tensor,
}

impl Denoising {
    /// Random timesteps for a batch, spread evenly: a batch that happens to have little noise would move the loss, not the weights.
    pub(super) fn timesteps(&self, rng: &mut impl Rng, batch: usize) -> Vec<usize> {
        let count = self.table.len();
        let at = |i: usize, shift: f64| (i as f64 + shift) / batch.max(1) as f64;
        (0..batch).map(|i| ((at(i, rng.random()) * count as f64) as usize).min(count.saturating_sub(1))).collect()
    }

    /// Timesteps of `count` held-out samples: always the same ones, of all levels, in no order.
    pub(super) fn spread(&self, count: usize) -> Vec<usize> {
        (0..count).map(|i| i * 389 % count * self.table.len() / count).collect()
    }

    /// Timesteps in 0..N moved up, so that t comes as often as t/N says: colors and outlines, which a hint or a reference tells of, are
    /// settled while there is much noise.
    pub(super) fn later(&self, timesteps: &[usize]) -> Vec<usize> {
        let count = self.table.len().max(1) as f64;
        let later = |t: &usize| (count * ((*t as f64 + 0.5) / count).sqrt()) as usize;
        timesteps.iter().map(|t| later(t).min(count as usize - 1)).collect()
    }

    fn sigma(&self, timestep: usize) -> f64 {
        self.table.sigma_of(timestep as f64)
    }

    /// Puts noise into latents [n, c, h, w], each as much as its timestep has.
    pub(super) fn noised(&self, x0: &Tensor, noise: &Tensor, timesteps: &[usize]) -> Result<Noised> {
        let (mut samples, mut targets) = (Vec::new(), Vec::new());
        for (row, &timestep) in (0..).zip(timesteps) {
            let (x0, noise, sigma) = (x0.f_narrow(0, row, 1)?, noise.f_narrow(0, row, 1)?, self.sigma(timestep));
            let x = x0.f_add(&noise.f_mul_scalar(sigma)?)?;
            targets.push(self.prediction.output(&x0, &x, sigma)?);
            samples.push(x.f_mul_scalar(Prediction::input_scale(sigma))?);
        }
        let times: Vec<f32> = timesteps.iter().map(|&t| t as f32).collect();
        let timesteps = Tensor::f_from_slice(&times)?.f_to_device(x0.device())?;
        Ok(Noised { sample: Tensor::f_cat(&samples, 0)?, target: Tensor::f_cat(&targets, 0)?, timesteps })
    }

    /// Weights of the errors of a batch, [n]: those of the clean picture count as much as `clean` says of the noise's deviation,
    /// whatever the network predicts.
    pub(super) fn weights(&self, timesteps: &[usize], clean: fn(f64) -> f64, device: Device) -> Result<Tensor> {
        let [zero, one] = [0.0f32, 1.0].map(Tensor::from);
        let weight = |&timestep: &usize| -> Result<f32> {
            let sigma = self.sigma(timestep);
            // What the output changes by as the clean picture changes by one.
            let slope = self.prediction.output(&one, &zero, sigma)?.f_double_value(&[])?;
            Ok((clean(sigma) / (slope * slope)) as f32)
        };
        let weights = timesteps.iter().map(weight).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_from_slice(&weights)?.f_to_device(device)?)
    }

    /// Means of held-out errors, over all timesteps and over each quarter of them.
    pub(super) fn figures(&self, errors: &[(usize, f32)]) -> Vec<(&'static str, f64)> {
        let mean = |level: Option<usize>| {
            let chosen =
                errors.iter().filter(|(t, _)| level.is_none_or(|level| t * LEVELS.len() / self.table.len() == level));
            let (sum, n) = chosen.fold((0.0, 0), |(sum, n), (_, error)| (sum + f64::from(*error), n + 1));
            sum / f64::from(n.max(1))
        };
        let levels = LEVELS.iter().enumerate().map(|(level, name)| (*name, mean(Some(level))));
        [("held-out error", mean(None))].into_iter().chain(levels).collect()
    }
}

/// Weight of an error of the clean picture: the signal-to-noise ratio, up to a limit.
pub(super) fn min_snr(sigma: f64) -> f64 {
    sigma.powi(-2).min(SNR)
}

/// Weight of an error of the clean picture where a hint or a reference tells of it: a weight by the signal-to-noise ratio would hardly
/// count the timesteps in which colors and outlines are settled.
pub(super) fn early(sigma: f64) -> f64 {
    1.0 / (1.0 + sigma)
}

/// Mean squared errors of a network's output, one for each row, [n] f32.
pub(super) fn errors(out: &Tensor, target: &Tensor) -> Result<Tensor> {
    let off = out.f_to_kind(Kind::Float)?.f_sub(target)?;
    Ok(off.f_square()?.f_mean_dim([1, 2, 3].as_slice(), false, Kind::Float)?)
}

/// Noise for latents [n, c, h, w]. Each channel of each patch has a mean of deviation `offset` on top of its own: a large patch of plain
/// noise averages out, so that a picture's layout and flat colors show through the noise even of the last timestep, where a run
/// begins without them; what was learned there is then wrong. Guttenberg (2023, "offset noise") gives the whole picture such a mean.
pub(super) fn noise(source: &mut Noise, x0: &Tensor, offset: f64) -> Result<Tensor> {
    let (n, c, h, w) = x0.size4()?;
    let mut noise = source.draw(&[n, c, h, w])?;
    if offset > 0.0 {
        for patches in PATCHES {
            let means = source.draw(&[n, c, patches, patches])?.f_upsample_nearest2d([h, w].as_slice(), None, None)?;
            noise = noise.f_add(&means.f_mul_scalar(offset)?)?;
        }
    }
    Ok(noise.f_to_device(x0.device())?)
}
