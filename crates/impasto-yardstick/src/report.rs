//! Reports for people and programs: `summary.json`, `runs.csv`, `report.html`, and the table on the screen.

use crate::failure::Failure;
use crate::gallery::{badness, path};
use crate::metrics::{self, Of};
use crate::plots;
use crate::record::{PartFigures, Record};
use crate::scenes;
use crate::statistics::{Figure, median, short};
use crate::summary::{ALL, Summary, Verdict, best_threshold};
use crate::table::{cell, dot, number, table};
use crate::task::{Mask, Method, PARTS, Task};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use impasto::Rgb;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// Numbers of the worst and of the ordinary runs that the page shows.
const SHOWN: (usize, usize) = (24, 12);

pub fn write(folder: &Path, summary: &Summary, records: &[Record]) -> Result<(), Failure> {
    whole(&folder.join("summary.json"), &serde_json::to_vec_pretty(summary)?)?;
    whole(&folder.join("runs.csv"), csv(records).as_bytes())?;
    whole(&folder.join("report.html"), html(folder, summary, records)?.as_bytes())
}

/// Writes a file whole or not at all.
fn whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let part = path.with_extension("part");
    std::fs::write(&part, bytes).map_err(|error| format!("{}: {error}", part.display()))?;
    Ok(std::fs::rename(&part, path)?)
}

/// Prints the verdicts and, without `check`, the main figures.
pub fn print(summary: &Summary, check: bool) {
    for verdict in &summary.verdicts {
        println!("{}", line(verdict));
    }
    if check {
        return;
    }
    if Method::ALL.into_iter().any(|method| summary.row("color", method, ALL).is_some()) {
        println!(
            "\n{:<10} {:>26} {:>8} {:>22} {:>7} {:>9}",
            "method", "ΔE median", "p90", "leakage", "retry", "coverage"
        );
    }
    for method in Method::ALL {
        let Some(row) = summary.row("color", method, ALL) else { continue };
        let text = |name: &str| row.figures.get(name).map_or("–".into(), ToString::to_string);
        let value = |name: &str| row.figures.get(name).map_or("–".into(), |figure| number(figure.value));
        let (delta_e, leak) = (text("delta_e"), text("leak"));
        let (p90, retry, coverage) = (value("delta_e_p90"), value("retry"), value("coverage"));
        println!("{:<10} {delta_e:>26} {p90:>8} {leak:>22} {retry:>7} {coverage:>9}", method.name());
    }
    for line in scenes::lines(summary) {
        println!("{line}");
    }
    println!("\n{} seeds, {} runs, {} failed", summary.seeds, summary.runs, summary.failed);
    for reason in &summary.reasons {
        println!("{reason}");
    }
}

fn line(verdict: &Verdict) -> String {
    let Verdict { what, value, bound, target, note, .. } = verdict;
    let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
    format!("{:<7} {}: {what} {value}, {bound} {}{note}", word(verdict), verdict.method.name(), short(*target))
}

fn word(verdict: &Verdict) -> &'static str {
    if verdict.met { "met" } else { "missed" }
}

// ---- CSV ----

/// Writes records as CSV, one row for each run. Of several parts a row has the one that was missed most.
pub fn csv(records: &[Record]) -> String {
    let mut text = String::from("key,task,method,style,part,rgb,prompt,seed,wanted,status");
    let columns = metrics::columns();
    columns.iter().for_each(|(name, _)| text.extend([",", name]));
    text.push_str(",ms\n");
    for record in records {
        let status = serde_json::to_value(record.status).ok().and_then(|status| Some(status.as_str()?.to_owned()));
        let words: [&str; 10] = [
            &record.key,
            record.task.name(),
            record.method.name(),
            record.style.name(),
            &record.part,
            &record.rgb,
            &record.prompt,
            &record.seed.to_string(),
            &record.wanted.to_string(),
            &status.unwrap_or_default(),
        ];
        text.push_str(&words.map(quoted).join(","));
        let worst = record.parts.iter().max_by(|a, b| a.delta_e().total_cmp(&b.delta_e()));
        let mut cell = |value: Option<f64>| {
            text.push(',');
            text.extend(value.map(|value| value.to_string()));
        };
        for (_, metric) in &columns {
            let value = match metric.of {
                Of::Run(of) => of(record),
                _ => worst.and_then(|part| metric.of_part(part)),
            };
            cell(value.filter(|value| value.is_finite()));
        }
        cell(Some(record.ms));
        text.push('\n');
    }
    text
}

fn quoted(word: &str) -> String {
    if word.contains([',', '"', '\n']) { format!("\"{}\"", word.replace('"', "\"\"")) } else { word.to_owned() }
}

// ---- HTML ----

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn html(folder: &Path, summary: &Summary, records: &[Record]) -> Result<String, Failure> {
    let mut page = String::new();
    let title = format!("Yardstick: {}, suite {}", escaped(&summary.split), summary.suite);
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>\n{}</style></head>\n<body><main>\n",
        include_str!("page.css")
    )?;
    head(&mut page, summary)?;
    verdicts(&mut page, summary)?;
    methods(&mut page, summary)?;
    unsteady(&mut page, records)?;
    color_plots(&mut page, records)?;
    kinds(&mut page, summary)?;
    saliency(&mut page, summary)?;
    scenes::places(&mut page, summary, records)?;
    scenes::image(&mut page, summary)?;
    scenes::drawings(&mut page, summary)?;
    scenes::references(&mut page, summary)?;
    several(&mut page, summary)?;
    calibration(&mut page, folder)?;
    runs(&mut page, folder, summary, records)?;
    let all = serde_json::to_string(summary)?.replace('<', "\\u003c");
    write!(page, "<script type=\"application/json\" id=\"summary\">{all}</script>\n</main></body></html>\n")?;
    Ok(page)
}

fn head(page: &mut String, summary: &Summary) -> Result<(), Failure> {
    let met = summary.verdicts.iter().filter(|verdict| verdict.met).count();
    let targets = summary.verdicts.len();
    writeln!(page, "<h1>Accuracy of guidance methods</h1>")?;
    write!(
        page,
        "<p class=\"soft\">{}, suite {}: {met} of {targets} targets met. ",
        escaped(&summary.split),
        summary.suite
    )?;
    write!(page, "{} seeds, {} runs, {} failed", summary.seeds, summary.runs, summary.failed)?;
    if summary.made.judge == "saliency" {
        write!(page, "; <strong>self-judged</strong>: the model's own attention locates the parts")?;
    }
    if let Some(missing) = summary.model_missing {
        write!(page, "; the model did not draw {:.1} % of the requested parts", 100.0 * missing)?;
    }
    writeln!(page, ".</p>")?;
    let about = &summary.about;
    if let Some(done) = about.incomplete {
        writeln!(page, "<p><strong>Incomplete: {:.0} %</strong> of the runs are finished.</p>", 100.0 * done)?;
    }
    if let Some(over) = about.beyond_budget {
        writeln!(page, "<p>The minimum number of seeds took {over:.1} minutes longer than the time budget.</p>")?;
    }
    if summary.unrepresentable.len() > 1 {
        let colors = summary.unrepresentable.join(", ");
        writeln!(page, "<p>The decoder cannot show {} of the colors: {colors}.</p>", summary.unrepresentable.len())?;
    }
    let made = &summary.made;
    writeln!(
        page,
        "<p class=\"small soft\"><code>yardstick {}</code><br>{} · version {} · model <code>{}</code> · judge {} · settings <code>{}</code></p>",
        escaped(&about.command),
        summary.label,
        escaped(&made.version),
        made.model,
        escaped(&made.judge),
        made.settings
    )?;
    Ok(())
}

fn verdicts(page: &mut String, summary: &Summary) -> Result<(), Failure> {
    writeln!(page, "<div class=\"score\">")?;
    for verdict in &summary.verdicts {
        let Verdict { what, value, bound, target, note, met, tight, .. } = verdict;
        let sign = match bound.as_str() {
            "at most" => "≤",
            "at least" => "≥",
            "below" => "<",
            _ => ">",
        };
        let tight = if *tight { " <span class=\"tight\">interval crosses the target</span>" } else { "" };
        let note = if note.is_empty() { String::new() } else { format!("<br>{}", escaped(note)) };
        writeln!(
            page,
            "<div class=\"verdict{}\"><code>{}</code> {}<b>{}</b><span class=\"small soft\">{value}</span><br>\
             <span class=\"word\">{}</span> {sign} {}{tight}<span class=\"small soft\">{note}</span></div>",
            if *met { " met" } else { "" },
            verdict.method.name(),
            escaped(what),
            number(value.value),
            word(verdict),
            short(*target)
        )?;
    }
    writeln!(page, "</div>")?;
    if !summary.reasons.is_empty() {
        writeln!(page, "<h2>Sources of the error</h2><ul>")?;
        summary.reasons.iter().try_for_each(|reason| writeln!(page, "<li>{}</li>", escaped(reason)))?;
        writeln!(page, "</ul>")?;
    }
    Ok(())
}

fn methods(page: &mut String, summary: &Summary) -> Result<(), Failure> {
    let there: Vec<Method> =
        Method::ALL.into_iter().filter(|method| summary.row("color", *method, ALL).is_some()).collect();
    if there.is_empty() {
        return Ok(());
    }
    let parts = summary.parts();
    writeln!(page, "<h2>Distance to the requested color</h2>")?;
    writeln!(
        page,
        "<p>Median CIEDE2000 between the requested color and the part's material, the dominant color of the part as the \
         judge finds it; below, the 95 % interval. 1 is just visible side by side; above 5, a user tries again.</p>"
    )?;
    let by_part = |method: &Method| {
        let figure = |part: &str| cell(summary.row("color", *method, part).and_then(|row| row.figures.get("delta_e")));
        (dot(*method), parts.iter().chain([&ALL]).map(|part| figure(part)).collect())
    };
    let heads: Vec<String> = parts.iter().map(|part| escaped(part)).chain(["all parts".into()]).collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    table(page, "method", &heads, &there.iter().map(by_part).collect::<Vec<_>>())?;

    writeln!(page, "<h2>Other figures of a color</h2>")?;
    writeln!(
        page,
        "<p>Leakage: color change of the other parts. Coverage: share of the part within ΔE 10 of the requested \
         color. Texture: remaining shading; 1 is all of it. <code>gcb</code>: share that is right by GenColorBench's \
         rule. Retry: share of runs after which a user tries again.</p>"
    )?;
    let figures = metrics::heads(Task::Named);
    let heads: Vec<&str> = figures.iter().map(|(head, _)| *head).collect();
    let by_figure = |method: &Method| {
        let row = summary.row("color", *method, ALL);
        (dot(*method), figures.iter().map(|(_, name)| cell(row.and_then(|row| row.figures.get(name)))).collect())
    };
    table(page, "method", &heads, &there.iter().map(by_figure).collect::<Vec<_>>())?;
    if !summary.against_doc.is_empty() {
        let less = |(method, figure): (&String, &Figure)| format!("<code>{method}</code> {figure}");
        let all = summary.against_doc.iter().map(less).collect::<Vec<_>>().join(", ");
        writeln!(
            page,
            "<p class=\"small soft\">Median difference in ΔE to <code>doc</code> in the same runs: {all}.</p>"
        )?;
    }
    Ok(())
}

fn unsteady(page: &mut String, records: &[Record]) -> Result<(), Failure> {
    let parts = records.iter().flat_map(|record| &record.parts).filter(|part| part.unsteady);
    let parts: BTreeSet<&str> = parts.map(|part| part.part.as_str()).collect();
    if !parts.is_empty() {
        let parts = escaped(&parts.into_iter().collect::<Vec<_>>().join(", "));
        writeln!(
            page,
            "<p class=\"small soft\">{parts}: measured where the judge sees the part in both pictures.</p>"
        )?;
    }
    Ok(())
}

fn color_plots(page: &mut String, records: &[Record]) -> Result<(), Failure> {
    let methods: BTreeSet<Method> = records
        .iter()
        .filter(|record| matches!(record.task, Task::Named | Task::Numeric) && !record.parts.is_empty())
        .map(|record| record.method)
        .collect();
    if methods.is_empty() {
        return Ok(());
    }
    write!(page, "<h2>All runs</h2><div class=\"legend\">")?;
    methods.iter().try_for_each(|method| write!(page, "<span>{}</span>", dot(*method)))?;
    writeln!(page, "</div><div class=\"plots\">")?;
    let figure = |svg: String, text: &str| format!("<figure>{svg}<figcaption>{text}</figcaption></figure>\n");
    page.push_str(&figure(
        plots::cumulative(records)?,
        "Share of runs within each distance; a curve further left is better.",
    ));
    page.push_str(&figure(
        plots::scatter(records)?,
        "Distance against leakage, one point per run; the lower left corner is the goal.",
    ));
    let best = methods.iter().rev().copied().find(|method| method.row().mask == Mask::Attention);
    if let Some(method) = best {
        let text = format!(
            "The requested colors; larger circles have a larger median distance with <code>{}</code>.",
            method.name()
        );
        page.push_str(&figure(plots::plane(records, method)?, &text));
    }
    writeln!(page, "<div class=\"colors\">")?;
    by_color(page, records, &methods)?;
    writeln!(page, "</div></div>")?;
    Ok(())
}

/// Writes a table with the median ΔE of every method for every color.
fn by_color(page: &mut String, records: &[Record], methods: &BTreeSet<Method>) -> Result<(), Failure> {
    let mut deltas: BTreeMap<[u8; 3], BTreeMap<Method, Vec<f64>>> = BTreeMap::new();
    for (record, part) in plots::singles(records) {
        let Rgb(r, g, b) = part.target;
        deltas.entry([r, g, b]).or_default().entry(record.method).or_default().push(part.delta_e());
    }
    let heads: Vec<&str> = methods.iter().map(|method| method.name()).collect();
    let row = |([r, g, b], by_method): (&[u8; 3], &BTreeMap<Method, Vec<f64>>)| {
        let of = |method| by_method.get(method).map_or("–".into(), |values| short(median(values.clone())));
        let color = Rgb(*r, *g, *b);
        let name = format!("{}<code>{color}</code>", swatch(color));
        (name, methods.iter().map(|method| format!("<td>{}</td>", of(method))).collect())
    };
    table(page, "requested", &heads, &deltas.iter().map(row).collect::<Vec<_>>())
}

fn swatch(color: Rgb) -> String {
    format!("<span class=\"swatch\" style=\"background:{color}\" title=\"{color}\"></span>")
}

/// Writes a table of all methods with the columns (head, group and figure) that have a value. `about` comes before it.
fn by_group(page: &mut String, summary: &Summary, about: &str, columns: &[(&str, &str, &str)]) -> Result<(), Failure> {
    let figure =
        |method, group: &str, name: &str| summary.row(group, method, ALL).and_then(|row| row.figures.get(name));
    let any = |group: &str, name: &str| Method::ALL.into_iter().any(|method| figure(method, group, name).is_some());
    let columns: Vec<_> = columns.iter().filter(|(_, group, name)| any(group, name)).collect();
    if columns.is_empty() {
        return Ok(());
    }
    let of = |method| columns.iter().map(|(_, group, name)| figure(method, group, name)).collect::<Vec<_>>();
    let rows: Vec<(String, Vec<String>)> = Method::ALL
        .into_iter()
        .filter(|method| of(*method).iter().any(Option::is_some))
        .map(|method| (dot(method), of(method).into_iter().map(cell).collect()))
        .collect();
    writeln!(page, "{about}")?;
    table(page, "method", &columns.iter().map(|(head, ..)| *head).collect::<Vec<_>>(), &rows)
}

/// Writes a table by kind: small and large parts, and colors at the edge of the gamut and inside.
fn kinds(page: &mut String, summary: &Summary) -> Result<(), Failure> {
    const COLUMNS: [(&str, &str, &str); 8] = [
        ("small parts", "small", "delta_e"),
        ("medium parts", "middle", "delta_e"),
        ("large parts", "large", "delta_e"),
        ("corner colors", "corner", "delta_e"),
        ("interior colors", "interior", "delta_e"),
        ("named colors", "named", "delta_e"),
        ("numeric colors", "numeric", "delta_e"),
        ("unreachable colors", "unrepresentable", "delta_e"),
    ];
    let about = "<h2>Kinds of parts and colors</h2>\n<p>Median distance. Corner colors have a channel near its lowest \
         or highest value, so shading pulls the mean inward.</p>";
    by_group(page, summary, about, &COLUMNS)
}

fn saliency(page: &mut String, summary: &Summary) -> Result<(), Failure> {
    let kinds = Method::ALL.into_iter().filter_map(|method| Some((method, method.row().attention?)));
    for (i, (method, kind)) in kinds.enumerate() {
        let Some((name, _)) = best_threshold(&summary.rows, method) else { continue };
        let mut values = Vec::new();
        for part in PARTS {
            let Some(row) = summary.row("saliency", method, part) else { continue };
            let ceiling = row.figures.get("ceiling").and_then(|figure| figure.value).unwrap_or(0.0);
            values.extend(row.figures.get(name).map(|figure| (part.to_owned(), *figure, ceiling)));
        }
        if i == 0 {
            writeln!(page, "<h2>Attention compared with the judge</h2>")?;
        }
        writeln!(
            page,
            "<p>{kind}: IoU of attention above .{} with the judge's region. Wide bars: best IoU of whole latent \
             cells.</p>",
            name.trim_start_matches("iou_")
        )?;
        writeln!(page, "<figure class=\"middle\">{}</figure>", plots::bars(&values)?)?;
    }
    Ok(())
}

/// Writes a table of runs with several colors at once, or with color words for other parts.
fn several(page: &mut String, summary: &Summary) -> Result<(), Failure> {
    const COLUMNS: [(&str, &str, &str); 10] = [
        ("one part, ΔE", "binding", "delta_e"),
        ("color names kept", "binding", "names_kept"),
        ("two parts, ΔE", "many 2", "delta_e"),
        ("all within ΔE 5", "many 2", "all_within_5"),
        ("three parts, ΔE", "many 3", "delta_e"),
        ("all within ΔE 5", "many 3", "all_within_5"),
        ("four parts, ΔE", "many 4", "delta_e"),
        ("all within ΔE 5", "many 4", "all_within_5"),
        ("two parts in one color, ΔE", "same", "delta_e"),
        ("both within ΔE 5", "same", "all_within_5"),
    ];
    let about = "<h2>Other color words, and several colors at once</h2>\n<p>One part in a prompt with color words for \
         other parts, and the share of these words that stay right; two to four parts, each in its own color; two parts \
         in one color.</p>";
    by_group(page, summary, about, &COLUMNS)
}

fn calibration(page: &mut String, folder: &Path) -> Result<(), Failure> {
    let Some(all) = crate::calibration::Calibration::near(folder)? else { return Ok(()) };
    let rows: Vec<(String, Vec<String>)> = all
        .parts
        .iter()
        .map(|(part, row)| {
            let cells = row.cells().map(|(_, value)| format!("<td>{}</td>", value.map_or("–".into(), short)));
            (escaped(part), cells.to_vec())
        })
        .collect();
    writeln!(page, "<h2>The judge's own error</h2>")?;
    writeln!(page, "<p>{}</p>", escaped(crate::calibration::ABOUT))?;
    table(page, "part", &crate::calibration::Row::default().cells().map(|(name, _)| name), &rows)?;
    if let Some(line) = all.faultless() {
        writeln!(page, "<p>{}</p>", escaped(&line))?;
    }
    Ok(())
}

fn runs(page: &mut String, folder: &Path, summary: &Summary, records: &[Record]) -> Result<(), Failure> {
    let mut shown: Vec<(f64, &Record)> = records
        .iter()
        .filter(|record| path(folder, &record.key).exists())
        .filter_map(|record| Some((badness(record)?, record)))
        .collect();
    if shown.is_empty() {
        return Ok(());
    }
    shown.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.key.cmp(&b.1.key)));
    let everybody: Vec<f64> = records.iter().filter_map(badness).collect();
    let rank =
        |badness: f64| everybody.iter().filter(|other| **other <= badness).count() as f64 / everybody.len() as f64;
    let ordinary = median(everybody.clone());
    let worst: Vec<_> = shown.iter().take(SHOWN.0).copied().collect();
    shown.drain(..worst.len());
    shown.sort_by(|a, b| (a.0 - ordinary).abs().total_cmp(&(b.0 - ordinary).abs()));
    shown.truncate(SHOWN.1);
    for (title, about, list) in [
        ("Worst runs", "The forced runs with the largest distance to the requested color.", worst),
        ("Typical runs", "The runs nearest to the median, from a sample chosen without regard to results.", shown),
    ] {
        if list.is_empty() {
            continue;
        }
        writeln!(page, "<h2>{title}</h2><p>{about}</p><div class=\"runs\">")?;
        for (badness, record) in list {
            run(page, folder, summary, record, 100.0 * rank(badness))?;
        }
        writeln!(page, "</div>")?;
    }
    Ok(())
}

fn run(page: &mut String, folder: &Path, summary: &Summary, record: &Record, percentile: f64) -> Result<(), Failure> {
    let picture = BASE64_STANDARD.encode(std::fs::read(path(folder, &record.key))?);
    let name = format!("{} on {}, {}", record.method.name(), escaped(&record.part), record.task.name());
    writeln!(page, "<div class=\"run\"><img alt=\"{name}\" src=\"data:image/png;base64,{picture}\">")?;
    writeln!(
        page,
        "<div class=\"under\"><span>unforced</span><span>forced</span><span>judge's \
         regions</span><span>mask</span></div>"
    )?;
    writeln!(
        page,
        "<div>{}, {} <span class=\"soft small\">{}, {percentile:.0}th percentile</span></div>",
        dot(record.method),
        escaped(&record.part),
        record.task.name()
    )?;
    for part in &record.parts {
        figures(page, part)?;
    }
    let command = repeat(&summary.about.command, &record.key);
    writeln!(
        page,
        "<details><summary>{} · seed {}</summary><code>{}</code></details></div>",
        escaped(&record.prompt),
        record.seed,
        escaped(&command)
    )?;
    Ok(())
}

fn figures(page: &mut String, part: &PartFigures) -> Result<(), Failure> {
    write!(page, "<div class=\"figures\"><span>{} requested{}", escaped(&part.part), swatch(part.target))?;
    if let Some(painted) = &part.measure.painted {
        write!(page, "painted{}", swatch(Rgb::from_linear(painted.mean_linear)))?;
    }
    write!(page, "</span>")?;
    for (name, metric) in metrics::labels() {
        if let Some(value) = metric.of_part(part) {
            let value = if value.is_finite() { short(value) } else { "vanished".into() };
            write!(page, "<span>{name} {value}</span>")?;
        }
    }
    writeln!(page, "</div>")?;
    Ok(())
}

/// The command that repeats one run.
fn repeat(command: &str, key: &str) -> String {
    let mut words = command.split(' ').peekable();
    let mut kept = vec!["cargo run --release -p impasto-yardstick -- run"];
    let _ = words.next_if(|word| *word == "run");
    while let Some(word) = words.next() {
        match word {
            "--out" | "--shard" | "--seeds-of-suite" | "--limit-minutes" | "--pictures" | "--key" => drop(words.next()),
            "--quick" | "--full" | "--fresh" | "--yes" | "--check" | "--resume" => {}
            word => kept.push(word),
        }
    }
    format!("{} --key {key}", kept.join(" "))
}
