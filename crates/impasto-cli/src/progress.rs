//! A progress bar on the standard error, for terminals only.

use crate::console;
use impasto::Result;
use impasto::pipeline::Preview;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;

/// The progress of one picture. Nothing is drawn if the standard error is not a terminal.
pub struct Bar(ProgressBar);

impl Bar {
    /// Creates a bar for a picture; `label` names the picture.
    pub fn new(label: &str) -> Self {
        let bar = ProgressBar::no_length().with_message(label.to_owned());
        let template = "{msg} {bar:30} step {pos} of {len}, {eta} left {prefix}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    /// Shows the step of a preview, and writes the unfinished picture to `file`.
    pub fn show(&self, preview: &Preview<'_>, file: Option<&Path>) -> Result<()> {
        let progress = preview.progress;
        self.0.set_length(progress.total as u64);
        self.0.set_position(progress.done as u64);
        if let Some(file) = file
            && let Some(picture) = preview.pictures()?.first()
        {
            picture.save(file)?;
            let file = console::escaped(&file.display().to_string());
            self.0.set_prefix(format!("(preview {} in {file})", picture.size()));
        }
        Ok(())
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
