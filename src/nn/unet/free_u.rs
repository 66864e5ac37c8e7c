//! FreeU in a block of the expanding half: the factors of its backbone and of its skip connections.

use crate::conditioning::FreeUFactors;
use crate::error::Result;
use tch::{Kind, Tensor};

/// Factors of one block of the expanding half.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockFactors {
    backbone: f64,
    skip: f64,
}

impl BlockFactors {
    /// Returns the factors of block `number`, counted from the smallest grid; `None` for blocks without factors.
    pub(super) fn of(factors: &FreeUFactors, number: usize) -> Option<Self> {
        let (backbone, skip) = (*factors.backbone.get(number)?, *factors.skip.get(number)?);
        Some(Self { backbone, skip })
    }

    /// Multiplies the first half of the channels of `x`, [b, channels, h, w], by the backbone's factor.
    pub(super) fn scale(self, x: &Tensor) -> Result<Tensor> {
        let channels = x.size4()?.1;
        let half = channels / 2;
        let options = (x.kind(), x.device());
        let [first, second] =
            [Tensor::f_full([half], self.backbone, options)?, Tensor::f_ones([channels - half], options)?];
        Ok(x.f_mul(&Tensor::f_cat(&[first, second], 0)?.f_view([1, channels, 1, 1])?)?)
    }

    /// Multiplies the lowest frequencies of `skip`, [b, channels, h, w], by the skip connections' factor. These are the
    /// frequencies 0 and −1 along both sides.
    pub(super) fn filter(self, skip: &Tensor) -> Result<Tensor> {
        if self.skip == 1.0 {
            return Ok(skip.shallow_clone());
        }
        let (_, _, h, w) = skip.size4()?;
        let device = skip.device();
        let lowest = |side: i64| -> Result<Tensor> {
            let mut lowest = Tensor::f_zeros([side], (Kind::Float, device))?;
            let places = Tensor::f_from_slice(&[0, side - 1])?.f_to_device(device)?;
            Ok(lowest.f_index_fill_(0, &places, 1.0)?)
        };
        // 1 + (s − 1)·lowest, [h, w]
        let factors = lowest(h)?.f_outer(&lowest(w)?)?.f_mul_scalar(self.skip - 1.0)?.f_add_scalar(1.0)?;
        let waves = skip.f_to_kind(Kind::Float)?.f_fft_fft2(None::<&[i64]>, [-2, -1], "backward")?;
        let filtered = waves.f_mul(&factors)?.f_fft_ifft2(None::<&[i64]>, [-2, -1], "backward")?;
        Ok(filtered.f_real()?.f_to_kind(skip.kind())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn block_is_changed_as_in_diffusers() {
        let golden: Value = crate::json::parse(include_str!("../../../tests/golden/specs/free_u.json")).unwrap();
        let factors = FreeUFactors { backbone: [1.5, 1.6], skip: [0.9, 0.2] };
        for case in golden.as_array().unwrap() {
            let tensor = |name: &str| {
                let numbers = case[name].as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32);
                let shape: Vec<i64> = case["shape"].as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect();
                Tensor::from_slice(&numbers.collect::<Vec<_>>()).reshape(shape)
            };
            let number = case["block"].as_u64().unwrap() as usize;
            let changed = BlockFactors::of(&factors, number);
            let x = changed.map_or_else(|| tensor("x"), |factors| factors.scale(&tensor("x")).unwrap());
            let skip = changed.map_or_else(|| tensor("skip"), |factors| factors.filter(&tensor("skip")).unwrap());
            assert!(x.allclose(&tensor("scaled"), 1e-6, 1e-6, false), "block {number}");
            assert!(skip.allclose(&tensor("filtered"), 1e-5, 1e-5, false), "block {number}");
        }
    }
}
