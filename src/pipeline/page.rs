//! A run as a page. It shows what guidances report and knows none of them.

mod plot;

pub(super) use plot::range;

use super::Output;
use super::reel::{Frame, reel};
use crate::error::{Error, Result};
use crate::guidance::{Curve, Report, Strip, Swatch};
use crate::raster::{Filter, Raster};
use std::time::Duration;

/// Pixels that pictures have at least, either way: smaller ones are magnified by the page, their pixels as squares.
const SHARP: u32 = 256;
/// Colors of the ribbon over the page, made of the picture.
const RIBBON: u32 = 32;

/// The page of a run.
pub(super) fn page(output: &Output) -> Result<String> {
    let urls: Vec<String> = output.images.iter().map(Raster::data_url).collect::<Result<_>>()?;
    let pictures: String = urls.iter().enumerate().map(|(i, url)| format!("--picture-{i}: url({url});\n")).collect();
    let reports: Vec<String> = output.reports.iter().map(|one| report(one, output)).collect::<Result<_>>()?;
    let title = escaped(output.recipe.prompt.lines().next().unwrap_or_default());
    let (style, ribbon) = (include_str!("page/page.css"), ribbon(output)?);
    Ok([
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n".into(),
        format!("<title>{title}</title>\n"),
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n".into(),
        format!("<style>\n{style}:root {{ {pictures} }}\n</style></head>\n<body>\n{ribbon}<main>\n"),
        hero(output, &urls),
        reports.concat(),
        notes(output),
        again(output)?,
        "</main></body></html>\n".into(),
    ]
    .concat())
}

/// The picture's colors from left to right.
fn ribbon(output: &Output) -> Result<String> {
    let Some(picture) = output.images.first() else { return Ok(String::new()) };
    let row = picture.resize(1, RIBBON, Filter::Box)?;
    let colors = (0..RIBBON).filter_map(|x| row.pixel(x, 0));
    let cells: String = colors.map(|color| format!("<i style=\"background:{color}\"></i>")).collect();
    Ok(format!("<div class=\"ribbon\" aria-hidden=\"true\">{cells}</div>\n"))
}

/// Pictures, and what was asked for.
fn hero(output: &Output, urls: &[String]) -> String {
    let recipe = &output.recipe;
    let figure = |(image, (url, picture)): (usize, (&String, &Raster))| {
        let seed = recipe.seed.map_or_else(String::new, |seed| format!("seed {}", seed.wrapping_add(image as u64)));
        let class = if picture.width().min(picture.height()) < SHARP { " class=\"small\"" } else { "" };
        let caption =
            if urls.len() > 1 { format!("<figcaption>image {image}, {seed}</figcaption>") } else { String::new() };
        format!("<figure><img{class} src=\"{url}\" alt=\"image {image}\">{caption}</figure>\n")
    };
    let figures: String = urls.iter().zip(&output.images).enumerate().map(figure).collect();
    let info = recipe.infotext();
    let fact =
        |(name, value): &(String, String)| format!("<div><dt>{}</dt><dd>{}</dd></div>", escaped(name), escaped(value));
    let facts: String = info.fields.iter().map(fact).collect();
    let negative = if recipe.negative.is_empty() {
        String::new()
    } else {
        format!("<p class=\"soft\">not: {}</p>\n", escaped(&recipe.negative))
    };
    let many = if urls.len() > 1 { " many" } else { "" };
    format!(
        "<section class=\"hero{many}\"><div class=\"pictures\">\n{figures}</div>\n<div><h1>{}</h1>\n{negative}\
         <dl>{facts}</dl>\n{}</div></section>\n",
        escaped(&recipe.prompt),
        times(output)
    )
}

/// What one guidance shows.
fn report(report: &Report, output: &Output) -> Result<String> {
    let swatches: String = report.swatches.iter().map(|one| swatch(one, output)).collect();
    let strips: String = report.strips.iter().map(|one| strip(one, output)).collect();
    // The curves of all images under one label are one plot.
    let mut plots: Vec<(&str, Vec<&Curve>)> = Vec::new();
    for curve in &report.curves {
        match plots.iter_mut().find(|(label, _)| *label == curve.label) {
            Some((_, curves)) => curves.push(curve),
            None => plots.push((&curve.label, vec![curve])),
        }
    }
    let steps = output.timing.steps.len();
    let plots: String = plots.iter().map(|(label, curves)| plot::curves(label, curves, steps)).collect();
    let mut rows = String::new();
    let images = (0..output.images.len()).map(Some);
    for image in std::iter::once(None).chain(images) {
        let frames = reel(report, |one| one == image)?;
        let figures: Vec<String> = frames.iter().map(|frame| drawn(frame, output)).collect::<Result<_>>()?;
        if figures.is_empty() {
            continue;
        }
        let whose = named(image, output);
        let whose = if whose.is_empty() { whose } else { format!("<p class=\"soft\">{whose}</p>\n") };
        rows += &format!("{whose}<div class=\"reel\">\n{}</div>\n", figures.concat());
    }
    let data = serde_json::to_string_pretty(&report.data).map_err(|error| malformed(&error))?;
    let data = match &report.data {
        serde_json::Value::Null => String::new(),
        _ => format!("<details><summary>all figures</summary><pre>{}</pre></details>\n", escaped(&data)),
    };
    let wrapped = |class: &str, inner: String| {
        if inner.is_empty() { inner } else { format!("<div class=\"{class}\">{inner}</div>\n") }
    };
    let name = escaped(&report.name);
    let (cards, strips) = (wrapped("cards", swatches + &plots), wrapped("strips", strips));
    Ok(format!("<section><h2>{name}</h2>\n{cards}{strips}{rows}{data}</section>\n"))
}

fn swatch(swatch: &Swatch, output: &Output) -> String {
    let Swatch { label, image, asked, painted, delta_e } = swatch;
    let (class, word) = match *delta_e {
        near if near <= 1.0 => ("met", "nobody sees a difference"),
        near if near <= 2.0 => ("met", "a trained eye sees it, side by side"),
        near if near <= 5.0 => ("near", "seen side by side"),
        near if near <= 10.0 => ("near", "seen at a glance"),
        _ => ("off", "another color"),
    };
    let whose = named(*image, output);
    let whose = if whose.is_empty() { whose } else { format!(", {whose}") };
    format!(
        "<figure class=\"swatch {class}\"><div class=\"pair\"><span style=\"background:{asked}\"></span>\
         <span style=\"background:{painted}\"></span></div><figcaption><b>ΔE {delta_e:.1}</b> {word}<br>\
         <span class=\"soft\">{}{whose}: asked <code>{asked}</code>, painted <code>{painted}</code></span></figcaption></figure>\n",
        escaped(label)
    )
}

fn strip(strip: &Strip, output: &Output) -> String {
    let cell = |(step, color): &(usize, crate::color::Rgb)| {
        format!("<i style=\"background:{color}\" title=\"step {}: {color}\"></i>", step + 1)
    };
    let cells: String = strip.colors.iter().map(cell).collect();
    let (first, last) = (strip.colors.first(), strip.colors.last());
    let span = first.zip(last).map_or_else(String::new, |(a, b)| format!(", steps {} to {}", a.0 + 1, b.0 + 1));
    let whose = named(strip.image, output);
    let whose = if whose.is_empty() { whose } else { format!(", {whose}") };
    let label = escaped(&strip.label);
    format!("<figure class=\"strip\"><div>{cells}</div><figcaption>{label}{whose}{span}</figcaption></figure>\n")
}

/// A picture of a report; a map lies over the picture that it is a map of.
fn drawn(frame: &Frame<'_>, output: &Output) -> Result<String> {
    let Frame { picture, raster, .. } = frame;
    let below = picture.image.unwrap_or_default();
    let over = if picture.is_map() && below < output.images.len() {
        format!(" class=\"map\" style=\"background-image:var(--picture-{below})\"")
    } else {
        String::new()
    };
    let small = if raster.width().min(raster.height()) < SHARP { " class=\"small\"" } else { "" };
    let caption = escaped(&frame.caption());
    Ok(format!(
        "<figure><div{over}><img{small} src=\"{}\" alt=\"{caption}\"></div><figcaption>{caption}</figcaption></figure>\n",
        raster.data_url()?
    ))
}

fn times(output: &Output) -> String {
    let timing = &output.timing;
    let (text, decode) = (timing.text + timing.first_pass.iter().sum::<Duration>(), timing.decode);
    let steps: Duration = timing.steps.iter().sum();
    let total = timing.total().as_secs_f64().max(f64::MIN_POSITIVE);
    let part = |class: &str, time: Duration| {
        let share = 100.0 * time.as_secs_f64() / total;
        format!("<i class=\"{class}\" style=\"width:{share:.2}%\"></i>")
    };
    let (a, b, c) = (part("text", text), part("steps", steps), part("decode", decode));
    format!(
        "<p class=\"total\">{} in all, {} a step</p>\n<div class=\"time\" aria-hidden=\"true\">{a}{b}{c}</div>\n\
         <p class=\"legend\"><span class=\"text\">{} {}</span> <span class=\"steps\">{} steps {}</span> \
         <span class=\"decode\">picture {}</span></p>\n{}",
        lasted(timing.total()),
        lasted(timing.step()),
        if timing.first_pass.is_empty() { "before the first step" } else { "before the first step, with a first pass" },
        lasted(text),
        timing.steps.len(),
        lasted(steps),
        lasted(decode),
        plot::bars(&timing.steps)
    )
}

fn notes(output: &Output) -> String {
    if output.notes.is_empty() {
        return String::new();
    }
    let items: String = output.notes.iter().map(|note| format!("<li>{}</li>\n", escaped(note))).collect();
    format!("<section><h2>Notes</h2>\n<ul>\n{items}</ul></section>\n")
}

/// What makes it again, for people and for programs.
fn again(output: &Output) -> Result<String> {
    let recipe = &output.recipe;
    let missing: String = recipe.missing.iter().map(|what| format!("<li>{}</li>\n", escaped(what))).collect();
    let how = if recipe.missing.is_empty() {
        "<p>Everything that makes this run again is in the recipe below, and in every picture that <code>Output::save</code> \
         writes.</p>\n"
            .to_owned()
    } else {
        format!("<p>The recipe below makes this run again, but for:</p>\n<ul>\n{missing}</ul>\n")
    };
    let pretty = serde_json::to_string_pretty(recipe).map_err(|error| malformed(&error))?;
    let run = serde_json::json!({
        "recipe": recipe, "notes": output.notes, "timing": output.timing, "reports": output.reports,
    });
    Ok(format!(
        "<section><h2>Again</h2>\n{how}<details><summary>in the words of other programs</summary><pre>{}</pre></details>\n\
         <details><summary>the recipe</summary><pre>{}</pre></details></section>\n\
         <script type=\"application/json\" id=\"run\">{}</script>\n",
        escaped(&recipe.infotext().to_string()),
        escaped(&pretty),
        run.to_string().replace('<', "\\u003c")
    ))
}

/// Which image of the batch, if there are several.
fn named(image: Option<usize>, output: &Output) -> String {
    let image = image.filter(|_| output.images.len() > 1);
    image.map_or_else(String::new, |image| format!("image {image}"))
}

/// A time for people.
pub(super) fn lasted(time: Duration) -> String {
    match time.as_secs_f64() {
        long if long.round() >= 60.0 => format!("{} min {} s", long.round() as u64 / 60, long.round() as u64 % 60),
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        short if short >= 0.01 => format!("{:.0} ms", 1e3 * short),
        tiny => format!("{:.1} ms", 1e3 * tiny),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn malformed(problem: &serde_json::Error) -> Error {
    Error::Malformed { file: "report".into(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_before_they_are_split() {
        let told = [0.000_4, 0.25, 1.26, 59.4, 59.7, 61.2, 119.6, 3600.0].map(|s| lasted(Duration::from_secs_f64(s)));
        assert_eq!(told, ["0.4 ms", "250 ms", "1.3 s", "59.4 s", "1 min 0 s", "1 min 1 s", "2 min 0 s", "60 min 0 s"]);
    }
}
