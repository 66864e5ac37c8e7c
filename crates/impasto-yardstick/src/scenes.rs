//! Output for the page and the screen about objects in their places, and about pictures that follow another picture.

use crate::failure::Failure;
use crate::guides::STRENGTHS;
use crate::metrics;
use crate::plots;
use crate::record::Record;
use crate::statistics::{Figure, short};
use crate::summary::{ALL, Row, Summary};
use crate::table::{cell, dot, table};
use crate::task::{Method, Task};
use std::fmt::Write;

/// Groups of guided pictures with their names.
const GROUPS: [(&str, &str); 3] = [("image", "all"), ("image, portraits", "portraits"), ("image, scenes", "scenes")];

/// Rows of a task's methods.
fn rows(summary: &Summary, task: Task) -> impl Iterator<Item = &Row> {
    let methods = Method::ALL.into_iter().filter(move |method| method.does(task));
    methods.filter_map(move |method| summary.row(task.name(), method, ALL))
}

/// Rows of placement with the names of their tasks. Methods without painting come first.
fn placed(summary: &Summary) -> impl Iterator<Item = (&'static str, &Row)> {
    [Task::Place, Task::Swap].into_iter().flat_map(|task| rows(summary, task).map(move |row| (task.name(), row)))
}

/// Rows of a group of guided pictures with the guide's strength.
fn guided<'a>(summary: &'a Summary, group: &'a str) -> impl Iterator<Item = (f64, &'a Row)> {
    let of = move |strength: f64| Some((strength, summary.row(group, Method::Image, &strength.to_string())?));
    STRENGTHS.into_iter().filter_map(of)
}

/// Returns the figures of this module as lines for the screen.
pub fn lines(summary: &Summary) -> Vec<String> {
    let said = |row: &Row, task| {
        let figure = |(head, name): (&str, String)| Some(format!("{head} {}", row.figures.get(&name)?));
        metrics::heads(task).into_iter().filter_map(figure).collect::<Vec<_>>().join(", ")
    };
    let of_task = |task: Task| {
        rows(summary, task)
            .map(move |row| format!("{}, {}: {}", task.name(), row.method.name(), said(row, task)))
            .collect::<Vec<_>>()
    };
    let images = GROUPS.into_iter().flat_map(|(group, _)| {
        guided(summary, group)
            .map(move |(strength, row)| format!("{group}, strength {strength}: {}", said(row, Task::Image)))
    });
    let [places, others] = [[Task::Place, Task::Swap], [Task::Edges, Task::Reference]];
    places.into_iter().flat_map(of_task).chain(images).chain(others.into_iter().flat_map(of_task)).collect()
}

/// Writes a table of the figures of a task, with a row for each name. Without rows it writes nothing.
fn section<'a>(
    page: &mut String,
    task: Task,
    corner: &str,
    about: &str,
    rows: impl Iterator<Item = (String, &'a Row)>,
) -> Result<bool, Failure> {
    let figures = metrics::heads(task);
    let cells = |row: &Row| figures.iter().map(|(_, name)| cell(row.figures.get(name))).collect();
    let rows: Vec<_> = rows.map(|(name, row)| (name, cells(row))).collect();
    if !rows.is_empty() {
        writeln!(page, "{about}")?;
        table(page, corner, &figures.iter().map(|(head, _)| *head).collect::<Vec<_>>(), &rows)?;
    }
    Ok(!rows.is_empty())
}

pub fn places(page: &mut String, summary: &Summary, records: &[Record]) -> Result<(), Failure> {
    let about = "<h2>Placement of objects</h2>\n<p>Task <code>place</code>: one object in a quadrant. Task \
         <code>swap</code>: two objects, left and right, in both orders over the same noise.</p>";
    let rows = placed(summary).map(|(task, row)| (format!("{}, {task}", dot(row.method)), row));
    if !section(page, Task::Swap, "method", about, rows)? {
        return Ok(());
    }
    for method in Method::ALL.into_iter().filter(|method| method.does(Task::Place)) {
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
    let about = "<h2>Lines and strokes of a drawing</h2>\n<p>The edges of a drawing and smooth strokes in its colors \
         are the hint of a ControlNet; the prompt names no color. Edge F1: agreement of the picture’s edges with the \
         lines, within one pixel. An object is the area of one color around a stroke in the drawing. Its ΔE is between \
         its median color and the stroke’s color.</p>";
    let rows = rows(summary, Task::Edges).map(|row| (dot(row.method), row));
    section(page, Task::Edges, "method", about, rows).map(drop)
}

pub fn references(page: &mut String, summary: &Summary) -> Result<(), Failure> {
    let about = "<h2>Colors of a reference picture</h2>\n<p>Portraits in the colors of a drawn portrait, over the \
         edges of the unforced picture. ΔE is between the mean colors of each part that both pictures show. Edge F1: \
         agreement of the picture’s edges with those of the unforced picture, within one pixel.</p>";
    let rows = rows(summary, Task::Reference).map(|row| (dot(row.method), row));
    section(page, Task::Reference, "method", about, rows).map(drop)
}

pub fn image(page: &mut String, summary: &Summary) -> Result<(), Failure> {
    let about = "<h2>Pictures guided by a drawing</h2>\n<p>Likeness: cosine of the CLIP embeddings of the picture and \
         its guide. Palette distance: how far colors must be moved, in Lab, to become the guide’s. Objects kept: share \
         of the prompt’s objects with half their unguided area or more. Change: mean difference to the next lower \
         strength.</p>";
    let name = |strength: f64| if strength == 0.0 { "unguided".to_owned() } else { strength.to_string() };
    let rows = guided(summary, "image").map(|(strength, row)| (name(strength), row));
    if !section(page, Task::Image, "max_guidance", about, rows)? {
        return Ok(());
    }
    let lines = |name: &str| -> Vec<(&str, Vec<(f64, Figure)>)> {
        let figure = |(strength, row): (f64, &Row)| Some((strength, *row.figures.get(name)?));
        GROUPS.map(|(group, head)| (head, guided(summary, group).filter_map(figure).collect())).into()
    };
    write!(page, "<div class=\"legend\">")?;
    for (i, (_, head)) in GROUPS.iter().enumerate() {
        write!(page, "<span><span class=\"dot\" style=\"background:{}\"></span>{head}</span>", plots::line_color(i))?;
    }
    writeln!(page, "</div><div class=\"plots\">")?;
    for (name, axis) in metrics::of_task(Task::Image).filter_map(|metric| Some((metric.name, metric.axis?))) {
        writeln!(page, "<figure>{}</figure>", plots::strengths(&lines(name), axis)?)?;
    }
    writeln!(page, "</div>")?;
    Ok(())
}
