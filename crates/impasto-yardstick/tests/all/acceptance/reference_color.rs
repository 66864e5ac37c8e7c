//! Figures of pictures in the colors of a reference: how near each part comes to the reference's part, as the judge
//! sees both.

use super::judge::Judge;
use impasto::hint::{Canny, Drawing, Strokes};
use impasto::methods::{ColorForce, ReferenceColor};
use impasto::{Control, Pipeline, Raster, Result, Source};
use impasto_train::dataset::{Dataset, Record};
use impasto_train::{Adherence, HELD_OUT};
use impasto_yardstick::statistics::median;

const PORTRAIT: &str = "1girl, eyes, hair bow, hair, skin, shirt, background";
const PARTS: [&str; 5] = ["eyes", "hair", "skin", "shirt", "background"];
/// Prompts of the painted references.
const PAINTED: [&str; 4] = [
    "1girl, gold eyes, yellow hair bow, red hair, pale skin, orange shirt, navy background",
    "1girl, green eyes, white hair bow, teal hair, pale skin, green shirt, cyan background",
    "1girl, blue eyes, red hair bow, brown hair, tan skin, white shirt, pink background",
    "1girl, red eyes, black hair bow, white hair, pale skin, purple shirt, green background",
];

/// A way in which a picture takes colors.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Takes no colors.
    Unguided,
    /// Takes the colors of the whole reference.
    Whole,
    /// Takes the colors part by part.
    Parts,
    /// Takes the colors of the whole reference, over the edges of another picture.
    Sketch,
    /// Takes the colors like `Sketch`, and forces each part that the reference shows.
    Like,
}

#[derive(Default)]
struct Figures {
    /// CIEDE2000 between a part and the same part of the reference.
    apart: Vec<f64>,
    /// F1 of the picture's edges against the sketch.
    edges: Vec<f64>,
}

/// Colors portraits after each reference, with each seed.
fn measured(references: &[Raster], seeds: std::ops::Range<u64>, steps: usize, way: Way) -> Result<Figures> {
    let (judge, pipeline, mut figures) = (Judge::new(), Pipeline::builder().build()?, Figures::default());
    let net = pipeline.model().controlnet(&Source::embedded())?;
    for picture in references {
        let wanted = judge.look(picture)?;
        let by_parts = matches!(way, Way::Parts | Way::Like);
        let reference = by_parts.then(|| pipeline.reference(picture, PORTRAIT, PARTS)).transpose()?;
        for seed in seeds.clone() {
            let over_a_sketch = matches!(way, Way::Sketch | Way::Like);
            let mut sketched = || -> Result<(Raster, Drawing)> {
                let sketched = pipeline.request(PORTRAIT).seed(1000 + seed).steps(steps).run()?.image(0)?.clone();
                let sketch = Canny::default().edges(&sketched)?;
                let drawing = Drawing { sketch, strokes: Strokes::new(sketched.size()) };
                Ok((sketched, drawing))
            };
            let sketched = over_a_sketch.then(&mut sketched).transpose()?;
            let shown: Vec<_> = match &reference {
                Some(reference) => PARTS
                    .into_iter()
                    .filter(|part| reference.color(part).is_ok())
                    .map(|part| (reference, part))
                    .collect(),
                None => Vec::new(),
            };
            let whole = || ReferenceColor::new(picture);
            let request = pipeline.request(PORTRAIT).seed(seed).steps(steps);
            let request = match way {
                Way::Unguided => request,
                Way::Whole => request.guide(whole()),
                Way::Parts => {
                    request.guide(shown.iter().try_fold(whole(), |colors, (of, part)| colors.part(of, *part))?)
                }
                Way::Sketch | Way::Like => request.guide(whole()),
            };
            let request = sketched.iter().fold(request, |request, (_, drawing)| {
                request.control(Control::drawing(&net, drawing).scale(1.0).guess(None))
            });
            let forces = shown.iter().filter(|_| way == Way::Like).map(|(of, part)| ColorForce::like(of, *part));
            let request =
                forces.collect::<Result<Vec<_>>>()?.into_iter().fold(request, impasto::pipeline::Request::guide);
            let output = request.run()?;
            let seen = judge.look(output.image(0)?)?;
            let both = PARTS.iter().filter_map(|part| seen.color(part).zip(wanted.color(part)));
            figures.apart.extend(both.map(|(painted, wanted)| painted.delta_e(wanted)));
            if let Some((sketched, drawing)) = &sketched {
                figures.edges.push(Adherence::measure(sketched, drawing, output.image(0)?)?.edge_f1);
            }
        }
    }
    Ok(figures)
}

/// References that the model painted.
fn painted(count: usize) -> Result<Vec<Raster>> {
    let pipeline = Pipeline::builder().build()?;
    let paint = |(of, seed): (&&str, u64)| Ok(pipeline.request(*of).seed(seed).run()?.image(0)?.clone());
    PAINTED.iter().zip(100..).take(count).map(paint).collect()
}

/// Drawn portraits that no training saw.
fn drawn(count: usize) -> Result<Vec<Raster>> {
    let dataset = Dataset::new(256)?;
    let mut drawings = (0..).map(|number| dataset.draw(HELD_OUT + number));
    let mut portraits = Vec::new();
    while portraits.len() < count {
        let drawing = drawings.next().expect("there is always another")?;
        if matches!(drawing.record, Record::Portrait { .. }) {
            portraits.push(drawing.picture);
        }
    }
    Ok(portraits)
}

#[test]
#[ignore = "the figures of docs/reference-color.md: cargo test --release -p impasto-yardstick --test all figures_of_reference -- --ignored --nocapture"]
fn figures_of_reference_color() -> Result<()> {
    println!("references | way | CIEDE2000 of parts: median | 90th percentile | F1 of edges");
    for (name, references) in [("painted", painted(4)?), ("drawn", drawn(8)?)] {
        for way in [Way::Unguided, Way::Whole, Way::Parts, Way::Sketch, Way::Like] {
            let Figures { mut apart, edges } = measured(&references, 0..2, 28, way)?;
            apart.sort_by(f64::total_cmp);
            let most = apart[apart.len() * 9 / 10];
            let edges = if edges.is_empty() { "–".to_owned() } else { format!("{:.2}", median(edges)) };
            println!("{name} | {way:?} | {:.1} | {most:.1} | {edges}", median(apart));
        }
    }
    Ok(())
}
