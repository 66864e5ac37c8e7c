//! Resizing of pictures, byte for byte as in Pillow.
//!
//! Rows are resampled first, then columns, and each of the two results is rounded to bytes. Weights are integers in
//! units of 2⁻²². A pixel of a smaller picture mixes all pixels that it covers. The filter is stretched by the ratio of
//! the sizes, which keeps edges smooth.
//!
//! Source: Pillow, `src/libImaging/Resample.c`. Since version 13, Pillow begins with the direction that takes less
//! work, and some of its bytes differ by one.

use crate::size::Size;
use std::f64::consts::PI;
use std::ops::Range;

/// Interpolation filter for resizing. The bytes are those of Pillow's filter of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Filter {
    /// The nearest pixel, so that no new colors appear. Suits maps whose colors have a meaning, and magnified small
    /// pictures.
    Nearest,
    /// The mean of all pixels that a pixel of a smaller picture covers. In a larger picture, pixels become blocks.
    Box,
    /// A mean weighted by distance, over all pixels that a pixel of a smaller picture covers.
    #[default]
    Bilinear,
    /// A windowed sinc as wide as [`Filter::Bilinear`], which makes smaller pictures sharper.
    Hamming,
    /// Keys' cubic (a = −½) over twice the width of [`Filter::Bilinear`], which may overshoot beside edges. CLIP's
    /// pictures are resized with this filter.
    Bicubic,
    /// A windowed sinc over three times the width of [`Filter::Bilinear`]. The sharpest filter, which overshoots beside
    /// edges.
    Lanczos,
}

/// Number of fractional bits of a weight: weights are in units of 2⁻²².
const BITS: u32 = 22;

/// Sources of one resized pixel: the pixels from `start` on, weighted by `weights`.
struct Mix {
    start: usize,
    weights: Vec<i64>,
}

impl Filter {
    /// Returns the filter's reach to either side, in pixels of the smaller picture; `None` if the filter takes one
    /// pixel.
    fn reach(self) -> Option<f64> {
        match self {
            Self::Nearest => None,
            Self::Box => Some(0.5),
            Self::Bilinear | Self::Hamming => Some(1.0),
            Self::Bicubic => Some(2.0),
            Self::Lanczos => Some(3.0),
        }
    }

    /// Returns the weight at distance `x`, in pixels of the smaller picture.
    fn weight(self, x: f64) -> f64 {
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) };
        let d = x.abs();
        match self {
            Self::Box if -0.5 < x && x <= 0.5 => 1.0,
            Self::Bilinear if d < 1.0 => 1.0 - d,
            Self::Hamming if d < 1.0 => sinc(x) * (f64::from(0.54f32) + f64::from(0.46f32) * (PI * x).cos()),
            // Keys' cubic with a = −½: 1 − (5d² − 3d³)/2, then 2 − 4d + (5d² − d³)/2
            Self::Bicubic if d < 1.0 => (1.5 * d - 2.5) * d * d + 1.0,
            Self::Bicubic if d < 2.0 => ((d - 5.0) * d + 8.0) * d * -0.5 + 2.0,
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }

    /// Returns the sources of each resized pixel in the range `wanted`. A line of `from` pixels is resized to `to`
    /// pixels.
    fn mixes(self, from: u32, to: u32, wanted: Range<u32>) -> Vec<Mix> {
        let ratio = f64::from(from) / f64::from(to);
        let stretch = ratio.max(1.0);
        let mix = |i: u32| {
            let Some(reach) = self.reach().map(|reach| reach * stretch) else {
                let place = (2 * u64::from(i) + 1) * u64::from(from) / (2 * u64::from(to));
                return Mix { start: place as usize, weights: vec![1 << BITS] };
            };
            let center = (f64::from(i) + 0.5) * ratio;
            let start = (center - reach + 0.5).max(0.0) as usize;
            let end = ((center + reach + 0.5) as usize).min(from as usize);
            // The divisions are in Pillow's order, so that halves round as in Pillow.
            let weight = |k: usize| self.weight((k as f64 - center + 0.5) * (1.0 / stretch));
            let weights: Vec<f64> = (start..end).map(weight).collect();
            let sum = weights.iter().sum::<f64>();
            let fixed = |weight: f64| (weight / sum * f64::from(1 << BITS)).round() as i64;
            Mix { start, weights: weights.into_iter().map(fixed).collect() }
        };
        wanted.map(mix).collect()
    }
}

/// Resizes a picture from size `from` to size `to` and returns the part `rows` × `columns`. `bytes` has 3 bytes per
/// pixel.
pub(super) fn resample(
    bytes: &[u8],
    from: Size,
    to: Size,
    (rows, columns): (Range<u32>, Range<u32>),
    filter: Filter,
) -> Vec<u8> {
    let across = filter.mixes(from.width, to.width, columns);
    let mut narrow = Vec::new(); // [from.height, columns, 3]
    for line in bytes.chunks_exact((3 * from.width as usize).max(1)) {
        let (pixels, _) = line.as_chunks::<3>();
        for mix in &across {
            let mut sums = [0; 3];
            for (pixel, weight) in pixels.iter().skip(mix.start).zip(&mix.weights) {
                add(&mut sums, pixel, *weight);
            }
            narrow.extend(sums.map(byte));
        }
    }

    let down = filter.mixes(from.height, to.height, rows);
    let line = 3 * across.len();
    let mut result = Vec::with_capacity(line * down.len()); // [rows, columns, 3]
    for mix in &down {
        let mut sums = vec![0; line];
        for (line, weight) in narrow.chunks_exact(line.max(1)).skip(mix.start).zip(&mix.weights) {
            add(&mut sums, line, *weight);
        }
        result.extend(sums.into_iter().map(byte));
    }
    result
}

fn add(sums: &mut [i64], bytes: &[u8], weight: i64) {
    for (sum, byte) in sums.iter_mut().zip(bytes) {
        *sum += weight * i64::from(*byte);
    }
}

/// Rounds a weighted sum to the nearest byte. Sums are clamped, because negative weights may lead out of 0..=255.
fn byte(sum: i64) -> u8 {
    ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use crate::color::Rgb;
    use crate::error::Result;
    use crate::raster::{Filter, Raster};
    use crate::size::Size;

    const FILTERS: [Filter; 6] =
        [Filter::Nearest, Filter::Box, Filter::Bilinear, Filter::Hamming, Filter::Bicubic, Filter::Lanczos];

    /// Returns a picture of 7 rows of 9 pixels in which no two neighbors are alike.
    fn uneven() -> Result<Raster> {
        let byte = |i: usize| ((37 * i * i + 11 * i + (i / 27) * 90) % 256) as u8;
        Raster::from_bytes((0..7 * 9 * 3).map(byte).collect(), (9, 7))
    }

    /// The expected sums come from `Image.resize` of Pillow 12.0 for the same picture. One resized picture is smaller,
    /// and two are larger along one side.
    #[test]
    fn every_filter_equals_pillow_in_every_byte() -> Result<()> {
        let sums = [
            [201984, 390840, 457758],
            [105897, 716406, 452180],
            [308015, 933403, 917769],
            [145172, 305555, 440007],
            [913820, 614045, 536826],
            [704997, 414427, 989373],
        ];
        for (filter, sums) in FILTERS.into_iter().zip(sums) {
            for ((h, w), sum) in [(3, 4), (2, 13), (9, 3)].into_iter().zip(sums) {
                let resized = uneven()?.resize((w, h), filter)?;
                let got = resized.bytes().iter().fold(0, |sum, byte| (sum * 31 + u64::from(*byte)) % 1_000_003);
                assert_eq!(got, sum, "{filter:?} to {h}×{w}: {:?}", resized.bytes());
            }
        }
        Ok(())
    }

    #[test]
    fn resized_part_equals_crop_of_the_whole() -> Result<()> {
        for filter in FILTERS {
            let part = uneven()?.resize_part(Size::new(13, 5), 1..4, 6..11, filter)?;
            assert_eq!(part, uneven()?.resize((13, 5), filter)?.crop(1..4, 6..11)?);
        }
        Ok(())
    }

    #[test]
    fn resize_to_the_same_size_changes_nothing() -> Result<()> {
        for filter in FILTERS {
            assert_eq!(uneven()?.resize((9, 7), filter)?, uneven()?);
        }
        Ok(())
    }

    #[test]
    fn pictures_without_pixels_become_black() -> Result<()> {
        for (filter, (h, w)) in
            FILTERS.into_iter().flat_map(|filter| [(filter, (0, 0)), (filter, (0, 4)), (filter, (4, 0))])
        {
            let empty = Raster::flat(Rgb(9, 9, 9), (w, h));
            assert_eq!(empty.resize((3, 2), filter)?, Raster::flat(Rgb(0, 0, 0), (3, 2)));
        }
        Ok(())
    }
}
