//! [`Seamless`]: pictures whose opposite edges continue each other.

use crate::error::Result;
use crate::step::Grid;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use tch::Tensor;

/// The edges at which a picture continues on its opposite side, so that copies of it make a pattern without seams.
///
/// Convolutions see the opposite edge of the picture in place of zeros. The AUTOMATIC1111 web UI calls this "Tiling".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Seamless {
    /// No edges: an ordinary picture.
    #[default]
    No,
    /// The left and the right edge.
    Across,
    /// The upper and the lower edge.
    Down,
    /// All edges.
    Both,
}

/// Cells that a VAE sees beyond an edge of a latent. Its convolutions reach about this far.
const BEYOND: i64 = 8;

thread_local! {
    /// The edges that the convolutions of this thread continue. Networks are called on one thread, and their layers
    /// have no other way to learn about the run.
    static PRESENT: Cell<Seamless> = const { Cell::new(Seamless::No) };
}

/// Resets the edges when a call of a network ends, also by an error.
struct Reset(Seamless);

impl Drop for Reset {
    fn drop(&mut self) {
        PRESENT.set(self.0);
    }
}

impl Seamless {
    /// Calls `compute`, whose convolutions continue the picture at these edges.
    pub(crate) fn within<T>(self, compute: impl FnOnce() -> T) -> T {
        let _reset = Reset(PRESENT.replace(self));
        compute()
    }

    /// Returns the edges that the convolutions of this thread continue.
    pub(super) fn present() -> Self {
        PRESENT.get()
    }

    /// Returns the margins at the left and right, and above and below.
    const fn margins(self, by: i64) -> [i64; 2] {
        match self {
            Self::No => [0, 0],
            Self::Across => [by, 0],
            Self::Down => [0, by],
            Self::Both => [by, by],
        }
    }

    /// Returns the grid of a latent with the cells beyond its edges that a VAE sees.
    pub(crate) fn reach(self, grid: Grid) -> Grid {
        let [across, down] = self.margins(BEYOND);
        Grid::new(grid.h + 2 * down.min(grid.h), grid.w + 2 * across.min(grid.w))
    }

    /// Adds `by` rows and columns around a picture, [b, c, h, w] → [b, c, h + 2·by, w + 2·by]: those of the opposite
    /// edge, or zeros at edges that do not continue.
    pub(super) fn pad(self, x: &Tensor, by: i64) -> Result<Tensor> {
        let [across, down] = self.margins(by);
        let x = around(x, [across, down])?;
        Ok(x.f_constant_pad_nd([by - across, by - across, by - down, by - down])?)
    }

    /// Calls `network` with a picture or a latent that is continued beyond its edges, and returns the part of the
    /// result that belongs to it. `unit` is the number of rows of `x` in a cell of the latent.
    pub(crate) fn beyond<const N: usize>(
        self,
        x: &Tensor,
        unit: i64,
        network: impl FnOnce(&Tensor) -> Result<[Tensor; N]>,
    ) -> Result<[Tensor; N]> {
        if self == Self::No {
            return network(x);
        }
        let (_, _, h, w) = x.size4()?;
        let [across, down] = self.margins(BEYOND * unit);
        let (across, down) = (across.min(w / unit * unit), down.min(h / unit * unit));
        let results = network(&around(x, [across, down])?)?;
        let own = |result: &Tensor| -> Result<Tensor> {
            let (_, _, height, width) = result.size4()?;
            // The result has the margins and the sides in the same proportion.
            let part = |all: i64, side: i64, margin: i64| {
                (all * margin / (side + 2 * margin), all * side / (side + 2 * margin))
            };
            let ((top, rows), (left, columns)) = (part(height, h, down), part(width, w, across));
            Ok(result.f_narrow(2, top, rows)?.f_narrow(3, left, columns)?)
        };
        let mut failed = Ok(());
        let own = results.map(|result| {
            own(&result).unwrap_or_else(|error| {
                failed = Err(error);
                result
            })
        });
        failed.map(|()| own)
    }
}

/// Adds columns at the left and right and rows above and below, which are those of the opposite edges.
fn around(x: &Tensor, [across, down]: [i64; 2]) -> Result<Tensor> {
    let along = |x: &Tensor, dim: i64, by: i64| -> Result<Tensor> {
        if by == 0 {
            return Ok(x.shallow_clone());
        }
        let side = x.size().get(dim as usize).copied().unwrap_or_default();
        Ok(Tensor::f_cat(&[&x.f_narrow(dim, side - by, by)?, x, &x.f_narrow(dim, 0, by)?], dim)?)
    };
    along(&along(x, 3, across)?, 2, down)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn picture() -> Tensor {
        Tensor::arange(12, (Kind::Float, Device::Cpu)).reshape([1, 1, 3, 4])
    }

    #[test]
    fn margins_are_those_of_the_opposite_edges() -> Result<()> {
        let padded = Seamless::Across.pad(&picture(), 1)?;
        let row = |y: i64| Vec::<f32>::try_from(padded.get(0).get(0).get(y)).unwrap();
        assert_eq!(row(0), [0.0; 6]);
        assert_eq!(row(1), [3.0, 0.0, 1.0, 2.0, 3.0, 0.0]);
        let both = Seamless::Both.pad(&picture(), 1)?;
        assert_eq!(Vec::<f32>::try_from(both.get(0).get(0).get(0)).unwrap(), [11.0, 8.0, 9.0, 10.0, 11.0, 8.0]);
        Ok(())
    }

    #[test]
    fn result_beyond_the_edges_is_cut_away() -> Result<()> {
        let enlarged = |x: &Tensor| Ok([x.upsample_nearest2d([x.size()[2] * 2, x.size()[3] * 2], None, None)]);
        for seamless in [Seamless::No, Seamless::Across, Seamless::Down, Seamless::Both] {
            let [result] = seamless.beyond(&picture(), 1, enlarged)?;
            assert_eq!(result, picture().upsample_nearest2d([6, 8], None, None), "{seamless:?}");
        }
        Ok(())
    }

    #[test]
    fn edges_are_reset_after_a_call() {
        Seamless::Both.within(|| assert_eq!(Seamless::present(), Seamless::Both));
        assert_eq!(Seamless::present(), Seamless::No);
    }
}
