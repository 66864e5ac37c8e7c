//! The judge of the embedded model's pictures: a separate network.

use super::view::{Judge, Seen, View};
use crate::failure::Failure;
use crate::picture::Picture;
use impasto_train::Evaluator as Network;
use ndarray::Array2;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

pub struct Evaluator(Network);

impl Evaluator {
    pub fn open() -> Result<Self, Failure> {
        Ok(Self(Network::trained()?))
    }

    /// Finds the parts by nothing but the picture.
    pub fn see(&self, picture: &Picture) -> Result<Seen, Failure> {
        let (h, w) = picture.dim();
        let logits = self.0.forward(&small(&tensor(picture)?)?)?;
        let (sure, labels) = logits.f_softmax(1, Kind::Float)?.f_max_dim(1, false)?;
        let large =
            labels.f_to_kind(Kind::Float)?.f_unsqueeze(0)?.f_upsample_nearest2d([h as i64, w as i64], None, None)?;
        let large = Vec::<f32>::try_from(&large.f_flatten(0, -1)?)?;
        let large: Vec<u8> = large.into_iter().map(|label| label as u8).collect();
        let (sure, labels) =
            (Vec::<f32>::try_from(&sure.f_flatten(0, -1)?)?, Vec::<i64>::try_from(&labels.f_flatten(0, -1)?)?);
        let mut sums: BTreeMap<u8, (f64, f64)> = BTreeMap::new();
        for (sure, label) in sure.into_iter().zip(labels) {
            let (sum, count) = sums.entry(label as u8).or_default();
            *sum += f64::from(sure);
            *count += 1.0;
        }
        let sure = sums.into_iter().map(|(class, (sum, count))| (class, sum / count)).collect();
        Ok(Seen { labels: Array2::from_shape_vec((h, w), large)?, sure })
    }
}

impl Judge for Evaluator {
    fn look(&mut self, view: &View<'_>) -> Result<Option<Seen>, Failure> {
        self.see(view.picture).map(Some)
    }
}

/// The picture as a tensor [1, 3, H, W] in -1..=1.
fn tensor(picture: &Picture) -> Result<Tensor, Failure> {
    let (h, w) = picture.dim();
    let bytes: Vec<u8> = picture.iter().flat_map(|pixel| [pixel.0, pixel.1, pixel.2]).collect();
    let x = Tensor::f_from_data_size(&bytes, &[1, h as i64, w as i64, 3], Kind::Uint8)?.f_to_device(Device::Cpu)?;
    Ok(x.f_permute([0, 3, 1, 2])?.f_contiguous()?.f_to_kind(Kind::Float)?.f_div_scalar(127.5)?.f_sub_scalar(1.0)?)
}

/// Shrinks a larger picture to the network's size, averaged over areas in linear light.
fn small(x: &Tensor) -> Result<Tensor, Failure> {
    const SIDE: i64 = Network::SIDE;
    let (_, _, h, w) = x.size4()?;
    if (h, w) == (SIDE, SIDE) {
        return Ok(x.shallow_clone());
    }
    if h < SIDE || w < SIDE {
        return Err(format!("the picture has {w}×{h} pixels; the evaluator needs {SIDE}×{SIDE} or more").into());
    }
    let srgb = x.f_add_scalar(1.0)?.f_div_scalar(2.0)?;
    let bright = srgb.f_add_scalar(0.055)?.f_div_scalar(1.055)?.f_pow_tensor_scalar(2.4)?;
    let light = bright.f_where_self(&srgb.f_gt(0.04045)?, &srgb.f_div_scalar(12.92)?)?;
    let light = light.f_adaptive_avg_pool2d([SIDE, SIDE])?;
    let bright = light.f_pow_tensor_scalar(1.0 / 2.4)?.f_mul_scalar(1.055)?.f_sub_scalar(0.055)?;
    let srgb = bright.f_where_self(&light.f_gt(0.0031308)?, &light.f_mul_scalar(12.92)?)?;
    Ok(srgb.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?)
}
