//! Rotations of the tokens of a picture and of its caption.

use super::config::ZImageConfig;
use crate::error::{Error, Result};
use crate::nn::rotary::{Rotary, angles};
use crate::step::Grid;
use tch::{Device, Kind, Tensor};

/// Rotations of the tokens of one evaluation. Each token has a position along three axes: the caption's, the rows and
/// the columns of the picture. The caption's tokens are at 1, 2, … of their axis, and all tokens of the picture are at
/// the place behind the caption. The tokens that fill the picture's stream are at 0 of all axes.
#[derive(Debug)]
pub(super) struct Positions {
    /// Tokens of the picture.
    pub picture: Rotary,
    /// Tokens that fill the picture's stream.
    pub filling: Rotary,
    /// Tokens of the picture, and those that fill its stream.
    pub stream: Rotary,
    /// Tokens of the caption.
    pub caption: Rotary,
    /// Tokens of the caption, and those that fill the picture's stream.
    pub beside: Rotary,
}

impl Positions {
    /// Computes the rotations for a picture of a `grid` of tokens, `filling` tokens that fill its stream, and `caption`
    /// tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] if the configuration has no position for a token.
    pub(super) fn new(config: &ZImageConfig, grid: Grid, filling: i64, caption: i64, device: Device) -> Result<Self> {
        let Grid { h, w } = grid;
        let [_, rows, columns] = config.axes_lens;
        if h > rows || w > columns {
            let expected =
                format!("at most {rows} rows and {columns} columns of patches, for which the model has positions");
            return Err(Error::Shape { what: "the transformer's patches", got: vec![h, w], expected });
        }
        let picture = of_picture(config, grid, caption, device)?;
        let caption = of_caption(config, caption, device)?;
        let half = config.dim / config.n_heads / 2;
        let filling = Tensor::f_zeros([filling, half], (Kind::Float, device))?;
        let both = |a: &Tensor, b: &Tensor| -> Result<Rotary> { Rotary::of_pairs(&Tensor::f_cat(&[a, b], 0)?) };
        Ok(Self {
            stream: both(&picture, &filling)?,
            beside: both(&caption, &filling)?,
            picture: Rotary::of_pairs(&picture)?,
            caption: Rotary::of_pairs(&caption)?,
            filling: Rotary::of_pairs(&filling)?,
        })
    }

    /// Computes the rotations of a caption of `tokens` tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] if the configuration has no position for a token.
    pub(super) fn of_caption(config: &ZImageConfig, tokens: i64, device: Device) -> Result<Rotary> {
        Rotary::of_pairs(&of_caption(config, tokens, device)?)
    }
}

/// Returns the angles of a picture's tokens behind a caption, f32 [h · w, half a head].
fn of_picture(config: &ZImageConfig, Grid { h, w }: Grid, caption: i64, device: Device) -> Result<Tensor> {
    let [along, row, column] = config.axes_dims;
    let expand = |angles: Tensor, width: i64| angles.f_expand([h, w, width / 2], false);
    let own = angles(caption + 2, along, config.rope_theta, device)?.f_narrow(0, caption + 1, 1)?;
    let rows = angles(h, row, config.rope_theta, device)?.f_unsqueeze(1)?;
    let columns = angles(w, column, config.rope_theta, device)?.f_unsqueeze(0)?;
    let all = [expand(own.f_unsqueeze(0)?, along)?, expand(rows, row)?, expand(columns, column)?];
    Ok(Tensor::f_cat(&all, 2)?.f_flatten(0, 1)?)
}

/// Returns the angles of a caption's tokens, f32 [tokens, half a head].
fn of_caption(config: &ZImageConfig, tokens: i64, device: Device) -> Result<Tensor> {
    let [along, row, column] = config.axes_dims;
    let [most, ..] = config.axes_lens;
    // The picture is at the place behind the last token.
    if tokens + 1 >= most {
        let expected = format!("a caption of at most {} tokens, for which the model has positions", most - 2);
        return Err(Error::Shape { what: "the transformer's context", got: vec![tokens], expected });
    }
    let own = angles(tokens + 1, along, config.rope_theta, device)?.f_narrow(0, 1, tokens)?;
    Ok(own.f_constant_pad_nd([0, (row + column) / 2])?)
}
