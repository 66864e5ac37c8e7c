//! Output for the page and the screen about objects in their places, and about pictures that follow another picture.

use crate::failure::Failure;
use crate::guides::STRENGTHS;
use crate::plots;
use crate::record::Record;
use crate::statistics::{Figure, short};
use crate::summary::{ALL, Row, Summary};
use crate::table::{cell, dot, table};
use crate::task::{Method, Task};
use std::fmt::Write;

/// Heads and names of the figures of placement.
const PLACED: [(&str, &str); 4] =
    [("placed", "placed"), ("both orders", "followed"), ("found", "detected"), ("no objects added", "left_out")];
/// Heads and names of the figures of guides.
const GUIDED: [(&str, &str); 5] = [
    ("likeness", "clip"),
    ("likeness change", "clip_step"),
    ("palette distance", "palette"),
    ("palette change", "palette_step"),
    ("objects kept", "kept"),
];
/// Heads and names of the figures of drawings.
const DRAWN: [(&str, &str); 4] = [
    ("edge F1", "edge_f1"),
    ("ΔE under strokes", "strokes"),
    ("ΔE of objects under strokes", "objects"),
    ("ΔE of objects, p90", "objects_p90"),
];
/// Heads and names of the figures of references.
const COLORED: [(&str, &str); 3] =
    [("ΔE of parts", "delta_e"), ("ΔE of parts, p90", "delta_e_p90"), ("edge F1", "edge_f1")];
const GROUPS: [(&str, &str); 3] = [("image", "all"), ("image, portraits", "portraits"), ("image, scenes", "scenes")];

/// Rows of placement with the names of their tasks.
fn placed(summary: &Summary) -> impl Iterator<Item = (&'static str, &Row)> {
    let of = |group| [Method::PwwOff, Method::Pww].map(|method| (group, summary.row(group, method, ALL)));
    ["place", "swap"].into_iter().flat_map(of).filter_map(|(group, row)| Some((group, row?)))
}

/// Rows of pictures that follow lines and strokes.
fn drawn(summary: &Summary) -> impl Iterator<Item = &Row> {
    let methods = [Method::Unforced, Method::Control, Method::ControlStrokes];
    methods.into_iter().filter_map(|method| summary.row(Task::Edges.name(), method, ALL))
}

/// Rows of pictures in the colors of a reference.
fn colored(summary: &Summary) -> impl Iterator<Item = &Row> {
    let methods = [Method::Unforced, Method::Reference, Method::ReferenceLike];
    methods.into_iter().filter_map(|method| summary.row(Task::Reference.name(), method, ALL))
}

/// Rows of a group of guided pictures with the guide's strength.
fn guided<'a>(summary: &'a Summary, group: &'a str) -> impl Iterator<Item = (f64, &'a Row)> {
    let of = move |strength: f64| Some((strength, summary.row(group, Method::Image, &strength.to_string())?));
    STRENGTHS.into_iter().filter_map(of)
}

/// Returns the figures of this module as lines for the screen.
pub fn lines(summary: &Summary) -> Vec<String> {
    let said = |row: &Row, names: &[(&str, &str)]| {
        let each = names.iter().filter_map(|(head, name)| Some(format!("{head} {}", row.figures.get(*name)?)));
        each.collect::<Vec<_>>().join(", ")
    };
    let places = placed(summary).map(|(group, row)| format!("{group}, {}: {}", row.method.name(), said(row, &PLACED)));
    let images = GROUPS.into_iter().flat_map(|(group, _)| {
        guided(summary, group)
            .map(move |(strength, row)| format!("{group}, strength {strength}: {}", said(row, &GUIDED)))
    });
    let drawn = drawn(summary).map(|row| format!("edges, {}: {}", row.method.name(), said(row, &DRAWN)));
    let colored = colored(summary).map(|row| format!("reference, {}: {}", row.method.name(), said(row, &COLORED)));
    places.chain(images).chain(drawn).chain(colored).collect()
}

pub fn places(page: &mut String, summary: &Summary, records: &[Record]) -> Result<(), Failure> {
    let cells = |row: &Row| PLACED.map(|(_, name)| cell(row.figures.get(name))).to_vec();
    let rows: Vec<_> =
        placed(summary).map(|(group, row)| (format!("{}, {group}", dot(row.method)), cells(row))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(page, "<h2>Placement of objects</h2>")?;
    writeln!(
        page,
        "<p>Task <code>place</code>: one object in a quadrant. Task <code>swap</code>: two objects, left and right, \
         in both orders over the same noise.</p>"
    )?;
    table(page, "method", &PLACED.map(|(head, _)| head), &rows)?;
    for method in [Method::PwwOff, Method::Pww] {
        let share = |corner: &str| {
            let of = records.iter().filter(|r| r.task == Task::Place && r.method == method && r.part.ends_with(corner));
            let placed: Vec<bool> = of.flat_map(|record| &record.things).map(|thing| thing.placement.placed).collect();
            let hits = placed.iter().filter(|placed| **placed).count();
            if placed.is_empty() { "–".to_owned() } else { short(hits as f64 / placed.len() as f64) }
        };
        let corners =
            ["@0.0,0.0", "@0.5,0.0", "@0.0,0.5", "@0.5,0.5"].map(|corner| format!("<div>{}</div>", share(corner)));
        writeln!(
            page,
            "<div class=\"quadrants\">{}, share placed by quadrant<div class=\"grid4\">{}</div></div>",
            dot(method),
            corners.concat()
        )?;
    }
    Ok(())
}

pub fn drawings(page: &mut String, summary: &Summary) -> Result<(), Failure> {
    let cells = |row: &Row| DRAWN.map(|(_, name)| cell(row.figures.get(name))).to_vec();
    let rows: Vec<_> = drawn(summary).map(|row| (dot(row.method), cells(row))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(page, "<h2>Lines and strokes of a drawing</h2>")?;
    writeln!(
        page,
        "<p>The edges of a drawing and smooth strokes in its colors are the hint of a ControlNet; the prompt names no \
         color. Edge F1: agreement of the picture’s edges with the lines, within one pixel. An object is the area of \
         one color around a stroke in the drawing. Its ΔE is between its median color and the stroke’s color.</p>"
    )?;
    table(page, "method", &DRAWN.map(|(head, _)| head), &rows)
}

pub fn references(page: &mut String, summary: &Summary) -> Result<(), Failure> {
    let cells = |row: &Row| COLORED.map(|(_, name)| cell(row.figures.get(name))).to_vec();
    let rows: Vec<_> = colored(summary).map(|row| (dot(row.method), cells(row))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(page, "<h2>Colors of a reference picture</h2>")?;
    writeln!(
        page,
        "<p>Portraits in the colors of a drawn portrait, over the edges of the unforced picture. ΔE is between the \
         mean colors of each part that both pictures show. Edge F1: agreement of the picture’s edges with those of \
         the unforced picture, within one pixel.</p>"
    )?;
    table(page, "method", &COLORED.map(|(head, _)| head), &rows)
}

pub fn image(page: &mut String, summary: &Summary) -> Result<(), Failure> {
    let rows: Vec<_> = guided(summary, "image")
        .map(|(strength, row)| {
            let name = if strength == 0.0 { "unguided".to_owned() } else { strength.to_string() };
            (name, GUIDED.map(|(_, name)| cell(row.figures.get(name))).to_vec())
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(page, "<h2>Pictures guided by a drawing</h2>")?;
    writeln!(
        page,
        "<p>Likeness: cosine of the CLIP embeddings of the picture and its guide. Palette distance: how far colors \
         must be moved, in Lab, to become the guide’s. Objects kept: share of the prompt’s objects with half their \
         unguided area or more. Change: mean difference to the next lower strength.</p>"
    )?;
    table(page, "max_guidance", &GUIDED.map(|(head, _)| head), &rows)?;
    let lines = |name: &str| -> Vec<(&str, Vec<(f64, Figure)>)> {
        let figure = |(strength, row): (f64, &Row)| Some((strength, *row.figures.get(name)?));
        GROUPS.map(|(group, head)| (head, guided(summary, group).filter_map(figure).collect())).into()
    };
    write!(page, "<div class=\"legend\">")?;
    for (i, (_, head)) in GROUPS.iter().enumerate() {
        write!(page, "<span><span class=\"dot\" style=\"background:{}\"></span>{head}</span>", plots::line_color(i))?;
    }
    writeln!(page, "</div><div class=\"plots\">")?;
    for (name, head) in [("clip", "likeness to the guide"), ("palette", "palette distance to the guide")] {
        writeln!(page, "<figure>{}</figure>", plots::strengths(&lines(name), head)?)?;
    }
    writeln!(page, "</div>")?;
    Ok(())
}
