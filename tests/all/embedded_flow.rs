//! Tests of the embedded model whose network is a transformer with flow matching.

use impasto::diffusion::Prediction;
use impasto::job::{Job, Nets};
use impasto::methods::ColorForce;
use impasto::methods::color_force::{ColorReport, ForceRun};
use impasto::{Pipeline, Result, Rgb, Source, Window};

/// Means of red, green and blue over some rows of a picture that is 256 pixels wide.
fn mean(bytes: &[u8], rows: std::ops::Range<usize>) -> [f64; 3] {
    let (part, mut sums) = (&bytes[rows.start * 768..rows.end * 768], [0.0; 3]);
    part.iter().enumerate().for_each(|(at, byte)| sums[at % 3] += f64::from(*byte));
    sums.map(|sum| sum / (part.len() / 3) as f64)
}

#[test]
fn embedded_flow_model_paints_named_colors() -> Result<()> {
    let pipeline = Pipeline::builder().source(Source::embedded_flow()).build()?;
    assert_eq!(pipeline.model().prediction(), Prediction::Flow);
    let output = pipeline.request("a red house, green ground, navy sky, masterpiece").seed(7).steps(12).run()?;
    assert!(output.notes.iter().any(|note| note.to_string().contains("does not know \"masterpiece\"")));
    let bytes = output.images[0].bytes();
    let ([red, green, blue], [_, ground_green, ground_blue]) = (mean(bytes, 0..40), mean(bytes, 220..256));
    assert!(blue > 1.5 * red.max(green), "the sky is navy: {red:.0} {green:.0} {blue:.0}");
    assert!(ground_green > 1.5 * ground_blue, "the ground is green: {ground_green:.0} {ground_blue:.0}");
    Ok(())
}

#[test]
fn embedded_flow_model_takes_an_exact_color() -> Result<()> {
    let pipeline = Pipeline::builder().source(Source::embedded_flow()).build()?;
    let request = pipeline.request("1girl, blue eyes, red hair, pale skin, white shirt, green background").seed(3);
    let output = request.color_force("background", Rgb(70, 130, 180)).run()?;
    let [red, green, blue] = mean(output.images[0].bytes(), 0..24);
    let far = (red - 70.0).abs().max((green - 130.0).abs()).max((blue - 180.0).abs());
    assert!(far < 12.0, "the background is steel blue: {red:.0} {green:.0} {blue:.0}");
    // A window and a report count alike, in Stable Diffusion's timesteps.
    let forced = ColorForce::published("background", Rgb(70, 130, 180)).window(Window::timesteps(0..=700));
    let output = pipeline.request("1girl, green background").seed(3).size((64, 64)).guide(forced).run()?;
    let steps = &output.details::<ColorReport>("background")?.steps;
    assert_eq!(steps.len(), 14);
    assert!(steps.iter().all(|step| step.timestep <= 700.0) && steps[0].timestep > 600.0, "{}", steps[0].timestep);
    Ok(())
}

#[test]
fn recorded_maps_of_a_flow_force_the_same_picture() -> Result<()> {
    let pipeline = Pipeline::builder().source(Source::embedded_flow()).build()?;
    let small = || pipeline.request("1girl, red hair, green background").seed(3).steps(6).size((64, 64));
    let gold = Rgb(255, 215, 0);
    for force in [ColorForce::published("hair", gold), ColorForce::exact("hair", gold)] {
        let first = small().guide(force.clone()).run()?;
        let maps = first.details::<ForceRun>("hair")?.recorded()?;
        let again = small().guide(force.clone().replay(maps)).run()?;
        assert!(again.latents == first.latents && again.latents != small().run()?.latents, "{force:?}");
    }
    Ok(())
}

#[test]
fn embedded_flow_model_refuses_line_art_and_strokes() -> Result<()> {
    let pipeline = Pipeline::builder().source(Source::embedded_flow()).build()?;
    let read = |text: &str| impasto::json::parse::<Job>(text).expect("a job");
    for (job, expected) in [
        (r#"{"strokes": "s.png"}"#, "strokes is given; expected exact strokes, because this model has no ControlNet"),
        (r#"{"line_art": "l.png"}"#, "line_art is given; expected no line art, because this model has no ControlNet"),
    ] {
        let (job, mut nets) = (read(job), Nets::default());
        let loaded = nets.load(&job, pipeline.model()).unwrap_err().to_string();
        assert!(loaded.starts_with(expected), "{loaded}");
        let requested = job.request(&pipeline, &nets).map(drop).unwrap_err().to_string();
        assert_eq!(requested, loaded);
    }
    let named = read(r#"{"controls": ["embedded=l.png"], "line_art": "l.png"}"#);
    let message = Nets::default().load(&named, pipeline.model()).unwrap_err().to_string();
    assert!(message.contains("a model with a UNet"), "the ControlNet is named: {message}");
    Ok(())
}
