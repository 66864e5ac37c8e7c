//! [`LoraStrengths`]: the strengths of LoRAs beside the weights, for one branch.

use super::{Conditioning, Extra, narrow};
use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use tch::Tensor;

/// The unmerged LoRAs of a model by their names, for guidance methods (`dyn Codec::capability`).
pub(crate) trait UnmergedLoras {
    /// Checks that the model has a LoRA of this name.
    ///
    /// # Errors
    /// [`Error::Parameter`] if not.
    fn check_lora(&self, name: &str) -> Result<()>;
}

/// The strengths of a model's unmerged LoRAs ([`Model::with_unmerged`](crate::Model::with_unmerged)) in one branch, as
/// an [`Extra`] of the branch's conditioning. A LoRA without a strength does not act.
///
/// ```
/// use impasto::Conditioning;
/// use impasto::conditioning::LoraStrengths;
/// use tch::{Device, Kind, Tensor};
///
/// # fn main() -> impasto::Result<()> {
/// let mut conditioning = Conditioning::new(Tensor::zeros([1, 77, 8], (Kind::Float, Device::Cpu)));
/// conditioning.during(5..20, |part| {
///     LoraStrengths::add(part, "ink", 0.8, None);
///     Ok(())
/// })?;
/// assert!(conditioning.at(4).extras.get::<LoraStrengths>().is_none());
/// assert!(conditioning.at(5).extras.get::<LoraStrengths>().is_some());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct LoraStrengths(Vec<LoraStrength>);

/// The strength of one LoRA.
#[derive(Clone, Debug)]
pub(crate) struct LoraStrength {
    pub lora: Arc<str>,
    pub strength: f64,
    pub place: Option<LoraPlace>,
}

/// The cells in which a LoRA acts, as shares in 0..=1. A run may change them from step to step; clones are handles on
/// the same shares.
#[derive(Clone, Debug, Default)]
pub struct LoraPlace {
    shares: Arc<Mutex<Option<Tensor>>>,
    /// The images of the run that the conditioning is for; `None`: all.
    images: Option<Range<i64>>,
}

impl LoraPlace {
    /// Creates a place without cells.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the shares of the latent's cells, [1 or n, 1, h, w]; `None`: no cells.
    ///
    /// # Errors
    /// [`Error::Shape`] for a tensor of another shape.
    pub fn set(&self, shares: Option<Tensor>) -> Result<()> {
        if let Some(got) = shares.as_ref().map(Tensor::size).filter(|got| got.len() != 4 || got.get(1) != Some(&1)) {
            return Err(Error::Shape { what: "the place of a LoRA", got, expected: "[1 or n, 1, h, w]".into() });
        }
        *self.shares.lock().unwrap_or_else(PoisonError::into_inner) = shares;
        Ok(())
    }

    /// Returns the shares of the cells; `None` if there are no cells.
    pub(crate) fn get(&self) -> Result<Option<Tensor>> {
        let shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(shares) = &*shares else { return Ok(None) };
        Ok(Some(self.images.as_ref().map_or_else(|| Ok(shares.shallow_clone()), |images| narrow(shares, images))?))
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shares, &other.shares) && self.images == other.images
    }
}

impl LoraStrengths {
    /// Adds a LoRA to a conditioning, by its name, at a strength, and in a place, or everywhere. A LoRA that is added
    /// twice acts twice.
    pub fn add(conditioning: &mut Conditioning, lora: &str, strength: f64, place: Option<&LoraPlace>) {
        let mut all = conditioning.extras.get::<Self>().cloned().unwrap_or_default();
        all.0.push(LoraStrength { lora: lora.into(), strength, place: place.cloned() });
        conditioning.extras.set(all);
    }

    /// Returns the strengths that differ from 0.
    pub(crate) fn iter_acting(&self) -> impl Iterator<Item = &LoraStrength> {
        self.0.iter().filter(|lora| lora.strength != 0.0)
    }

    /// Returns true if both have the same strengths in the same places.
    pub(crate) fn equal(&self, other: &Self) -> bool {
        let same_place = |own: &Option<LoraPlace>, other: &Option<LoraPlace>| match (own, other) {
            (Some(own), Some(other)) => own.is(other),
            (own, other) => own.is_none() && other.is_none(),
        };
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(own, other)| {
                own.lora == other.lora && own.strength == other.strength && same_place(&own.place, &other.place)
            })
    }
}

impl Extra for LoraStrengths {
    fn share(&self) -> Box<dyn Extra> {
        Box::new(self.clone())
    }

    fn narrow(&self, images: Range<i64>) -> Result<Box<dyn Extra>> {
        let mut narrowed = self.clone();
        for place in narrowed.0.iter_mut().filter_map(|lora| lora.place.as_mut()) {
            let first = place.images.as_ref().map_or(0, |own| own.start);
            place.images = Some(first + images.start..first + images.end);
        }
        Ok(Box::new(narrowed))
    }
}
