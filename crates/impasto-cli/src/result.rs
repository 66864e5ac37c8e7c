//! [`Finished`]: a line about a finished picture, for people or as JSON for programs.

use crate::console;
use crate::failure::Failure;
use crate::notes::Notes;
use impasto::guidance::Swatch;
use impasto::pipeline::Output;
use impasto::wording::Note;
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// A finished picture.
#[derive(Debug, Serialize)]
pub struct Finished<'o> {
    /// Name of the file that was written.
    pub file: String,
    /// Prompt of the picture.
    pub prompt: &'o str,
    /// Seed of the picture.
    pub seed: Option<u64>,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Seconds that the run took.
    pub seconds: f64,
    /// Colors that were asked for and painted, with their CIEDE2000 differences.
    pub colors: Vec<&'o Swatch>,
    /// CIEDE2000 differences across the border of the mask: of the given picture (`given`), of the new pixels as they
    /// are (`pasted`), and of the picture (`result`). None without a mask, or if the border is smooth nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seam: Option<&'o Value>,
    /// Remarks of the model and the guidance methods.
    pub notes: &'o [Note],
}

impl<'o> Finished<'o> {
    /// Describes the picture at an index of a run's batch.
    pub fn new(file: &'o Path, output: &'o Output, image: usize) -> Result<Self, Failure> {
        let picture = output.image(image)?;
        let config = &output.recipe().config;
        let repaint = output.reports.iter().find(|report| report.name == "repaint");
        let of_image = |swatch: &&Swatch| swatch.image.is_none_or(|of| of == image);
        Ok(Self {
            file: file.display().to_string(),
            prompt: &config.prompt,
            seed: output.seed.map(|seed| seed.wrapping_add(image as u64)),
            width: picture.size().width,
            height: picture.size().height,
            seconds: output.timing.total().as_secs_f64(),
            colors: output.reports.iter().flat_map(|report| &report.swatches).filter(of_image).collect(),
            seam: repaint.and_then(|report| report.data.get("seams")?.get(image)),
            notes: &output.notes,
        })
    }

    /// Prints the picture: its file on the standard output; seed, size, time, colors and notes on the standard error.
    /// With `json`, one line of JSON on the standard output has everything.
    ///
    /// A closed standard output is no failure, because the picture itself is written.
    pub fn print(&self, json: bool, notes: &Notes) -> Result<(), Failure> {
        let line = if json {
            serde_json::to_string(self).map_err(|error| Failure::Message(error.to_string()))?
        } else {
            self.file.clone()
        };
        let printed = console::print(line);
        if !json {
            let seed = self.seed.map_or_else(String::new, |seed| format!("seed {seed}, "));
            console::tell(format_args!("  {seed}{}×{}, {:.1} s", self.width, self.height, self.seconds));
            for Swatch { label, asked, painted, delta_e, .. } in &self.colors {
                console::tell(format_args!("  {label}: asked {asked}, painted {painted}, ΔE {delta_e:.1}"));
            }
            let figure = |name| self.seam.and_then(|seam| seam.get(name)?.as_f64());
            if let (Some(result), Some(pasted)) = (figure("result"), figure("pasted")) {
                console::tell(format_args!("  seam: ΔE {result:.1}, {pasted:.1} without blending"));
            }
            notes.tell_after(self.notes);
        }
        if let Err(Failure::Closed) = printed { Ok(()) } else { printed }
    }
}
