//! [`Conditioning`]: the input of a network beside the latent. [`Codec`]: the parts of a model that make it.

mod changing;
mod codec;
mod extras;
mod free_u;
mod loras;
mod offer;
mod skipped_blocks;
mod texts;

pub(crate) use changing::encode_changing;
pub use codec::Codec;
pub(crate) use codec::{NO_WORDS, flat};
pub use extras::{Extra, Extras};
pub use free_u::FreeUFactors;
pub(crate) use loras::UnmergedLoras;
pub use loras::{LoraPlace, LoraStrengths};
pub use offer::Offer;
pub use skipped_blocks::{SkippedBlocks, SkipsBlocks};
pub use texts::Texts;

use crate::error::Result;
use crate::micro_conditioning::MicroConditioning;
use std::ops::Range;
use tch::Tensor;

/// Conditioning of one branch. A tensor with one row applies to every image of a batch.
#[derive(Debug)]
#[non_exhaustive]
pub struct Conditioning {
    /// States of the text encoder, [1 or n, tokens, dim] f32.
    pub context: Tensor,
    /// Pooled text as one vector, [1 or n, width] f32, for models that read one (SDXL and its refiner).
    pub pooled: Option<Tensor>,
    /// Sizes and quality for models with a pooled text. `None`: the picture's own size, not cropped, and a score of 6,
    /// or 2.5 for `Branch::Uncond`. A run sets this field.
    pub micro: Option<MicroConditioning>,
    /// Additional input channels beside the latent, [1 or n, channels, h, w] f32. For an inpainting network: the mask,
    /// 1 in the repainted area, and the latent of the picture without that area. `None` for most networks; a run sets
    /// this field.
    pub concat: Option<Tensor>,
    /// Guidance scale to imitate, minus 1, for a network that embeds the scale (LCM). `None`: 0.
    pub guidance: Option<f64>,
    /// Further inputs of the network; empty for most models.
    pub extras: Extras,
    /// True for the negative prompt's branch and its variations. Methods that skip the negative prompt, such as a
    /// ControlNet in guess mode, skip such a branch too. A run sets this field.
    pub(crate) against: bool,
    /// Columns of the context that are read as one text beside chunks: T5's of SD 3, which follow the chunks of CLIP.
    pub(crate) unchunked: Option<Range<i64>>,
    /// Parts of the conditioning that begin at later steps, sorted by step. The other fields apply before the first of
    /// these steps.
    later: Vec<(usize, Conditioning)>,
}

impl Conditioning {
    /// Creates a conditioning with a context alone.
    pub const fn new(context: Tensor) -> Self {
        Self {
            context,
            pooled: None,
            micro: None,
            concat: None,
            guidance: None,
            extras: Extras::new(),
            against: false,
            unchunked: None,
            later: Vec::new(),
        }
    }

    /// Edits the conditioning during `steps` of the run; the conditioning of other steps stays the same. Earlier calls
    /// may have split these steps into parts. `edit` is called for each part in order, at least once unless `steps` is
    /// empty. Parts share tensors, so replace a tensor instead of changing its values.
    ///
    /// Keys and values of the context are recomputed where a part begins, and cached otherwise.
    ///
    /// # Errors
    /// The errors of `edit`.
    pub fn during(&mut self, steps: Range<usize>, mut edit: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        let mut later = std::mem::take(&mut self.later);
        for border in [steps.start, steps.end].into_iter().filter(|border| (1..usize::MAX).contains(border)) {
            let at = later.partition_point(|(from, _)| *from < border);
            if later.get(at).is_none_or(|(from, _)| *from != border) {
                let before = at.checked_sub(1).and_then(|before| later.get(before)).map_or(&*self, |(_, part)| part);
                let part = before.share();
                later.insert(at, (border, part));
            }
        }
        if steps.start == 0 {
            edit(self)?;
        }
        later.iter_mut().filter(|(from, _)| steps.contains(from)).try_for_each(|(_, part)| edit(part))?;
        self.later = later;
        Ok(())
    }

    /// Returns the conditioning that applies at a step.
    pub fn at(&self, step: usize) -> &Self {
        self.later.iter().rev().find(|(from, _)| *from <= step).map_or(self, |(_, part)| part)
    }

    /// Returns true if a later part of the conditioning begins at this step.
    pub(crate) fn changes(&self, step: usize) -> bool {
        self.later.iter().any(|(from, _)| *from == step)
    }

    /// Returns a second handle on the same tensors.
    #[must_use]
    pub fn share(&self) -> Self {
        let share = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        Self {
            context: self.context.shallow_clone(),
            pooled: share(&self.pooled),
            micro: self.micro,
            concat: share(&self.concat),
            guidance: self.guidance,
            extras: self.extras.share(),
            against: self.against,
            unchunked: self.unchunked.clone(),
            later: self.later.iter().map(|(from, part)| (*from, part.share())).collect(),
        }
    }

    /// Returns the conditioning of some images of a batch, as views.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::Error::Torch) if `images` reaches beyond the batch.
    pub(crate) fn images(&self, images: Range<i64>) -> Result<Self> {
        let cut = |tensor: &Tensor| narrow(tensor, &images);
        let optional = |tensor: &Option<Tensor>| tensor.as_ref().map(cut).transpose();
        Ok(Self {
            context: cut(&self.context)?,
            pooled: optional(&self.pooled)?,
            micro: self.micro,
            concat: optional(&self.concat)?,
            guidance: self.guidance,
            extras: self.extras.narrow(&images)?,
            against: self.against,
            unchunked: self.unchunked.clone(),
            later: self
                .later
                .iter()
                .map(|(from, part)| Ok((*from, part.images(images.clone())?)))
                .collect::<Result<_>>()?,
        })
    }
}

/// Returns the rows of some images of a batch as a view. A tensor with one row applies to every image.
pub(crate) fn narrow(tensor: &Tensor, images: &Range<i64>) -> Result<Tensor> {
    Ok(match tensor.size().first() {
        Some(1) => tensor.shallow_clone(),
        _ => tensor.f_narrow(0, images.start, images.end - images.start)?,
    })
}
