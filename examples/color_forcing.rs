//! Paints the four examples of the Color Forcing document, as published and with the exact method beside each, on one
//! sheet.
//!
//! ```text
//! cargo run --release --example color_forcing
//! cargo run --release --example color_forcing --features hub -- --model cagliostrolab/animagine-xl-4.0
//! ```
//!
//! `--model` takes a folder, a single file or, with the feature `hub`, a repository of the Hugging Face Hub. The
//! default is the embedded model, which knows few of the prompts' words.

use impasto::methods::ColorForce;
use impasto::methods::color_force::ColorReport;
use impasto::{Error, Pipeline, Raster, Result, Rgb, Source};
use impasto_report::Sheet;
use std::path::Path;

/// An example of the document.
struct Call {
    phrase: &'static str,
    color: Rgb,
    /// Tags that the prompt has before "brown eyes".
    extra: &'static str,
    color_var: f64,
    cutoff: f64,
    alternative: bool,
}

const CALLS: [Call; 4] = [
    Call { phrase: "eyes", color: Rgb(255, 215, 0), extra: "", color_var: 40.0, cutoff: 0.15, alternative: false },
    Call {
        phrase: "hair bow",
        color: Rgb(255, 105, 180),
        extra: "hair bow, ",
        color_var: 15.0,
        cutoff: 0.17,
        alternative: false,
    },
    Call { phrase: "hair", color: Rgb(255, 99, 71), extra: "", color_var: 25.0, cutoff: 0.2, alternative: true },
    Call { phrase: "skin", color: Rgb(0, 0, 139), extra: "skin, ", color_var: 20.0, cutoff: 0.12, alternative: true },
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let model = match arguments.as_slice() {
        [] => Source::embedded(),
        [option, name] if option == "--model" => source(name)?,
        _ => return Err(Error::parameter("arguments", arguments.join(" "), "none, or --model DIR|FILE|OWNER/NAME")),
    };
    let pipeline = Pipeline::builder().source(model).build()?;
    let mut pictures: Vec<(String, Raster)> = Vec::new();
    for call in CALLS {
        let Call { phrase, color, extra, color_var, cutoff, alternative } = call;
        let prompt = format!(
            "1girl, solo, long hair, ponytail, {extra}brown eyes, looking at viewer, smile, sitting, at table, indoors, \
             breakfast, from front, masterpiece, high score, great score, absurdres"
        );
        let plain = pipeline.request(&prompt).steps(14).seed(8).run()?;
        let force = ColorForce::published(phrase, color).color_var(color_var).saliency_cutoff(cutoff);
        let published = if alternative { force.alternative_saliency("pink") } else { force };
        let exact = ColorForce::exact(phrase, color);
        let by_hand = pipeline.request(&prompt).steps(14).seed(8).guide(published).run()?;
        let by_itself = pipeline.request(&prompt).steps(14).seed(8).guide(exact).run()?;
        pictures.push((format!("{phrase}: unforced"), plain.image(0)?.clone()));
        for (name, output) in [("published", &by_hand), ("exact", &by_itself)] {
            let details = output.details::<ColorReport>(phrase)?;
            let painted = details.painted.first().map_or_else(
                || "nothing forced".to_owned(),
                |painted| format!("{} painted, CIEDE2000 {:.1}", painted.color, painted.delta_e),
            );
            println!("{phrase} to {color}, {name}: {painted}");
            output.notes.iter().for_each(|note| println!("  note: {note}"));
            pictures.push((format!("{phrase}: {name}"), output.image(0)?.clone()));
        }
    }
    let sheet = pictures.iter().fold(Sheet::new(3), |sheet, (caption, picture)| sheet.add(caption, picture));
    sheet.draw()?.save("color_forcing.png")?;
    println!("color_forcing.png");
    Ok(())
}

/// Returns the source of a folder, of a file, or of a repository of the hub, which is downloaded.
fn source(name: &str) -> Result<Source> {
    let path = Path::new(name);
    match () {
        () if path.is_dir() => Ok(Source::dir(path)),
        () if path.is_file() => Ok(Source::file(path)),
        () => fetched(name),
    }
}

#[cfg(feature = "hub")]
fn fetched(name: &str) -> Result<Source> {
    impasto::weights::Hub::new(name).fetch(None)
}

#[cfg(not(feature = "hub"))]
fn fetched(name: &str) -> Result<Source> {
    Err(Error::parameter(
        "--model",
        format!("{name:?}"),
        "a folder or a file; for a repository, build with --features hub",
    ))
}
