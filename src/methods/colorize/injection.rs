//! Attention injection: a picture's cells attend to those of the noised reference too.

use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest};
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::step::Step;
use crate::window::Window;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use tch::{Kind, Tensor};

/// Lets the picture attend to its reference as a picture, beside the reference's tokens: the reference's latent, noised as the picture is,
/// goes through the network beside it, and its hidden states join self-attention. Textures come nearer to the reference's, and so may its
/// layout. It doubles the cost of a step.
///
/// Source: "attention injection" of ColorizeDiffusion's application.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Injection {
    /// Share, 0..=1, of the attention without the reference in the branch that is guided away from; 1 saves its pass. Default 0.5.
    pub reference: f64,
    /// Weight, 0..=3, of the reference's own lines in its passes. Default 0.
    pub sketch: f64,
    /// The evaluations in which it acts. Default: the whole run.
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
            return Err(Error::parameter("injection's reference", self.reference, "a share in 0..=1; 0.5 is usual"));
        }
        if !(0.0..=3.0).contains(&self.sketch) {
            return Err(Error::parameter("injection's sketch", self.sketch, "0..=3; 0 is usual"));
        }
        self.window.check()
    }
}

/// A site, the first image of the rows, and the branch.
type Place = (usize, i64, Branch);

/// Keeps hidden states of the reference's branches and joins them to those of the picture's.
#[derive(Debug)]
pub(super) struct Injecting {
    /// The reference's branch with its tokens, and the one without, if it is evaluated.
    pub writers: (Branch, Option<Branch>),
    /// The picture's branches that read, and whether they read as the one without the reference's tokens does.
    pub readers: Vec<(Branch, bool)>,
    /// Share of plain attention in the branch without tokens.
    plain: f64,
    /// Is the reference evaluated in this evaluation?
    active: bool,
    /// Hidden states of the reference, and a reader's own, [n, cells, dim].
    states: HashMap<Place, Tensor>,
}

impl Injecting {
    pub(super) fn new(writers: (Branch, Option<Branch>), plain: f64) -> Self {
        Self { writers, readers: Vec::new(), plain, active: false, states: HashMap::new() }
    }

    /// Prepares for an evaluation.
    pub(super) fn begin(&mut self, active: bool) {
        self.states.clear();
        self.active = active;
    }

    /// The branch whose states a branch reads.
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
