//! A run as a page of HTML. The page shows what guidance methods report and depends on no particular method.

use crate::frames::{Frame, frames};
use crate::numbers::lasted;
use crate::plot;
use impasto::guidance::{Curve, Report, Strip, Swatch};
use impasto::pipeline::Output;
use impasto::raster::{Filter, Raster};
use impasto::{Error, Result, Size};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::time::Duration;

/// Minimum side in pixels of a picture that the page shows without magnification. The page magnifies smaller pictures
/// and shows their pixels as squares.
const SHARP: u32 = 256;
/// Number of colors in the ribbon over the page. The colors come from the picture.
const RIBBON: u32 = 32;

/// Renders the run as a page, in one piece of HTML.
///
/// The page shows pictures, times, the recipe, and everything that guidance methods report: asked and painted colors,
/// masks, curves. The page loads no other file. Programs find everything but pixels as JSON in the element `run`.
///
/// # Errors
/// The errors of [`Picture::raster`](impasto::guidance::Picture::raster) for a guidance method's pictures.
pub fn page(output: &Output) -> Result<String> {
    let urls: Vec<String> = output.images.iter().map(Raster::data_url).collect::<Result<_>>()?;
    let pictures: String = urls.iter().enumerate().map(|(i, url)| format!("--picture-{i}: url({url});\n")).collect();
    let style = format!("{}:root {{ {pictures} }}\n", include_str!("page.css"));
    let reports: Vec<Markup> = output.reports.iter().map(|one| report(one, output)).collect::<Result<_>>()?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (output.recipe().config.prompt.lines().next().unwrap_or_default()) }
                meta name="viewport" content="width=device-width, initial-scale=1";
                style { (PreEscaped(style)) }
            }
            body {
                (ribbon(output)?)
                main {
                    (hero(output, &urls))
                    @for report in reports { (report) }
                    (notes(output))
                    (again(output)?)
                }
            }
        }
    };
    Ok(page.into_string())
}

/// Renders the first picture's colors from left to right.
fn ribbon(output: &Output) -> Result<Markup> {
    let Some(picture) = output.images.first() else { return Ok(Markup::default()) };
    let row = picture.resize((RIBBON, 1), Filter::Box)?;
    Ok(html! {
        div.ribbon aria-hidden="true" {
            @for color in (0..RIBBON).filter_map(|x| row.pixel(x, 0)) { i style=(format!("background:{color}")) {} }
        }
    })
}

/// Renders the pictures and the request.
fn hero(output: &Output, urls: &[String]) -> Markup {
    let recipe = output.recipe();
    let several = urls.len() > 1;
    html! {
        section.hero.many[several] {
            div.pictures {
                @for (image, (url, picture)) in urls.iter().zip(&output.images).enumerate() {
                    figure {
                        img.small[is_small(picture)] src=(url) alt=(format!("image {image}"));
                        @if several {
                            figcaption {
                                "image " (image) ", "
                                @if let Some(seed) = recipe.config.seed { "seed " (seed.wrapping_add(image as u64)) }
                            }
                        }
                    }
                }
            }
            div {
                h1 { (recipe.config.prompt) }
                @if !recipe.config.negative.is_empty() { p.soft { "negative prompt: " (recipe.config.negative) } }
                dl { @for (name, value) in recipe.infotext().fields { div { dt { (name) } dd { (value) } } } }
                (times(output))
            }
        }
    }
}

/// Renders the report of one method.
fn report(report: &Report, output: &Output) -> Result<Markup> {
    // Curves of all images that share a label share one plot.
    let mut plots: Vec<(&str, Vec<&Curve>)> = Vec::new();
    for curve in &report.curves {
        match plots.iter_mut().find(|(label, _)| *label == curve.label) {
            Some((_, curves)) => curves.push(curve),
            None => plots.push((&curve.label, vec![curve])),
        }
    }
    let steps = output.timing.steps.len();
    let mut reels = Vec::new();
    for image in std::iter::once(None).chain((0..output.images.len()).map(Some)) {
        let frames = frames(report, |one| one == image)?;
        let figures: Vec<Markup> = frames.iter().map(|frame| drawn(frame, output)).collect::<Result<_>>()?;
        if !figures.is_empty() {
            reels.push((named(image, output), figures));
        }
    }
    let data = serde_json::to_string_pretty(&report.data).map_err(|error| malformed(&error))?;
    Ok(html! {
        section {
            h2 { (report.name) }
            @if !(report.swatches.is_empty() && plots.is_empty()) {
                div.cards {
                    @for one in &report.swatches { (swatch(one, output)) }
                    @for (label, curves) in &plots { (plot::curves(label, curves, steps)) }
                }
            }
            @if !report.strips.is_empty() {
                div.strips { @for one in &report.strips { (strip(one, output)) } }
            }
            @for (whose, figures) in reels {
                @if !whose.is_empty() { p.soft { (whose) } }
                div.reel { @for figure in figures { (figure) } }
            }
            @if !report.data.is_null() {
                details { summary { "all values" } pre { (data) } }
            }
        }
    })
}

fn swatch(swatch: &Swatch, output: &Output) -> Markup {
    let Swatch { label, image, asked, painted, delta_e, .. } = swatch;
    let (class, word) = match *delta_e {
        near if near <= 1.0 => ("met", "no visible difference"),
        near if near <= 2.0 => ("met", "visible to a trained eye, side by side"),
        near if near <= 5.0 => ("near", "visible side by side"),
        near if near <= 10.0 => ("near", "visible at a glance"),
        _ => ("off", "a different color"),
    };
    let whose = named(*image, output);
    html! {
        figure class=(format!("swatch {class}")) {
            div.pair {
                span style=(format!("background:{asked}")) {}
                span style=(format!("background:{painted}")) {}
            }
            figcaption {
                b { "ΔE " (format!("{delta_e:.1}")) } " " (word) br;
                span.soft {
                    (label) @if !whose.is_empty() { ", " (whose) }
                    ": requested " code { (asked) } ", painted " code { (painted) }
                }
            }
        }
    }
}

fn strip(strip: &Strip, output: &Output) -> Markup {
    let whose = named(strip.image, output);
    html! {
        figure.strip {
            div {
                @for (step, color) in &strip.colors {
                    i style=(format!("background:{color}")) title=(format!("step {}: {color}", step + 1)) {}
                }
            }
            figcaption {
                (strip.label) @if !whose.is_empty() { ", " (whose) }
                @if let (Some((first, _)), Some((last, _))) = (strip.colors.first(), strip.colors.last()) {
                    ", steps " (first + 1) " to " (last + 1)
                }
            }
        }
    }
}

/// Renders a picture of a report. A map lies over the image that it describes.
fn drawn(frame: &Frame<'_>, output: &Output) -> Result<Markup> {
    let Frame { picture, raster, .. } = frame;
    let below = picture.image.unwrap_or_default();
    let over = picture.is_map() && below < output.images.len();
    let under = over.then(|| format!("background-image:var(--picture-{below})"));
    let url = raster.data_url()?;
    Ok(html! {
        figure {
            div.map[over] style=[under] {
                img.small[is_small(raster)] src=(url) alt=(frame.caption());
            }
            figcaption { (frame.caption()) }
        }
    })
}

fn times(output: &Output) -> Markup {
    let timing = &output.timing;
    let (text, decode) = (timing.text + timing.first_pass.iter().sum::<Duration>(), timing.decode);
    let steps: Duration = timing.steps.iter().sum();
    let total = timing.total().as_secs_f64().max(f64::MIN_POSITIVE);
    let before =
        if timing.first_pass.is_empty() { "before the first step" } else { "before the first step, with a first pass" };
    html! {
        p.total { (lasted(timing.total())) " in total, " (lasted(timing.step())) " per step" }
        div.time aria-hidden="true" {
            @for (class, time) in [("text", text), ("steps", steps), ("decode", decode)] {
                i class=(class) style=(format!("width:{:.2}%", 100.0 * time.as_secs_f64() / total)) {}
            }
        }
        p.legend {
            span.text { (before) " " (lasted(text)) } " "
            span.steps { (timing.steps.len()) " steps " (lasted(steps)) } " "
            span.decode { "decoding " (lasted(decode)) }
        }
        (plot::bars(&timing.steps))
    }
}

fn notes(output: &Output) -> Markup {
    html! {
        @if !output.notes.is_empty() {
            section {
                h2 { "Notes" }
                ul { @for note in &output.notes { li { (note) } } }
            }
        }
    }
}

/// Renders the data that repeats the run, for people and for programs.
fn again(output: &Output) -> Result<Markup> {
    let recipe = output.recipe();
    let pretty = serde_json::to_string_pretty(recipe).map_err(|error| malformed(&error))?;
    let notes: Vec<String> = output.notes.iter().map(ToString::to_string).collect();
    let run = serde_json::json!({
        "recipe": recipe, "notes": notes, "timing": &output.timing, "reports": &output.reports,
    });
    Ok(html! {
        section {
            h2 { "Repeat this run" }
            @if recipe.missing.is_empty() {
                p {
                    "The recipe below repeats this run. Every picture that impasto saves contains the recipe."
                }
            } @else {
                p { "The recipe below repeats this run, except for:" }
                ul { @for what in &recipe.missing { li { (what.text) } } }
            }
            details { summary { "settings for other programs (infotext)" } pre { (recipe.infotext()) } }
            details { summary { "recipe (JSON)" } pre { (pretty) } }
        }
        script type="application/json" id="run" { (PreEscaped(run.to_string().replace('<', "\\u003c"))) }
    })
}

/// Returns the name of an image; empty if the batch has one image or if `image` is `None`.
fn named(image: Option<usize>, output: &Output) -> String {
    let image = image.filter(|_| output.images.len() > 1);
    image.map_or_else(String::new, |image| format!("image {image}"))
}

fn is_small(picture: &Raster) -> bool {
    let Size { width, height } = picture.size();
    width.min(height) < SHARP
}

fn malformed(problem: &serde_json::Error) -> Error {
    Error::Malformed { file: "report".into(), problem: problem.to_string() }
}
