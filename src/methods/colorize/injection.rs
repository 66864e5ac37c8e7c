//! Attention injection: the picture's cells also attend to the cells of the noised reference.

use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest};
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::step::Step;
use crate::window::Window;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use tch::{Kind, Tensor};

/// Attention injection, which lets the picture attend to the reference picture in addition to the reference's tokens.
///
/// The reference's latent is noised like the picture and goes through the network beside it. The reference's hidden
/// states join the picture's self-attention. Textures move toward those of the reference, and so may the layout.
/// Injection doubles the cost of a step.
///
/// Source: "attention injection" of ColorizeDiffusion's application.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Injection {
    /// Share of attention without the reference in the negative prompt's branch, 0..=1. At 1 the extra pass of the
    /// reference for that branch is not needed and is omitted. Default 0.5.
    pub reference: f64,
    /// Weight of the reference's own lines in its passes, 0..=3. Default 0.
    pub sketch: f64,
    /// The evaluations in which injection acts. Default: the whole run.
    pub window: Window,
}

impl Default for Injection {
    fn default() -> Self {
        Self { reference: 0.5, sketch: 0.0, window: Window::WHOLE }
    }
}

impl Injection {
    pub(super) fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.reference) {
            return Err(Error::parameter("injection.reference", self.reference, "a share in 0..=1; 0.5 is usual"));
        }
        if !(0.0..=3.0).contains(&self.sketch) {
            return Err(Error::parameter("injection.sketch", self.sketch, "0..=3; 0 is usual"));
        }
        self.window.check()
    }
}

/// Index of an attention site, index of the first image in a call, and branch.
type Place = (usize, i64, Branch);

/// A hook that keeps hidden states of the reference's branches and joins them to those of the picture's branches.
#[derive(Debug)]
pub(super) struct Injecting {
    /// The reference's branch with tokens, and its branch without tokens if that is evaluated.
    pub writers: (Branch, Option<Branch>),
    /// The picture's branches that read hidden states, each with true if it reads the reference's branch without
    /// tokens.
    pub readers: Vec<(Branch, bool)>,
    /// Share of attention without the reference in the picture's branches without tokens.
    plain: f64,
    /// True if the reference is part of the present evaluation.
    active: bool,
    /// Hidden states of the reference and of the readers, [n, cells, dim].
    states: HashMap<Place, Tensor>,
}

impl Injecting {
    pub(super) fn new(writers: (Branch, Option<Branch>), plain: f64) -> Self {
        Self { writers, readers: Vec::new(), plain, active: false, states: HashMap::new() }
    }

    /// Prepares for an evaluation, which includes the reference if `active` is true.
    pub(super) fn begin(&mut self, active: bool) {
        self.states.clear();
        self.active = active;
    }

    /// Returns the branch whose states a branch reads.
    fn writer_of(&self, branch: Branch) -> Option<Branch> {
        let (_, without) = self.readers.iter().find(|(reader, _)| *reader == branch)?;
        if *without { self.writers.1 } else { Some(self.writers.0) }
    }

    fn mixes(&self, branch: Branch) -> bool {
        self.plain > 0.0 && self.readers.contains(&(branch, true))
    }
}

impl CrossAttentionHook for Injecting {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        let writes = branch == self.writers.0 || Some(branch) == self.writers.1;
        match self.writer_of(branch) {
            _ if site.is_cross() => Interest::NONE,
            _ if writes => Interest::CONTEXT,
            Some(_) if self.mixes(branch) => Interest::CONTEXT | Interest::OUTPUT,
            Some(_) => Interest::CONTEXT,
            None => Interest::NONE,
        }
    }

    fn active(&self, _: &Step) -> bool {
        self.active
    }

    fn context(&mut self, at: &At<'_>, context: &mut Tensor) -> Result<()> {
        let place = |branch| (at.site.index, at.images.start, branch);
        let reference = self.writer_of(at.branch).and_then(|writer| self.states.get(&place(writer)));
        let joined = reference.map(|reference| Tensor::f_cat(&[&*context, &reference.f_to_kind(context.kind())?], 1));
        self.states.insert(place(at.branch), context.shallow_clone());
        if let Some(joined) = joined {
            *context = joined?;
        }
        Ok(())
    }

    fn output(&mut self, at: &At<'_>, output: &mut Tensor) -> Result<()> {
        if let Some(own) = self.states.get(&(at.site.index, at.images.start, at.branch)) {
            let plain = at.attend(own)?.f_to_kind(Kind::Float)?;
            *output = output.f_to_kind(Kind::Float)?.f_lerp(&plain, self.plain)?;
        }
        Ok(())
    }
}
