//! [`Picture`]: a picture as an array, and the colors of its parts.

use crate::failure::Failure;
use crate::regions::Mask;
use impasto::{Lab, Raster, Rgb};
use ndarray::Array2;
use palette::{LinSrgb, Srgb};
use std::sync::LazyLock;

/// A picture, row by row.
pub type Picture = Array2<Rgb>;

/// A raster as an array.
pub fn picture(raster: &Raster) -> Result<Picture, Failure> {
    let pixels = raster.bytes().chunks_exact(3).map(|c| Rgb(c[0], c[1], c[2])).collect();
    let [height, width] = [raster.size().height, raster.size().width].map(|side| side as usize);
    Ok(Array2::from_shape_vec((height, width), pixels)?)
}

/// An array as a raster.
pub fn raster(picture: &Picture) -> Result<Raster, Failure> {
    let (h, w) = picture.dim();
    let bytes = picture.iter().flat_map(|pixel| [pixel.0, pixel.1, pixel.2]).collect();
    Ok(Raster::from_bytes(bytes, (w as u32, h as u32))?)
}

/// Number of pixels in a unit of length at this size (height, width).
pub fn unit((h, w): (usize, usize)) -> usize {
    (h.min(w) as f64 / 128.0).round().max(1.0) as usize
}

/// The values inside a mask, row by row.
pub fn of<'a, T>(values: &'a Array2<T>, mask: &'a Mask) -> impl Iterator<Item = &'a T> {
    values.iter().zip(mask).filter(|(_, inside)| **inside).map(|(value, _)| value)
}

/// Linear light of a color, from a table of double precision. The table of [`Rgb::to_linear`] has single precision and
/// is 1e-8 off.
pub fn light(color: Rgb) -> [f64; 3] {
    static TABLE: LazyLock<[f64; 256]> = LazyLock::new(|| {
        let channel = |i: usize| Srgb::new(i as f64 / 255.0, 0.0, 0.0).into_linear().red;
        std::array::from_fn(channel)
    });
    [color.0, color.1, color.2].map(|channel| TABLE[usize::from(channel)])
}

pub fn lab(color: Rgb) -> Lab {
    Lab::from_linear(light(color))
}

/// The mean of pixels in linear light.
pub fn mean_linear(picture: &Picture, mask: &Mask) -> [f64; 3] {
    let (mut sum, mut count) = ([0.0; 3], 0usize);
    for pixel in of(picture, mask) {
        let light = light(*pixel);
        (0..3).for_each(|channel| sum[channel] += light[channel]);
        count += 1;
    }
    sum.map(|sum| sum / count as f64)
}

pub fn mean_lab(picture: &Picture, mask: &Mask) -> Lab {
    Lab::from_linear(mean_linear(picture, mask))
}

/// Linear light as sRGB in 0..=255, not rounded.
pub fn encoded(light: [f64; 3]) -> [f64; 3] {
    let srgb: Srgb<f64> = Srgb::from_linear(LinSrgb::from(light.map(|channel| channel.clamp(0.0, 1.0))));
    [srgb.red, srgb.green, srgb.blue].map(|channel| 255.0 * channel)
}

/// Sliced 1-Wasserstein distance of two equally large clouds of colors, along 16 directions of a golden spiral.
pub fn sliced(a: &[Lab], b: &[Lab]) -> f64 {
    const DIRECTIONS: usize = 16;
    let along = |cloud: &[Lab], [l, x, y]: [f64; 3]| {
        let mut places: Vec<f64> = cloud.iter().map(|lab| lab.l * l + lab.a * x + lab.b * y).collect();
        places.sort_by(f64::total_cmp);
        places
    };
    let distance = |i: usize| {
        let z = 1.0 - (2 * i + 1) as f64 / DIRECTIONS as f64;
        let turn = std::f64::consts::PI * (1.0 + 5f64.sqrt()) * (i as f64 + 0.5);
        let flat = (1.0 - z * z).sqrt();
        let direction = [z, flat * turn.cos(), flat * turn.sin()];
        let (a, b) = (along(a, direction), along(b, direction));
        a.iter().zip(&b).map(|(a, b)| (a - b).abs()).sum::<f64>() / a.len() as f64
    };
    (0..DIRECTIONS).map(distance).sum::<f64>() / DIRECTIONS as f64
}
