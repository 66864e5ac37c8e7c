//! Paints pictures from line art and a few scribbles of color: by the embedded ControlNet alone, and with exactly the
//! strokes' colors.

use impasto::guidance::Guidance;
use impasto::hint::{Canny, Drawing, Strokes};
use impasto::methods::ColorForce;
use impasto::methods::color_force::ColorReport;
use impasto::{Control, Pipeline, Raster, Result, Rgb, Size, Source};
use impasto_report::Sheet;
use std::f64::consts::TAU;

const SIZE: Size = Size::new(256, 256);
const PROMPT: &str = "1girl, hair, eyes, skin, shirt, background";
const SEEDS: [u64; 2] = [2, 3];

fn main() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let net = pipeline.model().controlnet(&Source::embedded())?;
    // The embedded ControlNet was trained on edges of pictures, so that line art is converted to edges too.
    let lines = line_art();
    let sketch = Canny::default().edges(&lines)?;
    let [hair, shirt, background] = [Rgb(255, 99, 71), Rgb(72, 61, 139), Rgb(176, 224, 230)];
    let scribbles = |[over, below, around]: [Rgb; 3]| {
        Strokes::new(SIZE)
            .line([(84.0, 70.0), (110.0, 52.0), (150.0, 50.0), (172.0, 72.0)], 4.0, over)
            .line([(96.0, 238.0), (120.0, 228.0), (160.0, 240.0)], 4.0, below)
            .line([(20.0, 30.0), (36.0, 60.0), (24.0, 90.0)], 4.0, around)
    };
    let few = Drawing { sketch: sketch.clone(), strokes: scribbles([hair, shirt, background]) };
    let moved = Drawing { sketch: sketch.clone(), strokes: scribbles([background, hair, shirt]) };
    let bare = Drawing { sketch, strokes: Strokes::new(SIZE) };

    let mut sheet = Sheet::new(1 + SEEDS.len());
    for (name, drawing) in [("line art", &bare), ("three scribbles", &few), ("scribbles moved", &moved)] {
        sheet = sheet.add(name, &drawing.raster()?);
        for seed in SEEDS {
            let request = pipeline.request(PROMPT).seed(seed).steps(14).control(Control::drawing(&net, drawing));
            let output = request.run()?;
            sheet = sheet.add(format!("seed {seed}"), output.image(0)?);
        }
    }
    sheet = sheet.add("and exactly these", &few.raster()?);
    for seed in SEEDS {
        let forces = ColorForce::painted(&few.strokes)?;
        let request = pipeline.request(PROMPT).seed(seed).steps(14).control(Control::drawing(&net, &few));
        let output = forces.iter().cloned().fold(request, |request, force| request.guide(force)).run()?;
        sheet = sheet.add(format!("seed {seed}"), output.image(0)?);
        for force in &forces {
            let report = output.details::<ColorReport>(&force.label())?;
            println!("seed {seed}, {}: CIEDE2000 {:.1}", report.asked, report.painted[0].delta_e);
        }
    }
    sheet.draw()?.save("color_strokes.png")?;
    println!("color_strokes.png");
    Ok(())
}

/// Draws a portrait in ink on paper.
fn line_art() -> Raster {
    const INK: Rgb = Rgb(40, 36, 40);
    // An arc of an ellipse. Angles are in full turns, from the right downward.
    let arc = |(x, y): (f64, f64), (rx, ry): (f64, f64), from: f64, to: f64| {
        let at = move |i: u32| {
            let angle = TAU * (from + (to - from) * f64::from(i) / 48.0);
            (x + rx * angle.cos(), y + ry * angle.sin())
        };
        (0..=48).map(at).collect::<Vec<_>>()
    };
    let eye = |x: f64| [arc((x, 122.0), (14.0, 16.0), 0.0, 1.0), arc((x, 124.0), (6.0, 8.0), 0.0, 1.0)];
    let mut lines = vec![
        arc((128.0, 116.0), (52.0, 58.0), -0.02, 0.52), // the face
        arc((128.0, 104.0), (70.0, 76.0), 0.42, 1.08),  // the hair, and its fringe
        vec![(78.0, 112.0), (92.0, 84.0), (108.0, 98.0), (128.0, 80.0), (148.0, 98.0), (164.0, 84.0), (178.0, 112.0)],
        arc((128.0, 150.0), (12.0, 7.0), 0.05, 0.45), // the mouth
        vec![(112.0, 172.0), (110.0, 190.0), (128.0, 200.0), (146.0, 190.0), (144.0, 172.0)], // neck and collar
        arc((128.0, 256.0), (86.0, 70.0), 0.5, 0.72),
        arc((128.0, 256.0), (86.0, 70.0), 0.78, 1.0),
    ];
    lines.extend([106.0, 150.0].into_iter().flat_map(eye));
    let drawn = lines.into_iter().fold(Strokes::new(SIZE), |drawn, line| drawn.line(line, 1.2, INK));
    drawn.layer().on(Rgb(255, 255, 255))
}
