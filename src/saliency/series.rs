//! [`Series`]: maps summed over the sites of a grid, then over the steps of a run.

use crate::error::Result;
use crate::step::Grid;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// Combination of the steps so far in [`Daam::map`](crate::saliency::SaliencyRun::map).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Accumulate {
    /// The current step only.
    #[default]
    Step,
    /// Mean of all recorded steps, including the current step.
    Mean,
    /// Moving average M ← β·M + (1 − β)·current step, starting with the first step; β is above 0 and below 1; 0.5 is
    /// usual.
    Ema(f64),
}

/// Maps of one run, step by step, with one or more channels.
pub(super) struct Series {
    /// Grid at which the maps are read.
    grid: Grid,
    images: i64,
    /// The last recorded step.
    last: Option<usize>,
    /// Sums of the step that is being recorded.
    step: Sums,
    /// Sum of the earlier steps' maps, each divided by its step's weight.
    past: Sums,
    /// Moving average of earlier steps, [n, channels, h, w].
    average: Option<Tensor>,
    accumulate: Accumulate,
}

impl Series {
    pub(super) fn new(grid: Grid, images: i64, accumulate: Accumulate) -> Self {
        let (step, past) = (Sums::default(), Sums::default());
        Self { grid, images, last: None, step, past, average: None, accumulate }
    }

    /// Returns the grid at which the maps are read.
    pub(super) const fn grid(&self) -> Grid {
        self.grid
    }

    /// Returns the last recorded step.
    pub(super) const fn last(&self) -> Option<usize> {
        self.last
    }

    /// Begins `step` and moves the maps of the previous step to the past. Does nothing if `step` is being recorded
    /// already.
    pub(super) fn turn_to(&mut self, step: usize) -> Result<()> {
        if self.last != Some(step) {
            if let Accumulate::Ema(beta) = self.accumulate {
                self.average = self.average(beta)?;
            }
            self.past = self.all()?;
            self.step = Sums::default();
            self.last = Some(step);
        }
        Ok(())
    }

    /// Adds the maps of one call to the current step. `heat`, [rows, channels, h, w], is the sum over `heads` heads for
    /// the images `rows` (first, count) of the run.
    pub(super) fn add(&mut self, grid: Grid, rows: (i64, i64), heat: &Tensor, heads: i64) -> Result<()> {
        self.step.add(grid, self.images, rows, heat)?;
        self.count(rows, heads);
        Ok(())
    }

    /// Returns the sums of the current step for the images `rows`, [rows, channels, h, w], to which a call adds its
    /// maps in place.
    pub(super) fn sums(&mut self, grid: Grid, rows: (i64, i64), channels: i64, device: Device) -> Result<Tensor> {
        self.step.of(grid, self.images, rows, (channels, device))
    }

    /// Counts a call that added the sum over `heads` heads for the images `rows`.
    pub(super) fn count(&mut self, rows: (i64, i64), heads: i64) {
        // Every image adds the same weight, so only the first image counts.
        if rows.0 == 0 {
            self.step.weight += heads as f64;
        }
    }

    /// Returns the maps as `accumulate` says, [n, channels, h, w]; `None` before the first map.
    pub(super) fn read(&self) -> Result<Option<Tensor>> {
        match self.accumulate {
            Accumulate::Step => self.step.map(self.grid),
            Accumulate::Mean => self.mean(),
            Accumulate::Ema(beta) => self.average(beta),
        }
    }

    /// Returns the mean of all steps' maps.
    pub(super) fn mean(&self) -> Result<Option<Tensor>> {
        self.all()?.map(self.grid)
    }

    /// Returns the moving average of the steps' maps, including the current step.
    fn average(&self, beta: f64) -> Result<Option<Tensor>> {
        Ok(match (&self.average, self.step.map(self.grid)?) {
            (Some(before), Some(here)) => Some(before.f_mul_scalar(beta)?.f_add(&here.f_mul_scalar(1.0 - beta)?)?),
            (before, here) => here.or_else(|| before.as_ref().map(Tensor::shallow_clone)),
        })
    }

    /// Returns the sum of all steps, including the current step. Each step has weight one.
    fn all(&self) -> Result<Sums> {
        let mut all = Sums { weight: self.past.weight, ..Sums::default() };
        for (grid, sum) in &self.past.grids {
            all.add(*grid, self.images, (0, self.images), sum)?;
        }
        if self.step.weight > 0.0 {
            for (grid, sum) in &self.step.grids {
                all.add(*grid, self.images, (0, self.images), &sum.f_div_scalar(self.step.weight)?)?;
            }
            all.weight += 1.0;
        }
        Ok(all)
    }
}

/// Maps summed per grid, each [n, channels, h, w] f32.
#[derive(Default)]
struct Sums {
    grids: Vec<(Grid, Tensor)>,
    /// Divisor of the sums: heads × calls, or steps.
    weight: f64,
}

impl Sums {
    fn add(&mut self, grid: Grid, images: i64, rows: (i64, i64), heat: &Tensor) -> Result<()> {
        let _ = self.of(grid, images, rows, (heat.size4()?.1, heat.device()))?.f_add_(heat)?;
        Ok(())
    }

    /// Returns the sums of a grid for the images `rows`; zeros at first.
    fn of(&mut self, grid: Grid, images: i64, rows: (i64, i64), (channels, device): (i64, Device)) -> Result<Tensor> {
        let known = self.grids.iter().find(|(known, _)| *known == grid).map(|(_, sum)| sum.shallow_clone());
        let sum = match known {
            Some(sum) => sum,
            None => {
                let zeros = Tensor::f_zeros([images, channels, grid.h, grid.w], (Kind::Float, device))?;
                self.grids.push((grid, zeros.shallow_clone()));
                zeros
            }
        };
        if rows == (0, images) { Ok(sum) } else { Ok(sum.f_narrow(0, rows.0, rows.1)?) }
    }

    /// Resizes the sum of each grid to `size`. Returns the total of these sums, clamped to at least 0 and divided by
    /// the weight; `None` before the first addition.
    fn map(&self, size: Grid) -> Result<Option<Tensor>> {
        let mut total: Option<Tensor> = None;
        for (grid, sum) in &self.grids {
            let here = if *grid == size {
                sum.shallow_clone()
            } else {
                sum.f_upsample_bicubic2d([size.h, size.w], false, None, None)?
            };
            total = Some(match total {
                Some(total) => total.f_add(&here)?,
                None => here,
            });
        }
        Ok(total.map(|total| total.f_clamp_min(0.0)?.f_div_scalar(self.weight)).transpose()?)
    }
}
