//! [`PromptSchedule`]: the texts of a prompt that changes from step to step.

use super::PromptSyntax;
use super::brackets::{Brackets, Node, When};
use crate::error::{Error, Result};
use std::collections::{BTreeSet, HashMap};

/// Largest number of bytes of all different texts of a prompt.
const MOST_BYTES: usize = 1 << 20;

/// The texts of a prompt over the steps of a run: `[a:b:0.5]` is a in the first half of the run and b in the second,
/// and `[a|b]` is a and b in turn.
///
/// | in a prompt | meaning |
/// |---|---|
/// | `[a:b:n]` | a first, and b after n |
/// | `[b:n]`, `[:b:n]` | nothing first, and b after n |
/// | `[a::n]` | a first, and nothing after n |
/// | `[a\|b\|c]` | a, b and c in turn, one at each step |
///
/// A number with a point is a share of the run's steps, and a number without a point is a number of steps. Texts may
/// have brackets inside. Other brackets stay as they are, for the weights. If a prompt has a lone `|`, ends with a
/// backslash, or has more than 100 brackets inside each other, all of it is one text.
///
/// ```
/// use impasto::prompt::{PromptSchedule, PromptSyntax};
///
/// let schedule = PromptSchedule::new("a [red:blue:0.5] boat", PromptSyntax::WebUi, 10)?;
/// let texts: Vec<_> = schedule.entries().collect();
/// assert_eq!(texts, [(5, "a red boat"), (10, "a blue boat")]);
/// assert_eq!((schedule.at(5), schedule.at(6)), ("a red boat", "a blue boat"));
/// # Ok::<(), impasto::Error>(())
/// ```
///
/// Source: the grammar in `modules/prompt_parser.py` of stable-diffusion-webui 1.10.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptSchedule {
    /// The different texts.
    texts: Vec<String>,
    /// Last step, counted from 1, of each entry, and the index of its text.
    ends: Vec<(usize, usize)>,
    is_parsed: bool,
}

/// Steps by which the numbers in a prompt count.
#[derive(Clone, Copy)]
struct Count {
    steps: usize,
    /// Steps of the first run, if the texts are those of the second.
    first: Option<usize>,
    is_old: bool,
}

impl PromptSchedule {
    /// Reads the texts of a run of `steps` steps.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the different texts together have more than a MiB.
    pub fn new(prompt: &str, syntax: PromptSyntax, steps: usize) -> Result<Self> {
        Self::read(prompt, syntax, Count { steps, first: None, is_old: syntax == PromptSyntax::OldWebUi })
    }

    /// Reads the texts of the second run of a request with [`Hires`](crate::pipeline::Hires). Numbers count through
    /// both runs: shares from 0 to 1 are the first run and those from 1 to 2 the second, and steps of the second run
    /// follow those of the first.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new).
    pub fn of_second_run(prompt: &str, syntax: PromptSyntax, first_steps: usize, steps: usize) -> Result<Self> {
        let count = match syntax {
            // These versions counted the steps of the first run in both runs.
            PromptSyntax::OldWebUi => Count { steps: first_steps, first: None, is_old: true },
            _ => Count { steps, first: Some(first_steps), is_old: false },
        };
        Self::read(prompt, syntax, count)
    }

    fn read(prompt: &str, syntax: PromptSyntax, count: Count) -> Result<Self> {
        let whole = |is_parsed| Self { texts: vec![prompt.to_owned()], ends: vec![(count.steps, 0)], is_parsed };
        if syntax == PromptSyntax::Plain {
            return Ok(whole(true));
        }
        let Some(nodes) = Brackets::parse(prompt) else { return Ok(whole(false)) };
        let mut ends = BTreeSet::from([count.steps]);
        count.switches(&nodes, &mut ends);
        let mut schedule = Self { texts: Vec::new(), ends: Vec::with_capacity(ends.len()), is_parsed: true };
        let (mut known, mut bytes) = (HashMap::<String, usize>::new(), 0);
        for end in ends {
            let mut text = String::new();
            count.write(prompt, &nodes, end, &mut text);
            let index = match known.get(&text) {
                Some(index) => *index,
                None => {
                    bytes += text.len();
                    if bytes > MOST_BYTES {
                        let expected = "at most 1 MiB in all; write fewer or shorter alternatives";
                        return Err(Error::parameter("prompt", format!("texts of over {MOST_BYTES} bytes"), expected));
                    }
                    known.insert(text.clone(), schedule.texts.len());
                    schedule.texts.push(text);
                    schedule.texts.len() - 1
                }
            };
            schedule.ends.push((end, index));
        }
        Ok(schedule)
    }

    /// Returns the texts in order, each with its last step, counted from 1. Neighboring entries may have equal texts.
    pub fn entries(&self) -> impl Iterator<Item = (usize, &str)> {
        self.ends.iter().filter_map(|(end, text)| Some((*end, self.texts.get(*text)?.as_str())))
    }

    /// Returns the text of a step, counted from 0: that of the first entry whose last step is not below this number, as
    /// in the web UI. So `[a:b:3]` gives a at four steps.
    pub fn at(&self, step: usize) -> &str {
        let entry = self.ends.get(self.ends.partition_point(|(end, _)| *end < step)).or(self.ends.last());
        entry.and_then(|(_, text)| self.texts.get(*text)).map_or("", String::as_str)
    }

    /// Returns false if the markup cannot be read, so that the whole prompt is one text.
    pub const fn is_parsed(&self) -> bool {
        self.is_parsed
    }
}

impl Count {
    /// Returns the last step before a switch, at most the number of steps. 0 and less is a switch before the first
    /// step.
    fn limit(&self, when: &When) -> i64 {
        let (When { value, is_share }, steps) = (*when, self.steps as f64);
        let last = match (self.is_old, self.first) {
            (true, _) if value < 1.0 => value * steps,
            (true, _) => value,
            (false, first) if is_share => (value - if first.is_some() { 1.0 } else { 0.0 }) * steps,
            (false, first) => value - first.unwrap_or_default() as f64,
        };
        last.min(steps) as i64
    }

    /// Adds the steps after which a text may change.
    fn switches(&self, nodes: &[Node], ends: &mut BTreeSet<usize>) {
        for node in nodes {
            match node {
                Node::Text(_) => {}
                Node::Turn(options) => {
                    ends.extend(1..=self.steps);
                    options.iter().for_each(|option| self.switches(option, ends));
                }
                Node::Switch { before, after, when } => {
                    ends.extend(usize::try_from(self.limit(when)).ok().filter(|limit| *limit >= 1));
                    self.switches(before, ends);
                    self.switches(after, ends);
                }
            }
        }
    }

    /// Writes the text of a step, counted from 1.
    fn write(&self, prompt: &str, nodes: &[Node], step: usize, text: &mut String) {
        for node in nodes {
            match node {
                Node::Text(bytes) => text.push_str(prompt.get(bytes.clone()).unwrap_or_default()),
                Node::Turn(options) => {
                    let turn = step.saturating_sub(1).checked_rem(options.len()).and_then(|turn| options.get(turn));
                    turn.into_iter().for_each(|option| self.write(prompt, option, step, text));
                }
                Node::Switch { before, after, when } => {
                    let is_before = i64::try_from(step).is_ok_and(|step| step <= self.limit(when));
                    self.write(prompt, if is_before { before } else { after }, step, text);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn golden() -> Value {
        serde_json::from_str(include_str!("../../tests/golden/specs/prompt_schedule.json")).unwrap()
    }

    #[test]
    fn texts_of_runs_equal_the_reference() -> Result<()> {
        for case in golden()["schedules"].as_array().unwrap() {
            let (prompt, steps) = (case["prompt"].as_str().unwrap(), case["steps"].as_u64().unwrap() as usize);
            let is_old = case["old_scheduling"].as_bool().unwrap_or_default();
            let syntax = if is_old { PromptSyntax::OldWebUi } else { PromptSyntax::WebUi };
            let schedule = match case["hires_steps"].as_u64() {
                Some(second) => PromptSchedule::of_second_run(prompt, syntax, steps, second as usize)?,
                None => PromptSchedule::new(prompt, syntax, steps)?,
            };
            let texts: Vec<Value> = schedule.entries().map(|(end, text)| serde_json::json!([end, text])).collect();
            assert_eq!(
                (&Value::from(texts), schedule.is_parsed()),
                (&case["schedule"], case["parsed"] == true),
                "{case}"
            );
        }
        for case in golden()["used"].as_array().unwrap() {
            let (prompt, steps) = (case["prompt"].as_str().unwrap(), case["steps"].as_u64().unwrap() as usize);
            let schedule = PromptSchedule::new(prompt, PromptSyntax::WebUi, steps)?;
            let texts: Vec<&str> = (0..steps).map(|step| schedule.at(step)).collect();
            assert_eq!(serde_json::json!(texts), case["texts"], "{prompt}");
        }
        Ok(())
    }

    #[test]
    fn plain_syntax_keeps_the_prompt() -> Result<()> {
        let schedule = PromptSchedule::new("[a|b]", PromptSyntax::Plain, 10)?;
        assert_eq!((schedule.entries().collect::<Vec<_>>(), schedule.is_parsed()), (vec![(10, "[a|b]")], true));
        Ok(())
    }

    #[test]
    fn size_of_all_texts_is_bounded() {
        let long = "x ".repeat(4000);
        let turns = |count: usize| (0..count).map(|turn| format!("{long}{turn}")).collect::<Vec<_>>().join("|");
        let error = PromptSchedule::new(&format!("[{}]", turns(200)), PromptSyntax::WebUi, 1000).unwrap_err();
        assert!(error.to_string().contains("expected at most 1 MiB in all"), "{error}");
        assert!(PromptSchedule::new(&format!("[{}]", turns(100)), PromptSyntax::WebUi, 1000).is_ok());
        let same = PromptSchedule::new(&format!("[{long}|{long}]"), PromptSyntax::WebUi, 1000).unwrap();
        assert_eq!((same.texts.len(), same.ends.len()), (1, 1000));
    }

    #[test]
    fn any_brackets_are_read_or_kept() -> Result<()> {
        let mut seed = 7u64;
        let mut dice = |sides: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % sides
        };
        let pieces = ["[", "]", "(", ")", ":", "|", "a", "é ", "3", "0.5", "\\", "\n", " AND ", "<lora:a:1>", "-1e999"];
        for _ in 0..20_000 {
            let prompt: String = (0..1 + dice(40)).map(|_| pieces[dice(pieces.len() as u64) as usize]).collect();
            for schedule in [
                PromptSchedule::new(&prompt, PromptSyntax::WebUi, 12)?,
                PromptSchedule::new(&prompt, PromptSyntax::OldWebUi, 12)?,
                PromptSchedule::of_second_run(&prompt, PromptSyntax::WebUi, 12, 9)?,
            ] {
                assert!(schedule.entries().last().is_some_and(|(end, _)| [9, 12].contains(&end)), "{prompt:?}");
                assert!(schedule.is_parsed() || schedule.at(3) == prompt, "{prompt:?}");
            }
            let parts: usize = super::super::conjunction(&prompt).iter().map(|part| part.text.len()).sum();
            assert!(parts <= prompt.len() && super::super::networks(&prompt).text.len() <= prompt.len());
        }
        Ok(())
    }
}
