//! SDXL's two prompts, and a run that base and refiner share, on small random models.

use impasto::diffusion::{Noise, solver::Euler};
use impasto::guidance::{Guidance, GuidanceRun};
use impasto::mask::Region;
use impasto::methods::color_force::ColorReport;
use impasto::methods::image_guidance::{GuidanceParams, ImageGuidanceReport, Space};
use impasto::methods::paint_with_words::{Area, PaintReport, WeightFn};
use impasto::methods::{ColorForce, ImageGuidance, PaintWithWords, PromptBlend, ReferenceColor, RegionPrompts};
use impasto::nn::{
    ClipText, ClipTextConfig, ClipVision, ClipVisionConfig, ConfigFile, UNet, UnetConfig, Vae, VaeConfig,
};
use impasto::pipeline::{Output, Request};
use impasto::prompt::TokenSpan;
use impasto::saliency::{Daam, DaamRun};
use impasto::weights::Weights;
use impasto::wording::Note;
use impasto::{
    Branch, BranchInfo, Codec, Conditioning, Error, MicroConditioning, Model, Pipeline, Raster, Result, Rgb, Source,
    Texts,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/impasto-tiny/model");

/// Writes a part's folder with random weights.
fn part(folder: &Path, part: &str, config: &Value) -> Result<()> {
    let (w, text) = (Weights::random(part.len() as u64, Kind::Float, Device::Cpu), config.to_string());
    let stem = match part {
        "unet" => UNet::new(&w, &UnetConfig::from_json(part, &text)?).map(|_| "diffusion_pytorch_model")?,
        "image_encoder" => ClipVision::new(&w, &ClipVisionConfig::from_json(part, &text)?).map(|_| "model")?,
        "vae" => Vae::new(&w, &VaeConfig::from_json(part, &text)?).map(|_| "diffusion_pytorch_model")?,
        _ => ClipText::new(&w, &ClipTextConfig::from_json(part, &text)?).map(|_| "model")?,
    };
    let folder = folder.join(part);
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("config.json"), text).expect("written");
    let tensors: Vec<(String, Tensor)> = w.drawn()?.into_iter().collect();
    Ok(Tensor::write_safetensors(&tensors, folder.join(format!("{stem}.safetensors")))?)
}

/// A small model of SDXL's build, or of its refiner's, in diffusers' layout.
fn model(refiner: bool) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir().expect("a folder");
    let (context, numbers) = if refiner { (24, 5) } else { (16 + 24, 6) };
    let unet = json!({
        "block_out_channels": [16, 32], "layers_per_block": 1, "cross_attention_dim": context, "attention_head_dim": [2, 4],
        "norm_num_groups": 8, "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"], "sample_size": 8,
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "use_linear_projection": true,
        "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 24 + 8 * numbers
    });
    part(folder.path(), "unet", &unet)?;
    part(
        folder.path(),
        "vae",
        &json!({ "block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4, "layers_per_block": 1 }),
    )?;
    let text = |width: i64, architecture: &str| {
        json!({ "vocab_size": 779, "hidden_size": width, "num_attention_heads": 2, "num_hidden_layers": 2, "projection_dim": 24,
                "intermediate_size": 32, "eos_token_id": 778, "architectures": [architecture] })
    };
    if !refiner {
        part(folder.path(), "text_encoder", &text(16, "CLIPTextModel"))?;
    }
    part(folder.path(), "text_encoder_2", &text(24, "CLIPTextModelWithProjection"))?;
    for tokenizer in ["tokenizer", "tokenizer_2"] {
        fs::create_dir(folder.path().join(tokenizer)).expect("a folder");
        for file in ["vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"] {
            let from = Path::new(TINY).join("tokenizer").join(file);
            fs::copy(from, folder.path().join(tokenizer).join(file)).expect("copied");
        }
    }
    Ok(folder)
}

fn load(refiner: bool) -> Result<Pipeline> {
    Pipeline::builder().source(Source::dir(model(refiner)?.path())).build()
}

fn near(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[])
}

const FIRST: &str = "1girl, eyes, hair bow";
const SECOND: &str = "a red boat, eyes, sky";

#[test]
fn each_encoder_reads_its_own_prompt() -> Result<()> {
    let folder = model(false)?;
    let model = Model::load(&Source::dir(folder.path()))?;
    let (both, first, second) =
        (model.text(Texts::new(FIRST, Some(SECOND)))?, model.text(FIRST.into())?, model.text(SECOND.into())?);
    assert_eq!(both.context.narrow(2, 0, 16), first.context.narrow(2, 0, 16));
    assert_eq!(both.context.narrow(2, 16, 24), second.context.narrow(2, 16, 24));
    assert_eq!(both.pooled, second.pooled);
    assert_ne!(both.pooled, first.pooled);

    // Phrases of either prompt are found at the tokens of the encoder that reads the prompt.
    let prompt = model.prompt(Texts::new(FIRST, Some(SECOND)))?;
    let find = |text: &str, phrase: &str| model.prompt(text.into()).and_then(|prompt| prompt.find(phrase));
    assert_eq!(prompt.find("bow")?, find(FIRST, "bow")?);
    assert_eq!(prompt.find("boat")?, find(SECOND, "boat")?);
    let eyes = [find(FIRST, "eyes")?, find(SECOND, "eyes")?].concat();
    assert_ne!(eyes[0], eyes[1]);
    assert_eq!(prompt.find("eyes")?, TokenSpan::union(eyes));
    Ok(())
}

#[test]
fn second_prompt_acts_and_methods_find_its_words() -> Result<()> {
    let pipeline = load(false)?;
    let run = |second: Option<&'static str>, negative: Option<&'static str>| -> Result<Tensor> {
        let phrase = if second.is_some() { "boat" } else { "bow" };
        let mut request = pipeline.request(FIRST).negative("hat").seed(3).steps(2).size((64, 64));
        request = second.into_iter().fold(request, Request::second_prompt);
        request = request.tune(|config| config.second_negative = negative.map(Into::into));
        let output = request.guide(Daam::of(phrase)).run()?;
        assert_eq!(output.details::<DaamRun>(phrase)?.heat_map(0)?.values.size(), [8, 8]);
        Ok(output.latents.shallow_clone())
    };
    let plain = run(None, None)?;
    assert_ne!(run(Some(SECOND), None)?, plain);
    assert_ne!(run(None, Some("shirt"))?, plain);
    let same = pipeline.request(FIRST).negative("hat").seed(3).steps(2).size((64, 64));
    let same = same.second_prompt(FIRST).tune(|config| config.second_negative = Some("hat".into())).run()?;
    assert_eq!(same.latents, plain);

    // A model with one text encoder refuses a second prompt, because nothing would read the prompt.
    let tiny = Pipeline::builder().build()?;
    let message = tiny.request(FIRST).second_prompt(SECOND).steps(1).run().unwrap_err().to_string();
    assert!(message.contains("second_prompt is \"a red boat, eyes, sky\"; expected no second prompt"), "{message}");
    Ok(())
}

/// The pooled texts of the branches by their roles; the last encoder, which reads the second prompt, makes them.
#[derive(Default)]
struct Pooled(BTreeMap<&'static str, Tensor>);

impl GuidanceRun for Pooled {
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, _: &dyn Codec) -> Result<()> {
        self.0.extend(conditioning.pooled.as_ref().map(|pooled| (branch.role, pooled.shallow_clone())));
        Ok(())
    }
}

#[test]
fn second_prompt_describes_a_reference_too() -> Result<()> {
    let (pipeline, mut pooled) = (load(false)?, Pooled::default());
    let reference = ReferenceColor::new(&Raster::flat(Rgb(70, 130, 180), (64, 64)));
    let request = pipeline.request(FIRST).second_prompt(SECOND).seed(3).steps(1).size((64, 64));
    let _ = request.guide(reference).attach(&mut pooled).run()?;
    assert_eq!(pooled.0["reference"], pooled.0["cond"]);
    Ok(())
}

#[test]
fn micro_conditioning_acts_and_repeats() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let told = MicroConditioning {
        original_size: Some((1024, 768).into()),
        crop: Some((8, 16)),
        target_size: Some((512, 640).into()),
        ..MicroConditioning::default()
    };
    let scored = MicroConditioning { aesthetic_score: Some(9.0), ..MicroConditioning::default() };
    for (refiner, micro) in [(false, told), (true, scored)] {
        let pipeline = load(refiner)?;
        let run = |of: [Option<MicroConditioning>; 2]| -> Result<Tensor> {
            let request = pipeline.request(FIRST).seed(3).steps(2).size((64, 64)).tune(|config| {
                [config.micro_conditioning, config.negative_micro_conditioning] = of;
            });
            Ok(request.run()?.latents.shallow_clone())
        };
        let plain = run([None; 2])?;
        assert_ne!(run([Some(micro), None])?, plain);
        assert_ne!(run([None, Some(micro)])?, plain);
        let own = MicroConditioning {
            original_size: Some((64, 64).into()),
            crop: Some((0, 0)),
            target_size: Some((64, 64).into()),
            aesthetic_score: Some(6.0),
        };
        assert_eq!(run([Some(own), None])?, plain, "these are the default values");

        let path = folder.path().join(format!("{refiner}.png"));
        let request = pipeline.request(FIRST).seed(3).steps(2).size((64, 64)).tune(|config| {
            config.micro_conditioning = Some(micro);
            config.negative_micro_conditioning = Some(own);
        });
        let output = request.run()?;
        output.save(0, &path)?;
        let request = Request::from_png(&pipeline, &path)?;
        assert!(request.notes()?.is_empty());
        assert_eq!(request.run()?.latents, output.latents);
    }
    let message = |request: Request<'_>| request.run().unwrap_err().to_string();
    let tiny = Pipeline::builder().build()?;
    let refused = message(tiny.request(FIRST).tune(|config| config.micro_conditioning = Some(told)));
    assert!(refused.contains("micro_conditioning is set for this model; expected an SDXL model"), "{refused}");
    let base = load(false)?;
    let none = MicroConditioning { original_size: Some((0, 8).into()), ..MicroConditioning::default() };
    assert!(
        message(base.request(FIRST).tune(|config| config.micro_conditioning = Some(none)))
            .contains("original_size is 0×8; expected a width and a height of 1 to")
    );
    let score = MicroConditioning { aesthetic_score: Some(f64::NAN), ..MicroConditioning::default() };
    assert!(
        message(base.request(FIRST).tune(|config| config.negative_micro_conditioning = Some(score)))
            .contains("aesthetic_score is NaN")
    );
    Ok(())
}

#[test]
fn phrases_of_both_prompts_are_painted() -> Result<()> {
    let pipeline = load(false)?;
    let area = |phrase: &str| Area { strength: 2.0, ..Area::mask(Region::rect(0.0..0.5, 0.0..1.0), phrase) };
    let paint = PaintWithWords::default().area(area("eyes")).area(area("boat")).weight(WeightFn::LogMax(1.0));
    let run = |paint: Option<PaintWithWords>| -> Result<Output> {
        let request = pipeline.request(FIRST).second_prompt(SECOND).seed(3).steps(2).size((64, 64));
        paint.into_iter().fold(request, Request::guide).run()
    };
    let (plain, painted) = (run(None)?, run(Some(paint))?);
    assert!(near(&painted.latents, &plain.latents) > 1e-4);
    let areas = &painted.details::<PaintReport>("PaintWithWords")?.areas;
    let find = |text: &str, phrase: &str| pipeline.model().prompt(text.into()).and_then(|prompt| prompt.find(phrase));
    let eyes = [find(FIRST, "eyes")?, find(SECOND, "eyes")?].concat();
    assert_eq!(areas[0].tokens, TokenSpan::union(eyes), "\"eyes\" is painted in both prompts");
    assert_eq!(areas[1].tokens, find(SECOND, "boat")?, "\"boat\" is in the second prompt only");
    let regions = RegionPrompts::default().add(Region::rect(0.0..1.0, 0.0..1.0), "a green tree", 1.0);
    let alone = pipeline.request("a green tree").seed(3).steps(2).size((64, 64)).run()?.latents.shallow_clone();
    let run = |regions: RegionPrompts| -> Result<Tensor> {
        let request = pipeline.request(FIRST).second_prompt(SECOND).seed(3).steps(2).size((64, 64));
        Ok(request.guide(regions).run()?.latents.shallow_clone())
    };
    assert!(near(&run(regions)?, &alone) < 1e-4, "both encoders read the region's prompt");
    Ok(())
}

#[test]
fn tokens_merge_on_the_largest_grid_with_attention() -> Result<()> {
    let pipeline = load(false)?;
    let run = |share| {
        let request = pipeline.request(FIRST).seed(3).steps(3).size((64, 64)).solver(Euler);
        request.tune(|config| config.merge_tokens = share).run()
    };
    let (whole, half) = (run(0.0)?, run(0.5)?);
    assert!(half.notes.iter().all(|note| !note.text.contains("merge_tokens")), "{:?}", half.notes);
    assert!(near(&half.latents, &whole.latents) > 1e-4, "{}", near(&half.latents, &whole.latents));
    Ok(())
}

#[test]
fn run_in_two_parts_equals_the_whole_run() -> Result<()> {
    let pipeline = load(false)?;
    let whole = pipeline.request(FIRST).seed(3).images(2).steps(10).size((64, 48)).solver(Euler).run()?;
    assert_eq!(whole.images.len(), 2);
    for share in [0.3, 0.8] {
        let first =
            pipeline.request(FIRST).seed(3).images(2).steps(10).size((64, 48)).solver(Euler).until(share).run()?;
        assert_eq!((first.images.len(), first.timing.steps.len()), (0, (10.0 * share) as usize));
        let rest = pipeline.request(FIRST).steps(10).solver(Euler).resume(&first.latents, share).run()?;
        assert_eq!((rest.images.len(), rest.image(0)?.size().width), (2, 64));
        let apart = near(&rest.latents, &whole.latents);
        assert!(apart < 1e-5, "{share}: {apart}");
    }
    Ok(())
}

#[test]
fn forces_act_in_both_parts_of_a_run() -> Result<()> {
    let pipeline = Pipeline::builder().guide(ColorForce::published("eyes", Rgb(255, 215, 0))).build()?;
    let whole = pipeline.request(FIRST).seed(3).steps(6).solver(Euler).run()?;
    let first = pipeline.request(FIRST).seed(3).steps(6).solver(Euler).until(0.5).run()?;
    assert_eq!(first.reports.len(), 1);
    let rest = pipeline.request(FIRST).steps(6).solver(Euler).resume(&first.latents, 0.5).run()?;
    let apart = near(&rest.latents, &whole.latents);
    assert!(apart < 1e-4, "{apart}");
    Ok(())
}

#[test]
fn refiner_continues_where_the_base_ends() -> Result<()> {
    let (base, refiner) = (load(false)?, load(true)?);
    let rough = base.request(FIRST).second_prompt(SECOND).seed(3).steps(10).size((64, 64)).until(0.8).run()?;
    assert_eq!(rough.timing.steps.len(), 8);
    let output = refiner.request(FIRST).steps(10).resume(&rough.latents, 0.8).run()?;
    assert_eq!((output.timing.steps.len(), output.image(0)?.size().height), (2, 64));
    let alone = base.request(FIRST).second_prompt(SECOND).seed(3).steps(10).size((64, 64)).run()?;
    assert!(near(&output.latents, &alone.latents) > 1e-3, "another model took the last steps");
    Ok(())
}

#[test]
fn bad_resume_errors_name_the_problem() -> Result<()> {
    let pipeline = load(false)?;
    let first = pipeline.request(FIRST).seed(3).steps(4).size((64, 64)).until(0.5).run()?;
    let (latents, picture) = (&first.latents, Raster::flat(Rgb(0, 0, 0), (64, 64)));
    let message = |share: f64, change: fn(Request<'_>) -> Request<'_>| {
        change(pipeline.request(FIRST).steps(4).resume(latents, share)).run().unwrap_err()
    };
    assert!(matches!(message(1.5, |request| request), Error::Parameter { name: "share", .. }));
    assert!(matches!(message(1.0, |request| request), Error::Parameter { name: "share", .. }));
    assert!(message(0.5, |request| request.variation(1, 0.5)).to_string().contains("no mask and no variation"));
    assert!(message(0.5, |request| request.size((128, 64))).to_string().contains("the latent to start from has shape"));
    let both =
        pipeline.request(FIRST).steps(4).resume(latents, 0.5).start(&picture, 0.5).run().unwrap_err().to_string();
    assert!(both.contains("resume is another request's latents; expected no picture"), "{both}");
    assert!(first.image(0).is_err());
    Ok(())
}

/// A guidance method that keeps the prompt's conditioning.
#[derive(Default)]
struct Seen(Option<Conditioning>);

impl GuidanceRun for Seen {
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, _: &dyn Codec) -> Result<()> {
        if branch.branch == Branch::Cond {
            self.0 = Some(conditioning.share());
        }
        Ok(())
    }
}

#[test]
fn long_second_prompt_works_with_blend_and_guide() -> Result<()> {
    let pipeline = load(false)?;
    let run = |guidance: Box<dyn Guidance>| -> Result<(Conditioning, Output)> {
        let mut seen = Seen::default();
        let request =
            pipeline.request(FIRST).second_prompt("a red boat BREAK eyes, sky").seed(3).steps(2).size((64, 64));
        let output = request.guide(guidance).attach(&mut seen).run()?;
        Ok((seen.0.expect("the prompt has a branch"), output))
    };
    let (blended, _) = run(Box::new(PromptBlend::to("a house BREAK a tree BREAK a hat")))?;
    assert_eq!([0, 1].map(|step| blended.at(step).context.size()), [vec![1, 2 * 77, 40], vec![1, 3 * 77, 40]]);

    let (_, guided) = run(Box::new(ImageGuidance::text("a house")))?;
    let header = guided.details::<ImageGuidanceReport>("ImageGuidance")?.prompts[0].tokens[77];
    assert_eq!((header.position, header.alternate, header.similarity), (77, Some(0), 0.0), "two chunks, two headers");

    let tokens = Noise::shared(9).draw(&[12, 40])?;
    let concept = ImageGuidance::tokens(&tokens).tune(|params| *params = GuidanceParams::off()).concepts("eyes", 0.0);
    let (_, guided) = run(Box::new(concept))?;
    let report = guided.details::<ImageGuidanceReport>("ImageGuidance")?;
    let (hits, words) = (&report.prompts[0].concepts, pipeline.model().prompt("eyes".into())?.content());
    assert!(!hits.is_empty());
    let within = |at: i64| words.iter().any(|span| (span.start..span.end).contains(&at));
    assert!(hits.iter().all(|hit| within(hit.concept)), "only words of the concept: {hits:?}");
    Ok(())
}

#[test]
fn empty_negative_prompt_is_not_guided() -> Result<()> {
    let pipeline = load(false)?;
    let run = |negative: &str, on_negative: bool| -> Result<(Tensor, Vec<Note>)> {
        let request = pipeline.request(FIRST).negative(negative).seed(3).steps(2).size((64, 64));
        let guide = ImageGuidance::text("a house").pooled(0.5).on_negative(on_negative);
        let output = request.guide(guide).run()?;
        let notes = output.notes.iter().filter(|note| note.origin == Some("ImageGuidance")).cloned().collect();
        Ok((output.latents.shallow_clone(), notes))
    };
    let (both, notes) = run("", true)?;
    assert_eq!(both, run("", false)?.0);
    assert!(notes[0].text.contains("reads an empty prompt as zeros"), "{notes:?}");
    let (both, notes) = run("hat", true)?;
    assert_ne!(both, run("hat", false)?.0);
    assert!(notes.iter().all(|note| !note.text.contains("zeros")), "{notes:?}");
    Ok(())
}

#[test]
fn picture_guides_the_encoder_of_its_width() -> Result<()> {
    let picture = Raster::flat(Rgb(200, 30, 30), (30, 20));
    let run = |tower: i64, guide: ImageGuidance| -> Result<Conditioning> {
        let folder = model(false)?;
        let config = json!({
            "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 8,
            "patch_size": 4, "projection_dim": tower, "architectures": ["CLIPVisionModelWithProjection"]
        });
        part(folder.path(), "image_encoder", &config)?;
        let mut seen = Seen::default();
        let pipeline = Pipeline::builder().source(Source::dir(folder.path())).build()?;
        pipeline.request(FIRST).seed(3).steps(1).size((64, 64)).guide(guide).attach(&mut seen).run()?;
        Ok(seen.0.expect("the prompt has a branch"))
    };
    let plain = load(false)?.model().text(FIRST.into())?;
    let part = |of: &Conditioning, columns: std::ops::Range<i64>| {
        of.context.narrow(2, columns.start, columns.end - columns.start)
    };
    run(24, ImageGuidance::new(&picture).tune(|params| params.space = Space::Joint))?;
    let error =
        run(16, ImageGuidance::new(&picture).tune(|params| params.space = Space::Joint)).unwrap_err().to_string();
    assert!(error.contains("space is Joint"), "only the second text encoder has a projection: {error}");
    for (width, guided, left) in [(16, 0..16, 16..40), (24, 16..40, 0..16)] {
        let seen = run(width, ImageGuidance::new(&picture))?;
        assert_eq!(part(&seen, left.clone()), part(&plain, left));
        assert!(near(&part(&seen, guided.clone()), &part(&plain, guided)) > 0.01, "{width}");
        assert_eq!(seen.pooled, plain.pooled);
    }
    let pooled = run(24, ImageGuidance::new(&picture).pooled(0.5))?.pooled;
    assert!(near(&pooled.unwrap(), plain.pooled.as_ref().unwrap()) > 0.01);
    let text = run(24, ImageGuidance::text(SECOND).pooled(1.0))?;
    assert_eq!(text.pooled, load(false)?.model().text(SECOND.into())?.pooled);
    let error = run(16, ImageGuidance::new(&picture).pooled(0.5)).unwrap_err().to_string();
    assert!(
        error.contains("[1, 24], as for the prompt; for a picture, use the vision tower of the second text encoder"),
        "{error}"
    );
    let tokens = Noise::shared(9).draw(&[5, 40])?;
    let error = run(16, ImageGuidance::tokens(&tokens).pooled(0.5)).unwrap_err().to_string();
    assert!(
        error.contains(
            "pooled is 0.5; expected 0 for tokens of width 40, because this model's text vector has width 24"
        ),
        "{error}"
    );
    let error = run(20, ImageGuidance::new(&picture)).unwrap_err().to_string();
    assert!(
        error.contains("projection_dim is 20; expected the width of the text encoder's states, [16, 24]"),
        "{error}"
    );
    let folder = model(false)?;
    let without = Pipeline::builder().source(Source::dir(folder.path())).build()?;
    let error = without.request(FIRST).guide(ImageGuidance::new(&picture)).run().unwrap_err().to_string();
    assert!(
        error.contains("image_encoder/config.json is missing") && error.contains("`LoadOptions::image_encoder`"),
        "{error}"
    );
    Ok(())
}

#[test]
fn shorter_prompts_are_filled_with_empty_chunks() -> Result<()> {
    let folder = model(false)?;
    let model = Model::load(&Source::dir(folder.path()))?;
    let long = "eyes, ".repeat(60);
    let mut all = [model.text((&long).into())?, model.text("eyes".into())?, model.text("".into())?];
    Conditioning::equalize(&mut all, &model)?;
    let [long, short, none] = all.map(|conditioning| conditioning.context);
    assert_eq!((short.size(), none.size()), (long.size(), long.size()));
    assert_eq!(short.narrow(1, 77, 77), model.text(" ".into())?.context, "the second chunk is empty text, not zeros");
    assert_ne!(short.narrow(1, 77, 77).abs().max().double_value(&[]), 0.0);
    assert_eq!(none.abs().max().double_value(&[]), 0.0, "an empty prompt stays zeros");
    Ok(())
}

#[test]
fn end_token_is_found_despite_eos_id_2() -> Result<()> {
    let pooled = |end: i64| -> Result<Tensor> {
        let folder = model(false)?;
        let config = folder.path().join("text_encoder_2/config.json");
        let text = fs::read_to_string(&config).expect("a configuration");
        fs::write(&config, text.replace("\"eos_token_id\":778", &format!("\"eos_token_id\":{end}"))).expect("written");
        let path = folder.path().join("zzqx.safetensors");
        let rows = |width: i64| Tensor::ones([2, width], (Kind::Float, Device::Cpu));
        Tensor::write_safetensors(&[("clip_l", rows(16)), ("clip_g", rows(24))], &path)?;
        let model = Model::load(&Source::dir(folder.path()))?;
        let learned = model.with_embedding(&impasto::weights::Embedding::open(&path)?)?;
        Ok(learned.text("a zzqx boat".into())?.pooled.expect("SDXL"))
    };
    assert_eq!(pooled(2)?, pooled(778)?);
    Ok(())
}

#[test]
fn fingerprint_depends_on_the_configuration() -> Result<()> {
    let fingerprint = |file: &str, from: &str, to: &str| -> Result<String> {
        let folder = model(false)?;
        let path = folder.path().join(file);
        let text = fs::read_to_string(&path).unwrap_or_default();
        assert!(text.contains(from), "{text}");
        fs::write(&path, if text.is_empty() { to.into() } else { text.replacen(from, to, 1) }).expect("written");
        Ok(Model::load(&Source::dir(folder.path()))?.identity()?.fingerprint)
    };
    let usual = fingerprint("unet/config.json", "", "")?;
    assert_eq!(fingerprint("vae/config.json", "", "")?, usual, "the same weights, read the same way");
    let other = [
        fingerprint("model_index.json", "", r#"{ "force_zeros_for_empty_prompt": false }"#)?,
        fingerprint("vae/config.json", "{", r#"{ "scaling_factor": 0.5, "#)?,
        fingerprint("text_encoder/config.json", "{", r#"{ "hidden_act": "gelu", "#)?,
        fingerprint("tokenizer_2/special_tokens_map.json", r#""pad_token":"#, r#""pad_token": "!", "was":"#)?,
    ];
    for (i, fingerprint) in other.iter().enumerate() {
        assert_ne!(*fingerprint, usual, "{i}");
    }
    Ok(())
}

#[test]
fn phrases_of_a_second_prompt_are_forced_exactly() -> Result<()> {
    let pipeline = load(false)?;
    let request = pipeline.request(FIRST).second_prompt(SECOND).seed(3).steps(2).size((64, 64));
    let output = request.guide(ColorForce::exact("boat", Rgb(255, 215, 0))).run()?;
    let competitions = &output.details::<ColorReport>("boat")?.competitions;
    assert!(!competitions.is_empty(), "attention to a phrase of the second prompt was read");
    Ok(())
}
