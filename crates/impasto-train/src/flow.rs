//! Training of a transformer that predicts the velocity of a flow.

use super::dataset::{Class, Cluttered, Dataset};
use super::denoising::errors;
use super::export::ModelFolder;
use super::grounding::{Attention, shown};
use super::layout::{Layouts, Queries, of_things};
use super::unet::{Captions, PROMPTS};
use super::{Latents, Loss, Parameters, Rule, Shard, Task};
use impasto::attention::{Call, CrossAttentionHook, HookTable, KvCache, Tap};
use impasto::diffusion::solver::euler_step;
use impasto::diffusion::{Noise, Prediction, TrainingSchedule};
use impasto::nn::cosmos::{CosmosConfig, CosmosTransformer};
use impasto::nn::{ConfigFile, UNet, UnetConfig, Vae, VaeConfig};
use impasto::weights::{Tensors, Weights, parse_safetensors};
use impasto::{Branch, Error, Grid, Raster, Result, Step};
use impasto_report::Sheet;
use rand::Rng;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Mean and standard deviation of ln(t/(1 − t)), where t is the time of the flow.
///
/// With t/(1 − t) = σ, these are the noise levels of sigma space. A level of 30 is where a latent of 32×32 cells begins
/// to show its mean color; a level of .3 is where details are settled.
///
/// Source: Esser et al. (2024), "Scaling Rectified Flow Transformers", 3.1 (logit-normal sampling).
const LEVELS: (f64, f64) = (0.8, 1.4);
/// Share of captions that are left empty, for classifier-free guidance.
const UNPROMPTED: f64 = 0.1;
/// Share of captions among words that show nothing.
const CLUTTERED: f64 = 0.2;
/// Share of the teacher's prediction in the target at the start of the training; the share falls to 0.
const TAUGHT: f64 = 0.8;
/// Noise level above which the teacher is not asked. It learned from noise with random means, and mistrusts the means
/// of plain noise, which are most of what a noisier latent shows.
const TEACHABLE: f64 = 5.0;
/// Weight of the loss of the classes that the queries tell.
const TOLD: f64 = 0.1;
/// Weight of the divergence of attention to words from the things that they show.
const GROUNDED: f64 = 0.1;
/// Chance that another drawing takes the place of a portrait without a bow. Such portraits are learned first.
const AGAIN: f64 = 0.4;
/// Additional weight of an error where the drawing shows a small thing. Small things cover little of most drawings, so
/// without the weight their colors have little part in the loss.
const THINGS: f64 = 1.5;
/// Name of the layer that tells classes, which is no part of the network.
const LAYOUT: &str = "layout";
/// Number of the steps and guidance scale of sample pictures, and shift of their levels to high noise.
const SAMPLED: (usize, f64, f64) = (28, 5.0, 3.0);
/// Noise level that stands for the start of the flow, where σ is infinite.
const START: f64 = 1e8;
/// Held-out errors are also averaged over each quarter of the noise levels.
const QUARTERS: [&str; 4] = ["held-out lowest", "held-out lower", "held-out higher", "held-out highest"];

/// Trains a transformer to predict the velocity of a rectified flow, with the embedded model's latents and captions.
///
/// The target is the velocity noise − x0 of a drawing, mixed with the prediction of the embedded UNet for the same
/// latent. A drawing is one of many that a noised latent could come from, so its velocity is mostly noise around the
/// mean that a network learns. The UNet's prediction is near this mean, and the gradients therefore have less noise.
/// The UNet's share falls to 0 during the training, so that its errors do not stay.
///
/// A linear layer also learns to tell from the queries of a cross-attention what each patch of the drawing shows, from
/// the masks of the drawings. Its purpose is that the network learns shapes, and not only colors and places. The layer
/// is left out of the model.
///
/// Attention to the word of a thing learns to be even over the thing and nowhere else, so that guidance methods find
/// the thing by its name.
///
/// Errors count more where the drawing shows an object or a hair bow, because these cover little of a drawing.
///
/// Sources: Liu et al. (2022), "Flow Straight and Fast" (rectified flow); Hinton et al. (2015) (distillation); Yu
/// et al. (2024), "Representation Alignment for Generation" (a target for hidden states); Wang et al. (2024),
/// "TokenCompose" (attention to a noun learns the mask of its object).
pub struct FlowTask {
    config: CosmosConfig,
    /// Text of the file of `config`.
    json: String,
    /// Folder with the other parts of the model.
    model: ModelFolder,
    captions: Captions,
    latents: Arc<Latents>,
    held_out: Arc<Latents>,
    dataset: Dataset,
    teacher: UNet,
    vae: Vae,
    batch: usize,
    kind: Kind,
}

/// Noised latents at their times.
struct Flow {
    /// (1 − t)·x0 + t·noise, [n, c, h, w].
    sample: Tensor,
    /// noise − x0, [n, c, h, w].
    velocity: Tensor,
    /// t of each row, [n].
    times: Vec<f64>,
}

impl Flow {
    fn new(x0: &Tensor, noise: &Tensor, times: Vec<f64>) -> Result<Self> {
        let t = Tensor::f_from_slice(&times)?.f_to_kind(Kind::Float)?.f_view([-1, 1, 1, 1])?;
        Ok(Self { sample: x0.f_lerp_tensor(noise, &t)?, velocity: noise.f_sub(x0)?, times })
    }

    /// Returns σ = t/(1 − t) of each row.
    fn sigmas(&self) -> Vec<f64> {
        self.times.iter().map(|t| t / (1.0 - t)).collect()
    }
}

impl FlowTask {
    /// Creates a task whose shards have `batch` latents, for a transformer of the configuration `json`. `dataset`
    /// drew the pictures of `latents`, from seed 0 on. Every evaluation writes the transformer to the folder `model`.
    ///
    /// # Errors
    /// The errors of [`CosmosConfig::from_json`] and of loading the text encoder and the tokenizer.
    pub fn new(
        json: &str,
        model: ModelFolder,
        latents: Arc<Latents>,
        held_out: Arc<Latents>,
        dataset: Dataset,
        batch: usize,
        kind: Kind,
    ) -> Result<Self> {
        latents.layouts(dataset)?; // drawn once, before workers ask for them
        let file = |name: &str| impasto_tiny::file(name).unwrap_or_default();
        let text = |name: &str| String::from_utf8_lossy(file(name)).into_owned();
        let weights = |part: &str| -> Result<Weights> {
            let tensors = parse_safetensors(part, file(&format!("{part}/diffusion_pytorch_model.safetensors")))?;
            Ok(Weights::new(part, tensors, if part == "unet" { kind } else { Kind::Float }, Device::Cpu))
        };
        Ok(Self {
            config: CosmosConfig::from_json("transformer/config.json", json)?,
            json: json.into(),
            captions: Captions::new(&model)?,
            model,
            latents,
            held_out,
            dataset,
            teacher: UNet::new(&weights("unet")?, &UnetConfig::from_json("unet", &text("unet/config.json"))?)?,
            vae: Vae::new(&weights("vae")?, &VaeConfig::from_json("vae", &text("vae/config.json"))?)?,
            batch,
            kind,
        })
    }

    /// Returns the initial weights. The gates of all blocks, the output of the whole network and the layer that tells
    /// classes are zero. Tensors of `known` replace those of the same names: the network of an earlier training, which
    /// lacks the layer that tells classes, or none.
    ///
    /// # Errors
    /// The errors of [`CosmosTransformer::new`].
    pub fn initial(config: &CosmosConfig, seed: u64, known: Tensors) -> Result<Tensors> {
        let mut weights = Parameters::random(seed, |w| CosmosTransformer::new(w, config))?;
        for (name, x) in &mut weights {
            let modulates = name.contains("norm") && name.ends_with("linear_2.weight");
            if modulates || name == "time_embed.t_embedder.linear_2.weight" || name == "proj_out.weight" {
                let _ = x.f_zero_()?;
            }
        }
        let classes = Class::ALL.len() as i64;
        for (name, shape) in [("weight", vec![classes, config.width()]), ("bias", vec![classes])] {
            weights.insert(format!("{LAYOUT}.{name}"), Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?);
        }
        weights.extend(known);
        Ok(weights)
    }

    /// Returns the weights of the network alone, of all weights in training.
    fn network(weights: &Tensors) -> Tensors {
        let own = weights.iter().filter(|(name, _)| !name.starts_with(LAYOUT));
        own.map(|(name, x)| (name.clone(), x.shallow_clone())).collect()
    }

    /// Computes the velocities of a network.
    fn velocity(
        &self,
        network: &CosmosTransformer,
        flow: &Flow,
        context: &Tensor,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor> {
        let times: Vec<f32> = flow.times.iter().map(|t| *t as f32).collect();
        network.forward(&flow.sample, &Tensor::f_from_slice(&times)?, context, tap)
    }

    /// Computes the velocities of a network, with the queries and the attention of its cross-attention sites.
    fn seen(&self, network: &CosmosTransformer, flow: &Flow, context: &Tensor) -> Result<(Tensor, Queries, Attention)> {
        let (mut queries, mut attention) = (Queries::of(self.config.num_layers), Attention::default());
        let step = Step::new(0, 1, 1.0, 0.0, 0.0); // any step: the hooks do not read it
        let (n, _, h, w) = flow.sample.size4()?;
        let (branches, mut cache) = ([Branch::Cond], KvCache::default());
        let call = Call { step: &step, branches: &branches, images: 0..n, grid: Grid::new(h, w) };
        let hooks: [&mut dyn CrossAttentionHook; 2] = [&mut queries, &mut attention];
        let table = HookTable::new(&hooks, network.sites(), &branches)?;
        let mut tap = Tap::new(call, hooks.into(), &table, &mut cache)?;
        let velocity = self.velocity(network, flow, context, &mut tap)?;
        drop(tap);
        Ok((velocity, queries, attention))
    }

    /// Computes the velocities that the teacher predicts.
    fn teach(&self, flow: &Flow, context: &Tensor) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let table = TrainingSchedule::stable_diffusion();
        let sigmas = flow.sigmas();
        let rows = |value: fn(f64) -> f64| -> Result<Tensor> {
            let values: Vec<f32> = sigmas.iter().map(|&sigma| value(sigma) as f32).collect();
            Ok(Tensor::f_from_slice(&values)?.f_view([-1, 1, 1, 1])?)
        };
        let timesteps: Vec<f32> = sigmas.iter().map(|&sigma| table.timestep_of(sigma) as f32).collect();
        let x = flow.sample.f_mul(&rows(|sigma| 1.0 + sigma)?)?;
        let sample = x.f_mul(&rows(|sigma| Prediction::Epsilon.input_scale(sigma))?)?.f_to_kind(self.kind)?;
        let (timesteps, context) = (Tensor::f_from_slice(&timesteps)?, context.f_to_kind(self.kind)?);
        let noise = self.teacher.forward(&sample, &timesteps, &context, None, &mut Tap::none())?;
        let noise = noise.f_to_kind(Kind::Float)?;
        let x0 = x.f_sub(&noise.f_mul(&rows(|sigma| sigma)?)?)?;
        Ok(noise.f_sub(&x0)?)
    }

    /// Returns the target velocities: those of the drawings, mixed with the teacher's.
    fn target(&self, flow: &Flow, context: &Tensor, progress: f64) -> Result<Tensor> {
        let share = TAUGHT * (1.0 - progress.powi(4));
        let shares: Vec<f32> =
            flow.sigmas().iter().map(|&sigma| if sigma < TEACHABLE { share as f32 } else { 0.0 }).collect();
        if shares.iter().all(|share| *share == 0.0) {
            return Ok(flow.velocity.shallow_clone());
        }
        let shares = Tensor::f_from_slice(&shares)?.f_view([-1, 1, 1, 1])?;
        Ok(flow.velocity.f_lerp_tensor(&self.teach(flow, context)?, &shares)?)
    }

    /// Paints pictures of prompts by Euler's method with classifier-free guidance.
    fn paint(&self, network: &CosmosTransformer, prompts: &[&str], seed: u64) -> Result<Tensor> {
        let (steps, scale, shift) = SAMPLED;
        let n = prompts.len() as i64;
        let context = self.captions.context(&[prompts, &vec![""; prompts.len()]].concat())?;
        let side = 32;
        let mut x = Noise::shared(seed).draw(&[n, self.config.in_channels, side, side])?.f_mul_scalar(1.0 + START)?;
        let sigma = |i: usize| {
            let t = 1.0 - i as f64 / steps as f64;
            (shift * t / (1.0 - t)).min(START)
        };
        for (from, to) in (0..steps).map(|i| (sigma(i), sigma(i + 1))) {
            let sample = x.f_mul_scalar(Prediction::Flow.input_scale(from))?;
            let time = Tensor::f_from_slice(&[(from / (1.0 + from)) as f32])?;
            let out = network.forward(&sample, &time, &context, &mut Tap::none())?;
            let [cond, uncond] = [out.f_narrow(0, 0, n)?, out.f_narrow(0, n, n)?];
            let x0 = Prediction::Flow.x0(&uncond.f_lerp(&cond, scale)?, &x, from)?;
            x = euler_step(&x, &x0, from, to)?;
        }
        self.vae.decode(&self.vae.unscaled(&x)?)
    }
}

/// Chooses one of `count` drawings. Portraits without a bow are drawn again, with a chance of [`AGAIN`].
fn choose(layouts: &Layouts, count: usize, rng: &mut impl Rng) -> usize {
    loop {
        let index = rng.random_range(0..count.max(1));
        let is_scarce = [Class::Sky, Class::HairBow].iter().any(|class| layouts.shows(index, *class));
        if is_scarce || !rng.random_bool(AGAIN) {
            return index;
        }
    }
}

/// Draws the indices and the captions of `count` drawings. Some captions are empty, and others stand among words that
/// show nothing.
fn draw_rows(latents: &Latents, layouts: &Layouts, count: usize, rng: &mut impl Rng) -> (Vec<usize>, Vec<String>) {
    let (mut indices, mut captions) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let index = choose(layouts, latents.len(), rng);
        indices.push(index);
        let caption = latents.caption(index, rng.random());
        captions.push(match rng.random::<f64>() {
            chance if chance < UNPROMPTED => String::new(),
            chance if chance < UNPROMPTED + CLUTTERED => Cluttered::of(caption, rng.random()).text,
            _ => caption.to_owned(),
        });
    }
    (indices, captions)
}

/// Returns the mean squared error of velocities, [n, c, h, w], weighted by [`THINGS`]. `shares` are the shares of
/// classes in patches, [n, patches, classes].
fn weighted_error(velocity: &Tensor, target: &Tensor, shares: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = target.size4()?;
    let things = of_things(shares)?.f_upsample_nearest2d([h, w].as_slice(), None, None)?;
    let weights = things.f_mul_scalar(THINGS)?.f_add_scalar(1.0)?;
    let errors = velocity.f_to_kind(Kind::Float)?.f_sub(target)?.f_square()?;
    Ok(errors.f_mul(&weights)?.f_mean(Kind::Float)?)
}

/// Returns a time of the flow for each of `count` quantiles, in 0..1, of the distribution [`LEVELS`].
fn times(quantiles: &[f64]) -> Result<Vec<f64>> {
    let (mean, deviation) = LEVELS;
    let normal = Tensor::f_from_slice(quantiles)?.f_special_ndtri()?;
    let times = normal.f_mul_scalar(deviation)?.f_add_scalar(mean)?.f_sigmoid()?;
    Vec::try_from(times).map_err(Error::from)
}

impl Task for FlowTask {
    fn loss(&self, parameters: &Parameters, shard: &Shard) -> Result<Loss> {
        let mut rng = shard.rng();
        // The times of a step are spread evenly over all of its parts.
        let all = (shard.parts as usize * self.batch).max(1) as f64;
        let first = shard.part as usize * self.batch;
        let quantiles: Vec<f64> =
            (0..self.batch).map(|i| ((first + i) as f64 + rng.random_range(0.001..0.999)) / all).collect();
        let layouts = self.latents.layouts(self.dataset)?;
        let (indices, captions) = draw_rows(&self.latents, layouts, self.batch, &mut rng);
        let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
        let x0 = self.latents.batch(&indices)?;
        let flow = Flow::new(&x0, &shard.noise().draw(&x0.size())?, times(&quantiles)?)?;
        let context = self.captions.context(&captions)?;
        let target = self.target(&flow, &context, shard.progress)?;
        let network = CosmosTransformer::new(&parameters.weights("", self.kind), &self.config)?;
        let (velocity, queries, attention) = self.seen(&network, &flow, &context)?;
        let shares = layouts.batch(&indices)?;
        let mut total = weighted_error(&velocity, &target, &shares)?;
        let error = errors(&velocity.f_detach()?, &flow.velocity)?.f_mean(Kind::Float)?;
        let mut parts = vec![("error", error.f_double_value(&[])?)];
        let (layer, classes) = (parameters.weights(LAYOUT, Kind::Float), Class::ALL.len() as i64);
        let (weight, bias) =
            (layer.tensor("weight", &[classes, self.config.width()])?, layer.tensor("bias", &[classes])?);
        let shown = shown(&self.captions, &captions, context.size3()?.1 as usize)?;
        for (name, weight, loss) in [
            ("classes", TOLD, queries.cross_entropy(&weight, &bias, &shares)?),
            ("attention", GROUNDED, attention.divergence(&shown, &shares)?),
        ] {
            if let Some(loss) = loss {
                parts.push((name, loss.f_double_value(&[])?));
                total = total.f_add(&loss.f_mul_scalar(weight)?)?;
            }
        }
        Ok(Loss { total, parts })
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Vec<(&'static str, f64)>> {
        let network = CosmosTransformer::new(&parameters.weights("", Kind::Float), &self.config)?;
        let shard = Shard { seed: 5, step: 0, part: 0, parts: 1, progress: 0.0 };
        let (mut rng, mut source) = (shard.rng(), shard.noise());
        let count = self.held_out.len();
        let quantiles: Vec<f64> = (0..count).map(|i| ((i * 389 % count) as f64 + 0.5) / count as f64).collect();
        let (mut all, mut taught) = (Vec::new(), Vec::new());
        for (start, quantiles) in (0..).step_by(16).zip(quantiles.chunks(16)) {
            let indices: Vec<usize> = (start..start + quantiles.len()).collect();
            let x0 = self.held_out.batch(&indices)?;
            let captions: Vec<_> = indices.iter().map(|&i| self.held_out.caption(i, rng.random())).collect();
            let flow = Flow::new(&x0, &source.draw(&x0.size())?, times(quantiles)?)?;
            let context = self.captions.context(&captions)?;
            let of = |velocity: &Tensor| -> Result<Vec<f32>> { Ok(Vec::try_from(errors(velocity, &flow.velocity)?)?) };
            let own = of(&self.velocity(&network, &flow, &context, &mut Tap::none())?)?;
            let teachers = of(&self.teach(&flow, &context)?)?;
            for (((quantile, sigma), own), teacher) in quantiles.iter().zip(flow.sigmas()).zip(own).zip(teachers) {
                all.push((*quantile, own));
                if sigma < TEACHABLE {
                    taught.push((own, teacher));
                }
            }
        }
        let mean = |values: &mut dyn Iterator<Item = f32>| {
            let (sum, n) = values.fold((0.0, 0), |(sum, n), value| (sum + f64::from(value), n + 1));
            sum / f64::from(n.max(1))
        };
        let mut figures = vec![("held-out error", mean(&mut all.iter().map(|(_, error)| *error)))];
        for (quarter, name) in (0..).zip(QUARTERS) {
            let own = all.iter().filter(|(quantile, _)| (quantile * 4.0) as usize == quarter);
            figures.push((name, mean(&mut own.map(|(_, error)| *error))));
        }
        figures.push(("held-out taught", mean(&mut taught.iter().map(|(own, _)| *own))));
        figures.push(("held-out teacher", mean(&mut taught.iter().map(|(_, teacher)| *teacher))));
        Ok(figures)
    }

    fn sheet(&self, parameters: &Parameters) -> Result<Option<Raster>> {
        self.model.put("transformer", &self.json, &Self::network(parameters.tensors()))?;
        let network = CosmosTransformer::new(&parameters.weights("", Kind::Float), &self.config)?;
        let mut sheet = Sheet::new(4);
        for prompt in PROMPTS {
            let pictures = self.paint(&network, &[prompt, prompt], 0)?;
            for picture in pictures.f_split(1, 0)? {
                sheet = sheet.add(prompt, &Raster::from_tensor(&picture)?);
            }
        }
        sheet.draw().map(Some)
    }

    fn rule(&self, name: &str, shape: &[i64]) -> Rule {
        let inner = [".attn1.", ".attn2.", ".ff."].iter().any(|part| name.contains(part));
        if inner { Rule::of_shape(shape) } else { Rule::AdamW }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_chosen_levels() -> Result<()> {
        let quantiles: Vec<f64> = (0..999).map(|i| (f64::from(i) + 0.5) / 999.0).collect();
        let levels: Vec<f64> = times(&quantiles)?.iter().map(|t| (t / (1.0 - t)).ln()).collect();
        let mean = levels.iter().sum::<f64>() / 999.0;
        let variance = levels.iter().map(|level| (level - mean).powi(2)).sum::<f64>() / 999.0;
        assert!((mean - 0.8).abs() < 1e-3 && (variance.sqrt() - 1.4).abs() < 0.01, "{mean} {variance}");
        Ok(())
    }

    #[test]
    fn portraits_without_a_bow_are_chosen_less_often() -> Result<()> {
        let mut latents = Latents::default();
        for _ in 0..60 {
            // Only the number of the latents counts here: the layouts are drawn by their index.
            latents.push(&Tensor::zeros([1, 1, 1, 1], (Kind::Float, Device::Cpu)), "a red boat".into())?;
        }
        let layouts = latents.layouts(Dataset::new(64)?)?;
        let is_scarce = |index| layouts.shows(index, Class::Sky) || layouts.shows(index, Class::HairBow);
        let common = (0..60).filter(|index| !is_scarce(*index)).count() as f64 / 60.0;
        let mut rng = Shard { seed: 1, step: 0, part: 0, parts: 1, progress: 0.0 }.rng();
        let (indices, _) = draw_rows(&latents, layouts, 8000, &mut rng);
        let chosen = indices.iter().filter(|index| !is_scarce(**index)).count() as f64 / 8000.0;
        let want = common * (1.0 - AGAIN) / (1.0 - AGAIN * common);
        assert!(common > 0.1 && (chosen - want).abs() < 0.02, "{chosen}, not {want}, of {common}");
        Ok(())
    }

    #[test]
    fn errors_at_small_things_count_more() -> Result<()> {
        let mut shares = vec![0f32; 4 * Class::ALL.len()];
        for (patch, class) in (0..).zip([Class::Hair, Class::HairBow, Class::Background, Class::Skin]) {
            shares[patch * Class::ALL.len() + usize::from(class.index())] = 1.0;
        }
        let shares = Tensor::from_slice(&shares).view([1, 4, -1]);
        let target = Tensor::zeros([1, 1, 4, 4], (Kind::Float, Device::Cpu));
        let error = |column: i64| -> Result<f64> {
            let velocity = target.copy();
            let _ = velocity.narrow(2, 0, 2).narrow(3, column, 2).fill_(2.0);
            Ok(weighted_error(&velocity, &target, &shares)?.double_value(&[]))
        };
        assert_eq!((error(0)?, error(2)?), (1.0, 2.5), "at the hair, and at its bow");
        Ok(())
    }
}
