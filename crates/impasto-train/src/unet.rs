//! Training of the UNet.

use super::denoising::{Denoising, Noised, errors, min_snr, noise};
use super::export::ModelFolder;
use super::{Latents, Loss, Parameters, Rule, Shard, Task};
use impasto::Result;
use impasto::attention::Tap;
use impasto::diffusion::{Prediction, TrainingSchedule};
use impasto::nn::{ClipText, ConfigFile, UNet, UnetConfig};
use impasto::prompt::Prompt;
use impasto::text::Tokenizer;
use impasto::weights::Tensors;
use impasto::{Pipeline, Raster, Source};
use impasto_report::Sheet;
use rand::Rng;
use std::sync::Arc;
use tch::{Kind, Tensor};

/// Share of captions that are left empty, for classifier-free guidance.
const UNPROMPTED: f64 = 0.1;
/// Standard deviation of the mean that the noise has in each channel of each patch.
pub(super) const OFFSET: f64 = 0.1;

/// Number of tokens that the text encoder reads.
const TOKENS: usize = 77;
/// Prompts of the sample sheet.
pub(super) const PROMPTS: [&str; 8] = [
    "1girl, gold eyes, pink hair bow, red hair, pale skin, blue shirt, green background",
    "1girl, green eyes, red hair bow, black hair, tan skin, white shirt, lavender background",
    "1boy, blue eyes, brown hair, brown skin, orange shirt, azure background",
    "1girl, eyes, hair bow, hair, skin, shirt, background",
    "a red house and a yellow moon, green ground, navy sky",
    "a blue car, tan ground, white sky",
    "a gold fish and a purple flower, olive ground, azure sky",
    "a white boat and a green tree, blue ground, pink sky",
];

/// Trains a UNet to predict the noise in latents. At every use of a drawing, one of its stored captions is drawn at
/// random, and some captions are left empty.
pub struct UnetTask {
    config: UnetConfig,
    /// Text of the file of `config`.
    json: String,
    /// Folder with the other parts of the model, which sample pictures need.
    model: ModelFolder,
    captions: Captions,
    latents: Arc<Latents>,
    held_out: Arc<Latents>,
    denoising: Denoising,
    batch: usize,
    kind: Kind,
}

impl UnetTask {
    /// Creates a task whose shards have `batch` latents, for a UNet of the configuration `json`. `model` has the text
    /// encoder and everything else that a sample picture needs. Every evaluation writes the UNet to this folder.
    ///
    /// # Errors
    /// The errors of [`UnetConfig::from_json`] and of loading the text encoder and the tokenizer.
    pub fn new(
        json: &str,
        model: ModelFolder,
        latents: Arc<Latents>,
        held_out: Arc<Latents>,
        batch: usize,
        kind: Kind,
    ) -> Result<Self> {
        let captions = Captions::new(&model)?;
        let config = UnetConfig::from_json("unet/config.json", json)?;
        let denoising = Denoising { table: TrainingSchedule::stable_diffusion(), prediction: Prediction::Epsilon };
        Ok(Self { config, json: json.into(), model, captions, latents, held_out, denoising, batch, kind })
    }

    /// Returns the initial weights. Residual branches have an output of zero, and so has the whole network.
    ///
    /// # Errors
    /// The errors of [`UNet::new`].
    pub fn initial(config: &UnetConfig, seed: u64) -> Result<Tensors> {
        let mut weights = Parameters::random(seed, |w| UNet::new(w, config))?;
        for (name, x) in &mut weights {
            if name.ends_with("conv2.weight") || name.ends_with("proj_out.weight") || name == "conv_out.weight" {
                let _ = x.f_zero_()?;
            }
        }
        Ok(weights)
    }

    /// Returns the mean squared errors of the predicted noise, [n].
    fn errors(
        &self,
        unet: &UNet,
        x0: &Tensor,
        noise: &Tensor,
        timesteps: &[usize],
        captions: &[&str],
    ) -> Result<Tensor> {
        let Noised { sample, target, timesteps } = self.denoising.noised(x0, noise, timesteps)?;
        let context = self.captions.context(captions)?;
        errors(&unet.forward(&sample, &timesteps, &context, None, &mut Tap::none())?, &target)
    }
}

impl Task for UnetTask {
    fn loss(&self, parameters: &Parameters, shard: &Shard) -> Result<Loss> {
        let mut rng = shard.rng();
        let timesteps = self.denoising.timesteps(&mut rng, self.batch);
        let (mut indices, mut captions) = (Vec::new(), Vec::new());
        for _ in 0..self.batch {
            let index = rng.random_range(0..self.latents.len().max(1));
            indices.push(index);
            let silent = rng.random_bool(UNPROMPTED);
            captions.push(if silent { "" } else { self.latents.caption(index, rng.random()) });
        }
        let x0 = self.latents.batch(&indices)?;
        let noise = noise(&mut shard.noise(), &x0, OFFSET)?;
        let unet = UNet::new(&parameters.weights("", self.kind), &self.config)?;
        let errors = self.errors(&unet, &x0, &noise, &timesteps, &captions)?;
        let total = errors.f_mul(&self.denoising.weights(&timesteps, min_snr, x0.device())?)?.f_mean(Kind::Float)?;
        Ok(Loss { parts: vec![("error", errors.f_mean(Kind::Float)?.f_double_value(&[])?)], total })
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Vec<(&'static str, f64)>> {
        let unet = UNet::new(&parameters.weights("", Kind::Float), &self.config)?;
        let shard = Shard { seed: 5, step: 0, part: 0, parts: 1, progress: 0.0 };
        let (mut rng, mut source) = (shard.rng(), shard.noise());
        let count = self.held_out.len();
        let (mut all, timesteps) = (Vec::new(), self.denoising.spread(count));
        for (start, timesteps) in (0..).step_by(16).zip(timesteps.chunks(16)) {
            let indices: Vec<usize> = (start..start + timesteps.len()).collect();
            let x0 = self.held_out.batch(&indices)?;
            let captions: Vec<_> = indices.iter().map(|&i| self.held_out.caption(i, rng.random())).collect();
            let noise = noise(&mut source, &x0, OFFSET)?;
            let errors = self.errors(&unet, &x0, &noise, timesteps, &captions)?;
            all.extend(timesteps.iter().copied().zip(Vec::<f32>::try_from(errors)?));
        }
        Ok(self.denoising.figures(&all))
    }

    fn sheet(&self, parameters: &Parameters) -> Result<Option<Raster>> {
        self.model.put("unet", &self.json, parameters.tensors())?;
        let pipeline = Pipeline::builder().source(Source::dir(self.model.path())).build()?;
        let mut pictures = Vec::new();
        for prompt in PROMPTS {
            let output = pipeline.request(prompt).seed(0).images(2).run()?;
            pictures.extend(output.images.iter().cloned().map(|picture| (prompt, picture)));
        }
        let sheet = pictures.iter().fold(Sheet::new(4), |sheet, (prompt, picture)| sheet.add(*prompt, picture));
        sheet.draw().map(Some)
    }

    fn rule(&self, name: &str, shape: &[i64]) -> Rule {
        rule(name, shape)
    }
}

/// Returns the rule by which a tensor of a UNet is trained.
pub(super) fn rule(name: &str, shape: &[i64]) -> Rule {
    let ends = ["conv_in", "conv_out", "time_embedding"];
    if ends.iter().any(|end| name.starts_with(end)) { Rule::AdamW } else { Rule::of_shape(shape) }
}

/// The text encoder as a UNet in training reads it.
pub(super) struct Captions {
    tokenizer: Tokenizer,
    text_encoder: ClipText,
}

impl Captions {
    pub(super) fn new(model: &ModelFolder) -> Result<Self> {
        let (tokenizer, text_encoder) = model.text()?;
        Ok(Self { tokenizer, text_encoder })
    }

    /// Returns a caption with the places of its tokens in the context.
    pub(super) fn prompt(&self, caption: &str) -> Result<Prompt> {
        let mut tokens = self.tokenizer.encode(caption)?.offsets; // captions are ASCII: letters are bytes
        tokens.retain(|token| !token.is_empty());
        Ok(Prompt::new(caption, tokens, TOKENS - 2))
    }

    /// Encodes captions, [n, 77, width].
    pub(super) fn context(&self, captions: &[&str]) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let rows =
            captions.iter().map(|caption| self.tokenizer.padded_to(caption, TOKENS)).collect::<Result<Vec<_>>>()?;
        let ids = Tensor::f_from_slice(&rows.concat())?.f_view([captions.len() as i64, -1])?;
        Ok(self.text_encoder.forward(&ids)?.last_hidden_state)
    }
}
