//! Training a ControlNet.

use super::adherence::median;
use super::conditions::Conditions;
use super::denoising::{Denoising, Noised, early, errors, noise};
use super::hints::{drawing, drawn_by_a_person};
use super::scribble::Scribble;
use super::{Adherence, Loss, Parameters, Pictures, Rule, Sample, Shard, Task};
use impasto::attention::Tap;
use impasto::diffusion::Denoiser;
use impasto::hint::{Canny, Drawing, Strokes};
use impasto::nn::{ControlNet, ControlNetConfig, UNet};
use impasto::weights::Tensors;
use impasto::{Codec, Control, Error, Model, Pipeline, Raster, Result, Rgb, Size};
use impasto_report::Sheet;
use rand::Rng;
use std::sync::Arc;
use tch::{Kind, Tensor};

/// Share of captions that are left empty, so that a hint alone suffices (Zhang et al. 2023).
const UNPROMPTED: f64 = 0.5;
/// Number of channels of a hint: lines, and red, green, blue and alpha of strokes.
const CHANNELS: i64 = 5;
/// Number of samples for measuring held-out errors.
const EVALUATED: u64 = 128;
/// Number of drawings that are painted to measure how closely the pictures follow them.
const PAINTED: u64 = 12;
/// Number of held-out pictures on the sample sheet.
const SHOWN: u64 = 4;
/// Number of strokes in each column of the sheet.
const STROKES: [u32; 4] = [0, 1, 3, 8];
/// Number of strokes in the animation's last picture.
const ANIMATED: u32 = 8;
/// Thickness of the shown strokes, in pixels.
const THICKNESS: u32 = 3;

/// Teaches a ControlNet to follow lines and strokes of color, on any checkpoint with a UNet. The checkpoint itself
/// stays unchanged.
pub struct ControlTask {
    model: Model,
    config: ControlNetConfig,
    pictures: Arc<dyn Pictures>,
    held_out: Arc<dyn Pictures>,
    denoising: Denoising,
    batch: usize,
    offset: f64,
    crops: f64,
    kind: Kind,
}

impl ControlTask {
    /// Creates a task whose shards have `batch` pictures. The ControlNet computes in `kind`, in which the model was
    /// loaded.
    ///
    /// # Errors
    /// [`Error::Parameter`] for an inpainting model or a model without a UNet.
    pub fn new(
        model: Model,
        config: ControlNetConfig,
        pictures: Arc<dyn Pictures>,
        held_out: Arc<dyn Pictures>,
        batch: usize,
        kind: Kind,
    ) -> Result<Self> {
        unet_of(&model)?;
        let denoising = Denoising { table: model.training_schedule().clone(), prediction: model.prediction() };
        Ok(Self { model, config, pictures, held_out, denoising, batch, offset: 0.0, crops: 0.0, kind })
    }

    /// Sets the standard deviation of the mean that each patch of the noise has (offset noise). Use .1 for the embedded
    /// model, which was trained with .1. Default: 0.
    #[must_use]
    pub const fn offset(mut self, offset: f64) -> Self {
        self.offset = offset;
        self
    }

    /// Sets the share of the training, from its start on, that learns from quarters of pictures without captions.
    /// Quarters give four times as many samples at about the same cost. 0..=1; default: 0.
    #[must_use]
    pub const fn crops(mut self, share: f64) -> Self {
        self.crops = share;
        self
    }

    /// Returns the configuration of a ControlNet for a model. Hints have five channels; convolutions of `widths`
    /// channels bring them to the latent's size (16, 32, 96, 256 for Stable Diffusion).
    ///
    /// # Errors
    /// [`Error::Parameter`] for an inpainting model or a model without a UNet.
    pub fn config(model: &Model, widths: &[i64]) -> Result<ControlNetConfig> {
        let mut config = ControlNetConfig::default();
        config.unet = unet_of(model)?.config().clone();
        config.conditioning_channels = CHANNELS;
        config.conditioning_embedding_out_channels = widths.to_vec();
        Ok(config)
    }

    /// Returns the initial weights; see [`ControlNet::from_unet`].
    ///
    /// # Errors
    /// [`Error::Parameter`] for a model without a UNet; the errors of [`ControlNet::from_unet`].
    pub fn initial(model: &Model, config: &ControlNetConfig, seed: u64) -> Result<Tensors> {
        let missing = || Error::parameter("model", "without a UNet", "a checkpoint that has one");
        ControlNet::from_unet(&model.tensors("unet").ok_or_else(missing)?, config, seed)
    }

    /// Returns the mean squared error of the prediction for each sample with its hint, [n].
    fn errors(&self, net: &ControlNet, samples: &[Sample], hint: &Tensor, noising: Noising<'_>) -> Result<Tensor> {
        let x0 = self.latents(samples)?;
        let noise = noise(noising.source, &x0, self.offset)?;
        let Noised { sample, target, timesteps } = self.denoising.noised(&x0, &noise, noising.timesteps)?;
        let (sample, hint) = (sample.f_to_kind(self.kind)?, hint.f_to_kind(self.kind)?);
        let Conditions { context, mut added } = Conditions::encode(&self.model, noising.captions, self.kind)?;
        let embedded = net.embed(&hint)?;
        let residuals = net.forward(&sample, &timesteps, &context, Some(&added), &embedded, &mut Tap::none())?;
        added.residuals = Some(residuals);
        errors(&self.model.unet()?.forward(&sample, &timesteps, &context, Some(&added), &mut Tap::none())?, &target)
    }

    /// Returns the latents of samples, [n, c, h, w] f32. The model's VAE encodes the pictures of samples without a
    /// latent.
    fn latents(&self, samples: &[Sample]) -> Result<Tensor> {
        let device = impasto::diffusion::Denoiser::device(&self.model);
        let latent = |sample: &Sample| match &sample.latent {
            Some(latent) => Ok(latent.f_to_device(device)?),
            None => self.model.encode(&sample.picture.to_tensor(device)?),
        };
        Ok(Tensor::f_cat(&samples.iter().map(latent).collect::<Result<Vec<_>>>()?, 0)?.f_to_kind(Kind::Float)?)
    }

    /// Cuts a random quarter out of a sample, along the cells of the latent.
    fn quarter(&self, sample: Sample, rng: &mut impl Rng) -> Result<Sample> {
        let cell = impasto::Codec::cell(&self.model) as u32;
        let Size { width, height } = sample.picture.size();
        let mut cut = |side: u32| {
            let (cells, half) = (side / cell, (side / cell / 2).max(1));
            (rng.random_range(0..=cells.saturating_sub(half)), half)
        };
        let ((left, columns), (top, rows)) = (cut(width), cut(height));
        let picture = sample.picture.crop(top * cell..(top + rows) * cell, left * cell..(left + columns) * cell)?;
        let part = |latent: &Tensor| -> Result<Tensor> {
            let rows = latent.f_narrow(2, top.into(), rows.into())?;
            Ok(rows.f_narrow(3, left.into(), columns.into())?)
        };
        let latent = sample.latent.as_ref().map(part).transpose()?;
        Ok(Sample { picture, latent, ..sample })
    }

    fn net(&self, parameters: &Parameters) -> Result<ControlNet> {
        ControlNet::new(&parameters.weights("", self.kind), &self.config)
    }

    /// Measures how closely pictures of held-out drawings follow the drawings, as medians.
    fn adherence(&self, net: &ControlNet) -> Result<Vec<(&'static str, f64)>> {
        let pipeline = Pipeline::new(self.model.share()?);
        let (mut edges, mut strokes, mut objects) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..PAINTED {
            let Sample { picture, caption, .. } = self.held_out.sample(number)?;
            let drawing = drawn_by_a_person(&picture, number)?;
            let request = pipeline.request(caption.as_str()).size(picture.size()).seed(number);
            let output = request.control(Control::drawing(net, &drawing)).run()?;
            let adherence = Adherence::measure(&picture, &drawing, output.image(0)?)?;
            edges.push(adherence.edge_f1);
            strokes.extend(adherence.strokes);
            objects.extend(adherence.objects);
        }
        let named = [("held-out edges", edges), ("held-out strokes", strokes), ("held-out objects", objects)];
        Ok(named.into_iter().filter_map(|(name, values)| Some((name, median(values)?))).collect())
    }

    /// Paints a held-out picture's lines and its first strokes, once for each number of strokes in `counts`.
    fn stroke_after_stroke(&self, net: &ControlNet, number: u64, counts: &[u32]) -> Result<Vec<Painted>> {
        let Sample { picture, caption, .. } = self.held_out.sample(number)?;
        let sketch = Canny::default().edges(&picture)?;
        let Size { width, height } = picture.size();
        let usual = Scribble::for_side(width.min(height));
        let pipeline = Pipeline::new(self.model.share()?);
        let mut all = Vec::new();
        for &count in counts {
            let strokes = match count {
                0 => Strokes::new(picture.size()),
                // A seed gives the same first strokes for every number of strokes.
                _ => {
                    let (strokes, thickness) = (count..=count, vec![THICKNESS]);
                    let scribble = Scribble { strokes, thickness, blurred: 0.0, ..usual.clone() };
                    scribble.draw(&picture, number)?
                }
            };
            let drawing = Drawing { sketch: sketch.clone(), strokes };
            let request = pipeline.request(caption.as_str()).size(picture.size()).seed(number);
            let output = request.control(Control::drawing(net, &drawing)).run()?;
            let painted = output.image(0)?.clone();
            all.push(Painted { count, drawing, painted });
        }
        Ok(all)
    }
}

/// Returns a model's UNet, for which a ControlNet can be trained.
fn unet_of(model: &Model) -> Result<&UNet> {
    if model.inpaints() {
        let expected = "the checkpoint that the inpainting model derives from; a ControlNet for that checkpoint works \
                        with both";
        return Err(Error::parameter("model", "an inpainting model", expected));
    }
    let expected = "a checkpoint with a UNet, because impasto-train cannot train ControlNets of transformers";
    model.unet().map_err(|_| Error::parameter("model", "without a UNet", expected))
}

/// A picture that was painted from lines and `count` strokes.
struct Painted {
    count: u32,
    drawing: Drawing,
    painted: Raster,
}

/// Captions, timesteps and noise of a batch.
struct Noising<'a> {
    captions: &'a [&'a str],
    timesteps: &'a [usize],
    source: &'a mut impasto::diffusion::Noise,
}

impl Task for ControlTask {
    fn loss(&self, parameters: &Parameters, shard: &Shard) -> Result<Loss> {
        let mut rng = shard.rng();
        let cropped = shard.progress < self.crops;
        let batch = if cropped { 4 * self.batch } else { self.batch };
        let timesteps = self.denoising.later(&self.denoising.timesteps(&mut rng, batch));
        let (mut samples, mut hints, mut silent) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..batch as u64 {
            let mut sample = self.pictures.sample(shard.sample(batch as u64, i))?;
            if cropped {
                sample = self.quarter(sample, &mut rng)?;
            }
            hints.push(drawing(&sample.picture, &mut rng)?.hint(sample.picture.size())?);
            silent.push(cropped || rng.random_bool(UNPROMPTED));
            samples.push(sample);
        }
        let captions: Vec<&str> = samples
            .iter()
            .zip(&silent)
            .map(|(sample, silent)| if *silent { "" } else { sample.caption.as_str() })
            .collect();
        let net = self.net(parameters)?;
        let noising = Noising { captions: &captions, timesteps: &timesteps, source: &mut shard.noise() };
        let errors = self.errors(&net, &samples, &Tensor::f_cat(&hints, 0)?, noising)?;
        let total = errors.f_mul(&self.denoising.weights(&timesteps, early, errors.device())?)?.f_mean(Kind::Float)?;
        let mut parts = vec![("error", errors.f_mean(Kind::Float)?.f_double_value(&[])?)];
        parts.extend(self.pictures.skipped().map(|count| ("skipped", count as f64)));
        Ok(Loss { parts, total })
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Vec<(&'static str, f64)>> {
        let net = self.net(parameters)?;
        let shard = Shard { seed: 5, step: 0, part: 0, parts: 1, progress: 0.0 };
        let (mut rng, mut source) = (shard.rng(), shard.noise());
        let timesteps = self.denoising.spread(EVALUATED as usize);
        let mut all = Vec::new();
        for (first, timesteps) in (0..).step_by(8).zip(timesteps.chunks(8)) {
            let numbers = first..first + timesteps.len() as u64;
            let samples = numbers.map(|number| self.held_out.sample(number)).collect::<Result<Vec<_>>>()?;
            let hints = samples.iter().map(|sample| drawing(&sample.picture, &mut rng)?.hint(sample.picture.size()));
            let hint = Tensor::f_cat(&hints.collect::<Result<Vec<_>>>()?, 0)?;
            let captions: Vec<&str> = samples.iter().map(|sample| sample.caption.as_str()).collect();
            let noising = Noising { captions: &captions, timesteps, source: &mut source };
            let errors = self.errors(&net, &samples, &hint, noising)?;
            all.extend(timesteps.iter().copied().zip(Vec::<f32>::try_from(errors)?));
        }
        let mut figures = self.denoising.figures(&all);
        figures.extend(self.adherence(&net)?);
        Ok(figures)
    }

    fn sheet(&self, parameters: &Parameters) -> Result<Option<Raster>> {
        let net = self.net(parameters)?;
        let mut sheet = Sheet::new(2 + STROKES.len());
        for number in 0..SHOWN {
            let Sample { picture, caption, .. } = self.held_out.sample(number)?;
            sheet = sheet.add(caption, &picture);
            let all = self.stroke_after_stroke(&net, number, &STROKES)?;
            if let Some(last) = all.last() {
                sheet = sheet.add("lines and strokes", &last.drawing.raster()?);
            }
            for Painted { count, painted, .. } in &all {
                sheet = sheet.add(format!("{count} {}", if *count == 1 { "stroke" } else { "strokes" }), painted);
            }
        }
        sheet.draw().map(Some)
    }

    /// Returns the drawing beside the picture painted from it, with one more stroke in each frame.
    fn animation(&self, parameters: &Parameters) -> Result<Vec<Raster>> {
        let counts: Vec<u32> = (0..=ANIMATED).collect();
        let all = self.stroke_after_stroke(&self.net(parameters)?, 0, &counts)?;
        let beside = |Painted { drawing, painted, .. }: &Painted| -> Result<Raster> {
            let Size { width, height } = painted.size();
            let mut frame = Raster::flat(Rgb(255, 255, 255), (2 * width, height));
            frame.paste(&drawing.raster()?, 0, 0);
            frame.paste(painted, width, 0);
            Ok(frame)
        };
        all.iter().map(beside).collect()
    }

    fn rule(&self, name: &str, shape: &[i64]) -> Rule {
        let ends = ["conv_in", "time_embedding", "controlnet_"];
        if ends.iter().any(|end| name.starts_with(end)) { Rule::AdamW } else { Rule::of_shape(shape) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use impasto::Source;
    use rand::SeedableRng;
    use rand_pcg::Pcg64Mcg;

    /// Pictures whose colors and latents encode the position of each cell.
    struct Places;

    impl Pictures for Places {
        fn sample(&self, _: u64) -> Result<Sample> {
            let mut picture = Raster::flat(Rgb(0, 0, 0), (96, 64));
            for (x, y) in (0..64).flat_map(|y| (0..96).map(move |x| (x, y))) {
                picture.set(x, y, Rgb(x as u8 / 8, y as u8 / 8, 0));
            }
            let (rows, columns) = (
                Tensor::arange(8, (Kind::Float, tch::Device::Cpu)),
                Tensor::arange(12, (Kind::Float, tch::Device::Cpu)),
            );
            let [x, y] = [
                columns.view([1, 1, 1, 12]).expand([1, 1, 8, 12], false),
                rows.view([1, 1, 8, 1]).expand([1, 1, 8, 12], false),
            ];
            Ok(Sample { picture, caption: String::new(), latent: Some(Tensor::cat(&[x, y], 1)) })
        }
    }

    fn task() -> Result<ControlTask> {
        let model = Model::load(&Source::embedded())?;
        let config = ControlTask::config(&model, &[4, 8, 8, 16])?;
        ControlTask::new(model, config, Arc::new(Places), Arc::new(Places), 2, Kind::Float)
    }

    #[test]
    fn quarter_of_picture_matches_its_latent() -> Result<()> {
        let (task, mut rng) = (task()?, Pcg64Mcg::seed_from_u64(3));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..50 {
            let Sample { picture, latent, .. } = task.quarter(Places.sample(0)?, &mut rng)?;
            let latent = latent.expect("it had one");
            assert_eq!((picture.size(), latent.size().as_slice()), (Size::new(48, 32), &[1, 2, 4, 6][..]));
            let at = |channel, row, column| latent.double_value(&[0, channel, row, column]) as u8;
            let [first, last] = [(0, 0), (47, 31)].map(|(x, y)| picture.pixel(x, y).expect("inside"));
            assert_eq!((first, last), (Rgb(at(0, 0, 0), at(1, 0, 0), 0), Rgb(at(0, 3, 5), at(1, 3, 5), 0)));
            let _ = seen.insert(first);
        }
        assert!(seen.len() > 10, "always in the same places: {seen:?}");
        Ok(())
    }

    #[test]
    fn transformer_is_refused_before_the_training() -> Result<()> {
        let flow = Model::load(&Source::embedded_flow())?;
        let message = ControlTask::config(&flow, &[4, 8, 8, 16]).unwrap_err().to_string();
        assert!(message.contains("cannot train ControlNets of transformers"), "{message}");
        Ok(())
    }

    #[test]
    fn later_timesteps_come_more_often() -> Result<()> {
        let task = task()?;
        let later = task.denoising.later(&(0..1000).collect::<Vec<_>>());
        assert!(later.iter().all(|t| *t < 1000));
        let early = later.iter().filter(|t| **t < 500).count();
        assert!((240..=260).contains(&early), "{early} of 1000 in the lower half");
        Ok(())
    }
}
