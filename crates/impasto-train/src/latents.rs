//! Latents of pictures, encoded once, because encoding takes longer than a training step of the UNet.

use super::dataset::{Dataset, Wording};
use super::layout::Layouts;
use half::f16;
use impasto::nn::Vae;
use impasto::weights::{Tensors, read_safetensors, write_safetensors};
use impasto::{Error, Result};
use std::fs;
use std::ops::Range;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::OnceLock;
use tch::{Device, Kind, Tensor};

/// Number of drawings in a file.
const SHARD: u64 = 256;
/// Number of drawings encoded at once.
const BATCH: u64 = 4;

/// Largest difference of latents that count as equal. Their deviation is 1, and processors differ in rounding.
const ROUNDING: f64 = 0.01;

/// Number of captions that are kept for each drawing, each in other words.
pub(super) const CAPTIONS: u64 = 32;

/// Scaled latents and captions of pictures, in memory. The workers of a training run share them.
#[derive(Debug, Default)]
pub struct Latents {
    values: Vec<f16>,
    captions: Vec<Vec<String>>,
    shape: [i64; 3],
    layouts: OnceLock<Layouts>,
}

impl Latents {
    /// Encodes the drawings of `seeds` into files of `folder`, and reads the files.
    ///
    /// Existing files are not made again if their first drawing still has the same latent and captions, so that a
    /// killed process loses little. Files of another VAE or of other drawings are replaced. `workers` threads share the
    /// work. `make` loads the VAE, once for each thread.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] for a file without latents and captions; the errors of `make`.
    pub fn encode(
        folder: &Path,
        dataset: Dataset,
        make: impl Fn() -> Result<Vae> + Sync,
        seeds: Range<u64>,
        workers: u64,
    ) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.into(), source })?;
        let shards: Vec<u64> = (seeds.start / SHARD..seeds.end.div_ceil(SHARD)).collect();
        std::thread::scope(|scope| {
            let make = &make;
            let shards = &shards;
            let workers = (workers.max(1) as usize).min(shards.len());
            let threads: Vec<_> = (0..workers)
                .map(|worker| {
                    scope.spawn(move || -> Result<()> {
                        tch::set_num_threads(1);
                        let _no_grad = tch::no_grad_guard();
                        let vae = make()?;
                        let mut mine = shards.iter().skip(worker).step_by(workers);
                        mine.try_for_each(|&shard| match is_current(folder, shard, dataset, &vae)? {
                            true => Ok(()),
                            false => write(folder, shard, dataset, &vae),
                        })
                    })
                })
                .collect();
            // A panic of a thread continues in the caller.
            threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
        })?;
        let mut latents = Self::default();
        for shard in shards {
            latents.read(&file(folder, shard))?;
        }
        Ok(latents)
    }

    /// Adds a scaled latent, [1, channels, h, w], with its caption.
    ///
    /// # Errors
    /// [`Error::Shape`] if the latents before it have another shape.
    pub(crate) fn push(&mut self, latent: &Tensor, caption: String) -> Result<()> {
        let (_, channels, h, w) = latent.size4()?;
        let shape = [channels, h, w];
        if !self.is_empty() && self.shape != shape {
            let expected = format!("{:?}, the shape of the other latents", self.shape);
            return Err(Error::Shape { what: "a latent", got: shape.to_vec(), expected });
        }
        self.shape = shape;
        self.values
            .extend(Vec::<f16>::try_from(latent.f_to_device(Device::Cpu)?.f_to_kind(Kind::Half)?.f_flatten(0, -1)?)?);
        self.captions.push(vec![caption]);
        Ok(())
    }

    fn read(&mut self, path: &Path) -> Result<()> {
        let malformed = |problem: String| Error::Malformed { file: path.display().to_string(), problem };
        let tensors = read_safetensors(path)?;
        let [latents, captions] = ["latents", "captions"]
            .map(|name| tensors.get(name).ok_or_else(|| malformed(format!("the file has no tensor {name}"))));
        let (latents, captions) = (latents?, Vec::<u8>::try_from(captions?)?);
        let (_, channels, h, w) = latents.size4()?;
        self.shape = [channels, h, w];
        self.values.extend(Vec::<f16>::try_from(latents.f_flatten(0, -1)?)?);
        let captions: Vec<_> = serde_json::from_slice(&captions).map_err(|error| malformed(error.to_string()))?;
        self.captions.extend(captions);
        Ok(())
    }

    /// Returns the layouts of the drawings, whose seeds begin with 0. The first call draws them.
    pub(super) fn layouts(&self, dataset: Dataset) -> Result<&Layouts> {
        if let Some(layouts) = self.layouts.get() {
            return Ok(layouts);
        }
        let layouts = Layouts::draw(dataset, self.len() as u64)?;
        Ok(self.layouts.get_or_init(|| layouts))
    }

    /// Returns the number of latents.
    pub fn len(&self) -> usize {
        self.captions.len()
    }

    /// Returns true if there are no latents.
    pub fn is_empty(&self) -> bool {
        self.captions.is_empty()
    }

    /// Returns a caption of a picture, in words that `choice` picks. Indices wrap around.
    pub fn caption(&self, index: usize, choice: u64) -> &str {
        let captions = self.captions.get(index % self.len().max(1)).map_or(&[][..], Vec::as_slice);
        captions.get(choice as usize % captions.len().max(1)).map_or("", String::as_str)
    }

    /// Returns latents by their index, [n, channels, h, w], f32. Indices wrap around.
    ///
    /// # Errors
    /// [`Error::Torch`] only.
    pub fn batch(&self, indices: &[usize]) -> Result<Tensor> {
        let [channels, h, w] = self.shape;
        let size = (channels * h * w) as usize;
        let latent = |&index: &usize| {
            let values = self.values.chunks_exact(size.max(1)).nth(index % self.len().max(1));
            values.into_iter().flatten().map(|value| value.to_f32())
        };
        let values: Vec<f32> = indices.iter().flat_map(latent).collect();
        Ok(Tensor::f_from_slice(&values)?.f_view([indices.len() as i64, channels, h, w])?)
    }
}

fn file(folder: &Path, shard: u64) -> std::path::PathBuf {
    folder.join(format!("{shard:06x}.safetensors"))
}

/// Returns true if the file of a shard exists, and its first drawing has the latent and the captions of today.
fn is_current(folder: &Path, shard: u64, dataset: Dataset, vae: &Vae) -> Result<bool> {
    let path = file(folder, shard);
    if !path.exists() {
        return Ok(false);
    }
    let mut saved = Latents::default();
    saved.read(&path)?;
    let (latents, captions) = encode(vae, dataset, shard * SHARD..shard * SHARD + 1)?;
    let before = saved.batch(&[0])?;
    if saved.captions.first() != captions.first() || before.size() != latents.size() {
        return Ok(false);
    }
    let apart = before.f_sub(&latents)?.f_abs()?.f_max()?.f_double_value(&[])?;
    Ok(apart < ROUNDING)
}

/// Encodes drawings to scaled latents, [n, channels, h, w] f16, and returns them with the captions of each drawing.
fn encode(vae: &Vae, dataset: Dataset, seeds: Range<u64>) -> Result<(Tensor, Vec<Vec<String>>)> {
    let (mut pictures, mut captions) = (Vec::new(), Vec::new());
    for seed in seeds {
        let drawing = dataset.draw(seed)?;
        pictures.push(drawing.picture.to_tensor(Device::Cpu)?);
        let caption = |choice| drawing.record.caption(Wording::default(), choice);
        captions.push((0..CAPTIONS).map(caption).collect());
    }
    let posterior = vae.encode(&Tensor::f_cat(&pictures, 0)?)?;
    Ok((vae.scaled(&posterior.mean)?.f_to_kind(Kind::Half)?, captions))
}

fn write(folder: &Path, shard: u64, dataset: Dataset, vae: &Vae) -> Result<()> {
    let (mut latents, mut captions) = (Vec::new(), Vec::new());
    for batch in 0..SHARD / BATCH {
        let first = shard * SHARD + batch * BATCH;
        let (more, of_each) = encode(vae, dataset, first..first + BATCH)?;
        latents.push(more);
        captions.extend(of_each);
    }
    let path = file(folder, shard);
    let malformed =
        |e: serde_json::Error| Error::Malformed { file: path.display().to_string(), problem: e.to_string() };
    let captions = serde_json::to_vec(&captions).map_err(malformed)?;
    let tensors = [("latents", Tensor::f_cat(&latents, 0)?), ("captions", Tensor::f_from_slice(&captions)?)];
    write_safetensors(&tensors.map(|(name, x)| (name.into(), x)).into_iter().collect::<Tensors>(), &path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use impasto::nn::{ConfigFile, VaeConfig};
    use impasto::weights::{Weights, parse_safetensors};

    /// The embedded VAE, with latents `scale` times as large.
    fn vae(scale: f64) -> Result<Vae> {
        let file = |name: &str| impasto_tiny::file(name).unwrap();
        let mut config = VaeConfig::from_json("config.json", &String::from_utf8_lossy(file("vae/config.json")))?;
        config.scaling_factor *= scale;
        let tensors = parse_safetensors("vae", file("vae/diffusion_pytorch_model.safetensors"))?;
        Vae::new(&Weights::new("the embedded VAE", tensors, Kind::Float, Device::Cpu), &config)
    }

    #[test]
    fn latents_of_another_vae_are_encoded_again() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let (path, dataset) = (file(folder.path(), 0), Dataset::new(64)?);
        let encode = |scale| Latents::encode(folder.path(), dataset, || vae(scale), 0..1, 1);
        let first = encode(1.0)?.batch(&[0, 255])?;
        let written = || fs::metadata(&path).unwrap().modified().unwrap();
        let before = written();
        assert_eq!(encode(1.0)?.batch(&[0, 255])?, first);
        assert_eq!(written(), before, "the file of the same VAE stays");
        let apart = encode(1.5)?.batch(&[0, 255])?.f_sub(&first.f_mul_scalar(1.5)?)?.f_abs()?.f_max()?;
        assert!(apart.f_double_value(&[])? < ROUNDING, "{apart:?}");
        Ok(())
    }
}
