//! Runs of the embedded model, and the errors and notes of requests that cannot be fulfilled.

use impasto::diffusion::Noise;
use impasto::mask::Region;
use impasto::methods::color_force::{ColorReport, ColorWarning, ForceRun, GoldMode, PaintedColor};
use impasto::methods::{ColorForce, PaintWithWords};
use impasto::nn::{ClipImageProcessor, ClipText, ClipTextConfig, ClipVision, ClipVisionConfig, ConfigFile};
use impasto::pipeline::{Builder, Output};
use impasto::saliency::{Daam, DaamRun, Occurrence, WordMapsRun};
use impasto::sampler::CancelToken;
use impasto::text::{TextOptions, Tokenizer};
use impasto::weights::Weights;
use impasto::wording::Note;
use impasto::{Codec, Error, LoadOptions, Model, Pipeline, Raster, Result, Rgb, Size, Source, Window};
use ndarray::Array2;
use std::ops::ControlFlow;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const PORTRAIT: &str = "1girl, eyes, hair bow, hair, skin, shirt, background";
const GOLD: Rgb = Rgb(255, 215, 0);

#[test]
fn undecided_force_is_not_reported_as_met() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let force = ColorForce::exact("masterpiece", GOLD);
    let output = pipeline.request("1girl, eyes, hair, masterpiece").seed(1).guide(force).run()?;
    let told = output.details::<ColorReport>("masterpiece")?;
    assert!(told.painted[0].undecided.is_some_and(|cells| cells > 1.5), "{:?}", told.painted);
    let undecided = |warning: &ColorWarning| matches!(warning, ColorWarning::Undecided { image: 0, .. });
    assert!(!told.converged && told.warnings.iter().any(undecided), "{:?}", told.warnings);
    Ok(())
}

#[test]
fn force_in_a_region_needs_no_word() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let left = Array2::from_shape_fn((16, 16), |(_, column)| if column < 4 { 1.0 } else { 0.0 });
    let painted = |force: fn(&'static str, Rgb) -> ColorForce| -> Result<(PaintedColor, Vec<Note>)> {
        let force = force("the left edge", Rgb(60, 179, 113)).saliency(Region::new(left.clone()));
        let output = pipeline.request("a red house, ground, sky").seed(1).guide(force).run()?;
        Ok((output.details::<ColorReport>("the left edge")?.painted[0], output.notes.to_vec()))
    };
    let (plain, _) = painted(|phrase, color| ColorForce::published(phrase, color).color_var(1e9))?;
    let (forced, notes) = painted(|phrase, color| ColorForce::published(phrase, color).color_var(5.0))?;
    let (exact, _) =
        painted(|phrase, color| ColorForce::exact(phrase, color).tune(|options| options.outlines = false))?;
    assert_eq!((forced.area, exact.area), (0.25, 0.25));
    let distances = [plain, forced, exact].map(|painted| painted.delta_e);
    assert!(distances[1] < distances[0] && distances[2] < 1.0 && distances[0] > 20.0, "{distances:?}");
    assert!(notes.iter().any(|note| note.text.contains("color_var is 5")), "{notes:?}");
    Ok(())
}

#[test]
fn seed_repeats_and_image_i_has_seed_plus_i() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let one = pipeline.request("a red boat").seed(5).steps(4).run()?;
    let again = pipeline.request("a red boat").seed(5).steps(4).run()?;
    assert_eq!(one.image(0)?, again.image(0)?);
    let batching = impasto::sampler::Batching::OneByOne;
    let batch =
        pipeline.request("a red boat").seed(4).steps(4).images(2).tune(|config| config.batching = batching).run()?;
    assert_ne!(batch.image(0)?, batch.image(1)?);
    let alone = pipeline.request("a red boat").seed(5).steps(4).tune(|config| config.batching = batching).run()?;
    assert_eq!(batch.image(1)?, alone.image(0)?);
    let free = pipeline.request("a red boat").steps(1).run()?;
    let repeated = pipeline.request("a red boat").steps(1).seed(free.seed.expect("it was drawn")).run()?;
    assert_eq!(free.image(0)?, repeated.image(0)?);
    Ok(())
}

#[test]
fn pictures_need_not_be_square() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let output =
        pipeline.request("a red boat, blue sky").size((168, 104)).steps(3).seed(1).guide(Daam::of("boat")).run()?;
    assert_eq!(output.image(0)?.size(), Size::new(168, 104));
    assert_eq!(output.details::<DaamRun>("boat")?.heat_map(0)?.values.size(), [13, 21]);
    Ok(())
}

#[test]
fn bad_requests_name_the_value_and_the_way_out() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let fails = |request: fn(impasto::pipeline::Request<'_>) -> impasto::pipeline::Request<'_>, words: &[&str]| {
        let request = request(pipeline.request("1girl, gold eyes").steps(2).seed(1));
        let message = request.run().map(drop).expect_err("bad input").to_string();
        for word in words {
            assert!(message.contains(word), "\"{message}\" does not say \"{word}\"");
        }
    };
    fails(|r| r.size((100, 128)), &["width is 100", "multiple of 8"]);
    fails(|r| r.size((128, 4104)), &["height is 4104", "4096"]);
    fails(|r| r.size((0, 128)), &["width is 0"]);
    fails(|r| r.steps(0), &["steps is 0", "1000"]);
    fails(|r| r.steps(1001), &["steps is 1001", "1000"]);
    fails(|r| r.images(0), &["images is 0", "1 to 1024"]);
    fails(|r| r.guidance_scale(f64::NAN), &["guidance_scale is NaN"]);
    fails(|r| r.guidance_scale(-1.0), &["guidance_scale is -1"]);
    fails(|r| r.color_force("ears", GOLD), &["ColorForce", "\"ears\"", "did you mean \"eyes\""]);
    fails(|r| r.guide(ColorForce::published("eyes", GOLD).color_var(f64::NAN)), &["color_var is NaN", "15 to 70"]);
    fails(|r| r.guide(ColorForce::published("eyes", GOLD).color_var(-3.0)), &["color_var is -3"]);
    fails(|r| r.guide(ColorForce::published("eyes", GOLD).saliency_cutoff(-0.1)), &["saliency_cutoff is -0.1"]);
    fails(
        |r| r.guide(ColorForce::published("eyes", GOLD).window(Window::timesteps(0.0..=1200.0))),
        &["0..=1200", "0..=999"],
    );
    fails(
        |r| r.guide(ColorForce::published("eyes", GOLD).tune(|options| options.reference_steps = Some(0))),
        &["reference_steps is 0"],
    );
    fails(|r| r.guide(Daam::of(" , ")), &["the phrase has no letter or digit"]);
    fails(
        |r| r.guide(Daam::of("eyes").tune(|options| options.occurrence = Occurrence::Nth(1))),
        &["occurrence.Nth is 1", "less than 1"],
    );
    fails(
        |r| r.guide(Daam::of("eyes").window(Window::timesteps(-5.0..=5000.0))),
        &["window is timesteps -5..=5000", "0..=999"],
    );
    fails(|r| r.images(usize::MAX), &["images is 18446744073709551615"]);
    drop(pipeline.request("").steps(1).run()?); // an empty prompt is fine
    Ok(())
}

#[test]
fn a_pipeline_is_checked_when_it_is_built() {
    let built = Pipeline::builder().guide(ColorForce::published("eyes", GOLD).color_var(0.0)).build();
    assert!(built.map(drop).expect_err("variance 0").to_string().contains("color_var is 0"));
    let missing = Pipeline::builder().source(Source::dir("no/such/folder")).build();
    let message = missing.map(drop).expect_err("no folder").to_string();
    assert!(message.contains("no/such/folder") && message.contains("unet/"), "{message}");
}

#[test]
fn vae_computes_in_the_network_kind_unless_set() -> Result<()> {
    let latent = Noise::seeded(3).draw(&[1, 4, 16, 16])?;
    let decode = |builder: Builder| -> Result<Tensor> { builder.build()?.model().decode(&latent) };
    let options = |network: Kind, vae: Kind| {
        let mut options = LoadOptions::default();
        options.precision = network.into();
        options.vae_precision = Some(vae.into());
        options
    };
    let plain = decode(Pipeline::builder())?;
    let bf16 = decode(Pipeline::builder().precision(Kind::BFloat16))?;
    assert_ne!(plain, bf16);
    assert_eq!(decode(Pipeline::builder().tune(|chosen| *chosen = options(Kind::BFloat16, Kind::Float)))?, plain);
    assert_eq!(decode(Pipeline::builder().tune(|chosen| *chosen = options(Kind::Float, Kind::BFloat16)))?, bf16);
    Ok(())
}

#[test]
fn full_and_constant_gold_decode_to_the_color() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let cells = i64::from(pipeline.model().defaults().width) / 8;
    let gold = |mode| -> Result<(f64, tch::Tensor)> {
        let force = ColorForce::published("eyes", GOLD).tune(|options| options.gold = mode);
        let output = pipeline.request(PORTRAIT).seed(1).steps(1).guide(force).run()?;
        let delta_e = output.details::<ColorReport>("eyes")?.representable_delta_e;
        Ok((delta_e, output.details::<ForceRun>("eyes")?.gold_latent().shallow_clone()))
    };
    for mode in [GoldMode::Full, GoldMode::Constant] {
        let name = format!("{mode:?}");
        let (delta_e, latent) = gold(mode)?;
        assert!(delta_e < 1.0, "{name}: {delta_e}");
        assert_eq!(latent.size(), [1, 4, cells, cells]);
    }
    let half = tch::Tensor::full([1, 4, 1, 1], 0.5, (tch::Kind::Float, tch::Device::Cpu));
    let (delta_e, latent) = gold(GoldMode::Latent(half.into()))?;
    assert!(delta_e > 5.0 && latent == latent.full_like(0.5));
    Ok(())
}

#[test]
fn methods_find_words_at_the_end_of_long_prompts() -> Result<()> {
    let long = format!("1girl, {}gold hair, eyes, shirt", "simple picture, ".repeat(28));
    let pipeline = Pipeline::builder().build()?;
    let force = ColorForce::published("eyes", GOLD);
    let half = Region::new(Array2::from_shape_fn((16, 16), |(_, x)| if x < 8 { 1.0 } else { 0.0 }));
    let paint = PaintWithWords::default().mask(half, "shirt", 1.0);
    // The negative prompt is one chunk, the prompt two.
    let request = pipeline.request(&long).negative("a car").steps(2).guide(force).guide(Daam::words());
    let output = request.guide(Daam::of("eyes")).guide(paint).run()?;
    assert!(output.notes.iter().all(|note| !note.text.contains("too long")), "{:?}", output.notes);
    output.details::<WordMapsRun>("Daam::words")?.heat_map("shirt", 0)?; // a word of the second chunk
    let apart = (output.image(0)?, pipeline.request(&long).negative("a car").steps(2).run()?);
    assert_ne!(apart.0, apart.1.image(0)?);

    let pipeline = Pipeline::builder().tune(|options| options.text = TextOptions::PLAIN).build()?;
    let output = pipeline.request(&long).steps(1).run()?;
    let note = output.notes.iter().find(|note| note.text.contains("too long")).expect("a note");
    assert!(note.text.contains("eyes, shirt"), "{note}");
    Ok(())
}

#[test]
fn word_weights_change_the_picture_unless_one() -> Result<()> {
    let prompt = "1girl, gold eyes, red hair";
    let pipeline = Pipeline::builder().build()?;
    let picture = |prompt: &str| Ok::<_, Error>(pipeline.request(prompt).steps(4).seed(1).run()?.image(0)?.clone());
    let plain = picture(prompt)?;
    assert_eq!(picture("1girl, (gold eyes:1.0), red hair")?, plain);
    assert_ne!(picture("1girl, (gold eyes:1.5), red hair")?, plain);
    // Brackets are plain characters of the prompt if markup is off.
    let unmarked = Pipeline::builder()
        .tune(|options| options.text = TextOptions { markup: false, ..TextOptions::default() })
        .build()?;
    assert_eq!(unmarked.request(prompt).steps(4).seed(1).run()?.image(0)?, &plain);
    assert_ne!(unmarked.request("1girl, (gold eyes:1.0), red hair").steps(4).seed(1).run()?.image(0)?, &plain);
    // The embedded model's text encoder has three layers.
    let skipped = |clip_skip| {
        Pipeline::builder()
            .tune(|options| options.text = TextOptions { clip_skip: Some(clip_skip), ..TextOptions::default() })
            .build()
    };
    assert_ne!(skipped(2)?.request(prompt).steps(4).seed(1).run()?.image(0)?, &plain);
    assert_eq!(skipped(1)?.request(prompt).steps(4).seed(1).run()?.image(0)?, &plain);
    let message = skipped(4).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("clip_skip is 4; expected 1 to 3"), "{message}");
    // A request may choose the layer too.
    let pipeline = Pipeline::builder().build()?;
    let request = |layer| pipeline.request(prompt).steps(4).seed(1).tune(|config| config.clip_skip = Some(layer));
    let output = request(2).run()?;
    assert_eq!(output.images, skipped(2)?.request(prompt).steps(4).seed(1).run()?.images);
    assert_eq!(pipeline.request(prompt).steps(4).seed(1).run()?.image(0)?, &plain);
    assert_eq!(output.recipe().infotext().field("Clip skip"), Some("2"));
    let message = request(4).run().unwrap_err().to_string();
    assert!(message.contains("clip_skip is 4; expected 1 to 3"), "{message}");
    Ok(())
}

#[test]
fn a_cancelled_run_ends_within_a_step() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let token = CancelToken::new();
    let mut steps = 0;
    let request = pipeline.request("a red boat").steps(20).cancel(&token).on_step(|_| {
        steps += 1;
        if steps == 3 {
            token.cancel();
        }
        ControlFlow::Continue(())
    });
    assert!(request.run().map(drop).expect_err("cancelled").is_cancelled());
    assert_eq!(steps, 3);
    let stopped = pipeline.request("a red boat").on_step(|_| ControlFlow::Break(())).run();
    assert!(matches!(stopped, Err(Error::Cancelled)));
    Ok(())
}

#[test]
fn run_that_finishes_early_has_its_unfinished_picture() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let run = |prompt: &str, after: usize, hires: bool| -> Result<(usize, Output, Raster)> {
        let (token, mut steps, mut seen) = (CancelToken::new(), 0, None);
        let request = pipeline.request(prompt).size((64, 64)).steps(8).seed(1).cancel(&token);
        let request = request.tune(|config| config.hires = hires.then(|| "2".parse().expect("a scale")));
        let output = request.on_preview(1, |preview| {
            steps += 1;
            seen = Some(preview.decoded()?.remove(0));
            if steps == after {
                token.finish_early();
            }
            Ok(())
        });
        let output = output.run()?;
        Ok((steps, output, seen.expect("a preview")))
    };
    for hires in [false, true] {
        let (steps, output, seen) = run("a red boat", 3, hires)?;
        assert_eq!((steps, output.image(0)?), (3, &seen));
        let told = "the run was ended after 3 of 8 steps";
        assert!(output.notes.iter().any(|note| note.text.starts_with(told)), "{:?}", output.notes);
        assert_eq!(output.notes.iter().any(|note| note.text.starts_with("the second run was left out")), hires);
    }
    // Details after the one that is painted are left out.
    let (token, mut stages) = (CancelToken::new(), Vec::new());
    let request = pipeline.request("1girl, eyes, hair").steps(6).seed(1).cancel(&token);
    let request = request.tune(|config| config.details = vec!["hair".into(), "eyes".into()]);
    let output = request.on_step(|progress| {
        stages.push(progress.stage);
        if progress.stage == 1 {
            token.finish_early();
        }
        ControlFlow::Continue(())
    });
    let output = output.run()?;
    assert_eq!((stages.len(), stages.last()), (7, Some(&1)));
    assert!(output.notes.iter().any(|note| note.text.starts_with("details were left out")), "{:?}", output.notes);
    // A first pass has no picture.
    let (steps, output, _) = run("a #ff0000 boat", 1, false)?;
    assert_eq!((steps, output.images.len()), (9, 1));
    // Nothing is left out after the last step.
    let (_, output, _) = run("a red boat", 8, false)?;
    assert_eq!(output.images, pipeline.request("a red boat").size((64, 64)).steps(8).seed(1).run()?.images);
    Ok(())
}

#[test]
fn broken_checkpoints_are_described() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model"), folder.path());
    let load = || Model::load(&Source::dir(folder.path())).map(drop);
    load()?;
    let fails = |words: &[&str]| {
        let message = load().expect_err("broken").to_string();
        words.iter().for_each(|word| assert!(message.contains(word), "\"{message}\" does not say \"{word}\""));
    };
    let path = folder.path().join("unet/diffusion_pytorch_model.safetensors");
    let whole = std::fs::read(&path).expect("read");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    fails(&["diffusion_pytorch_model.safetensors", "cut off", "again"]);
    std::fs::write(&path, b"<!DOCTYPE html><html>not found</html>").expect("written");
    fails(&["diffusion_pytorch_model.safetensors", "HTML"]);
    std::fs::write(&path, &whole).expect("written");

    let config = folder.path().join("unet/config.json");
    let text = std::fs::read_to_string(&config).expect("read");
    std::fs::write(&config, text.replace("\"in_channels\": 4", "\"in_channels\": 5")).expect("written");
    fails(&["conv_in.weight", "5", "4"]);
    std::fs::write(&config, text.replace("\"act_fn\": \"silu\"", "\"act_fn\": \"mish\"")).expect("written");
    fails(&["act_fn", "mish"]);
    std::fs::write(&config, text.replace("\"cross_attention_dim\": 128", "\"cross_attention_dim\": 64"))
        .expect("written");
    fails(&["attn2.to_k.weight"]);
    std::fs::write(&config, text.replace("\"sample_size\": 32", "\"sample_size\": 9223372036854775807"))
        .expect("written");
    fails(&["sample_size", "9223372036854775807"]);
    std::fs::write(&config, &text).expect("written");

    std::fs::remove_file(folder.path().join("vae/config.json")).expect("removed");
    fails(&["vae/config.json is missing"]);
    Ok(())
}

pub fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            let _ = std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[test]
fn embedded_clip_matches_pictures_to_captions() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model");
    let text = |file: &str| std::fs::read_to_string(folder.join(file)).expect(file);
    let weights = |part: &str| Weights::open(&folder.join(part).join("model.safetensors"), Kind::Float, Device::Cpu);
    let config = ClipTextConfig::from_json("text", &text("text_encoder/config.json"))?;
    let text_encoder = ClipText::new(&weights("text_encoder")?, &config)?;
    let config = ClipVisionConfig::from_json("vision", &text("image_encoder/config.json"))?;
    let image_encoder = ClipVision::new(&weights("image_encoder")?, &config)?;
    let processor = ClipImageProcessor::from_json("pictures", &text("feature_extractor/preprocessor_config.json"))?;
    let (vocab, merges) = (text("tokenizer/vocab.json"), text("tokenizer/merges.txt"));
    let special = text("tokenizer/special_tokens_map.json");
    let tokenizer = Tokenizer::from_vocab(vocab.as_bytes(), merges.as_bytes(), Some(special.as_bytes()), None)?;

    let captions = [
        "1girl, gold eyes, pink hair bow, red hair, pale skin, blue shirt, green background",
        "1girl, green eyes, red hair bow, blue hair, brown skin, yellow shirt, white background",
        "a red house and a yellow moon, green ground, navy sky",
        "a blue boat and a white star, tan ground, black sky",
    ];
    let pipeline = Pipeline::builder().build()?;
    let (mut texts, mut pictures) = (Vec::new(), Vec::new());
    for caption in captions {
        texts.push(Tensor::from_slice(&tokenizer.padded_to(caption, 77)?).unsqueeze(0));
        pictures.push(processor.pixels(pipeline.request(caption).seed(1).run()?.image(0)?)?);
    }
    let texts = text_encoder.forward(&Tensor::cat(&texts, 0))?.text_embeds.expect("a projection");
    let pictures = image_encoder.forward(&Tensor::cat(&pictures, 0))?.image_embeds.expect("a projection");
    let unit = |x: Tensor| &x / x.norm_scalaropt_dim(2.0, [-1], true);
    let cosines = unit(pictures).matmul(&unit(texts).transpose(0, 1)); // [pictures, captions]
    for axis in 0..2 {
        assert_eq!(Vec::<i64>::try_from(cosines.argmax(axis, false))?, [0, 1, 2, 3], "{cosines}");
    }
    Ok(())
}

#[test]
fn prompt_without_words_has_no_word_maps() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    for prompt in ["", " ,", "!!!"] {
        let output = pipeline.request(prompt).size((64, 64)).steps(2).guide(Daam::words()).run()?;
        let words = output.details::<WordMapsRun>("Daam::words")?;
        assert!(output.images.len() == 1 && words.heat_maps(0)?.is_empty(), "{prompt:?}");
    }
    Ok(())
}
