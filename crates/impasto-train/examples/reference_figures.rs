//! Measures how well models color the outlines of held-out drawings like other drawings of the same things:
//!
//! ```text
//! cargo run --release -p impasto-train --example reference_figures -- 32 MODEL[@SCALE]…
//! ```
//!
//! The first argument is the number of drawings. Every further argument names a model: a folder, as `impasto-train
//! reference` writes it, or a file of weights of such a training run. `@3` after a name sets a guidance scale other
//! than the model's.
//!
//! Figures are over the drawings:
//!
//! * CIEDE2000 of parts, the median and the 90th percentile,
//! * F1 of edges within a pixel,
//! * the 90th percentile of the share that leaks from the reference's layout into empty areas,
//! * the share of pictures in which such a leak shows.

use impasto::hint::Canny;
use impasto::methods::Colorize;
use impasto::methods::colorize::Ink;
use impasto::weights::read_safetensors;
use impasto::{Error, Pipeline, Result, Source};
use impasto_report::Sheet;
use impasto_train::dataset::Dataset;
use impasto_train::{Coloring, HELD_OUT, ReferenceTask};
use std::path::Path;

/// Number of rows of pictures on the saved sheet, for each model.
const SHOWN: u64 = 8;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = || Error::custom("usage: reference_figures COUNT MODEL[@SCALE]…");
    let count: u64 = arguments.next().and_then(|count| count.parse().ok()).ok_or_else(usage)?;
    let dataset = Dataset::new(256)?;
    println!("{:30} parts: median  90 %  edges  leaked: 90 %  entangled", "");
    let mut sheet = Sheet::new(8);
    for name in arguments {
        let (folder, scale) = match name.rsplit_once('@') {
            Some((folder, scale)) => (folder, Some(scale.parse().map_err(|_| usage())?)),
            None => (name.as_str(), None),
        };
        let scratch = tempfile::tempdir().map_err(|source| Error::Io { path: folder.into(), source })?;
        let source = match Path::new(folder) {
            file if file.is_file() => {
                ReferenceTask::export(scratch.path(), &read_safetensors(file)?)?;
                Source::dir(scratch.path())
            }
            folder => Source::dir(folder),
        };
        let pipeline = Pipeline::builder().source(source).build()?;
        let mut all = Vec::new();
        for number in 0..count {
            let drawing = dataset.draw(HELD_OUT + number)?;
            let reference = dataset.draw_in_colors_of(&drawing.record, HELD_OUT + 1_000_000 + number)?;
            let sketch = Canny::default().edges(&drawing.picture)?.raster();
            let colors = Colorize::new(&sketch, &reference.picture).tune(|options| options.ink = Ink::Light);
            let request = pipeline.request("").size((256, 256)).seed(number).guide(colors);
            let request = match scale {
                Some(scale) => request.guidance_scale(scale),
                None => request,
            };
            let output = request.run()?;
            all.push(Coloring::measure(&drawing, &reference, output.image(0)?)?);
            if number < SHOWN {
                sheet = sheet.add("the sketch", &sketch).add("the drawing", &drawing.picture);
                sheet =
                    sheet.add("the reference", &reference.picture).add(format!("{name}, {number}"), output.image(0)?);
            }
        }
        let mut parts: Vec<f64> = all.iter().flat_map(|one| one.parts.iter().map(|(_, apart)| *apart)).collect();
        let mut edges: Vec<f64> = all.iter().map(|one| one.edge_f1).collect();
        let at = |values: &mut Vec<f64>, share: f64| {
            values.sort_by(f64::total_cmp);
            values.get((values.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN)
        };
        let mut leaked: Vec<f64> = all.iter().map(|one| one.leaked).collect();
        let entangled = all.iter().filter(|one| one.is_entangled()).count() as f64 / count.max(1) as f64;
        let (median, most, edges) = (at(&mut parts, 0.5), at(&mut parts, 0.9), at(&mut edges, 0.5));
        let leaked = at(&mut leaked, 0.9);
        println!("{name:30} {median:13.2} {most:5.1}  {edges:5.3}  {leaked:12.3}  {:7.1} %", 100.0 * entangled);
    }
    sheet.draw()?.save("reference_figures.png")?;
    println!("reference_figures.png");
    Ok(())
}
