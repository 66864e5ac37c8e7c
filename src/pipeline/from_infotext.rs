//! Conversion of an [`Infotext`] to a request, for [`Request::from_png`].

use super::Request;
use super::infotext::{Infotext, Program, has_settings};
use crate::diffusion::solver::{self, spacing_label};
use crate::prompt::hex_words;
use crate::size::Size;
use crate::wording::{Note, QUOTED, shortened};
use std::collections::HashSet;

/// Largest number of fields in a note.
const MOST_FIELDS: usize = 24;

impl Request<'_> {
    /// Sets what a text says about a run. Notes tell what the text leaves open, and which settings are not repeated.
    pub(super) fn told_by(mut self, info: &Infotext) -> Self {
        self.config.prompt = info.prompt.clone();
        self.config.negative = info.negative.clone();
        let mut variation = (None, None);
        let (mut unread, mut seen) = (Vec::new(), HashSet::new());
        for (name, value) in &info.fields {
            let read = match name.as_str() {
                name if !seen.insert(name) => false, // the first of several fields counts
                "Steps" => value.parse().map(|steps| self.config.steps = steps).is_ok(),
                "CFG scale" => value.parse().map(|scale| self.config.guidance_scale = Some(scale)).is_ok(),
                "Seed" => value.parse().map(|seed| self.config.seed = Some(seed)).is_ok(),
                "Size" => value.parse().map(|size: Size| self.config.size = Some(size)).is_ok(),
                "Sampler" => true, // below, together with the schedule type
                "Schedule type" | "Scheduler" => {
                    info.field("Sampler").is_some_and(|name| solver::by_name(name).is_ok())
                }
                "Variation seed" => value.parse().map(|seed| variation.0 = Some(seed)).is_ok(),
                "Variation seed strength" => value.parse().map(|strength| variation.1 = Some(strength)).is_ok(),
                "Clip skip" => value.parse() == Ok(self.model.text_options().clip_skip.unwrap_or(1)),
                "RNG" | "Model" | "Model hash" | "Version" => true,
                "Raw prompt" | "Raw negative prompt" => info.program == Program::Fooocus,
                _ => false,
            };
            if !read {
                unread.push((name.as_str(), value.as_str()));
            }
        }
        if let (Some(seed), Some(strength)) = variation {
            self.config.variation = Some((seed, strength));
        }
        if let Some(sampler) = info.sampler().map(|sampler| shortened(&sampler, QUOTED)) {
            self.notes.extend(info.unknown_schedule().map(|schedule| Note::from(schedule_note(schedule, &sampler))));
            match solver::by_name(&sampler) {
                Ok(_) => self.config.solver_named = Some(sampler),
                Err(error) => {
                    self.notes.push(format!("{error} (the checkpoint's own sampler is used)").into());
                }
            }
        }
        self.notes.extend(program_note(info.program).map(Note::from));
        if let Some(model) = info.field("Model") {
            let model = shortened(model, QUOTED);
            let told = format!("the picture was made with the model {model}; check that this model is the same");
            self.notes.push(told.into());
        }
        if info.field("RNG") != Some("CPU") {
            self.notes.push("the picture's noise may be a GPU's; the same seed then gives other noise here".into());
        }
        self.notes.extend(unread_note(&unread).map(Note::from));
        self
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
    format!("the schedule type {} is not known; the spacing in its place is {instead}", shortened(schedule, QUOTED))
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
    let short = |text| shortened(text, QUOTED);
    let shown = fields.iter().take(MOST_FIELDS).map(|(name, value)| format!("{} {}", short(name), short(value)));
    let mut shown = shown.collect::<Vec<_>>().join("; ");
    if let Some(more) = fields.len().checked_sub(MOST_FIELDS).filter(|more| *more > 0) {
        shown += &format!("; {more} more");
    }
    (!fields.is_empty()).then(|| format!("settings of the file that are not repeated: {shown}"))
}
