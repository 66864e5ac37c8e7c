//! The strength of attention to the reference at each site, and the tokens that each cell reads.

use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, Place};
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::mask::Region;
use crate::raster::Raster;
use crate::reference::Part;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tch::{Kind, Tensor};

/// Factors of the attention to the reference, by part of the network. Each is 0..=4; 1, the default, is as trained.
/// Sites with few cells decide what objects are, sites with many cells decide their colors.
///
/// Source: "reference strength" of ColorizeDiffusion's application. There the overall factor does not reach the
/// bottleneck and the last level; here the factor reaches all sites.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceScales {
    /// Factor everywhere.
    pub all: f64,
    /// Factor in the contracting half.
    pub encoder: f64,
    /// Factor at the latent's size.
    pub high: f64,
    /// Factor at half of the latent's size.
    pub middle: f64,
    /// Factor at a quarter of the latent's size and below.
    pub low: f64,
    /// Factor in the bottleneck.
    pub bottom: f64,
}

impl Default for ReferenceScales {
    fn default() -> Self {
        Self { all: 1.0, encoder: 1.0, high: 1.0, middle: 1.0, low: 1.0, bottom: 1.0 }
    }
}

impl ReferenceScales {
    /// Returns the factor of a site.
    pub(super) fn of(&self, site: &AttentionSite) -> f64 {
        let level = match (site.place, site.halvings) {
            (Place::Mid, _) => self.bottom,
            (_, 0) => self.high,
            (_, 1) => self.middle,
            _ => self.low,
        };
        self.all * level * if site.place == Place::Down { self.encoder } else { 1.0 }
    }

    pub(super) fn check(&self) -> Result<()> {
        let &Self { all, encoder, high, middle, low, bottom } = self;
        check(&[all, encoder, high, middle, low, bottom])
    }
}

/// Checks that every factor is in 0..=4.
pub(super) fn check(factors: &[f64]) -> Result<()> {
    match factors.iter().find(|factor| !(0.0..=4.0).contains(*factor)) {
        Some(factor) => Err(Error::parameter("reference scale", factor, "0..=4; 1 is as trained")),
        None => Ok(()),
    }
}

/// The separation of figure and background. Cells of the sketch's figure read the reference, and the other cells read
/// the background of the reference.
///
/// Models treat figure and background differently:
///
/// - A model of version 1 uses attention alone.
/// - A model of version 1.5 has adapters for figure and background, and gathers the background's tokens by a
///   transformer.
/// - A model of version 2 warps the background's features into the picture.
///
/// Source: figure and background masks of ColorizeDiffusion. There the two strengths do nothing before version 2; here
/// they act in every version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FigureAndGround {
    /// The figure in the sketch, stretched to the picture.
    pub sketch: Region,
    /// The figure in the reference.
    pub reference: Region,
    /// Smallest share of the figure at which a cell of the sketch belongs to the figure, 0..=1. Default 0.5.
    pub threshold: f64,
    /// Smallest share of the figure at which a pixel of the reference belongs to the figure, 0..=1. Default 0.5.
    pub reference_threshold: f64,
    /// Factor of the figure's attention to its tokens, 0..=4. Default 1.
    pub figure: f64,
    /// Factor of the background's attention to its tokens, 0..=4. Default 1.
    pub ground: f64,
    /// Share of the background's colors in the figure, 0..=1. Default 0.
    pub merge: f64,
    /// Enables the adapter for figures, in a model that has one. Default: true.
    pub figure_adapter: bool,
    /// Enables the adapter for backgrounds, in a model that has one. Default: true.
    pub ground_adapter: bool,
    /// A separate picture for the background, in place of the reference's own background.
    pub background: Option<Raster>,
    /// Factor of the background's features, 0..=4, in a model that reads them (version 2). Default 1.
    pub features: f64,
}

impl FigureAndGround {
    /// Separates figure and background at a share of one half, each as strong as trained.
    pub const fn new(sketch: Region, reference: Region) -> Self {
        Self {
            sketch,
            reference,
            threshold: 0.5,
            reference_threshold: 0.5,
            figure: 1.0,
            ground: 1.0,
            merge: 0.0,
            figure_adapter: true,
            ground_adapter: true,
            background: None,
            features: 1.0,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        self.sketch.check()?;
        self.reference.check()?;
        check(&[self.figure, self.ground, self.features])?;
        let shares =
            [("threshold", self.threshold), ("reference threshold", self.reference_threshold), ("merge", self.merge)];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::parameter(name, share, "a share in 0..=1"));
            }
        }
        Ok(())
    }
}

/// Figure and background of a picture, with the tokens that each of them reads.
#[derive(Debug)]
pub(super) struct Parted {
    /// Tokens that the figure reads, [1, tokens, width].
    pub figure: Tensor,
    /// Tokens of the background, [1, tokens, width].
    pub ground: Tensor,
    /// True if the adapter acts, first for the figure, then for the background.
    pub adapters: (bool, bool),
    /// The figure in the picture, [n or 1, 1, h, w] at the latent's size.
    pub mask: Tensor,
    pub threshold: f64,
    /// Factors for figure and background, and the share of the background in the figure.
    pub shares: (f64, f64, f64),
    /// Steps without the reference.
    pub off: Vec<Range<usize>>,
}

impl Parted {
    /// Returns the attention output in which each cell reads its own tokens, [n, cells, dim]. `figure` is the output in
    /// which all cells read the figure's tokens.
    fn read(&self, at: &At<'_>, figure: &Tensor) -> Result<Tensor> {
        let (of_figure, of_ground, merge) = self.shares;
        let n = at.images.end - at.images.start;
        let adapted = |part: Part, acts: bool, tokens: &Tensor| -> Result<(Tensor, Option<Tensor>)> {
            let tokens = tokens.f_expand([n, -1, -1], false)?.f_to_device(figure.device())?;
            let read = acts.then(|| at.attend_adapted(part, &tokens)).transpose()?.flatten();
            Ok((tokens, read))
        };
        let (_, own) = adapted(Part::Figure, self.adapters.0, &self.figure)?;
        let (tokens, ground) = adapted(Part::Background, self.adapters.1, &self.ground)?;
        let ground = ground.map_or_else(|| at.attend(&tokens), Ok)?;
        let ground = ground.f_to_kind(Kind::Float)?.f_mul_scalar(of_ground)?;
        let figure =
            own.as_ref().unwrap_or(figure).f_to_kind(Kind::Float)?.f_mul_scalar(of_figure)?.f_lerp(&ground, merge)?;
        let mask = match self.mask.size4()?.0 {
            1 => self.mask.shallow_clone(),
            _ => self.mask.f_narrow(0, at.images.start, n)?,
        };
        // Bicubic as in ColorizeDiffusion, although values of the mask may then leave 0..=1.
        let mask = mask.f_upsample_bicubic2d([at.grid.h, at.grid.w], false, None::<f64>, None::<f64>)?;
        let mask = mask.f_to_device(figure.device())?.f_flatten(2, 3)?.f_transpose(1, 2)?; // [n or 1, cells, 1]
        Ok(figure.f_where_self(&mask.f_ge(self.threshold)?, &ground)?)
    }
}

/// A hook that changes the output of attention to the reference, before the site's last projection. Without a reference
/// this output is 0.
#[derive(Debug, Default)]
pub(super) struct Scaling {
    /// Factor of each site by its index; other sites have factor 1.
    pub factors: Vec<(usize, f64)>,
    /// Figure and background with separate tokens, for `readers`, the branches that read the reference.
    pub parted: Option<Parted>,
    pub readers: Vec<Branch>,
}

impl CrossAttentionHook for Scaling {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        let factor = self.factors.iter().find(|(index, _)| *index == site.index).map(|(_, factor)| *factor);
        let parts = self.parted.is_some() && self.readers.contains(&branch);
        match factor {
            Some(factor) if factor != 1.0 || parts => Interest::OUTPUT,
            _ => Interest::NONE,
        }
    }

    fn output(&mut self, at: &At<'_>, output: &mut Tensor) -> Result<()> {
        let parted = self.parted.as_ref().filter(|_| self.readers.contains(&at.branch));
        let parted = parted.filter(|parted| !parted.off.iter().any(|steps| steps.contains(&at.step.index)));
        if let Some(parted) = parted {
            *output = parted.read(at, output)?;
        }
        if let Some((_, factor)) = self.factors.iter().find(|(index, _)| *index == at.site.index) {
            *output = output.f_mul_scalar(*factor)?;
        }
        Ok(())
    }
}
