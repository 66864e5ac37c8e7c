//! Configurations of a model's parts.

use crate::error::Result;
use crate::weights::{Checkpoint, way};

/// Reads a part's configuration, which must exist.
pub(super) fn read_config<T>(checkpoint: &Checkpoint, part: &str, parse: fn(&str, &str) -> Result<T>) -> Result<T> {
    let file = format!("{part}/config.json");
    let missing = || match checkpoint.family() {
        Some(_) => checkpoint.lacks(part),
        None => checkpoint.missing(&file, way(part)),
    };
    let text = checkpoint.text(&file)?.ok_or_else(missing)?;
    parse(&checkpoint.name(&file), &text)
}
