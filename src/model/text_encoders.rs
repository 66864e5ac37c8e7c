//! The text encoders of a model with their tokenizers, and the joint encoding of prompts.

use super::read_config::read_config;
use crate::conditioning::{Conditioning, Texts};
use crate::error::{Error, Result};
use crate::family::{FamilySpec, TextLayer};
use crate::nn::{ClipText, ClipTextConfig, ConfigFile};
use crate::prompt::Prompt;
use crate::text::{Chunks, LENGTH, TextOptions, Tokenizer};
use crate::weights::{Checkpoint, Embedding, Weights};
use crate::wording::Remedy;
use std::collections::BTreeMap;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// One text encoder, or the two of SDXL.
#[derive(Debug)]
pub(super) struct TextEncoders {
    encoders: Vec<TextEncoder>,
    /// Facts about the model's family.
    family: &'static FamilySpec,
    /// True if an empty prompt becomes zeros instead of the encoders' output.
    zero_if_empty: bool,
    /// Options for reading prompts.
    options: TextOptions,
}

#[derive(Debug)]
struct TextEncoder {
    /// `text_encoder` or `text_encoder_2`.
    part: String,
    tokenizer: Tokenizer,
    tower: ClipText,
}

/// A learned word, with the ids of its tokens for each text encoder that has the word.
pub(super) type Learned<'e> = (&'e Embedding, &'e BTreeMap<String, Range<i64>>);

impl TextEncoders {
    /// Returns the settings, beside the weights, that determine how a prompt is read. They are part of the model's
    /// fingerprint.
    pub(super) fn describe(&self) -> String {
        let of = |TextEncoder { tokenizer, tower, .. }: &TextEncoder| {
            format!("{:?} {} {}", tower.config(), tokenizer.end(), tokenizer.pad())
        };
        let each: Vec<String> = self.encoders.iter().map(of).collect();
        format!("{} {}", self.zero_if_empty, each.join(" "))
    }

    /// Creates an empty set of encoders.
    pub(super) const fn new(family: &'static FamilySpec, zero_if_empty: bool, options: TextOptions) -> Self {
        Self { encoders: Vec::new(), family, zero_if_empty, options }
    }

    /// Returns the options for reading prompts.
    pub(super) const fn options(&self) -> TextOptions {
        self.options
    }

    /// Loads the encoder `part` from `place`, and its tokenizer from `place` or else from `main`.
    pub(super) fn load(
        &mut self,
        part: &str,
        place: &Checkpoint,
        main: &Checkpoint,
        kind: Kind,
        device: Device,
    ) -> Result<Weights> {
        let mut config = read_config(place, part, ClipTextConfig::from_json)?;
        if part == "text_encoder" && !self.family.pools_each {
            // The projection of the first of two encoders is read only where both pool the text.
            config.architectures = vec!["CLIPTextModel".into()];
        }
        let folder = if part.ends_with('2') { "tokenizer_2" } else { "tokenizer" };
        let tokenizer = match tokenizer(place, folder) {
            Err(Error::MissingFile { .. }) => tokenizer(main, folder)?,
            other => other?,
        };
        if config.eos_token_id == 2 {
            // Old files say 2 but mean the largest token. The largest token is the end token until learned words append
            // rows.
            config.eos_token_id = tokenizer.end();
        }
        let w = place.weights(part, kind, device)?;
        let tower = ClipText::new(&w, &config)?;
        self.encoders.push(TextEncoder { part: part.into(), tokenizer, tower });
        Ok(w)
    }

    /// Builds the encoders again from `weights`, which returns the tensors of a part, and optionally with a word.
    pub(super) fn again(&self, weights: impl Fn(&str) -> Weights, learned: Option<Learned<'_>>) -> Result<Self> {
        let again = |TextEncoder { part, tokenizer, tower }: &TextEncoder| {
            let (mut config, mut tokenizer) = (tower.config().clone(), tokenizer.clone());
            if let Some((word, rows)) = learned.and_then(|(learned, rows)| Some((learned.word(), rows.get(part)?))) {
                config.vocab_size = rows.end;
                tokenizer = tokenizer.with_word(word, rows.clone())?;
            }
            let tower = ClipText::new(&weights(part), &config)?;
            Ok(TextEncoder { part: part.clone(), tokenizer, tower })
        };
        Ok(Self { encoders: self.encoders.iter().map(again).collect::<Result<_>>()?, ..*self })
    }

    /// Returns true for the part of a checkpoint that has one of the encoders.
    pub(super) fn has(&self, part: &str) -> bool {
        self.encoders.iter().any(|encoder| encoder.part == part)
    }

    /// Returns the width of each encoder's states.
    pub(super) fn widths(&self) -> Vec<i64> {
        self.encoders.iter().map(|encoder| encoder.tower.config().hidden_size).collect()
    }

    /// Returns the width of the pooled text, if any.
    pub(super) fn pooled_width(&self) -> Option<i64> {
        let width = |encoder: &TextEncoder| encoder.width_of_pooled(self.family);
        match self.encoders.as_slice() {
            all if self.family.pools_each => all.iter().map(width).sum(),
            [.., last] if self.family.added.is_some() => width(last),
            _ => None,
        }
    }

    /// Returns the number of columns that texts take in the context.
    pub(super) fn columns(&self, texts: Texts<'_>) -> Result<i64> {
        let each = self.encoders.iter().zip([texts.first, texts.second]);
        let chunks = each.map(|(encoder, text)| Ok(encoder.chunks(text, self.options)?.ids.len()));
        let chunks = chunks.collect::<Result<Vec<_>>>()?;
        Ok((chunks.into_iter().max().unwrap_or(1) * LENGTH) as i64)
    }

    /// Returns the two texts, each with the positions of its encoder's tokens. For equal texts, the first encoder's
    /// positions apply to both encoders.
    pub(super) fn prompt(&self, texts: Texts<'_>) -> Result<Prompt> {
        let Texts { first, second, .. } = texts;
        let read = |encoder: &TextEncoder, text| Ok(encoder.chunks(text, self.options)?.prompt);
        match self.encoders.as_slice() {
            [] => {
                let expected = Remedy::TextEncoder.after("a text encoder, which reads the prompt");
                Err(Error::parameter("the text encoder", "missing", expected))
            }
            [encoder] => read(encoder, texts.only()?),
            [encoder, other, ..] if first != second => Ok(read(encoder, first)?.beside(read(other, second)?)),
            [encoder, ..] => read(encoder, first),
        }
    }

    /// Returns the words of a text, in lower case, that the first encoder has no token for and reads letter by letter.
    /// Numbers are not returned, as the encoder always reads them digit by digit.
    pub(super) fn find_spelled(&self, text: &str) -> Result<Vec<String>> {
        let Some(encoder) = self.encoders.first() else { return Ok(Vec::new()) };
        let mut spelled = Vec::new();
        for (word, _) in encoder.chunks(text, self.options)?.prompt.words() {
            let digits = word.chars().filter(char::is_ascii_digit).count();
            let usual = digits + usize::from(digits < word.chars().count());
            if encoder.tokenizer.encode(&word)?.ids.len() > usual + 2 {
                spelled.push(word);
            }
        }
        Ok(spelled)
    }

    /// Sets the layer that prompts are read from, counted from the last one.
    pub(super) const fn set_clip_skip(&mut self, layer: usize) {
        self.options.clip_skip = Some(layer);
    }

    /// Checks that every encoder has at least as many layers as `clip_skip` counts back. Where the last layer but one
    /// is read, the embedding counts as a layer, as in diffusers.
    pub(super) fn check_clip_skip(&self, clip_skip: Option<usize>) -> Result<()> {
        let layers = self.encoders.iter().map(|encoder| encoder.tower.config().num_hidden_layers as usize).min();
        match (clip_skip, layers) {
            (Some(skip), Some(layers)) => {
                let (most, told) = match self.family.text_layer {
                    TextLayer::Last => (layers, "the number of the text encoder's layers"),
                    TextLayer::BeforeLast => (layers + 1, "the number of the text encoder's layers and the embedding"),
                };
                match (1..=most).contains(&skip) {
                    true => Ok(()),
                    false => Err(Error::parameter("clip_skip", skip, format!("1 to {most}, {told}"))),
                }
            }
            _ => Ok(()),
        }
    }

    /// Encodes one text per encoder to a context, [1, 77 · chunks, width]. The encoders' states are concatenated along
    /// the width; the pooled text comes from the first chunk of the last encoder, or of all.
    pub(super) fn encode(&self, texts: Texts<'_>, device: Device) -> Result<Conditioning> {
        if self.encoders.len() == 1 {
            let _ = texts.only()?;
        }
        let each = [texts.first, texts.second];
        let read = self.encoders.iter().zip(each).map(|(encoder, text)| encoder.chunks(text, self.options));
        let mut read = read.collect::<Result<Vec<_>>>()?;
        let count = read.iter().map(|chunks| chunks.ids.len()).max().unwrap_or(1);
        let (mut parts, mut pooled) = (Vec::with_capacity(self.encoders.len()), Vec::new());
        for (encoder, chunks) in self.encoders.iter().zip(&mut read) {
            chunks.ids.resize(count, encoder.tokenizer.empty_chunk());
            chunks.weights.resize(count, vec![1.0; LENGTH]);
            let (mut states, first) = self.states(encoder, &chunks.ids, device)?;
            if chunks.weights.iter().flatten().any(|weight| *weight != 1.0) {
                let weights = Tensor::f_from_slice(&chunks.weights.concat())?.f_view([count as i64, LENGTH as i64])?;
                let empty = || Ok(self.states(encoder, &[encoder.tokenizer.empty_chunk()], device)?.0);
                states = self.options.emphasis.apply(&states, &weights.f_to_device(device)?, empty)?;
            }
            parts.push(states.f_flatten(0, 1)?.f_unsqueeze(0)?);
            pooled.extend(first);
        }
        let mut context = Tensor::f_cat(&parts, -1)?;
        if self.zero_if_empty && each == [""; 2] {
            context = context.f_zeros_like()?;
            pooled.iter_mut().try_for_each(|pooled| pooled.f_zero_().map(drop))?;
        }
        let mut conditioning = Conditioning::new(context);
        conditioning.pooled = match pooled.as_slice() {
            all if self.family.pools_each => Some(Tensor::f_cat(all, -1)?),
            [.., last] if self.family.added.is_some() => Some(last.shallow_clone()),
            _ => None,
        };
        Ok(conditioning)
    }

    /// Returns the encoder's state of a text's last word as a unit vector, [width] f32.
    pub(super) fn last_word(&self, text: &str, device: Device) -> Result<Tensor> {
        let last = self.prompt(text.into())?.content().last().map(|span| span.end - 1).ok_or(Error::EmptyPhrase)?;
        let state = self.encode(text.into(), device)?.context.f_select(0, 0)?.f_select(0, last)?;
        Ok(state.f_div(&state.f_norm()?)?)
    }

    /// Returns the first encoder's normed state at the end token of a text, [width] f32; `None` without an encoder.
    pub(super) fn end_state(&self, text: &str, device: Device) -> Result<Option<Tensor>> {
        let Some(encoder) = self.encoders.first() else { return Ok(None) };
        let ids = encoder.chunks(text, self.options)?.ids.into_iter().next().unwrap_or_default();
        let ids = Tensor::f_from_slice(&ids)?.f_view([1, -1])?.f_to_device(device)?;
        let pooled = encoder.tower.forward(&ids)?.pooler_output;
        Ok(Some(pooled.f_select(0, 0)?.f_to_kind(Kind::Float)?))
    }

    /// Returns the states of chunks that a UNet reads, [chunks, 77, width], and the first chunk's pooled text, f32.
    fn states(&self, encoder: &TextEncoder, ids: &[Vec<i64>], device: Device) -> Result<(Tensor, Option<Tensor>)> {
        let ids = Tensor::f_from_slice(&ids.concat())?.f_view([ids.len() as i64, -1])?;
        let states = encoder.tower.forward(&ids.f_to_device(device)?)?;
        let unprojected = encoder.pools_unprojected(self.family).then_some(&states.pooler_output);
        let pooled = states.text_embeds.as_ref().or(unprojected);
        let pooled = pooled.map(|pooled| pooled.f_narrow(0, 0, 1)?.f_to_kind(Kind::Float)).transpose()?;
        let is_normed = self.family.text_layer == TextLayer::Last;
        let skipped = self.options.clip_skip.filter(|skip| *skip > 1).map_or(usize::from(!is_normed), |skip| skip - 1);
        let read = match states.before_last(skipped) {
            Some(state) if !is_normed => state.shallow_clone(),
            Some(state) if skipped > 0 => encoder.tower.normed(state)?,
            _ => states.last_hidden_state,
        };
        Ok((read.f_to_kind(Kind::Float)?, pooled))
    }
}

impl TextEncoder {
    /// Returns true if the pooled text is the tower's own pooled state, without a projection. SD 3 was trained on such
    /// states of CLIP-L, and single files lack the projection of CLIP-L. Folders of diffusers have a projection, which
    /// is applied.
    fn pools_unprojected(&self, family: &FamilySpec) -> bool {
        family.pools_each && self.part == "text_encoder" && !self.tower.config().projects()
    }

    /// Returns the width of the pooled text; `None` for an encoder whose projection is missing.
    fn width_of_pooled(&self, family: &FamilySpec) -> Option<i64> {
        let config = self.tower.config();
        if self.pools_unprojected(family) {
            return Some(config.hidden_size);
        }
        config.projects().then_some(config.projection_dim)
    }

    fn chunks(&self, text: &str, options: TextOptions) -> Result<Chunks> {
        self.tokenizer.chunks(text, options.markup, options.long)
    }
}

/// Reads the tokenizer in `folder` from `tokenizer.json`, or else from vocabulary and merges.
fn tokenizer(checkpoint: &Checkpoint, folder: &str) -> Result<Tokenizer> {
    if let Some(json) = checkpoint.read(&format!("{folder}/tokenizer.json"))? {
        return Tokenizer::from_json(&json);
    }
    let file = |name: &str| checkpoint.read(&format!("{folder}/{name}"));
    match (file("vocab.json")?, file("merges.txt")?) {
        (Some(vocab), Some(merges)) => {
            let (special, config) = (file("special_tokens_map.json")?, file("tokenizer_config.json")?);
            let tokenizer = Tokenizer::from_vocab(&vocab, &merges, special.as_deref(), config.as_deref())?;
            match file("added_tokens.json")? {
                Some(added) => tokenizer.with_added(&added),
                None => Ok(tokenizer),
            }
        }
        _ => Err(Error::MissingFile {
            file: format!("{folder}/tokenizer.json (or vocab.json and merges.txt)"),
            place: checkpoint.to_string(),
            hint: "copy the tokenizer from another model of the same family".into(),
        }),
    }
}
