//! Training of CLIP's text tower and vision tower.

use super::dataset::{ALIASES, Class, Dataset, Drawing, PALETTE, Wording};
use super::vae::HELD_OUT;
use super::{Loss, Parameters, Rule, Shard, Task};
use impasto::Raster;
use impasto::Result;
use impasto::nn::{ClipImageProcessor, ClipText, ClipTextConfig, ClipVision, ClipVisionConfig};
use impasto::text::Tokenizer;
use impasto::weights::Tensors;
use rand::Rng;
use tch::{Device, Kind, Reduction, Tensor};

/// Number of tokens of a caption. The longest captions of the dataset have a few tokens less.
const LENGTH: usize = 56;
/// Number of held-out drawings among which the drawing of a caption is searched.
const EVALUATED: u64 = 256;
/// Number of answers of a color head: the colors of the palette, "the thing without a color", and "no such thing".
const ANSWERS: i64 = PALETTE.len() as i64 + 2;
/// Initial temperature of a training run (CLIP, Radford et al. 2021).
const TEMPERATURE: f64 = 0.07;
/// Factor on the cosines of patches and words.
const SHARPNESS: f64 = 20.0;
/// Minimum share of a patch that a class covers to give the patch its class.
const SHARE: f64 = 0.34;

/// Learns which caption belongs to which drawing.
///
/// Linear heads on both towers also learn the color of every class from the whole embedding. They shorten the training
/// from weeks to hours and are dropped afterwards.
///
/// The projected token of each patch learns to match the text encoder's state of the word for what the patch shows
/// (`hair`, after `red`). CLIP's own loss does not train patch tokens, and a prompt cannot be guided by tokens of
/// another space.
///
/// Parameters begin with `text.`, `vision.` and `heads.`.
pub struct ClipTask {
    text: ClipTextConfig,
    vision: ClipVisionConfig,
    processor: ClipImageProcessor,
    tokenizer: Tokenizer,
    dataset: Dataset,
    batch: usize,
    /// True if the text tower stays unchanged.
    frozen_text: bool,
}

impl ClipTask {
    /// Creates a task whose shards have `batch` pairs of a drawing and its caption. `frozen_text` trains the vision
    /// tower alone, toward a text tower that other networks already depend on.
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

    /// Returns the initial weights.
    ///
    /// # Errors
    /// The errors of the towers' constructors.
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

    /// Returns the weights of one tower, `text` or `vision`, by their names in a checkpoint.
    pub fn tower(weights: &Tensors, tower: &str) -> Tensors {
        let own = |(name, x): (&String, &Tensor)| {
            let name = name.strip_prefix(tower)?.strip_prefix('.')?;
            Some((name.to_owned(), x.shallow_clone()))
        };
        weights.iter().filter_map(own).collect()
    }

    /// Encodes drawings and their captions with both towers.
    fn encoded(&self, parameters: &Parameters, drawings: &[Drawing], captions: &[String]) -> Result<Encoded> {
        let (text, vision) = (parameters.weights("text", Kind::Float), parameters.weights("vision", Kind::Float));
        let (text, vision) = (ClipText::new(&text, &self.text)?, ClipVision::new(&vision, &self.vision)?);
        let pixels =
            drawings.iter().map(|drawing| self.processor.pixels(&drawing.picture)).collect::<Result<Vec<_>>>()?;
        let tokens = captions.iter().map(|text| self.tokenizer.padded_to(text, LENGTH)).collect::<Result<Vec<_>>>()?;
        let tokens = Tensor::f_from_slice(&tokens.concat())?.f_view([captions.len() as i64, LENGTH as i64])?;
        let pictures = vision.forward(&Tensor::f_cat(&pixels, 0)?)?;
        let words = text.forward(&tokens)?;
        let patches = vision.normed(&pictures.last_hidden_state.f_slice(1, 1, None, 1)?)?;
        Ok(Encoded {
            pictures: unit(&pictures.image_embeds.unwrap_or(pictures.pooler_output))?,
            captions: unit(&words.text_embeds.unwrap_or(words.pooler_output))?,
            patches: vision.projected(&patches)?.unwrap_or(patches),
            words: words.last_hidden_state,
        })
    }

    /// Returns the patches that show a thing that a caption names with its color, and the states of the things' words.
    fn shown(&self, encoded: &Encoded, drawings: &[Drawing], captions: &[String]) -> Result<Shown> {
        let side = self.vision.image_size / self.vision.patch_size;
        let (mut patches, mut words, mut own, mut things) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (i, (drawing, caption)) in drawings.iter().zip(captions).enumerate() {
            let places = self.tokenizer.encode(caption)?.offsets;
            let named = phrases(caption).into_iter().filter_map(|(class, color, end)| {
                let place = places.iter().position(|token| token.end == end).filter(|&place| place < LENGTH)?;
                (answer(color) < PALETTE.len() as i64).then_some((class, color, place))
            });
            let named: Vec<_> = named.collect();
            let first = things.len();
            for &(class, color, place) in &named {
                words.push((i * LENGTH + place) as i64);
                things.push((class, answer(color)));
            }
            for (patch, class) in classes(drawing, side as usize).into_iter().enumerate() {
                if let Some(thing) = named.iter().position(|(named, ..)| Some(*named) == class) {
                    patches.push(i as i64 * side * side + patch as i64);
                    own.push((first + thing) as i64);
                }
            }
        }
        let rows = |x: &Tensor, rows: &[i64]| -> Result<Tensor> {
            Ok(x.f_flatten(0, 1)?.f_index_select(0, &Tensor::f_from_slice(rows)?)?)
        };
        let (patches, words) = (rows(&encoded.patches, &patches)?, rows(&encoded.words, &words)?.f_detach()?);
        // Another caption's word for the same thing in the same color does not count as a wrong answer.
        let same: Vec<f32> = own
            .iter()
            .flat_map(|&own| {
                let thing = things.get(own as usize).copied();
                let same = move |(i, other)| if i as i64 != own && Some(other) == thing { f32::MIN } else { 0.0 };
                things.iter().copied().enumerate().map(same)
            })
            .collect();
        let same = Tensor::f_from_slice(&same)?.f_view([own.len() as i64, things.len() as i64])?;
        let alike =
            unit(&patches)?.f_matmul(&unit(&words)?.f_transpose(0, 1)?)?.f_mul_scalar(SHARPNESS)?.f_add(&same)?;
        Ok(Shown { patches, words, own: Tensor::f_from_slice(&own)?, alike })
    }
}

/// Outputs of both towers for n pictures and their captions.
struct Encoded {
    /// Embeddings of the pictures, [n, width], of length 1.
    pictures: Tensor,
    /// Embeddings of the captions, [n, width], of length 1.
    captions: Tensor,
    /// Projected tokens of the patches, [n, patches, width].
    patches: Tensor,
    /// States of the words, [n, `LENGTH`, width], as the UNet reads them.
    words: Tensor,
}

/// Patches that show named things, and the words of these things.
struct Shown {
    /// Tokens of the patches, [patches, width].
    patches: Tensor,
    /// States of the words, [words, width].
    words: Tensor,
    /// Index of each patch's own word, [patches].
    own: Tensor,
    /// Sharpened cosines, [patches, words].
    alike: Tensor,
}

impl Shown {
    /// Returns two losses: the distance of patches from their own words, as a share of the words' variance, and the
    /// cross-entropy of finding each patch's own word.
    ///
    /// Both losses are zero if captions name too little to tell words apart.
    fn losses(&self) -> Result<[Tensor; 2]> {
        let (patches, words) = self.alike.size2()?;
        if patches == 0 || words < 2 {
            let none = || Tensor::f_zeros([0i64; 0], (Kind::Float, Device::Cpu));
            return Ok([none()?, none()?]);
        }
        let off = self.patches.f_sub(&self.words.f_index_select(0, &self.own)?)?.f_square()?.f_mean(Kind::Float)?;
        let variance = self.words.f_var_dim([0].as_slice(), false, false)?.f_mean(Kind::Float)?;
        let variance = variance.f_clamp_min(1e-2)?; // two captions may say nearly the same thing
        Ok([off.f_div(&variance)?, cross_entropy(&self.alike, &self.own)?])
    }

    /// Returns the share of patches whose nearest word is their own.
    fn right(&self) -> Result<f64> {
        let right = self.alike.f_argmax(1, false)?.f_eq_tensor(&self.own)?;
        Ok(right.f_mean(Kind::Float)?.f_double_value(&[])?)
    }
}

impl Task for ClipTask {
    fn loss(&self, parameters: &Parameters, shard: &Shard) -> Result<Loss> {
        let mut rng = shard.rng();
        let draw = |seed: u64| self.dataset.draw(seed);
        let drawings = (0..self.batch).map(|_| draw(rng.random_range(0..HELD_OUT))).collect::<Result<Vec<_>>>()?;
        let captions: Vec<String> =
            drawings.iter().map(|drawing| drawing.record.caption(Wording::default(), rng.random())).collect();
        let encoded = self.encoded(parameters, &drawings, &captions)?;
        let [near, apart] = self.shown(&encoded, &drawings, &captions)?.losses()?;
        let Encoded { pictures, captions: words, .. } = encoded;
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
            // The head sees the embedding at the scale of a normalized state.
            let embedding = embedding.f_mul_scalar((width as f64).sqrt())?;
            let logits = heads.at(tower).linear(width, classes * ANSWERS)?.forward(&embedding)?;
            cross_entropy(&logits.f_view([-1, ANSWERS])?, &Tensor::f_from_slice(answers.as_flattened())?)
        };
        let (seen, read) = (asked("vision", &pictures, drawn)?, asked("text", &words, said)?);
        let total = pairs.f_add(&seen.f_add(&read)?.f_mul_scalar(2.0)?)?.f_add(&near)?.f_add(&apart)?;
        let right = alike.f_argmax(1, false)?.f_eq_tensor(&own)?.f_mean(Kind::Float)?;
        let figure = |x: &Tensor| x.f_double_value(&[]);
        let parts = vec![("pairs", figure(&pairs)?), ("right", figure(&right)?), ("seen", figure(&seen)?)];
        let tokens = vec![("read", figure(&read)?), ("near", figure(&near)?), ("apart", figure(&apart)?)];
        Ok(Loss { total, parts: [parts, tokens].concat() })
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Vec<(&'static str, f64)>> {
        let drawings = (0..EVALUATED).map(|i| self.dataset.draw(HELD_OUT + i)).collect::<Result<Vec<_>>>()?;
        let captions: Vec<String> = drawings.iter().map(|drawing| drawing.record.caption(Wording::FULL, 0)).collect();
        let encoded = self.encoded(parameters, &drawings, &captions)?;
        let shown = self.shown(&encoded, &drawings, &captions)?;
        let [near, _] = shown.losses()?;
        let alike = encoded.pictures.f_matmul(&encoded.captions.f_transpose(0, 1)?)?;
        let own = Tensor::f_arange(EVALUATED as i64, (Kind::Int64, Device::Cpu))?;
        let right = |axis| -> Result<f64> {
            Ok(alike.f_argmax(axis, false)?.f_eq_tensor(&own)?.f_mean(Kind::Float)?.f_double_value(&[])?)
        };
        Ok(vec![
            ("held-out caption found", right(1)?),
            ("held-out picture found", right(0)?),
            ("held-out word of a patch found", shown.right()?),
            ("held-out distance of patches", near.f_double_value(&[])?),
        ])
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

/// Returns the right answer of the color heads for every class in a drawing.
fn drawn(drawing: &Drawing) -> [i64; Class::ALL.len()] {
    Class::ALL.map(|class| match drawing.record.color_of(class) {
        Some(color) => answer(color.name),
        None => ANSWERS - 1,
    })
}

/// Returns the right answer of the color heads for every class in a caption.
fn said(caption: &str) -> [i64; Class::ALL.len()] {
    let mut answers = [ANSWERS - 1; Class::ALL.len()];
    for (class, color, _) in phrases(caption) {
        if let Some(place) = answers.get_mut(usize::from(class.index())) {
            *place = answer(color);
        }
    }
    answers
}

/// Returns the things that a caption names: the class, its color in words (empty without a color), and the byte at
/// which its phrase ends.
fn phrases(caption: &str) -> Vec<(Class, &str, usize)> {
    let mut named = Vec::new();
    let mut end = 0;
    for tag in caption.split(", ") {
        for (i, phrase) in tag.split(" and ").enumerate() {
            end += phrase.len() + if i > 0 { " and ".len() } else { 0 };
            let phrase = phrase.strip_prefix("a ").or(phrase.strip_prefix("an ")).unwrap_or(phrase);
            // Names are matched at the end: `hair bow` begins with `hair`, but ends with no other class's name.
            named.extend(Class::ALL.into_iter().find_map(|class| {
                let color = phrase.strip_suffix(class.name())?;
                (color.is_empty() || color.ends_with(' ')).then_some((class, color.trim_end(), end))
            }));
        }
        end += ", ".len();
    }
    named
}

/// Returns the class that covers most of each patch, row by row; `None` if no class covers `SHARE` of a patch.
fn classes(drawing: &Drawing, side: usize) -> Vec<Option<Class>> {
    let (h, w) = drawing.mask.dim();
    let mut counts = vec![[0; Class::ALL.len()]; side * side];
    for ((y, x), &class) in drawing.mask.indexed_iter() {
        let patch = counts.get_mut(y * side / h * side + x * side / w);
        if let Some(count) = patch.and_then(|counts| counts.get_mut(usize::from(class))) {
            *count += 1;
        }
    }
    let least = (SHARE * (h * w) as f64 / (side * side) as f64) as i32;
    let most = |counts: [i32; Class::ALL.len()]| {
        let (class, count) = Class::ALL.into_iter().zip(counts).max_by_key(|(_, count)| *count)?;
        (count >= least).then_some(class)
    };
    counts.into_iter().map(most).collect()
}

/// Scales rows to length 1.
fn unit(x: &Tensor) -> Result<Tensor> {
    let length = x.f_square()?.f_sum_dim_intlist([1].as_slice(), true, Kind::Float)?.f_sqrt()?;
    Ok(x.f_div(&length.f_clamp_min(1e-6)?)?)
}

/// Returns the number of a color's name or alias. Any other word gives the number of a thing without its color.
fn answer(color: &str) -> i64 {
    let color = ALIASES.iter().find(|(_, alias)| *alias == color).map_or(color, |(name, _)| name);
    PALETTE.iter().position(|known| known.name == color).map_or(ANSWERS - 2, |index| index as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_give_the_color_of_each_class() {
        let answers = said("an azure boat and a cup, dark blue sky, ground");
        let of = |class: Class| answers[class.index() as usize];
        assert_eq!((of(Class::Boat), of(Class::Sky)), (answer("azure"), answer("navy")));
        assert_eq!((of(Class::Cup), of(Class::Ground), of(Class::Star)), (ANSWERS - 2, ANSWERS - 2, ANSWERS - 1));
        let answers = said("1girl, pink hair bow, short hair, golden eyes");
        assert_eq!(answers[Class::HairBow.index() as usize], answer("pink"));
        assert_eq!(answers[Class::Eyes.index() as usize], answer("gold"));
        // A hair style is not a color.
        assert_eq!(answers[Class::Hair.index() as usize], ANSWERS - 2);
    }

    #[test]
    fn phrases_end_where_their_words_do() {
        let caption = "a red house, an azure boat and a cup, dark blue sky";
        let words = |(class, color, end): (Class, &'static str, usize)| (class, color, &caption[..end]);
        let found: Vec<_> = phrases(caption).into_iter().map(words).collect();
        let expected = [
            (Class::House, "red", "a red house"),
            (Class::Boat, "azure", "a red house, an azure boat"),
            (Class::Cup, "", "a red house, an azure boat and a cup"),
            (Class::Sky, "dark blue", caption),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn patch_has_the_class_that_covers_most_of_it() {
        let drawing = Dataset::new(128).unwrap().draw(7).unwrap();
        let found = classes(&drawing, 8);
        assert_eq!(found.len(), 64);
        for (patch, class) in found.iter().enumerate() {
            let (top, left) = (patch / 8 * 16, patch % 8 * 16);
            let here = |y: usize, x: usize| (top..top + 16).contains(&y) && (left..left + 16).contains(&x);
            let shown = || drawing.mask.indexed_iter().filter(|((y, x), _)| here(*y, *x));
            let count = |class: Class| shown().filter(|(_, shown)| **shown == class.index()).count();
            let most = Class::ALL.map(count).into_iter().max().unwrap();
            assert_eq!(class.map_or(0, count), if most >= 87 { most } else { 0 }, "patch {patch}");
        }
    }
}
