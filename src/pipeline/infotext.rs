//! [`Infotext`]: a run in words, as the AUTOMATIC1111 web UI writes it beside its pictures.

use crate::diffusion::Spacing;
use std::fmt;

/// What the AUTOMATIC1111 web UI writes into a PNG under `parameters`, and many programs read: the prompt, the negative prompt,
/// and a line of fields.
///
/// ```
/// use impasto::pipeline::Infotext;
///
/// let text = "1girl, gold eyes\nNegative prompt: blurry\nSteps: 28, Sampler: Euler a, CFG scale: 7.5, Seed: 7, Size: 512x512";
/// let info = Infotext::parse(text);
/// assert_eq!((info.prompt.as_str(), info.field("Sampler")), ("1girl, gold eyes", Some("Euler a")));
/// assert_eq!(info.to_string(), text);
/// ```
///
/// Source: `modules/infotext_utils.py` and `modules/processing.py` of stable-diffusion-webui.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Infotext {
    /// The prompt; may have several lines.
    pub prompt: String,
    /// The negative prompt; empty if there is none.
    pub negative: String,
    /// Names and values, in their order.
    pub fields: Vec<(String, String)>,
}

/// Fields that a last line must have to be one of fields and not of the prompt.
const LEAST: usize = 3;
const NEGATIVE: &str = "Negative prompt:";

impl Infotext {
    /// Reads such a text. Any text is one: without a line of fields it is a prompt.
    pub fn parse(text: &str) -> Self {
        let mut lines: Vec<&str> = text.trim().lines().collect();
        let fields = lines.last().map(|line| fields(line)).filter(|fields| fields.len() >= LEAST);
        if fields.is_some() {
            lines.pop();
        }
        let (mut prompt, mut negative, mut is_negative) = (Vec::new(), Vec::new(), false);
        for line in lines {
            let line = line.trim();
            let rest = line.strip_prefix(NEGATIVE);
            is_negative |= rest.is_some();
            let part = if is_negative { &mut negative } else { &mut prompt };
            part.push(rest.unwrap_or(line).trim());
        }
        Self { prompt: prompt.join("\n"), negative: negative.join("\n"), fields: fields.unwrap_or_default() }
    }

    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Adds a field.
    pub(super) fn push(&mut self, name: &str, value: impl fmt::Display) {
        self.fields.push((name.into(), value.to_string()));
    }
}

impl fmt::Display for Infotext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prompt)?;
        if !self.negative.is_empty() {
            write!(f, "\n{NEGATIVE} {}", self.negative)?;
        }
        let fields: Vec<String> =
            self.fields.iter().map(|(name, value)| format!("{name}: {}", quoted(value))).collect();
        write!(f, "\n{}", fields.join(", "))
    }
}

/// A value that would end early, in quotes.
fn quoted(value: &str) -> String {
    if value.contains([',', '\n', ':']) { serde_json::Value::from(value).to_string() } else { value.into() }
}

/// The fields of a line: `\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)`, wherever it matches.
fn fields(line: &str) -> Vec<(String, String)> {
    let (mut fields, mut rest) = (Vec::new(), line);
    while !rest.is_empty() {
        rest = rest.trim_start(); // once, and not again at each letter
        rest = match field(rest) {
            Some((name, value, after)) => {
                fields.push((name.to_owned(), value));
                after
            }
            None => rest.char_indices().nth(1).map_or("", |(next, _)| rest.split_at(next).1),
        };
    }
    fields
}

/// More letters than any field's name has.
const LONGEST_NAME: usize = 64;

/// The field that a text begins with: its name, its value, and what follows.
fn field(text: &str) -> Option<(&str, String, &str)> {
    let text = text.trim_start();
    let word = |letter: char| letter.is_alphanumeric() || letter == '_';
    // Names are short; whoever wrote the text should not make us look for one to its end again and again.
    let mut letters = text.char_indices().take(LONGEST_NAME);
    let end = letters.find(|(_, letter)| !word(*letter) && !" -/".contains(*letter))?.0;
    let (name, rest) = text.split_at_checked(end)?;
    let begins = name.starts_with(word) && name.chars().nth(1).is_some();
    let rest = rest.strip_prefix(':').filter(|_| begins)?.trim_start();
    if let Some((value, after)) = in_quotes(rest) {
        return Some((name, value, after));
    }
    let (value, after) = rest.split_once(',').unwrap_or((rest, ""));
    Some((name, value.to_owned(), after))
}

/// The quoted value that a text begins with, up to a comma or the end.
fn in_quotes(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = inner.find(|letter| {
        let ends = letter == '"' && !escaped;
        escaped = letter == '\\' && !escaped;
        ends
    })?;
    let (quoted, after) = text.split_at(end + 2); // both quotes
    let after = if after.is_empty() { after } else { after.strip_prefix(',')? };
    Some((serde_json::from_str(quoted).unwrap_or_else(|_| quoted.to_owned()), after))
}

/// What the web UI calls a solver of this crate; as it calls itself where that has none.
pub(super) fn sampler_label(solver: &str) -> &str {
    match solver {
        "EulerAncestral" => "Euler a",
        "Lms" => "LMS",
        "Dpm2" => "DPM2",
        "Dpm2Ancestral" => "DPM2 a",
        "Dpmpp2SAncestral" => "DPM++ 2S a",
        "Dpmpp2S" => "DPM++ 2S",
        "Dpmpp2M" => "DPM++ 2M",
        "Dpmpp2MSde" => "DPM++ 2M SDE",
        "Dpmpp2MSdeHeun" => "DPM++ 2M SDE Heun",
        "Dpmpp3M" => "DPM++ 3M",
        "Dpmpp3MSde" => "DPM++ 3M SDE",
        "DpmppSde" => "DPM++ SDE",
        "Ddim" => "DDIM",
        "Ddpm" => "DDPM",
        "Pndm" => "PLMS",
        "Deis" => "DEIS",
        "UniPc" => "UniPC",
        "UniPcBh2" => "Uni PC bh2",
        "Lcm" => "LCM",
        "Tcd" => "TCD",
        other => other,
    }
}

/// What it calls a spacing.
pub(super) const fn spacing_label(spacing: Spacing) -> &'static str {
    match spacing {
        Spacing::Leading => "Leading",
        Spacing::Linspace => "Linspace",
        Spacing::Trailing => "Trailing",
        Spacing::Karras => "Karras",
        Spacing::Exponential => "Exponential",
        Spacing::Beta => "Beta",
        Spacing::BetaTimesteps => "Beta timesteps",
        Spacing::Normal => "Normal",
        Spacing::SgmUniform => "SGM Uniform",
        Spacing::Simple => "Simple",
        Spacing::DdimUniform => "DDIM Uniform",
        Spacing::KlOptimal => "KL Optimal",
        Spacing::AlignYourSteps => "Align Your Steps",
        Spacing::AlignYourStepsXl => "Align Your Steps XL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::solver::{self, Solver};

    fn field<'a>(info: &'a Infotext, name: &str) -> &'a str {
        info.field(name).unwrap_or_else(|| panic!("{name} in {info:?}"))
    }

    #[test]
    fn a_usual_text_is_read() {
        let info = Infotext::parse(
            "masterpiece, best quality, 1girl, (gold eyes:1.3), <lora:add_detail:0.8>\n\
             Negative prompt: (worst quality, low quality:1.4), bad hands\n\
             Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 2870305590, Size: 512x768, Model hash: 7f96a1a9ca, \
             Model: AnythingV5, Denoising strength: 0.55, Clip skip: 2, Hires upscale: 2, Version: v1.6.0",
        );
        assert_eq!(info.prompt, "masterpiece, best quality, 1girl, (gold eyes:1.3), <lora:add_detail:0.8>");
        assert_eq!(info.negative, "(worst quality, low quality:1.4), bad hands");
        assert_eq!((field(&info, "Sampler"), field(&info, "Size")), ("DPM++ 2M Karras", "512x768"));
        assert_eq!((info.fields.len(), field(&info, "Version")), (11, "v1.6.0"));
    }

    #[test]
    fn a_long_line_is_read_in_a_moment() {
        let begun = std::time::Instant::now();
        let line = format!("a\nSteps: 2, Seed: 1, Size: 8x8, {}", "x ".repeat(1 << 20));
        assert_eq!(Infotext::parse(&line).fields.len(), 3);
        let line = format!("a\nSteps: 2, Seed: 1, Size: 8x8,{}!", " ".repeat(1 << 20));
        assert_eq!(Infotext::parse(&line).fields.len(), 3);
        assert!(begun.elapsed().as_secs() < 20, "not in a time that grows with its square");
    }

    #[test]
    fn prompts_of_several_lines_keep_them() {
        let info = Infotext::parse(
            "a house,\n  by the sea\n\nBREAK red roof\nNegative prompt: people,\ncars\nSteps: 20, Sampler: Euler, Seed: 1\n",
        );
        assert_eq!(info.prompt, "a house,\nby the sea\n\nBREAK red roof");
        assert_eq!(info.negative, "people,\ncars");
        assert_eq!(info.fields.len(), 3);
    }

    #[test]
    fn values_in_quotes_may_have_commas_colons_and_quotes() {
        let text = "a cat\nSteps: 20, Sampler: Euler a, Lora hashes: \"add_detail: 7c6bad76eb54, more: \\\"x\\\"\", TI hashes: \"\", \
                    Seed: 5, Hires prompt: \"two\\nlines\", RNG: CPU";
        let info = Infotext::parse(text);
        assert_eq!(field(&info, "Lora hashes"), "add_detail: 7c6bad76eb54, more: \"x\"");
        assert_eq!((field(&info, "Hires prompt"), field(&info, "TI hashes")), ("two\nlines", ""));
        assert_eq!((field(&info, "Seed"), field(&info, "RNG"), info.negative.as_str()), ("5", "CPU", ""));
        let again = Infotext::parse(&info.to_string());
        assert_eq!(again, info);
    }

    #[test]
    fn a_text_without_fields_is_a_prompt() {
        let info = Infotext::parse("colors: gold, eyes: blue");
        assert_eq!((info.prompt.as_str(), info.fields.len()), ("colors: gold, eyes: blue", 0));
        assert_eq!(Infotext::parse(""), Infotext::default());
        let info = Infotext::parse("Negative prompt: everything");
        assert_eq!((info.prompt.as_str(), info.negative.as_str()), ("", "everything"));
        // An open quote, and fields without values.
        let info = Infotext::parse("x\nSteps: , Sampler: \"Euler, Seed: é, Size:");
        assert_eq!((field(&info, "Sampler"), field(&info, "Seed"), field(&info, "Size")), ("\"Euler", "é", ""));
    }

    #[test]
    fn labels_are_names_that_are_understood() {
        let names = ["euler", "euler a", "heun", "lms", "dpm2", "dpm2 a", "dpmpp 2s a", "dpmpp 2s", "dpmpp 2m"];
        let more = ["dpmpp 2m sde", "dpmpp 2m sde heun", "dpmpp 3m", "dpmpp 3m sde", "dpmpp sde", "ddim", "ddpm"];
        let last = ["plms", "deis", "unipc", "uni pc bh2", "lcm", "tcd"];
        for name in names.into_iter().chain(more).chain(last) {
            let (made, _) = solver::by_name(name).unwrap();
            let label = sampler_label(made.name());
            assert_eq!(solver::by_name(label).unwrap().0.name(), made.name(), "{label}");
        }
        for name in [
            "karras",
            "exponential",
            "sgm uniform",
            "normal",
            "simple",
            "ddim uniform",
            "kl optimal",
            "beta",
            "beta timesteps",
            "align your steps",
            "align your steps xl",
            "leading",
            "linspace",
            "trailing",
        ] {
            let spacing = solver::by_name(&format!("euler {name}")).unwrap().1.unwrap();
            let named = format!("Euler {}", spacing_label(spacing));
            assert_eq!(solver::by_name(&named).unwrap().1, Some(spacing), "{named}");
        }
    }
}
