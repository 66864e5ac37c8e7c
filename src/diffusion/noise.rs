//! [`Noise`]: the random numbers of a run.

use super::torch_rng::TorchRng;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Seeded source of standard normal noise, without shared state.
///
/// On every device, the numbers are those of torch's CPU generators (`torch.Generator(device="cpu")`). A seed thus
/// gives the same picture as diffusers with CPU generators that draw in the same [`NoiseKind`]. The numbers equal
/// torch's to 2e-6 in f32 (torch's own numbers differ as much between processors), to 1e-15 in f64, and exactly in f16
/// and bf16. Clone a `Noise` to draw the same numbers again. Serialize a `Noise` to continue its numbers later.
///
/// ```
/// use impasto::diffusion::Noise;
///
/// let normals = Noise::shared(0).draw(&[2])?;                   // torch.randn(2, generator=manual_seed(0))
/// assert!((normals.double_value(&[0]) - 1.5410).abs() < 1e-4);
/// let two = Noise::seeded(7).draw(&[2, 4, 8, 8])?;
/// let second = Noise::seeded(8).draw(&[1, 4, 8, 8])?;
/// assert_eq!(two.get(1), second.get(0));                        // an image's noise does not depend on its neighbors
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noise {
    generators: Generators,
    #[serde(rename = "format")]
    kind: NoiseKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Generators {
    /// One generator per image, with seed `first` + i for image i. Generators are made when the number of images is
    /// known.
    Counted { first: u64, images: Vec<TorchRng> },
    /// One generator per image.
    Listed(Vec<TorchRng>),
    /// One generator for all images.
    Shared(TorchRng),
}

/// The number format that noise is drawn in. Torch draws different numbers from the same seed in each format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum NoiseKind {
    /// f32, as in diffusers' pipelines in f32.
    #[default]
    Float,
    /// f64.
    Double,
    /// f16, as in diffusers' pipelines with `torch_dtype=torch.float16`.
    Half,
    /// bf16, as in diffusers' pipelines with `torch_dtype=torch.bfloat16`.
    BFloat16,
}

/// Expected number of seeds, for error messages.
const SEEDS: &str = "one seed for each image; give as many seeds as there are images";

impl Noise {
    /// Creates noise with one generator per image, which has seed `seed` + i for image i of a batch.
    pub fn seeded(seed: u64) -> Self {
        Self::of(Generators::Counted { first: seed, images: Vec::new() })
    }

    /// Creates noise with one generator per image, which has seed `seeds[i]` for image i of a batch, like diffusers'
    /// list of generators.
    pub fn seeds(seeds: &[u64]) -> Self {
        Self::of(Generators::Listed(seeds.iter().copied().map(TorchRng::seeded).collect()))
    }

    /// Creates noise with one generator for the whole batch, which is diffusers' default. An image's noise then depends
    /// on the size of the batch.
    pub fn shared(seed: u64) -> Self {
        Self::of(Generators::Shared(TorchRng::seeded(seed)))
    }

    const fn of(generators: Generators) -> Self {
        Self { generators, kind: NoiseKind::Float }
    }

    /// Returns the noise of image number `image` of a batch, for a run of that image alone.
    ///
    /// # Errors
    /// [`Error::Parameter`] if all images share one generator, or if the image has no seed.
    pub(crate) fn of_image(self, image: usize) -> Result<Self> {
        let generators = match self.generators {
            Generators::Shared(_) => {
                let expected = "a seed for each image, because best_of repeats the chosen image alone";
                return Err(Error::parameter("noise", "one generator for the whole batch", expected));
            }
            Generators::Counted { first, images } => match images.into_iter().nth(image) {
                Some(drawn_from) => Generators::Listed(vec![drawn_from]),
                None => Generators::Counted { first: first.wrapping_add(image as u64), images: Vec::new() },
            },
            Generators::Listed(images) => {
                let given = format!("{}, too few for image {image} (counted from 0)", images.len());
                let own = images.into_iter().nth(image);
                Generators::Listed(vec![own.ok_or_else(|| Error::parameter("seeds", given, SEEDS))?])
            }
        };
        Ok(Self { generators, kind: self.kind })
    }

    /// Returns a seed for each image's draws inside the network: the next 32 bits of the image's generator. The
    /// generator stays as it is.
    pub(crate) fn inner_seeds(&self, images: usize) -> Vec<u64> {
        let of_image = |image: usize| match &self.generators {
            Generators::Counted { first, images } => match images.get(image) {
                Some(begun) => begun.peek(),
                None => TorchRng::seeded(first.wrapping_add(image as u64)).peek(),
            },
            Generators::Listed(images) => images.get(image).map(TorchRng::peek).unwrap_or_default(),
            Generators::Shared(rng) => rng.peek(),
        };
        (0..images).map(of_image).map(u64::from).collect()
    }

    /// Returns true if all images share a generator.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self.generators, Generators::Shared(_))
    }

    /// Sets the number format to draw in; `Float` is the default, and results are always f32. [`NoiseKind::Half`] gives
    /// the noise of a diffusers run in half precision, which is unrelated to the noise of a run in f32.
    #[must_use]
    pub(crate) const fn kind(mut self, kind: NoiseKind) -> Self {
        self.kind = kind;
        self
    }

    /// Draws the next standard normal tensor, f32 on the CPU. The first dimension of `shape` is the number of images.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the number of seeds is not the number of images, [`Error::Shape`] for an invalid shape.
    pub fn draw(&mut self, shape: &[i64]) -> Result<Tensor> {
        let kind = match self.kind {
            NoiseKind::Float => Kind::Float,
            NoiseKind::Double => Kind::Double,
            NoiseKind::Half => Kind::Half,
            NoiseKind::BFloat16 => Kind::BFloat16,
        };
        let (count, one) = match shape.split_first() {
            Some((&count, rest)) => (count.max(0) as usize, [&[1], rest].concat()),
            None => (1, Vec::new()),
        };
        let images = match &mut self.generators {
            Generators::Shared(rng) => return Ok(rng.normal(shape, kind)?.f_to_kind(Kind::Float)?),
            Generators::Listed(images) if images.len() == count => images,
            Generators::Listed(images) => {
                let given = format!("{} for {count} images", images.len());
                return Err(Error::parameter("seeds", given, SEEDS));
            }
            Generators::Counted { first, images } => {
                let seeds = (images.len()..count).map(|image| first.wrapping_add(image as u64));
                images.extend(seeds.map(TorchRng::seeded));
                images
            }
        };
        if count == 0 {
            return Ok(Tensor::f_zeros(shape, (Kind::Float, tch::Device::Cpu))?);
        }
        let draws: Result<Vec<Tensor>> = images.iter_mut().take(count).map(|rng| rng.normal(&one, kind)).collect();
        Ok(Tensor::f_cat(&draws?, 0)?.f_to_kind(Kind::Float)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(noise: &mut Noise, n: i64) -> Tensor {
        noise.draw(&[n, 4, 8, 8]).unwrap()
    }

    #[test]
    fn noise_of_an_image_is_independent_of_the_batch() {
        let (mut both, mut second) = (Noise::seeded(7), Noise::seeded(8));
        let mut listed = Noise::seeds(&[7, 8]);
        for _ in 0..3 {
            let drawn = draw(&mut both, 2);
            assert_eq!(drawn.narrow(0, 1, 1), draw(&mut second, 1));
            assert_eq!(drawn, draw(&mut listed, 2));
        }
    }

    #[test]
    fn noise_of_one_image_is_its_row_of_the_batch() {
        let mut begun = Noise::seeded(7);
        let _ = draw(&mut begun, 2);
        for (name, noise) in
            [("seeds", Noise::seeds(&[7, 8])), ("a first seed", Noise::seeded(7)), ("a begun one", begun)]
        {
            let second = draw(&mut noise.clone().of_image(1).unwrap(), 1);
            assert_eq!(second, draw(&mut noise.clone(), 2).narrow(0, 1, 1), "{name}");
        }
        let error = Noise::shared(7).of_image(1).unwrap_err().to_string();
        assert!(
            error.starts_with("noise is one generator for the whole batch; expected a seed for each image"),
            "{error}"
        );
        let error = Noise::seeds(&[7]).of_image(1).unwrap_err().to_string();
        assert_eq!(error, format!("seeds is 1, too few for image 1 (counted from 0); expected {SEEDS}"));
    }

    #[test]
    fn inner_seeds_belong_to_an_image_and_draw_nothing() {
        let seeds = Noise::seeded(7).inner_seeds(3);
        assert_eq!(seeds, Noise::seeds(&[7, 8, 9]).inner_seeds(3));
        assert_eq!(seeds[2], Noise::seeded(7).of_image(2).unwrap().inner_seeds(1)[0]);
        assert_eq!(Noise::shared(7).inner_seeds(2), [seeds[0]; 2]);
        let (mut noise, before) = (Noise::seeded(7), Noise::seeded(7));
        let _ = noise.inner_seeds(2);
        assert_eq!(noise, before);
        let _ = draw(&mut noise, 1);
        assert_ne!(noise.inner_seeds(1), before.inner_seeds(1), "a generator that has drawn");
    }

    #[test]
    fn shared_generator_fills_the_batch_in_one_draw() {
        let drawn = draw(&mut Noise::shared(7), 2);
        assert_eq!(drawn, TorchRng::seeded(7).normal(&[2, 4, 8, 8], Kind::Float).unwrap());
        assert_eq!(drawn.narrow(0, 0, 1), draw(&mut Noise::seeded(7), 1));
    }

    #[test]
    fn wrong_number_of_seeds_is_an_error() {
        let error = Noise::seeds(&[1, 2]).draw(&[3, 4, 8, 8]).unwrap_err().to_string();
        let expected =
            "seeds is 2 for 3 images; expected one seed for each image; give as many seeds as there are images";
        assert_eq!(error, expected);
    }

    #[test]
    fn half_noise_differs_from_f32_and_is_given_as_f32() {
        let half = draw(&mut Noise::seeded(7).kind(NoiseKind::Half), 1);
        assert_eq!(half.kind(), Kind::Float);
        assert_ne!(half, draw(&mut Noise::seeded(7), 1));
    }

    #[test]
    fn saved_noise_continues_its_stream() {
        let mut noise = Noise::seeded(7).kind(NoiseKind::BFloat16);
        let _ = draw(&mut noise, 2);
        let mut back: Noise = serde_json::from_str(&serde_json::to_string(&noise).unwrap()).unwrap();
        assert_eq!(draw(&mut back, 2), draw(&mut noise, 2));
    }
}
