//! Timesteps, noise and loss weights, which the tasks of all denoisers share.

use impasto::Result;
use impasto::diffusion::{Noise, Prediction, TrainingSchedule};
use rand::Rng;
use tch::{Device, Kind, Tensor};

/// Signal-to-noise ratio above which losses are weighted down (Hang et al. 2023, "min-SNR").
const SNR: f64 = 5.0;
/// Numbers of patches along each side of the noise that have a mean of their own: the whole, halves and quarters.
const PATCHES: [i64; 3] = [1, 2, 4];
/// Names of the held-out losses by quarters of the timesteps.
const LEVELS: [&str; 4] = ["held-out 0-250", "held-out 250-500", "held-out 500-750", "held-out 750-1000"];

/// A noise schedule and the prediction type of a network.
#[derive(Debug)]
pub(super) struct Denoising {
    pub table: TrainingSchedule,
    pub prediction: Prediction,
}

/// Noised latents, and the network's target output for them.
pub(super) struct Noised {
    /// Input of the network, [n, c, h, w].
    pub sample: Tensor,
    /// Target output of the network, [n, c, h, w].
    pub target: Tensor,
    /// Timesteps, [n].
    pub timesteps: Tensor,
}

impl Denoising {
    /// Returns random timesteps for a batch, spread evenly. Without the spread, the loss would vary more from batch to
    /// batch.
    pub(super) fn timesteps(&self, rng: &mut impl Rng, batch: usize) -> Vec<usize> {
        let count = self.table.len();
        let at = |i: usize, shift: f64| (i as f64 + shift) / batch.max(1) as f64;
        (0..batch).map(|i| ((at(i, rng.random()) * count as f64) as usize).min(count.saturating_sub(1))).collect()
    }

    /// Returns the timesteps of `count` held-out samples: always the same timesteps, of all levels, in mixed order.
    pub(super) fn spread(&self, count: usize) -> Vec<usize> {
        (0..count).map(|i| i * 389 % count * self.table.len() / count).collect()
    }

    /// Moves timesteps in 0..N up, so that t occurs in proportion to t/N. A hint or a reference determines colors and
    /// outlines, which are settled at high noise levels.
    pub(super) fn later(&self, timesteps: &[usize]) -> Vec<usize> {
        let count = self.table.len().max(1) as f64;
        let later = |t: &usize| (count * ((*t as f64 + 0.5) / count).sqrt()) as usize;
        timesteps.iter().map(|t| later(t).min(count as usize - 1)).collect()
    }

    fn sigma(&self, timestep: usize) -> f64 {
        self.table.sigma_of(timestep as f64)
    }

    /// Adds noise to latents [n, c, h, w], to each row at the noise level of its timestep.
    pub(super) fn noised(&self, x0: &Tensor, noise: &Tensor, timesteps: &[usize]) -> Result<Noised> {
        let (mut samples, mut targets) = (Vec::new(), Vec::new());
        for (row, &timestep) in (0..).zip(timesteps) {
            let (x0, noise, sigma) = (x0.f_narrow(0, row, 1)?, noise.f_narrow(0, row, 1)?, self.sigma(timestep));
            let x = x0.f_add(&noise.f_mul_scalar(sigma)?)?;
            targets.push(self.prediction.output(&x0, &x, sigma)?);
            samples.push(x.f_mul_scalar(self.prediction.input_scale(sigma))?);
        }
        let times: Vec<f32> = timesteps.iter().map(|&t| t as f32).collect();
        let timesteps = Tensor::f_from_slice(&times)?.f_to_device(x0.device())?;
        Ok(Noised { sample: Tensor::f_cat(&samples, 0)?, target: Tensor::f_cat(&targets, 0)?, timesteps })
    }

    /// Returns the weights of a batch's errors, [n]. An error of the clean picture has the weight `clean(σ)`, for every
    /// prediction type.
    pub(super) fn weights(&self, timesteps: &[usize], clean: fn(f64) -> f64, device: Device) -> Result<Tensor> {
        let [zero, one] = [0.0f32, 1.0].map(Tensor::from);
        let weight = |&timestep: &usize| -> Result<f32> {
            let sigma = self.sigma(timestep);
            // Change of the output for a change of the clean picture by one.
            let slope = self.prediction.output(&one, &zero, sigma)?.f_double_value(&[])?;
            Ok((clean(sigma) / (slope * slope)) as f32)
        };
        let weights = timesteps.iter().map(weight).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_from_slice(&weights)?.f_to_device(device)?)
    }

    /// Returns the means of held-out errors, over all timesteps and over each quarter of the timesteps.
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

/// Returns the weight of an error of the clean picture: the signal-to-noise ratio, at most `SNR`.
pub(super) fn min_snr(sigma: f64) -> f64 {
    sigma.powi(-2).min(SNR)
}

/// Returns the weight of an error of the clean picture in tasks with a hint or a reference. A weight by the
/// signal-to-noise ratio would nearly ignore the timesteps in which colors and outlines are settled.
pub(super) fn early(sigma: f64) -> f64 {
    1.0 / (1.0 + sigma)
}

/// Returns the mean squared error of each row of a network's output, [n] f32.
pub(super) fn errors(out: &Tensor, target: &Tensor) -> Result<Tensor> {
    let off = out.f_to_kind(Kind::Float)?.f_sub(target)?;
    Ok(off.f_square()?.f_mean_dim([1, 2, 3].as_slice(), false, Kind::Float)?)
}

/// Returns noise for latents [n, c, h, w]. Each channel of each patch also has a mean of its own, of deviation
/// `offset`.
///
/// Plain noise averages out over a large patch, so layout and flat colors of a picture show through even at the last
/// timestep. Sampling begins at this timestep without layout and colors. A network that was trained on plain noise
/// misreads this start. Guttenberg (2023, "offset noise") gives such a mean to the whole picture.
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
