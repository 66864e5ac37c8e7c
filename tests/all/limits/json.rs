//! JSON of strangers: parsed by one function, in little memory.

use crate::shipped::shipped;
use impasto::json;
use impasto::pipeline::Infotext;
use proc_macro2::{TokenStream, TokenTree};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Memory that the values of one text may take, beside the letters of its strings.
const MOST: u64 = 64 << 20;
/// Name of the case of an object with many fields.
const FIELDS: &str = "fields";
/// Pieces of text that take much memory for their length.
const PIECES: [&str; 8] = ["0", "null", "[]", "[0]", "{}", "{\"\":0}", "\"\"", "\"a\""];

#[test]
fn parsed_values_take_little_memory() {
    let text = |piece: &str, count: usize| match piece {
        FIELDS => {
            let fields: String = (0..count).map(|name| format!("\"{name}\":0,")).collect();
            format!("{{{fields}\"\":0}}")
        }
        _ => format!("[{}0]", format!("{piece},").repeat(count)),
    };
    for piece in [FIELDS].into_iter().chain(PIECES) {
        let (mut count, mut most) = (1 << 10, 0);
        loop {
            let text = text(piece, count);
            let mut read = None;
            let work = allocation_counter::measure(|| read = Some(json::parse::<Value>(&text)));
            let letters = text.len() as u64;
            assert!(work.bytes_max <= MOST + letters, "{piece} × {count}: {} bytes", work.bytes_max);
            match read {
                Some(Ok(_)) => most = count,
                _ => {
                    assert!(work.bytes_max < 1 << 12, "{piece} × {count} was refused late: {work:?}");
                    break;
                }
            }
            count += count / 4;
        }
        assert!(most > 50_000, "{piece}: {most} of them are too many");
    }
}

#[test]
fn embedded_and_published_files_are_no_bombs() {
    // The vocabulary and the merges of CLIP, in the wordy form in which new versions of `tokenizers` write them.
    let vocabulary: String = (0..49_408).map(|id| format!("      \"token{id}</w>\": {id},\n")).collect();
    let merges = "      [\n        \"tok\",\n        \"en</w>\"\n      ],\n".repeat(48_894);
    let text = format!("{{ \"vocab\": {{\n{vocabulary}\"\": 0 }}, \"merges\": [\n{merges}[]] }}");
    assert!(text.len() > 3 << 20 && json::parse::<Value>(text).is_ok());
    // The header of a file with ten thousand tensors.
    let entry = "\"F16\",\"shape\":[1280,1280,3,3],\"data_offsets\":[0,29491200]";
    let entries: String = (0..10_000).map(|name| format!("\"{name}.weight\":{{\"dtype\":{entry}}},")).collect();
    assert!(json::parse::<Value>(format!("{{{entries}\"__metadata__\":{{}}}}")).is_ok());
}

#[test]
fn text_that_many_nodes_share_is_read_once() {
    // The ways of 250 text encoders and 250 LoRAs end at one text of a MiB.
    let encoders: String = (0..250).map(|id| format!(r#""e{id}": {{"inputs": {{"text": ["text", 0]}}}}, "#)).collect();
    let union: String = (0..250).map(|id| format!(r#", "c{id}": ["e{id}", 0]"#)).collect();
    let loras: String = (0..250)
        .map(|id| format!(r#""l{id}": {{"inputs": {{"lora_name": ["text", 0], "model": ["l{}", 0]}}}}, "#, id + 1))
        .collect();
    let graph = format!(
        r#"{{{encoders}{loras}"u": {{"inputs": {{"x": 0{union}}}}}, "text": {{"inputs": {{"value": "{}"}}}}, "1": {{"class_type":
        "KSampler", "inputs": {{"sampler_name": "euler", "steps": 1, "positive": ["u", 0], "model": ["l0", 0]}}}}}}"#,
        "a".repeat(1 << 20)
    );
    let texts = [("prompt".to_owned(), graph)];
    let mut info = None;
    let work = allocation_counter::measure(|| info = Infotext::of(&texts));
    assert_eq!(info.expect("a known text").prompt.len(), 1 << 20);
    assert!(work.bytes_max < 16 << 20, "{work:?}");
}

/// Lists the Rust files of a folder.
fn sources(folder: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let list = |path: PathBuf| if path.is_dir() { sources(path) } else { vec![path] };
    entries.flat_map(list).filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// Returns true if the tokens name a function of `serde_json` that parses a text without a limit.
fn parses(tokens: TokenStream) -> bool {
    let parsers = ["from_str", "from_slice", "from_reader"];
    let is_name = |token: &TokenTree| parsers.contains(&token.to_string().as_str());
    let is_parser = |token: &TokenTree| match token {
        TokenTree::Group(names) => names.stream().into_iter().any(|token| is_name(&token)),
        name => is_name(name),
    };
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let named = tokens.windows(4).any(|path| path[0].to_string() == "serde_json" && is_parser(&path[3]));
    named || tokens.into_iter().any(|token| matches!(token, TokenTree::Group(group) if parses(group.stream())))
}

#[test]
fn json_is_parsed_within_limits_everywhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "crates/impasto-cli/src", "crates/impasto-studio/src", "crates/impasto-report/src"];
    for path in folders.into_iter().flat_map(|folder| sources(root.join(folder))) {
        if path.ends_with("src/json.rs") || path.ends_with("tests.rs") {
            continue;
        }
        let code = shipped(fs::read_to_string(&path).expect("a file").parse().expect("tokens"));
        assert!(!parses(code), "{} parses JSON by serde_json; expected json::parse", path.display());
    }
    for code in ["fn f() { g(serde_json::from_str::<u8>(x)) }", "use serde_json::{Value, from_slice};"] {
        assert!(parses(code.parse().expect("tokens")), "{code}");
    }
    assert!(!parses("serde_json::from_value(x); u8::from_str(x)".parse().expect("tokens")));
}
