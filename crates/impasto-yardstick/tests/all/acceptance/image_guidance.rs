//! Tests of pictures as guides: the judge must still see the things that the prompt asks for.

use super::judge::Judge;
use impasto::methods::ImageGuidance;
use impasto::methods::image_guidance::{GuidanceParams, Mapping, Space};
use impasto::raster::Filter;
use impasto::vision::{View, VisionEncoder};
use impasto::{Codec, Lab, Model, Pipeline, Raster, Result, Rgb};
use tch::{Kind, Tensor};

/// The direction of CLIP's embedding of a picture, as a unit vector.
fn seen(model: &Model, picture: &Raster) -> Result<Tensor> {
    let token = model.vision(picture, View::default())?.tokens.get(0).get(0);
    Ok(&token / token.norm())
}

/// L, a and b of a picture at 32 × 32 pixels, each sorted.
fn palette(picture: &Raster) -> Result<[Vec<f64>; 3]> {
    let small = picture.resize((32, 32), Filter::Box)?;
    let colors: Vec<_> = small.bytes().chunks(3).map(|pixel| Rgb(pixel[0], pixel[1], pixel[2]).lab()).collect();
    let sorted = |of: fn(&Lab) -> f64| {
        let mut values: Vec<f64> = colors.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    Ok([sorted(|lab| lab.l), sorted(|lab| lab.a), sorted(|lab| lab.b)])
}

/// The distance that colors must be moved from one palette to the other, regardless of their place: the sum of L, a and
/// b.
fn moved(a: &[Vec<f64>; 3], b: &[Vec<f64>; 3]) -> f64 {
    let channel =
        |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / a.len() as f64;
    a.iter().zip(b).map(channel).sum()
}

/// Similarity to the guide and distance of palettes for each guided picture, and the share of the prompt's parts that
/// the judge finds.
#[derive(Debug)]
struct Figures {
    similarity: Vec<f64>,
    palette: Vec<f64>,
    parts: f64,
}

const PORTRAIT: (&str, &[&str], &str) = (
    "1girl, eyes, hair bow, hair, skin, shirt, background",
    &["eyes", "hair", "skin", "shirt", "background"],
    "1girl, gold eyes, yellow hair bow, red hair, pale skin, orange shirt, navy background",
);
const SCENE: (&str, &[&str], &str) =
    ("a house, ground, sky", &["house", "ground", "sky"], "a boat, red ground, orange sky");

fn measured(
    (prompt, parts, of): (&str, &[&str], &str),
    seeds: usize,
    make: impl Fn(&Raster) -> ImageGuidance,
) -> Result<Figures> {
    let (judge, pipeline) = (Judge::new(), Pipeline::builder().build()?);
    let picture = pipeline.request(of).seed(100).run()?.image(0)?.clone();
    let output = pipeline
        .request(prompt)
        .seed(0)
        .images(seeds)
        .solver_named("DPM++ 2M")
        .steps(10)
        .guide(make(&picture))
        .run()?;
    let (of, colors) = (seen(pipeline.model(), &picture)?, palette(&picture)?);
    let mut figures = Figures { similarity: Vec::new(), palette: Vec::new(), parts: 0.0 };
    for picture in &output.images {
        figures.similarity.push(seen(pipeline.model(), picture)?.dot(&of).double_value(&[]));
        figures.palette.push(moved(&palette(picture)?, &colors));
        let seen = judge.look(picture)?;
        // At least 1 % of 64 × 64 cells.
        let there = parts.iter().filter(|part| seen.part(part).sum(Kind::Int64).int64_value(&[]) >= 41).count();
        figures.parts += there as f64 / (parts.len() * seeds) as f64;
    }
    Ok(figures)
}

/// Guidance that moves every word towards the guide's token that resembles the word most.
fn every_word(picture: &Raster, most: f64) -> ImageGuidance {
    ImageGuidance::new(picture).tune(|params| {
        *params = GuidanceParams::off();
        params.linear = (1.0, 1.0);
        params.snap = false;
        params.max_guidance = most;
    })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn guided_portraits_approach_guide_and_keep_parts() -> Result<()> {
    let [plain, guided] = [0.0, 0.4].map(|most| measured(PORTRAIT, 4, |picture| every_word(picture, most)));
    let (plain, guided) = (plain?, guided?);
    assert!(mean(&guided.palette) < mean(&plain.palette) - 5.0, "{plain:?} {guided:?}");
    assert!(mean(&guided.similarity) > mean(&plain.similarity), "{plain:?} {guided:?}");
    assert!(guided.parts > 0.9, "{guided:?}");
    Ok(())
}

type Make = fn(&str, &Raster, f64) -> ImageGuidance;

#[test]
#[ignore = "the figures of docs/image-guidance.md: cargo test --release -p impasto-yardstick --test all figures_of_image -- --ignored --nocapture"]
fn figures_of_image_guidance() -> Result<()> {
    println!("prompt | settings | max_guidance | similarity | palette | nearer palette | parts");
    let settings: [(&str, Make, &[f64]); 4] = [
        ("every word", |_, picture, most| every_word(picture, most), &[0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0]),
        (
            "default",
            |_, picture, most| ImageGuidance::new(picture).tune(|params| params.max_guidance = most),
            &[0.2, 0.5],
        ),
        (
            "default, Joint",
            |_, picture, most| {
                ImageGuidance::new(picture)
                    .tune(|params| params.space = Space::Joint)
                    .tune(|params| params.max_guidance = most)
            },
            &[0.2, 0.5],
        ),
        (
            "the picture's prompt, Direct",
            |of, _, most| {
                ImageGuidance::text(of).tune(|params| {
                    *params = GuidanceParams::off();
                    params.linear = (1.0, 1.0);
                    params.snap = false;
                    params.mapping = Mapping::Direct;
                    params.max_guidance = most;
                })
            },
            &[0.5],
        ),
    ];
    for case in [PORTRAIT, SCENE] {
        let mut plain = Vec::new();
        for (name, make, strengths) in settings {
            for &most in strengths {
                let Figures { similarity, palette, parts } = measured(case, 16, |picture| make(case.2, picture, most))?;
                if most == 0.0 {
                    plain.clone_from(&palette);
                }
                let nearer = palette.iter().zip(&plain).filter(|(guided, plain)| guided < plain).count();
                let (similarity, palette) = (mean(&similarity), mean(&palette));
                println!("{} | {name} | {most} | {similarity:.3} | {palette:.1} | {nearer} of 16 | {parts:.2}", case.0);
            }
        }
    }
    Ok(())
}

#[test]
#[ignore = "the cosines of docs/image-guidance.md: cargo test --release -p impasto-yardstick --test all cosines -- --ignored --nocapture"]
fn cosines_of_the_spaces() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    println!("picture of | space | token | mean | deviation | largest | nearest token of the text");
    for (_, _, of) in [PORTRAIT, SCENE] {
        let picture = pipeline.request(of).seed(100).run()?.image(0)?.clone();
        let (model, view) = (pipeline.model(), View::default());
        let (vision, text) = (model.vision(&picture, view)?, model.text(of.into())?.context.get(0));
        let projection = vision.text_projection.expect("the embedded model has it");
        let last = model.prompt(of.into())?.content()[0].end; // the token after the last word
        let unit = |x: &Tensor| x / x.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
        for (space, text) in [("Hidden", text.shallow_clone()), ("Joint", text.matmul(&projection.tr()))] {
            let cosines = unit(&vision.tokens.get(0)).matmul(&unit(&text).tr());
            for (name, rows) in [("whole picture", cosines.narrow(0, 0, 1)), ("patches", cosines.narrow(0, 1, 64))] {
                let figure = |x: Tensor| x.double_value(&[]);
                let nearest = rows.mean_dim([0i64].as_slice(), false, Kind::Float).argmax(None, false).int64_value(&[]);
                println!(
                    "{of} | {space} | {name} | {:.2} | {:.2} | {:.2} | {nearest}, the text ends at {last}",
                    figure(rows.mean(Kind::Float)),
                    figure(rows.std(false)),
                    figure(rows.max())
                );
            }
        }
    }
    Ok(())
}
