//! Conversion of an [`Infotext`] to a request, for [`Request::from_png`].

use super::hires::{Enlarge, Hires};
use super::infotext::{Infotext, OLD_TIMELINES, Program, SYNTAX, has_settings};
use super::{Request, Seamless};
use crate::diffusion::solver::{self, spacing_label};
use crate::nn::token_merging::check_merge_tokens;
use crate::prompt::hex_words;
use crate::size::Size;
use crate::wording::{Note, QUOTED, Remedy, excerpt};
use std::collections::HashSet;
use std::str::FromStr;

/// Largest number of fields in a note.
const MOST_FIELDS: usize = 24;

impl Infotext {
    /// Returns notes on the differences between the run that the text describes and a repeated run: an unknown sampler,
    /// the program, the model, the noise, and fields that are not repeated.
    ///
    /// `is_repeated` returns true for the name of a field that the caller repeats. It is not asked about the sampler,
    /// the spacing and the model.
    ///
    /// ```
    /// use impasto::pipeline::Infotext;
    ///
    /// let info = Infotext::parse("a cat\nSteps: 28, Sampler: Euler a, Seed: 7, Face restoration: GFPGAN, RNG: CPU");
    /// let notes = info.notes(|name| ["Steps", "Seed"].contains(&name));
    /// assert_eq!(notes.len(), 1);
    /// assert_eq!(notes[0].to_string(), "settings of the file that are not repeated: Face restoration GFPGAN");
    /// ```
    pub fn notes(&self, is_repeated: impl Fn(&str) -> bool) -> Vec<Note> {
        let sampler = self.sampler();
        let unknown = sampler.as_ref().and_then(|sampler| solver::by_name(sampler).err());
        let unknown = unknown.map(|error| format!("{error} (the checkpoint's own sampler is used)"));
        let schedule = self.unknown_schedule().zip(sampler.as_deref());
        let schedule = schedule.map(|(schedule, sampler)| schedule_note(schedule, sampler));
        let model = self.field("Model").map(|model| {
            format!("the picture was made with the model {}; check that this model is the same", excerpt(model, QUOTED))
        });
        let noise = (self.field("RNG") != Some("CPU"))
            .then_some("the picture's noise may be a GPU's; the same seed then gives other noise here");
        let mut seen = HashSet::new();
        let mut unread = Vec::new();
        for (name, value) in &self.fields {
            let is_told = match name.as_str() {
                name if !seen.insert(name) => false, // the first of several fields counts
                "Schedule type" | "Scheduler" => {
                    self.field("Sampler").is_some_and(|name| solver::by_name(name).is_ok())
                }
                "Sampler" | "RNG" | "Model" | "Model hash" | "Version" => true,
                "Raw prompt" | "Raw negative prompt" => self.program == Program::Fooocus,
                name => is_repeated(name),
            };
            if !is_told {
                unread.push((name.as_str(), value.as_str()));
            }
        }
        let program = program_note(self.program).map(Note::from);
        let notes = [unknown.map(Note::from), schedule.map(Note::from), program, model.map(Note::from)];
        let rest = [noise.map(Note::from), unread_note(&unread).map(Note::from)];
        notes.into_iter().chain(rest).flatten().collect()
    }

    /// Returns the value of the field `name`; `None` if the text has no such field, or none with a value of this type.
    fn value<T: FromStr>(&self, name: &str) -> Option<T> {
        self.field(name)?.parse().ok()
    }
}

impl Request<'_> {
    /// Sets what a text says about a run. Notes tell what the text leaves open, and which settings are not repeated.
    pub(super) fn told_by(mut self, info: &Infotext) -> Self {
        let steps = info.value("Steps");
        let (seed, strength) = (info.value("Variation seed"), info.value("Variation seed strength"));
        let own = self.model.info.clip_skip().unwrap_or(1);
        let reads = |layer: &usize| *layer != own && self.model.reads_clip_layer(*layer);
        let layer = info.value("Clip skip").filter(reads);
        let has_unet = self.model.has_unet();
        let shift = info.value("Shift").filter(|_| self.model.scheduler().is_flow());
        let config = &mut self.config;
        config.prompt = info.request_prompt();
        config.negative = info.negative.clone();
        config.syntax = info.syntax();
        config.clip_skip = layer.or(config.clip_skip);
        config.steps = steps.or(config.steps);
        config.guidance_scale = info.value("CFG scale").or(config.guidance_scale);
        config.seed = info.value("Seed").or(config.seed);
        config.size = info.value("Size").or(config.size);
        config.variation = seed.zip(strength).or(config.variation);
        let enlarged = info.value("Hires upscale").zip(info.value("Denoising strength"));
        let enlarged = enlarged.filter(|(scale, _)| *scale > 1.0).map(|(scale, strength)| Hires {
            steps: info.value("Hires steps").filter(|steps| *steps > 0),
            enlarge: info.field("Hires upscaler").map_or(Enlarge::Lanczos, Enlarge::named),
            ..Hires::new(scale, strength)
        });
        if has_unet && info.field("Tiling") == Some("True") {
            config.seamless = Seamless::Both;
        }
        let merged = info.value("Token merging ratio");
        let merged = merged.filter(|share| *share == 0.0 || has_unet && check_merge_tokens(*share).is_ok());
        config.merge_tokens = merged.unwrap_or(config.merge_tokens);
        let is_enlarged = enlarged.is_some();
        config.hires = enlarged.or(config.hires.take());
        let sampler = info.sampler().filter(|sampler| solver::by_name(sampler).is_ok());
        config.solver_named = sampler.or(config.solver_named.take());
        self.notes.extend(info.notes(|name| match name {
            "Steps" => steps.is_some(),
            "CFG scale" => info.value::<f64>(name).is_some(),
            "Seed" => info.value::<u64>(name).is_some(),
            "Size" => info.value::<Size>(name).is_some(),
            "Variation seed" => seed.is_some(),
            "Variation seed strength" => strength.is_some(),
            "Hires upscale" | "Hires steps" | "Denoising strength" => is_enlarged,
            "Hires upscaler" => {
                is_enlarged && info.field(name).is_some_and(|name| Enlarge::named(name).label() == name)
            }
            OLD_TIMELINES | SYNTAX => true,
            "Tiling" => info.field(name).is_some_and(|tiles| tiles == "False" || has_unet && tiles == "True"),
            "Token merging ratio" => merged.is_some(),
            "Token merging ratio hr" => merged.is_some() && info.value(name) == merged,
            "Clip skip" => info.value(name) == Some(layer.unwrap_or(own)),
            "Shift" => shift.is_some(),
            _ => false,
        }));
        self.notes.extend(shift.and_then(|shift| self.shift_note(shift)));
        self
    }

    /// Returns a note if a picture was made with another `shift` of a flow's noise levels than this model's.
    pub(super) fn shift_note(&self, shift: f64) -> Option<Note> {
        let own = self.model.scheduler().own_shift();
        let told = own.map_or_else(|| "depends on the picture".to_owned(), |own| format!("is {own}"));
        let told = format!("the picture was made with the shift {shift} of the noise levels, and this model's {told}");
        (own != Some(shift)).then(|| Remedy::Shift.after(told))
    }

    /// Returns notes on words of the prompt that could be meant as settings or as colors.
    pub(super) fn doubts_of_words(&self) -> Vec<Note> {
        let config = &self.config;
        let pasted = [("prompt", &config.prompt), ("negative prompt", &config.negative)];
        let pasted = pasted.into_iter().filter(|(_, text)| has_settings(text)).map(|(name, _)| {
            format!(
                "the {name} contains the settings of a run (\"Steps: …, Sampler: …\"), which are read as words; remove \
                 them, and set them on the request"
            )
        });
        let words = hex_words(&config.prompt);
        let word = words.first().map(|word| {
            let digits = word.trim_start_matches('#');
            format!(
                "{word} in the prompt is read as a word, because the letters spell one; write {{#{digits}}} for the \
                 color, or \\{word} for the word"
            )
        });
        pasted.chain(word).map(Note::from).collect()
    }
}

/// Returns a note on a schedule type that is not known; `sampler` is the sampler in its place.
fn schedule_note(schedule: &str, sampler: &str) -> String {
    let spacing = solver::by_name(sampler).ok().and_then(|(_, spacing)| spacing);
    let instead =
        spacing.map_or_else(|| "the checkpoint's own".to_owned(), |spacing| spacing_label(spacing).to_owned());
    format!("the schedule type {} is not known; the spacing in its place is {instead}", excerpt(schedule, QUOTED))
}

/// Returns a note on the differences between another program and this crate.
const fn program_note(program: Program) -> Option<&'static str> {
    match program {
        Program::Impasto | Program::WebUi => None,
        Program::Fooocus => Some(
            "the settings are those of Fooocus, which adds words of styles and of its own to the prompt; these words are \
             not repeated unless the prompt has them",
        ),
        Program::InvokeAi => Some(
            "the settings are those of InvokeAI, whose weights (word+ and (words)1.2) are read as text; write (words:1.2)",
        ),
        Program::NovelAi => Some(
            "the settings are those of NovelAI, whose weights ({word} and 1.2::words::) are read as text; write \
             (words:1.2)",
        ),
        Program::SwarmUi => Some(
            "the settings are those of SwarmUI, whose commands in angle brackets are read as text; remove them from the \
             prompt",
        ),
        Program::ComfyUi => Some(
            "the settings are those of one sampler node of ComfyUI and of the nodes before it; other nodes are not \
             repeated",
        ),
    }
}

/// Returns a note on the fields that are not repeated.
fn unread_note(fields: &[(&str, &str)]) -> Option<String> {
    let short = |text| excerpt(text, QUOTED);
    let shown = fields.iter().take(MOST_FIELDS).map(|(name, value)| format!("{} {}", short(name), short(value)));
    let mut shown = shown.collect::<Vec<_>>().join("; ");
    if let Some(more) = fields.len().checked_sub(MOST_FIELDS).filter(|more| *more > 0) {
        shown += &format!("; {more} more");
    }
    (!fields.is_empty()).then(|| format!("settings of the file that are not repeated: {shown}"))
}
