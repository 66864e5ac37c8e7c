//! The last touch: what is missing of a color is measured in the picture and added to the latent.

use super::gold::constant;
use super::measure::{MET, Measured, Place, measure};
use super::settings::Settings;
use super::texture::blur;
use crate::color::Rgb;
use crate::conditioning::Codec;
use crate::error::{Error, Result};
use serde::Serialize;
use tch::{Kind, Tensor};

/// What trimming did to one image.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct Trimmed {
    /// Index in the batch.
    pub image: usize,
    /// CIEDE2000 of the region to what was asked for, before.
    pub before: f64,
    /// And after.
    pub after: f64,
    /// How often the latent was moved.
    pub rounds: usize,
    /// The share of the texture that was left; 1 unless it had to be lessened.
    pub texture: f64,
}

/// CIEDE2000 between a color and what the VAE makes of it from which on no set point reaches the color, so that trimming would only
/// take time.
pub(super) const UNSHOWABLE: f64 = 10.0;
/// CIEDE2000 at which trimming stops: below, nobody sees it.
const GOAL: f64 = 0.75;
/// Shares of the texture that are tried in turn where a color at the edge of what can be shown is not met.
const FLATTER: [f64; 3] = [0.75, 0.5, 0.25];

/// Trims the region `mask` ([h, w] of 0 and 1, not empty) of one image's latent, [1, 4, h, w].
///
/// The set point p moves by what is missing, p ← clip(p + asked − measured) in linear light, and the latent by the difference of
/// the flat latents of the two, under the mask blurred by a cell. The best result counts.
pub(super) fn trim(
    latent: &Tensor,
    mask: &Tensor,
    image: usize,
    settings: &Settings,
    codec: &dyn Codec,
) -> Result<(Tensor, Trimmed)> {
    let (asked, device) = (settings.color.to_linear(), latent.device());
    let soft = blur(&mask.f_unsqueeze(0)?.f_unsqueeze(0)?.f_to_device(device)?, 1.0)?;
    let decoded = |latent: &Tensor| -> Result<Tensor> {
        Ok(codec.decode(latent)?.f_to_device(mask.device())?.f_clamp(-1.0, 1.0)?.f_squeeze_dim(0)?)
    };
    let first = decoded(latent)?;
    let place = Place::of(mask, &first, codec.cell(), settings.outlines)?;
    let measured = |picture: &Tensor| -> Result<Measured> {
        let empty = || Error::parameter("trim", "an empty region", "a region with pixels");
        measure(&place.pixels(picture)?.ok_or_else(empty)?, settings.stat, settings.color)
    };
    let look = |latent: &Tensor| measured(&decoded(latent)?);
    let flat = |light: [f64; 3]| constant(Rgb::from_linear(light), codec);
    let (mut best, mut now) = (latent.shallow_clone(), measured(&first)?);
    let mut trimmed = Trimmed { image, before: now.delta_e, after: now.delta_e, rounds: 0, texture: 1.0 };
    let (mut point, mut here) = (asked, flat(asked)?);
    for _ in 0..settings.trim {
        if now.delta_e <= GOAL {
            break;
        }
        let mut next = point;
        for ((next, asked), measured) in next.iter_mut().zip(asked).zip(now.light) {
            *next = (*next + asked - measured).clamp(0.0, 1.0);
        }
        let there = flat(next)?;
        let moved = best.f_add(&there.f_sub(&here)?.f_mul(&soft)?)?;
        let measured = look(&moved)?;
        if measured.delta_e >= now.delta_e {
            break;
        }
        (best, now, point, here) = (moved, measured, next, there);
        trimmed.rounds += 1;
    }
    let at_the_edge = point.iter().any(|channel| *channel <= 0.0 || *channel >= 1.0);
    if settings.flatten && now.delta_e > MET && at_the_edge {
        let hard = mask.f_unsqueeze(0)?.f_unsqueeze(0)?.f_to_device(device)?;
        let cells = |x: &Tensor| x.f_sum_dim_intlist([2i64, 3].as_slice(), true, Kind::Float);
        let mean = cells(&best.f_mul(&hard)?)?.f_div(&cells(&hard)?)?;
        let textured = best.shallow_clone();
        for share in FLATTER {
            // mean + share·(z − mean) under the mask
            let flatter = textured.f_add(&mean.f_sub(&textured)?.f_mul_scalar(1.0 - share)?.f_mul(&hard)?)?;
            let measured = look(&flatter)?;
            if measured.delta_e < now.delta_e {
                (best, now, trimmed.texture) = (flatter, measured, share);
            }
            if now.delta_e <= MET {
                break;
            }
        }
    }
    trimmed.after = now.delta_e;
    Ok((best, trimmed))
}
