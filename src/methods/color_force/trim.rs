//! Trimming: a last correction that measures a region's color in the picture and moves the latent by the error.

use super::gold::constant;
use super::measure::{MET, NEAR, Place, measure, within};
use super::repainting::Repainting;
use super::settings::Settings;
use crate::color::{Rgb, srgb};
use crate::conditioning::Codec;
use crate::error::Result;
use crate::mask::blur;
use serde::Serialize;
use tch::{Kind, Tensor};

/// The effect of trimming on one image.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct Trimmed {
    /// Index in the batch.
    pub image: usize,
    /// CIEDE2000 between the region and the color asked for, before trimming.
    pub before: f64,
    /// CIEDE2000 between the region and the color asked for, after trimming.
    pub after: f64,
    /// Number of rounds in which the latent was moved.
    pub rounds: usize,
    /// Share of the texture that is left; 1 unless trimming had to reduce the texture.
    pub texture: f64,
}

/// Largest CIEDE2000 between a color and its round trip through the VAE at which trimming is tried.
///
/// Beyond this limit no set point reaches the color, so trimming would only take time.
pub(super) const UNSHOWABLE: f64 = 10.0;
/// CIEDE2000 at which trimming stops, because smaller differences are not visible.
const GOAL: f64 = 0.75;
/// Largest offset of a recolored material, in sRGB of 0..=1.
const FARTHEST: f64 = 0.3;
/// Shares of the texture, tried in turn until the color is met.
const FLATTER: [f64; 3] = [0.75, 0.5, 0.25];
/// Share of pixels near the color below which trimming tries the first share in `FLATTER` even if the color is met.
///
/// In that case the other shares are not tried, because an object may have parts in other colors. For example, an eye
/// has a pupil.
const ENOUGH: f64 = 0.8;

/// Trims the region `mask` ([h, w] of 0 and 1) of one image's latent, [1, c, h, w]. With a repainting, the region is
/// the material's pixels. `None` for a region without pixels.
///
/// The set point p moves by the color error in linear light: p ← clip(p + asked − measured). The latent moves by the
/// difference between the latents of the new and the old set point ([`Aim`]). Without a repainting, these moves are
/// tried again with less texture in two cases, and the best result counts:
///
/// - If the color is not met, three quarters, a half and a quarter of the texture are tried in turn.
/// - If the color is met but too few of the region's pixels have it, three quarters of the texture are tried.
pub(super) fn trim(
    latent: &Tensor,
    mask: &Tensor,
    image: usize,
    settings: &Settings,
    codec: &dyn Codec,
    repainting: Option<&Repainting>,
) -> Result<Option<(Tensor, Trimmed)>> {
    let region = mask.f_unsqueeze(0)?.f_unsqueeze(0)?.f_to_device(latent.device())?;
    let first = decoded(latent, mask, codec)?;
    let soft = blur(&region, 1.0)?;
    let (aim, place) = match repainting {
        Some(repainting) => {
            let image = image as i64;
            let place = Place::of_share(&repainting.share_of(image)?, codec.cell())?;
            (Aim::Recolored { repainting, image, offset: [0.0; 3] }, place)
        }
        None => {
            let place = Place::of(mask, &first, codec.cell(), settings.options.outlines)?;
            (Aim::Flat { soft: &soft, point: settings.color.to_linear() }, place)
        }
    };
    let trim = Trim { mask, start: aim.latent(codec)?, aim, place, settings, codec };
    let Some(pixels) = trim.place.pixels(&first)? else { return Ok(None) };
    let before = measure(&pixels, settings.options.stat, settings.color)?.delta_e;
    let mut best = trim.approach(latent.shallow_clone(), pixels)?;
    let mut texture = 1.0;
    let flatter = if settings.options.flatten && repainting.is_none() { FLATTER.as_slice() } else { &[] };
    for (tried, share) in flatter.iter().enumerate() {
        if best.delta_e <= MET && (tried > 0 || best.coverage >= ENOUGH) {
            break;
        }
        let flatter = flatten(latent, &region, *share)?;
        let Some(pixels) = trim.place.pixels(&decoded(&flatter, mask, codec)?)? else { break };
        let other = trim.approach(flatter, pixels)?;
        if other.is_better_than(&best) {
            (best, texture) = (other, *share);
        }
    }
    let Attempt { latent, delta_e: after, rounds, .. } = best;
    Ok(Some((latent, Trimmed { image, before, after, rounds, texture })))
}

/// The set point of trimming, and the way in which the set point becomes a latent.
#[derive(Clone, Copy)]
enum Aim<'a> {
    /// The flat latent of a color in linear light, under the mask blurred by one cell, [1, 1, h, w] in 0..=1.
    Flat { soft: &'a Tensor, point: [f64; 3] },
    /// The recolored picture of an image, with the material moved by an offset in sRGB.
    Recolored { repainting: &'a Repainting, image: i64, offset: [f64; 3] },
}

impl Aim<'_> {
    /// Moves the set point by the difference between the color asked for and the measured color, in linear light.
    fn correct(&mut self, asked: Rgb, measured: [f64; 3]) {
        match self {
            Self::Flat { point, .. } => {
                for ((point, asked), measured) in point.iter_mut().zip(asked.to_linear()).zip(measured) {
                    *point = (*point + asked - measured).clamp(0.0, 1.0);
                }
            }
            // Encoders read colors a little outside of sRGB. Without them the corners of sRGB would not be reached.
            Self::Recolored { offset, .. } => {
                let apart = srgb(asked.to_linear()).into_iter().zip(srgb(measured));
                for (offset, (asked, measured)) in offset.iter_mut().zip(apart) {
                    *offset = (*offset + asked - measured).clamp(-FARTHEST, FARTHEST);
                }
            }
        }
    }

    fn latent(&self, codec: &dyn Codec) -> Result<Tensor> {
        match self {
            Self::Flat { soft, point } => Ok(constant(Rgb::from_linear(*point), codec)?.f_mul(soft)?),
            Self::Recolored { repainting, image, offset } => repainting.latent(*image, *offset, codec),
        }
    }
}

/// The trimming of one image's region.
struct Trim<'a> {
    mask: &'a Tensor,
    aim: Aim<'a>,
    /// The latent of the first set point.
    start: Tensor,
    place: Place,
    settings: &'a Settings,
    codec: &'a dyn Codec,
}

/// A trimmed latent, with the color of its region as measured in the decoded picture.
struct Attempt {
    latent: Tensor,
    /// CIEDE2000 between the region and the color asked for.
    delta_e: f64,
    /// Share of the region's pixels near the color asked for.
    coverage: f64,
    rounds: usize,
}

impl Attempt {
    /// Returns true if this attempt has the larger coverage, where both attempts meet the color, and otherwise if this
    /// attempt has the smaller CIEDE2000.
    fn is_better_than(&self, other: &Self) -> bool {
        if self.delta_e.max(other.delta_e) <= MET {
            self.coverage > other.coverage
        } else {
            self.delta_e < other.delta_e
        }
    }
}

impl Trim<'_> {
    /// Moves the set point and `latent` until the color is near enough, no longer improves, or all rounds are used.
    /// `pixels`, [3, pixels], are the region's pixels in the picture of `latent`.
    fn approach(&self, mut latent: Tensor, mut pixels: Tensor) -> Result<Attempt> {
        let (color, stat) = (self.settings.color, self.settings.options.stat);
        let (mut aim, mut here) = (self.aim, self.start.shallow_clone());
        let (mut now, mut rounds) = (measure(&pixels, stat, color)?, 0);
        while rounds < self.settings.options.trim && now.delta_e > GOAL {
            aim.correct(color, now.light);
            let there = aim.latent(self.codec)?;
            let moved = latent.f_add(&there.f_sub(&here)?)?;
            let Some(seen) = self.place.pixels(&decoded(&moved, self.mask, self.codec)?)? else { break };
            let after = measure(&seen, stat, color)?;
            if after.delta_e >= now.delta_e {
                break;
            }
            (latent, pixels, now, here) = (moved, seen, after, there);
            rounds += 1;
        }
        Ok(Attempt { latent, delta_e: now.delta_e, coverage: within(&pixels, color, NEAR)?, rounds })
    }
}

/// Decodes a latent to a picture, [3, H, W] in -1..=1, on the mask's device.
fn decoded(latent: &Tensor, mask: &Tensor, codec: &dyn Codec) -> Result<Tensor> {
    Ok(codec.decode(latent)?.f_to_device(mask.device())?.f_clamp(-1.0, 1.0)?.f_squeeze_dim(0)?)
}

/// Reduces the texture in `region`, [1, 1, h, w] of 0 and 1: each cell z becomes mean + share·(z − mean), where mean is
/// the latent's mean over the region.
fn flatten(latent: &Tensor, region: &Tensor, share: f64) -> Result<Tensor> {
    let cells = |x: &Tensor| x.f_sum_dim_intlist([2i64, 3].as_slice(), true, Kind::Float);
    let mean = cells(&latent.f_mul(region)?)?.f_div(&cells(region)?)?;
    Ok(latent.f_add(&mean.f_sub(latent)?.f_mul_scalar(1.0 - share)?.f_mul(region)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditioning::{Conditioning, Texts};
    use crate::error::Error;
    use crate::methods::ColorForce;
    use crate::prompt::Prompt;
    use tch::Device;

    const GRAY: Rgb = Rgb(128, 128, 128);

    /// A codec whose latent is the picture, cell by cell.
    struct Pixels;

    impl Codec for Pixels {
        fn prompt(&self, _: Texts<'_>) -> Result<Prompt> {
            Err(Error::EmptyPhrase)
        }
        fn text(&self, _: Texts<'_>) -> Result<Conditioning> {
            Err(Error::EmptyPhrase)
        }
        fn encode(&self, picture: &Tensor) -> Result<Tensor> {
            Ok(picture.shallow_clone())
        }
        fn decode(&self, latent: &Tensor) -> Result<Tensor> {
            Ok(latent.shallow_clone())
        }
        fn cell(&self) -> i64 {
            1
        }
    }

    /// Trims ten rows of gray pixels: the first `others` rows have the gray `other`, the remaining rows the gray
    /// `most`.
    fn trimmed(asked: Rgb, most: u8, (others, other): (i64, u8), flatten: bool) -> Result<Trimmed> {
        let latent = Tensor::full([1, 3, 10, 10], f64::from(most) / 127.5 - 1.0, (Kind::Float, Device::Cpu));
        let _ = latent.narrow(2, 0, others).fill_(f64::from(other) / 127.5 - 1.0);
        let force = ColorForce::exact("any", asked).tune(|options| {
            options.outlines = false;
            options.flatten = flatten;
        });
        let mask = Tensor::ones([10, 10], (Kind::Float, Device::Cpu));
        Ok(trim(&latent, &mask, 0, &force.settings, &Pixels, None)?.expect("a region").1)
    }

    #[test]
    fn texture_that_hides_the_color_is_reduced_once() -> Result<()> {
        // Three rows miss the color by CIEDE2000 11 with the full texture, and by 8 with a quarter less texture.
        let folds = trimmed(GRAY, 128, (3, 100), true)?;
        assert_eq!(folds.texture, 0.75);
        assert!(folds.after <= GOAL, "the color stays met: {folds:?}");
        assert_eq!(trimmed(GRAY, 128, (3, 100), false)?.texture, 1.0, "without `flatten` the texture stays");
        assert_eq!(trimmed(GRAY, 128, (1, 100), true)?.texture, 1.0, "nine of ten rows have the color");
        // Black rows stay black with less texture too, so the texture is kept.
        assert_eq!(trimmed(GRAY, 128, (3, 0), true)?.texture, 1.0);
        Ok(())
    }

    #[test]
    fn unreached_white_reduces_texture_to_a_quarter() -> Result<()> {
        // Nothing is brighter than white, so brighter rows cannot make up for the others.
        let white = trimmed(Rgb(255, 255, 255), 200, (4, 255), true)?;
        assert!(white.texture == 0.25 && white.after < white.before, "{white:?}");
        Ok(())
    }
}
