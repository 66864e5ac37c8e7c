//! The result of a call that paints: the pictures, and the report as text and as JSON.

use super::pictures;
use super::words::Agent;
use crate::finished::Finished;
use crate::refusal::Refusal;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use impasto::Error;
use rmcp::model::{CallToolResult, ContentBlock};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Report of a call, as structured content.
#[derive(Debug, Serialize)]
struct Report {
    pictures: Vec<Picture>,
    colors: Vec<Color>,
    /// CIEDE2000 differences across the border of a mask, one for each picture.
    seams: Value,
    notes: Value,
    seconds: Value,
}

/// A painted picture.
#[derive(Debug, Serialize)]
struct Picture {
    /// Name by which other calls take the picture.
    name: String,
    seed: Option<u64>,
    width: u64,
    height: u64,
}

/// A color that was asked for, and the painted color.
#[derive(Debug, Deserialize, Serialize)]
struct Color {
    label: String,
    /// Index of the picture; `None`: all pictures.
    image: Option<usize>,
    asked: String,
    painted: String,
    delta_e: f64,
    /// True if the color is met in each picture, and the rest of the pictures is as it was. `None` for a color that no
    /// color force painted.
    #[serde(default)]
    converged: Option<bool>,
}

impl Report {
    fn new(job: u64, finished: &Finished) -> Self {
        let field = |name: &str| finished.result.get(name).cloned().unwrap_or_default();
        let list = |name: &str| finished.result.get(name).and_then(Value::as_array).into_iter().flatten();
        let pictures = list("pictures").enumerate().map(|(index, picture)| {
            let number = |name: &str| picture.get(name).and_then(Value::as_u64);
            let side = |name: &str| number(name).unwrap_or_default();
            Picture {
                name: pictures::name(job, index),
                seed: number("seed"),
                width: side("width"),
                height: side("height"),
            }
        });
        let converged = |label: &str| {
            let forces = list("reports").filter_map(|report| report.get("data"));
            let is_of = |data: &&Value| data.get("phrase").and_then(Value::as_str) == Some(label);
            forces.filter(is_of).find_map(|data| data.get("converged").and_then(Value::as_bool))
        };
        let colors = list("colors").filter_map(|color| Color::deserialize(color).ok());
        let colors = colors.map(|color| Color { converged: converged(&color.label), ..color });
        let (pictures, colors) = (pictures.collect(), colors.collect());
        Self { pictures, colors, seams: field("seams"), notes: field("notes"), seconds: field("seconds") }
    }

    /// Returns the report in lines for a reader.
    fn lines(&self) -> String {
        let mut lines = Vec::new();
        for Picture { name, seed, width, height } in &self.pictures {
            let seed = seed.map_or_else(String::new, |seed| format!(", seed {seed}"));
            lines.push(format!("{name}: {width}×{height}{seed}"));
        }
        for Color { label, image, asked, painted, delta_e, converged } in &self.colors {
            let several = image.filter(|_| self.pictures.len() > 1);
            let place = several.map_or_else(String::new, |index| format!(" in picture {index}"));
            let verdict = match converged {
                Some(true) => ", met",
                Some(false) => ", not met",
                None => "",
            };
            lines.push(format!("{label}{place}: asked {asked}, painted {painted}, ΔE {delta_e:.1}{verdict}"));
        }
        for seam in self.seams.as_array().into_iter().flatten() {
            let figure = |name: &str| seam.get(name).and_then(Value::as_f64);
            if let (Some(result), Some(pasted)) = (figure("result"), figure("pasted")) {
                lines.push(format!("seam: ΔE {result:.1}, {pasted:.1} without blending"));
            }
        }
        let notes = self.notes.as_array().into_iter().flatten().filter_map(Value::as_str);
        lines.extend(notes.map(|note| format!("note: {note}")));
        lines.join("\n")
    }
}

/// Refuses a call whose result cannot be written.
pub(super) fn fail(error: impl Into<Error>) -> Refusal {
    Refusal::wrong(format!("the result cannot be written: {}", error.into().worded(&Agent)))
}

/// Returns a PNG as a part of a result.
pub(super) fn image(png: &[u8]) -> ContentBlock {
    ContentBlock::image(BASE64_STANDARD.encode(png), "image/png")
}

/// Writes the result of a job.
///
/// # Errors
/// A refusal if a picture is too large for a PNG.
pub(super) fn write(job: u64, finished: &Finished) -> Result<CallToolResult, Refusal> {
    let mut content = Vec::new();
    for index in 0..finished.count() {
        content.extend(finished.png(index).map_err(fail)?.map(|png| image(&png)));
    }
    let report = Report::new(job, finished);
    content.push(ContentBlock::text(report.lines()));
    let mut result = CallToolResult::success(content);
    result.structured_content = Some(serde_json::to_value(&report).map_err(|error| fail(Error::custom(error)))?);
    Ok(result)
}
