//! Infotext of the AUTOMATIC1111 web UI and similar programs, read from their pictures and written to this crate's
//! pictures.

use super::{Folder, GOLD, PORTRAIT, told};
use image::codecs::{jpeg::JpegEncoder, webp::WebPEncoder};
use image::{ExtendedColorType, ImageEncoder};
use impasto::diffusion::Spacing;
use impasto::pipeline::{Output, Pipeline, Request, Seamless};
use impasto::text::TextOptions;
use impasto::{Raster, Result, Size, Source};
use std::path::Path;

/// Repeats the run of a file. Returns the notes before the run, and its output.
fn repeated(path: &Path) -> Result<(String, Output)> {
    let pipeline = Pipeline::builder().build()?;
    let request = Request::from_png(&pipeline, path)?;
    assert_eq!(request.colors()?, []);
    let notes = told(&request.notes()?);
    Ok((notes, request.run()?))
}

#[test]
fn infotext_of_other_programs_is_followed() -> Result<()> {
    let folder = Folder::new();
    let pipeline = Pipeline::builder().build()?;
    let words = "1girl, (eyes:1.2),\nhair\nNegative prompt: shirt, \"x\"\n\
                 Steps: 5, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 3.5, Seed: 11, Size: 96x64, Model hash: 0f1e2d3c4b, \
                 Model: tiny, Variation seed: 4, Variation seed strength: 0.1, RNG: CPU, Clip skip: 2, Hires upscale: 2, \
                 Lora hashes: \"a: 1, b: 2\", Version: v1.9.0";
    let path = folder.told(&[("parameters", words)]);
    let request = Request::from_png(&pipeline, &path)?;
    let notes = told(&request.notes()?);
    assert!(notes.contains("not repeated: Hires upscale 2; Lora hashes a: 1, b: 2"), "{notes}");
    assert!(notes.contains("the model tiny") && !notes.contains("GPU") && !notes.contains("lora:"), "{notes}");
    let output = request.run()?;
    let request =
        pipeline.request("1girl, (eyes:1.2),\nhair").negative("shirt, \"x\"").seed(11).steps(5).size((96, 64));
    let request = request.solver_named("DPM++ 2M Karras").guidance_scale(3.5).variation(4, 0.1);
    let want = request.tune(|config| config.clip_skip = Some(2)).run()?;
    assert_eq!(output.images, want.images);

    let words = "a boat <lora:sea:0.8>\nSteps: many, Sampler: DPM fast, Seed: 1, Size: large";
    let request = Request::from_png(&pipeline, folder.told(&[("parameters", words)]))?;
    let notes = told(&request.notes()?);
    for told in ["\"DPM fast\" is not known", "a GPU's", "not repeated: Steps many; Size large"] {
        assert!(notes.contains(told), "{told} in {notes}");
    }
    let error = request.steps(1).run().expect_err("no folder of LoRAs").to_string();
    assert!(error.contains("the LoRA's name is \"sea\"; expected no LoRA, because no folder"), "{error}");
    // Infotext that this crate writes is read in the same way.
    let output = pipeline
        .request("1girl, eyes: gold, \"hair\"")
        .negative("a\nb")
        .seed(3)
        .steps(3)
        .solver_named("Euler a")
        .run()?;
    let words = output.recipe().infotext().to_string();
    let again = Request::from_png(&pipeline, folder.told(&[("parameters", &words)]))?.run()?;
    assert_eq!(again.images, output.images);
    Ok(())
}

#[test]
fn infotext_has_schedule_type_and_clip_skip() -> Result<()> {
    let folder = Folder::new();
    let text = TextOptions { clip_skip: Some(2), ..TextOptions::default() };
    let pipeline = Pipeline::builder().tune(|options| options.text = text).build()?;
    let output = pipeline.request(PORTRAIT).seed(3).steps(3).solver_named("DPM++ 2M Karras").run()?;
    let info = output.recipe().infotext();
    let fields = ["Sampler", "Schedule type", "Clip skip"].map(|name| info.field(name));
    assert_eq!(fields, [Some("DPM++ 2M"), Some("Karras"), Some("2")]);
    let path = folder.told(&[("parameters", &info.to_string())]);
    let request = Request::from_png(&pipeline, &path)?;
    assert!(request.notes()?.iter().all(|note| !note.text.contains("not repeated")), "{:?}", request.notes()?);
    assert_eq!(request.run()?.images, output.images);
    // A model that reads another layer by itself repeats the picture too.
    let plain = Pipeline::builder().build()?;
    assert_eq!(Request::from_png(&plain, &path)?.run()?.images, output.images);
    let beyond = folder.told(&[("parameters", &info.to_string().replace("Clip skip: 2", "Clip skip: 9"))]);
    let notes = told(&Request::from_png(&plain, &beyond)?.notes()?);
    assert!(notes.contains("not repeated: Clip skip 9"), "{notes}");

    let mut recipe = pipeline.request(PORTRAIT).seed(3).steps(3).run()?.recipe().clone();
    for (own, told) in [(Spacing::Exponential, Some("Exponential")), (Spacing::Leading, None)] {
        recipe.checkpoint_spacing = Some(own);
        assert_eq!(recipe.infotext().field("Schedule type"), told);
    }
    Ok(())
}

#[test]
fn infotext_has_the_share_of_merged_cells() -> Result<()> {
    let folder = Folder::new();
    let pipeline = Pipeline::builder().build()?;
    let request = pipeline.request(PORTRAIT).seed(3).steps(2).solver_named("Euler a");
    let request = request.tune(|config| config.merge_tokens = 0.5);
    let output = request.run()?;
    let info = output.recipe().infotext();
    assert_eq!(info.field("Token merging ratio"), Some("0.5"));
    let again = Request::from_png(&pipeline, folder.told(&[("parameters", &info.to_string())]))?.run()?;
    assert_eq!(again.images, output.images);
    // The web UI merges more than impasto can, and at another share in the second run.
    let words = "a boat\nSteps: 2, Sampler: Euler, Seed: 1, Token merging ratio: 0.9, Token merging ratio hr: 0.5";
    let (notes, output) = repeated(&folder.told(&[("parameters", words)]))?;
    assert_eq!(output.recipe().config.merge_tokens, 0.0);
    assert!(notes.contains("not repeated: Token merging ratio 0.9; Token merging ratio hr 0.5"), "{notes}");
    Ok(())
}

#[test]
fn run_of_a_unet_is_repeated_on_a_transformer() -> Result<()> {
    let folder = Folder::new();
    let flow = Pipeline::builder().source(Source::embedded_flow()).build()?;
    let small = |request: Request<'_>| request.size((64, 64)).run();
    let words = "a boat\nSteps: 1, Seed: 1, RNG: CPU, Tiling: True, Token merging ratio: 0.5, Shift: 6";
    let request = Request::from_png(&flow, folder.told(&[("parameters", words)]))?;
    let notes = told(&request.notes()?);
    assert!(notes.contains("not repeated: Tiling True; Token merging ratio 0.5"), "{notes}");
    let shift = "the shift 6 of the noise levels, and this model's is 3; load the model with this shift by `LoadOptions::shift`";
    assert!(notes.contains(shift), "{notes}");
    small(request)?;
    for shift in ["3", "3.0"] {
        let words =
            format!("a boat\nSteps: 1, Seed: 1, RNG: CPU, Tiling: False, Token merging ratio: 0, Shift: {shift}");
        let request = Request::from_png(&flow, folder.told(&[("parameters", &words)]))?;
        assert_eq!(told(&request.notes()?), "");
    }
    // impasto's own pictures tell the shift too.
    let own = Pipeline::builder().source(Source::embedded_flow()).tune(|options| options.shift = Some(6.0)).build()?;
    let output = small(own.request("a boat").seed(1).steps(1))?;
    assert_eq!(output.recipe().infotext().field("Shift"), Some("6"));
    let path = folder.file("shifted.png");
    output.save(0, &path)?;
    let notes = told(&Request::from_png(&flow, &path)?.notes()?);
    assert!(notes.contains(shift), "{notes}");
    assert_eq!(told(&Request::from_png(&own, &path)?.notes()?), "");
    // The same by a recipe.
    let unet = Pipeline::builder().build()?;
    let request = unet.request("a boat").seed(1).steps(1).seamless(Seamless::Both);
    let output = small(request.tune(|config| (config.merge_tokens, config.reuse) = (0.5, 2)))?;
    let path = folder.file("unet.png");
    output.save(0, &path)?;
    let request = Request::from_png(&flow, &path)?;
    let notes = told(&request.notes()?);
    for lost in ["painted a seamless picture", "merged the share 0.5 of the cells", "deep layers once in 2 steps"] {
        assert!(notes.contains(lost), "{lost}: {notes}");
    }
    assert!(notes.contains("which needs a model with a UNet"), "{notes}");
    small(request)?;
    Ok(())
}

#[test]
fn lines_after_the_fields_change_no_setting() -> Result<()> {
    let folder = Folder::new();
    let words = "1girl, gold eyes\nNegative prompt: hat\nSteps: 2, Sampler: Euler a, CFG scale: 6, Seed: 77, Size: 64x64, \
                 Version: v1.5.1\nPostprocess upscale by: 4, Seed: 1\nTemplate: 1girl, {gold|blue} eyes\nNegative Template: hat, glasses";
    let (notes, output) = repeated(&folder.told(&[("parameters", words)]))?;
    let config = &output.recipe().config;
    assert_eq!((config.prompt.as_str(), config.negative.as_str()), ("1girl, gold eyes", "hat"));
    assert_eq!((config.steps, config.seed, config.size), (Some(2), Some(77), Some(Size::new(64, 64))));
    let unread = "Postprocess upscale by 4; Seed 1; Template 1girl, {gold|blue} eyes; Negative Template hat, glasses";
    assert!(notes.contains(&format!("not repeated: {unread}")), "{notes}");
    Ok(())
}

#[test]
fn schedule_of_the_web_ui_is_followed() -> Result<()> {
    let folder = Folder::new();
    for (sampler, want) in [
        ("DPM++ 2M, Schedule type: Automatic", "DPM++ 2M Karras"),
        ("Euler a, Schedule type: Automatic", "Euler a Normal"),
        ("DPM++ 2M", "DPM++ 2M Normal"),
    ] {
        let words = format!("1girl\nSteps: 3, Sampler: {sampler}, CFG scale: 6, Seed: 77, Size: 64x64, RNG: CPU");
        let (notes, output) = repeated(&folder.told(&[("parameters", &words)]))?;
        assert_eq!(notes, "");
        let pipeline = Pipeline::builder().build()?;
        let request = pipeline.request("1girl").steps(3).solver_named(want).guidance_scale(6.0).seed(77).size((64, 64));
        assert_eq!(output.images, request.run()?.images, "{sampler}");
    }
    Ok(())
}

#[test]
fn unknown_schedule_type_has_a_note() -> Result<()> {
    let folder = Folder::new();
    let pipeline = Pipeline::builder().build()?;
    let notes = |fields: &str| -> Result<String> {
        let words = format!("1girl\nSteps: 3, {fields}, Seed: 77, Size: 64x64, RNG: CPU");
        Ok(told(&Request::from_png(&pipeline, folder.told(&[("parameters", &words)]))?.notes()?))
    };
    for (fields, want) in [
        (
            "Sampler: DPM++ 2M, Schedule type: Turbo",
            "the schedule type Turbo is not known; the spacing in its place is Karras",
        ),
        (
            "Sampler: Euler, Schedule type: Mine, Version: Fooocus v2.5.5",
            "the schedule type Mine is not known; the spacing in its place is the checkpoint's own",
        ),
        ("Sampler: DPM fast, Schedule type: Karras", "not repeated: Schedule type Karras"),
    ] {
        let notes = notes(fields)?;
        assert!(notes.contains(want), "{fields}: {notes}");
    }
    assert_eq!(notes("Sampler: DDIM, Schedule type: Karras")?, "");
    let long = notes(&format!("Sampler: {0}, Schedule type: {0}, Model: {0}", "a ".repeat(10_000)))?;
    assert!(long.chars().count() < 1000, "{long}");
    Ok(())
}

#[test]
fn colors_of_other_programs_are_words() -> Result<()> {
    let folder = Folder::new();
    let words =
        "1girl, #fab fanart, {red} dress, #ffd700 hair\nSteps: 1, Sampler: Euler a, Seed: 77, Size: 64x64, RNG: CPU";
    let (_, output) = repeated(&folder.told(&[("parameters", words)]))?;
    assert_eq!(output.recipe().config.prompt, r"1girl, \#fab fanart, \{red} dress, \#ffd700 hair");
    // The text that this crate writes has exact colors.
    let words = words.to_owned() + ", Version: impasto 0.1.0";
    let pipeline = Pipeline::builder().build()?;
    let request = Request::from_png(&pipeline, folder.told(&[("parameters", &words)]))?;
    assert_eq!(request.colors()?.len(), 2);
    let notes = told(&request.notes()?);
    assert!(notes.contains("#fab in the prompt is read as a word") && notes.contains("write {#fab}"), "{notes}");
    Ok(())
}

#[test]
fn settings_of_other_programs_are_followed() -> Result<()> {
    let folder = Folder::new();
    let fooocus = r#"{"prompt": "1girl, gold eyes", "negative_prompt": "hat", "steps": 2, "seed": "77",
        "resolution": "(64, 64)", "sampler": "euler", "scheduler": "karras", "styles": "['Fooocus V2']"}"#;
    let swarm = r#"{"sui_image_params": {"prompt": "1girl, gold eyes", "negativeprompt": "hat", "steps": 2, "seed": 77,
        "width": 64, "height": 64, "sampler": "euler", "scheduler": "karras", "styles": "a"}}"#;
    let novel = r#"{"prompt": "1girl, gold eyes", "uc": "hat", "steps": 2, "seed": 77, "width": 64, "height": 64,
        "sampler": "k_euler", "noise_schedule": "karras", "styles": "a"}"#;
    let invoke = r#"{"positive_prompt": "1girl, gold eyes", "negative_prompt": "hat", "steps": 2, "seed": 77, "width": 64,
        "height": 64, "scheduler": "euler_k", "styles": "a"}"#;
    let comfy = r#"{"3": {"class_type": "KSampler", "inputs": {"seed": 77, "steps": 2, "sampler_name": "euler",
        "scheduler": "karras", "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0], "model": ["8", 0]}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "1girl, gold eyes"}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "hat"}},
        "8": {"class_type": "LoraLoaderModelOnly", "inputs": {"lora_name": "styles", "strength_model": 1}}}"#;
    let pipeline = Pipeline::builder().build()?;
    let request = pipeline.request("1girl, gold eyes").negative("hat").steps(2).seed(77).size((64, 64));
    let want = request.solver_named("Euler Karras").run()?;
    for (program, keyword, text) in [
        ("Fooocus", "parameters", fooocus),
        ("SwarmUI", "parameters", swarm),
        ("NovelAI", "Comment", novel),
        ("InvokeAI", "invokeai_metadata", invoke),
        ("ComfyUI", "prompt", comfy),
    ] {
        let (notes, output) = repeated(&folder.told(&[(keyword, text)]))?;
        assert_eq!(output.images, want.images, "{program}");
        assert!(notes.contains(program) && notes.contains("not repeated: ") && notes.contains("styles"), "{notes}");
    }
    Ok(())
}

#[test]
fn text_in_exif_is_followed() -> Result<()> {
    let folder = Folder::new();
    let words = "1girl, gold eyes\nSteps: 2, Sampler: Euler a, Seed: 77, Size: 64x64";
    let comment: Vec<u8> =
        b"UNICODE\0".iter().copied().chain(words.encode_utf16().flat_map(u16::to_be_bytes)).collect();
    // The list of tags begins at byte 8 and has one entry: the list for the comment, at byte 26, with one entry, too.
    let mut exif = b"MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x1a\0\0\0\0".to_vec();
    exif.extend(b"\0\x01\x92\x86\0\x07");
    exif.extend((comment.len() as u32).to_be_bytes());
    exif.extend(b"\0\0\0\x2c\0\0\0\0");
    exif.extend(comment);
    let picture = Raster::flat(GOLD, (8, 8));
    let write = |name: &str, encoder: &mut dyn FnMut(&mut Vec<u8>, Vec<u8>)| {
        let mut bytes = Vec::new();
        encoder(&mut bytes, exif.clone());
        let path = folder.file(name);
        std::fs::write(&path, bytes).expect("written");
        path
    };
    fn encode(mut encoder: impl ImageEncoder, exif: Vec<u8>, picture: &Raster) {
        encoder.set_exif_metadata(exif).expect("a place for metadata");
        encoder.write_image(picture.bytes(), 8, 8, ExtendedColorType::Rgb8).expect("written");
    }
    let files = [
        write("a.jpg", &mut |bytes, exif| encode(JpegEncoder::new(bytes), exif, &picture)),
        write("a.webp", &mut |bytes, exif| encode(WebPEncoder::new_lossless(bytes), exif, &picture)),
    ];
    for path in files {
        let (_, output) = repeated(&path)?;
        let config = &output.recipe().config;
        assert_eq!((config.prompt.as_str(), config.steps, config.seed), ("1girl, gold eyes", Some(2), Some(77)));
    }
    let pipeline = Pipeline::builder().build()?;
    picture.save(folder.file("plain.jpg"))?;
    let error = Request::from_png(&pipeline, folder.file("plain.jpg")).map(drop).expect_err("no text").to_string();
    assert!(error.contains("the file has no recipe"), "{error}");
    std::fs::write(folder.file("text.png"), "a cat").expect("written");
    let error = Request::from_png(&pipeline, folder.file("text.png")).map(drop).expect_err("no picture").to_string();
    assert!(error.contains("expected a PNG, JPEG or WebP"), "{error}");
    Ok(())
}

#[test]
fn settings_in_a_prompt_get_a_note() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let notes = told(&pipeline.request("a cat Steps: 20, Sampler: Euler a, CFG scale: 7").notes()?);
    assert!(notes.contains("the prompt contains the settings of a run"), "{notes}");
    let notes = told(&pipeline.request("a cat").negative("dog\nSteps: 20, Sampler: Euler a").notes()?);
    assert!(notes.contains("the negative prompt contains the settings of a run"), "{notes}");
    Ok(())
}
