//! The judge: a small network that finds the parts of a picture. It knows nothing of the crate, nor of what was asked.

use crate::metrics::Picture;
use crate::runner::{CLASSES, Failure, Judge, Seen};
use ndarray::Array2;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Side of the pictures that the network was trained on.
const SIDE: i64 = 128;

/// The network's weights by name.
pub struct Evaluator(HashMap<String, Tensor>);

impl Evaluator {
    /// Where the repository has the weights.
    pub fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/evaluator/evaluator.safetensors")
    }

    pub fn open() -> Result<Self, Failure> {
        let path = Self::path();
        if !path.exists() {
            return Err(format!(
                "{}: the judge's weights are not there; they are test data of the repository and no part of the package, \
                 so run the yardstick in a clone of the repository",
                path.display()
            )
            .into());
        }
        Ok(Self(Tensor::read_safetensors(path)?.into_iter().collect()))
    }

    fn conv(&self, name: &str, x: &Tensor, stride: i64) -> Result<Tensor, Failure> {
        let weight = |name: String| self.0.get(&name).ok_or_else(|| format!("the judge's weights have no {name}"));
        let (weight, bias) = (weight(format!("{name}.weight"))?, weight(format!("{name}.bias"))?);
        let padding = weight.size()[3] / 2;
        Ok(x.f_conv2d(weight, Some(bias), [stride, stride], [padding, padding], [1, 1], 1)?)
    }

    /// Logits, [1, classes, 64, 64], of a picture in -1..=1, [1, 3, 128, 128].
    fn forward(&self, x: &Tensor) -> Result<Tensor, Failure> {
        let block = |name: &str, x: &Tensor, stride| Ok::<_, Failure>(self.conv(name, x, stride)?.f_relu()?);
        let down = |n: usize, x: &Tensor| block(&format!("e{n}b"), &block(&format!("e{n}"), x, 2)?, 1);
        let x1 = down(1, x)?;
        let x2 = down(2, &x1)?;
        let x3 = down(3, &x2)?;
        let mut y = down(4, &x3)?;
        for (name, beside) in [("d3", &x3), ("d2", &x2), ("d1", &x1)] {
            let (h, w) = (beside.size()[2], beside.size()[3]);
            y = block(name, &Tensor::f_cat(&[&y.f_upsample_nearest2d([h, w], None, None)?, beside], 1)?, 1)?;
        }
        self.conv("out", &y, 1)
    }
}

impl Judge for Evaluator {
    fn look(&mut self, picture: &Picture) -> Result<Seen, Failure> {
        let (h, w) = picture.dim();
        let x = small(&tensor(picture)?)?;
        let logits = self.forward(&x)?;
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

/// [1, 3, H, W] in -1..=1.
fn tensor(picture: &Picture) -> Result<Tensor, Failure> {
    let (h, w) = picture.dim();
    let bytes: Vec<u8> = picture.iter().flat_map(|pixel| [pixel.0, pixel.1, pixel.2]).collect();
    let x = Tensor::f_from_data_size(&bytes, &[1, h as i64, w as i64, 3], Kind::Uint8)?.f_to_device(Device::Cpu)?;
    Ok(x.f_permute([0, 3, 1, 2])?.f_contiguous()?.f_to_kind(Kind::Float)?.f_div_scalar(127.5)?.f_sub_scalar(1.0)?)
}

/// A larger picture at the network's size, averaged over areas in linear light.
fn small(x: &Tensor) -> Result<Tensor, Failure> {
    let (_, _, h, w) = x.size4()?;
    if (h, w) == (SIDE, SIDE) {
        return Ok(x.shallow_clone());
    }
    if h < SIDE || w < SIDE {
        return Err(format!("a picture of {h}×{w}; the judge needs {SIDE}×{SIDE} or more").into());
    }
    let srgb = x.f_add_scalar(1.0)?.f_div_scalar(2.0)?;
    let bright = srgb.f_add_scalar(0.055)?.f_div_scalar(1.055)?.f_pow_tensor_scalar(2.4)?;
    let light = bright.f_where_self(&srgb.f_gt(0.04045)?, &srgb.f_div_scalar(12.92)?)?;
    let light = light.f_adaptive_avg_pool2d([SIDE, SIDE])?;
    let bright = light.f_pow_tensor_scalar(1.0 / 2.4)?.f_mul_scalar(1.055)?.f_sub_scalar(0.055)?;
    let srgb = bright.f_where_self(&light.f_gt(0.0031308)?, &light.f_mul_scalar(12.92)?)?;
    Ok(srgb.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?)
}

/// The classes that it knows, for messages.
pub fn classes() -> String {
    CLASSES.join(", ")
}
