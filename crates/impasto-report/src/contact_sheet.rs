//! One picture of a run with everything about it on one sheet.

use crate::frames::frames;
use crate::lettering::Lettering;
use crate::numbers::{ends, lasted, range, short};
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
const AXIS: Rgb = Rgb(120, 116, 108);
/// Pixels between the parts of a plot.
const GAP: u32 = 4;

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
    cells.push(times(output, size)?);
    for report in &output.reports {
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
    let seed = output.seed.map_or_else(String::new, |seed| format!(", seed {}", seed.wrapping_add(index as u64)));
    format!("{}{seed}, {} steps", output.recipe().config.prompt, output.recipe().config.steps)
}

/// Where the time went, and a curve of the steps.
fn times(output: &Output, size: Size) -> Result<(String, Raster)> {
    let timing = &output.timing;
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
    Ok((caption, plot(&Curve::new("seconds", steps), size)?))
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
        cells.push((format!("{}: {}", curve.label, range(&[curve])), plot(curve, size)?));
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

/// A curve over its own steps, with both axes labelled. The vertical axis goes from 0, or the least value below it, to the
/// greatest value.
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
        // Between the two points around this column.
        let at = ends * f64::from(x - left) / f64::from((right - left - 1).max(1));
        let (one, other) = (points.get(at.floor() as usize), points.get(at.ceil() as usize));
        let Some(((_, one), (_, other))) = one.zip(other) else { continue };
        let value = one + (other - one) * at.fract();
        let y = f64::from(bottom) - f64::from(bottom - top) * (value - low) / (high - low);
        // From the column before, so that steep lines are whole.
        let y = y as u32;
        let (upper, lower) = (y.min(before.unwrap_or(y)), y.max(before.unwrap_or(y)) + 2);
        (upper..=lower.min(bottom)).for_each(|y| cell.set(x, y, INK));
        before = Some(y);
    }
    Ok(cell)
}
