//! [`LabelMap`]: several regions of a picture in one plane.

use crate::error::Result;
use crate::recipe::PackedBytes;
use crate::step::Grid;
use ndarray::Array2;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use tch::{Kind, Tensor};

/// A label for each pixel: 0 outside of all regions, or the number of the pixel's region, from 1 on.
///
/// The regions of a drawing share one map. All of them together take one byte per pixel of the drawing, and not four
/// bytes per pixel for each region. The cells of all regions are computed together, too.
#[derive(Debug)]
pub(crate) struct LabelMap {
    labels: Array2<u8>,
    /// The largest label, which is the number of regions.
    regions: u8,
    /// Cells of all regions at the grid that was asked for last.
    cells: Mutex<Option<(Grid, Tensor)>>,
    /// The labels as a recipe holds them.
    packed: OnceLock<PackedBytes>,
}

/// Label maps that are in use. Each force of a drawing has a recipe of its own, and all of them share one map again
/// once they are read.
static IN_USE: Mutex<Vec<Weak<LabelMap>>> = Mutex::new(Vec::new());

impl LabelMap {
    /// Creates the map of `labels`, rows × columns.
    pub(crate) fn new(labels: Array2<u8>) -> Self {
        let regions = labels.iter().copied().max().unwrap_or_default();
        Self { labels, regions, cells: Mutex::new(None), packed: OnceLock::new() }
    }

    /// Returns the number of regions, which is the largest label.
    pub(super) const fn count(&self) -> u8 {
        self.regions
    }

    /// Returns rows and columns.
    pub(super) fn dim(&self) -> (usize, usize) {
        self.labels.dim()
    }

    /// Returns the pixels of a label, [1, 1, rows, columns] f32: 1 inside of the region, 0 elsewhere.
    pub(super) fn pixels(&self, label: u8) -> Result<Tensor> {
        let (rows, columns) = self.labels.dim();
        let inside: Vec<f32> = self.labels.iter().map(|found| f32::from(u8::from(*found == label))).collect();
        Ok(Tensor::f_from_slice(&inside)?.f_reshape([1, 1, rows as i64, columns as i64])?)
    }

    /// Returns the share of each cell of `grid` that each region covers, [regions, 1, h, w] f32.
    pub(super) fn cells(&self, grid: Grid) -> Result<Tensor> {
        let mut known = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((at, cells)) if *at == grid => Ok(cells.shallow_clone()),
            _ => Ok(known.insert((grid, self.covered(grid)?)).1.shallow_clone()),
        }
    }

    fn covered(&self, grid: Grid) -> Result<Tensor> {
        let ((rows, columns), regions) = (self.labels.dim(), usize::from(self.regions));
        let (h, w) = (grid.h as usize, grid.w as usize);
        let (down, across) = (overlaps(rows, h), overlaps(columns, w));
        let mut cells = vec![0.0; regions * h * w]; // [regions, h, w]
        let mut line = vec![0.0; regions * w]; // one row of pixels, [regions, w]
        for (row, shares) in self.labels.rows().into_iter().zip(&down) {
            line.fill(0.0);
            for (label, shares) in row.iter().zip(&across).filter(|(label, _)| **label > 0) {
                for (cell, share) in shares {
                    if let Some(sum) = line.get_mut((usize::from(*label) - 1) * w + cell) {
                        *sum += share;
                    }
                }
            }
            for (region, line) in line.chunks(w.max(1)).enumerate() {
                for (cell, share) in shares {
                    let sums = cells.get_mut((region * h + cell) * w..).unwrap_or_default();
                    sums.iter_mut().zip(line).for_each(|(sum, covered)| *sum += share * covered);
                }
            }
        }
        let shape = [regions, 1, h, w].map(|side| side as i64);
        Ok(Tensor::f_from_slice(&cells)?.f_reshape(shape)?.f_to_kind(Kind::Float)?)
    }

    fn packed(&self) -> Result<&PackedBytes> {
        if let Some(packed) = self.packed.get() {
            return Ok(packed);
        }
        let bytes: Vec<u8> = self.labels.iter().copied().collect();
        let packed = PackedBytes::of(&bytes, self.labels.dim())?;
        Ok(self.packed.get_or_init(|| packed))
    }
}

/// Returns the cells that each of `pixels` pixels overlaps, where `cells` cells divide the same length. A number is the
/// share of the cell that the pixel covers.
fn overlaps(pixels: usize, cells: usize) -> Vec<Vec<(usize, f64)>> {
    // In units of 1/(pixels·cells) of the length, pixel k is k·cells..(k + 1)·cells, and cell i is
    // i·pixels..(i + 1)·pixels.
    let of_pixel = |k: usize| {
        let (start, end) = (k * cells, (k + 1) * cells);
        let first = start / pixels.max(1);
        let touched = (first..cells).take_while(|i| i * pixels < end);
        let share = |i: usize| (end.min((i + 1) * pixels) - start.max(i * pixels)) as f64 / pixels as f64;
        touched.map(|i| (i, share(i))).collect()
    };
    (0..pixels).map(of_pixel).collect()
}

impl PartialEq for LabelMap {
    fn eq(&self, other: &Self) -> bool {
        self.labels == other.labels
    }
}

/// Stores the labels as compressed bytes.
pub(super) fn serialize<S: Serializer>(map: &Arc<LabelMap>, to: S) -> std::result::Result<S::Ok, S::Error> {
    map.packed().map_err(ser::Error::custom)?.serialize(to)
}

/// Reads a label map, or returns the equal one that is in use.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Arc<LabelMap>, D::Error> {
    let packed = PackedBytes::deserialize(from)?;
    let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    in_use.retain(|map| map.strong_count() > 0);
    let equal = in_use.iter().filter_map(Weak::upgrade).find(|map| map.packed.get() == Some(&packed));
    if let Some(map) = equal {
        return Ok(map);
    }
    let (bytes, dim) = packed.unpack().map_err(de::Error::custom)?;
    let map = LabelMap::new(Array2::from_shape_vec(dim, bytes).map_err(de::Error::custom)?);
    let map = Arc::new(LabelMap { packed: packed.into(), ..map });
    in_use.push(Arc::downgrade(&map));
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::super::{Region, Resample};
    use super::*;

    fn map(rows: usize, columns: usize) -> Arc<LabelMap> {
        Arc::new(LabelMap::new(Array2::from_shape_fn((rows, columns), |(y, x)| ((y * 7 + x * 3) % 5 / 2) as u8)))
    }

    #[test]
    fn cells_of_all_regions_equal_those_of_planes() -> Result<()> {
        for (rows, columns) in [(32, 48), (5, 7), (90, 31)] {
            let (map, grid) = (map(rows, columns), Grid::new(8, 12));
            for (region, label) in Region::of_labels(&map).iter().zip(1..) {
                let plane = Resample::Area.apply(&map.pixels(label)?, grid)?;
                let apart = (region.resample(grid, Resample::Area)? - plane).abs().max().double_value(&[]);
                assert!(apart < 1e-6, "{rows}×{columns}, label {label}: {apart}");
            }
        }
        Ok(())
    }

    #[test]
    fn regions_of_a_drawing_share_one_map_when_read() {
        let regions = Region::of_labels(&map(40, 40));
        let written: Vec<String> = regions.iter().map(|region| serde_json::to_string(region).unwrap()).collect();
        drop(regions);
        let read: Vec<Region> = written.iter().map(|region| serde_json::from_str(region).unwrap()).collect();
        let maps: Vec<_> = read.iter().map(|region| region.label_map().expect("labels").0).collect();
        assert_eq!((maps.len(), maps[0]), (2, &map(40, 40)));
        assert!(Arc::ptr_eq(maps[0], maps[1]));
    }
}
