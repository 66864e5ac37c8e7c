//! [`Infotext`]: the text about a run that the AUTOMATIC1111 web UI writes into its pictures.

use crate::diffusion::Spacing;
use crate::diffusion::solver::{self, solver_label, spacing_label};
use crate::json;
use crate::prompt::cursor::Cursor;
use crate::prompt::{PromptSyntax, without_colors};
use std::fmt;

/// Text about a run that the AUTOMATIC1111 web UI writes into a PNG under `parameters`. The text consists of the
/// prompt, the negative prompt and a line of fields. Many programs read this text.
///
/// ```
/// use impasto::pipeline::Infotext;
///
/// let text = "1girl, gold eyes\nNegative prompt: blurry\n\
///     Steps: 28, Sampler: Euler a, CFG scale: 7.5, Seed: 7, Size: 512x512";
/// let info = Infotext::parse(text);
/// assert_eq!((info.prompt.as_str(), info.field("Sampler")), ("1girl, gold eyes", Some("Euler a")));
/// assert_eq!(info.to_string(), text);
/// ```
///
/// Source: `modules/infotext_utils.py` and `modules/processing.py` of stable-diffusion-webui.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Infotext {
    /// The prompt as the program wrote it, which may have several lines. [`request_prompt`](Self::request_prompt) is
    /// the prompt for a request.
    pub prompt: String,
    /// The negative prompt; empty if there is none.
    pub negative: String,
    /// Names and values of the fields, in their order in the text.
    pub fields: Vec<(String, String)>,
    /// The program that wrote the text.
    pub(super) program: Program,
}

/// Smallest number of fields in a line of fields. A last line with fewer fields belongs to the prompt.
const LEAST: usize = 3;
const NEGATIVE: &str = "Negative prompt:";
/// Field of the web UI for a prompt in the syntax of its versions before 1.6.
pub(super) const OLD_TIMELINES: &str = "Old prompt editing timelines";
/// Field of this crate for another syntax than the web UI's.
pub(super) const SYNTAX: &str = "Prompt syntax";
/// Beginning of the line of fields.
const STEPS: &str = "Steps:";
/// Labels of the texts that the extension "dynamic prompts" writes after the line of fields. Such a text may have
/// several lines.
const TEMPLATES: [&str; 2] = ["Template", "Negative Template"];
/// Beginning of the fields that the web UI writes after an upscaling.
const POSTPROCESS: &str = "Postprocess";

/// The part of a text that a line belongs to.
enum Part {
    Prompt,
    Negative,
    After,
}

/// A program whose texts are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Program {
    /// This crate.
    Impasto,
    /// The AUTOMATIC1111 web UI, its forks, and programs that write the same text.
    #[default]
    WebUi,
    Fooocus,
    InvokeAi,
    NovelAi,
    SwarmUi,
    ComfyUi,
}

impl Infotext {
    /// Parses a text in the web UI's format. The line of fields is the last one that begins with the steps, or else the
    /// last line of all. Lines after it become fields, too.
    pub(super) fn of_web_ui(text: &str) -> Self {
        let lines: Vec<&str> = text.trim().lines().map(str::trim).collect();
        let begins = |line: &str| line.starts_with(STEPS);
        let told = |(at, line): (usize, &&str)| {
            Some((at, fields(line, MOST_FIELDS))).filter(|(_, fields)| fields.len() >= LEAST)
        };
        let in_order = || lines.iter().enumerate();
        let (at, fields) = in_order()
            .rev()
            .filter(|(_, line)| begins(line))
            .find_map(told)
            .or_else(|| in_order().next_back().filter(|(_, line)| !begins(line)).and_then(told))
            .unzip();
        let (mut info, mut part) = (Self::default(), Part::Prompt);
        let (mut prompt, mut negative) = (Vec::new(), Vec::new());
        info.fields = fields.unwrap_or_default();
        for (index, line) in in_order() {
            if at == Some(index) {
                part = Part::After;
                continue;
            }
            let rest = line.strip_prefix(NEGATIVE);
            if rest.is_some() {
                part = Part::Negative;
            }
            match part {
                Part::Prompt => prompt.push(*line),
                Part::Negative => negative.push(rest.unwrap_or(line).trim()),
                Part::After => info.add_line(line),
            }
        }
        let version = info.field("Version").unwrap_or_default();
        info.program = match version {
            version if version.starts_with("impasto") => Program::Impasto,
            version if version.starts_with("Fooocus") => Program::Fooocus,
            _ => Program::WebUi,
        };
        (info.prompt, info.negative) = (prompt.join("\n"), negative.join("\n"));
        info
    }

    /// Adds a line that stands after the line of fields.
    fn add_line(&mut self, line: &str) {
        let label = TEMPLATES.iter().find_map(|name| Some((*name, line.strip_prefix(*name)?.strip_prefix(':')?)));
        let left = MOST_FIELDS - self.fields.len().min(MOST_FIELDS);
        let template = self.fields.last_mut().filter(|(name, _)| TEMPLATES.contains(&name.as_str()));
        match (label, template) {
            (None, Some((_, text))) if !line.starts_with(POSTPROCESS) => {
                text.push('\n');
                text.push_str(line);
            }
            _ if line.is_empty() || left == 0 => {}
            (Some((name, text)), _) => self.push(name, text.trim()),
            _ => match fields(line, left) {
                more if more.is_empty() => self.push("Text after the settings", line),
                more => self.fields.extend(more),
            },
        }
    }

    /// Returns the prompt for a request. Other programs know no exact colors, so a backslash before a color in their
    /// prompts makes the color plain text.
    ///
    /// ```
    /// use impasto::pipeline::Infotext;
    ///
    /// let info = Infotext::parse("#fab fanart\nSteps: 28, Sampler: Euler a, Seed: 7");
    /// assert_eq!(info.prompt, "#fab fanart");
    /// assert_eq!(info.request_prompt(), r"\#fab fanart");
    /// ```
    pub fn request_prompt(&self) -> String {
        match self.program {
            Program::Impasto => self.prompt.clone(),
            _ => without_colors(&self.prompt),
        }
    }

    /// Returns the syntax of the prompts. Other programs than the web UI have none of this syntax.
    pub(super) fn syntax(&self) -> PromptSyntax {
        match self.program {
            Program::Impasto if self.field(SYNTAX).is_some() => PromptSyntax::Plain,
            Program::Impasto | Program::WebUi if self.field(OLD_TIMELINES) == Some("True") => PromptSyntax::OldWebUi,
            Program::Impasto | Program::WebUi => PromptSyntax::WebUi,
            _ => PromptSyntax::Plain,
        }
    }

    /// Returns the value of the field `name`; `None` if the text has no such field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the sampler with the spacing of its noise levels, as a name for
    /// [`Request::solver_named`](super::Request::solver_named); `None` if the text names no sampler.
    ///
    /// The schedule type "Automatic" means the spacing that the web UI chooses for the sampler. An unknown schedule
    /// type has the same meaning. Without a schedule type, the web UI spaces timesteps evenly. DDIM, PLMS and UniPC
    /// ignore the schedule type in the web UI.
    ///
    /// ```
    /// use impasto::pipeline::Infotext;
    ///
    /// let sampler = |fields: &str| Infotext::parse(&format!("a cat\nSteps: 28, {fields}, Seed: 7")).sampler();
    /// assert_eq!(sampler("Sampler: DPM++ 2M, Schedule type: Automatic").as_deref(), Some("DPM++ 2M Karras"));
    /// assert_eq!(sampler("Sampler: Euler a, CFG scale: 7").as_deref(), Some("Euler a Normal"));
    /// ```
    ///
    /// Source: `modules/sd_samplers_kdiffusion.py` and `sd_samplers_timesteps.py` of stable-diffusion-webui 1.9.
    pub fn sampler(&self) -> Option<String> {
        let sampler = self.field("Sampler")?;
        let schedule = self.schedule();
        let whole = |schedule: &str| Some(format!("{sampler} {schedule}")).filter(|name| solver::by_name(name).is_ok());
        let told = schedule.filter(|schedule| !is_automatic(schedule) && !self.ignores_schedule()).and_then(whole);
        let spacing = || match self.program {
            Program::WebUi => web_ui_spacing(sampler, schedule.is_some()),
            _ => None, // the checkpoint's own
        };
        let usual = || spacing().map(|spacing| format!("{sampler} {}", spacing_label(spacing)));
        Some(told.or_else(usual).unwrap_or_else(|| sampler.to_owned()))
    }

    /// Returns the name of the spacing of noise levels.
    fn schedule(&self) -> Option<&str> {
        self.field("Schedule type").or_else(|| self.field("Scheduler")) // Fooocus' name in a text of this format
    }

    /// Returns true if the program ignores the schedule type of the sampler.
    fn ignores_schedule(&self) -> bool {
        let timed = |sampler| solver::by_name(sampler).is_ok_and(|(solver, _)| has_timesteps(solver.name()));
        self.program == Program::WebUi && self.field("Sampler").is_some_and(timed)
    }

    /// Returns the schedule type if the sampler is known and the schedule type is not.
    pub(super) fn unknown_schedule(&self) -> Option<&str> {
        let (schedule, sampler) = (self.schedule()?, self.field("Sampler")?);
        let (_, named) = solver::by_name(sampler).ok()?;
        let is_known = is_automatic(schedule)
            || self.ignores_schedule()
            || solver::by_name(&format!("{sampler} {schedule}")).is_ok()
            || named.is_some() && sampler.ends_with(schedule);
        Some(schedule).filter(|_| !is_known)
    }

    /// Adds a field.
    pub(super) fn push(&mut self, name: &str, value: impl fmt::Display) {
        self.fields.push((name.into(), value.to_string()));
    }
}

/// Returns true for the schedule type that leaves the choice to the sampler.
const fn is_automatic(schedule: &str) -> bool {
    schedule.eq_ignore_ascii_case("Automatic")
}

/// Returns true for a solver that has its own timesteps in the web UI.
fn has_timesteps(solver: &str) -> bool {
    ["DDIM", "PLMS", "UniPC", "Uni PC bh2"].contains(&solver_label(solver))
}

/// Returns the spacing of a sampler in the web UI, with the schedule type "Automatic" or, in older texts, without a
/// schedule type. `None` for a spacing in the sampler's own name, and for samplers with their own timesteps.
fn web_ui_spacing(sampler: &str, is_automatic: bool) -> Option<Spacing> {
    let (solver, None) = solver::by_name(sampler).ok()? else { return None };
    match solver_label(solver.name()) {
        "LCM" | "TCD" => None,
        "DDIM" | "PLMS" => Some(Spacing::Leading),
        "UniPC" | "Uni PC bh2" => Some(Spacing::Linspace),
        "DPM++ 2M" | "DPM++ SDE" | "DPM++ 2S a" | "DPM2" | "DPM2 a" if is_automatic => Some(Spacing::Karras),
        "DPM++ 2M SDE" | "DPM++ 2M SDE Heun" | "DPM++ 3M SDE" if is_automatic => Some(Spacing::Exponential),
        _ => Some(Spacing::Normal),
    }
}

/// Returns true if a prompt contains the settings of a run, as after pasting a whole text of the web UI.
pub(super) fn has_settings(prompt: &str) -> bool {
    prompt.match_indices(STEPS).any(|(at, _)| {
        let rest = prompt.get(at + STEPS.len()..).unwrap_or_default().trim_start();
        let after = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
        after.len() < rest.len() && after.trim_start_matches([',', ' ']).starts_with("Sampler:")
    })
}

impl fmt::Display for Infotext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prompt)?;
        if !self.negative.is_empty() {
            write!(f, "\n{NEGATIVE} {}", self.negative)?;
        }
        let fields: Vec<String> = self.fields.iter().map(|(name, value)| format!("{name}: {}", quote(value))).collect();
        write!(f, "\n{}", fields.join(", "))
    }
}

/// Puts a value in quotes if it contains a comma, a colon or a line break, which would end the value early.
fn quote(value: &str) -> String {
    if value.contains([',', '\n', ':']) { serde_json::Value::from(value).to_string() } else { value.into() }
}

/// Returns the first `most` fields of a line: every match of
/// `\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)`.
fn fields(line: &str, most: usize) -> Vec<(String, String)> {
    let (mut fields, mut cursor) = (Vec::new(), Cursor::new(line));
    while cursor.peek().is_some() && fields.len() < most {
        cursor.take_while(char::is_whitespace); // consumed here, so that no space is read again
        match field(cursor.clone()) {
            Some((name, value, after)) => {
                fields.push((name, value));
                cursor = after;
            }
            None => drop(cursor.next()),
        }
    }
    fields
}

/// Largest number of fields of a text that are read. Texts of the web UI with many extensions have some sixty.
const MOST_FIELDS: usize = 1024;
/// Upper bound of the number of letters in a field's name.
const LONGEST_NAME: usize = 64;

/// Returns the field that begins at the cursor: its name, its value and the place after it.
fn field(mut cursor: Cursor<'_>) -> Option<(String, String, Cursor<'_>)> {
    let word = |letter: char| letter.is_alphanumeric() || letter == '_';
    // The bound keeps time linear: a text without colons would otherwise be scanned to its end from each letter.
    let mut left = LONGEST_NAME;
    let name = cursor.take_while(|letter| {
        left -= 1;
        left > 0 && (word(letter) || " -/".contains(letter))
    });
    if !name.starts_with(word) || name.chars().nth(1).is_none() || !cursor.take(":") {
        return None;
    }
    cursor.take_while(char::is_whitespace);
    let mut quoted = cursor.clone();
    if let Some(value) = in_quotes(&mut quoted) {
        return Some((name.into(), value, quoted));
    }
    let value = cursor.take_while(|letter| letter != ',').to_owned();
    cursor.take(",");
    Some((name.into(), value, cursor))
}

/// Returns the quoted value that begins at the cursor and ends at a comma or at the end of the text.
fn in_quotes(cursor: &mut Cursor<'_>) -> Option<String> {
    let text = cursor.rest();
    if !cursor.take("\"") {
        return None;
    }
    let mut escaped = false;
    let inside = cursor.take_while(|letter| {
        let ends = letter == '"' && !escaped;
        escaped = letter == '\\' && !escaped;
        !ends
    });
    let is_whole = cursor.take("\"") && (cursor.take(",") || cursor.peek().is_none());
    let quoted = text.get(..inside.len() + 2).filter(|_| is_whole)?; // both quotes
    Some(json::parse(quoted).unwrap_or_else(|_| quoted.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::cursor::count::assert_linear;

    fn field<'a>(info: &'a Infotext, name: &str) -> &'a str {
        info.field(name).unwrap_or_else(|| panic!("{name} in {info:?}"))
    }

    #[test]
    fn text_of_the_web_ui_is_parsed() {
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
    fn parsing_takes_linear_time() {
        let pieces = ["x ", " ", "a: ", "aa: ", "aa: \"", "aa: \"x\",", "aa: \"b,", "\"", "\\\"", ",", "ab", "-/", "é"];
        assert_linear("infotext", &pieces, |text| {
            let line = format!("a\nSteps: 2, Seed: 1, Size: 8x8, {text}");
            assert!(Infotext::parse(&line).fields.len() >= 3);
        });
    }

    #[test]
    fn number_of_fields_is_bounded() {
        let (in_a_line, settings) = ("aa: b,".repeat(100_000), "a cat\nSteps: 1, Seed: 2, Size: 8x8");
        for more in ["\naa: b, cc: d".repeat(2_000), "\nTemplate: x".repeat(2_000), "\nabc".repeat(2_000)] {
            for text in
                [format!("a cat\n{in_a_line}"), format!("{settings}{more}"), format!("{settings}, {in_a_line}{more}")]
            {
                let info = Infotext::parse(&text);
                assert_eq!((info.prompt.as_str(), info.fields.len()), ("a cat", MOST_FIELDS));
            }
        }
    }

    #[test]
    fn prompt_keeps_its_line_breaks() {
        let info = Infotext::parse(
            "a house,\n  by the sea\n\nBREAK red roof\nNegative prompt: people,\ncars\nSteps: 20, Sampler: Euler, Seed: 1\n",
        );
        assert_eq!(info.prompt, "a house,\nby the sea\n\nBREAK red roof");
        assert_eq!(info.negative, "people,\ncars");
        assert_eq!(info.fields.len(), 3);
    }

    #[test]
    fn lines_after_the_fields_are_fields() {
        let text = "1girl\nNegative prompt: hat\nSteps: 12, Sampler: Euler a, Seed: 77, Version: v1.5.1\n";
        let info = Infotext::of_web_ui(&format!(
            "{text}Template: 1girl, {{gold|blue}} eyes\nNegative Template: hat,\n\nred: x"
        ));
        assert_eq!((info.prompt.as_str(), info.negative.as_str(), info.fields.len()), ("1girl", "hat", 6));
        assert_eq!((field(&info, "Seed"), field(&info, "Template")), ("77", "1girl, {gold|blue} eyes"));
        assert_eq!(field(&info, "Negative Template"), "hat,\n\nred: x");
        let info = Infotext::of_web_ui(&format!(
            "{text}\nPostprocess upscale by: 4, Postprocess upscaler: R-ESRGAN\nSeed: 1, a: b"
        ));
        assert_eq!((info.negative.as_str(), field(&info, "Postprocess upscale by")), ("hat", "4"));
        assert_eq!(field(&info, "Seed"), "77");
        let info = Infotext::of_web_ui(&format!("{text}Template: x\ny\nPostprocess upscale by: 4\nmade by hand"));
        assert_eq!((field(&info, "Template"), field(&info, "Postprocess upscale by")), ("x\ny", "4"));
        assert_eq!(field(&info, "Text after the settings"), "made by hand");
        let info = Infotext::of_web_ui("1girl\nSteps: 12, Sampler: Euler a, Seed: 77\nNegative prompt: hat,\nbow");
        assert_eq!((info.prompt.as_str(), info.negative.as_str()), ("1girl", "hat,\nbow"));
        // A word before a colon makes no line of fields.
        let info = Infotext::of_web_ui("Steps: 1, a: b, c: d\nSteps: 12, Sampler: Euler a, Seed: 77\nhat");
        assert_eq!((info.prompt.as_str(), field(&info, "Steps")), ("Steps: 1, a: b, c: d", "12"));
    }

    #[test]
    fn automatic_schedule_is_the_samplers_own() {
        let sampler = |fields: &str| {
            Infotext::of_web_ui(&format!("a cat\nSteps: 12, {fields}, Seed: 77")).sampler().unwrap_or_default()
        };
        // The table of stable-diffusion-webui 1.9 and 1.10.
        for (name, spacing) in [
            ("DPM++ 2M", "Karras"),
            ("DPM++ SDE", "Karras"),
            ("DPM++ 2S a", "Karras"),
            ("DPM2", "Karras"),
            ("DPM2 a", "Karras"),
            ("DPM++ 2M SDE", "Exponential"),
            ("DPM++ 2M SDE Heun", "Exponential"),
            ("DPM++ 3M SDE", "Exponential"),
            ("Euler", "Normal"),
            ("Euler a", "Normal"),
            ("LMS", "Normal"),
            ("Heun", "Normal"),
            ("DDIM", "Leading"),
            ("PLMS", "Leading"),
        ] {
            assert_eq!(sampler(&format!("Sampler: {name}, Schedule type: Automatic")), format!("{name} {spacing}"));
            // Older versions have no field, and all samplers of k-diffusion had the same spacing.
            let old = if spacing == "Leading" { "Leading" } else { "Normal" };
            assert_eq!(sampler(&format!("Sampler: {name}")), format!("{name} {old}"));
        }
        // These samplers ignore the schedule type.
        for (name, spacing) in [("DDIM", "Leading"), ("PLMS", "Leading"), ("UniPC", "Linspace")] {
            assert_eq!(sampler(&format!("Sampler: {name}, Schedule type: Karras")), format!("{name} {spacing}"));
        }
        assert_eq!(sampler("Sampler: UniPC, Schedule type: Karras, Version: impasto 0.1.0"), "UniPC Karras");
        assert_eq!(sampler("Sampler: DPM++ 2M, Schedule type: Turbo"), "DPM++ 2M Karras");
        assert_eq!(sampler("Sampler: LCM, Schedule type: Automatic"), "LCM");
        for told in ["DPM++ 2M Karras", "DPM++ 2M SDE Exponential"] {
            assert_eq!(sampler(&format!("Sampler: {told}")), told);
            assert_eq!(sampler(&format!("Sampler: {told}, Schedule type: Automatic")), told);
        }
        assert_eq!(sampler("Sampler: Euler a, Schedule type: SGM Uniform"), "Euler a SGM Uniform");
        assert_eq!(sampler("Sampler: DPM fast, Schedule type: Automatic"), "DPM fast");
        assert_eq!(sampler("Sampler: Euler, Version: impasto 0.1.0"), "Euler");
        assert_eq!(sampler("Size: 8x8"), "");
    }

    #[test]
    fn colors_of_other_programs_are_plain_text() {
        let read = |version: &str| {
            let info = Infotext::of_web_ui(&format!("#f00 hat\nSteps: 12, Seed: 77, Version: {version}"));
            (info.request_prompt(), info.prompt)
        };
        assert_eq!(read("v1.9.3"), (r"\#f00 hat".into(), "#f00 hat".into()));
        assert_eq!(read("impasto 0.1.0"), ("#f00 hat".into(), "#f00 hat".into()));
    }

    #[test]
    fn pasted_settings_are_found() {
        for pasted in ["a cat Steps: 20, Sampler: Euler a, CFG scale: 7", "x,Steps:9,Sampler: DDIM"] {
            assert!(has_settings(pasted), "{pasted}");
        }
        for prompt in ["a cat on Steps: stone", "Steps: 20, stairs", "Sampler: Euler", "Steps: Sampler:"] {
            assert!(!has_settings(prompt), "{prompt}");
        }
    }

    #[test]
    fn quoted_values_may_contain_commas_and_colons() {
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
}
