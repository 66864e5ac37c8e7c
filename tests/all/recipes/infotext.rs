//! Infotext of the AUTOMATIC1111 web UI and similar programs, read from their pictures and written to this crate's
//! pictures.

use super::{Folder, PORTRAIT, told};
use impasto::Result;
use impasto::diffusion::Spacing;
use impasto::pipeline::{Pipeline, Request};
use impasto::text::TextOptions;

#[test]
fn infotext_of_other_programs_is_followed() -> Result<()> {
    let folder = Folder::new();
    let mut pipeline = Pipeline::builder().build()?;
    let words = "1girl, (eyes:1.2),\nhair\nNegative prompt: shirt, \"x\"\n\
                 Steps: 5, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 3.5, Seed: 11, Size: 96x64, Model hash: 0f1e2d3c4b, \
                 Model: tiny, Variation seed: 4, Variation seed strength: 0.1, RNG: CPU, Clip skip: 2, Hires upscale: 2, \
                 Lora hashes: \"a: 1, b: 2\", Version: v1.9.0";
    let path = folder.told(&[("parameters", words)]);
    let request = Request::from_png(&mut pipeline, &path)?;
    let notes = told(&request.notes()?);
    assert!(notes.contains("not repeated: Clip skip 2; Hires upscale 2; Lora hashes a: 1, b: 2"), "{notes}");
    assert!(notes.contains("the model tiny") && !notes.contains("GPU") && !notes.contains("lora:"), "{notes}");
    let output = request.run()?;
    let request =
        pipeline.request("1girl, (eyes:1.2),\nhair").negative("shirt, \"x\"").seed(11).steps(5).size((96, 64));
    let want = request.solver_named("DPM++ 2M Karras").guidance_scale(3.5).variation(4, 0.1).run()?;
    assert_eq!(output.images, want.images);

    let words = "a boat <lora:sea:0.8>\nSteps: many, Sampler: DPM fast, Seed: 1, Size: large";
    let request = Request::from_png(&mut pipeline, folder.told(&[("parameters", words)]))?;
    let notes = told(&request.notes()?);
    for told in ["\"DPM fast\" is not known", "a GPU's", "lora", "not repeated: Steps many; Size large"] {
        assert!(notes.contains(told), "{told} in {notes}");
    }
    drop(request);
    // Infotext that this crate writes is read in the same way.
    let output = pipeline
        .request("1girl, eyes: gold, \"hair\"")
        .negative("a\nb")
        .seed(3)
        .steps(3)
        .solver_named("Euler a")
        .run()?;
    let words = output.recipe().infotext().to_string();
    let again = Request::from_png(&mut pipeline, folder.told(&[("parameters", &words)]))?.run()?;
    assert_eq!(again.images, output.images);
    Ok(())
}

#[test]
fn infotext_has_schedule_type_and_clip_skip() -> Result<()> {
    let folder = Folder::new();
    let text = TextOptions { clip_skip: Some(2), ..TextOptions::default() };
    let mut pipeline = Pipeline::builder().tune(|options| options.text = text).build()?;
    let output = pipeline.request(PORTRAIT).seed(3).steps(3).solver_named("DPM++ 2M Karras").run()?;
    let info = output.recipe().infotext();
    let fields = ["Sampler", "Schedule type", "Clip skip"].map(|name| info.field(name));
    assert_eq!(fields, [Some("DPM++ 2M"), Some("Karras"), Some("2")]);
    let path = folder.told(&[("parameters", &info.to_string())]);
    let request = Request::from_png(&mut pipeline, &path)?;
    assert!(request.notes()?.iter().all(|note| !note.text.contains("not repeated")), "{:?}", request.notes()?);
    assert_eq!(request.run()?.images, output.images);
    let notes = Request::from_png(&mut Pipeline::builder().build()?, &path)?.notes()?;
    let notes = told(&notes);
    assert!(notes.contains("not repeated: Clip skip 2"), "{notes}");

    let mut recipe = pipeline.request(PORTRAIT).seed(3).steps(3).run()?.recipe().clone();
    for (own, told) in [(Spacing::Exponential, Some("Exponential")), (Spacing::Leading, None)] {
        recipe.checkpoint_spacing = Some(own);
        assert_eq!(recipe.infotext().field("Schedule type"), told);
    }
    Ok(())
}
