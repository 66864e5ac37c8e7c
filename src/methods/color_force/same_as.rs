//! The color of another thing of the same picture, for [`ColorForce::same_as`](super::ColorForce::same_as).

use super::measure::{ColorStat, Place};
use super::options::ForceOptions;
use super::protect::{Guarded, Protected};
use super::run::Maps;
use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::guidance::Setup;
use crate::wording::{QUOTED, excerpt};

/// Returns the median color of a protected thing in a first pass's picture of one image. `protected` names the things,
/// and `guarded` has their state, in the same order.
///
/// # Errors
/// [`Error::Parameter`] for a run of several images, and for a thing that the picture does not show.
pub(super) fn color_of(
    thing: &str,
    (protected, guarded): (&[Protected], &[Guarded]),
    maps: &Maps,
    options: &ForceOptions,
    setup: &Setup<'_>,
) -> Result<Rgb> {
    let named = || format!("\"{}\"", excerpt(thing, QUOTED));
    if setup.images != 1 {
        let expected = "a run of one picture, because each picture has a color of its own; paint one at a time";
        return Err(Error::parameter("same_as", named(), expected));
    }
    let lost = || Error::parameter("same_as", named(), "a thing that the picture shows; try another seed");
    let own = protected.iter().zip(guarded).zip(&maps.others).find(|((own, _), _)| own.phrase == thing);
    let (Some(((_, guard), Some(map))), Some(picture)) = (own, &maps.picture) else { return Err(lost()) };
    let (cells, _) = guard.cells(map, &maps.found, options.protection())?;
    let (cells, picture) = (cells.f_get(0)?.f_get(0)?, picture.f_get(0)?);
    let place = Place::of(&cells, &picture, setup.codec.cell(), options.outlines)?;
    let pixels = place.pixels(&picture)?.ok_or_else(lost)?;
    Ok(Rgb::from_linear(ColorStat::Median.of(&pixels)?))
}
