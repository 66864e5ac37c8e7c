//! Training of a model that colors sketches like reference pictures.

use super::adherence::median;
use super::dataset::{Dataset, Drawing};
use super::denoising::{Denoising, Noised, early, errors, noise};
use super::{Coloring, Latents, Loss, Parameters, Rule, Shard, Task, export};
use impasto::attention::Tap;
use impasto::diffusion::{Noise, Prediction, TrainingSchedule};
use impasto::hint::{Canny, LineArt, Sketch};
use impasto::methods::Colorize;
use impasto::methods::colorize::Ink;
use impasto::nn::{
    AddedConditions, ClipImageProcessor, ClipVision, ClipVisionConfig, ConfigFile, SketchEncoder, SketchEncoderConfig,
    UNet, UnetConfig,
};
use impasto::weights::{Tensors, Weights, parse_safetensors};
use impasto::{Error, Model, Pipeline, Raster, Result, Source};
use impasto_report::Sheet;
use rand::Rng;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Probabilities that a sample lacks its reference, and that a sample lacks its sketch. Samples without a reference
/// train the branch that classifier-free guidance leads away from.
const WITHOUT: (f64, f64) = (0.15, 0.1);
/// Probability of line art, as people draw it. Other lines are edges, as a detector finds them.
const LINE_ART: f64 = 0.35;
/// Probabilities that edges are drawn with a soft pen, and with a broad pen. Other edges are one pixel wide.
const PENS: (f64, f64) = (0.3, 0.2);
/// Probability that edges are found with other thresholds than the usual ones.
const OTHER_THRESHOLDS: f64 = 0.3;
/// Side of a reference in pixels, as the vision tower sees it.
const SEEN: u32 = 128;
/// Standard deviation of the mean that each patch of the noise has, as in the training of the embedded model.
const OFFSET: f64 = 0.1;
/// Weight of the difference between the vision tower's tokens and those of the embedded model's tower, which match
/// texts.
const ALIKE: f64 = 0.1;
/// Number of samples for measuring held-out errors.
const EVALUATED: u64 = 128;
/// Number of drawings that are colored to measure the quality.
const PAINTED: u64 = 12;
/// Number of rows of the sample sheet.
const SHOWN: u64 = 4;
/// Usual guidance scale of the model.
const GUIDANCE: f64 = 2.0;
/// Channels of the sketch encoder's first convolutions.
const WIDTHS: [i64; 4] = [8, 16, 32, 64];
/// First seed of references, so that no reference is the drawing that is colored.
const REFERENCES: u64 = 1 << 40;

/// Teaches a model to color the outlines of a drawing like another drawing.
///
/// The other drawing shows the same things in the same colors, but in another pose. A copy of its layout is therefore
/// wrong, and the model does not learn to copy.
///
/// Three networks are trained:
///
/// * The UNet continues from the embedded UNet, with the reference's tokens as its context.
/// * The [`SketchEncoder`] begins at random.
/// * The vision tower, which makes the tokens, continues from the embedded tower and must stay near it.
///
/// Parameters begin with `unet.`, `sketch_encoder.` and `image_encoder.`.
///
/// Source: ColorizeDiffusion (arXiv 2401.01456), which does not train the tower and whose references are distorted
/// copies of the drawing.
pub struct ReferenceTask {
    unet: UnetConfig,
    sketch_encoder: SketchEncoderConfig,
    vision: ClipVisionConfig,
    processor: ClipImageProcessor,
    /// Vision tower of the embedded model.
    tower: ClipVision,
    /// Folder to which the model is written before it colors pictures.
    folder: PathBuf,
    dataset: Dataset,
    latents: Arc<Latents>,
    held_out: Arc<Latents>,
    denoising: Denoising,
    batch: usize,
    kind: Kind,
}

/// The networks in training.
struct Networks {
    unet: UNet,
    sketch_encoder: SketchEncoder,
    tower: ClipVision,
}

/// A batch of drawings to color.
struct Batch {
    /// Latents of the drawings, [n, 4, h, w].
    x0: Tensor,
    /// Lines of the drawings, [n, 3, H, W] in -1..=1.
    sketches: Tensor,
    /// References as the vision tower sees them, [n, 3, s, s].
    references: Tensor,
    /// 0 for a left-out reference, otherwise 1, [n, 1, 1].
    shown: Tensor,
}

impl ReferenceTask {
    /// Creates a task whose shards have `batch` drawings. `latents` belong to the drawings from seed 0 on, `held_out`
    /// to the drawings from seed [`HELD_OUT`](super::HELD_OUT) on. The networks compute in `kind`. Every evaluation
    /// writes the model to `folder`.
    ///
    /// # Errors
    /// The errors of reading the embedded model.
    pub fn new(
        folder: impl Into<PathBuf>,
        dataset: Dataset,
        latents: Arc<Latents>,
        held_out: Arc<Latents>,
        batch: usize,
        kind: Kind,
    ) -> Result<Self> {
        let vision = ClipVisionConfig::from_json("image_encoder/config.json", &text("image_encoder/config.json")?)?;
        let weights = Weights::new("the embedded tower", tower()?, Kind::Float, Device::Cpu);
        let unet = UnetConfig::from_json("unet/config.json", &text("unet/config.json")?)?;
        let processor = "feature_extractor/preprocessor_config.json";
        Ok(Self {
            sketch_encoder: sketch_encoder(&unet)?,
            processor: ClipImageProcessor::from_json(processor, &text(processor)?)?,
            tower: ClipVision::new(&weights, &vision)?,
            denoising: Denoising { table: TrainingSchedule::stable_diffusion(), prediction: Prediction::Epsilon },
            unet,
            vision,
            folder: folder.into(),
            dataset,
            latents,
            held_out,
            batch,
            kind,
        })
    }

    /// Returns the initial weights: UNet and vision tower of `model`, which is the embedded model, and a random sketch
    /// encoder with an output of zero.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a model without a UNet.
    pub fn initial(model: &Model, seed: u64) -> Result<Tensors> {
        let missing = || Error::parameter("model", "without a UNet", "the embedded model");
        let unet = model.tensors("unet").ok_or_else(missing)?;
        let config = sketch_encoder(model.unet()?.config())?;
        let mut encoder = Parameters::random(seed, |w| SketchEncoder::new(w, &config))?;
        for (name, x) in &mut encoder {
            if name.starts_with("zero_") {
                let _ = x.f_zero_()?;
            } else {
                // SiLU halves small values. Doubled weights keep a thin line at its size.
                let _ = x.f_mul_scalar_(2.0)?;
            }
        }
        let mut all = Tensors::new();
        for (part, tensors) in [("unet", &unet), ("sketch_encoder", &encoder), ("image_encoder", &tower()?)] {
            for (name, x) in tensors {
                all.insert(format!("{part}.{name}"), x.f_to_kind(Kind::Float)?);
            }
        }
        Ok(all)
    }

    /// Writes trained weights as a model's folder, together with the embedded model's files.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Torch`].
    pub fn export(folder: &Path, weights: &Tensors) -> Result<()> {
        let unet = text("unet/config.json")?;
        let encoder = sketch_encoder(&UnetConfig::from_json("unet/config.json", &unet)?)?;
        let configs = [
            ("unet", unet),
            ("sketch_encoder", encoder.to_json()),
            ("image_encoder", text("image_encoder/config.json")?),
        ];
        let model = super::ModelFolder::new(folder)?;
        model.write_embedded(|part| part == "vae")?;
        model.write(
            "impasto.json",
            format!("{{\n  \"guidance_scale\": {GUIDANCE:.1},\n  \"patches_are_words\": true\n}}\n").as_bytes(),
        )?;
        for (part, config) in configs {
            let own = weights.iter().filter_map(|(name, x)| {
                let name = name.strip_prefix(part)?.strip_prefix('.')?;
                Some((name.to_owned(), x.shallow_clone()))
            });
            export(&folder.join(part), &config, &own.collect())?;
        }
        Ok(())
    }

    /// Writes the networks in training to the folder and loads them as a pipeline that colors pictures.
    fn pipeline(&self, parameters: &Parameters) -> Result<Pipeline> {
        Self::export(&self.folder, parameters.tensors())?;
        Pipeline::builder().source(Source::dir(&self.folder)).build()
    }

    /// Returns a held-out drawing and a reference in its colors.
    fn pair(&self, number: u64) -> Result<(Drawing, Drawing)> {
        let drawing = self.dataset.draw(super::HELD_OUT + number)?;
        let reference = self.dataset.draw_in_colors_of(&drawing.record, REFERENCES + super::HELD_OUT + number)?;
        Ok((drawing, reference))
    }

    fn networks(&self, parameters: &Parameters) -> Result<Networks> {
        Ok(Networks {
            unet: UNet::new(&parameters.weights("unet", self.kind), &self.unet)?,
            sketch_encoder: SketchEncoder::new(&parameters.weights("sketch_encoder", self.kind), &self.sketch_encoder)?,
            tower: ClipVision::new(&parameters.weights("image_encoder", Kind::Float), &self.vision)?,
        })
    }

    /// Returns the drawings of some seeds from `first` on, each with its sketch and with a reference.
    fn batch(&self, latents: &Latents, first: u64, numbers: &[u64], rng: &mut impl Rng) -> Result<Batch> {
        let references = Dataset::new(SEEN)?;
        let count = latents.len().max(1) as u64;
        let (mut sketches, mut seen, mut shown) = (Vec::new(), Vec::new(), Vec::new());
        for number in numbers {
            let drawing = self.dataset.draw(first + number % count)?;
            sketches.push(sketch(&drawing, rng)?);
            // The same drawing has another reference each time.
            let reference = references.draw_in_colors_of(&drawing.record, REFERENCES + rng.random::<u32>() as u64)?;
            seen.push(self.processor.pixels(&reference.picture)?);
            shown.push(f32::from(u8::from(!rng.random_bool(WITHOUT.0))));
        }
        let indices: Vec<usize> = numbers.iter().map(|number| (number % count) as usize).collect();
        Ok(Batch {
            x0: latents.batch(&indices)?,
            sketches: Tensor::f_cat(&sketches, 0)?,
            references: Tensor::f_cat(&seen, 0)?,
            shown: Tensor::f_from_slice(&shown)?.f_view([-1, 1, 1])?,
        })
    }

    /// Returns the mean squared errors of the predicted noise, [n], and the difference of the tower's tokens, as a
    /// share of the tokens.
    fn errors(
        &self,
        networks: &Networks,
        batch: &Batch,
        timesteps: &[usize],
        source: &mut Noise,
    ) -> Result<(Tensor, Tensor)> {
        let noise = noise(source, &batch.x0, OFFSET)?;
        let Noised { sample, target, timesteps } = self.denoising.noised(&batch.x0, &noise, timesteps)?;
        let learned = tokens(&networks.tower, &batch.references)?;
        let before = tch::no_grad(|| tokens(&self.tower, &batch.references))?;
        let off = learned.f_sub(&before)?.f_square()?.f_mean(Kind::Float)?;
        let off = off.f_div(&before.f_square()?.f_mean(Kind::Float)?)?;
        let features = networks.sketch_encoder.forward(&batch.sketches)?;
        let added = AddedConditions { features, ..AddedConditions::default() };
        let context = learned.f_mul(&batch.shown)?;
        let out = networks.unet.forward(&sample, &timesteps, &context, Some(&added), &mut Tap::none())?;
        Ok((errors(&out, &target)?, off))
    }
}

/// Paints the outlines of a drawing in the colors of a reference.
fn colored(pipeline: &Pipeline, drawing: &Drawing, reference: &Drawing, seed: u64) -> Result<Raster> {
    let sketch = Canny::default().edges(&drawing.picture)?.raster();
    let colors = Colorize::new(&sketch, &reference.picture).tune(|options| options.ink = Ink::Light);
    let output = pipeline.request("").size(drawing.picture.size()).seed(seed).guide(colors).run()?;
    Ok(output.image(0)?.clone())
}

/// Returns a token for each patch of pictures, [n, patches, width].
fn tokens(tower: &ClipVision, pixels: &Tensor) -> Result<Tensor> {
    let states = tower.forward(pixels)?.last_hidden_state;
    let patches = states.f_narrow(1, 1, states.size3()?.1 - 1)?;
    let without = || Error::parameter("image encoder", "without visual_projection", "an image encoder with this layer");
    tower.projected(&tower.normed(&patches)?)?.ok_or_else(without)
}

/// Returns the lines of a drawing as a person might draw them, [1, 3, H, W]: 1 on a ground of -1. Some sketches are
/// blank.
fn sketch(drawing: &Drawing, rng: &mut impl Rng) -> Result<Tensor> {
    if rng.random_bool(LINE_ART) && !rng.random_bool(WITHOUT.1) {
        let art = LineArt { width: rng.random_range(0.6..1.8), paper: 0.01, ink: rng.random_range(0.02..0.06) };
        return Ok(art.of(&drawing.picture)?.to_tensor(Device::Cpu)?.f_neg()?);
    }
    let (soft, broad) = PENS;
    let mut canny = Canny::default();
    if rng.random_bool(OTHER_THRESHOLDS) {
        canny.low = rng.random_range(50.0..150.0);
        canny.high = rng.random_range(150.0..300.0);
    }
    let lines = match rng.random_bool(WITHOUT.1) {
        true => Sketch::blank(drawing.picture.size()),
        false => canny.edges(&drawing.picture)?,
    };
    let lines = lines.raster().to_tensor(Device::Cpu)?;
    let pen: f64 = rng.random();
    if pen < soft {
        let blurred = lines.f_avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None::<i64>)?;
        // A line through the middle of nine pixels covers three of them.
        return Ok(blurred.f_add_scalar(1.0)?.f_mul_scalar(2.5)?.f_sub_scalar(1.0)?.f_clamp(-1.0, 1.0)?);
    }
    match pen < soft + broad {
        true => Ok(lines.f_max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false)?),
        false => Ok(lines),
    }
}

/// Returns the configuration of a sketch encoder for a UNet.
fn sketch_encoder(unet: &UnetConfig) -> Result<SketchEncoderConfig> {
    let mut config = SketchEncoderConfig::default();
    config.widths = WIDTHS.to_vec();
    config.block_out_channels.clone_from(&unet.block_out_channels);
    Ok(config)
}

/// Reads a text file of the embedded model.
fn text(file: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(bytes(file)?).into_owned())
}

/// Reads the weights of the embedded model's vision tower.
fn tower() -> Result<Tensors> {
    const FILE: &str = "image_encoder/model.safetensors";
    let tensors = parse_safetensors(FILE, bytes(FILE)?)?;
    tensors.into_iter().map(|(name, x)| Ok((name, x.f_to_kind(Kind::Float)?))).collect()
}

fn bytes(file: &str) -> Result<&'static [u8]> {
    let place = "impasto-tiny".into();
    let hint = "the published crate contains this file".into();
    impasto_tiny::file(file).ok_or_else(|| Error::MissingFile { file: file.into(), place, hint })
}

impl Task for ReferenceTask {
    fn loss(&self, parameters: &Parameters, shard: &Shard) -> Result<Loss> {
        let mut rng = shard.rng();
        let timesteps = self.denoising.later(&self.denoising.timesteps(&mut rng, self.batch));
        let numbers: Vec<u64> = (0..self.batch as u64).map(|i| shard.sample(self.batch as u64, i)).collect();
        let batch = self.batch(&self.latents, 0, &numbers, &mut rng)?;
        let (errors, off) = self.errors(&self.networks(parameters)?, &batch, &timesteps, &mut shard.noise())?;
        let weights = self.denoising.weights(&timesteps, early, errors.device())?;
        let total = errors.f_mul(&weights)?.f_mean(Kind::Float)?.f_add(&off.f_mul_scalar(ALIKE)?)?;
        let parts = [("error", errors.f_mean(Kind::Float)?), ("tokens", off)];
        let parts = parts.into_iter().map(|(name, value)| Ok((name, value.f_double_value(&[])?)));
        Ok(Loss { parts: parts.collect::<Result<_>>()?, total })
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Vec<(&'static str, f64)>> {
        let mut painted = Vec::new();
        let pipeline = self.pipeline(parameters)?;
        for number in 0..PAINTED {
            let (drawing, reference) = self.pair(number)?;
            let picture = colored(&pipeline, &drawing, &reference, number)?;
            painted.push(Coloring::measure(&drawing, &reference, &picture)?);
        }
        let networks = self.networks(parameters)?;
        let shard = Shard { seed: 5, step: 0, part: 0, parts: 1, progress: 0.0 };
        let (mut rng, mut source) = (shard.rng(), shard.noise());
        let timesteps = self.denoising.spread(EVALUATED as usize);
        let mut all = Vec::new();
        for (first, timesteps) in (0..).step_by(8).zip(timesteps.chunks(8)) {
            let numbers: Vec<u64> = (first..first + timesteps.len() as u64).collect();
            let batch = self.batch(&self.held_out, super::HELD_OUT, &numbers, &mut rng)?;
            let (errors, _) = self.errors(&networks, &batch, timesteps, &mut source)?;
            all.extend(timesteps.iter().copied().zip(Vec::<f32>::try_from(errors)?));
        }
        let mut figures = self.denoising.figures(&all);
        let edges = median(painted.iter().map(|coloring| coloring.edge_f1).collect());
        let entangled = painted.iter().filter(|coloring| coloring.is_entangled()).count() as f64 / PAINTED as f64;
        let parts = Coloring::median_of_parts(&painted);
        let named = [("held-out parts", parts), ("held-out edges", edges), ("held-out entangled", Some(entangled))];
        figures.extend(named.into_iter().filter_map(|(name, value)| Some((name, value?))));
        Ok(figures)
    }

    /// Draws a sheet. Each row has a sketch, its own reference and the picture in its colors, then the next row's
    /// reference and the picture in those colors.
    fn sheet(&self, parameters: &Parameters) -> Result<Option<Raster>> {
        let pipeline = self.pipeline(parameters)?;
        let mut sheet = Sheet::new(5);
        for number in 0..SHOWN {
            let (drawing, own) = self.pair(number)?;
            let (_, other) = self.pair((number + 1) % SHOWN)?;
            sheet = sheet.add("sketch", &Canny::default().edges(&drawing.picture)?.raster());
            for reference in [own, other] {
                let painted = colored(&pipeline, &drawing, &reference, number)?;
                sheet = sheet.add("reference", &reference.picture).add("in the reference's colors", &painted);
            }
        }
        sheet.draw().map(Some)
    }

    fn rule(&self, name: &str, shape: &[i64]) -> Rule {
        let ends = ["conv_in", "conv_out", "time_embedding", "zero_", "embeddings"];
        if ends.iter().any(|end| name.contains(end)) { Rule::AdamW } else { Rule::of_shape(shape) }
    }
}
