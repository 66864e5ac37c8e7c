//! Training the UNet.

use super::export::ModelFolder;
use super::{Latents, Loss, Parameters, Rule, Shard, Task};
use impasto::Result;
use impasto::attention::Tap;
use impasto::diffusion::{Noise, TrainingSchedule};
use impasto::nn::{ClipText, UNet, UnetConfig};
use impasto::text::Tokenizer;
use impasto::weights::Tensors;
use impasto::{Pipeline, Raster, Source};
use impasto_report::Sheet;
use rand::Rng;
use std::sync::Arc;
use tch::{Kind, Tensor};

/// Share of captions that are left out, for classifier-free guidance.
const UNPROMPTED: f64 = 0.1;
/// Signal-to-noise ratio from which on losses are weighted down (Hang et al. 2023, "min-SNR").
const SNR: f32 = 5.0;
/// Deviation of the mean that the noise has in each channel of each patch, on top of its own. A large patch of plain noise averages
/// out, so that a picture's layout and flat colors show through the noise even of the last timestep, where a run begins without
/// them: what was learned there is then wrong. Guttenberg (2023, "offset noise") gives the whole picture such a mean.
const OFFSET: f64 = 0.1;
/// Patches along each side of the noise: the whole, halves and quarters.
const PATCHES: [i64; 3] = [1, 2, 4];
/// Ranges of timesteps whose held-out losses are told apart.
const LEVELS: [&str; 4] = ["held-out 0-250", "held-out 250-500", "held-out 500-750", "held-out 750-1000"];

/// Prompts of the sample sheet, with their seed.
const PROMPTS: [&str; 8] = [
    "1girl, gold eyes, pink hair bow, red hair, pale skin, blue shirt, green background",
    "1girl, green eyes, red hair bow, black hair, tan skin, white shirt, lavender background",
    "1boy, blue eyes, brown hair, brown skin, orange shirt, azure background",
    "1girl, eyes, hair bow, hair, skin, shirt, background",
    "a red house and a yellow moon, green ground, navy sky",
    "a blue car, tan ground, white sky",
    "a gold fish and a purple flower, olive ground, azure sky",
    "a white boat and a green tree, blue ground, pink sky",
];

/// Learns to tell noise from latents, with captions drawn anew at every use.
pub struct UnetTask {
    config: UnetConfig,
    /// `config` as its file has it.
    json: String,
    /// Where the rest of the model is; samples are made with what is here.
    model: ModelFolder,
    text_encoder: ClipText,
    tokenizer: Tokenizer,
    latents: Arc<Latents>,
    held_out: Arc<Latents>,
    table: TrainingSchedule,
    batch: usize,
    kind: Kind,
}

impl UnetTask {
    /// A task whose shards are of `batch` latents, for a UNet of the configuration `json`. `model` has the text encoder and
    /// everything else that a sample needs; every evaluation puts the UNet there.
    ///
    /// # Errors
    /// Those of [`UnetConfig::from_json`] and of loading the text encoder and the tokenizer.
    pub fn new(
        json: &str,
        model: ModelFolder,
        latents: Arc<Latents>,
        held_out: Arc<Latents>,
        batch: usize,
        kind: Kind,
    ) -> Result<Self> {
        let (tokenizer, text_encoder) = model.text()?;
        let (config, table) = (UnetConfig::from_json("unet/config.json", json)?, TrainingSchedule::stable_diffusion());
        Ok(Self { config, json: json.into(), model, text_encoder, tokenizer, latents, held_out, table, batch, kind })
    }

    /// Weights to begin with: residual branches silent, and a prediction of zero.
    ///
    /// # Errors
    /// Those of [`UNet::new`].
    pub fn initial(config: &UnetConfig, seed: u64) -> Result<Tensors> {
        let mut weights = Parameters::random(seed, |w| UNet::new(w, config))?;
        for (name, x) in &mut weights {
            if name.ends_with("conv2.weight") || name.ends_with("proj_out.weight") || name == "conv_out.weight" {
                let _ = x.f_zero_()?;
            }
        }
        Ok(weights)
    }

    /// Mean squared errors of the predicted noise, [n].
    fn errors(
        &self,
        unet: &UNet,
        x0: &Tensor,
        noise: &Tensor,
        timesteps: &[usize],
        captions: &[&str],
    ) -> Result<Tensor> {
        let column = |f: fn(f32) -> f32| -> Result<Tensor> {
            let values: Vec<f32> = timesteps.iter().map(|&t| f(self.abar(t))).collect();
            Ok(Tensor::f_from_slice(&values)?.f_view([-1, 1, 1, 1])?)
        };
        let x = x0.f_mul(&column(f32::sqrt)?)?.f_add(&noise.f_mul(&column(|abar| (1.0 - abar).sqrt())?)?)?;
        let times: Vec<f32> = timesteps.iter().map(|&t| t as f32).collect();
        let context = self.context(captions)?;
        let eps = unet.forward(&x, &Tensor::f_from_slice(&times)?, &context, None, &mut Tap::none())?;
        Ok(eps.f_sub(noise)?.f_square()?.f_mean_dim([1, 2, 3].as_slice(), false, Kind::Float)?)
    }

    fn abar(&self, timestep: usize) -> f32 {
        self.table.alphas_cumprod().get(timestep).copied().unwrap_or_default()
    }

    /// What the text encoder makes of captions, [n, 77, width].
    fn context(&self, captions: &[&str]) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let rows = captions.iter().map(|caption| self.tokenizer.padded(caption)).collect::<Result<Vec<_>>>()?;
        let ids = Tensor::f_from_slice(&rows.concat())?.f_view([captions.len() as i64, -1])?;
        Ok(self.text_encoder.forward(&ids)?.last_hidden_state)
    }
}

impl Task for UnetTask {
    fn loss(&self, parameters: &Parameters, shard: &Shard) -> Result<Loss> {
        let mut rng = shard.rng();
        let (mut indices, mut timesteps, mut captions) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..self.batch {
            let index = rng.random_range(0..self.latents.len().max(1));
            indices.push(index);
            // Spread evenly over the batch: a batch that happens to have little noise would move the loss, not the weights.
            let at = (i as f64 + rng.random::<f64>()) / self.batch as f64;
            timesteps.push(((at * self.table.len() as f64) as usize).min(self.table.len() - 1));
            let silent = rng.random_bool(UNPROMPTED);
            captions.push(if silent { "" } else { self.latents.caption(index, rng.random()) });
        }
        let x0 = self.latents.batch(&indices)?;
        let noise = noise(&mut shard.noise(), &x0)?;
        let unet = UNet::new(&parameters.weights("", self.kind), &self.config)?;
        let errors = self.errors(&unet, &x0, &noise, &timesteps, &captions)?;
        let weights: Vec<f32> = timesteps
            .iter()
            .map(|&t| {
                let abar = self.abar(t);
                let snr = abar / (1.0 - abar);
                snr.min(SNR) / snr
            })
            .collect();
        let total = errors.f_mul(&Tensor::f_from_slice(&weights)?)?.f_mean(Kind::Float)?;
        Ok(Loss { parts: vec![("error", errors.f_mean(Kind::Float)?.f_double_value(&[])?)], total })
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Vec<(&'static str, f64)>> {
        let unet = UNet::new(&parameters.weights("", Kind::Float), &self.config)?;
        let shard = Shard { seed: 5, step: 0, worker: 0, progress: 0.0 };
        let (mut rng, mut source) = (shard.rng(), shard.noise());
        let count = self.held_out.len();
        let mut all = Vec::new();
        for start in (0..count).step_by(16) {
            let indices: Vec<usize> = (start..count.min(start + 16)).collect();
            let x0 = self.held_out.batch(&indices)?;
            let timesteps: Vec<usize> = indices.iter().map(|i| i * 389 % count * self.table.len() / count).collect();
            let captions: Vec<_> = indices.iter().map(|&i| self.held_out.caption(i, rng.random())).collect();
            let noise = noise(&mut source, &x0)?;
            let errors = self.errors(&unet, &x0, &noise, &timesteps, &captions)?;
            all.extend(timesteps.into_iter().zip(Vec::<f32>::try_from(errors)?));
        }
        let mean = |level: Option<usize>| {
            let chosen =
                all.iter().filter(|(t, _)| level.is_none_or(|level| t * LEVELS.len() / self.table.len() == level));
            let (sum, n) = chosen.fold((0.0, 0), |(sum, n), (_, error)| (sum + f64::from(*error), n + 1));
            sum / f64::from(n.max(1))
        };
        let levels = LEVELS.iter().enumerate().map(|(level, name)| (*name, mean(Some(level))));
        Ok([("held-out error", mean(None))].into_iter().chain(levels).collect())
    }

    fn sheet(&self, parameters: &Parameters) -> Result<Option<Raster>> {
        self.model.put("unet", &self.json, parameters.tensors())?;
        let mut pipeline = Pipeline::builder().source(Source::dir(self.model.path())).build()?;
        let mut pictures = Vec::new();
        for prompt in PROMPTS {
            let output = pipeline.request(prompt).seed(0).images(2).run()?;
            pictures.extend(output.images().iter().cloned().map(|picture| (prompt, picture)));
        }
        let sheet = pictures.iter().fold(Sheet::new(4), |sheet, (prompt, picture)| sheet.add(*prompt, picture));
        sheet.draw().map(Some)
    }

    fn rule(&self, name: &str, shape: &[i64]) -> Rule {
        let ends = ["conv_in", "conv_out", "time_embedding"];
        if ends.iter().any(|end| name.starts_with(end)) { Rule::AdamW } else { Rule::of_shape(shape) }
    }
}

/// Noise for latents [n, c, h, w] whose patches are off its mean, each on its own.
fn noise(source: &mut Noise, x0: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x0.size4()?;
    let mut noise = source.draw(&[n, c, h, w])?;
    for patches in PATCHES {
        let means = source.draw(&[n, c, patches, patches])?.f_upsample_nearest2d([h, w].as_slice(), None, None)?;
        noise = noise.f_add(&means.f_mul_scalar(OFFSET)?)?;
    }
    Ok(noise)
}
