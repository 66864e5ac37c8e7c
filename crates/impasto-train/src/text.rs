//! Training of a text encoder to read past words that it does not know.

use super::dataset::{Cluttered, Dataset, Wording};
use super::vae::HELD_OUT;
use super::{Loss, Parameters, Rule, Shard, Task};
use impasto::Raster;
use impasto::Result;
use impasto::nn::{ClipText, ClipTextConfig};
use impasto::text::Tokenizer;
use rand::Rng;
use tch::{Kind, Tensor};

/// Number of tokens that a text encoder reads at once.
const LENGTH: usize = 77;
/// Number of held-out captions of an evaluation.
const EVALUATED: u64 = 256;
/// Weight of a padding token.
const PADDING: f32 = 0.5;
/// Weight of a token that shows nothing; tokens of the plain caption, which are fewer, have 1.
const EMPTY: f32 = 0.3;

/// Learns to read captions among words that show nothing as the original encoder reads the captions alone.
///
/// A text encoder that was trained on captions of few words reads `1girl, looking at viewer, red hair` as noise. The
/// state of `hair` then no longer means hair: the UNet does not paint what the prompt asks for, and attention to the
/// word misses the hair. Two kinds of states learn:
///
/// * The states of the caption's own words learn to be the same as without the other words.
/// * The states of the other words learn to be those of the padding, which the UNet has learned to pass over.
///
/// Source: knowledge distillation (Hinton et al. 2015), of the original encoder into itself.
pub struct TextTask {
    config: ClipTextConfig,
    tokenizer: Tokenizer,
    /// The original text encoder.
    before: ClipText,
    dataset: Dataset,
    batch: usize,
}

/// States of the encoder in training and of the original encoder, [tokens, width] each, and the weight of each token.
struct States {
    now: Tensor,
    before: Tensor,
    weights: Tensor,
}

impl TextTask {
    /// Creates a task whose shards have `batch` captions, for an encoder that begins as a copy of `before`.
    pub fn new(config: ClipTextConfig, tokenizer: Tokenizer, before: ClipText, dataset: Dataset, batch: usize) -> Self {
        Self { config, tokenizer, before, dataset, batch }
    }

    /// Encodes cluttered captions with the encoder of `parameters`, and plain captions with the original encoder.
    fn states(&self, parameters: &Parameters, captions: &[Cluttered]) -> Result<States> {
        let (mut read, mut plain, mut places, mut weights) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (row, caption) in captions.iter().enumerate() {
            read.extend(self.tokenizer.padded_to(&caption.text, LENGTH)?);
            plain.extend(self.tokenizer.padded_to(&caption.plain, LENGTH)?);
            for (place, weight) in self.matched(caption)? {
                places.push((row * LENGTH + place) as i64);
                weights.push(weight);
            }
        }
        let rows = |ids: &[i64]| Tensor::f_from_slice(ids)?.f_view([-1, LENGTH as i64]);
        let encoder = ClipText::new(&parameters.weights("", Kind::Float), &self.config)?;
        let now = encoder.forward(&rows(&read)?)?.last_hidden_state.f_flatten(0, 1)?;
        let before = {
            let _no_grad = tch::no_grad_guard();
            let before = self.before.forward(&rows(&plain)?)?.last_hidden_state.f_flatten(0, 1)?;
            before.f_index_select(0, &Tensor::f_from_slice(&places)?)?
        };
        Ok(States { now, before, weights: Tensor::f_from_slice(&weights)? })
    }

    /// Returns the target of each token of the cluttered caption: the token of the plain caption whose state it learns,
    /// and its weight.
    fn matched(&self, caption: &Cluttered) -> Result<Vec<(usize, f32)>> {
        let (read, plain) = (self.tokenizer.encode(&caption.text)?, self.tokenizer.encode(&caption.plain)?);
        // The start, and the padding after the caption, keep their places. Padding is much of what the UNet reads.
        let mut matched: Vec<(usize, f32)> = (0..LENGTH).map(|place| (place, PADDING)).collect();
        // A word that shows nothing is read as padding.
        for place in matched.iter_mut().take(read.ids.len().saturating_sub(1)).skip(1) {
            *place = (LENGTH - 1, EMPTY);
        }
        let inside = |tokens: &[std::ops::Range<usize>], word: &std::ops::Range<usize>| -> Vec<usize> {
            let is_in = |token: &std::ops::Range<usize>| {
                !token.is_empty() && token.start >= word.start && token.end <= word.end
            };
            (0..tokens.len()).filter(|&place| tokens.get(place).is_some_and(is_in)).collect()
        };
        for (word, known) in &caption.kept {
            for (at, to) in inside(&read.offsets, word).into_iter().zip(inside(&plain.offsets, known)) {
                if let Some(place) = matched.get_mut(at) {
                    *place = (to.min(LENGTH - 1), 1.0);
                }
            }
        }
        Ok(matched)
    }

    fn caption(&self, drawing: u64, seed: u64) -> Result<Cluttered> {
        let record = self.dataset.draw(drawing)?.record;
        Ok(Cluttered::of(&record.caption(Wording::default(), seed), seed))
    }
}

impl States {
    /// Returns the mean squared distance of the caption's own words, and of all other tokens.
    fn distances(&self) -> Result<[Tensor; 2]> {
        let off = self.now.f_sub(&self.before)?.f_square()?.f_mean_dim([1i64].as_slice(), false, Kind::Float)?;
        let own = self.weights.f_eq(1.0)?.f_to_kind(Kind::Float)?;
        let mean = |of: &Tensor| off.f_mul(of)?.f_sum(Kind::Float)?.f_div(&of.f_sum(Kind::Float)?.f_clamp_min(1.0)?);
        Ok([mean(&own)?, mean(&own.f_neg()?.f_add_scalar(1.0)?)?])
    }
}

impl Task for TextTask {
    fn loss(&self, parameters: &Parameters, shard: &Shard) -> Result<Loss> {
        let mut rng = shard.rng();
        let mut caption = || self.caption(rng.random_range(0..HELD_OUT), rng.random());
        let captions = (0..self.batch).map(|_| caption()).collect::<Result<Vec<_>>>()?;
        let states = self.states(parameters, &captions)?;
        let off = states.now.f_sub(&states.before)?.f_square()?.f_mean_dim([1i64].as_slice(), false, Kind::Float)?;
        let total = off.f_mul(&states.weights)?.f_sum(Kind::Float)?.f_div(&states.weights.f_sum(Kind::Float)?)?;
        let [words, rest] = states.distances()?;
        let figure = |x: &Tensor| x.f_double_value(&[]);
        Ok(Loss { total, parts: vec![("words", figure(&words)?), ("rest", figure(&rest)?)] })
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Vec<(&'static str, f64)>> {
        let captions = (0..EVALUATED).map(|i| self.caption(HELD_OUT + i, i)).collect::<Result<Vec<_>>>()?;
        let states = self.states(parameters, &captions)?;
        let [words, rest] = states.distances()?;
        let variance = states.before.f_var_dim([0i64].as_slice(), false, false)?.f_mean(Kind::Float)?;
        let share = |off: &Tensor| -> Result<f64> { Ok(off.f_div(&variance)?.f_double_value(&[])?) };
        Ok(vec![("held-out words", share(&words)?), ("held-out rest", share(&rest)?)])
    }

    fn sheet(&self, _: &Parameters) -> Result<Option<Raster>> {
        Ok(None)
    }

    fn rule(&self, name: &str, shape: &[i64]) -> Rule {
        if name.contains("embedding") || name.contains("projection") { Rule::AdamW } else { Rule::of_shape(shape) }
    }
}
