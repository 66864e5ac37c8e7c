//! Protected objects, which a force leaves alone.

use super::Cutoff;
use crate::error::Result;
use crate::guidance::Setup;
use crate::saliency::{Saliency, SaliencyRun};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use tch::{Kind, Tensor};

/// The rule for a cell that is both forced and protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProtectMode {
    /// Protects the cell where the protected object's saliency is at least that of the forced object.
    #[default]
    Compete,
    /// Always protects the cell.
    Always,
}

/// A phrase that a force leaves alone.
#[derive(Clone)]
pub(super) struct Protected {
    pub phrase: String,
    pub saliency: Arc<dyn Saliency>,
    pub cutoff: Cutoff,
}

impl fmt::Debug for Protected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protected").field("phrase", &self.phrase).field("cutoff", &self.cutoff).finish_non_exhaustive()
    }
}

impl Protected {
    /// Makes the state of a pass.
    pub(super) fn find(&self, setup: &mut Setup<'_>) -> Result<Guarded> {
        Ok(Guarded { saliency: self.saliency.find(setup)?, cutoff: self.cutoff, levels: None })
    }
}

/// A protected phrase in one run.
pub(super) struct Guarded {
    pub saliency: Box<dyn SaliencyRun>,
    cutoff: Cutoff,
    /// The last cutoff of each image, [n, 1, 1, 1].
    levels: Option<Tensor>,
}

impl Guarded {
    /// Returns the phrase for another pass, with the maps of this pass and without its cutoffs.
    pub(super) fn for_next_pass(self) -> Self {
        Self { levels: None, ..self }
    }

    /// Removes the protected cells from `mask`, [n, 1, h, w], by a rule for [`cells`](Self::cells).
    pub(super) fn spare(
        &mut self,
        mask: &Tensor,
        map: &Tensor,
        forced: &Tensor,
        rule: (ProtectMode, i64),
    ) -> Result<Tensor> {
        let (cells, levels) = self.cells(map, forced, rule)?;
        self.levels = Some(levels);
        Ok(mask.f_mul(&cells.f_neg()?.f_add_scalar(1.0)?)?)
    }

    /// Returns the protected cells, [n, 1, h, w] of 0 and 1, and the cutoffs, [n, 1, 1, 1]. `map` is the saliency of
    /// the protected object, and `forced` is the saliency of the force. A cell is protected where `map` reaches its
    /// cutoff, and with [`ProtectMode::Compete`] only if `map` is also at least `forced` there. Protected cells grow by
    /// `grow` cells.
    pub(super) fn cells(
        &self,
        map: &Tensor,
        forced: &Tensor,
        (mode, grow): (ProtectMode, i64),
    ) -> Result<(Tensor, Tensor)> {
        let (levels, _) = self.cutoff.levels(map, self.saliency.range(), self.levels.as_ref())?;
        let mut cells = map.f_ge_tensor(&levels)?;
        if mode == ProtectMode::Compete {
            cells = cells.f_logical_and(&map.f_ge_tensor(forced)?)?;
        }
        let mut cells = cells.f_to_kind(Kind::Float)?;
        if grow > 0 {
            cells = cells.f_max_pool2d([2 * grow + 1; 2], [1, 1], [grow; 2], [1, 1], false)?;
        }
        Ok((cells, levels))
    }
}
