//! Models derived from a loaded model, with LoRAs or learned words.

use super::backbone::Backbone;
use super::colorizer::Colorizer;
use super::few_steps::FewSteps;
use super::{Model, ModelInfo, PREVIEW, hex, sd3_texts};
use crate::error::{Error, Result};
use crate::nn::{Taesd, UNet};
use crate::weights::{Embedding, Lora, Parts, Unmerged, Weights, share};
use crate::wording::Note;
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use tch::Kind;

impl Model {
    /// Creates a copy of this model for another thread. The copies share weights in memory; each has its own caches.
    ///
    /// A model can be sent to another thread, but not be used by two threads at once, because it caches results
    /// (`Send`, not `Sync`). A server therefore gives each of its threads a shared model. All copies compute with
    /// the same threads, and `tch::set_num_threads` sets their number for the whole process. If these threads already
    /// keep all processors busy, several pictures at once are no faster than one after another.
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::{Model, Pipeline, Source};
    ///
    /// let model = Model::load(&Source::embedded())?;
    /// let paint = |model: Model, seed| -> impasto::Result<impasto::Raster> {
    ///     let pipeline = Pipeline::new(model);
    ///     Ok(pipeline.request("1girl, red hair").seed(seed).steps(2).run()?.image(0)?.clone())
    /// };
    /// let another = model.share()?;
    /// let worker = std::thread::spawn(move || paint(another, 7));
    /// let here = paint(model, 7)?;
    /// assert_eq!(worker.join().expect("no panic")?, here);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch) only, such as out of memory.
    pub fn share(&self) -> Result<Self> {
        let _no_grad = tch::no_grad_guard();
        let parts = self.shared();
        let backbone = self.backbone.again(&self.weights(&parts, self.backbone.part(), self.kind))?;
        self.remade(parts, backbone, &BTreeMap::new(), None, Vec::new())
    }

    /// Returns true if the model can read prompts from this layer of CLIP, counted from the last one.
    pub fn has_clip_layer(&self, layer: usize) -> bool {
        self.texts.check_clip_skip(Some(layer)).is_ok()
    }

    /// Returns true if the network is a UNet.
    pub(crate) const fn has_unet(&self) -> bool {
        self.backbone.unet().is_some()
    }

    /// Returns a copy that shares its weights with this model and reads prompts from another layer of CLIP, counted
    /// from the last one.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a layer that CLIP does not have, and for a model without CLIP.
    pub(crate) fn with_clip_skip(&self, layer: usize) -> Result<Self> {
        let mut model = self.share()?;
        model.texts.set_clip_skip(layer)?;
        Ok(model)
    }

    /// Returns this model with LoRAs merged in, all at once. Tensors that the LoRAs do not change are shared, and this
    /// model stays unchanged: to remove a LoRA, drop the result. The name of a LoRA for few steps, such as LCM's, sets
    /// the solver and the [defaults](Self::defaults) of the result, which a note tells. A model with flow matching
    /// keeps its solver.
    ///
    /// # Errors
    /// The errors of [`Lora::merge`].
    pub fn with_lora(&self, loras: &[Lora]) -> Result<Self> {
        let _no_grad = tch::no_grad_guard();
        let mut parts = self.shared();
        let notes = Lora::merge(loras, &mut parts)?;
        let backbone = self.backbone.rebuild(&self.weights(&parts, self.backbone.part(), self.kind))?;
        let mut model = self.remade(parts, backbone, &BTreeMap::new(), None, notes)?;
        let is_xl = self.reads_micro_conditioning();
        let is_flow = model.scheduler.is_flow();
        let told = |file: &str| match is_flow {
            true => FewSteps::of_lora_of_flow(file),
            false => FewSteps::of_lora(file, is_xl),
        };
        let distilled = |lora: &Lora| Some((told(lora.file())?, lora.file().to_owned()));
        if let Some((few, file)) = loras.iter().rev().find_map(distilled) {
            if !is_flow {
                few.apply(&mut model.scheduler);
            }
            (model.defaults.steps, model.defaults.guidance_scale) = (few.steps, few.guidance_scale);
            model.notes.push(few.note(&file));
        }
        Ok(model)
    }

    /// Returns this model with LoRAs that its network computes beside its weights. Such a LoRA acts only in runs that
    /// name it, in a part of the steps or of the picture: see [`UnmergedLora`](crate::methods::UnmergedLora). A LoRA's
    /// name is that of its file, without the ending ([`Lora::name`]).
    ///
    /// A LoRA of low rank takes little memory, and makes a step a little slower. A change of another form (LoHa, LoKr,
    /// DoRA, full differences and others) is kept as a second matrix of each layer. It takes nearly the time of the
    /// layers that it changes, and up to twice their memory. Every LoRA changes the weights that this model has now:
    /// merge other LoRAs before.
    ///
    /// ```no_run
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::mask::Region;
    /// use impasto::methods::UnmergedLora;
    /// use impasto::weights::Lora;
    /// use impasto::{Model, Pipeline, Source, Window};
    ///
    /// let model = Model::load(&Source::file("model.safetensors"))?;
    /// let model = model.with_unmerged(&[Lora::open("ink.safetensors")?, Lora::open("glow.safetensors")?])?;
    /// let output = Pipeline::new(model)
    ///     .request("a fox in a garden")
    ///     .guide(UnmergedLora::new("ink", 0.8).window(Window::progress(0.3..=1.0)))
    ///     .guide(UnmergedLora::new("glow", 1.0).within(Region::rect(0.5..1.0, 0.0..1.0)))
    ///     .run()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The errors of [`Lora::merge`]; [`Error::Parameter`](crate::error::Error::Parameter) for a second LoRA of one
    /// name; [`Error::Malformed`](crate::error::Error::Malformed) for a LoRA that changes nothing in the network.
    /// Changes of text encoders, biases and norms are not used; [`ModelInfo::notes`](super::ModelInfo::notes) tell
    /// them.
    pub fn with_unmerged(&self, loras: &[Lora]) -> Result<Self> {
        let _no_grad = tch::no_grad_guard();
        let known: Vec<&str> = self.unmerged.iter().map(|lora| lora.name.as_str()).collect();
        let (added, notes) = Lora::beside(loras, &self.parts, &known)?;
        let parts = self.shared();
        let unmerged: Vec<Unmerged> = self.unmerged.iter().map(Unmerged::share).chain(added).collect();
        let weights = self.weights(&parts, self.backbone.part(), self.kind);
        let backbone = self.backbone.again(&weights.beside(unmerged.iter().map(Unmerged::share).collect()))?;
        let mut model = self.remade(parts, backbone, &BTreeMap::new(), None, notes)?;
        model.unmerged = unmerged;
        Ok(model)
    }

    /// Returns this model with a learned word (a textual inversion embedding). The word becomes as many tokens as the
    /// file has rows. If the file has no rows for one of SDXL's text encoders, that encoder reads the word as ordinary
    /// text.
    ///
    /// # Errors
    /// [`Error::Malformed`](crate::error::Error::Malformed) if the embedding is for text encoders of another width,
    /// [`Error::Tokenizer`](crate::error::Error::Tokenizer) if the tokenizer already has the word,
    /// [`Error::Parameter`](crate::error::Error::Parameter) for a model without CLIP.
    pub fn with_embedding(&self, embedding: &Embedding) -> Result<Self> {
        let _no_grad = tch::no_grad_guard();
        let Some(clip) = self.texts.clip() else {
            let expected = "none for a model whose text encoder is not CLIP";
            return Err(Error::parameter("embedding", embedding.word(), expected));
        };
        if let Some(problem) = embedding.misfit(&clip.widths()) {
            return Err(embedding.error(problem));
        }
        let mut parts = self.shared();
        let mut rows = BTreeMap::new();
        for (part, tensors) in parts.iter_mut().filter(|(part, _)| clip.has(part)) {
            if let Some(added) = embedding.append(tensors)? {
                rows.insert(part.clone(), added);
            }
        }
        let backbone = self.backbone.again(&self.weights(&parts, self.backbone.part(), self.kind))?;
        self.remade(parts, backbone, &rows, Some(embedding), embedding.note().into_iter().collect())
    }

    /// Returns the reason why this model cannot read an embedding; `None` if one of its text encoders can.
    pub(crate) fn misfit(&self, embedding: &Embedding) -> Option<String> {
        match self.texts.clip() {
            Some(clip) => embedding.misfit(&clip.widths()),
            None => Some("this model's text encoder is not CLIP".into()),
        }
    }

    fn shared(&self) -> Parts {
        self.parts.iter().map(|(part, tensors)| (part.clone(), share(tensors))).collect()
    }

    /// Returns the tensors of one part as weights of this model.
    fn weights(&self, parts: &Parts, part: &str, kind: Kind) -> Weights {
        let tensors = parts.get(part).map(share).unwrap_or_default();
        let weights = Weights::new(part, tensors, kind, self.device).offload(self.offload);
        if part == self.backbone.part() {
            weights.beside(self.unmerged.iter().map(Unmerged::share).collect())
        } else {
            weights
        }
    }

    /// Rebuilds the model with other tensors, with the network made from them, and optionally with a `learned` word.
    /// `rows` are the token ids of that word, for each text encoder that has it.
    fn remade(
        &self,
        parts: Parts,
        backbone: Backbone,
        rows: &BTreeMap<String, Range<i64>>,
        learned: Option<&Embedding>,
        notes: Vec<String>,
    ) -> Result<Self> {
        let weights = |part: &str, kind: Kind| self.weights(&parts, part, kind);
        let of_text = |part: &str| weights(part, sd3_texts::kind_of(part, self.kind));
        let texts = self.texts.again(of_text, learned.map(|learned| (learned, rows)))?;
        let remade = |(own, unet): (&Colorizer, &UNet)| own.remade(unet.config(), |part| weights(part, self.kind));
        let colorizer = self.colorizer.as_ref().zip(self.backbone.unet()).map(remade).transpose()?.flatten();
        let vae = self.vae.again(&weights("vae", self.vae_kind))?;
        let preview = self.preview.as_ref().map(|tiny| Taesd::new(&weights(PREVIEW, self.kind), tiny.config()));
        let preview = preview.transpose()?;
        let mut reading = self.reading.clone();
        if let Some(learned) = learned {
            // The fingerprint reads a few values of each tensor, and could miss the word's rows.
            reading += &format!(" {:?} {}", learned.word(), hex(&learned.digest()?, 8));
        }
        Ok(Self {
            name: self.name.clone(),
            texts,
            vision: self.vision.again(),
            backbone,
            colorizer,
            patches_are_words: self.patches_are_words,
            vae,
            parts,
            unmerged: self.unmerged.iter().map(Unmerged::share).collect(),
            scheduler: self.scheduler.clone(),
            table: self.table.clone(),
            defaults: self.defaults,
            device: self.device,
            kind: self.kind,
            vae_kind: self.vae_kind,
            offload: self.offload,
            notes: self.notes.iter().cloned().chain(notes.into_iter().map(Note::from)).collect(),
            reading,
            fingerprint: OnceCell::new(),
            preview,
            flats: RefCell::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;

    #[test]
    fn only_copies_with_equal_weights_share_sums() -> Result<()> {
        let model = Model::load(&Source::embedded())?;
        assert!(model.share()?.unet()?.shares_sums(model.unet()?));
        assert!(!model.with_lora(&[])?.unet()?.shares_sums(model.unet()?));
        Ok(())
    }
}
