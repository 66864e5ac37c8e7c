//! Configurations of a model's parts, and reports of their weights.

use crate::error::{Error, Result};
use crate::weights::{Checkpoint, LoadReport, way};

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

/// Checks that a file has the weights of one network, and no others. `what` names the network: "a ControlNet".
pub(super) fn check_report(report: LoadReport, what: &str) -> Result<()> {
    let problem = match (report.unused.first(), report.not_finite.first()) {
        (Some(unused), _) => format!(
            "the file has tensors that do not belong to {what}, such as {}; give the file of {what}",
            unused.name
        ),
        (None, Some(name)) => {
            format!("the file has NaN or infinite weights, for example in {name}; download it again")
        }
        (None, None) => return Ok(()),
    };
    Err(Error::Malformed { file: report.file, problem })
}
