//! [`TokenMerging`]: self-attention in which similar cells are computed as one token.
//!
//! Each cell of the picture is a token. One cell of each block of 2×2 cells is a destination, the others are sources.
//! Every source has a nearest destination, by the cosine of the block's hidden states. The share of the cells whose
//! sources are most similar to their nearest destination join its group; every other cell is a group of its own:
//!
//! merged token of a group g: m_g = mean of x_i over the cells i of g, result of a cell: y_i = attention(m)_g(i)
//!
//! Cross-attention and the feed-forward layer see all cells.
//!
//! Source: Bolya and Hoffman, "Token Merging for Fast Stable Diffusion" (2023); `tomesd/merge.py` and `patch.py` of
//! tomesd 0.1.3, with its defaults `sx` and `sy` 2 and `merge_attn` alone. tomesd merges on the grid of the latent, on
//! which SDXL does not attend. Here the sites of the largest grid on which a network attends merge cells.

use crate::attention::{AttentionSite, Tap, chunks, repeated, scores};
use crate::error::{Error, Result};
use crate::step::Grid;
use std::cell::Cell;
use tch::{Kind, Tensor};

/// Largest share of cells to merge: that of all sources.
const MOST: f64 = 0.75;
/// Side of a block of cells that has one destination.
const SIDE: i64 = 2;
/// Smallest norm to divide by.
const TINY: f64 = 1e-12;

/// Checks the share of the cells to merge.
///
/// # Errors
/// [`Error::Parameter`] for a share outside 0..=.75.
pub(crate) fn check_merge_tokens(share: f64) -> Result<()> {
    if (0.0..=MOST).contains(&share) {
        return Ok(());
    }
    let expected = format!("0 to {MOST}; 0.5 is usual, 0 merges nothing");
    Err(Error::parameter("merge_tokens", share, expected))
}

/// The sites that merge cells, and the share of the cells that they merge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenMerging {
    share: f64,
    /// Halvings of the largest grid on which the network attends.
    halvings: u32,
}

/// The merging of this thread, and the number of attention calls that merged cells.
#[derive(Clone, Copy)]
struct Present {
    merging: Option<TokenMerging>,
    calls: usize,
}

thread_local! {
    /// Networks are called on one thread, and their layers have no other way to learn about the run.
    static PRESENT: Cell<Present> = const { Cell::new(Present { merging: None, calls: 0 }) };
}

/// Resets the merging when a call of a network ends, also by an error.
struct Reset(Present);

impl Drop for Reset {
    fn drop(&mut self) {
        PRESENT.set(self.0);
    }
}

/// Calls `compute`, whose sites merge cells. Also returns the number of attention calls that did.
pub(crate) fn within<T>(merging: Option<TokenMerging>, compute: impl FnOnce() -> T) -> (T, usize) {
    let _reset = Reset(PRESENT.replace(Present { merging, calls: 0 }));
    let result = compute();
    (result, PRESENT.get().calls)
}

impl TokenMerging {
    /// Creates the merging of a share of the cells in a network with these sites; `None` for a share of 0, and without
    /// self-attention.
    pub(crate) fn new(share: f64, sites: &[AttentionSite]) -> Option<Self> {
        let own = sites.iter().filter(|site| !site.is_cross()).map(|site| site.halvings);
        own.min().filter(|_| share > 0.0).map(|halvings| Self { share, halvings })
    }

    /// Returns true if the site merges cells, as long as no hook takes part there.
    const fn suits(self, site: &AttentionSite) -> bool {
        !site.is_cross() && site.halvings == self.halvings
    }
}

/// The groups of the cells of each row in a call.
pub(super) struct Groups {
    /// Group of each cell, counted through all rows, [rows · cells].
    of_cell: Tensor,
    /// Number of cells of each group, [rows · groups, 1] f32.
    sizes: Tensor,
    rows: i64,
}

impl Groups {
    /// Finds the groups of the cells `x`, [b, cells, channels], at a site; `None` if the site merges none.
    pub(super) fn find(x: &Tensor, grid: Grid, site: &AttentionSite, tap: &Tap<'_>) -> Result<Option<Self>> {
        let Present { merging, calls } = PRESENT.get();
        let Some(TokenMerging { share, .. }) = merging.filter(|own| own.suits(site) && !tap.takes_part(site)) else {
            return Ok(None);
        };
        let all = destinations(grid, site, tap);
        let count = all.first().map(Vec::len).unwrap_or_default();
        let merged = ((grid.cells() as f64 * share) as i64).min(grid.cells() - count as i64);
        if count == 0 || merged <= 0 {
            return Ok(None);
        }
        PRESENT.set(Present { merging, calls: calls + 1 });
        Self::of(x, &all, merged).map(Some)
    }

    /// Finds the groups of cells with these destinations of each image, so that `merged` cells join another one.
    fn of(x: &Tensor, destinations: &[Vec<i64>], merged: i64) -> Result<Self> {
        let (rows, cells, channels) = x.size3()?;
        let groups = cells - merged;
        let numbers = |count: i64| Tensor::f_arange(count, (Kind::Int64, x.device()));
        // The rows of a batch are its images, once for each branch.
        let index = |of_image: &dyn Fn(&Vec<i64>) -> Vec<i64>| -> Result<Tensor> {
            let all: Vec<i64> = destinations.iter().flat_map(of_image).collect();
            let index = Tensor::f_from_slice(&all)?.f_reshape([destinations.len() as i64, -1])?;
            repeated(&index.f_to_device(x.device())?, rows)
        };
        let sources = index(&|own| {
            let mut own = own.iter().peekable();
            (0..cells).filter(|cell| own.next_if_eq(&cell).is_none()).collect()
        })?; // [b, sources]
        let destinations = index(&Vec::clone)?; // [b, destinations]
        let (few, all) = (destinations.size2()?.1, numbers(rows)?.f_unsqueeze(1)?);

        let x = x.f_to_kind(Kind::Float)?;
        let x = x.f_div(&x.f_norm_scalaropt_dim(2.0, [-1i64], true)?.f_clamp_min(TINY)?)?;
        let x = x.f_reshape([rows * cells, channels])?;
        let pick = |index: &Tensor| -> Result<Tensor> {
            let index = index.f_add(&all.f_mul_scalar(cells)?)?.f_reshape([-1])?;
            Ok(x.f_index_select(0, &index)?.f_reshape([rows, 1, -1, channels])?)
        };
        let (similarity, nearest) = nearest(&pick(&sources)?, &pick(&destinations)?)?; // [b, sources]

        // Place of each source in the order of falling similarity. The first `merged` ones join their destination.
        let order = similarity.f_argsort_stable(true, -1, true)?;
        let places = numbers(order.size2()?.1)?.f_expand_as(&order)?;
        let place = order.f_zeros_like()?.f_scatter(1, &order, &places)?;
        let alone = place.f_add_scalar(few - merged)?;
        let group = nearest.f_where_self(&place.f_lt(merged)?, &alone)?;
        let of_cell = Tensor::f_zeros([rows, cells], (Kind::Int64, x.device()))?
            .f_scatter(1, &sources, &group)?
            .f_scatter(1, &destinations, &numbers(few)?.f_expand_as(&destinations)?)?
            .f_add(&all.f_mul_scalar(groups)?)?
            .f_reshape([-1])?;
        let options = (Kind::Float, x.device());
        let ones = Tensor::f_ones([rows * cells, 1], options)?;
        let sizes = Tensor::f_zeros([rows * groups, 1], options)?.f_index_add(0, &of_cell, &ones)?;
        Ok(Self { of_cell, sizes, rows })
    }

    /// Merges the cells `x`, [b, cells, channels] → [b, groups, channels]: the mean of each group.
    pub(super) fn merge(&self, x: &Tensor) -> Result<Tensor> {
        let channels = x.size3()?.2;
        let sums = Tensor::f_zeros([self.sizes.size2()?.0, channels], (Kind::Float, x.device()))?;
        let sums = sums.f_index_add(0, &self.of_cell, &x.f_to_kind(Kind::Float)?.f_reshape([-1, channels])?)?;
        Ok(sums.f_div(&self.sizes)?.f_to_kind(x.f_kind()?)?.f_reshape([self.rows, -1, channels])?)
    }

    /// Gives every cell the token of its group, [b, groups, channels] → [b, cells, channels].
    pub(super) fn restore(&self, merged: &Tensor) -> Result<Tensor> {
        let channels = merged.size3()?.2;
        let cells = merged.f_reshape([-1, channels])?.f_index_select(0, &self.of_cell)?;
        Ok(cells.f_reshape([self.rows, -1, channels])?)
    }
}

/// Returns the largest cosine of each source to a destination, and that destination, [b, sources] each. Sources and
/// destinations are vectors of length 1, [b, 1, tokens, channels].
fn nearest(sources: &Tensor, destinations: &Tensor) -> Result<(Tensor, Tensor)> {
    let mut parts = Vec::new();
    for (first, count) in chunks(sources, destinations)? {
        // The factor of scores, 1/√channels, changes no order.
        let cosines = scores(&sources.f_narrow(2, first, count)?, destinations)?;
        parts.push(cosines.f_squeeze_dim(1)?.f_max_dim(-1, false)?);
    }
    let (similarity, nearest): (Vec<Tensor>, Vec<Tensor>) = parts.into_iter().unzip();
    Ok((Tensor::f_cat(&similarity, 1)?, Tensor::f_cat(&nearest, 1)?))
}

/// Draws a destination in each whole block of a grid: indexes of cells in rising order, for each image of a call. A
/// draw depends on the image's seed, the step and the site. Without seeds, all images have the upper left cells.
fn destinations(grid: Grid, site: &AttentionSite, tap: &Tap<'_>) -> Vec<Vec<i64>> {
    let draws = tap.draws().map(|(step, seeds)| {
        let moment = [step.place() as u64, step.eval as u64, site.index as u64];
        let key = move |seed: &u64| moment.iter().fold(*seed, |key, number| mix(key ^ number));
        seeds.iter().map(|seed| Some(key(seed))).collect::<Vec<_>>()
    });
    let of_image = |key: Option<u64>| {
        let blocks = Grid::new(grid.h / SIDE, grid.w / SIDE);
        let cell = |block: i64| {
            let drawn = key.map_or(0, |key| mix(key ^ block as u64) % (SIDE * SIDE) as u64) as i64;
            let (y, x) = (block / blocks.w * SIDE + drawn / SIDE, block % blocks.w * SIDE + drawn % SIDE);
            y * grid.w + x
        };
        let mut cells: Vec<i64> = (0..blocks.cells()).map(cell).collect();
        cells.sort_unstable();
        cells
    };
    draws.unwrap_or_else(|| vec![None]).into_iter().map(of_image).collect()
}

/// Returns the next number of the random generator SplitMix64 after the state `number`.
///
/// Source: Steele et al., "Fast Splittable Pseudorandom Number Generators" (2014).
const fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::{Place, SiteKind};
    use serde_json::Value;

    #[test]
    fn cells_are_merged_and_restored_as_by_tomesd() -> Result<()> {
        let golden: Value = crate::json::parse(include_str!("../../tests/golden/specs/token_merging.json")).unwrap();
        for case in golden.as_array().unwrap() {
            let number = |name: &str| case[name].as_i64().unwrap();
            let (rows, h, w) = (number("rows"), number("height"), number("width"));
            let tensor = |name: &str| {
                let numbers = case[name].as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32);
                Tensor::from_slice(&numbers.collect::<Vec<_>>()).reshape([rows, h * w, -1])
            };
            let drawn = case["drawn"].as_array().unwrap().iter().map(|number| number.as_i64().unwrap());
            let cell = |(block, drawn): (i64, i64)| {
                (block / (w / 2) * 2 + drawn / 2) * w + block % (w / 2) * 2 + drawn % 2 // row, then column
            };
            let mut destinations: Vec<i64> = (0..).zip(drawn).map(cell).collect();
            destinations.sort_unstable();
            let groups = Groups::of(&tensor("x"), &[destinations], number("merged"))?;
            let merged = groups.merge(&tensor("values"))?;
            assert_eq!(merged.size(), [rows, h * w - number("merged"), 2]);
            let apart = (groups.restore(&merged)? - tensor("restored")).abs().max().double_value(&[]);
            assert!(apart < 1e-6, "{h}×{w}: {apart}");
        }
        Ok(())
    }

    #[test]
    fn destinations_lie_in_their_blocks() {
        let site = AttentionSite::new("attn1", SiteKind::SelfAttention, Place::Down, 0, 2);
        let fixed = destinations(Grid::new(5, 7), &site, &Tap::none());
        assert_eq!(fixed, [[0, 2, 4, 14, 16, 18]]);
        assert_eq!(destinations(Grid::new(1, 9), &site, &Tap::none()), [[0i64; 0]]);
    }

    #[test]
    fn shares_outside_the_range_are_errors() {
        for share in [-0.1, 0.76, f64::NAN] {
            let error = check_merge_tokens(share).unwrap_err().to_string();
            assert_eq!(error, format!("merge_tokens is {share}; expected 0 to 0.75; 0.5 is usual, 0 merges nothing"));
        }
        check_merge_tokens(MOST).unwrap();
    }
}
