//! w, the weight of each token in each cell.

use super::canvas::Canvas;
use super::options::AreaBlend;
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::mask::Resample;
use crate::mask::has_images;
use crate::prompt::TokenSpan;
use crate::step::Grid;
use std::collections::{BTreeMap, HashMap};
use tch::{Device, Kind, Tensor};

/// The masks of all areas on every grid where they are needed, the tokens of each branch, and the weights made of both.
#[derive(Debug)]
pub(super) struct Weights {
    brushes: Vec<Brush>,
    blend: AreaBlend,
    /// Largest grid first; [areas, 1 or n, h, w] f32 on the run's device.
    masks: Vec<(Grid, Tensor)>,
    /// For each branch with paint what is painted there of each area.
    placed: BTreeMap<Branch, Vec<Placed>>,
    made: HashMap<(Grid, Branch, i64), Tensor>,
}

#[derive(Clone, Copy, Debug)]
struct Brush {
    strength: f64,
    outside: f64,
}

/// An area in the prompt of a branch.
#[derive(Clone, Debug, Default)]
pub(super) struct Placed {
    /// Of its phrase; without any it does nothing there.
    pub tokens: Vec<TokenSpan>,
    /// What its weights are multiplied by.
    pub share: f64,
}

impl Weights {
    /// The masks of `canvas` for `images` pictures of `latent` cells, on `grids`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a drawing has another aspect than the picture, [`Error::Parameter`] if nothing is painted, or
    /// if there are maps or masks for another number of images.
    pub(super) fn new(
        canvas: &Canvas,
        (latent, images): (Grid, i64),
        mut grids: Vec<Grid>,
        (resample, blend): (Resample, AreaBlend),
        device: Device,
    ) -> Result<Self> {
        grids.sort_by_key(|grid| std::cmp::Reverse(grid.cells()));
        grids.dedup();
        let mut masks: Vec<Vec<Tensor>> = grids.iter().map(|_| Vec::new()).collect();
        // One drawing at a time: they may be large and many.
        for area in &canvas.areas {
            let region = canvas.region(area)?;
            region.check_for(latent)?;
            for (grid, masks) in grids.iter().zip(&mut masks) {
                let mask = region.resampled(*grid, resample)?;
                has_images(if area.rgb().is_some() { "maps" } else { "mask" }, &mask, images)?;
                masks.push(mask.f_squeeze_dim(1)?);
            }
        }
        let rows = masks.iter().flatten().map(|mask| mask.size().first().copied().unwrap_or(1)).max().unwrap_or(1);
        let stack = |(grid, masks): (&Grid, &Vec<Tensor>)| -> Result<Tensor> {
            let expanded: Vec<Tensor> =
                masks.iter().map(|mask| Ok(mask.f_expand([rows, grid.h, grid.w], false)?)).collect::<Result<_>>()?;
            Ok(Tensor::f_stack(&expanded, 0)?.f_to_device(device)?)
        };
        let masks: Vec<Tensor> = grids.iter().zip(&masks).map(stack).collect::<Result<_>>()?;
        let mut largest = 0.0f64;
        for mask in &masks {
            largest = largest.max(mask.f_max()?.f_double_value(&[])?);
        }
        if largest == 0.0 {
            let expected = "something painted that reaches a cell; Resample::Cover keeps thin strokes";
            return Err(Error::parameter("paint", "nothing at any attention site", expected));
        }
        let brushes = canvas.areas.iter().map(|area| Brush { strength: area.strength, outside: area.outside });
        let (brushes, masks) = (brushes.collect(), grids.into_iter().zip(masks).collect());
        Ok(Self { brushes, blend, masks, placed: BTreeMap::new(), made: HashMap::new() })
    }

    /// Says where the areas' phrases stand in the prompt of `branch`.
    pub(super) fn place(&mut self, branch: Branch, placed: Vec<Placed>) {
        if placed.iter().any(|area| !area.tokens.is_empty()) {
            self.placed.insert(branch, placed);
        }
    }

    /// Does any paint reach this branch?
    pub(super) fn reach(&self, branch: Branch) -> bool {
        self.placed.contains_key(&branch)
    }

    /// The masks on the finest grid, [areas, 1 or n, h, w].
    pub(super) fn finest(&self) -> Option<&Tensor> {
        self.masks.first().map(|(_, masks)| masks)
    }

    /// w for a context of `count` tokens, [1 or n, 1, cells, tokens] f32; `None` where there is no paint. Made once.
    pub(super) fn of(&mut self, grid: Grid, branch: Branch, count: i64) -> Result<Option<Tensor>> {
        let key = (grid, branch, count);
        if let Some(made) = self.made.get(&key) {
            return Ok(Some(made.shallow_clone()));
        }
        let Some((_, masks)) = self.masks.iter().find(|(known, _)| *known == grid) else { return Ok(None) };
        let Some(placed) = self.placed.get(&branch) else { return Ok(None) };
        let images = masks.size4()?.1;
        let w = Tensor::f_zeros([images, grid.cells(), count], (Kind::Float, masks.device()))?;
        let beyond = Tensor::f_zeros([images, grid.cells(), count], (Kind::Float, masks.device()))?;
        for (index, (area, brush)) in (0..).zip(placed.iter().zip(&self.brushes)) {
            let mask = masks.f_get(index)?.f_reshape([images, grid.cells(), 1])?;
            let rest = mask.f_neg()?.f_add_scalar(1.0)?;
            let painted = mask.f_mul_scalar(brush.strength * area.share)?;
            for span in area.tokens.iter().filter(|span| span.end <= count) {
                let mut here = w.f_narrow(2, span.start, span.len())?;
                let over = match self.blend {
                    AreaBlend::Sum => here.f_add(&painted)?,
                    AreaBlend::Strongest => {
                        painted.f_where_self(&painted.f_abs()?.f_gt_tensor(&here.f_abs()?)?, &here)?
                    }
                    AreaBlend::TopMost => here.f_mul(&rest)?.f_add(&painted)?,
                };
                here.f_copy_(&over)?;
                let outside = rest.f_mul_scalar(brush.outside * area.share)?;
                let _ = beyond.f_narrow(2, span.start, span.len())?.f_add_(&outside)?;
            }
        }
        let made = w.f_add(&beyond)?.f_unsqueeze(1)?;
        self.made.insert(key, made.shallow_clone());
        Ok(Some(made))
    }
}
