//! Latents of drawings, encoded once, because encoding takes longer than a training step of the UNet.

use super::dataset::{Dataset, Wording};
use half::f16;
use impasto::nn::Vae;
use impasto::weights::{Tensors, read_safetensors, write_safetensors};
use impasto::{Error, Result};
use std::fs;
use std::panic::resume_unwind;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Number of drawings in a file.
const SHARD: u64 = 256;
/// Number of drawings encoded at once.
const BATCH: u64 = 4;

/// Number of captions that are kept for each drawing, each in other words.
pub(super) const CAPTIONS: u64 = 32;

/// Scaled latents and captions of drawings, in memory. The workers of a training run share them.
#[derive(Debug, Default)]
pub struct Latents {
    values: Vec<f16>,
    captions: Vec<Vec<String>>,
    shape: [i64; 3],
}

impl Latents {
    /// Encodes the drawings of `seeds` into files of `folder`, and reads the files. Existing files are not made again,
    /// so that a killed process loses little; `workers` threads share the rest. `make` loads the VAE.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] for a file without latents and captions; the errors of `make`.
    pub fn encode(
        folder: &Path,
        dataset: Dataset,
        make: impl Fn() -> Result<Vae> + Sync,
        seeds: std::ops::Range<u64>,
        workers: u64,
    ) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.into(), source })?;
        let shards: Vec<u64> = (seeds.start / SHARD..seeds.end.div_ceil(SHARD)).collect();
        let missing: Vec<u64> = shards.iter().copied().filter(|&shard| !file(folder, shard).exists()).collect();
        std::thread::scope(|scope| {
            let make = &make;
            let threads: Vec<_> = missing
                .chunks(missing.len().div_ceil(workers.max(1) as usize).max(1))
                .map(|mine| {
                    scope.spawn(move || -> Result<()> {
                        tch::set_num_threads(1);
                        let _no_grad = tch::no_grad_guard();
                        let vae = make()?;
                        mine.iter().try_for_each(|&shard| write(folder, shard, dataset, &vae))
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

    /// Returns the number of latents.
    pub fn len(&self) -> usize {
        self.captions.len()
    }

    /// Returns true if there are no latents.
    pub fn is_empty(&self) -> bool {
        self.captions.is_empty()
    }

    /// Returns a caption of a drawing, in words that `choice` picks. Indices wrap around.
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

fn write(folder: &Path, shard: u64, dataset: Dataset, vae: &Vae) -> Result<()> {
    let (mut latents, mut captions) = (Vec::new(), Vec::new());
    for batch in 0..SHARD / BATCH {
        let first = shard * SHARD + batch * BATCH;
        let mut pictures = Vec::new();
        for seed in first..first + BATCH {
            let drawing = dataset.draw(seed)?;
            pictures.push(drawing.picture.to_tensor(Device::Cpu)?);
            let caption = |choice| drawing.record.caption(Wording::default(), choice);
            captions.push((0..CAPTIONS).map(caption).collect::<Vec<_>>());
        }
        let posterior = vae.encode(&Tensor::f_cat(&pictures, 0)?)?;
        latents.push(vae.scaled(&posterior.mean)?.f_to_kind(Kind::Half)?);
    }
    let path = file(folder, shard);
    let malformed =
        |e: serde_json::Error| Error::Malformed { file: path.display().to_string(), problem: e.to_string() };
    let captions = serde_json::to_vec(&captions).map_err(malformed)?;
    let tensors = [("latents", Tensor::f_cat(&latents, 0)?), ("captions", Tensor::f_from_slice(&captions)?)];
    write_safetensors(&tensors.map(|(name, x)| (name.into(), x)).into_iter().collect::<Tensors>(), &path)
}
