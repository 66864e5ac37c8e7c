//! [`Factors`]: a change of a layer that is computed beside the layer's weight.

use super::kernel_layout::of_layer;
use crate::error::Result;
use tch::{Device, Kind, Tensor};

/// A change ΔW of a layer's weight, as factors that are applied to the layer's input one after the other:
/// ΔW·x = ratio · up·(down·x).
#[derive(Debug)]
pub(crate) struct Factors {
    /// The first factor, [rank, inputs] or [rank, inputs, h, w]; `None` if `up` is the whole change.
    pub down: Option<Tensor>,
    /// The second factor, [outputs, rank], or the whole change in the shape of the weight.
    pub up: Tensor,
    /// Factor of the change.
    pub ratio: f64,
}

impl Factors {
    /// Returns a second handle on the same tensors.
    pub(super) fn share(&self) -> Self {
        Self { down: self.down.as_ref().map(Tensor::shallow_clone), up: self.up.shallow_clone(), ratio: self.ratio }
    }

    /// Returns the factors for a layer whose weight has the shape `weight`, in the kind and on the device in which the
    /// network computes.
    pub(super) fn of_layer(&self, weight: &[i64], kind: Kind, device: Device) -> Result<Self> {
        let place = |x: &Tensor, shape: &[i64]| of_layer(&x.f_reshape(shape)?.f_contiguous()?, kind, device);
        let Some(down) = &self.down else {
            return Ok(Self { down: None, up: place(&self.up, weight)?, ratio: self.ratio });
        };
        let rank = down.size().first().copied().unwrap_or_default();
        let (outputs, inside) = weight.split_first().map_or((0, &[][..]), |(outputs, inside)| (*outputs, inside));
        let ones = vec![1; weight.len().saturating_sub(2)];
        Ok(Self {
            down: Some(place(down, &[&[rank], inside].concat())?),
            up: place(&self.up, &[&[outputs, rank][..], &ones].concat())?,
            ratio: self.ratio,
        })
    }

    /// Returns the factors of some outputs of the layer, as views.
    pub(super) fn outputs(&self, start: i64, length: i64) -> Result<Self> {
        let down = self.down.as_ref().map(Tensor::shallow_clone);
        Ok(Self { down, up: self.up.f_narrow(0, start, length)?, ratio: self.ratio })
    }

    /// Returns the factors for some inputs of the layer, as views.
    pub(super) fn inputs(&self, start: i64, length: i64) -> Result<Self> {
        Ok(match &self.down {
            Some(down) => {
                Self { down: Some(down.f_narrow(1, start, length)?), up: self.up.shallow_clone(), ratio: self.ratio }
            }
            None => Self { down: None, up: self.up.f_narrow(1, start, length)?, ratio: self.ratio },
        })
    }

    /// Returns the factors of a 1×1 convolution as those of a linear layer.
    pub(super) fn matrix(&self) -> Result<Self> {
        let flat = |x: &Tensor| x.f_flatten(1, -1);
        Ok(Self { down: self.down.as_ref().map(flat).transpose()?, up: flat(&self.up)?, ratio: self.ratio })
    }
}
