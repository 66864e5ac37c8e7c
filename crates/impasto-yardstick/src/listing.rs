//! Prompts from files: the user's own list, or those of GenColorBench.

use crate::random::Rng;
use crate::task::{Asked, LABEL, Task};
use csv::{Reader, ReaderBuilder, StringRecord};
use impasto::Rgb;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A prompt of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The prompt without words for the asked colors.
    pub prompt: String,
    /// Phrases that can be named in the picture. Tasks about one part ask for the first phrase.
    pub phrases: Vec<String>,
    /// The task and the asked colors, if the file has them.
    pub fixed: Option<(Task, Vec<Asked>)>,
    /// The prompt with its words for colors.
    pub worded: Option<String>,
}

/// The prompts for checkpoints without a suite: people, an anime portrait, cars, rooms, fruit and streets.
pub fn usual() -> Result<Vec<Listed>, String> {
    list("the usual prompts", include_str!("prompts.csv"))
}

/// Prompts for single objects on white, as in papers about exact colors.
pub fn objects() -> Result<Vec<Listed>, String> {
    list("the objects", include_str!("objects.csv"))
}

/// Reads a file of lines `prompt,phrase,other phrase,…`.
pub fn own(file: &Path) -> Result<Vec<Listed>, String> {
    list(&file.display().to_string(), &text(file)?)
}

fn text(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn list(name: &str, text: &str) -> Result<Vec<Listed>, String> {
    let mut all: Vec<Listed> = Vec::new();
    let mut rows =
        ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
    for row in rows.records() {
        let row = row.map_err(|error| format!("{name}: {error}"))?;
        let line = row.position().map_or(0, csv::Position::line);
        let mut cells = row.iter().map(str::to_owned);
        let prompt = cells.next().filter(|prompt| !prompt.is_empty());
        let prompt = prompt.ok_or_else(|| format!("{name}, line {line}, column 1: the prompt is missing"))?;
        if line == 1 && prompt == "prompt" {
            continue;
        }
        let phrases: Vec<String> = cells.collect();
        if phrases.first().is_none_or(String::is_empty) {
            return Err(format!(
                "{name}, line {line}, column 2: the phrase is missing; expected prompt,phrase,other phrases"
            ));
        }
        for (number, phrase) in phrases.iter().enumerate() {
            let column = number + 2;
            if phrase.is_empty() || phrases[..number].contains(phrase) {
                let problem =
                    if phrase.is_empty() { "the phrase is empty" } else { "the phrase is repeated; name it once" };
                return Err(format!("{name}, line {line}, column {column}: {problem}"));
            }
            if !prompt.contains(phrase.as_str()) {
                return Err(format!(
                    "{name}, line {line}, column {column}: phrase \"{phrase}\" is not in \"{prompt}\""
                ));
            }
        }
        if all.iter().any(|known| known.prompt == prompt) {
            return Err(format!("{name}, line {line}, column 1: the prompt \"{prompt}\" is there twice; name it once"));
        }
        all.push(Listed { prompt, phrases, fixed: None, worded: None });
    }
    if all.is_empty() { Err(format!("{name}: the file has no prompts")) } else { Ok(all) }
}

/// Reads portraits in tags, one a line. Each portrait must have all these parts.
pub fn portraits(file: &Path, parts: &[String]) -> Result<Vec<String>, String> {
    let name = file.display();
    let mut prompts: Vec<String> = Vec::new();
    for (line, prompt) in text(file)?.lines().enumerate().map(|(line, prompt)| (line + 1, prompt.trim())) {
        if prompt.is_empty() {
            return Err(format!("{name}, line {line}, column 1: the prompt is missing"));
        }
        if prompts.iter().any(|known| known == prompt) {
            return Err(format!("{name}, line {line}, column 1: the prompt \"{prompt}\" is there twice; name it once"));
        }
        for part in parts {
            let tag =
                |tag: &str| tag == part || tag.strip_suffix(part.as_str()).is_some_and(|rest| rest.ends_with(' '));
            if !prompt.split(", ").any(tag) {
                let end = prompt.chars().count() + 1;
                return Err(format!("{name}, line {line}, column {end}: phrase \"{part}\" is not in \"{prompt}\""));
            }
        }
        prompts.push(prompt.to_owned());
    }
    if prompts.is_empty() { Err(format!("{name}: the file has no prompts")) } else { Ok(prompts) }
}

/// Reads the prompts of GenColorBench from all CSV files in a folder and below it, and shuffles them.
///
/// A color without numbers in its own row takes them from a row `color_name, r, g, b` in a file of the same level. The
/// level is `l1`, `l2` or `l3` if the file's name ends in it, and `css` otherwise. A color that no such row has must be
/// a CSS keyword.
pub fn gencolorbench(folder: &Path) -> Result<Vec<Listed>, String> {
    let mut files = Vec::new();
    csv_files(folder, &mut files)?;
    let tables = files.iter().map(|file| Table::read(file)).collect::<Result<Vec<_>, _>>()?;
    let mut colors: HashMap<(&str, String), Rgb> = HashMap::new();
    for table in &tables {
        for row in &table.rows {
            if let (Some(name), Some(rgb)) = (table.cell(row, "color_name"), table.rgb(row)?) {
                let _ = colors.insert((table.level, name.to_lowercase()), rgb);
            }
        }
    }
    let mut all = Vec::new();
    for table in &tables {
        for row in &table.rows {
            all.extend(table.listed(row, &colors)?);
        }
    }
    if all.is_empty() {
        return Err(format!(
            "gencolorbench {}: no CSV file in this folder has prompts with objects and colors",
            folder.display()
        ));
    }
    Rng::new(&format!("{LABEL}/gencolorbench")).shuffle(&mut all);
    Ok(all)
}

fn csv_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("gencolorbench {}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            csv_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "csv") {
            files.push(path);
        }
    }
    Ok(())
}

/// A CSV file whose first row names the columns.
struct Table {
    name: String,
    /// Level of the file's color names: `l1`, `l2`, `l3` or `css`.
    level: &'static str,
    columns: HashMap<String, usize>,
    rows: Vec<StringRecord>,
}

impl Table {
    fn read(file: &Path) -> Result<Self, String> {
        let name = file.display().to_string();
        let wrong = |error: csv::Error| format!("{name}: {error}");
        let mut reader = Reader::from_path(file).map_err(wrong)?;
        let columns =
            reader.headers().map_err(wrong)?.iter().enumerate().map(|(i, name)| (name.to_owned(), i)).collect();
        let rows = reader.records().collect::<Result<_, _>>().map_err(wrong)?;
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let level = ["l1", "l2", "l3"].into_iter().find(|level| stem.ends_with(level)).unwrap_or("css");
        Ok(Self { name, level, columns, rows })
    }

    /// The text in a column; `None` if the cell is empty or missing.
    fn cell<'a>(&self, row: &'a StringRecord, column: &str) -> Option<&'a str> {
        row.get(*self.columns.get(column)?).filter(|cell| !cell.is_empty())
    }

    fn place(&self, row: &StringRecord) -> String {
        format!("{}, line {}", self.name, row.position().map_or(0, csv::Position::line))
    }

    fn rgb(&self, row: &StringRecord) -> Result<Option<Rgb>, String> {
        let [Some(r), Some(g), Some(b)] = ["r", "g", "b"].map(|channel| self.cell(row, channel)) else {
            return Ok(None);
        };
        match [r, g, b].map(str::parse::<u8>) {
            [Ok(r), Ok(g), Ok(b)] => Ok(Some(Rgb(r, g, b))),
            _ => Err(format!("{}: r, g, b are {r}, {g}, {b}; expected whole numbers of 0..=255", self.place(row))),
        }
    }

    /// The prompt of a row; `None` for a row that asks for nothing.
    fn listed(&self, row: &StringRecord, colors: &HashMap<(&str, String), Rgb>) -> Result<Option<Listed>, String> {
        let cell = |column: &str| self.cell(row, column);
        let Some(prompt) = cell("prompt") else { return Ok(None) };
        let color = cell("color").or_else(|| cell("color_name"));
        let things: Vec<(&str, &str)> = match (color, cell("main_obj"), cell("object"), cell("ref_object")) {
            (Some(color), Some(thing), ..) | (Some(color), _, Some(thing), None) => vec![(thing, color)],
            (Some(color), _, Some(thing), Some(other)) => vec![(thing, color), (other, color)],
            _ => {
                let pair = |n: usize| Some((cell(&format!("object{n}"))?, cell(&format!("color{n}"))?));
                (1..).map_while(pair).collect()
            }
        };
        if things.is_empty() {
            return Ok(None);
        }
        let own = self.rgb(row)?;
        let mut asked = Vec::new();
        let mut plain = prompt.to_owned();
        for (thing, color) in &things {
            let known = own.or_else(|| colors.get(&(self.level, color.to_lowercase())).copied());
            let rgb = known.or_else(|| color.replace(' ', "").to_lowercase().parse().ok()).ok_or_else(|| {
                let place = self.place(row);
                format!(
                    "{place}: no file of the folder gives the RGB numbers of \"{color}\" (columns color_name, r, g, b)"
                )
            })?;
            let words = [(*color).to_owned(), format!("rgb({}, {}, {})", rgb.0, rgb.1, rgb.2)];
            let words = words.iter().map(String::as_str).chain(cell("hex"));
            let bare = words.fold(plain.clone(), |prompt, word| without(&prompt, word, thing));
            // The words "of the same color" say the color of the second object.
            let said = asked.is_empty() || cell("ref_object").is_none();
            if said && bare == plain {
                return Err(format!("{}: \"{prompt}\" does not say that \"{thing}\" is {color}", self.place(row)));
            }
            plain = bare;
            asked.push(Asked { part: (*thing).to_owned(), rgb });
        }
        let task = match asked.len() {
            1 if cell("main_obj").is_some() => Task::Binding,
            1 if own.is_some() => Task::Numeric,
            1 => Task::Named,
            _ if cell("ref_object").is_some() => Task::Same,
            _ => Task::Many,
        };
        let beside = cell("sec_obj").filter(|beside| plain.contains(*beside)).map(str::to_owned);
        let phrases = asked.iter().map(|asked| asked.part.clone()).chain(beside).collect();
        if let Some(missing) = asked.iter().find(|asked| !plain.contains(&asked.part)) {
            return Err(format!("{}: phrase \"{}\" is not in \"{plain}\"", self.place(row), missing.part));
        }
        Ok(Some(Listed { prompt: plain, phrases, fixed: Some((task, asked)), worded: Some(prompt.to_owned()) }))
    }
}

/// Words that GenColorBench puts around a color after its object, the longest first.
const AROUND: [(&str, &str); 14] = [
    (" rendered in RGB color ", ""),
    (" rendered entirely in ", ""),
    (" that is entirely ", ""),
    (" with hex color ", ""),
    (" with the color ", ""),
    (", and it's ", ""),
    (" rendered in ", " color"),
    (" designed in ", " color"),
    (" in hex color ", ""),
    (" in the color ", ""),
    (" with a ", " color"),
    (" with color ", ""),
    (" in color ", ""),
    (" in a ", " color"),
];

/// Removes a color that a prompt says of an object.
fn without(prompt: &str, color: &str, thing: &str) -> String {
    let before = [format!("{color} colored {thing}"), format!("{color}-colored {thing}"), format!("{color} {thing}")];
    if let Some(said) = before.iter().find(|said| prompt.contains(said.as_str())) {
        return prompt.replacen(said.as_str(), thing, 1);
    }
    let others = [(" in hex ", ""), (" colored ", ""), (" is ", ""), (" in ", "")];
    let after = AROUND.iter().chain(&others).map(|(left, right)| format!("{thing}{left}{color}{right}"));
    let said = after.into_iter().find(|said| prompt.contains(said.as_str()));
    said.map_or(prompt.to_owned(), |said| prompt.replacen(&said, thing, 1))
}
