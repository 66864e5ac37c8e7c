//! Contact sheets of a run: one picture with its colors, masks, curves and times.

use crate::frames::frames;
use crate::lettering::Lettering;
use crate::numbers::{ends, lasted, range, short};
use crate::sheet::Sheet;
use impasto::guidance::{Curve, Report};
use impasto::pipeline::Output;
use impasto::raster::{Filter, Raster};
use impasto::{Result, Rgb, Size};
use std::time::Duration;

/// Maximum pixels of a cell's longer side.
const SIDE: u32 = 256;
/// Number of cells in a row.
const COLUMNS: usize = 5;
/// Maximum number of pictures of a guidance method: the first, the last, and some between them.
const MOST: usize = 10;
/// Color of the sheet around the cells.
const BLANK: Rgb = Rgb(255, 255, 255);
const PAPER: Rgb = Rgb(244, 242, 236);
const INK: Rgb = Rgb(180, 85, 45);
const AXIS: Rgb = Rgb(120, 116, 108);
/// Pixels between the parts of a plot.
const GAP: u32 = 4;

/// Draws the picture `index` of a run on a sheet, with its colors, masks and curves.
///
/// # Errors
/// [`Error::Parameter`](impasto::Error::Parameter) if the run has no picture `index`; the errors of
/// [`page`](crate::page()).
pub fn contact_sheet(output: &Output, index: usize) -> Result<Raster> {
    let picture = output.image(index)?;
    let Size { width, height } = picture.size();
    let longer = width.max(height).max(1);
    // Small pictures grow by a whole factor; large pictures shrink to the cell.
    let side = |pixels: u32| match SIDE / longer {
        0 => (pixels * SIDE / longer).max(1),
        times => (pixels * times).max(1),
    };
    let size = Size::new(side(width), side(height));
    let filter = if SIDE / longer == 0 { Filter::Box } else { Filter::Nearest };
    let mut cells = vec![(caption(output, index), picture.resize(size, filter)?)];
    cells.push(times(output, size)?);
    for report in &output.reports {
        let more = pieces(report, index, picture, size)?;
        // A guidance method whose cells do not fit into the rest of the row begins a new row.
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
    let seed = output.seed.map_or_else(String::new, |seed| format!(", seed {}", seed.wrapping_add(index as u64)));
    format!("{}{seed}, {} steps", output.recipe().config.prompt, output.timing.steps.len())
}

/// Returns the times of the run: a caption with the time of each part, and a curve over the steps.
fn times(output: &Output, size: Size) -> Result<(String, Raster)> {
    let timing = &output.timing;
    let steps: Vec<(usize, f64)> = timing.steps.iter().map(Duration::as_secs_f64).enumerate().collect();
    let sum: Duration = timing.steps.iter().sum();
    let caption = format!(
        "{} in total: {} before the first step, {} for steps of {} each, {} for decoding",
        lasted(timing.total()),
        lasted(timing.text + timing.first_pass.iter().sum::<Duration>()),
        lasted(sum),
        lasted(timing.step()),
        lasted(timing.decode)
    );
    Ok((caption, plot(&Curve::new("seconds", steps), size)?))
}

/// Returns the cells of a guidance method's report for image `index`.
fn pieces(report: &Report, index: usize, picture: &Raster, size: Size) -> Result<Vec<(String, Raster)>> {
    let mut cells = Vec::new();
    let mine = |image: Option<usize>| image.is_none_or(|image| image == index);
    for swatch in report.swatches.iter().filter(|swatch| mine(swatch.image)) {
        let caption = format!(
            "{}: {} requested, {} painted, ΔE {:.1}",
            swatch.label, swatch.asked, swatch.painted, swatch.delta_e
        );
        cells.push((caption, stripes(&[swatch.asked, swatch.painted], size)));
    }
    for strip in report.strips.iter().filter(|strip| mine(strip.image) && !strip.colors.is_empty()) {
        let colors: Vec<Rgb> = strip.colors.iter().map(|(_, color)| *color).collect();
        cells.push((format!("{} of each step", strip.label), stripes(&colors, size)));
    }
    for curve in report.curves.iter().filter(|curve| mine(curve.image) && curve.points.len() > 1) {
        cells.push((format!("{}: {}", curve.label, range(&[curve])), plot(curve, size)?));
    }
    let frames = frames(report, mine)?;
    let count = frames.len().min(MOST);
    for at in 0..count {
        // Frames are chosen evenly from the first to the last.
        let place = if count > 1 { at * (frames.len() - 1) / (count - 1) } else { 0 };
        let Some(frame) = frames.get(place) else { continue };
        let shown = frame.picture.over(picture)?;
        let filter = if shown.size().width > size.width { Filter::Box } else { Filter::Nearest };
        cells.push((frame.caption(), shown.resize(size, filter)?));
    }
    Ok(cells)
}

/// Draws colors side by side.
fn stripes(colors: &[Rgb], size: Size) -> Raster {
    let mut cell = Raster::flat(PAPER, size);
    let edge = |index: usize| (u64::from(size.width) * index as u64 / colors.len() as u64) as u32;
    for (index, color) in colors.iter().enumerate() {
        cell.paste(&Raster::flat(*color, (edge(index + 1) - edge(index), size.height)), edge(index), 0);
    }
    cell
}

/// Draws a curve over its own steps, with both axes labelled. The vertical axis covers 0 and all values.
fn plot(curve: &Curve, size: Size) -> Result<Raster> {
    let mut cell = Raster::flat(PAPER, size);
    let lettering = Lettering::new()?;
    let (low, high) = ends(&[curve]);
    let (below, above) = (short(low), short(high));
    let left = GAP + lettering.width(&below).max(lettering.width(&above)) + GAP;
    let (right, top) = (size.width.saturating_sub(GAP), Lettering::LINE / 2);
    let bottom = size.height.saturating_sub(Lettering::LINE + GAP);
    if left >= right || top >= bottom {
        return Ok(cell); // A cell this small has no room for axes.
    }
    (left..right).for_each(|x| cell.set(x, bottom, AXIS));
    (top..bottom).for_each(|y| cell.set(left, y, AXIS));
    lettering.draw(&above, &mut cell, GAP, 0);
    lettering.draw(&below, &mut cell, GAP, bottom.saturating_sub(Lettering::LINE / 2));
    let points: Vec<(usize, f64)> = curve.points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let steps = [points.first(), points.last()].map(|point| point.map_or(1, |(step, _)| step + 1));
    lettering.draw(&format!("step {}", steps[0]), &mut cell, left, bottom + GAP / 2);
    let last = steps[1].to_string();
    lettering.draw(&last, &mut cell, right.saturating_sub(lettering.width(&last)), bottom + GAP / 2);

    let ends = points.len().saturating_sub(1).max(1) as f64;
    let mut before = None;
    for x in left + 1..right {
        // The value is interpolated between the two points around this column.
        let at = ends * f64::from(x - left) / f64::from((right - left - 1).max(1));
        let (one, other) = (points.get(at.floor() as usize), points.get(at.ceil() as usize));
        let Some(((_, one), (_, other))) = one.zip(other) else { continue };
        let value = one + (other - one) * at.fract();
        let y = f64::from(bottom) - f64::from(bottom - top) * (value - low) / (high - low);
        // The bar begins at the previous column's height, so that steep lines have no gaps.
        let y = y as u32;
        let (upper, lower) = (y.min(before.unwrap_or(y)), y.max(before.unwrap_or(y)) + 2);
        (upper..=lower.min(bottom)).for_each(|y| cell.set(x, y, INK));
        before = Some(y);
    }
    Ok(cell)
}
