//! [`Canvas`]: the size of a run's pictures, and the grid of latent cells that covers them.

use crate::error::Result;
use crate::raster::{Filter, Raster};
use crate::size::Size;
use crate::step::Grid;
use tch::{Device, Tensor};

/// The size of a run's pictures, and the grid of latent cells that covers them. Cells at the right and lower edges may
/// reach beyond the pictures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Canvas {
    /// Size of the pictures.
    pub size: Size,
    /// Cells of the latent.
    pub grid: Grid,
    /// Side of a cell in pixels.
    pub cell: i64,
    /// Side in cells of the patches that the network reads as one.
    pub patch: i64,
}

impl Canvas {
    /// Returns the canvas of pictures of a size, in cells of `cell` × `cell` pixels and whole patches of
    /// `patch` × `patch` cells.
    pub(super) fn covering(size: Size, cell: i64, patch: i64) -> Self {
        let cells = |side: u32| patch * ((i64::from(side) + cell * patch - 1) / (cell * patch));
        Self { size, grid: Grid::new(cells(size.height), cells(size.width)), cell, patch }
    }

    /// Returns the size of all cells in pixels.
    pub(super) const fn pixels(&self) -> Size {
        Size { width: (self.grid.w * self.cell) as u32, height: (self.grid.h * self.cell) as u32 }
    }

    /// Returns a picture on all cells, [1, 3, H, W] in -1..=1. The picture is resized to the size of the pictures, and
    /// its last row and column are repeated beyond them.
    pub(super) fn lay(&self, picture: &Raster, filter: Filter) -> Result<Tensor> {
        let picture = if picture.size() == self.size {
            picture.to_tensor(Device::Cpu)?
        } else {
            picture.resize(self.size, filter)?.to_tensor(Device::Cpu)?
        };
        let all = self.pixels();
        if all == self.size {
            return Ok(picture);
        }
        let beyond = |all: u32, own: u32| i64::from(all - own);
        let (right, below) = (beyond(all.width, self.size.width), beyond(all.height, self.size.height));
        Ok(picture.f_replication_pad2d([0, right, 0, below])?)
    }

    /// Returns the pictures of a batch, [n, 3, H, W] on all cells, at their own size.
    pub(super) fn cut(&self, pictures: &Tensor) -> Result<Vec<Raster>> {
        let (width, height) = (i64::from(self.size.width), i64::from(self.size.height));
        Raster::each(&pictures.f_narrow(2, 0, height)?.f_narrow(3, 0, width)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Rgb;

    #[test]
    fn canvas_covers_odd_sizes_and_cuts_them_again() -> Result<()> {
        assert_eq!(Canvas::covering(Size::new(40, 48), 8, 2).grid, Grid::new(6, 6));
        let canvas = Canvas::covering(Size::new(13, 8), 8, 1);
        assert_eq!((canvas.grid, canvas.pixels()), (Grid::new(1, 2), Size::new(16, 8)));
        let mut picture = Raster::flat(Rgb(9, 8, 7), (13, 8));
        picture.set(12, 3, Rgb(200, 100, 50));
        let laid = canvas.lay(&picture, Filter::Lanczos)?;
        assert_eq!(laid.size(), [1, 3, 8, 16]);
        assert_eq!(Raster::from_tensor(&laid)?.pixel(15, 3), Some(Rgb(200, 100, 50)));
        assert_eq!(canvas.cut(&laid)?, [picture]);
        Ok(())
    }
}
