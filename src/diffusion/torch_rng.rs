//! [`TorchRng`]: torch's CPU random numbers, from a generator that is a plain value.

use crate::error::{Error, Result};
use half::{bf16, f16};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use tch::{Kind, Tensor};

/// Number of words in the Mersenne Twister's state.
const WORDS: usize = 624;
/// Number of values that a large normal draw transforms together: eight radii, then eight angles.
const BLOCK: usize = 16;

/// The stream of `torch.Generator(device="cpu")`: the same seed and the same draws give the same numbers.
///
/// Random words equal torch's bit for bit. Normals equal torch's to 2e-6 in f32 (torch's own normals differ as much
/// between processors), to 1e-15 in f64, and exactly in f16 and bf16. The generator is a plain value because tch offers
/// only the process-wide generator, which every thread and layer advances.
///
/// Source: MT19937 as in torch 2.11, `ATen/core/MT19937RNGEngine.h` and `ATen/native/cpu/DistributionTemplates.h`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TorchRng {
    #[serde(deserialize_with = "whole_state")]
    words: Vec<u32>,
    position: usize,
    /// Bits of the second f64 normal of a pair, kept for the next small draw.
    spare: Option<u64>,
}

impl TorchRng {
    /// The generator after `manual_seed(seed)`. As in torch, only the low 32 bits of `seed` count.
    pub(crate) fn seeded(seed: u64) -> Self {
        // w[0] = seed, w[j] = 1812433253·(w[j−1] ^ w[j−1] >> 30) + j
        let next = |&(j, w): &(u32, u32)| Some((j + 1, 1812433253u32.wrapping_mul(w ^ (w >> 30)).wrapping_add(j + 1)));
        let words = std::iter::successors(Some((0, seed as u32)), next).map(|(_, word)| word).take(WORDS).collect();
        Self { words, position: WORDS, spare: None }
    }

    /// `torch.randn(shape, dtype=kind)`: standard normal, on the CPU. `kind` is `Float`, `Double`, `Half` or
    /// `BFloat16`; draws of one seed in different kinds are unrelated.
    ///
    /// # Errors
    /// [`Error::Parameter`] for another kind, [`Error::Shape`] for a negative side.
    pub(crate) fn normal(&mut self, shape: &[i64], kind: Kind) -> Result<Tensor> {
        let count = count(shape)?;
        let flat = match kind {
            Kind::Float => Tensor::f_from_slice(&self.normals::<f32>(count)),
            Kind::Double => Tensor::f_from_slice(&self.normals::<f64>(count)),
            Kind::Half => Tensor::f_from_slice(&self.normals::<f16>(count)),
            Kind::BFloat16 => from_bf16(&self.normals(count)),
            _ => return Err(unknown(kind)),
        };
        Ok(flat?.f_reshape(shape)?)
    }

    /// `torch.rand(shape, dtype=kind)`: uniform in 0..1, on the CPU. `kind` and the errors are those of
    /// [`TorchRng::normal`].
    #[cfg(test)]
    fn uniform(&mut self, shape: &[i64], kind: Kind) -> Result<Tensor> {
        let count = count(shape)?;
        let flat = match kind {
            Kind::Float => Tensor::f_from_slice(&self.uniforms::<f32>(count)),
            Kind::Double => Tensor::f_from_slice(&self.uniforms::<f64>(count)),
            Kind::Half => Tensor::f_from_slice(&self.uniforms::<f16>(count)),
            Kind::BFloat16 => from_bf16(&self.uniforms(count)),
            _ => return Err(unknown(kind)),
        };
        Ok(flat?.f_reshape(shape)?)
    }

    fn uniforms<R: Real>(&mut self, count: usize) -> Vec<R> {
        (0..count).map(|_| R::uniform(self)).collect()
    }

    /// Draws `count` normals. Fewer than 16 are drawn one by one; more are made from uniforms in place, in blocks of
    /// 16. If `count` is not a multiple of 16, the last 16 values are drawn anew.
    fn normals<R: Real>(&mut self, count: usize) -> Vec<R> {
        if count < BLOCK {
            return (0..count).map(|_| R::of(self.one_normal())).collect();
        }
        let mut values = self.uniforms(count);
        values.chunks_exact_mut(BLOCK).for_each(box_muller);
        if !count.is_multiple_of(BLOCK)
            && let Some(last) = values.last_chunk_mut::<BLOCK>()
        {
            *last = std::array::from_fn(|_| R::uniform(self));
            box_muller(last);
        }
        values
    }

    /// One normal of a small draw, always computed in f64. Normals come in pairs; the second is kept for the next call.
    fn one_normal(&mut self) -> f64 {
        if let Some(bits) = self.spare.take() {
            return f64::from_bits(bits);
        }
        let (angle, radius) = (f64::uniform(self), f64::uniform(self));
        let (radius, angle) = ((-2.0 * (-radius).ln_1p()).sqrt(), std::f64::consts::TAU * angle);
        self.spare = Some((radius * angle.sin()).to_bits());
        radius * angle.cos()
    }

    /// Returns the next 32 bits, without drawing them.
    pub(crate) fn peek(&self) -> u32 {
        self.clone().word()
    }

    /// The next 32 bits.
    fn word(&mut self) -> u32 {
        if self.position >= WORDS {
            self.twist();
        }
        let mut word = self.words.get(self.position).copied().unwrap_or_default();
        self.position += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// The next 624 words: w[k + 624] = w[k + 397] ^ twisted(high bit of w[k], low bits of w[k + 1]).
    fn twist(&mut self) {
        let mut words = std::mem::take(&mut self.words);
        for k in 0..WORDS {
            let at = |offset| words.get(k + offset).copied().unwrap_or_default();
            let joined = (at(0) & 0x8000_0000) | (at(1) & 0x7fff_ffff);
            let word = at(397) ^ (joined >> 1) ^ if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            words.push(word);
        }
        words.drain(..WORDS);
        (self.words, self.position) = (words, 0);
    }
}

/// A number format of torch. Every operation rounds to the format.
trait Real: Copy {
    /// Draws a uniform number in 0..1.
    fn uniform(rng: &mut TorchRng) -> Self;
    /// Two normals from two uniforms: √(−2·ln(1 − u))·(cos 2πv, sin 2πv).
    fn pair(u: Self, v: Self) -> (Self, Self);
    /// The number of this format that is nearest to `value`.
    fn of(value: f64) -> Self;
}

impl Real for f32 {
    fn uniform(rng: &mut TorchRng) -> Self {
        (rng.word() & 0xff_ffff) as Self / (1u32 << 24) as Self
    }
    fn pair(u: Self, v: Self) -> (Self, Self) {
        let (radius, angle) = ((-2.0 * (1.0 - u).ln()).sqrt(), std::f32::consts::TAU * v);
        (radius * angle.cos(), radius * angle.sin())
    }
    fn of(value: f64) -> Self {
        value as Self
    }
}

impl Real for f64 {
    fn uniform(rng: &mut TorchRng) -> Self {
        let (high, low) = (u64::from(rng.word()), u64::from(rng.word()));
        ((high << 32 | low) & ((1 << 53) - 1)) as Self / (1u64 << 53) as Self
    }
    fn pair(u: Self, v: Self) -> (Self, Self) {
        let (radius, angle) = ((-2.0 * (1.0 - u).ln()).sqrt(), std::f64::consts::TAU * v);
        (radius * angle.cos(), radius * angle.sin())
    }
    fn of(value: f64) -> Self {
        value
    }
}

/// Implements [`Real`] for a 16-bit format. The implementation computes in f32 and rounds after every operation.
/// `$bits` is the number of random bits in a uniform.
macro_rules! half_real {
    ($half:ty, $bits:literal) => {
        impl Real for $half {
            fn uniform(rng: &mut TorchRng) -> Self {
                Self::from_f32((rng.word() & ((1 << $bits) - 1)) as f32 / (1 << $bits) as f32)
            }
            fn pair(u: Self, v: Self) -> (Self, Self) {
                let round = |value: f32| Self::from_f32(value).to_f32();
                let log = round(round(1.0 - u.to_f32()).ln());
                let radius = round(round(-2.0 * log).sqrt());
                let angle = round((std::f64::consts::TAU * v.to_f64()) as f32);
                (Self::from_f32(radius * round(angle.cos())), Self::from_f32(radius * round(angle.sin())))
            }
            fn of(value: f64) -> Self {
                Self::from_f32(value as f32)
            }
        }
    };
}
half_real!(f16, 11);
half_real!(bf16, 8);

/// Transforms a block of uniforms into normals.
fn box_muller<R: Real>(block: &mut [R]) {
    let (radii, angles) = block.split_at_mut(BLOCK / 2);
    for (radius, angle) in radii.iter_mut().zip(angles) {
        (*radius, *angle) = R::pair(*radius, *angle);
    }
}

/// Number of elements of a shape.
fn count(shape: &[i64]) -> Result<usize> {
    let product = shape.iter().try_fold(1usize, |count, &side| count.checked_mul(usize::try_from(side).ok()?));
    product.ok_or_else(|| Error::Shape {
        what: "noise",
        got: shape.to_vec(),
        expected: "dimensions of 0 or more that fit in memory together".into(),
    })
}

/// Creates a bf16 tensor by way of f32, which loses nothing. tch 0.24 would read a slice of bf16 as f16.
fn from_bf16(values: &[bf16]) -> std::result::Result<Tensor, tch::TchError> {
    let values: Vec<f32> = values.iter().map(|value| value.to_f32()).collect();
    Tensor::f_from_slice(&values)?.f_to_kind(Kind::BFloat16)
}

fn unknown(kind: Kind) -> Error {
    Error::parameter("kind", format!("{kind:?}"), "Float, Double, Half or BFloat16")
}

/// Reads the words of a saved generator, and checks their number.
fn whole_state<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<u32>, D::Error> {
    let words = Vec::deserialize(from)?;
    if words.len() == WORDS { Ok(words) } else { Err(D::Error::invalid_length(words.len(), &"624 words")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn golden() -> Value {
        let all: Value = serde_json::from_str(include_str!("../../tests/golden/specs/sampling.json")).unwrap();
        all["randn"].clone()
    }

    fn assert_near(got: &Tensor, want: &Value, tolerance: f64) {
        let want: Vec<f64> = want.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        let got = Vec::<f64>::try_from(got.to_kind(Kind::Double)).unwrap();
        assert_eq!(got.len(), want.len());
        let worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst <= tolerance, "{worst}");
    }

    #[test]
    fn words_match_torch_and_the_cpp_standard() {
        let mut rng = TorchRng::seeded(7);
        for want in golden()["u32 seed 7"].as_array().unwrap() {
            assert_eq!(u64::from(rng.word()), want.as_u64().unwrap());
        }
        // C++ standard, [rand.predef]: the 10000th word of the default seed.
        let mut standard = TorchRng::seeded(5489);
        assert_eq!((0..10000).map(|_| standard.word()).last(), Some(4123659995));
    }

    #[test]
    fn draws_of_every_size_match_torch() {
        let golden = golden();
        for seed in [0u64, 7, 42, 4294967301] {
            for (n, want) in golden[seed.to_string()].as_object().unwrap() {
                let got = TorchRng::seeded(seed).normal(&[n.parse().unwrap()], Kind::Float).unwrap();
                assert_near(&got, want, 2e-6);
            }
        }
        let mut rng = TorchRng::seeded(7);
        for (n, want) in [3, 3, 16, 1].into_iter().zip(golden["sequence seed 7: 3,3,16,1"].as_array().unwrap()) {
            assert_near(&rng.normal(&[n], Kind::Float).unwrap(), want, 2e-6);
        }
        let draw = |kind| TorchRng::seeded(7).normal(&[16], kind).unwrap();
        assert_near(&draw(Kind::Double), &golden["f64 seed 7 n 16"], 1e-9);
        assert_near(&draw(Kind::Half), &golden["f16 seed 7 n 16"], 1e-9);
    }

    #[test]
    fn draw_of_a_latent_matches_torch() {
        let z = TorchRng::seeded(7).normal(&[16384], Kind::Float).unwrap().to_kind(Kind::Double);
        let sums = [z.sum(Kind::Double), (&z * &z).sum(Kind::Double)].map(|sum| sum.double_value(&[]));
        let golden = golden();
        let want = &golden["seed 7, [1,4,64,64]: first 4, last 4, sum, sum of squares"];
        let ends = Tensor::cat(&[z.narrow(0, 0, 4), z.narrow(0, 16380, 4)], 0);
        assert_near(&ends, &Value::from(want.as_array().unwrap()[..8].to_vec()), 2e-6);
        assert!((sums[0] - want[8].as_f64().unwrap()).abs() < 1e-2, "{sums:?}");
        assert!((sums[1] - want[9].as_f64().unwrap()).abs() < 1e-2, "{sums:?}");
    }

    #[test]
    fn streams_of_mixed_draws_equal_the_golden_case() {
        let case = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/torch_rng");
        let text = std::fs::read_to_string(format!("{case}/case.json")).unwrap();
        let case_json: Value = serde_json::from_str(&text).unwrap();
        let wanted: std::collections::HashMap<String, Tensor> =
            Tensor::read_safetensors(format!("{case}/tensors.safetensors")).unwrap().into_iter().collect();
        let mut kinds = Vec::new();
        for stream in case_json["params"]["streams"].as_array().unwrap() {
            let mut rng = TorchRng::seeded(stream["seed"].as_u64().unwrap());
            for (k, draw) in stream["draws"].as_array().unwrap().iter().enumerate() {
                let shape: Vec<i64> = serde_json::from_value(draw["shape"].clone()).unwrap();
                let name = format!("{}.{k}", stream["id"].as_str().unwrap());
                let (want, tolerance) = (&wanted[&format!("out.{name}")], &case_json["outputs"][&name]);
                let is_uniform = draw["op"] == "rand";
                let got = if is_uniform { rng.uniform(&shape, want.kind()) } else { rng.normal(&shape, want.kind()) };
                let [atol, rtol] = ["atol", "rtol"].map(|name| tolerance[name].as_f64().unwrap());
                assert!(got.unwrap().allclose(want, rtol, atol, false), "{name}");
                kinds.push((is_uniform, want.kind()));
            }
        }
        for kind in [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16] {
            assert!(kinds.contains(&(false, kind)), "no draw in {kind:?}");
        }
        assert!(kinds.contains(&(true, Kind::Float)), "no uniform draw");
    }

    #[test]
    fn saved_generator_continues_its_stream() {
        let mut rng = TorchRng::seeded(3);
        let _ = rng.normal(&[5], Kind::Float).unwrap();
        let saved = serde_json::to_string(&rng).unwrap();
        let mut back: TorchRng = serde_json::from_str(&saved).unwrap();
        assert_eq!(back, rng);
        assert_eq!(back.normal(&[40], Kind::Float).unwrap(), rng.normal(&[40], Kind::Float).unwrap());
        let short = saved.replacen('[', "[1,", 1);
        assert!(serde_json::from_str::<TorchRng>(&short).unwrap_err().to_string().contains("624"));
    }

    #[test]
    fn unsupported_kinds_and_shapes_are_errors() {
        let mut rng = TorchRng::seeded(0);
        assert!(rng.normal(&[2], Kind::Int64).unwrap_err().to_string().contains("kind is Int64"));
        assert!(matches!(rng.uniform(&[2, -1], Kind::Float), Err(Error::Shape { .. })));
        assert_eq!(rng.normal(&[0, 4], Kind::Float).unwrap().size(), [0, 4]);
    }
}
