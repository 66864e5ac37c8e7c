//! From attention to the shape of a thing, with the picture's attention to itself.

use super::compete::{Contest, Roles};
use super::maps::{attend, resized};
use super::recording::{Merge, Recorder, Recording, Subjects};
use super::series::{Accumulate, Series};
use crate::attention::{At, AttentionSite, Probs};
use crate::error::{Error, Result};
use crate::guidance::Setup;
use crate::prompt::Named;
use crate::saliency::Competition;
use crate::saliency::Normalize;
use crate::step::Grid;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// How the map of a phrase is brought to the shape of what it names.
///
/// Both ways use the picture's self-attention A (mean over heads, sites and whatever
/// [`accumulate`](super::DaamOptions::accumulate) says), which leads from a cell to those that belong to the same thing. It is read
/// at the finest grid of the network that has at most 1024 cells: 32×32 for SD 1.5 at 512×512 and SDXL at 1024×1024. Where every grid
/// has more, as for SDXL above a megapixel, the coarsest one's attention is pooled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refine {
    /// The map as it is.
    #[default]
    Off,
    /// Aᵖ·map: what a cell attends to in the picture shows what it is. `power` p in 0..=8; 4 is usual, and maps get wider
    /// with it.
    ///
    /// Source: Nguyen et al., "Dataset Diffusion" (NeurIPS 2023).
    SelfAttention {
        /// p.
        power: u32,
    },
    /// The phrase against the other words of the prompt, of which those compete that show something of their own
    /// ([`Competition`](super::Competition)). Each one's map at that grid is taken as deviations from its mean in standard deviations, 1 at
    /// most (a few cells that it stares at say no more than others that it looks at); after Aᵖ deviations again, as they are, less the
    /// logarithm of its peak (small things peak higher, and would take what is around them). In every cell it is the logistic function of
    /// β times what the phrase is ahead of the strongest rival, or of its own map's Otsu threshold if that is less.
    /// It is .5 and more where the phrase is ahead, so .5 is a cutoff that suits things of any size.
    ///
    /// [`Refine::contrast`] has what is usual.
    Contrast {
        /// β, above 0.
        beta: f64,
        /// p, 0 to 8.
        power: u32,
    },
}

/// Cells of the largest grid that self-attention is read at.
const CELLS: i64 = 1024;

impl Refine {
    /// [`Refine::Contrast`] with β 1.5 after two steps of self-attention. One leaves large things that the model attends to in
    /// a few spots alone, such as a background, to whatever else is a little ahead there; more blur the small ones.
    #[must_use]
    pub const fn contrast() -> Self {
        Self::Contrast { beta: 1.5, power: 2 }
    }

    pub(super) fn check(self) -> Result<()> {
        match self {
            Self::SelfAttention { power } | Self::Contrast { power, .. } if power > 8 => {
                Err(Error::parameter("refine power", power, "0 to 8"))
            }
            Self::Contrast { beta, .. } if !(beta.is_finite() && beta > 0.0) => {
                Err(Error::parameter("refine beta", beta, "a number above 0; 1.5 is usual"))
            }
            _ => Ok(()),
        }
    }

    /// Does it read how the picture attends to itself?
    pub(super) const fn looks(self) -> bool {
        matches!(self, Self::SelfAttention { power: 1.. } | Self::Contrast { .. })
    }
}

/// How the picture attends to itself, at one grid, and there to the things that compete.
pub(super) struct Refining {
    how: Refine,
    /// How often the grid of the sites it reads was halved.
    halvings: u32,
    /// The grid that their attention is read at: that one, or a coarser one.
    grid: Grid,
    /// A channel for every cell, and there what it attends to.
    attention: Series,
    /// The phrase first, then its rivals; `None` without competition.
    things: Option<Recording>,
    roles: Roles,
    /// Nothing of this grid's attention to the prompt is read otherwise, so that the things must ask for it.
    unread: bool,
}

impl Refining {
    /// Reads at the finest grid of the network that is small enough. `things` compete, the phrase's first and then those with a role, by the
    /// attention to the prompt at that grid: by what the `recorder` reads of it, or, where that is nothing (large pictures,
    /// whose only small grid is the middle block's), by all of it.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the network has no self-attention.
    pub(super) fn new(
        how: Refine,
        setup: &Setup<'_>,
        accumulate: Accumulate,
        recorder: &Recorder,
        (things, roles): (Vec<Named>, Roles),
    ) -> Result<Self> {
        let levels = || setup.sites.iter().filter(|site| !site.is_cross()).map(|site| site.halvings);
        let is_small = |halvings: &u32| setup.grid.halved(*halvings).cells() <= CELLS;
        let halvings = levels().filter(is_small).min().or(levels().max()).ok_or_else(|| {
            Error::parameter("refine", "self-attention", "a network that has some, which this one has not")
        })?;
        let pooled = (halvings..32).find(is_small).unwrap_or(halvings);
        let grid = setup.grid.halved(pooled);
        let subjects = things.into_iter().map(|(name, spans)| (name, spans, Merge::Mean)).collect::<Vec<_>>();
        let compete = matches!(how, Refine::Contrast { .. });
        let things = compete.then(|| -> Result<Recording> {
            let subjects = Subjects::new(subjects, setup.device)?;
            Ok(Recording::new(grid, setup.images, subjects, accumulate, false))
        });
        let attention = Series::new(grid, setup.images, accumulate);
        let unread =
            !setup.sites.iter().any(|site| site.is_cross() && site.halvings == halvings && recorder.reads(site));
        Ok(Self { how, halvings, grid, attention, things: things.transpose()?, roles, unread })
    }

    /// Does it read `site` even if nobody else does?
    pub(super) fn looks_at(&self, site: &AttentionSite) -> bool {
        site.halvings == self.halvings && (!site.is_cross() || (self.unread && self.things.is_some()))
    }

    /// Adds one call's attention, of a site where it looks or of any to the prompt.
    pub(super) fn add(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        if at.site.halvings != self.halvings {
            return Ok(());
        }
        if at.site.is_cross() {
            return self.things.as_mut().map_or(Ok(()), |things| things.add(at, probs));
        }
        let heat = pooled(&among_own(probs.over_heads()?, at.grid)?, at.grid, self.grid)?;
        self.attention.turn_to(at.step.index)?;
        self.attention.add(self.grid, (at.images.start, at.images.end - at.images.start), &heat, at.site.heads)
    }

    /// The refined map of the phrase, [n, 1, h, w] in 0..=1 on `to`; `map`, [n, 1, h, w], is its own, and `change` where the prediction
    /// changes with the phrase, if that is known. `None` before the first step.
    pub(super) fn map(&self, map: &Tensor, change: Option<&Tensor>, to: Grid) -> Result<Option<Tensor>> {
        if let Refine::Contrast { beta, .. } = self.how {
            return self.contest(change)?.map(|contest| contest.ahead(beta, to)).transpose();
        }
        let Some(attention) = self.attention.read()? else { return Ok(None) };
        self.how.apply(map, &attention.f_flatten(2, 3)?, self.grid, to).map(Some)
    }

    /// Is the attention to the phrase faint beside that to the prompt's loudest word, as far as was recorded?
    pub(super) fn is_faint(&self) -> Result<bool> {
        Ok(self.contest(None)?.is_some_and(|contest| contest.is_faint()))
    }

    /// Who competes in each image; none without competition or before the first step.
    pub(super) fn competitions(&self, change: Option<&Tensor>) -> Result<Vec<Competition>> {
        match (self.contest(change)?, &self.things) {
            (Some(contest), Some(things)) => contest.competitions(&things.subjects.labels),
            _ => Ok(Vec::new()),
        }
    }

    fn contest(&self, change: Option<&Tensor>) -> Result<Option<Contest>> {
        let (Refine::Contrast { power, .. }, Some(things)) = (self.how, &self.things) else { return Ok(None) };
        let (Some(maps), Some(attention)) = (things.maps.read()?, self.attention.read()?) else { return Ok(None) };
        Contest::new(&maps, &attention.f_flatten(2, 3)?, power, change, self.roles).map(Some)
    }
}

impl Refine {
    /// `map` [n, 1, h, w] and the self-attention [n, cells, attended] of `grid`.
    fn apply(self, map: &Tensor, attention: &Tensor, grid: Grid, to: Grid) -> Result<Tensor> {
        let Self::SelfAttention { power } = self else { return resized(map, to) };
        let map = Normalize::MinMax.apply(&attend(&resized(map, grid)?, attention, power)?)?;
        Ok(resized(&map, to)?.f_clamp(0.0, 1.0)?)
    }
}

/// The attention of a picture to its own cells, [rows, cells, cells], of attention to whatever a hook has put behind them too, such as a
/// reference's cells: every row sums up to what it did.
fn among_own(attention: Tensor, grid: Grid) -> Result<Tensor> {
    let (_, cells, attended) = attention.size3()?;
    if attended == grid.cells() || attended < cells {
        return Ok(attention);
    }
    let sum = |x: &Tensor| x.f_sum_dim_intlist([2i64].as_slice(), true, Kind::Float);
    let own = attention.f_narrow(2, 0, cells)?;
    Ok(own.f_mul(&sum(&attention)?.f_div(&sum(&own)?.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)?)?)
}

/// Attention of a grid to itself, [rows, cells, cells], at a grid that may be coarser, [rows, cells, h, w of what they attend to]: the sum
/// of what cells that become one are attended to, the mean of what they attend to.
fn pooled(attention: &Tensor, from: Grid, to: Grid) -> Result<Tensor> {
    let heat = attention.f_unflatten(2, [from.h, from.w])?;
    if from == to {
        return Ok(heat);
    }
    let merged = from.cells() as f64 / to.cells() as f64;
    let heat = heat.f_adaptive_avg_pool2d([to.h, to.w])?.f_mul_scalar(merged)?.f_flatten(2, 3)?; // [rows, cells, attended]
    let queries = heat.f_transpose(1, 2)?.f_unflatten(2, [from.h, from.w])?.f_adaptive_avg_pool2d([to.h, to.w])?;
    Ok(queries.f_flatten(2, 3)?.f_transpose(1, 2)?.f_unflatten(2, [to.h, to.w])?)
}

#[cfg(test)]
mod tests {
    use super::super::maps::deviations;
    use super::*;
    use serde_json::Value;
    use tch::Device;

    const GRID: Grid = Grid::new(8, 8);

    /// A map and a self-attention by formulas, as `saliency.json` has them.
    fn example() -> (Tensor, Tensor) {
        let cell = |i: i64| ((i / 8) as f64, (i % 8) as f64);
        let map: Vec<f64> = (0..64)
            .map(|i| {
                let (y, x) = cell(i);
                (-((y - 2.5).powi(2) + (x - 3.0).powi(2)) / 4.0).exp()
                    + 0.3 * (-((y - 6.0).powi(2) + (x - 6.0).powi(2)) / 2.0).exp()
                    + 0.02 * (3.0 * x + 5.0 * y).sin()
            })
            .collect();
        let side = |i: i64| if cell(i).0 + cell(i).1 < 7.0 { 1.0 } else { -1.0 };
        let logits: Vec<f64> = (0..64 * 64)
            .map(|i| {
                let ((y, x), (v, u)) = (cell(i / 64), cell(i % 64));
                1.5 * side(i / 64) * side(i % 64) - 0.15 * ((y - v).powi(2) + (x - u).powi(2))
            })
            .collect();
        let attention = Tensor::from_slice(&logits).reshape([1, 64, 64]).softmax(-1, Kind::Float);
        let map = Tensor::from_slice(&map).to_kind(Kind::Float).reshape([1, 1, 8, 8]);
        (map, attention)
    }

    #[test]
    fn powers_of_self_attention_equal_the_reference() -> Result<()> {
        let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/specs/saliency.json")).unwrap();
        let (map, attention) = example();
        for power in [0, 1, 4] {
            let want: Vec<Vec<f64>> =
                serde_json::from_value(golden["self_attention_refined"][power.to_string()].clone()).unwrap();
            let got = Refine::SelfAttention { power }.apply(&map, &attention, GRID, GRID)?;
            let want = Tensor::from_slice(&want.concat()).reshape([1, 1, 8, 8]);
            assert!((&got - want).abs().max().double_value(&[]) < 1e-5, "power {power}");
            let area = golden["refined_area_at_0.3"][power.to_string()].as_i64().unwrap();
            assert_eq!(got.ge(0.3).sum(Kind::Int64).int64_value(&[]), area, "power {power}");
        }
        Ok(())
    }

    #[test]
    fn pooled_attention_sums_keys_and_means_queries() -> Result<()> {
        let (fine, coarse) = (Grid::new(4, 4), Grid::new(2, 2));
        let attention = Tensor::rand([1, 16, 16], (Kind::Float, Device::Cpu)).softmax(2, Kind::Float);
        let got = pooled(&attention, fine, coarse)?.flatten(2, 3);
        // Which coarse cell a fine one is in.
        let block = |cell: i64| (cell / 4 / 2) * 2 + (cell % 4) / 2;
        for query in 0..4 {
            for key in 0..4 {
                let pairs = (0..256).map(|pair| (pair / 16, pair % 16));
                let here = pairs.filter(|(q, k)| (block(*q), block(*k)) == (query, key));
                let want = here.map(|(q, k)| attention.double_value(&[0, q, k])).sum::<f64>() / 4.0;
                assert!((got.double_value(&[0, query, key]) - want).abs() < 1e-6);
            }
        }
        assert!(
            (got.sum_dim_intlist([2i64].as_slice(), false, Kind::Float) - 1.0).abs().max().double_value(&[]) < 1e-6
        );
        assert_eq!(pooled(&attention, fine, fine)?.flatten(2, 3), attention);
        Ok(())
    }

    #[test]
    fn attention_to_what_a_hook_added_is_left_out() -> Result<()> {
        let grid = Grid::new(2, 2);
        let all = Tensor::rand([3, 4, 9], (Kind::Float, Device::Cpu)).softmax(2, Kind::Float) * 5.0; // five heads
        let own = among_own(all.shallow_clone(), grid)?;
        assert_eq!(own.size(), [3, 4, 4]);
        let sums = own.sum_dim_intlist([2i64].as_slice(), false, Kind::Float);
        assert!((sums - 5.0).abs().max().double_value(&[]) < 1e-5);
        let ratio = &own / all.narrow(2, 0, 4);
        assert!((&ratio - ratio.narrow(2, 0, 1)).abs().max().double_value(&[]) < 1e-5);
        let alone = all.narrow(2, 0, 4);
        assert_eq!(among_own(alone.shallow_clone(), grid)?, alone, "not a bit changes without");
        Ok(())
    }

    #[test]
    fn refined_maps_are_read_at_any_size() -> Result<()> {
        let (map, attention) = example();
        let larger = Refine::SelfAttention { power: 1 }.apply(&map, &attention, GRID, Grid::new(12, 20))?;
        assert_eq!((larger.size(), larger.max().double_value(&[]) <= 1.0), (vec![1, 1, 12, 20], true));
        Ok(())
    }

    #[test]
    fn flat_maps_and_bad_numbers() {
        assert_eq!(
            deviations(&Tensor::ones([1, 2, 4, 4], (Kind::Float, Device::Cpu))).unwrap().abs().max().double_value(&[]),
            0.0
        );
        assert!(Refine::SelfAttention { power: 9 }.check().is_err());
        assert!(Refine::Contrast { beta: 0.0, power: 1 }.check().is_err());
        assert!(Refine::Contrast { beta: 1.5, power: 9 }.check().is_err());
        assert!(Refine::contrast().check().is_ok());
    }
}
