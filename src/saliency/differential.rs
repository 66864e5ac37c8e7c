//! [`Differential`]: saliency from the change of the prediction with another word before a phrase.

use crate::branch::Branch;
use crate::diffusion::Predictions;
use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Picture, Plan, Report, Setup};
use crate::prompt::Prompt;
use crate::recipe::Recipe;
use crate::saliency::is_flat;
use crate::saliency::{Normalize, Saliency, SaliencyRun};
use crate::step::Step;
use crate::wording::{Note, QUOTED, excerpt};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tch::{Kind, Tensor};

/// Saliency of a phrase: the cells where the predicted noise changes if the prompt has one more word before the phrase.
///
/// The prompt with the word is one more branch of the batch, evaluated only at steps that request the branch. Guidance
/// methods with the same phrase and word share the branch. Edits of other methods to the prompt's branch are applied to
/// this branch too, so the difference measures the word alone.
///
/// The map is |ε′ − ε| averaged over channels and then over 3×3 cells, scaled per image to 0..=1, times
/// [`weight`](Self::weight). Here ε′ and ε are the predicted noise with and without the word.
///
/// If a second text encoder reads another prompt, only the first encoder's prompt is varied, and must have the phrase.
///
/// The method finds objects that attention misses (hair, skin), at the price of a third branch: a step takes up to half
/// as long again. The sum with attention, `(Daam::of("hair"), Differential::of("hair", "pink"))`, needs a larger cutoff
/// than one saliency alone, because values add up:
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::{Pipeline, Rgb};
/// use impasto::methods::ColorForce;
/// use impasto::saliency::{Daam, Differential};
/// let hair = (Daam::of("hair"), Differential::of("hair", "pink"));
/// let force = ColorForce::published("hair", Rgb(255, 99, 71)).saliency(hair).saliency_cutoff(0.4);
/// let pipeline = Pipeline::builder().guide(force).build()?;
/// let output = pipeline.request("1girl, eyes, hair, shirt").seed(7).steps(4).run()?;
/// # Ok(()) }
/// ```
///
/// Source: the document "Color Forcing", "alt" saliency; absolute value, smoothing and scaling are ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct Differential {
    phrase: String,
    word: String,
    weight: f64,
}

/// State of one run.
#[derive(Debug)]
pub(crate) struct Varied {
    settings: Differential,
    branch: Branch,
    /// Branch of the prompt without the word.
    base: Branch,
    /// The last map, [n, 1, h, w] in 0..=1, and true if the map of an image had no structure.
    map: Option<(Tensor, bool)>,
    /// The sum of all changes so far, [n, 1, h, w], and the number of changes.
    changes: Option<(Tensor, f64)>,
}

impl Differential {
    /// Creates saliency of the cells that change if `word` stands before `phrase`. The word is put before each place of
    /// the phrase in the prompt.
    pub fn of(phrase: impl Into<String>, word: impl Into<String>) -> Self {
        Self { phrase: phrase.into(), word: word.into(), weight: 1.0 }
    }

    /// Sets the factor λ that the map is multiplied by, 0 or more; 1 by default. In a sum of saliencies, λ is the map's
    /// weight.
    pub fn weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }
}

/// Largest number of different texts of a prompt that changes during a run that are varied. A prompt of more texts is
/// varied in its first text.
const MOST_TEXTS: usize = 32;

impl Differential {
    /// Makes the state of a run with the word before some places of the phrase, in bytes. `places` finds these places
    /// in a text of the prompt, and `base` is the branch of the prompt.
    pub(super) fn vary(
        &self,
        base: Branch,
        places: impl Fn(&Prompt) -> Result<Vec<Range<usize>>>,
        setup: &mut Setup<'_>,
    ) -> Result<Varied> {
        let with_word = |prompt: &Prompt| places(prompt).map(|places| prompt.with_word_at(&places, &self.word));
        let changes = setup.prompt.changes().filter(|changes| changes.columns().count() <= MOST_TEXTS);
        let (text, conditioning) = match changes {
            None => {
                let text = with_word(setup.prompt)?;
                let conditioning = setup.text(&text)?;
                (text, conditioning)
            }
            Some(changes) => {
                let (mut texts, mut first) = (Vec::new(), Err(Error::EmptyPhrase));
                for (from, prompt) in changes.turns() {
                    let varied = with_word(prompt);
                    // In steps whose text lacks the phrase, the word changes nothing.
                    texts.push((
                        from,
                        varied.as_ref().map(String::as_str).unwrap_or_else(|_| prompt.as_written()).to_owned(),
                    ));
                    first = match first {
                        Err(Error::EmptyPhrase) => varied,
                        first => first.or(varied),
                    };
                }
                (first?, setup.encode_texts(&texts)?)
            }
        };
        let branch = setup.add("differential", Branch::Cond, &text, conditioning)?;
        Ok(Varied { settings: self.clone(), branch, base, map: None, changes: None })
    }
}

impl Varied {
    /// Returns the mean change of the predicted noise over the evaluated steps, [n, 1, h, w], 0 or more. `None` before
    /// the first evaluation.
    pub(super) fn change(&self) -> Result<Option<Tensor>> {
        Ok(self.changes.as_ref().map(|(sum, count)| sum.f_div_scalar(*count)).transpose()?)
    }
}
impl Guidance for Differential {
    fn check(&self) -> Result<()> {
        if !(self.weight.is_finite() && self.weight >= 0.0) {
            return Err(Error::parameter("weight", self.weight, "0 or more; 1 is usual"));
        }
        if self.word.trim().is_empty() {
            return Err(Error::parameter(
                "word",
                format!("{:?}", self.word),
                "a word to put before the phrase, such as pink",
            ));
        }
        Ok(())
    }

    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        Ok(self.find(setup)?)
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Differential", self)
    }

    fn name(&self) -> &'static str {
        "Differential"
    }

    fn label(&self) -> String {
        self.phrase.clone()
    }
}

impl Saliency for Differential {
    fn find(&self, setup: &mut Setup<'_>) -> Result<Box<dyn SaliencyRun>> {
        let (base, prompt) = setup.part_with(&self.phrase);
        let places = |prompt: &Prompt| {
            let places = prompt.places(&self.phrase)?;
            prompt.find_at(&self.phrase, &places).map(|_| places) // fails beyond the limit of the text encoder
        };
        Ok(Box::new(self.vary(base, places, &mut setup.for_prompt(prompt))?))
    }
}

impl GuidanceRun for Varied {
    fn plan(&mut self, _: &Step, plan: &mut Plan) -> Result<()> {
        plan.evaluate(self.branch);
        Ok(())
    }

    fn predicted(&mut self, _: &Step, predictions: &mut Predictions) -> Result<()> {
        let change = predictions.eps(self.branch)?.f_sub(&predictions.eps(self.base)?)?.f_abs()?;
        let change = change.f_mean_dim([1i64].as_slice(), true, Kind::Float)?;
        // At the borders the mean covers only cells of the picture: padding does not count.
        let smooth = change.f_avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None::<i64>)?;
        self.map = Some((Normalize::MinMax.apply(&smooth)?, is_flat(&smooth)?));
        self.changes = Some(match self.changes.take() {
            Some((sum, count)) => (sum.f_add(&smooth)?, count + 1.0),
            None => (smooth, 1.0),
        });
        Ok(())
    }

    fn notes(&self) -> Vec<Note> {
        let flat = self.map.as_ref().is_some_and(|(_, flat)| *flat);
        let note = || {
            let [word, phrase] = [&self.settings.word, &self.settings.phrase].map(|text| excerpt(text, QUOTED));
            Note::from(format!(
                "\"{word} {phrase}\" changes nothing, because the difference is the same everywhere; use another word"
            ))
        };
        flat.then(note).into_iter().collect()
    }

    fn report(&self) -> Result<Option<Report>> {
        let Differential { phrase, word, weight } = &self.settings;
        let data = serde_json::json!({ "phrase": phrase, "word": word, "weight": weight });
        let mut pictures = Vec::new();
        if let Some((map, _)) = &self.map {
            for image in 0..map.size4()?.0 {
                let map = map.f_select(0, image)?.f_select(0, 0)?;
                let caption = format!("cells that \"{word}\" would change");
                pictures.push(Picture::map(caption, &map).image(image as usize));
            }
        }
        Ok(Some(Report { data, pictures, ..Report::new(format!("Differential \"{phrase}\"")) }))
    }
}

impl SaliencyRun for Varied {
    fn map(&self) -> Result<Option<Tensor>> {
        Ok(self.map.as_ref().map(|(map, _)| map.f_mul_scalar(self.settings.weight)).transpose()?)
    }

    fn range(&self) -> f64 {
        self.settings.weight
    }
}
