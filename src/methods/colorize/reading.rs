//! Reading of a reference as tokens, which words can change.

use super::manipulation::Manipulation;
use super::manipulation::{TextVectors, levels};
use super::preparation;
use crate::conditioning::Codec;
use crate::error::{Error, Result};
use crate::raster::Raster;
use crate::size::Size;
use crate::vision::{ClipRange, Crop, View, VisionEncoder};
use std::ops::Range;
use tch::{Kind, Tensor};

/// Share of a range's color in the picture of a manipulation; the rest is the reference.
const COLORED: f64 = 0.7;
/// Colors of the five ranges of resemblance to a control text: deep blue, blue, green, orange, brown.
const RANGES: [[u8; 3]; 5] = [[0, 0, 128], [0, 124, 255], [121, 255, 134], [255, 136, 0], [140, 0, 0]];

/// The tokens of a reference, and pictures of their manipulations.
#[derive(Debug)]
pub(super) struct Read {
    /// Tokens after manipulation, [1, tokens, width].
    pub tokens: Tensor,
    /// Captions, each with a picture of the patches that a manipulation selects by its control text.
    pub pictures: Vec<(String, Raster)>,
}

/// The settings for reading references.
pub(super) struct Reading<'a> {
    /// Factor by which white bars widen a reference.
    pub padding: f64,
    /// Reads one token for the whole reference.
    pub whole: bool,
    pub manipulations: &'a [Manipulation],
}

impl Reading<'_> {
    /// Reads a picture as a reference.
    pub(super) fn read(&self, reference: &Raster, codec: &dyn Codec) -> Result<Read> {
        if reference.bytes().is_empty() {
            let expected = "a picture with at least one pixel";
            return Err(Error::parameter("reference", format!("{} pixels", reference.size()), expected));
        }
        let reference = preparation::pad(reference, self.padding);
        let view = View { crop: Crop::StretchAligned, range: ClipRange::Unit };
        let encoder = <dyn VisionEncoder>::of(codec)?;
        let mut tokens = encoder.vision(&reference, view)?.tokens;
        let mut pictures = Vec::new();
        if self.manipulations.iter().any(|manipulation| manipulation.scale > 0.0) {
            for manipulation in self.manipulations {
                let encode = |text: &String| encoder.text_vector(text);
                let texts = TextVectors {
                    target: encode(&manipulation.target)?,
                    anchor: manipulation.anchor.as_ref().map(encode).transpose()?,
                    control: manipulation.control.as_ref().map(encode).transpose()?,
                };
                if self.whole {
                    tokens = manipulation.global(&tokens.f_narrow(1, 0, 1)?, &texts)?;
                    continue;
                }
                if let (Some(control), Some(text)) = (&texts.control, &manipulation.control) {
                    let shown = correlation(&reference, &tokens, control, manipulation.thresholds)?;
                    pictures.push((format!("patches that resemble \"{text}\""), shown));
                }
                tokens = manipulation.local(&tokens, &texts)?;
            }
        }
        let count = tokens.size3()?.1;
        let read = if self.whole { tokens.f_narrow(1, 0, 1)? } else { tokens.f_narrow(1, 1, count - 1)? };
        Ok(Read { tokens: read, pictures })
    }
}

/// Returns the parts of a prompt between commas as byte ranges, without the spaces around them.
pub(super) fn pieces(text: &str) -> Vec<Range<usize>> {
    let mut start = 0;
    let mut pieces = Vec::new();
    for piece in text.split(',') {
        let before = piece.len() - piece.trim_start().len();
        let bytes = start + before..start + before + piece.trim().len();
        start += piece.len() + 1;
        if !bytes.is_empty() {
            pieces.push(bytes);
        }
    }
    pieces
}

/// Returns for each name the patches of a reference that, of all names, resemble this name most. A name without such
/// patches gets the one patch that resembles it most. `tokens` is [1, patches, width].
pub(super) fn shown(tokens: &Tensor, names: &[&str], codec: &dyn Codec) -> Result<Vec<Vec<i64>>> {
    let encoder = <dyn VisionEncoder>::of(codec)?;
    let vectors = names.iter().map(|name| encoder.text_vector(name)).collect::<Result<Vec<_>>>()?;
    let vectors = Tensor::f_stack(&vectors, 0)?; // [names, width]
    let patches = tokens.f_select(0, 0)?;
    let lengths = patches.f_square()?.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?.f_sqrt()?;
    // [patches, names]
    let alike = patches.f_div(&lengths.f_clamp_min(f64::MIN_POSITIVE)?)?.f_matmul(&vectors.f_tr()?)?;
    let nearest = Vec::<i64>::try_from(alike.f_argmax(1, false)?)?;
    let best = Vec::<i64>::try_from(alike.f_argmax(0, false)?)?;
    let of = |(name, best): (i64, i64)| {
        let own: Vec<i64> = (0..).zip(&nearest).filter(|(_, of)| **of == name).map(|(patch, _)| patch).collect();
        if own.is_empty() { vec![best] } else { own }
    };
    Ok((0..).zip(best).map(of).collect())
}

/// Paints the reference in the colors of five ranges of resemblance to a text, with lines between patches.
fn correlation(reference: &Raster, tokens: &Tensor, text: &Tensor, thresholds: [f64; 4]) -> Result<Raster> {
    let (_, count, _) = tokens.size3()?;
    let side = ((count - 1) as f64).sqrt() as i64;
    let Size { width, height } = reference.size();
    let resemblance = tokens.f_narrow(1, 1, count - 1)?.f_matmul(text)?.f_view([1, 1, side, side])?;
    let size = [i64::from(height), i64::from(width)];
    let fine = resemblance.f_upsample_bicubic2d(size, false, None::<f64>, None::<f64>)?;
    let reached = Vec::<u8>::try_from(levels(&fine, thresholds)?.f_contiguous()?.f_view([-1])?)?;
    let cell = |length: u32| (length / u32::try_from(side).unwrap_or(1).max(1)).max(1);
    let mixed = reference.bytes().chunks_exact(3).zip(reached).zip(0..width.saturating_mul(height));
    let bytes = mixed.flat_map(|((pixel, level), at)| {
        let (x, y) = (at % width.max(1), at / width.max(1));
        let line = (x > 0 && x % cell(width) == 0) || (y > 0 && y % cell(height) == 0);
        let color = RANGES.get(usize::from(level)).copied().unwrap_or_default();
        let mix = move |(own, over): (&u8, u8)| (f64::from(*own) * (1.0 - COLORED) + f64::from(over) * COLORED) as u8;
        let pixel: Vec<u8> = pixel.iter().zip(color).map(mix).collect();
        if line { vec![0; 3] } else { pixel }
    });
    Raster::from_bytes(bytes.collect(), reference.size())
}
