//! [`Extras`]: inputs of a network beside its context, by type.

use crate::error::Result;
use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;

/// Something that a family of networks reads beside the context, such as the features of a sketch. A conditioning holds
/// at most one value of each type ([`Conditioning::extras`](crate::Conditioning::extras)).
///
/// ```
/// use impasto::conditioning::Extra;
/// use impasto::{Conditioning, Result};
/// use std::ops::Range;
/// use tch::{Device, Kind, Tensor};
///
/// /// The hour of the day, which a network of one's own reads.
/// #[derive(Clone, Debug)]
/// struct Hour(f64);
///
/// impl Extra for Hour {
///     fn share(&self) -> Box<dyn Extra> {
///         Box::new(self.clone())
///     }
///     fn narrow(&self, _: Range<i64>) -> Result<Box<dyn Extra>> {
///         Ok(Box::new(self.clone()))
///     }
/// }
///
/// let mut conditioning = Conditioning::new(Tensor::zeros([1, 77, 8], (Kind::Float, Device::Cpu)));
/// conditioning.extras.set(Hour(18.5));
/// assert_eq!(conditioning.extras.get::<Hour>().map(|hour| hour.0), Some(18.5));
/// ```
pub trait Extra: Any + Debug + Send {
    /// Returns a second handle on the same tensors.
    fn share(&self) -> Box<dyn Extra>;

    /// Returns the rows of some images of a batch, as views. A tensor with one row applies to every image.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::Error::Torch) if `images` reaches beyond the batch.
    fn narrow(&self, images: Range<i64>) -> Result<Box<dyn Extra>>;
}

/// Values that a network reads beside the context, at most one of each type.
#[derive(Debug, Default)]
pub struct Extras(Vec<Box<dyn Extra>>);

impl Extras {
    /// Creates an empty set.
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Returns the value of type `T`, if there is one.
    pub fn get<T: Extra>(&self) -> Option<&T> {
        self.0.iter().find_map(|extra| (&**extra as &dyn Any).downcast_ref())
    }

    /// Sets the value of type `T`, in place of an earlier one.
    pub fn set<T: Extra>(&mut self, value: T) {
        self.0.retain(|extra| !(&**extra as &dyn Any).is::<T>());
        self.0.push(Box::new(value));
    }

    /// Returns second handles on the same tensors.
    pub(crate) fn share(&self) -> Self {
        Self(self.0.iter().map(|extra| extra.share()).collect())
    }

    /// Returns the values of some images of a batch, as views.
    pub(crate) fn narrow(&self, images: &Range<i64>) -> Result<Self> {
        self.0.iter().map(|extra| extra.narrow(images.clone())).collect::<Result<_>>().map(Self)
    }
}
