//! One picture of a run with everything about it on one sheet.

use crate::frames::frames;
use crate::numbers::{lasted, range};
use crate::sheet::Sheet;
use impasto::guidance::{Curve, Report};
use impasto::pipeline::Output;
use impasto::raster::{Filter, Raster};
use impasto::{Result, Rgb, Size};
use std::time::Duration;

/// Pixels of a cell's longer side, at most.
const SIDE: u32 = 256;
/// Cells side by side.
const COLUMNS: usize = 5;
/// Pictures of a guidance, at most: the first, the last, and some between them.
const MOST: usize = 10;
/// The sheet's own paper.
const BLANK: Rgb = Rgb(255, 255, 255);
const PAPER: Rgb = Rgb(244, 242, 236);
const INK: Rgb = Rgb(180, 85, 45);

/// One picture of a run with its colors, masks and curves on a sheet.
///
/// # Errors
/// [`Error::Parameter`](impasto::Error::Parameter) if there are not as many pictures; as [`page`](crate::page()).
pub fn contact_sheet(output: &Output, index: usize) -> Result<Raster> {
    let picture = output.image(index)?;
    let longer = picture.width().max(picture.height()).max(1);
    // Small pictures by whole pixels, large ones down to the cell.
    let side = |pixels: u32| match SIDE / longer {
        0 => (pixels * SIDE / longer).max(1),
        times => (pixels * times).max(1),
    };
    let size = Size::new(side(picture.width()), side(picture.height()));
    let filter = if SIDE / longer == 0 { Filter::Box } else { Filter::Nearest };
    let mut cells = vec![(caption(output, index), picture.resize(size, filter)?)];
    cells.push(times(output, size));
    for report in output.reports() {
        let more = pieces(report, index, picture, size)?;
        // A guidance that does not fit into what is left of the row begins another.
        let left = (COLUMNS - cells.len() % COLUMNS) % COLUMNS;
        if more.len() > left {
            cells.extend((0..left).map(|_| (String::new(), Raster::flat(BLANK, size))));
        }
        cells.extend(more);
    }
    let sheet = cells.iter().fold(Sheet::new(COLUMNS), |sheet, (caption, cell)| sheet.add(caption, cell));
    sheet.draw()
}

fn caption(output: &Output, index: usize) -> String {
    let seed = output.seed().map_or_else(String::new, |seed| format!(", seed {}", seed.wrapping_add(index as u64)));
    format!("{}{seed}, {} steps", output.recipe().prompt, output.recipe().steps)
}

/// Where the time went, and a curve of the steps.
fn times(output: &Output, size: Size) -> (String, Raster) {
    let timing = output.timing();
    let steps: Vec<(usize, f64)> = timing.steps.iter().map(Duration::as_secs_f64).enumerate().collect();
    let sum: Duration = timing.steps.iter().sum();
    let caption = format!(
        "{}: {} before the first step, {} in steps of {}, {} for the picture",
        lasted(timing.total()),
        lasted(timing.text + timing.first_pass.iter().sum::<Duration>()),
        lasted(sum),
        lasted(timing.step()),
        lasted(timing.decode)
    );
    (caption, plot(&Curve::new("seconds", steps), size))
}

/// What a guidance shows of image `index`.
fn pieces(report: &Report, index: usize, picture: &Raster, size: Size) -> Result<Vec<(String, Raster)>> {
    let mut cells = Vec::new();
    let mine = |image: Option<usize>| image.is_none_or(|image| image == index);
    for swatch in report.swatches.iter().filter(|swatch| mine(swatch.image)) {
        let caption =
            format!("{}: {} asked, {} painted, ΔE {:.1}", swatch.label, swatch.asked, swatch.painted, swatch.delta_e);
        cells.push((caption, stripes(&[swatch.asked, swatch.painted], size)));
    }
    for strip in report.strips.iter().filter(|strip| mine(strip.image) && !strip.colors.is_empty()) {
        let colors: Vec<Rgb> = strip.colors.iter().map(|(_, color)| *color).collect();
        cells.push((format!("{}, step by step", strip.label), stripes(&colors, size)));
    }
    for curve in report.curves.iter().filter(|curve| mine(curve.image) && curve.points.len() > 1) {
        cells.push((format!("{}: {}", curve.label, range(&[curve])), plot(curve, size)));
    }
    let frames = frames(report, mine)?;
    let count = frames.len().min(MOST);
    for at in 0..count {
        // Evenly from the first to the last.
        let place = if count > 1 { at * (frames.len() - 1) / (count - 1) } else { 0 };
        let Some(frame) = frames.get(place) else { continue };
        let shown = frame.picture.over(picture)?;
        let filter = if shown.width() > size.width { Filter::Box } else { Filter::Nearest };
        cells.push((frame.caption(), shown.resize(size, filter)?));
    }
    Ok(cells)
}

/// Colors side by side.
fn stripes(colors: &[Rgb], size: Size) -> Raster {
    let mut cell = Raster::flat(PAPER, size);
    let edge = |index: usize| (u64::from(size.width) * index as u64 / colors.len() as u64) as u32;
    for (index, color) in colors.iter().enumerate() {
        cell.paste(&Raster::flat(*color, (edge(index + 1) - edge(index), size.height)), edge(index), 0);
    }
    cell
}

/// A curve from 0 or the least to the greatest value, over its own steps.
fn plot(curve: &Curve, size: Size) -> Raster {
    let mut cell = Raster::flat(PAPER, size);
    let Size { width: w, height: h } = size;
    let points: Vec<f64> = curve.points.iter().map(|(_, value)| *value).filter(|value| value.is_finite()).collect();
    let (low, high) = points.iter().fold((0.0f64, 0.0f64), |(low, high), value| (low.min(*value), high.max(*value)));
    let spread = if high > low { high - low } else { 1.0 };
    let last = points.len().saturating_sub(1).max(1) as f64;
    let mut before = None;
    for x in 0..w {
        // Between the two points around this column.
        let at = last * f64::from(x) / f64::from(w.saturating_sub(1).max(1));
        let (left, right) = (points.get(at.floor() as usize), points.get(at.ceil() as usize));
        let Some((left, right)) = left.zip(right) else { continue };
        let value = left + (right - left) * at.fract();
        let margin = f64::from(h) * 0.08;
        let y = f64::from(h) - margin - (f64::from(h) - 2.0 * margin) * (value - low) / spread;
        // From the column before, so that steep lines are whole.
        let y = y as u32;
        let (top, bottom) = (y.min(before.unwrap_or(y)), y.max(before.unwrap_or(y)) + 2);
        (top..=bottom.min(h.saturating_sub(1))).for_each(|y| cell.set(x, y, INK));
        before = Some(y);
    }
    cell
}
