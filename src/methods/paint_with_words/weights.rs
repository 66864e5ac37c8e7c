//! The weight w of each token in each cell.

use super::canvas::Canvas;
use super::options::AreaBlend;
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::mask::Resample;
use crate::mask::has_images;
use crate::prompt::TokenSpan;
use crate::step::Grid;
use crate::wording::Remedy;
use std::collections::{BTreeMap, HashMap};
use tch::{Device, Kind, Tensor};

/// The masks of all areas on every needed grid, the tokens of each branch, and the weights computed from masks and
/// tokens.
#[derive(Debug)]
pub(super) struct Weights {
    brushes: Vec<Brush>,
    blend: AreaBlend,
    /// Masks by grid, the largest grid first; [areas, 1 or n, h, w] f32 on the run's device.
    masks: Vec<(Grid, Tensor)>,
    /// Placement of each area, for each branch with paint.
    placed: BTreeMap<Branch, Vec<Placed>>,
    made: HashMap<(Grid, Branch, i64), Tensor>,
}

#[derive(Clone, Copy, Debug)]
struct Brush {
    strength: f64,
    outside: f64,
}

/// Placement of an area in the prompt of a branch.
#[derive(Clone, Debug, Default)]
pub(super) struct Placed {
    /// Tokens of the area's phrase; an area without tokens does nothing in the branch.
    pub tokens: Vec<TokenSpan>,
    /// Factor of the area's weights.
    pub share: f64,
}

impl Weights {
    /// Computes the masks of `canvas` on `grids`, for `images` pictures of `latent` cells.
    ///
    /// # Errors
    /// [`Error::Shape`] if a drawing has another aspect than the picture; [`Error::Parameter`] if nothing is painted,
    /// or if the number of maps or masks does not fit the number of images.
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
        // Drawings may be large and many, so only one is in memory at a time.
        for area in &canvas.areas {
            let region = canvas.region(area)?;
            region.check_for(latent)?;
            for (grid, masks) in grids.iter().zip(&mut masks) {
                let mask = region.resample(*grid, resample)?;
                has_images(if area.rgb().is_some() { "number of maps" } else { "number of masks" }, &mask, images)?;
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
            let expected = Remedy::LargerArea.after("paint that reaches at least one cell");
            return Err(Error::parameter("paint", "nothing at any attention site", expected));
        }
        let brushes = canvas.areas.iter().map(|area| Brush { strength: area.strength, outside: area.outside });
        let (brushes, masks) = (brushes.collect(), grids.into_iter().zip(masks).collect());
        Ok(Self { brushes, blend, masks, placed: BTreeMap::new(), made: HashMap::new() })
    }

    /// Sets the positions of the areas' phrases in the prompt of `branch`.
    pub(super) fn place(&mut self, branch: Branch, placed: Vec<Placed>) {
        if placed.iter().any(|area| !area.tokens.is_empty()) {
            self.placed.insert(branch, placed);
        }
    }

    /// Returns true if any area is painted in this branch.
    pub(super) fn reach(&self, branch: Branch) -> bool {
        self.placed.contains_key(&branch)
    }

    /// Returns the masks on the finest grid, [areas, 1 or n, h, w].
    pub(super) fn finest(&self) -> Option<&Tensor> {
        self.masks.first().map(|(_, masks)| masks)
    }

    /// Returns w for a context of `count` tokens, [1 or n, 1, cells, tokens] f32; `None` without paint. The result is
    /// cached.
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
