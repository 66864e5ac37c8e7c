//! Models made of a model: with LoRAs, with words that were learned.

use super::colorizer::Colorizer;
use super::text_encoders::TextEncoder;
use super::{Model, hex};
use crate::error::Result;
use crate::nn::{ClipText, Taesd, UNet};
use crate::weights::{Embedding, Lora, Parts, Weights, share};
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use tch::Kind;

impl Model {
    /// This model once more, for another thread: its weights are shared in memory, and what it keeps of runs is its own.
    ///
    /// A model can be sent to another thread, but not be used by two at once, as it keeps what was asked for (`Send`, not `Sync`). So
    /// a server gives each of its threads a shared model. All of them compute with libtorch's threads, whose number is that of the
    /// process (`tch::set_num_threads`); several pictures at once are no faster than one after the other where those keep all
    /// processors busy.
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::{Model, Pipeline, Source};
    ///
    /// let model = Model::load(&Source::embedded())?;
    /// let paint = |model: Model, seed| -> impasto::Result<impasto::Raster> {
    ///     let mut pipeline = Pipeline::builder().model(model).build()?;
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
        self.remade(self.shared(), &BTreeMap::new(), None, Vec::new())
    }

    /// This model changed by LoRAs, all at once. What they leave alone is shared, and this model stays as it is: to be
    /// rid of a LoRA, drop the result.
    ///
    /// # Errors
    /// As [`Lora::merge`].
    pub fn with_lora(&self, loras: &[Lora]) -> Result<Self> {
        let _no_grad = tch::no_grad_guard();
        let mut parts = self.shared();
        let notes = Lora::merge(loras, &mut parts)?;
        self.remade(parts, &BTreeMap::new(), None, notes)
    }

    /// This model with a word that its text encoders learned, which becomes as many tokens as the file has rows. Of
    /// SDXL's encoders, one that the file has nothing for goes on reading the word's letters.
    ///
    /// # Errors
    /// [`Error::Malformed`](crate::error::Error::Malformed) if it is made for text encoders of another width,
    /// [`Error::Tokenizer`](crate::error::Error::Tokenizer) if the word is one already.
    pub fn with_embedding(&self, embedding: &Embedding) -> Result<Self> {
        let _no_grad = tch::no_grad_guard();
        let mut parts = self.shared();
        let mut rows = BTreeMap::new();
        for (part, tensors) in parts.iter_mut().filter(|(part, _)| part.starts_with("text_encoder")) {
            if let Some(added) = embedding.append(tensors)? {
                rows.insert(part.clone(), added);
            }
        }
        if rows.is_empty() {
            return Err(embedding.misfit(&self.text_encoders.widths()));
        }
        self.remade(parts, &rows, Some(embedding), Vec::new())
    }

    fn shared(&self) -> Parts {
        self.parts.iter().map(|(part, tensors)| (part.clone(), share(tensors))).collect()
    }

    /// The model with other tensors, and with a word that was `learned`, whose tokens are `rows` of some text encoders.
    fn remade(
        &self,
        parts: Parts,
        rows: &BTreeMap<String, Range<i64>>,
        learned: Option<&Embedding>,
        notes: Vec<String>,
    ) -> Result<Self> {
        let weights = |part: &str, kind: Kind| {
            let tensors = parts.get(part).map(share).unwrap_or_default();
            Weights::new(part, tensors, kind, self.device)
        };
        let text_encoders = self.text_encoders.map(|TextEncoder { part, tokenizer, tower }| {
            let (mut config, mut tokenizer) = (tower.config().clone(), tokenizer.clone());
            if let (Some(learned), Some(rows)) = (learned, rows.get(part)) {
                config.vocab_size = rows.end;
                tokenizer = tokenizer.with_word(learned.word(), rows.clone())?;
            }
            let tower = ClipText::new(&weights(part, self.kind), &config)?;
            Ok(TextEncoder { part: part.clone(), tokenizer, tower })
        })?;
        let unet = UNet::new(&weights("unet", self.kind), &self.unet_config)?;
        let remade = |own: &Colorizer| own.remade(&self.unet_config, |part| weights(part, self.kind));
        let colorizer = self.colorizer.as_ref().map(remade).transpose()?.flatten();
        let vae = self.vae.remade(&weights("vae", self.vae_kind))?;
        let preview = self.preview.as_ref().map(|tiny| Taesd::new(&weights("preview", self.kind), tiny.config()));
        let preview = preview.transpose()?;
        let mut reading = self.reading.clone();
        if let Some(learned) = learned {
            reading += &format!(" {:?} {}", learned.word(), hex(&learned.digest()?, 8)); // its rows are too few to be sampled
        }
        Ok(Self {
            name: self.name.clone(),
            text_encoders,
            vision: self.vision.again(),
            unet,
            unet_config: self.unet_config.clone(),
            colorizer,
            patches_are_words: self.patches_are_words,
            vae,
            parts,
            scheduler: self.scheduler.clone(),
            table: self.table.clone(),
            defaults: self.defaults,
            device: self.device,
            kind: self.kind,
            vae_kind: self.vae_kind,
            notes: self.notes.iter().cloned().chain(notes).collect(),
            reading,
            fingerprint: OnceCell::new(),
            preview,
            latent_colors: OnceCell::new(),
            flats: RefCell::default(),
        })
    }
}
