//! [`Memory`]: the memory of one run, and the parts into which a limit splits the run's batch.

use super::canvas::Canvas;
use crate::error::{Error, Result};
use crate::model::{Controlled, Work};
use crate::sampler::Batching;
use crate::wording::Remedy;

/// Bytes of a pixel of the pictures that a run has decoded: three channels in f32, and a copy.
const PIXEL: u64 = 2 * 3 * 4;
/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// The memory of one run.
pub(super) struct Memory<'m> {
    pub network: &'m Controlled<'m>,
    pub canvas: Canvas,
    /// Number of images.
    pub images: usize,
    /// Number of pictures that the run starts from.
    pub encoded: usize,
    /// Number of pictures that the run ends with.
    pub decoded: usize,
    pub batching: Batching,
    /// Limit in MiB.
    pub limit: Option<u64>,
}

/// The largest batches of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// Rows of a call of the network; a row is a branch of an image.
    pub rows: usize,
    /// Pictures that are decoded or encoded at once.
    pub pictures: usize,
}

impl Memory<'_> {
    /// Returns the memory in bytes that work for `images` images holds, with the pictures that are held beside it.
    /// `None` if the network's memory is unknown.
    fn bytes(&self, work: Work, images: usize) -> Option<u64> {
        let size = self.canvas.pixels();
        let pixels = u64::from(size.width).saturating_mul(size.height.into()).saturating_mul(self.images as u64);
        let held = if matches!(work, Work::Step { .. }) { 0 } else { pixels.saturating_mul(PIXEL) };
        Some(self.network.memory(work, self.canvas.grid, images)?.saturating_add(held))
    }

    /// Returns the work of the VAE in the run, with the number of pictures.
    fn of_vae(&self) -> impl Iterator<Item = (Work, usize)> {
        [(Work::Encode, self.encoded), (Work::Decode, self.decoded)].into_iter().filter(|(_, pictures)| *pictures > 0)
    }

    /// Returns the largest batches within the limit.
    ///
    /// # Errors
    /// [`Error::Parameter`] if one row is beyond the limit, or the network's memory is unknown.
    pub(super) fn parts(&self) -> Result<Parts> {
        let at_once = if self.batching == Batching::OneByOne { 1 } else { usize::MAX };
        let mut parts = Parts { rows: at_once, pictures: at_once };
        let Some(limit) = self.limit else { return Ok(parts) };
        // Rows of different branches take less memory than rows of different images.
        let step = Work::Step { branches: 1 };
        self.check(step, limit)?;
        parts.rows = most(|rows| self.fits(step, rows, limit)).min(at_once);
        for (work, pictures) in self.of_vae() {
            self.check(work, limit)?;
            // A batch that is too large for the VAE's own limit takes the memory of one picture, so that a larger batch
            // may fit where a smaller one does not.
            let fitting = (1..=pictures.min(MOST_PICTURES)).rev().find(|pictures| self.fits(work, *pictures, limit));
            parts.pictures = fitting.unwrap_or(1).min(parts.pictures);
        }
        Ok(parts)
    }

    /// Returns true if work for `images` images stays within a limit in MiB.
    fn fits(&self, work: Work, images: usize, limit: u64) -> bool {
        self.bytes(work, images).is_some_and(|bytes| bytes <= limit.saturating_mul(MIB))
    }

    /// Checks that work for one image stays within a limit in MiB.
    fn check(&self, work: Work, limit: u64) -> Result<()> {
        let given = format!("{limit} MiB");
        let Some(least) = self.bytes(work, 1) else {
            let expected = "no limit, because the memory of this model is unknown; limits are for models of this crate on \
                            a CPU, with weights in memory";
            return Err(Error::parameter("memory_limit", given, expected));
        };
        if self.fits(work, 1, limit) {
            return Ok(());
        }
        let work = match work {
            Work::Encode => "encoding a picture",
            Work::Decode => "decoding a picture",
            _ => "a step of one branch",
        };
        let needed = format!("{} MiB or more, which {work} of {} pixels takes", least.div_ceil(MIB), self.canvas.size);
        Err(Error::parameter("memory_limit", given, Remedy::LessMemory.after(needed)))
    }

    /// Returns the largest memory in bytes that the run holds at once, in these parts. The largest call of the network
    /// has `branches` branches of `images` images. `None` if the network's memory is unknown.
    pub(super) fn peak(&self, (branches, images): (usize, usize), parts: Parts) -> Option<u64> {
        let step = self.bytes(Work::Step { branches }, images);
        let of_vae = self.of_vae().map(|(work, pictures)| self.bytes(work, pictures.min(parts.pictures)));
        of_vae.chain([step]).try_fold(0, |most, bytes| Some(bytes?.max(most)))
    }
}

/// Largest number of pictures of a batch.
const MOST_PICTURES: usize = 1024;
/// Largest number of rows of a batch: those of 1024 images in 258 branches.
const MOST_ROWS: usize = 1 << 19;

/// Returns the largest number of rows that fit, at least 1, by halving.
fn most(fits: impl Fn(usize) -> bool) -> usize {
    let (mut least, mut beyond) = (1, MOST_ROWS + 1);
    while beyond - least > 1 {
        let middle = usize::midpoint(least, beyond);
        if fits(middle) { least = middle } else { beyond = middle }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_batch_is_found_by_halving() {
        for limit in [1, 2, 3, 100, 4097, MOST_ROWS] {
            assert_eq!(most(|rows| rows <= limit), limit);
        }
        assert_eq!((most(|_| false), most(|_| true)), (1, MOST_ROWS));
    }
}
