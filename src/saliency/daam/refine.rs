//! [`Refine`]: refines a map of attention to the shape of an object, with the picture's self-attention.

use super::compete::{Contest, Roles};
use super::maps::{attend, resized};
use super::recording::{Merge, Recorder, Recording, Subjects};
use crate::attention::{At, AttentionSite, Probs, SiteKind};
use crate::error::{Error, Result};
use crate::guidance::Setup;
use crate::prompt::Named;
use crate::saliency::Competition;
use crate::saliency::Normalize;
use crate::saliency::series::{Accumulate, Series};
use crate::step::Grid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tch::{Kind, Tensor};

/// Refinement of a phrase's map to the shape of the named object.
///
/// Both refinements use the picture's self-attention A. A is the mean over heads and sites, and over steps as
/// [`accumulate`](super::DaamOptions::accumulate) says. A cell attends mostly to cells of the same object.
///
/// A is read at the network's finest grid of at most 1024 cells: 32×32 for SD 1.5 at 512×512 and SDXL at 1024×1024. If
/// every grid has more cells, as for SDXL above a megapixel, the attention of the coarsest grid is pooled to such a
/// grid. In a network whose picture attends only together with the prompt, such as Stable Diffusion 3 medium, A is the
/// part of joint attention in which the picture attends to itself, at the sites that find words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refine {
    /// No refinement.
    #[default]
    Off,
    /// Aᵖ·map: each cell takes the map's values from the cells that it attends to. `power` p is in 0..=8; 4 is usual,
    /// and larger values widen the maps.
    ///
    /// Source: Nguyen et al., "Dataset Diffusion" (NeurIPS 2023).
    SelfAttention {
        /// Power p of the self-attention.
        power: u32,
    },
    /// Competition of the phrase with the other words of the prompt. Rivals are words whose maps show an object of
    /// their own, and the phrases of [`DaamOptions::against`](super::DaamOptions)
    /// ([`Competition`](super::Competition)).
    ///
    /// 1. Each word's map at the grid of A is converted to deviations from the map's mean, in standard deviations,
    ///    clamped to at most 1. The clamp keeps a few cells with very strong attention from deciding the comparison.
    /// 2. The maps are multiplied by A, p times or until a multiplication hardly changes a map (a correlation of .9 and
    ///    more), and converted to deviations again, without a clamp.
    /// 3. From each map, the logarithm of the map's peak is subtracted. Maps of small objects peak higher, and would
    ///    otherwise take cells around the objects.
    /// 4. A cell's lead is the lesser of two differences. The first is the phrase's value after step 3 less the
    ///    strongest rival's value after step 3. The second is the phrase's value after step 2 less the Otsu threshold
    ///    of the phrase's map after step 2.
    /// 5. If the change of the prediction was measured ([`DaamOptions::changes`](super::DaamOptions)), the cell's lead
    ///    becomes (d + t·lead)/(1 + t). Here d is the change less its Otsu threshold, in standard deviations. The trust
    ///    t rises from 0 to 2 while the share of the cells with a lead of 0 or more in which d ≥ 0 rises from .4 to .9.
    ///    The lead stays as it was if in half of the cells with d ≥ 0 or more the phrase is behind words of smaller
    ///    objects, whose values after step 2 peak at least 1.5 times as high, and the phrase's attention is not faint
    ///    ([`Competition::loudness`] of .01 and more). The lead is at most the phrase's lead over words that make a
    ///    compound with one of its words, such as "hair" if the phrase is "hair bow".
    /// 6. The result is the logistic function of β times the lead.
    ///
    /// The result is .5 and more where the phrase leads, so a cutoff of .5 suits objects of any size.
    /// [`Refine::contrast`] has the usual values.
    Contrast {
        /// Factor β of the lead, above 0.
        beta: f64,
        /// Maximum power p of the self-attention, 0 to 8.
        power: u32,
    },
}

/// Maximum number of cells of the grid at which self-attention is read.
const CELLS: i64 = 1024;

impl Refine {
    /// Returns [`Refine::Contrast`] with β 1.5 after at most two steps of self-attention.
    ///
    /// Some networks attend to large objects, such as a background, in a few spots alone. One step would leave the rest
    /// of such an object to other words that lead slightly there. More steps blur small objects, so a map that a single
    /// step hardly changes takes no second step.
    #[must_use]
    pub const fn contrast() -> Self {
        Self::Contrast { beta: 1.5, power: 2 }
    }

    pub(super) fn check(self) -> Result<()> {
        match self {
            Self::SelfAttention { power } | Self::Contrast { power, .. } if power > 8 => {
                Err(Error::parameter("refine.power", power, "0 to 8"))
            }
            Self::Contrast { beta, .. } if !(beta.is_finite() && beta > 0.0) => {
                Err(Error::parameter("refine.beta", beta, "a number above 0; 1.5 is usual"))
            }
            _ => Ok(()),
        }
    }

    /// Returns true if the refinement reads self-attention.
    pub(super) const fn looks(self) -> bool {
        matches!(self, Self::SelfAttention { power: 1.. } | Self::Contrast { .. })
    }
}

/// Recorder of the picture's self-attention at one grid, and of the picture's attention to the competing words at that
/// grid.
pub(super) struct Refining {
    how: Refine,
    /// Number of halvings of the latent grid at the recorded sites.
    halvings: u32,
    /// Grid at which the attention is read: the grid of the recorded sites, or a coarser grid.
    grid: Grid,
    /// Indexes of the sites where the picture's attention to itself is read.
    own: BTreeSet<usize>,
    /// Self-attention, with a channel for every cell: the map of the cells that the channel's cell attends to.
    attention: Series,
    /// Attention to the phrase, then to its rivals; `None` without competition.
    things: Option<Recording>,
    roles: Roles,
    /// True if the recorder reads no cross-attention at this grid, so that the competing words must request it.
    unread: bool,
}

impl Refining {
    /// Creates a refinement at the finest grid of the network that is small enough. `things` are the words that
    /// compete: the phrase first, then words with a role.
    ///
    /// The words compete by the cross-attention that `recorder` reads at that grid. If the recorder reads none there,
    /// all cross-attention at that grid counts. This happens in large pictures, where only the middle block's grid is
    /// small enough.
    ///
    /// The picture's attention to itself is read at the sites that [`own_sites`] returns.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the network has neither self-attention nor joint attention.
    pub(super) fn new(
        how: Refine,
        setup: &Setup<'_>,
        accumulate: Accumulate,
        recorder: &Recorder,
        (things, roles): (Vec<Named>, Roles),
    ) -> Result<Self> {
        let own = own_sites(setup.sites, recorder);
        let levels = || setup.sites.iter().filter(|site| own.contains(&site.index)).map(|site| site.halvings);
        let is_small = |halvings: &u32| setup.grid.halved(*halvings).cells() <= CELLS;
        let halvings = levels().filter(is_small).min().or(levels().max()).ok_or_else(|| {
            let expected = "off, because this network has neither self-attention nor joint attention";
            Error::parameter("refine", format!("{how:?}"), expected)
        })?;
        let pooled = (halvings..32).find(is_small).unwrap_or(halvings);
        let grid = setup.grid.halved(pooled);
        let subjects = things.into_iter().map(|(name, spans)| (name, spans, Merge::Mean)).collect::<Vec<_>>();
        let compete = matches!(how, Refine::Contrast { .. });
        let things = compete.then(|| -> Result<Recording> {
            let subjects = Subjects::new(subjects, setup.prompt, setup.schedule, setup.device)?;
            Ok(Recording::new(grid, setup.images, subjects, accumulate, false))
        });
        let attention = Series::new(grid, setup.images, accumulate);
        let unread =
            !setup.sites.iter().any(|site| site.is_cross() && site.halvings == halvings && recorder.reads(site));
        Ok(Self { how, halvings, grid, own, attention, things: things.transpose()?, roles, unread })
    }

    /// Returns true if the refinement must read `site` itself, because the recorder does not.
    pub(super) fn looks_at(&self, site: &AttentionSite) -> bool {
        site.halvings == self.halvings && (self.shows_own(site) || (self.unread && self.things.is_some()))
    }

    /// Returns true if the picture's attention to itself is read at a site of this grid.
    fn shows_own(&self, site: &AttentionSite) -> bool {
        self.own.contains(&site.index)
    }

    /// Adds the attention of one call, `probs`. Calls at sites of other grids are ignored.
    pub(super) fn add(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        if at.site.halvings != self.halvings {
            return Ok(());
        }
        if at.site.is_cross()
            && let Some(things) = &mut self.things
        {
            things.add(at, probs)?;
        }
        if !self.shows_own(at.site) {
            return Ok(());
        }
        let attention = match probs.own_over_heads()? {
            Some(own) => to_sum(&own, at.site.heads as f64)?,
            None => probs.over_heads()?,
        };
        let heat = pooled(&among_own(attention, at.grid)?, at.grid, self.grid)?;
        self.attention.turn_to(at.step.index)?;
        self.attention.add(self.grid, (at.images.start, at.images.end - at.images.start), &heat, at.site.heads)
    }

    /// Returns the refined map of the phrase, [n, 1, h, w] in 0..=1 on `to`; `None` before the first step. `map`, [n,
    /// 1, h, w], is the phrase's own map; without competition, `map` may have several channels, and so has the result.
    /// `change`, [n, 1, H, W], shows where the prediction changes with the phrase; `None` if the change was not
    /// measured.
    pub(super) fn map(&self, map: &Tensor, change: Option<&Tensor>, to: Grid) -> Result<Option<Tensor>> {
        if let Refine::Contrast { beta, .. } = self.how {
            return self.contest()?.map(|contest| contest.ahead(beta, change, to)).transpose();
        }
        let Some(attention) = self.attention.read()? else { return Ok(None) };
        self.how.apply(map, &attention.f_flatten(2, 3)?, self.grid, to).map(Some)
    }

    /// Returns the competing words of each image; empty without competition or before the first step.
    pub(super) fn competitions(&self) -> Result<Vec<Competition>> {
        match (self.contest()?, &self.things) {
            (Some(contest), Some(things)) => contest.competitions(&things.subjects.labels),
            _ => Ok(Vec::new()),
        }
    }

    fn contest(&self) -> Result<Option<Contest>> {
        let (Refine::Contrast { power, .. }, Some(things)) = (self.how, &self.things) else { return Ok(None) };
        let (Some(maps), Some(attention)) = (things.maps.read()?, self.attention.read()?) else { return Ok(None) };
        Contest::new(&maps, &attention.f_flatten(2, 3)?, power, self.roles).map(Some)
    }
}

/// Returns the indexes of the sites where the picture's attention to itself is read: self-attention, as far as the
/// picture has read the prompt before. Without such sites, it is the joint attention that `recorder` reads. Z-Image
/// refines the picture by two layers of self-attention before its caption joins; these know no things.
fn own_sites(sites: &[AttentionSite], recorder: &Recorder) -> BTreeSet<usize> {
    let joint = || sites.iter().filter(|site| site.kind == SiteKind::Joint);
    let begin = joint().map(|site| site.index).min().unwrap_or_default();
    let is_own = |site: &&AttentionSite| site.kind == SiteKind::SelfAttention && site.index >= begin;
    let own: BTreeSet<usize> = sites.iter().filter(is_own).map(|site| site.index).collect();
    if own.is_empty() { joint().filter(|site| recorder.reads(site)).map(|site| site.index).collect() } else { own }
}

impl Refine {
    /// Refines `maps`, [n, channels, h, w], by the self-attention of `grid`, [n, cells, attended], and resizes the
    /// result to `to`. Each channel is a map of its own.
    fn apply(self, maps: &Tensor, attention: &Tensor, grid: Grid, to: Grid) -> Result<Tensor> {
        let Self::SelfAttention { power } = self else { return resized(maps, to) };
        let maps = attend(&resized(maps, grid)?, attention, power)?;
        let each = Normalize::MinMax.apply(&maps.f_reshape([-1, 1, grid.h, grid.w])?)?;
        Ok(resized(&each.f_reshape(maps.size())?, to)?.f_clamp(0.0, 1.0)?)
    }
}

/// Scales every row of an attention, [rows, cells, attended], to the same sum.
fn to_sum(attention: &Tensor, sum: f64) -> Result<Tensor> {
    let rows = attention.f_sum_dim_intlist([2i64].as_slice(), true, Kind::Float)?;
    Ok(attention.f_mul_scalar(sum)?.f_div(&rows.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)?)
}

/// Returns the attention of a picture to its own cells, [rows, cells, cells]. Attention to cells that a hook has
/// appended, such as the cells of a reference, is left out. Every row is scaled to keep its sum.
fn among_own(attention: Tensor, grid: Grid) -> Result<Tensor> {
    let (_, cells, attended) = attention.size3()?;
    if attended == grid.cells() || attended < cells {
        return Ok(attention);
    }
    let sum = |x: &Tensor| x.f_sum_dim_intlist([2i64].as_slice(), true, Kind::Float);
    let own = attention.f_narrow(2, 0, cells)?;
    Ok(own.f_mul(&sum(&attention)?.f_div(&sum(&own)?.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)?)?)
}

/// Pools the attention of a grid to itself, [rows, cells, cells], to an equal or coarser grid,
/// [rows, cells, h, w of the attended cells]. Where cells merge, attended cells are summed, and attending cells are
/// averaged.
fn pooled(attention: &Tensor, from: Grid, to: Grid) -> Result<Tensor> {
    let heat = attention.f_unflatten(2, [from.h, from.w])?;
    if from == to {
        return Ok(heat);
    }
    let merged = from.cells() as f64 / to.cells() as f64;
    // [rows, cells, attended]
    let heat = heat.f_adaptive_avg_pool2d([to.h, to.w])?.f_mul_scalar(merged)?.f_flatten(2, 3)?;
    let queries = heat.f_transpose(1, 2)?.f_unflatten(2, [from.h, from.w])?.f_adaptive_avg_pool2d([to.h, to.w])?;
    Ok(queries.f_flatten(2, 3)?.f_transpose(1, 2)?.f_unflatten(2, [to.h, to.w])?)
}

#[cfg(test)]
mod tests {
    use super::super::maps::deviations;
    use super::*;
    use crate::attention::Place;
    use serde_json::Value;
    use tch::Device;

    const GRID: Grid = Grid::new(8, 8);

    /// Returns a map and a self-attention, by the formulas of `saliency.json`.
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
    fn own_attention_is_read_after_the_prompt() {
        use SiteKind::{Cross, Joint, SelfAttention};
        let own = |kinds: &[SiteKind]| -> Vec<usize> {
            let site = |kind| AttentionSite::new("site", kind, Place::Down, 0, 1);
            let number = |(index, kind): (usize, &SiteKind)| AttentionSite { index, ..site(*kind) };
            let sites: Vec<AttentionSite> = kinds.iter().enumerate().map(number).collect();
            own_sites(&sites, &Recorder::default()).into_iter().collect()
        };
        assert_eq!(own(&[SelfAttention, Cross, SelfAttention, Cross]), [0, 2]);
        assert_eq!(own(&[Joint, Joint]), [0, 1], "Stable Diffusion 3");
        assert_eq!(own(&[Joint, SelfAttention, Joint, SelfAttention, Joint]), [1, 3], "Stable Diffusion 3.5");
        assert_eq!(own(&[SelfAttention, SelfAttention, Joint, Joint]), [2, 3], "Z-Image");
    }

    #[test]
    fn pooled_attention_sums_keys_averages_queries() -> Result<()> {
        let (fine, coarse) = (Grid::new(4, 4), Grid::new(2, 2));
        let attention = Tensor::rand([1, 16, 16], (Kind::Float, Device::Cpu)).softmax(2, Kind::Float);
        let got = pooled(&attention, fine, coarse)?.flatten(2, 3);
        // The coarse cell that contains a fine cell.
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
    fn attention_to_appended_cells_is_left_out() -> Result<()> {
        let grid = Grid::new(2, 2);
        let all = Tensor::rand([3, 4, 9], (Kind::Float, Device::Cpu)).softmax(2, Kind::Float) * 5.0; // five heads
        let own = among_own(all.shallow_clone(), grid)?;
        assert_eq!(own.size(), [3, 4, 4]);
        let sums = own.sum_dim_intlist([2i64].as_slice(), false, Kind::Float);
        assert!((sums - 5.0).abs().max().double_value(&[]) < 1e-5);
        let ratio = &own / all.narrow(2, 0, 4);
        assert!((&ratio - ratio.narrow(2, 0, 1)).abs().max().double_value(&[]) < 1e-5);
        let alone = all.narrow(2, 0, 4);
        assert_eq!(among_own(alone.shallow_clone(), grid)?, alone, "nothing changes without appended cells");
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
    fn flat_maps_are_zero_and_bad_settings_refused() {
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
