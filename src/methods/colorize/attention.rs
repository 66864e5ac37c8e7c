//! How strongly a picture attends to its reference, site by site.

use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, Place};
use crate::branch::Branch;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Factors of what attention to the reference adds, by the part of the network: low grids hold what things are, high ones their colors.
/// Each is 0..=4; 1, the default, is as trained.
///
/// Source: "reference strength" of ColorizeDiffusion's application; there the setting of the whole does not reach the bottom and the last
/// level, and here it does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceScales {
    /// Everywhere.
    pub all: f64,
    /// In the contracting half.
    pub encoder: f64,
    /// At the latent's size.
    pub high: f64,
    /// At half of it.
    pub middle: f64,
    /// At a quarter of it and below.
    pub low: f64,
    /// In the bottleneck.
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

/// Multiplies what attention to the reference puts out, before the site's last projection. Without a reference nothing is put out.
#[derive(Debug, Default)]
pub(super) struct Scaling {
    /// Factor of each site, by its index; 1 elsewhere.
    pub factors: Vec<(usize, f64)>,
}

impl CrossAttentionHook for Scaling {
    fn interest(&self, site: &AttentionSite, _: Branch) -> Interest {
        let scaled = self.factors.iter().any(|(index, factor)| *index == site.index && *factor != 1.0);
        if scaled { Interest::OUTPUT } else { Interest::NONE }
    }

    fn output(&mut self, at: &At<'_>, output: &mut Tensor) -> Result<()> {
        if let Some((_, factor)) = self.factors.iter().find(|(index, _)| *index == at.site.index) {
            *output = output.f_mul_scalar(*factor)?;
        }
        Ok(())
    }
}
