//! `impasto info`: descriptions of models, files of weights, and PNGs with a recipe.

use crate::console::{self, print};
use crate::failure::Failure;
use crate::files::texts;
use crate::wording::Terminal;
use clap::Args;
use impasto::Raster;
use impasto::weights::{Contents, Header, SingleFile};
use std::path::{Path, PathBuf};

/// Arguments of `impasto info`.
#[derive(Args, Debug)]
pub struct Info {
    /// Folders of models, .safetensors files, or PNGs.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

/// Describes each path without loading a model.
pub fn info(arguments: &Info) -> Result<(), Failure> {
    let mut failed = false;
    for file in arguments.paths.iter().flat_map(|path| files(path)) {
        match if is_png(&file) { describe_png(&file) } else { describe_weights(&file) } {
            Ok(()) => {}
            Err(Failure::Closed) => return Err(Failure::Closed),
            Err(failure) => {
                console::tell(failure); // The message names the file.
                failed = true;
            }
        }
    }
    if failed { Err(Failure::Message("some files could not be described".into())) } else { Ok(()) }
}

fn is_png(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"))
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

/// Prints the size of a PNG, and the text about its run that other programs read too.
fn describe_png(path: &Path) -> Result<(), Failure> {
    let texts = texts(path)?;
    print(format_args!("{}: {}", path.display(), Raster::open(path)?.size()))?;
    match texts.iter().find(|(keyword, _)| keyword == "parameters") {
        Some((_, text)) => text.lines().try_for_each(|line| print(format_args!("  {line}"))),
        None => print("  has no recipe"),
    }
}

/// Prints the kind of a file of weights, its parts and its metadata.
fn describe_weights(path: &Path) -> Result<(), Failure> {
    let file = SingleFile::open(path)?;
    let header = file.header();
    print(format_args!("{}: {}", header.file, numbers(header)))?;
    if let Some(class) = class(path) {
        return print(format_args!("  is a part of a model's folder: {class}"));
    }
    let contents = match file.contents() {
        Ok(contents) => contents,
        Err(error) => {
            let error = error.worded(&Terminal);
            return print(format_args!("  {}", error.trim_start_matches(&header.file).trim_start_matches(": ")));
        }
    };
    print(format_args!("  is {contents}"))?;
    if let Contents::Model { .. } = contents {
        print(format_args!("  prediction: {}", file.prediction()?.because))?;
        for part in ["unet", "vae", "text_encoder", "text_encoder_2"] {
            match file.part(part)? {
                Some(tensors) => print(format_args!("  {part}: {}", numbers(&Header::of(part, &tensors))))?,
                None => print(format_args!("  {part}: none"))?,
            }
        }
    }
    for (name, value) in &header.metadata {
        print(format_args!("  {name}: {}", value.chars().take(100).collect::<String>()))?;
    }
    Ok(())
}

/// Returns the class in the `config.json` beside a file, such as `UNet2DConditionModel`.
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
