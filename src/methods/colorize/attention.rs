//! The strength of attention to the reference, site by site, and which cells read which tokens.

use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, Place};
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::mask::Region;
use crate::raster::Raster;
use crate::reference::Part;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tch::{Kind, Tensor};

/// Factors of what attention to the reference adds, by the part of the network: low grids hold what things are, high ones their colors.
/// Each is 0..=4; 1, the default, is as trained.
///
/// Source: "reference strength" of ColorizeDiffusion's application; there the setting of the whole does not reach the bottom and the last
/// level, and here it does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceScales {
    /// Everywhere.
    pub all: f64,
    /// Factor in the contracting half.
    pub encoder: f64,
    /// At the latent's size.
    pub high: f64,
    /// At half of it.
    pub middle: f64,
    /// At a quarter of it and below.
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
    /// The factor of a site.
    pub fn of(&self, site: &AttentionSite) -> f64 {
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

/// Every factor must be in its range.
pub(super) fn check(factors: &[f64]) -> Result<()> {
    match factors.iter().find(|factor| !(0.0..=4.0).contains(*factor)) {
        Some(factor) => Err(Error::parameter("reference scale", factor, "0..=4; 1 is as trained")),
        None => Ok(()),
    }
}

/// Figure and background apart: cells of the sketch's figure read the reference, the others read what is behind the reference's figure.
///
/// A model of version 1.5 has adapters for each of both and gathers the background's tokens by a transformer; one of version 2 warps what the
/// background's features show into the picture. Version 1 does with attention alone.
///
/// Source: figure and background masks of ColorizeDiffusion. There the two strengths do nothing before version 2; here they act as they are
/// named.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FigureAndGround {
    /// The figure in the sketch, stretched to the picture.
    pub sketch: Region,
    /// The figure in the reference.
    pub reference: Region,
    /// Least share of the figure in a cell of the sketch that is the figure's, 0..=1. Default 0.5.
    pub threshold: f64,
    /// Least share of the figure in a pixel of the reference that is the figure's, 0..=1. Default 0.5.
    pub reference_threshold: f64,
    /// Factor of what the figure reads, 0..=4. Default 1.
    pub figure: f64,
    /// Factor of what the background reads, 0..=4. Default 1.
    pub ground: f64,
    /// Share, 0..=1, of the background's colors in the figure's. Default 0.
    pub merge: f64,
    /// Whether the adapter for figures acts, in a model that has one. Default: yes.
    pub figure_adapter: bool,
    /// Whether the adapter for backgrounds acts, in a model that has one. Default: yes.
    pub ground_adapter: bool,
    /// A picture of its own for the background, in place of what is behind the reference's figure.
    pub background: Option<Raster>,
    /// Factor of the background's features, 0..=4, in a model that reads them (version 2). Default 1.
    pub features: f64,
}

impl FigureAndGround {
    /// Parts figure and background at a half, each as strong as trained.
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

/// Figure and background of a picture with the tokens that each reads.
#[derive(Debug)]
pub(super) struct Parted {
    /// Tokens that the figure reads, [1, tokens, width].
    pub figure: Tensor,
    /// Tokens of what is behind the reference's figure, [1, tokens, width].
    pub ground: Tensor,
    /// Whether adapters act for figure and background.
    pub adapters: (bool, bool),
    /// The figure in the picture, [n or 1, 1, h, w] at the latent's size.
    pub mask: Tensor,
    pub threshold: f64,
    /// Factors of what figure and background read, and the share of the latter in the former.
    pub shares: (f64, f64, f64),
    /// Steps without the reference.
    pub off: Vec<Range<usize>>,
}

impl Parted {
    /// Replaces what all cells of a call read of the figure's tokens by what each is to read, [n, cells, dim].
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
        // As the original has it, which lets the curve run beyond 0..=1.
        let mask = mask.f_upsample_bicubic2d([at.grid.h, at.grid.w], false, None::<f64>, None::<f64>)?;
        let mask = mask.f_to_device(figure.device())?.f_flatten(2, 3)?.f_transpose(1, 2)?; // [n or 1, cells, 1]
        Ok(figure.f_where_self(&mask.f_ge(self.threshold)?, &ground)?)
    }
}

/// Changes what attention to the reference puts out, before the site's last projection. Without a reference nothing is put out.
#[derive(Debug, Default)]
pub(super) struct Scaling {
    /// Factor of each site, by its index; 1 elsewhere.
    pub factors: Vec<(usize, f64)>,
    /// Figure and background apart, in the branches that read the reference.
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
