//! A run with a progress bar on the standard error, for terminals only.

use crate::console;
use crate::failure::Failure;
use crate::wording;
use impasto::Output;
use impasto::pipeline::{Preview, Request};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;

/// Runs a request with a progress bar, which begins with `label`. Nothing is drawn if the standard error is not a
/// terminal. The unfinished picture is written to the file `preview` after every step. The notes of the output are in
/// the words of the command line.
pub fn run(request: Request<'_>, label: &str, preview: Option<&Path>) -> Result<Output, Failure> {
    let bar = ProgressBar::no_length().with_message(label.to_owned());
    let template = "{msg} {bar:30} step {pos} of {len}, {eta} left {prefix}";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let output = request.on_preview(1, |shown| show(&bar, label, shown, preview)).run();
    bar.finish_and_clear();
    Ok(wording::worded(output?))
}

/// Shows the step of a preview, and writes the unfinished picture to `file`.
fn show(bar: &ProgressBar, label: &str, preview: &Preview<'_>, file: Option<&Path>) -> impasto::Result<()> {
    let progress = preview.progress;
    if progress.stage > 0 {
        bar.set_message(format!("{label}, part {}", progress.stage + 1));
    }
    bar.set_length(progress.total as u64);
    bar.set_position(progress.done as u64);
    if let Some(file) = file
        && let Some(picture) = preview.pictures()?.first()
    {
        picture.save(file)?;
        let file = console::escaped(&file.display().to_string());
        bar.set_prefix(format!("(preview {} in {file})", picture.size()));
    }
    Ok(())
}
