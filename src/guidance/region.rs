//! A region the user draws.

use super::{Guidance, Saliency, Setup};
use crate::error::{Error, Result};
use crate::recipe::{Packed, Recipe};
use crate::step::Grid;
use ndarray::Array2;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use tch::Tensor;

/// A fixed region: saliency that was drawn, not found. No hooks, no cost.
///
/// ```
/// use impasto::guidance::{ColorForce, Region};
/// use impasto::Rgb;
/// use ndarray::Array2;
///
/// let left = Array2::from_shape_fn((64, 64), |(_, column)| if column < 32 { 1.0 } else { 0.0 });
/// let force = ColorForce::new("the left half", Rgb(0, 128, 128)).saliency(Region::new(left));
/// ```
#[derive(Debug)]
pub struct Region {
    values: Array2<f32>,
    map: Option<Tensor>,
}

impl Region {
    /// `values`: rows × columns in 0..=1, of the latent's size or of any size with its aspect (within 1 %), which is
    /// averaged over areas.
    pub fn new(values: Array2<f32>) -> Self {
        Self { values, map: None }
    }

    /// As it was drawn, [1, 1, rows, columns] f32.
    ///
    /// # Errors
    /// [`Error::Parameter`] for values outside 0..=1.
    pub(crate) fn drawn(&self) -> Result<Tensor> {
        if let Some(bad) = self.values.iter().find(|value| !(0.0..=1.0).contains(*value)) {
            return Err(Error::parameter("mask", bad, "values in 0..=1"));
        }
        let values: Vec<f32> = self.values.iter().copied().collect();
        let (rows, columns) = (self.values.nrows() as i64, self.values.ncols() as i64);
        Ok(Tensor::f_from_slice(&values)?.f_reshape([1, 1, rows, columns])?)
    }

    /// [1, 1, h, w] f32 at latent resolution.
    ///
    /// # Errors
    /// [`Error::Shape`] if the aspect differs by more than 1 %, [`Error::Parameter`] for values outside 0..=1.
    pub(crate) fn on(&self, grid: Grid) -> Result<Tensor> {
        let (rows, columns) = (self.values.nrows() as i64, self.values.ncols() as i64);
        same_aspect("mask", rows, columns, grid)?;
        let map = self.drawn()?;
        Ok(if (rows, columns) == (grid.h, grid.w) { map } else { map.f_adaptive_avg_pool2d([grid.h, grid.w])? })
    }
}

/// Has a drawing of `rows` × `columns` the aspect of a grid, within 1 %?
///
/// # Errors
/// [`Error::Shape`] if not, with `what` it is a drawing of.
pub(crate) fn same_aspect(what: &'static str, rows: i64, columns: i64, grid: Grid) -> Result<()> {
    let aspect = (rows * grid.w) as f64 / (columns * grid.h).max(1) as f64;
    if (0.99..=1.01).contains(&aspect) {
        return Ok(());
    }
    let expected = format!("{} rows × {} columns or the same aspect", grid.h, grid.w);
    Err(Error::Shape { what, got: vec![rows, columns], expected })
}

impl Guidance for Region {
    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        self.map = Some(
            self.on(setup.grid)?
                .f_to_device(setup.device)?
                .f_expand([setup.images, 1, setup.grid.h, setup.grid.w], false)?,
        );
        Ok(())
    }
    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Region", self)
    }
    fn name(&self) -> &'static str {
        "Region"
    }
}

impl Serialize for Region {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let drawn = self.drawn().and_then(|drawn| Packed::of(&drawn.f_squeeze_dim(0)?.f_squeeze_dim(0)?));
        drawn.map_err(ser::Error::custom)?.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Region {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let values = Packed::deserialize(from)?.tensor().map_err(de::Error::custom)?;
        let (rows, columns) = values.size2().map_err(de::Error::custom)?;
        let values =
            Vec::<f32>::try_from(&values.f_flatten(0, -1).map_err(de::Error::custom)?).map_err(de::Error::custom)?;
        let values = Array2::from_shape_vec((rows as usize, columns as usize), values);
        values.map(Self::new).map_err(de::Error::custom)
    }
}

impl Saliency for Region {
    fn map(&self) -> Result<Option<Tensor>> {
        Ok(self.map.as_ref().map(Tensor::shallow_clone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_drawing_is_averaged_and_another_aspect_refused() -> Result<()> {
        let drawing = Array2::from_shape_fn((4, 8), |(_, column)| if column < 3 { 1.0 } else { 0.0 });
        let map = Region::new(drawing.clone()).on(Grid::new(2, 4))?;
        assert_eq!(Vec::<f32>::try_from(map.flatten(0, -1))?, [1.0, 0.5, 0.0, 0.0, 1.0, 0.5, 0.0, 0.0]);
        let error = Region::new(drawing).on(Grid::new(4, 4)).expect_err("another aspect").to_string();
        assert!(error.contains("4 rows × 4 columns"), "{error}");
        assert!(Region::new(Array2::from_elem((2, 2), f32::NAN)).on(Grid::new(2, 2)).is_err());
        Ok(())
    }
}
