//! [`Input`]: the picture that a run starts from, and the part of it that the run repaints.

use super::canvas::Canvas;
use super::config::RequestConfig;
use super::model_view::ModelView;
use crate::error::{Error, Result};
use crate::guidance::{Picture, Report};
use crate::mask::Region;
use crate::prompt::last_text;
use crate::raster::{Filter, Raster};
use crate::repaint::{Repaint, Seam, soften, with_colors};
use crate::sampler::Origin;
use crate::wording::Remedy;
use serde_json::json;
use tch::{Kind, Tensor};

/// Width in pixels of the band inside a mask in which new and kept pixels are blended. It is the side of a latent cell,
/// the smallest thing that a network repaints.
pub(super) const FEATHER: f64 = 8.0;

/// Width in pixels of the soft edge around things that are found.
pub(super) const SOFT: f64 = 8.0;

/// The picture that a run starts from, and the part of it that the run repaints.
pub(super) struct Input {
    /// The picture on all cells, [1 or n, 3, H, W] in -1..=1.
    picture: Option<Tensor>,
    /// The latent in place of a picture, [n, c, h, w].
    latent: Option<Tensor>,
    /// The largest gray of each pixel's cell, [1, 1, H, W] in 0..=1: how much of the cell is repainted.
    pub mask: Option<Tensor>,
    /// The thing of the picture that is the mask.
    pub thing: Option<Region>,
    repaint: Option<Repaint>,
    /// True if the tone of new pixels is matched to the kept ones.
    matched: bool,
    /// True if the picture as a whole keeps the mean and the spread of its colors.
    keeps_colors: bool,
    /// Seams of the finished pictures.
    seams: Vec<Seam>,
}

/// Returns the description of a finished picture by a prompt: the texts of the last step.
///
/// # Errors
/// The errors of [`PromptSchedule::new`](crate::prompt::PromptSchedule::new).
pub(super) fn describe(prompt: &str, config: &RequestConfig, model: ModelView<'_>) -> Result<String> {
    last_text(prompt, config.syntax, config.steps.unwrap_or(model.defaults().steps))
}

impl Input {
    /// The input of text to image.
    const EMPTY: Self = Self {
        picture: None,
        latent: None,
        mask: None,
        thing: None,
        repaint: None,
        matched: false,
        keeps_colors: false,
        seams: Vec::new(),
    };

    /// Lays the picture and the mask of a request on all cells of `canvas`, and finds the thing that is the mask.
    /// `config` has the prompt as the text encoder reads it.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a feather out of range, two masks, or a thing without a picture; the errors of
    /// [`MaskWhere::find`](super::MaskWhere::find).
    pub(super) fn new(
        picture: Option<&Raster>,
        mask: Option<&Raster>,
        config: &RequestConfig,
        model: ModelView<'_>,
        canvas: &Canvas,
    ) -> Result<Self> {
        let feather = config.feather.unwrap_or(FEATHER);
        for (name, pixels) in [("feather", feather), ("soften", config.soften.unwrap_or(SOFT))] {
            if !(0.0..=4096.0).contains(&pixels) {
                return Err(Error::parameter(name, pixels, "0 (a hard border) to 4096 pixels; 8 is usual"));
            }
        }
        let mut region = None;
        let gray = match (mask, &config.mask_where, picture) {
            (Some(_), Some(_), _) => {
                let expected = "no mask beside it; give one of both";
                return Err(Error::parameter("mask_where", "given with a mask", expected));
            }
            (None, Some(_), None) => {
                let expected = Remedy::Start.after("a picture in which the thing is found");
                return Err(Error::parameter("mask_where", "given without a picture", expected));
            }
            (None, Some(thing), Some(picture)) => {
                let found = thing.find(model, picture, &describe(&config.prompt, config, model)?, canvas)?;
                region = Some(found.region());
                Some(soften(&gray(&found.mask(thing.grow)?, canvas)?, config.soften.unwrap_or(SOFT))?)
            }
            (Some(mask), None, _) => Some(soften(&gray(mask, canvas)?, config.soften.unwrap_or_default())?),
            (None, None, _) => None,
        };
        let picture = picture.map(|picture| canvas.lay(picture, Filter::Lanczos)).transpose()?;
        let repaint = match (&picture, &gray) {
            (Some(picture), Some(gray)) => Some(Repaint::new(picture, gray, feather)?),
            _ => None,
        };
        let mask = match &repaint {
            Some(repaint) => Some(repaint.of_cells(canvas.cell)?),
            None => gray,
        };
        let RequestConfig { match_tone: matched, keep_colors: keeps_colors, .. } = *config;
        Ok(Self { picture, latent: None, mask, thing: region, repaint, matched, keeps_colors, seams: Vec::new() })
    }

    /// Returns the input of a run from pictures, [n, 3, H, W] on all cells, without a mask.
    pub(super) fn of_picture(pictures: Tensor) -> Self {
        Self { picture: Some(pictures), ..Self::EMPTY }
    }

    /// Returns the input of a run from latents, [n, c, h, w].
    pub(super) fn of_latent(latents: Tensor) -> Self {
        Self { latent: Some(latents), ..Self::EMPTY }
    }

    /// Returns the origin of the run.
    pub(super) const fn origin(&self) -> Origin<'_> {
        match (&self.latent, &self.picture) {
            (Some(latent), _) => Origin::Latent(latent),
            (None, Some(picture)) => Origin::Picture(picture),
            (None, None) => Origin::Noise,
        }
    }

    /// Joins the pictures of the run, [n, 3, H, W], with the parts of the given picture that the run kept. `exact`, [1
    /// or n, 1, h, w], has the share of each cell whose color is not matched to the kept pixels.
    pub(super) fn join(&mut self, painted: Tensor, exact: Option<&Tensor>) -> Result<Tensor> {
        let exact = |pictures: &Tensor| -> Result<Option<Tensor>> {
            let (_, _, height, width) = pictures.size4()?;
            Ok(exact.map(|cells| cells.f_upsample_nearest2d([height, width], None, None)).transpose()?)
        };
        let (repaint, exact) = match (&self.repaint, &self.picture) {
            (Some(repaint), _) => (repaint, exact(&painted)?),
            (None, Some(picture)) if self.keeps_colors => {
                return with_colors(picture, &painted, exact(&painted)?.as_ref());
            }
            _ => return Ok(painted),
        };
        let (joined, seams) = repaint.join(&painted, self.matched, exact.as_ref())?;
        self.seams = seams;
        Ok(joined)
    }

    /// Returns a report of the repainting; `None` if the run repainted no part of a picture.
    pub(super) fn report(&self, canvas: &Canvas) -> Result<Option<Report>> {
        let Some(repaint) = &self.repaint else { return Ok(None) };
        let mask = Picture::new("the mask", canvas.cut(&repaint.shown()?)?.remove(0));
        let data = json!({ "seams": self.seams, "matched": self.matched });
        Ok(Some(Report { data, pictures: vec![mask], ..Report::new("repaint") }))
    }
}

/// Returns a mask on all cells as gray, [1, 1, H, W] in 0..=1. A mask of black and white alone keeps hard edges.
pub(super) fn gray(mask: &Raster, canvas: &Canvas) -> Result<Tensor> {
    let is_hard = mask.bytes().iter().all(|byte| matches!(byte, 0 | 255));
    luma(&canvas.lay(mask, if is_hard { Filter::Nearest } else { Filter::Bilinear })?)
}

/// Returns the luma of a picture's pixels, [1, 3, H, W] in -1..=1 → [1, 1, H, W] in 0..=1.
fn luma(picture: &Tensor) -> Result<Tensor> {
    // The luma of ITU-R 601, as in Pillow's mode "L".
    let weights = Tensor::f_from_slice(&[0.299f32, 0.587, 0.114])?.f_reshape([1, 3, 1, 1])?;
    let luma = picture.f_mul(&weights)?.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?;
    Ok(luma.f_div_scalar(2.0)?.f_add_scalar(0.5)?.f_clamp(0.0, 1.0)?)
}
