//! Training the two towers that words and pictures meet in.

use super::dataset::{ALIASES, Class, Dataset, Drawing, PALETTE, Wording};
use super::vae::HELD_OUT;
use super::{Loss, Parameters, Rule, Shard, Task};
use crate::error::Result;
use crate::nn::{ClipImageProcessor, ClipText, ClipTextConfig, ClipVision, ClipVisionConfig};
use crate::raster::Raster;
use crate::text::Tokenizer;
use crate::weights::Tensors;
use rand::Rng;
use tch::{Device, Kind, Reduction, Tensor};

/// Tokens of a caption; the longest of the dataset have a few less.
const LENGTH: usize = 56;
/// Drawings that a held-out caption is found among.
const EVALUATED: u64 = 256;
/// Answers of a color head: a color of the palette, a thing without its color, no such thing.
const ANSWERS: i64 = PALETTE.len() as i64 + 2;
/// Temperature that a training begins with (CLIP, Radford et al. 2021).
const TEMPERATURE: f64 = 0.07;

/// Learns which caption belongs to which drawing, and, to get there in hours rather than weeks, to tell the color of every
/// class from the whole: linear heads ask both towers, and are dropped afterwards.
///
/// Parameters begin with `text.`, `vision.` and `heads.`.
pub struct ClipTask {
    text: ClipTextConfig,
    vision: ClipVisionConfig,
    processor: ClipImageProcessor,
    tokenizer: Tokenizer,
    dataset: Dataset,
    batch: usize,
    /// Does the text tower stay as it is?
    frozen_text: bool,
}

impl ClipTask {
    /// A task whose shards are of `batch` pairs; `frozen_text` trains the vision tower alone, towards a text tower that others
    /// already depend on.
    pub fn new(
        (text, vision): (ClipTextConfig, ClipVisionConfig),
        processor: ClipImageProcessor,
        tokenizer: Tokenizer,
        dataset: Dataset,
        batch: usize,
        frozen_text: bool,
    ) -> Self {
        Self { text, vision, processor, tokenizer, dataset, batch, frozen_text }
    }

    /// Weights to begin with.
    ///
    /// # Errors
    /// Those of the towers' constructors.
    pub fn initial(text: &ClipTextConfig, vision: &ClipVisionConfig, seed: u64) -> Result<Tensors> {
        let mut weights = Parameters::random(seed, |w| {
            ClipText::new(&w.at("text"), text)?;
            ClipVision::new(&w.at("vision"), vision)?;
            for tower in ["text", "vision"] {
                w.at("heads").at(tower).linear(text.projection_dim, Class::ALL.len() as i64 * ANSWERS)?;
            }
            Ok(())
        })?;
        weights.insert("heads.logit_scale".into(), Tensor::f_from_slice(&[(1.0 / TEMPERATURE).ln() as f32])?);
        Ok(weights)
    }

    /// The weights of one tower, `text` or `vision`, by their names in a checkpoint.
    pub fn tower(weights: &Tensors, tower: &str) -> Tensors {
        let own = |(name, x): (&String, &Tensor)| {
            let name = name.strip_prefix(tower)?.strip_prefix('.')?;
            Some((name.to_owned(), x.shallow_clone()))
        };
        weights.iter().filter_map(own).collect()
    }

    /// Embeddings of pictures and captions, [n, width] each, of length 1.
    fn embeddings(&self, parameters: &Parameters, drawings: &[Drawing], captions: &[String]) -> Result<[Tensor; 2]> {
        let (text, vision) = (parameters.weights("text", Kind::Float), parameters.weights("vision", Kind::Float));
        let (text, vision) = (ClipText::new(&text, &self.text)?, ClipVision::new(&vision, &self.vision)?);
        let pixels =
            drawings.iter().map(|drawing| self.processor.pixels(&drawing.picture)).collect::<Result<Vec<_>>>()?;
        let tokens = captions.iter().map(|text| self.tokenizer.padded_to(text, LENGTH)).collect::<Result<Vec<_>>>()?;
        let tokens = Tensor::f_from_slice(&tokens.concat())?.f_view([captions.len() as i64, LENGTH as i64])?;
        let pictures = vision.forward(&Tensor::f_cat(&pixels, 0)?)?;
        let words = text.forward(&tokens)?;
        let unit = |x: Tensor| -> Result<Tensor> {
            let length = x.f_square()?.f_sum_dim_intlist([1].as_slice(), true, Kind::Float)?.f_sqrt()?;
            Ok(x.f_div(&length.f_clamp_min(1e-6)?)?)
        };
        let pictures = pictures.image_embeds.unwrap_or(pictures.pooler_output);
        Ok([unit(pictures)?, unit(words.text_embeds.unwrap_or(words.pooler_output))?])
    }
}

impl Task for ClipTask {
    fn loss(&self, parameters: &Parameters, shard: &Shard) -> Result<Loss> {
        let mut rng = shard.rng();
        let draw = |seed: u64| self.dataset.draw(seed);
        let drawings = (0..self.batch).map(|_| draw(rng.random_range(0..HELD_OUT))).collect::<Result<Vec<_>>>()?;
        let captions: Vec<String> =
            drawings.iter().map(|drawing| drawing.record.caption(Wording::default(), rng.random())).collect();
        let [pictures, words] = self.embeddings(parameters, &drawings, &captions)?;
        let heads = parameters.weights("heads", Kind::Float);
        let scale = heads.tensor("logit_scale", &[1])?.f_exp()?.f_clamp_max(100.0)?;
        let alike = pictures.f_matmul(&words.f_transpose(0, 1)?)?.f_mul(&scale)?;
        let own = Tensor::f_arange(self.batch as i64, (Kind::Int64, Device::Cpu))?;
        let ways = [alike.shallow_clone(), alike.f_transpose(0, 1)?];
        let [across, down] = ways.map(|logits| cross_entropy(&logits, &own));
        let pairs = across?.f_add(&down?)?.f_mul_scalar(0.5)?;
        let (drawn, said): (Vec<_>, Vec<_>) =
            drawings.iter().zip(&captions).map(|(drawing, caption)| (drawn(drawing), said(caption))).unzip();
        let asked = |tower: &str, embedding: &Tensor, answers: Vec<[i64; Class::ALL.len()]>| -> Result<Tensor> {
            let (width, classes) = (self.text.projection_dim, Class::ALL.len() as i64);
            // The head sees the embedding at the scale of a normed state.
            let embedding = embedding.f_mul_scalar((width as f64).sqrt())?;
            let logits = heads.at(tower).linear(width, classes * ANSWERS)?.forward(&embedding)?;
            cross_entropy(&logits.f_view([-1, ANSWERS])?, &Tensor::f_from_slice(answers.as_flattened())?)
        };
        let (seen, read) = (asked("vision", &pictures, drawn)?, asked("text", &words, said)?);
        let total = pairs.f_add(&seen.f_add(&read)?.f_mul_scalar(2.0)?)?;
        let right = alike.f_argmax(1, false)?.f_eq_tensor(&own)?.f_mean(Kind::Float)?;
        let figure = |x: &Tensor| x.f_double_value(&[]);
        let parts = vec![("pairs", figure(&pairs)?), ("right", figure(&right)?), ("seen", figure(&seen)?)];
        Ok(Loss { total, parts: [parts, vec![("read", figure(&read)?)]].concat() })
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Vec<(&'static str, f64)>> {
        let drawings = (0..EVALUATED).map(|i| self.dataset.draw(HELD_OUT + i)).collect::<Result<Vec<_>>>()?;
        let captions: Vec<String> = drawings.iter().map(|drawing| drawing.record.caption(Wording::FULL, 0)).collect();
        let [pictures, words] = self.embeddings(parameters, &drawings, &captions)?;
        let alike = pictures.f_matmul(&words.f_transpose(0, 1)?)?;
        let own = Tensor::f_arange(EVALUATED as i64, (Kind::Int64, Device::Cpu))?;
        let right = |axis| -> Result<f64> {
            Ok(alike.f_argmax(axis, false)?.f_eq_tensor(&own)?.f_mean(Kind::Float)?.f_double_value(&[])?)
        };
        Ok(vec![("held-out caption found", right(1)?), ("held-out picture found", right(0)?)])
    }

    fn sheet(&self, _: &Parameters) -> Result<Option<Raster>> {
        Ok(None)
    }

    fn rule(&self, name: &str, shape: &[i64]) -> Rule {
        let plain = ["embedding", "projection", "heads."];
        match name {
            name if self.frozen_text && name.starts_with("text.") => Rule::Frozen,
            name if plain.iter().any(|part| name.contains(part)) => Rule::AdamW,
            _ => Rule::of_shape(shape),
        }
    }
}

fn cross_entropy(logits: &Tensor, answers: &Tensor) -> Result<Tensor> {
    Ok(logits.f_cross_entropy_loss(answers, None::<&Tensor>, Reduction::Mean, -100, 0.0)?)
}

/// The color of every class in a drawing.
fn drawn(drawing: &Drawing) -> [i64; Class::ALL.len()] {
    Class::ALL.map(|class| match drawing.record.color_of(class) {
        Some(color) => answer(color.name),
        None => ANSWERS - 1,
    })
}

/// The color of every class that a caption names.
fn said(caption: &str) -> [i64; Class::ALL.len()] {
    let mut answers = [ANSWERS - 1; Class::ALL.len()];
    for phrase in caption.split(", ").flat_map(|tag| tag.split(" and ")) {
        let phrase = phrase.strip_prefix("a ").or(phrase.strip_prefix("an ")).unwrap_or(phrase);
        // The longest name that fits: `hair bow` ends with no other class's name, but `hair` would begin it.
        let named = Class::ALL.iter().zip(&mut answers).find_map(|(class, answer)| {
            let color = phrase.strip_suffix(class.name())?;
            (color.is_empty() || color.ends_with(' ')).then_some((color.trim_end(), answer))
        });
        if let Some((color, place)) = named {
            *place = answer(color);
        }
    }
    answers
}

/// The number of a color's name or alias; without one, that of a thing without its color.
fn answer(color: &str) -> i64 {
    let color = ALIASES.iter().find(|(_, alias)| *alias == color).map_or(color, |(name, _)| name);
    PALETTE.iter().position(|known| known.name == color).map_or(ANSWERS - 2, |index| index as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_understood() {
        let answers = said("an azure boat and a cup, dark blue sky, ground");
        let of = |class: Class| answers[class.index() as usize];
        assert_eq!((of(Class::Boat), of(Class::Sky)), (answer("azure"), answer("navy")));
        assert_eq!((of(Class::Cup), of(Class::Ground), of(Class::Star)), (ANSWERS - 2, ANSWERS - 2, ANSWERS - 1));
        let answers = said("1girl, pink hair bow, short hair, golden eyes");
        assert_eq!(answers[Class::HairBow.index() as usize], answer("pink"));
        assert_eq!(answers[Class::Eyes.index() as usize], answer("gold"));
        // A style is no color.
        assert_eq!(answers[Class::Hair.index() as usize], ANSWERS - 2);
    }
}
