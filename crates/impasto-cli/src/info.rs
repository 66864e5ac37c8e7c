//! `impasto info`: descriptions of models, files of weights, and pictures with a recipe.

use crate::console::{self, print};
use crate::failure::Failure;
use crate::outputs;
use crate::wording::Terminal;
use clap::Args;
use impasto::pipeline::Infotext;
use impasto::weights::{Contents, Header, Lora, LoraSummary, ModelFamily, SingleFile};
use impasto::wording::shortened;
use impasto::{Error, Raster, files};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Arguments of `impasto info`.
#[derive(Args, Debug)]
pub struct Info {
    /// Folders of models or pictures, files of weights (.safetensors, .ckpt, .pt, .pth, .bin), or pictures.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

/// Largest number of entries of a folder and the folders below that are looked at.
const MOST_ENTRIES: usize = 100_000;
/// Largest size of a `config.json` in bytes.
const LARGEST_CONFIG: u64 = 1 << 20;
/// Largest number of metadata entries of a file of weights that are printed, and of characters of each.
const MOST_METADATA: usize = 100;

/// Describes each path without loading a model.
pub fn info(arguments: &Info) -> Result<(), Failure> {
    let mut failed = false;
    for path in &arguments.paths {
        let Found { files, faults, .. } = if path.is_dir() { Found::below(path) } else { Found::file(path) };
        let described = files.iter().map(|file| describe(file));
        for failure in described.filter_map(Result::err).chain(faults.into_iter().map(Failure::Message)) {
            if matches!(failure, Failure::Closed) {
                return Err(failure);
            }
            console::tell(failure); // The message names the file.
            failed = true;
        }
    }
    if failed { Err(Failure::Message("some files could not be described".into())) } else { Ok(()) }
}

/// Endings of the names of files of weights.
const WEIGHTS: [&str; 5] = ["safetensors", "ckpt", "pt", "pth", "bin"];

/// The files that are described, and the faults of their folders.
#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    faults: Vec<String>,
}

impl Found {
    fn file(path: &Path) -> Self {
        Self { files: vec![path.into()], ..Self::default() }
    }

    /// Searches a folder and the folders below. Each folder is searched once, because links may lead back to it.
    fn below(top: &Path) -> Self {
        let (mut found, mut folders) = (Self::default(), vec![top.to_owned()]);
        let (mut searched, mut left) = (HashSet::new(), MOST_ENTRIES);
        while let Some(folder) = folders.pop() {
            match folder.canonicalize().and_then(|place| Ok((searched.insert(place), fs::read_dir(&folder)?))) {
                Ok((false, _)) => {}
                Ok((true, entries)) => {
                    for path in entries.flatten().map(|entry| entry.path()).take(left) {
                        left -= 1;
                        if path.is_dir() { folders.push(path) } else { found.add(path) }
                    }
                }
                Err(error) => found.faults.push(format!("{}: {error}", folder.display())),
            }
        }
        found.files.sort();
        found.faults.extend(found.doubts(top, left));
        found
    }

    fn add(&mut self, file: PathBuf) {
        if is_picture(&file) || outputs::has_extension(&file, &WEIGHTS) {
            self.files.push(file);
        }
    }

    /// Says why fewer files were found than a user may expect; `left` is the number of entries below the limit.
    fn doubts(&self, top: &Path, left: usize) -> Option<String> {
        let top = top.display();
        if left == 0 {
            return Some(format!("{top}: only the first {MOST_ENTRIES} entries were searched; give a smaller folder"));
        }
        (self.files.is_empty() && self.faults.is_empty()).then(|| {
            format!(
                "{top}: the folder has no file of weights and no picture; give the folder of a model or of pictures"
            )
        })
    }
}

fn describe(file: &Path) -> Result<(), Failure> {
    if is_picture(file) { describe_picture(file) } else { describe_weights(file) }
}

fn is_picture(path: &Path) -> bool {
    outputs::has_extension(path, &outputs::PICTURES)
}

/// Prints the size of a picture, and the text about its run as its program wrote it.
fn describe_picture(path: &Path) -> Result<(), Failure> {
    let texts = Raster::texts_of(path)?;
    print(format_args!("{}: {}", path.display(), Raster::size_of(path)?))?;
    match Infotext::of(&texts) {
        Some(info) => info.to_string().lines().try_for_each(|line| print(format_args!("  {line}"))),
        None => print("  has no recipe"),
    }
}

/// Prints the kind of a file of weights, its parts and its metadata.
fn describe_weights(path: &Path) -> Result<(), Failure> {
    let file = SingleFile::open(path)?;
    let header = file.header();
    print(format_args!("{}: {}", header.file, numbers(header)))?;
    for (class, count) in header.skipped.iter().take(MOST_METADATA) {
        let class: String = class.chars().take(MOST_METADATA).collect();
        print(format_args!("  skips the Python class {class}: {count} objects"))?;
    }
    if let Some(class) = class(path) {
        return print(format_args!("  is a part of a model's folder: {class}"));
    }
    let contents = match file.contents() {
        Ok(contents) => contents,
        Err(error) => return refuse(&header.file, &error),
    };
    print(format_args!("  is {contents}"))?;
    match contents {
        Contents::Model { family, .. } => {
            print(format_args!("  prediction: {}", file.prediction()?.because))?;
            let parts: &[&str] = match family {
                ModelFamily::Anima => &["transformer", "text_conditioner", "vae", "text_encoder"],
                ModelFamily::Sd3 => &["transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"],
                ModelFamily::ZImage => &["transformer", "vae", "text_encoder"],
                _ => &["unet", "vae", "text_encoder", "text_encoder_2"],
            };
            for part in parts {
                match file.part(part)? {
                    Some(tensors) => print(format_args!("  {part}: {}", numbers(&Header::of(*part, &tensors))))?,
                    None => print(format_args!("  {part}: none"))?,
                }
            }
        }
        Contents::Lora { .. } => match Lora::open(path) {
            Ok(lora) => describe_lora(&lora.summary())?,
            Err(error) => refuse(&header.file, &error)?,
        },
        _ => {}
    }
    for (name, value) in header.metadata.iter().take(MOST_METADATA) {
        let entry: String =
            name.chars().take(MOST_METADATA).chain(": ".chars()).chain(value.chars().take(MOST_METADATA)).collect();
        print(format_args!("  {}", entry.replace('\n', " ")))?;
    }
    match header.metadata.len().saturating_sub(MOST_METADATA) {
        0 => Ok(()),
        more => print(format_args!("  and {more} more entries")),
    }
}

/// Prints why a file cannot be used.
fn refuse(file: &str, error: &Error) -> Result<(), Failure> {
    let error = error.worded(&Terminal::present());
    print(format_args!("  {}", error.trim_start_matches(file).trim_start_matches(": ")))
}

/// Prints the algorithms of a LoRA, its ranks, the parts of a model that it changes, and facts of its training.
fn describe_lora(lora: &LoraSummary) -> Result<(), Failure> {
    let counted = |counts: &BTreeMap<String, usize>| {
        let all: Vec<String> = counts.iter().map(|(name, count)| format!("{name} ({})", modules(*count))).collect();
        all.join(", ")
    };
    print(format_args!("  algorithms: {}", counted(&lora.algorithms)))?;
    print(format_args!("  changes: {}", counted(&lora.modules)))?;
    match (lora.ranks.first(), lora.ranks.last()) {
        (Some(least), Some(most)) if least < most => print(format_args!("  ranks: {least} to {most}"))?,
        (Some(rank), _) => print(format_args!("  rank: {rank}"))?,
        (None, _) => {}
    }
    for (name, words) in [("trigger words", &lora.trigger_words), ("frequent tags", &lora.tags)] {
        if !words.is_empty() {
            print(format_args!("  {name}: {}", shortened(&words.join(", ")).replace('\n', " ")))?;
        }
    }
    lora.resolution.map_or(Ok(()), |resolution| print(format_args!("  trained at: {resolution}")))
}

fn modules(count: usize) -> String {
    if count == 1 { "1 module".into() } else { format!("{count} modules") }
}

/// Returns the class in the `config.json` beside a file, such as `UNet2DConditionModel`.
fn class(path: &Path) -> Option<String> {
    let text = files::read(&path.with_file_name("config.json"), LARGEST_CONFIG).ok()?;
    let config: serde_json::Value = impasto::json::parse(&text).ok()?;
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
