//! Describes checkpoints without loading them: `cargo run --example info -- model.safetensors folder …`
//!
//! Each `.safetensors` file is printed with its kind, its prediction type and the reason for it, its parts, and its
//! metadata.

use impasto::Result;
use impasto::weights::{Contents, Header, SingleFile};
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let mut paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if paths.is_empty() {
        paths.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model"));
    }
    for file in paths.iter().flat_map(|path| files(path)) {
        if let Err(error) = describe(&file) {
            println!("{error}"); // the error names the file
        }
    }
    Ok(())
}

/// Returns the file itself, or all safetensors files below a folder.
fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.into()];
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut inside: Vec<PathBuf> = entries.flat_map(|entry| files(&entry)).collect();
    inside.retain(|file| file.extension().is_some_and(|extension| extension == "safetensors"));
    inside.sort();
    inside
}

fn describe(path: &Path) -> Result<()> {
    let file = SingleFile::open(path)?;
    let header = file.header();
    println!("{}: {}", header.file, numbers(header));
    if let Some(class) = class(path) {
        println!("  is a part of a folder: {class}");
        return Ok(());
    }
    let contents = match file.contents() {
        Ok(contents) => contents,
        Err(error) => {
            println!("  {}", error.to_string().trim_start_matches(&header.file).trim_start_matches(": "));
            return Ok(());
        }
    };
    println!("  is {contents}");
    if let Contents::Model { .. } = contents {
        println!("  prediction: {}", file.prediction()?.because);
        for part in ["unet", "vae", "text_encoder", "text_encoder_2"] {
            match file.part(part)? {
                Some(tensors) => println!("  {part}: {}", numbers(&Header::of(part, &tensors))),
                None => println!("  {part}: none"),
            }
        }
    }
    for (name, value) in &header.metadata {
        println!("  {name}: {}", value.chars().take(100).collect::<String>());
    }
    Ok(())
}

/// Returns the class that `config.json` beside a file names.
fn class(path: &Path) -> Option<String> {
    let text = std::fs::read(path.with_file_name("config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let class = config.get("_class_name").or_else(|| config.get("architectures")?.get(0))?;
    class.as_str().map(str::to_owned)
}

/// Describes the tensors of a file: `686 tensors, 859.5 million numbers in Half`.
fn numbers(header: &Header) -> String {
    let count: i64 = header.tensors.values().map(|stored| stored.shape.iter().product::<i64>()).sum();
    let mut kinds: Vec<String> = header.tensors.values().map(|stored| format!("{:?}", stored.kind)).collect();
    kinds.sort();
    kinds.dedup();
    format!("{} tensors, {:.1} million numbers in {}", header.tensors.len(), count as f64 / 1e6, kinds.join(", "))
}
