//! Rules of CONTRIBUTING's "Plain English" that a program can check, for every source file of the workspace.

use std::fs;
use std::path::{Path, PathBuf};

/// Words that begin a fragment where a doc comment should name a thing or say what a function does.
const FRAGMENTS: &[&str] = &[
    "What", "Whose", "Who", "Which", "That", "Those", "These", "Of", "As", "And", "Or", "But", "Where", "When",
    "Whenever", "If", "How", "With", "Without", "To", "For", "Likewise", "In", "On", "By", "From", "At", "Is", "Are",
    "Has", "Have", "Does", "Do", "Can", "So", "It", "Its", "They", "Also", "Else", "Not", "Whether", "Whoever",
    "Somebody", "Nobody",
];
/// Phrases that no comment may contain: they name nothing, or are not terms of the field.
const BANNED: &[&str] = &["guidances", "whoever", "somebody", "nobody", "that one", "this one", "whatever"];
/// Longest name of a test.
const LONGEST_NAME: usize = 50;
/// Greatest width in columns of a line with a comment, equal to rustfmt's width of code.
const WIDTH: usize = 120;

/// Largest number of functions in src whose name begins with a participle. A function that does work begins with a
/// verb. This number may only go down.
const PARTICIPLES: usize = 205;
/// Participles that do not end in "ed" or "ing".
const IRREGULAR: &[&str] = &[
    "begun",
    "built",
    "chosen",
    "drawn",
    "found",
    "given",
    "grown",
    "heard",
    "held",
    "hidden",
    "kept",
    "known",
    "led",
    "left",
    "lost",
    "made",
    "meant",
    "met",
    "said",
    "seen",
    "sent",
    "shown",
    "sought",
    "stuck",
    "sunk",
    "taken",
    "thought",
    "told",
    "torn",
    "understood",
    "woven",
    "written",
];
/// Words that end like a participle and are none.
const NO_PARTICIPLES: &[&str] =
    &["embed", "embedding", "exceed", "need", "seed", "speed", "string", "thing", "training"];

/// Every Rust file of the workspace.
fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut folders: Vec<_> = ["src", "tests", "benches", "examples", "crates", "fuzz/src", "fuzz/fuzz_targets"]
        .map(|name| root.join(name))
        .into();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "rs" => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

/// Returns the text of the comment in a line, if there is a comment. Slashes after an odd number of quotes are part of
/// a string, and no comment.
fn comment(line: &str) -> Option<&str> {
    let at = line.find("//").filter(|at| line[..*at].trim().is_empty() || line[..*at].ends_with(' '))?;
    let before = &line[..at];
    before.matches('"').count().is_multiple_of(2).then(|| line[at..].trim_start_matches(['/', '!']).trim_start())
}

/// True if the text begins with a word of the list.
fn begins_with_fragment(text: &str) -> bool {
    let first = text.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default();
    FRAGMENTS.contains(&first) || text.starts_with("The same ")
}

fn has_banned_phrase(text: &str) -> Option<&'static str> {
    let text = format!(" {} ", text.to_lowercase().replace(|letter: char| !letter.is_alphanumeric(), " "));
    BANNED.iter().copied().find(|phrase| text.contains(&format!(" {phrase} ")))
}

/// Returns the violations in one file, as `line: rule: text`.
fn violations(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut in_doc, mut in_code, mut test) = (false, false, false);
    for (number, line) in source.lines().enumerate() {
        let mut say = |rule: &str| found.push(format!("{}: {rule}: {}", number + 1, line.trim()));
        let trimmed = line.trim_start();
        let doc = trimmed.starts_with("/// ") || trimmed.starts_with("//! ") || ["///", "//!"].contains(&trimmed);
        let text = comment(line);
        if let Some(text) = text.filter(|_| doc) {
            in_code ^= text.starts_with("```");
            if !in_doc && begins_with_fragment(text) {
                say("a doc comment begins with a fragment");
            }
        }
        in_code &= doc;
        in_doc = doc;
        if let Some(text) = text.filter(|_| !in_code) {
            if let Some(phrase) = has_banned_phrase(text) {
                say(&format!("\"{phrase}\""));
            }
            if line.chars().count() > WIDTH {
                say(&format!("more than {WIDTH} columns"));
            }
        }
        test |= trimmed.starts_with("#[test]") || trimmed.starts_with("#[tokio::test]");
        if let Some(name) = trimmed.split("fn ").nth(1).filter(|_| test && !trimmed.starts_with("//")) {
            let name = name.split('(').next().unwrap_or_default();
            if name.len() > LONGEST_NAME {
                say(&format!("a test's name has more than {LONGEST_NAME} letters"));
            }
            test = false;
        }
    }
    found
}

#[test]
fn comments_and_test_names_are_plain_english() {
    let files = sources();
    assert!(files.len() > 100, "{} files", files.len());
    let mut all = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file).expect("a source file");
        all.extend(violations(&source).into_iter().map(|violation| format!("{}:{violation}", file.display())));
    }
    assert!(all.is_empty(), "{} violations\n{}", all.len(), all.join("\n"));
}

/// Returns the names of a source's functions that begin with a participle, without those of its tests.
fn participles(source: &str) -> Vec<&str> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
    let functions = lines.filter_map(|line| {
        let (before, after) = line.split_once("fn ")?;
        let is_item =
            before.split_whitespace().all(|word| word.starts_with("pub") || ["const", "unsafe"].contains(&word));
        after.split(['(', '<']).next().filter(|_| is_item)
    });
    let is_participle = |name: &&str| {
        let first = name.split('_').next().unwrap_or_default();
        let regular = (first.ends_with("ed") || first.ends_with("ing")) && !NO_PARTICIPLES.contains(&first);
        regular || IRREGULAR.contains(&first)
    };
    functions.filter(is_participle).collect()
}

#[test]
fn fewer_functions_begin_with_a_participle() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources().into_iter().filter(|file| file.starts_with(&own) && !file.ends_with("tests.rs"));
    let read = |file: PathBuf| fs::read_to_string(file).expect("a source file");
    let count: usize = files.map(|file| participles(&read(file)).len()).sum();
    assert!(count <= PARTICIPLES, "{count} names of functions begin with a participle; begin a new name with a verb");
    assert!(count == PARTICIPLES, "only {count} are left: set PARTICIPLES to that number");
}

#[test]
fn participles_are_found() {
    let source =
        "fn painted() {}\n    pub(crate) const fn seen<T>() {}\nfn paint() {}\n// fn drawn() {}\nfn seeded() {}";
    assert_eq!(participles(source), ["painted", "seen", "seeded"]);
    assert!(participles("#[cfg(test)]\nmod tests {\nfn painted() {}").is_empty());
}

#[test]
fn violations_are_found() {
    let bad = [
        ("/// Whose rounding.", "fragment"),
        ("//! The same in sRGB.", "fragment"),
        ("let x = 1; // Somebody asks twice.", "somebody"),
        ("/// Sums that guidances read.", "guidances"),
        (
            concat!("#[test]\nfn a_long_second_prompt_is_in_the_way_of_", "neither_blends_nor_guides() {"),
            "more than 50",
        ),
    ];
    for (source, rule) in bad {
        let found = violations(source);
        assert!(found.len() == 1 && found[0].contains(rule), "{source}: {found:?}");
    }
    let long = format!("// {}", "word ".repeat(30));
    assert_eq!(violations(&long).len(), 1);
    let good = "/// The noise schedule of a run.\n/// Where it ends, σ is 0.\nlet url = \"https://whoever\"; // Bytes.";
    assert_eq!(violations(good), [""; 0]);
}
