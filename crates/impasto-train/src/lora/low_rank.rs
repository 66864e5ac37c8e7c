//! [`LowRank`]: a change of low rank of a UNet's matrices.

use impasto::weights::{Tensors, Weights};
use impasto::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Names of the trained tensors of a layer: A [r, inputs], B [outputs, r], and the lengths of the rows [outputs].
const DOWN: &str = "lora_A.weight";
const UP: &str = "lora_B.weight";
const LENGTHS: &str = "lora_magnitude_vector";
/// Matrices of an attention layer.
const ATTENTION: [&str; 4] = ["to_q", "to_k", "to_v", "to_out.0"];
/// Matrices of a feed-forward layer.
const FEED_FORWARD: [&str; 2] = ["net.0.proj", "net.2"];

/// A change of low rank of a UNet's matrices W. The trained tensors have the names of PEFT, below the path of their
/// layer: `….attn1.to_q.lora_A.weight`.
///
/// | algorithm | changed matrix |
/// |---|---|
/// | LoRA | V = W + (α/r) · B · A |
/// | DoRA | V · m / ‖V‖, with the norm of each row and its trained length m |
///
/// Sources: Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models"; Liu et al. (2024), "DoRA:
/// Weight-Decomposed Low-Rank Adaptation".
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Rank r of the product of B and A, at least 1; 4 to 32 is usual.
    pub rank: i64,
    /// The number α, above 0. The change is multiplied by α/r, so the rank is usual, or half of the rank.
    pub alpha: f64,
    /// Algorithm that computes the changed matrix.
    pub algorithm: Algorithm,
    /// Layers that are changed.
    pub layers: Layers,
}

/// An algorithm of a low-rank change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// LoRA: a sum of the matrix and the change.
    #[default]
    Lora,
    /// DoRA: a LoRA that also trains the lengths of the changed matrix's rows.
    Dora,
}

/// Layers of a UNet that a LoRA changes. Convolutions stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layers {
    /// Queries, keys, values and outputs of all attention layers.
    #[default]
    Attention,
    /// Queries, keys, values and outputs of the attention to the prompt alone.
    CrossAttention,
    /// All attention layers and all feed-forward layers.
    Transformers,
}

/// A program whose names the tensors of a file have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Kohya's trainer, with α beside each pair of matrices. Every program reads these names.
    #[default]
    Kohya,
    /// Diffusers and PEFT. Their files have no α, so B is multiplied by α/r.
    Diffusers,
}

impl Layers {
    /// Returns true if the layers include the one at `path`.
    fn include(self, path: &str) -> bool {
        let place = path.rsplit_once(".transformer_blocks.").and_then(|(_, place)| place.split_once('.'));
        match place.and_then(|(_, layer)| layer.split_once('.')) {
            Some(("attn1", matrix)) => self != Self::CrossAttention && ATTENTION.contains(&matrix),
            Some(("attn2", matrix)) => ATTENTION.contains(&matrix),
            Some(("ff", matrix)) => self == Self::Transformers && FEED_FORWARD.contains(&matrix),
            _ => false,
        }
    }
}

impl LowRank {
    /// Returns the initial tensors for the tensors of a UNet: a random A, and a B of zeros, so that nothing is changed
    /// yet.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a rank that is below 1 or larger than a side of a changed matrix, for an α that is not
    /// above 0, and for a UNet without such layers.
    pub fn initial(&self, unet: &Tensors, seed: u64) -> Result<Tensors> {
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(Error::parameter("alpha", self.alpha, "a number above 0; the rank is usual"));
        }
        let (random, mut tensors) = (Weights::random(seed, Kind::Float, Device::Cpu), Tensors::new());
        for (name, w) in unet {
            let Some(path) = name.strip_suffix(".weight").filter(|path| self.layers.include(path)) else { continue };
            let (outputs, inputs) = w.size2()?;
            let most = outputs.min(inputs);
            if !(1..=most).contains(&self.rank) {
                let expected = format!("1 to {most}, the smaller side of {path}; 4 to 32 is usual");
                return Err(Error::parameter("rank", self.rank, expected));
            }
            let layer = random.at(path);
            tensors.insert(format!("{path}.{DOWN}"), layer.tensor(DOWN, &[self.rank, inputs])?);
            let up = Tensor::f_zeros([outputs, self.rank], (Kind::Float, Device::Cpu))?;
            tensors.insert(format!("{path}.{UP}"), up);
            if self.algorithm == Algorithm::Dora {
                tensors.insert(format!("{path}.{LENGTHS}"), lengths(&w.f_to_kind(Kind::Float)?)?);
            }
        }
        if tensors.is_empty() {
            return Err(Error::parameter("model", "without attention layers", "a UNet that attends to a prompt"));
        }
        Ok(tensors)
    }

    /// Returns the tensors of a UNet with the change. Changed matrices are in f32, and gradients flow back to the
    /// trained tensors. Other tensors are shared.
    ///
    /// # Errors
    /// [`Error::Parameter`] for trained tensors of another change, which a folder with a checkpoint may have.
    pub(super) fn change(&self, unet: &Tensors, trained: &Tensors) -> Result<Tensors> {
        let changed = |(name, w): (&String, &Tensor)| -> Result<(String, Tensor)> {
            let path = name.strip_suffix(".weight").unwrap_or_default();
            let of_layer = |own: &str| trained.get(&format!("{path}.{own}"));
            let (down, up, m) = match (self.layers.include(path), of_layer(DOWN), of_layer(UP), of_layer(LENGTHS)) {
                (false, None, None, None) => return Ok((name.clone(), w.shallow_clone())),
                (true, Some(down), Some(up), m) if self.suits(down, m) => (down, up, m),
                _ => return Err(self.misfit()),
            };
            let change = up.f_matmul(down)?.f_mul_scalar(self.ratio())?; // [outputs, inputs]
            let v = w.f_to_kind(Kind::Float)?.f_add(&change)?;
            let changed = match m {
                Some(m) => v.f_mul(&m.f_div(&lengths(&v)?)?.f_unsqueeze(-1)?)?,
                None => v,
            };
            Ok((name.clone(), changed))
        };
        unet.iter().map(changed).collect()
    }

    /// Returns true if trained tensors have the rank and the algorithm of this change.
    fn suits(&self, down: &Tensor, lengths: Option<&Tensor>) -> bool {
        down.size().first() == Some(&self.rank) && lengths.is_some() == (self.algorithm == Algorithm::Dora)
    }

    /// The error for trained tensors of another change.
    fn misfit(&self) -> Error {
        let Self { rank, algorithm, layers, .. } = self;
        let expected =
            "the rank, algorithm and layers of the checkpoint that the training continues from, or a new folder";
        Error::parameter("the change", format!("{algorithm:?} of rank {rank} in the layers {layers:?}"), expected)
    }

    /// Returns trained tensors under the names of a program.
    ///
    /// # Errors
    /// [`Error::Parameter`] for tensors of another rank, of another algorithm or of further layers, to which the number
    /// α does not belong; [`Error::Torch`].
    pub fn named(&self, trained: &Tensors, names: Names) -> Result<Tensors> {
        let mut tensors = Tensors::new();
        for (name, x) in trained {
            let split = |own: &str| name.strip_suffix(own)?.strip_suffix('.');
            let found = [DOWN, UP, LENGTHS].into_iter().find_map(|own| Some((split(own)?, own)));
            let Some((path, own)) = found else { continue };
            let is_other = own == DOWN && !self.suits(x, trained.get(&format!("{path}.{LENGTHS}")));
            if is_other || !self.layers.include(path) {
                return Err(self.misfit());
            }
            let (name, x) = match (names, own) {
                (Names::Kohya, DOWN) => (format!("{}.lora_down.weight", kohya(path)), x.shallow_clone()),
                (Names::Kohya, UP) => {
                    let alpha = Tensor::f_from_slice(&[self.alpha as f32])?.f_squeeze()?;
                    tensors.insert(format!("{}.alpha", kohya(path)), alpha);
                    (format!("{}.lora_up.weight", kohya(path)), x.shallow_clone())
                }
                (Names::Kohya, _) => (format!("{}.dora_scale", kohya(path)), x.f_unsqueeze(-1)?), // [outputs, 1]
                (Names::Diffusers, UP) => (format!("unet.{path}.{UP}"), x.f_mul_scalar(self.ratio())?),
                (Names::Diffusers, own) => (format!("unet.{path}.{own}"), x.shallow_clone()),
            };
            tensors.insert(name, x);
        }
        Ok(tensors)
    }

    /// Returns α/r.
    fn ratio(&self) -> f64 {
        self.alpha / self.rank as f64
    }
}

/// Returns the name that kohya's trainer gives a UNet's layer.
fn kohya(path: &str) -> String {
    format!("lora_unet_{}", path.replace('.', "_"))
}

/// Returns the lengths of a matrix's rows, [outputs].
fn lengths(v: &Tensor) -> Result<Tensor> {
    let squares = v.f_square()?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
    Ok(squares.f_clamp_min(f64::from(f32::MIN_POSITIVE))?.f_sqrt()?) // a row of zeros stays one
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Parameters;
    use impasto::weights::Lora;
    use impasto::{Model, Source};

    fn unet() -> Result<(Model, Tensors)> {
        let model = Model::load(&Source::embedded())?;
        let unet = model.tensors("unet").expect("the embedded model has a UNet");
        Ok((model, unet))
    }

    /// Tensors in which nothing is zero, as after a training.
    fn trained(low_rank: &LowRank, unet: &Tensors) -> Result<Tensors> {
        let mut tensors = low_rank.initial(unet, 1)?;
        for (name, x) in &mut tensors {
            if !name.ends_with(DOWN) {
                let noise = impasto::diffusion::Noise::shared(name.len() as u64).draw(&x.size())?;
                *x = x.f_add(&noise.f_mul_scalar(0.05)?)?;
            }
        }
        Ok(tensors)
    }

    fn distance(a: &Tensors, b: &Tensors) -> f64 {
        assert!(a.keys().eq(b.keys()));
        a.iter().map(|(name, x)| (x - &b[name]).abs().max().double_value(&[])).fold(0.0, f64::max)
    }

    #[test]
    fn default_layers_are_those_of_all_attention() -> Result<()> {
        let (_, unet) = unet()?;
        let count = |layers: Layers| {
            let paths = unet.keys().filter_map(|name| name.strip_suffix(".weight"));
            paths.filter(|path| layers.include(path)).count()
        };
        // The UNet has four transformer blocks, each with two attention layers.
        assert_eq!(count(Layers::Attention), 4 * 2 * 4);
        assert_eq!(count(Layers::CrossAttention), 4 * 4);
        assert_eq!(count(Layers::Transformers), 4 * (2 * 4 + 2));
        Ok(())
    }

    #[test]
    fn untrained_change_leaves_the_weights() -> Result<()> {
        let (_, unet) = unet()?;
        for algorithm in [Algorithm::Lora, Algorithm::Dora] {
            let low_rank = LowRank { rank: 4, alpha: 2.0, algorithm, layers: Layers::Attention };
            let changed = low_rank.change(&unet, &low_rank.initial(&unet, 1)?)?;
            let apart = distance(&changed, &unet);
            assert!(apart < 1e-6, "{algorithm:?}: {apart}");
        }
        Ok(())
    }

    #[test]
    fn files_change_weights_as_in_the_training() -> Result<()> {
        let (model, unet) = unet()?;
        for algorithm in [Algorithm::Lora, Algorithm::Dora] {
            // α/r is no power of two.
            let low_rank = LowRank { rank: 3, alpha: 2.0, algorithm, layers: Layers::Transformers };
            let trained = trained(&low_rank, &unet)?;
            let expected = low_rank.change(&unet, &trained)?;
            assert!(distance(&expected, &unet) > 0.01, "a change");
            for names in [Names::Kohya, Names::Diffusers] {
                let changed = model.with_lora(&[Lora::of("lora", low_rank.named(&trained, names)?)?])?;
                assert!(changed.notes().is_empty(), "{:?}", changed.notes());
                let apart = distance(&changed.tensors("unet").expect("a UNet"), &expected);
                assert!(apart < 1e-6, "{algorithm:?}, {names:?}: {apart}");
            }
        }
        Ok(())
    }

    #[test]
    fn gradients_reach_every_trained_tensor() -> Result<()> {
        let (_, unet) = unet()?;
        let low_rank = LowRank { rank: 2, alpha: 2.0, algorithm: Algorithm::Dora, layers: Layers::Attention };
        let parameters = Parameters::new(&trained(&low_rank, &unet)?, Device::Cpu)?;
        let changed = low_rank.change(&unet, parameters.tensors())?;
        let sums = changed.values().map(|x| x.sin().sum(Kind::Float)).collect::<Vec<_>>();
        let gradients = parameters.gradients(&Tensor::stack(&sums, 0).sum(Kind::Float))?;
        assert!(gradients.iter().all(|gradient| gradient.abs().max().double_value(&[]) > 0.0));
        Ok(())
    }

    #[test]
    fn wrong_settings_are_refused_with_the_limit() -> Result<()> {
        let (_, unet) = unet()?;
        let usual = LowRank { rank: 4, alpha: 4.0, algorithm: Algorithm::Lora, layers: Layers::Attention };
        let message = |low_rank: LowRank| low_rank.initial(&unet, 1).unwrap_err().to_string();
        assert!(message(LowRank { rank: 0, ..usual.clone() }).contains("rank is 0; expected 1 to 80"));
        assert!(message(LowRank { rank: 81, ..usual.clone() }).contains("rank is 81; expected 1 to 80"));
        assert!(message(LowRank { alpha: f64::NAN, ..usual.clone() }).contains("alpha is NaN"));
        let begun = usual.initial(&unet, 1)?;
        for other in [
            LowRank { rank: 8, ..usual.clone() },
            LowRank { algorithm: Algorithm::Dora, ..usual.clone() },
            LowRank { layers: Layers::CrossAttention, ..usual.clone() },
            LowRank { layers: Layers::Transformers, ..usual.clone() },
        ] {
            let message = other.change(&unet, &begun).unwrap_err().to_string();
            assert!(message.contains("of the checkpoint that the training continues from"), "{message}");
            // Tensors alone do not tell that layers are missing.
            let is_written = other.named(&begun, Names::Kohya).is_ok();
            assert_eq!(is_written, other.layers == Layers::Transformers, "{other:?}");
        }
        assert!(usual.initial(&Tensors::new(), 1).unwrap_err().to_string().contains("without attention layers"));
        Ok(())
    }
}
