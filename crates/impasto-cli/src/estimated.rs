//! [`Estimated`]: a line about the time and the memory that pictures would take.

use crate::console;
use crate::failure::Failure;
use impasto::pipeline::Estimate;
use serde::Serialize;

/// Pictures that were estimated and not painted.
#[derive(Debug, Serialize)]
pub struct Estimated<'p> {
    /// Prompt of the pictures.
    pub prompt: &'p str,
    /// Number of pictures.
    pub images: u64,
    /// Seconds of all pictures, without loading the model.
    pub seconds: f64,
    /// Bytes that a run holds beside the model. None if they are unknown: on a GPU, and for offloaded weights.
    pub bytes: Option<u64>,
}

impl<'p> Estimated<'p> {
    /// Describes a number of pictures, of which each is a run with this estimate.
    pub fn new(prompt: &'p str, images: u64, each: Estimate) -> Self {
        Self { prompt, images, seconds: images as f64 * each.time.as_secs_f64(), bytes: each.bytes }
    }

    /// Prints the estimate on the standard output, with `json` as a line of JSON.
    pub fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            return console::print(serde_json::to_string(self).map_err(|error| Failure::Message(error.to_string()))?);
        }
        let pictures = if self.images == 1 { "1 picture".to_owned() } else { format!("{} pictures", self.images) };
        let memory = self.bytes.map_or_else(String::new, |bytes| {
            format!(", {:.0} MiB of memory beside the model", bytes as f64 / f64::from(1 << 20))
        });
        console::print(format_args!("{pictures}: {:.1} s{memory}", self.seconds))
    }
}
