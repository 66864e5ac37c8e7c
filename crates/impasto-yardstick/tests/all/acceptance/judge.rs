//! The judge of the embedded model's pictures: a small segmentation net that finds the parts, independently of
//! guidance.
//!
//! The net was trained on drawn pictures of the same kind (`docs/tiny-model.md`). The crate `impasto` does not use the
//! net.

use impasto::Result;
use impasto::color::Rgb;
use impasto::raster::{Filter, Raster};
use impasto_train::Evaluator;
use impasto_train::dataset::Class;
use impasto_yardstick::statistics::median;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Least number of cells of a part, of 64 × 64. A smaller part counts as absent.
const LEAST: i64 = 6;

/// Side of the pictures that the net was trained on.
const SIDE: u32 = Evaluator::SIDE as u32;

pub struct Judge(Evaluator);

/// A picture seen by the judge.
pub struct Seen {
    /// Class of each of 64 × 64 cells.
    labels: Tensor,
    /// Mean color of each cell, [64, 64, 3] in 0..=255.
    colors: Tensor,
}

impl Judge {
    pub fn new() -> Self {
        Self(Evaluator::trained().expect("the trainer has its weights"))
    }

    /// Looks at a square picture, resized to 128 × 128 pixels.
    pub fn look(&self, picture: &Raster) -> Result<Seen> {
        assert_eq!(picture.size().width, picture.size().height, "the judge knows one shape");
        let x = picture.resize((SIDE, SIDE), Filter::Box)?.to_tensor(Device::Cpu)?;
        let labels = self.0.forward(&x).expect("the weights are the network's").argmax(1, false).squeeze_dim(0);
        let colors = ((x + 1.0) * 127.5).avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None);
        Ok(Seen { labels, colors: colors.squeeze_dim(0).permute([1, 2, 0]) })
    }
}

impl Seen {
    /// Mask of a part, [64, 64] bool.
    pub fn part(&self, part: &str) -> Tensor {
        let class = Class::ALL.iter().position(|class| class.name() == part).expect("a class of the judge");
        self.labels.eq(class as i64)
    }

    /// Returns a part's share of the picture, the share of the part inside a window, and the part's middle (x, y). The
    /// window is columns `x` and rows `y` of 64 × 64.
    pub fn place(&self, part: &str, x: Range<i64>, y: Range<i64>) -> (f64, f64, (f64, f64)) {
        let part = self.part(part).to_kind(Kind::Double);
        let all = part.sum(Kind::Double).double_value(&[]);
        let inside = part.narrow(0, y.start, y.end - y.start).narrow(1, x.start, x.end - x.start);
        let axis = Tensor::arange(64, (Kind::Double, Device::Cpu)) + 0.5;
        let middle = |dim: i64| (part.sum_dim_intlist([dim].as_slice(), false, Kind::Double) * &axis).sum(Kind::Double);
        let middle = (middle(0).double_value(&[]) / all, middle(1).double_value(&[]) / all);
        (all / 4096.0, inside.sum(Kind::Double).double_value(&[]) / all, middle)
    }

    /// Median color of a part; `None` if the part is not in the picture.
    pub fn color(&self, part: &str) -> Option<Rgb> {
        self.color_at(&self.part(part))
    }

    /// Median color inside `place`, [64, 64] bool; `None` if `place` is too small.
    pub fn color_at(&self, place: &Tensor) -> Option<Rgb> {
        let cells = self.colors.reshape([-1, 3]).index(&[Some(place.reshape([-1]))]);
        if cells.size()[0] < LEAST {
            return None;
        }
        let half = Tensor::from_slice(&[0.5f32]);
        let median = cells.quantile(&half, 0, false, "linear").reshape([3]).round();
        let [r, g, b] = Vec::<f32>::try_from(median).expect("three channels")[..] else { return None };
        Some(Rgb(r as u8, g as u8, b as u8))
    }

    /// Median CIEDE2000 between two pictures outside the first picture's `part`, grown by two cells.
    pub fn change_outside(&self, other: &Self, part: &str) -> f64 {
        let part = self.part(part).to_kind(Kind::Float).reshape([1, 1, 64, 64]);
        let grown = part.max_pool2d([5, 5], [1, 1], [2, 2], [1, 1], false).reshape([-1]).eq(0.0);
        let cells = |seen: &Self| -> Vec<Rgb> {
            let outside = seen.colors.reshape([-1, 3]).index(&[Some(&grown)]).round().to_kind(Kind::Uint8);
            let bytes = Vec::<u8>::try_from(outside.contiguous().reshape([-1])).expect("bytes");
            bytes.chunks_exact(3).map(|c| Rgb(c[0], c[1], c[2])).collect()
        };
        median(cells(self).into_iter().zip(cells(other)).map(|(a, b)| a.delta_e(b)).collect())
    }
}
