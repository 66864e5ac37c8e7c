//! [`LoraTask`]: the training of a low-rank change beside a UNet.

use super::low_rank::{Algorithm, LowRank, Names};
use crate::conditions::Conditions;
use crate::denoising::{Denoising, Noised, early, errors, noise};
use crate::{Latents, Loss, Parameters, Pictures, Rule, Sample, Shard, Task, Training};
use impasto::attention::Tap;
use impasto::diffusion::{Denoiser, Noise};
use impasto::nn::UNet;
use impasto::weights::{Lora, Tensors, Weights};
use impasto::{Codec, Error, Model, Pipeline, Raster, Result};
use impasto_report::Sheet;
use rand::Rng;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tch::{Kind, Tensor};

/// Share of captions that are left empty, because the branch without a prompt has to learn the style, too.
const UNPROMPTED: f64 = 0.1;
/// Number of samples for measuring errors.
const EVALUATED: usize = 64;
/// Number of captions on the sample sheet.
const SHOWN: usize = 4;
/// Strengths of the LoRA on the sample sheet.
const STRENGTHS: [f64; 3] = [0.0, 0.5, 1.0];

/// Teaches a UNet a style or a thing by a change of low rank. The model itself stays unchanged.
///
/// At every step, the UNet is built from its own weights W and the change B·A beside them. Gradients flow through the
/// sum to B and A alone.
pub struct LoraTask {
    model: Model,
    unet: Tensors,
    low_rank: LowRank,
    latents: Arc<Latents>,
    denoising: Denoising,
    batch: usize,
    offset: f64,
    kind: Kind,
}

/// Latents, captions and timesteps of a batch.
struct Batch<'a> {
    indices: &'a [usize],
    captions: &'a [&'a str],
    timesteps: &'a [usize],
    source: &'a mut Noise,
}

impl LoraTask {
    /// Creates a task whose shards have `batch` latents. The UNet computes in `kind`, in which the model was loaded.
    ///
    /// # Errors
    /// [`Error::Parameter`] for an inpainting model or a model without a UNet, and for latents without a picture.
    pub fn new(model: Model, low_rank: LowRank, latents: Arc<Latents>, batch: usize, kind: Kind) -> Result<Self> {
        let unet = unet_of(&model)?;
        if latents.is_empty() {
            return Err(Error::parameter("latents", "none", "the latent of at least one picture"));
        }
        let denoising = Denoising { table: model.training_schedule().clone(), prediction: model.prediction() };
        Ok(Self { unet, model, low_rank, latents, denoising, batch, offset: 0.0, kind })
    }

    /// Sets the standard deviation of the mean that each patch of the noise has (offset noise). Use .1 for the embedded
    /// model, which was trained with .1. Default: 0.
    #[must_use]
    pub const fn offset(mut self, offset: f64) -> Self {
        self.offset = offset;
        self
    }

    /// Encodes the pictures of the numbers 0..`count` with the model's VAE.
    ///
    /// # Errors
    /// The errors of [`Pictures::sample`], and of encoding pictures whose size does not suit the model.
    pub fn encode(model: &Model, pictures: &dyn Pictures, count: u64) -> Result<Latents> {
        let (device, mut latents) = (model.device(), Latents::default());
        for number in 0..count {
            let Sample { picture, caption, latent } = pictures.sample(number)?;
            let latent = match latent {
                Some(latent) => latent,
                None => model.encode(&picture.to_tensor(device)?)?,
            };
            latents.push(&latent, caption)?;
        }
        Ok(latents)
    }

    /// Returns the initial weights; see [`LowRank::initial`].
    ///
    /// # Errors
    /// [`Error::Parameter`] for an inpainting model or a model without a UNet; the errors of [`LowRank::initial`].
    pub fn initial(model: &Model, low_rank: &LowRank, seed: u64) -> Result<Tensors> {
        low_rank.initial(&unet_of(model)?, seed)
    }

    /// Returns the metadata of a LoRA that `training` trains, under the names of kohya's trainer. Prompts need the
    /// words in `trigger`, unless there are none.
    pub fn metadata(&self, training: &Training, trigger: &str) -> BTreeMap<String, String> {
        let (LowRank { rank, alpha, algorithm, .. }, defaults) = (&self.low_rank, self.model.defaults());
        let (module, arguments) = match algorithm {
            Algorithm::Lora => ("networks.lora", json!({})),
            Algorithm::Dora => ("lycoris.kohya", json!({"algo": "lora", "dora_wd": "True"})),
        };
        let mut tags = Map::new();
        for tag in (0..self.latents.len()).flat_map(|index| self.latents.caption(index, 0).split(',')) {
            let count = tags.get(tag.trim()).and_then(Value::as_u64).unwrap_or_default();
            tags.insert(tag.trim().to_owned(), (count + 1).into());
        }
        let samples = self.batch * training.workers.max(1) * training.accumulate.max(1);
        let mut metadata = BTreeMap::from(
            [
                ("ss_network_module", module.to_owned()),
                ("ss_network_args", arguments.to_string()),
                ("ss_network_dim", rank.to_string()),
                ("ss_network_alpha", alpha.to_string()),
                ("ss_optimizer", "AdamW".to_owned()),
                ("ss_unet_lr", training.adamw.0.to_string()),
                ("ss_steps", training.rate.steps.to_string()),
                ("ss_seed", training.seed.to_string()),
                ("ss_total_batch_size", samples.to_string()),
                ("ss_num_train_images", self.latents.len().to_string()),
                ("ss_noise_offset", self.offset.to_string()),
                ("ss_resolution", format!("({}, {})", defaults.width, defaults.height)),
                ("ss_tag_frequency", json!({"pictures": tags}).to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        if !trigger.trim().is_empty() {
            metadata.insert("modelspec.trigger_phrase".into(), trigger.trim().into());
        }
        metadata
    }

    /// Builds the UNet with the change of `parameters`.
    fn net(&self, parameters: &Parameters) -> Result<UNet> {
        let weights = self.low_rank.change(&self.unet, parameters.tensors())?;
        let weights = Weights::new("the UNet with the LoRA in training", weights, self.kind, self.model.device());
        UNet::new(&weights, self.model.unet()?.config())
    }

    /// Returns the mean squared error of the prediction for each sample of a batch, [n].
    fn errors(&self, net: &UNet, batch: Batch<'_>) -> Result<Tensor> {
        let x0 = self.latents.batch(batch.indices)?.f_to_device(self.model.device())?;
        let noise = noise(batch.source, &x0, self.offset)?;
        let Noised { sample, target, timesteps } = self.denoising.noised(&x0, &noise, batch.timesteps)?;
        let Conditions { context, added } = Conditions::encode(&self.model, batch.captions, self.kind)?;
        let sample = sample.f_to_kind(self.kind)?;
        errors(&net.forward(&sample, &timesteps, &context, Some(&added), &mut Tap::none())?, &target)
    }
}

/// Returns the tensors of a model's UNet, for which a LoRA can be trained.
fn unet_of(model: &Model) -> Result<Tensors> {
    if model.inpaints() {
        let expected = "the checkpoint that the inpainting model derives from; a LoRA for that checkpoint works with \
                        both";
        return Err(Error::parameter("model", "an inpainting model", expected));
    }
    let expected = "a checkpoint with a UNet, because impasto-train cannot train LoRAs of transformers";
    model.tensors("unet").ok_or_else(|| Error::parameter("model", "without a UNet", expected))
}

impl Task for LoraTask {
    fn loss(&self, parameters: &Parameters, shard: &Shard) -> Result<Loss> {
        let mut rng = shard.rng();
        let timesteps = self.denoising.later(&self.denoising.timesteps(&mut rng, self.batch));
        let (mut indices, mut captions) = (Vec::new(), Vec::new());
        for _ in 0..self.batch {
            let index = rng.random_range(0..self.latents.len().max(1));
            indices.push(index);
            captions.push(if rng.random_bool(UNPROMPTED) { "" } else { self.latents.caption(index, 0) });
        }
        let source = &mut shard.noise();
        let batch = Batch { indices: &indices, captions: &captions, timesteps: &timesteps, source };
        let errors = self.errors(&self.net(parameters)?, batch)?;
        let total = errors.f_mul(&self.denoising.weights(&timesteps, early, errors.device())?)?.f_mean(Kind::Float)?;
        Ok(Loss { parts: vec![("error", errors.f_mean(Kind::Float)?.f_double_value(&[])?)], total })
    }

    /// Returns errors on the same pictures, but under noise that the training does not have.
    fn evaluate(&self, parameters: &Parameters) -> Result<Vec<(&'static str, f64)>> {
        let net = self.net(parameters)?;
        let mut source = Shard { seed: 5, step: 0, part: 0, parts: 1, progress: 0.0 }.noise();
        let (timesteps, mut all) = (self.denoising.spread(EVALUATED), Vec::new());
        for (start, timesteps) in (0..).step_by(8).zip(timesteps.chunks(8)) {
            let indices: Vec<usize> = (start..start + timesteps.len()).collect();
            let captions: Vec<&str> = indices.iter().map(|&index| self.latents.caption(index, 0)).collect();
            let batch = Batch { indices: &indices, captions: &captions, timesteps, source: &mut source };
            all.extend(timesteps.iter().copied().zip(Vec::<f32>::try_from(self.errors(&net, batch)?)?));
        }
        Ok(self.denoising.figures(&all))
    }

    fn sheet(&self, parameters: &Parameters) -> Result<Option<Raster>> {
        let tensors = self.low_rank.named(parameters.tensors(), Names::Kohya)?;
        let mut sheet = Sheet::new(STRENGTHS.len());
        let mut pipelines = Vec::new();
        for strength in STRENGTHS {
            let shared = tensors.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
            let lora = Lora::of("the LoRA in training", shared)?.scale(strength);
            pipelines.push((strength, Pipeline::new(self.model.with_lora(&[lora])?)));
        }
        for index in 0..SHOWN.min(self.latents.len()) {
            let caption = self.latents.caption(index, 0);
            for (strength, pipeline) in &pipelines {
                let output = pipeline.request(caption).seed(index as u64).run()?;
                sheet = sheet.add(format!("strength {strength}: {caption}"), output.image(0)?);
            }
        }
        sheet.draw().map(Some)
    }

    fn rule(&self, _: &str, _: &[i64]) -> Rule {
        Rule::AdamW
    }
}
