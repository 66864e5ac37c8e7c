//! Encoded captions, as the UNet of a model reads them.

use impasto::nn::AddedConditions;
use impasto::{Codec, Conditioning, Model, Result};
use std::collections::HashMap;
use tch::{Kind, Tensor};

/// Encoded captions of a batch.
pub(super) struct Conditions {
    /// Contexts of the captions, [n, tokens, width].
    pub context: Tensor,
    /// Sizes and pooled captions of SDXL; empty for other models.
    pub added: AddedConditions,
}

impl Conditions {
    /// Encodes captions of pictures that have the model's usual size. Each distinct caption is encoded once.
    pub(super) fn encode(model: &Model, captions: &[&str], kind: Kind) -> Result<Self> {
        let mut distinct = captions.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let mut encoded = distinct.iter().map(|caption| model.text((*caption).into())).collect::<Result<Vec<_>>>()?;
        Conditioning::equalize(&mut encoded, model)?;
        let known: HashMap<_, _> = distinct.iter().zip(&encoded).collect();
        let all: Vec<&Conditioning> = captions.iter().filter_map(|caption| known.get(caption).copied()).collect();
        let contexts: Vec<&Tensor> = all.iter().map(|conditioning| &conditioning.context).collect();
        let context = Tensor::f_cat(&contexts, 0)?.f_to_kind(kind)?;
        let pooled: Vec<&Tensor> = all.iter().filter_map(|conditioning| conditioning.pooled.as_ref()).collect();
        let mut added = AddedConditions::default();
        if model.unet()?.config().addition_embed_type.is_some() {
            let defaults = model.defaults();
            let [w, h] = [defaults.width, defaults.height].map(|side| side as f32);
            let sizes = Tensor::f_from_slice(&[h, w, 0.0, 0.0, h, w])?.f_to_device(context.device())?;
            added.time_ids = Some(sizes.f_view([1, -1])?.f_repeat([captions.len() as i64, 1])?);
            added.text_embeds = Some(Tensor::f_cat(&pooled, 0)?.f_to_kind(kind)?);
        }
        Ok(Self { context, added })
    }
}
