//! A hook that adds attention to pictures beside the attention to the prompt.

use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, repeated};
use crate::branch::Branch;
use crate::error::Result;
use crate::nn::ip_adapter::IpAdapterNet;
use crate::step::{Grid, Step};
use crate::window::Window;
use std::collections::HashMap;
use tch::Tensor;

/// Pictures that share one softmax, and the cells that attend to them.
#[derive(Debug)]
pub(super) struct Group {
    /// Tokens of the pictures, [1, tokens, width] f32.
    pub tokens: Tensor,
    pub strength: f64,
    pub cells: Cells,
}

/// The cells that attend to a group of pictures in the present evaluation.
#[derive(Debug)]
pub(super) enum Cells {
    All,
    /// No cell, because the group's object is not found yet.
    None,
    /// The share of each cell, [1 or n, 1, rows, columns] f32 in the size of the picture or of the latent.
    Map(Tensor),
}

/// The tokens that a branch attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Tokens {
    /// Tokens of a group of pictures, by the group's index.
    Of(usize),
    /// Tokens of no picture.
    Nothing,
}

/// The site's place in the adapter's file, and the strength at the site.
type Numbered = (usize, f64);

/// A hook that adds s · m · attention(q, t·Kᵀ, t·Vᵀ) to the output of every cross-attention site: for tokens t of
/// pictures, the adapter's own projections K and V of the site, the strength s and the cells m.
///
/// Branches of the negative prompt attend to the tokens of no picture, with the same strengths and cells.
#[derive(Debug)]
pub(super) struct Decoupled {
    net: IpAdapterNet,
    /// Sites by index; sites of strength 0 are left out.
    sites: HashMap<usize, Numbered>,
    pub groups: Vec<Group>,
    /// Tokens of no picture, [1, tokens, width] f32.
    nothing: Tensor,
    /// True for branches that attend to the pictures, false for those that attend to no picture.
    pub branches: HashMap<Branch, bool>,
    window: Window,
    /// Keys and values, [1, heads, tokens, head_dim] each, by the number of the site.
    kept: HashMap<(usize, Tokens), (Tensor, Tensor)>,
    /// The cells of groups on the grids of sites, [1 or n, cells, 1].
    shares: HashMap<(usize, Grid), Tensor>,
}

impl Decoupled {
    pub(super) fn new(
        net: IpAdapterNet,
        sites: HashMap<usize, Numbered>,
        groups: Vec<Group>,
        nothing: Tensor,
        window: Window,
    ) -> Self {
        let (branches, kept, shares) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { net, sites, groups, nothing, branches, window, kept, shares }
    }

    /// Sets the cells that attend to a group.
    pub(super) fn place(&mut self, index: usize, cells: Cells) {
        if let Some(group) = self.groups.get_mut(index) {
            group.cells = cells;
            self.shares.retain(|(group, _), _| *group != index);
        }
    }

    /// Returns keys and values of tokens at a site with `heads`, [1, heads, tokens, head_dim] each.
    fn keys_values(&mut self, number: usize, tokens: Tokens, heads: i64) -> Result<(Tensor, Tensor)> {
        if let Some((k, v)) = self.kept.get(&(number, tokens)) {
            return Ok((k.shallow_clone(), v.shallow_clone()));
        }
        let states = match tokens {
            Tokens::Of(index) => self.groups.get(index).map_or(&self.nothing, |group| &group.tokens),
            Tokens::Nothing => &self.nothing,
        };
        let (k, v) = self.net.keys_values(number, states)?;
        // [1, tokens, heads · d] → [1, heads, tokens, d]
        let split = |x: Tensor| x.f_unflatten(2, [heads, -1])?.f_transpose(1, 2)?.f_contiguous();
        let (k, v) = (split(k)?, split(v)?);
        self.kept.insert((number, tokens), (k.shallow_clone(), v.shallow_clone()));
        Ok((k, v))
    }

    /// Returns the share of each cell of a call that attends to a group, [1 or n, cells, 1]; `None` if all cells do.
    fn share(&mut self, at: &At<'_>, index: usize) -> Result<Option<Tensor>> {
        let map = match self.groups.get(index).map(|group| &group.cells) {
            Some(Cells::Map(map)) => map,
            Some(Cells::All | Cells::None) | None => return Ok(None),
        };
        let share = match self.shares.get(&(index, at.grid)) {
            Some(share) => share.shallow_clone(),
            None => {
                let share = map.f_upsample_bicubic2d([at.grid.h, at.grid.w], false, None, None)?;
                let share = share.f_flatten(2, 3)?.f_transpose(1, 2)?;
                self.shares.insert((index, at.grid), share.shallow_clone());
                share
            }
        };
        Ok(Some(match share.size3()?.0 {
            1 => share,
            _ => share.f_narrow(0, at.images.start, at.images.end - at.images.start)?,
        }))
    }
}

impl CrossAttentionHook for Decoupled {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        let acts = site.control.is_none() && self.sites.contains_key(&site.index);
        if acts && self.branches.contains_key(&branch) { Interest::OUTPUT } else { Interest::NONE }
    }

    fn active(&self, step: &Step) -> bool {
        self.window.contains(step)
    }

    fn output(&mut self, at: &At<'_>, output: &mut Tensor) -> Result<()> {
        let Some(&(number, strength)) = self.sites.get(&at.site.index) else { return Ok(()) };
        let sees = self.branches.get(&at.branch).copied().unwrap_or_default();
        let (n, heads, _, _) = at.query().size4()?;
        for index in 0..self.groups.len() {
            let Some(Group { strength: own, cells: Cells::All | Cells::Map(_), .. }) = self.groups.get(index) else {
                continue;
            };
            let strength = strength * own;
            let (k, v) = self.keys_values(number, if sees { Tokens::Of(index) } else { Tokens::Nothing }, heads)?;
            let mut beside = at.attend_with(&repeated(&k, n)?, &repeated(&v, n)?)?.f_mul_scalar(strength)?;
            if let Some(share) = self.share(at, index)? {
                beside = beside.f_mul(&share.f_to_kind(beside.kind())?)?;
            }
            *output = output.f_add(&beside)?;
        }
        Ok(())
    }
}
