//! w, the weight of each token in each cell.

use super::canvas::{Area, Canvas};
use super::resample::Resample;
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::guidance::region::same_aspect;
use crate::prompt::TokenSpan;
use crate::step::Grid;
use std::collections::{BTreeMap, HashMap};
use tch::{Device, Kind, Tensor};

/// The masks of all areas on every grid where they are needed, the tokens of each branch, and the weights made of both.
#[derive(Debug)]
pub(super) struct Weights {
    strengths: Vec<f64>,
    /// Largest grid first; [areas, h, w] f32 on the run's device.
    masks: Vec<(Grid, Tensor)>,
    /// For each branch with paint the tokens of each area's phrase.
    tokens: BTreeMap<Branch, Vec<Vec<TokenSpan>>>,
    made: HashMap<(Grid, Branch, i64), Tensor>,
}

impl Weights {
    /// The masks of `canvas` for a picture of `latent` cells, on `grids`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a drawing has another aspect than the picture, [`Error::Parameter`] if nothing is painted.
    pub fn new(
        canvas: &Canvas,
        latent: Grid,
        mut grids: Vec<Grid>,
        resample: Resample,
        device: Device,
    ) -> Result<Self> {
        grids.sort_by_key(|grid| std::cmp::Reverse(grid.cells()));
        grids.dedup();
        let mut masks: Vec<Vec<Tensor>> = grids.iter().map(|_| Vec::new()).collect();
        // One drawing at a time: they may be large and many.
        for area in &canvas.areas {
            let mask = canvas.mask(area)?;
            let (_, _, rows, columns) = mask.size4()?;
            let what = if area.color().is_some() { "the painted map" } else { "mask" };
            same_aspect(what, rows, columns, latent)?;
            for (grid, masks) in grids.iter().zip(&mut masks) {
                masks.push(resample.apply(&mask, *grid)?.f_reshape([grid.h, grid.w])?);
            }
        }
        let stack = |masks: &Vec<Tensor>| -> Result<Tensor> { Ok(Tensor::f_stack(masks, 0)?.f_to_device(device)?) };
        let masks: Vec<Tensor> = masks.iter().map(stack).collect::<Result<_>>()?;
        let mut largest = 0.0f64;
        for mask in &masks {
            largest = largest.max(mask.f_max()?.f_double_value(&[])?);
        }
        if largest == 0.0 {
            let expected = "something painted that reaches a cell; Resample::Cover keeps thin strokes";
            return Err(Error::parameter("paint", "nothing at any attention site", expected));
        }
        let strengths = canvas.areas.iter().map(|area: &Area| area.strength).collect();
        let masks = grids.into_iter().zip(masks).collect();
        Ok(Self { strengths, masks, tokens: BTreeMap::new(), made: HashMap::new() })
    }

    /// Says where the areas' phrases stand in the prompt of `branch`; an area without tokens does nothing there.
    pub fn place(&mut self, branch: Branch, tokens: Vec<Vec<TokenSpan>>) {
        if tokens.iter().any(|spans| !spans.is_empty()) {
            self.tokens.insert(branch, tokens);
        }
    }

    /// Does any paint reach this branch?
    pub fn reach(&self, branch: Branch) -> bool {
        self.tokens.contains_key(&branch)
    }

    /// The masks on the finest grid, [areas, h, w].
    pub fn finest(&self) -> Option<&Tensor> {
        self.masks.first().map(|(_, masks)| masks)
    }

    /// w for a context of `count` tokens, [1, 1, cells, tokens] f32; `None` where there is no paint. Made once.
    pub fn of(&mut self, grid: Grid, branch: Branch, count: i64) -> Result<Option<Tensor>> {
        let key = (grid, branch, count);
        if let Some(made) = self.made.get(&key) {
            return Ok(Some(made.shallow_clone()));
        }
        let Some((_, masks)) = self.masks.iter().find(|(known, _)| *known == grid) else { return Ok(None) };
        let Some(tokens) = self.tokens.get(&branch) else { return Ok(None) };
        // w[cell, token] = Σ over areas of mask[area, cell] · strength[area] · (is the token in its phrase?)
        let words = Tensor::f_zeros([tokens.len() as i64, count], (Kind::Float, masks.device()))?;
        for (area, (spans, strength)) in (0..).zip(tokens.iter().zip(&self.strengths)) {
            for span in spans.iter().filter(|span| span.end <= count) {
                let mut row = words.f_narrow(0, area, 1)?.f_narrow(1, span.start, span.len())?;
                let _ = row.f_fill_(*strength)?;
            }
        }
        let made =
            masks.f_flatten(1, 2)?.f_transpose(0, 1)?.f_matmul(&words)?.f_reshape([1, 1, grid.cells(), count])?;
        self.made.insert(key, made.shallow_clone());
        Ok(Some(made))
    }
}
