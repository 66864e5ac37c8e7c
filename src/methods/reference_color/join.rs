//! A hook that lets the picture's cells attend to the cells of a reference.

use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, Scores};
use crate::branch::Branch;
use crate::error::Result;
use crate::step::{Grid, Step};
use std::collections::HashMap;
use tch::{Kind, Tensor};

/// Logarithm of the weight of a cell that is excluded from attention.
const UNSEEN: f64 = -30.0;
/// Small number that is added to standard deviations, so that none is 0.
const EPSILON: f64 = 1e-5;

/// A mask of cells of the picture, [n, 1, h, w], and a mask of the reference's cells that these cells see,
/// [1, 1, h, w]. The masks are in 0..=1.
#[derive(Debug)]
pub(super) struct Pair {
    pub here: Tensor,
    pub there: Tensor,
}

/// Index of an attention site, and index of the first image in a call.
type Place = (usize, i64);

/// A hook that joins keys and values of the reference's branch to those of the branches derived from the prompt's
/// branch.
#[derive(Debug)]
pub(super) struct Join {
    /// The reference's branch.
    branch: Branch,
    /// The branches that see the reference.
    pub readers: Vec<Branch>,
    sites: Vec<usize>,
    /// Latent grid.
    pub grid: Grid,
    strength: f64,
    statistics: f64,
    /// True if cells see only some cells of the reference.
    parted: bool,
    /// True if the reference is part of the present evaluation.
    pub active: bool,
    /// Cells of the picture, and the reference's cells that these cells see, in the present evaluation; `None` if all
    /// cells see the whole reference.
    pairs: Option<Vec<Pair>>,
    /// The reference's hidden states in the present evaluation, [n, cells, dim].
    states: HashMap<Place, Tensor>,
    /// Mean and deviation of the output of the reference's self-attention, [n, 1, dim] each.
    outputs: HashMap<Place, (Tensor, Tensor)>,
    /// Index of the reference's first token in the context of a branch.
    begins: HashMap<(Place, Branch), i64>,
    /// Logarithms of the weights with which cells see the reference, [n, 1, cells, cells], by grid.
    weights: HashMap<Grid, Tensor>,
}

impl Join {
    pub(super) fn new(
        branch: Branch,
        sites: Vec<usize>,
        grid: Grid,
        (strength, statistics): (f64, f64),
        parted: bool,
    ) -> Self {
        Self {
            branch,
            readers: Vec::new(),
            sites,
            grid,
            strength,
            statistics,
            parted,
            active: false,
            pairs: None,
            states: HashMap::new(),
            outputs: HashMap::new(),
            begins: HashMap::new(),
            weights: HashMap::new(),
        }
    }

    /// Prepares for an evaluation, in which the picture sees the reference only if `acts` is true. `pairs` says which
    /// cells of the picture see which cells of the reference. With `None` all cells see the whole reference; with an
    /// empty list no cell sees the reference.
    pub(super) fn begin(&mut self, pairs: Option<Vec<Pair>>, acts: bool) {
        self.states.clear();
        self.outputs.clear();
        self.begins.clear();
        self.weights.clear();
        self.active = acts && pairs.as_ref().is_none_or(|pairs| !pairs.is_empty());
        self.pairs = pairs;
    }

    /// Returns the logarithms of the weights with which cells of `grid` see the reference, [n or 1, 1, cells, cells];
    /// `None` if all cells see the whole reference.
    fn weights(&mut self, grid: Grid) -> Result<Option<Tensor>> {
        let Some(pairs) = &self.pairs else { return Ok(None) };
        if let Some(weights) = self.weights.get(&grid) {
            return Ok(Some(weights.shallow_clone()));
        }
        let cells =
            |map: &Tensor| -> Result<Tensor> { Ok(map.f_adaptive_avg_pool2d([grid.h, grid.w])?.f_flatten(2, 3)?) };
        let mut seen: Option<Tensor> = None;
        for Pair { here, there } in pairs {
            let pair = cells(here)?.f_unsqueeze(-1)?.f_mul(&cells(there)?.f_unsqueeze(-2)?)?;
            seen = Some(match seen {
                Some(seen) => seen.f_maximum(&pair)?,
                None => pair,
            });
        }
        let logarithms = seen.map(|seen| seen.f_clamp_min(UNSEEN.exp())?.f_log()).transpose()?;
        Ok(logarithms.inspect(|weights| drop(self.weights.insert(grid, weights.shallow_clone()))))
    }
}

impl CrossAttentionHook for Join {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if !self.sites.contains(&site.index) {
            return Interest::NONE;
        }
        let statistics = if self.statistics > 0.0 { Interest::OUTPUT } else { Interest::NONE };
        if branch == self.branch {
            Interest::CONTEXT | statistics
        } else if self.readers.contains(&branch) {
            let joins = if self.strength > 0.0 { Interest::CONTEXT } else { Interest::NONE };
            let weighs = self.strength > 0.0 && (self.strength != 1.0 || self.parted);
            joins | statistics | if weighs { Interest::BIAS } else { Interest::NONE }
        } else {
            Interest::NONE
        }
    }

    fn active(&self, _: &Step) -> bool {
        self.active
    }

    fn context(&mut self, at: &At<'_>, context: &mut Tensor) -> Result<()> {
        let place = (at.site.index, at.images.start);
        if at.branch == self.branch {
            self.states.insert(place, context.shallow_clone());
        } else if let Some(reference) = self.states.get(&place) {
            self.begins.insert((place, at.branch), context.size3()?.1);
            *context = Tensor::f_cat(&[&*context, &reference.f_to_kind(context.kind())?], 1)?;
        }
        Ok(())
    }

    fn bias(&mut self, at: &At<'_>, scores: &Scores<'_>) -> Result<Option<Tensor>> {
        let place = (at.site.index, at.images.start);
        let Some(&begins) = self.begins.get(&(place, at.branch)) else { return Ok(None) };
        let (queries, device) = (at.grid.cells(), at.query().device());
        let weights = match self.weights(at.grid)? {
            Some(weights) if weights.size4()?.0 > 1 => {
                Some(weights.f_narrow(0, at.images.start, at.images.end - at.images.start)?)
            }
            weights => weights,
        };
        let rows = weights.as_ref().map_or(Ok(1), |weights| weights.size4().map(|size| size.0))?;
        let bias = Tensor::f_zeros([rows, 1, queries, scores.tokens().end], (Kind::Float, device))?;
        let mut reference = bias.f_narrow(3, begins, queries)?;
        let _ = reference.f_fill_(self.strength.ln())?;
        if let Some(weights) = weights {
            let _ = reference.f_add_(&weights)?;
        }
        Ok(Some(bias))
    }

    fn output(&mut self, at: &At<'_>, output: &mut Tensor) -> Result<()> {
        let place = (at.site.index, at.images.start);
        let moments = |x: &Tensor| -> Result<(Tensor, Tensor)> {
            let x = x.f_to_kind(Kind::Float)?;
            let mean = x.f_mean_dim([1i64].as_slice(), true, Kind::Float)?;
            Ok((mean, x.f_std_dim([1i64].as_slice(), false, true)?.f_add_scalar(EPSILON)?))
        };
        if at.branch == self.branch {
            self.outputs.insert(place, moments(output)?);
        } else if let Some((mean, deviation)) = self.outputs.get(&place) {
            let (own_mean, own_deviation) = moments(output)?;
            let alike = output.f_to_kind(Kind::Float)?.f_sub(&own_mean)?.f_div(&own_deviation)?;
            let alike = alike.f_mul(deviation)?.f_add(mean)?;
            *output = output.f_to_kind(Kind::Float)?.f_lerp(&alike, self.statistics)?;
        }
        Ok(())
    }
}
