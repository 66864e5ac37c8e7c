//! [`Offer`]: a request for a part of a model that only some models have, by type.

use std::any::{Any, TypeId, type_name};
use std::fmt;

/// A request for the part of a model that has a certain type, such as a
/// [`VisionEncoder`](crate::vision::VisionEncoder). [`Codec::offer`](crate::Codec::offer) answers the request.
pub struct Offer<'a> {
    wanted: TypeId,
    /// Name of the wanted type.
    name: &'static str,
    /// The part, and the [`Cast`] that returns the part as the wanted type.
    found: Option<(&'a dyn Any, Box<dyn Any>)>,
}

/// Returns a part as the wanted type; `None` for a part of another type.
type Cast<T> = Box<dyn Fn(&dyn Any) -> Option<&T>>;

impl fmt::Debug for Offer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").field("wanted", &self.name).field("found", &self.found.is_some()).finish()
    }
}

impl<'a> Offer<'a> {
    /// Creates a request for the part of type `T`.
    pub(crate) fn of<T: ?Sized + 'static>() -> Self {
        Self { wanted: TypeId::of::<T>(), name: type_name::<T>(), found: None }
    }

    /// Gives `part` as a `T` if the request is for a `T`. Otherwise nothing happens, so a model gives all its parts,
    /// one after the other.
    ///
    /// ```
    /// use impasto::conditioning::Offer;
    /// struct Palette(Vec<impasto::Rgb>);
    /// trait Colors {
    ///     fn count(&self) -> usize;
    /// }
    /// impl Colors for Palette {
    ///     fn count(&self) -> usize {
    ///         self.0.len()
    ///     }
    /// }
    /// fn offer<'a>(palette: &'a Palette, offer: &mut Offer<'a>) {
    ///     offer.give::<_, dyn Colors>(palette, |palette| palette);
    /// }
    /// ```
    pub fn give<C: Any, T: ?Sized + 'static>(&mut self, part: &'a C, view: fn(&C) -> &T) {
        if self.wanted == TypeId::of::<T>() {
            let cast: Cast<T> = Box::new(move |part| part.downcast_ref().map(view));
            self.found = Some((part, Box::new(cast)));
        }
    }

    /// Returns the part that was given.
    pub(crate) fn take<T: ?Sized + 'static>(self) -> Option<&'a T> {
        let (part, cast) = self.found?;
        cast.downcast_ref::<Cast<T>>()?(part)
    }
}
