//! Anima, a transformer with flow matching, on a small random model: methods, adapters and errors.

use crate::{small_models, with};
use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Place, Probs};
use impasto::diffusion::{Prediction, Spacing};
use impasto::mask::Region;
use impasto::methods::color_force::ColorReport;
use impasto::methods::image_guidance::ImageGuidanceReport;
use impasto::methods::{
    ColorForce, FreeU, ImageGuidance, PaintWithWords, PerturbedAttention, PromptBlend, ReferenceColor, RegionPrompts,
    SkipLayers, SmoothedEnergy, UnmergedLora,
};
use impasto::nn::anima_conditioner::{AnimaConditioner, AnimaConditionerConfig};
use impasto::nn::cosmos::{CosmosConfig, CosmosTransformer};
use impasto::nn::qwen_vae::{QwenVae, QwenVaeConfig};
use impasto::nn::qwen3::{Qwen3, Qwen3Config};
use impasto::nn::{ConfigFile, ControlNetConfig};
use impasto::pipeline::{Request, Seamless};
use impasto::saliency::{Daam, DaamRun};
use impasto::text::TextOptions;
use impasto::weights::{Contents, Embedding, Lora, SingleFile, Tensors, Weights, write_safetensors};
use impasto::{Branch, Codec, Grid, LoadOptions, Model, Output, Pipeline, Raster, Result, Rgb, Source, Window};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const PROMPT: &str = "1girl, red hair, blue eyes, hat";

/// Writes a part's folder with random weights.
fn part<T>(folder: &Path, part: &str, config: &Value, build: impl Fn(&Weights, &str) -> Result<T>) -> Result<()> {
    let (w, text) = (Weights::random(part.len() as u64, Kind::Float, Device::Cpu), config.to_string());
    build(&w, &text)?;
    let folder = folder.join(part);
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("config.json"), text).expect("written");
    write_safetensors(&w.drawn()?, &folder.join("model.safetensors"))
}

/// A tokenizer with a token for each letter and for some words, and an end token if `ends`.
fn tokenizer(ends: bool) -> Value {
    let special = ["<pad>", "</s>", "<|endoftext|>", "<unk>", "▁"].map(String::from);
    let letters = ('a'..='z').chain('0'..='9').chain([',', '(', ')', '.', ':']).map(String::from);
    let words = ["hair", "eyes", "red", "blue", "hat"].map(|word| format!("▁{word}"));
    let vocabulary = special.into_iter().chain(letters).chain(words);
    let rows: Vec<Value> = vocabulary.enumerate().map(|(i, token)| json!([token, -0.1 * i as f64 % 3.0])).collect();
    let end = json!({ "type": "TemplateProcessing", "pair": [], "single": [
        { "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": "</s>", "type_id": 0 } }
    ], "special_tokens": { "</s>": { "id": "</s>", "ids": [1], "tokens": ["</s>"] } } });
    json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "decoder": null,
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "WhitespaceSplit" },
            { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true },
        ] },
        "post_processor": if ends { end } else { Value::Null },
        "model": { "type": "Unigram", "unk_id": 3, "vocab": rows, "byte_fallback": false },
    })
}

/// A small model of Anima's build, in diffusers' layout, with a transformer of so many heads, each so wide, and layers.
pub fn folder((heads, width): (i64, i64), layers: i64) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let transformer = json!({ "num_attention_heads": heads, "attention_head_dim": width, "num_layers": layers,
                              "text_embed_dim": 16, "adaln_lora_dim": 4 });
    part(at, "transformer", &transformer, |w, text| CosmosTransformer::new(w, &CosmosConfig::from_json("", text)?))?;
    let conditioner = json!({ "source_dim": 8, "target_dim": 16, "model_dim": 16, "num_layers": 1,
                              "num_attention_heads": 2, "target_vocab_size": 64 });
    part(at, "text_conditioner", &conditioner, |w, text| {
        AnimaConditioner::new(w, &AnimaConditionerConfig::from_json("", text)?)
    })?;
    let qwen = json!({ "vocab_size": 64, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4 });
    part(at, "text_encoder", &qwen, |w, text| Qwen3::new(w, &Qwen3Config::from_json("", text)?))?;
    let vae = json!({ "_class_name": "AutoencoderKLQwenImage", "base_dim": 4, "num_res_blocks": 1 });
    part(at, "vae", &vae, |w, text| QwenVae::new(w, &QwenVaeConfig::from_json("", text)?))?;
    for (name, ends) in [("tokenizer", false), ("t5_tokenizer", true)] {
        fs::create_dir(at.join(name)).expect("a folder");
        fs::write(at.join(name).join("tokenizer.json"), tokenizer(ends).to_string()).expect("written");
    }
    Ok(folder)
}

fn load() -> Result<Model> {
    Model::load(&Source::dir(folder((2, 12), 2)?.path()))
}

fn request(pipeline: &Pipeline) -> Request<'_> {
    pipeline.request(PROMPT).negative("hat").seed(3).steps(4).size((64, 96))
}

/// Runs the plain request and a changed one, and checks that the change acts and that the numbers are finite.
fn acts<'p>(pipeline: &'p Pipeline, change: impl FnOnce(Request<'p>) -> Request<'p>) -> Result<Output> {
    let (plain, changed) = (request(pipeline).run()?, change(request(pipeline)).run()?);
    let apart = (&plain.latents - &changed.latents).abs().max().double_value(&[]);
    assert!(apart.is_finite() && apart > 1e-4, "{apart}");
    Ok(changed)
}

#[test]
fn pipeline_paints_by_the_familys_defaults() -> Result<()> {
    let pipeline = Pipeline::new(load()?);
    let defaults = pipeline.model().defaults();
    assert_eq!((defaults.width, defaults.height, defaults.guidance_scale), (1024, 1024, 4.0));
    let output = request(&pipeline).run()?;
    assert_eq!((output.latents.size(), output.image(0)?.size().to_string()), (vec![1, 16, 12, 8], "64×96".into()));
    assert_eq!(output.notes, []);
    let again = request(&pipeline).run()?;
    assert_eq!(again.latents, output.latents);
    // The sides of a latent are whole patches of 2 × 2 cells; the cells beyond the picture are cut off.
    let odd = request(&pipeline).size((72, 56)).run()?;
    assert_eq!((odd.latents.size(), odd.image(0)?.size().to_string()), (vec![1, 16, 8, 10], "72×56".into()));
    Ok(())
}

#[test]
fn own_folder_of_qwen_needs_no_tokenizer_of_t5() -> Result<()> {
    let main = folder((2, 12), 2)?;
    let qwen = tempfile::tempdir().expect("a folder");
    let at = |name: &str| main.path().join("text_encoder").join(name);
    for name in ["config.json", "model.safetensors"] {
        fs::copy(at(name), qwen.path().join(name)).expect("copied");
    }
    fs::copy(main.path().join("tokenizer/tokenizer.json"), qwen.path().join("tokenizer.json")).expect("copied");
    let options = || with(LoadOptions::default(), |options| options.text_encoder = Some(Source::dir(qwen.path())));
    let model = Model::load_with(&Source::dir(main.path()), options())?;
    assert_eq!(model.text(PROMPT.into())?.context, load()?.text(PROMPT.into())?.context);
    fs::remove_dir_all(main.path().join("t5_tokenizer")).expect("removed");
    let message = Model::load_with(&Source::dir(main.path()), options()).map(drop).unwrap_err().to_string();
    assert!(message.contains("t5_tokenizer/tokenizer.json") && message.contains("google-t5/t5-base"), "{message}");
    Ok(())
}

#[test]
fn image_guidance_moves_the_first_word_too() -> Result<()> {
    let pipeline = Pipeline::new(load()?);
    let guided = |guide: ImageGuidance| pipeline.request("hat").seed(3).steps(1).size((64, 64)).guide(guide).run();
    let output = guided(ImageGuidance::text("hat"))?;
    let report = output.details::<ImageGuidanceReport>("ImageGuidance")?;
    let first = &report.prompts[0].tokens[0];
    assert!(first.position == 0 && first.similarity > 0.0 && first.alternate.is_some(), "{first:?}");
    // A concept of one word is the first token too, and its context is padded by zeros.
    let tokens = pipeline.model().text("red".into())?.context.narrow(1, 0, 2);
    let output = guided(ImageGuidance::tokens(&tokens).concepts("hat", 0.1))?;
    let report = output.details::<ImageGuidanceReport>("ImageGuidance")?;
    assert!(report.prompts[0].concepts.iter().any(|hit| hit.position == 0), "{:?}", report.prompts[0].concepts);
    Ok(())
}

#[test]
fn prompts_have_the_columns_of_t5() -> Result<()> {
    let model = load()?;
    let prompt = model.prompt(PROMPT.into())?;
    let spans = prompt.find("hair")?;
    assert_eq!((spans.len(), spans[0].len()), (1, 1));
    let context = |text: &str| Ok::<_, impasto::Error>(model.text(text.into())?.context);
    let (plain, weighed) = (context(PROMPT)?, context("1girl, red (hair:1.5), blue eyes, hat")?);
    assert_eq!(plain.size(), [1, 512, 16]);
    let row = |context: &Tensor| context.get(0).get(spans[0].start);
    let apart = (row(&weighed) - row(&plain) * 1.5).abs().max().double_value(&[]);
    assert!(apart < 1e-5, "{apart}");
    let message = model.text(impasto::Texts::new("hat", Some("hair"))).map(drop).unwrap_err().to_string();
    assert!(message.contains("second_prompt"), "{message}");
    Ok(())
}

/// A hook that keeps the grids and the columns of cross-attention, and biases one column.
#[derive(Default)]
struct Reads(Vec<(Grid, i64, bool)>);

impl CrossAttentionHook for Reads {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if site.is_cross() && branch == Branch::Cond { Interest::PROBS } else { Interest::NONE }
    }
    fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        let layer = matches!(at.site.place, Place::Layer(_));
        self.0.push((at.grid, probs.over_heads()?.size3()?.2, layer));
        Ok(())
    }
}

#[test]
fn hooks_read_the_transformers_sites() -> Result<()> {
    let (pipeline, mut hook) = (Pipeline::new(load()?), Reads::default());
    let plain = request(&pipeline).run()?;
    let read = request(&pipeline).hook(&mut hook).run()?;
    assert!((&plain.latents - &read.latents).abs().max().double_value(&[]) < 1e-4);
    assert_eq!(hook.0.len(), 4 * 2);
    assert!(hook.0.iter().all(|seen| *seen == (Grid::new(6, 4), 512, true)), "{:?}", hook.0);
    Ok(())
}

#[test]
fn saliency_has_a_map_of_the_latents_cells() -> Result<()> {
    let pipeline = Pipeline::new(load()?);
    let output = request(&pipeline).guide(Daam::of("hair")).run()?;
    let map = output.details::<DaamRun>("hair")?.heat_map(0)?.values.shallow_clone();
    let (least, most) = (map.min().double_value(&[]), map.max().double_value(&[]));
    assert_eq!(map.size(), [12, 8]);
    assert!(least.is_finite() && most > least, "{least} {most}");
    Ok(())
}

#[test]
fn every_method_acts_on_a_transformer() -> Result<()> {
    let pipeline = Pipeline::new(load()?);
    let half = || Region::rect(0.0..0.5, 0.0..1.0);
    acts(&pipeline, |request| request.guide(ColorForce::published("hair", Rgb(255, 215, 0))))?;
    acts(&pipeline, |request| request.guide(PaintWithWords::default().mask(half(), "hair", 2.0)))?;
    acts(&pipeline, |request| request.guide(RegionPrompts::default().thing(half(), "blue eyes", "eyes", 0.8)))?;
    acts(&pipeline, |request| request.guide(PromptBlend::to("hat").curve(|_| 0.5)))?;
    let reference = Raster::flat(Rgb(200, 40, 90), (64, 96));
    acts(&pipeline, |request| request.guide(ReferenceColor::new(&reference)))?;
    acts(&pipeline, |request| request.guide(ImageGuidance::text("a green scarf")))?;
    let seen = request(&pipeline).guide(ImageGuidance::new(&reference)).run().map(drop).unwrap_err().to_string();
    assert!(seen.contains("Qwen3 reads") && seen.contains("CLIP alone"), "{seen}");
    acts(&pipeline, |request| request.guide(PerturbedAttention::new(3.0)))?;
    acts(&pipeline, |request| request.guide(SmoothedEnergy::new(3.0)))?;
    let exact = acts(&pipeline, |request| request.guide(ColorForce::exact("hair", Rgb(255, 215, 0))))?;
    assert_eq!(exact.details::<ColorReport>("hair")?.painted.len(), 1);
    Ok(())
}

#[test]
fn pictures_are_continued_and_repainted() -> Result<()> {
    let pipeline = Pipeline::new(load()?);
    let picture = request(&pipeline).seed(9).run()?.image(0)?.clone();
    let near = |strength: f64| -> Result<f64> {
        let output = request(&pipeline).steps(8).start(&picture, strength).run()?;
        let kept = pipeline.model().encode(&picture.to_tensor(Device::Cpu)?)?;
        Ok((&output.latents - kept).abs().mean(Kind::Float).double_value(&[]))
    };
    let (little, much) = (near(0.2)?, near(0.9)?);
    assert!(little < much, "{little} {much}");
    let mut mask = Raster::flat(Rgb(0, 0, 0), (64, 96));
    mask.paste(&Raster::flat(Rgb(255, 255, 255), (64, 48)), 0, 0);
    let repainted = request(&pipeline).start(&picture, 1.0).mask(&mask).run()?;
    let lower = |raster: &Raster| raster.pixel(20, 90);
    assert_eq!(lower(repainted.image(0)?), lower(&picture), "pixels outside the mask stay");
    assert_ne!(repainted.image(0)?.pixel(20, 10), picture.pixel(20, 10));
    Ok(())
}

/// A LoRA for the transformer's attention to the text, under ComfyUI's or kohya's names.
fn lora(kohya: bool) -> Result<Lora> {
    write_lora(if kohya { "kohya.safetensors" } else { "comfy.safetensors" }, kohya)
}

/// Makes a LoRA as [`lora`] does, with the name of a file.
fn write_lora(file: &str, kohya: bool) -> Result<Lora> {
    let draw = |shape: [i64; 2]| {
        let count = shape.iter().product();
        (Tensor::arange::<i64>(count, (Kind::Float, Device::Cpu)) * 1.7).sin().reshape(shape)
    };
    let mut tensors = Tensors::new();
    for (layer, outputs, inputs) in [("q_proj", 24, 24), ("k_proj", 24, 16), ("output_proj", 24, 24)] {
        let (module, [down, up]) = match kohya {
            true => (format!("lora_unet_blocks_1_cross_attn_{layer}"), ["lora_down", "lora_up"]),
            false => (format!("diffusion_model.blocks.1.cross_attn.{layer}"), ["lora_A", "lora_B"]),
        };
        tensors.insert(format!("{module}.{down}.weight"), draw([2, inputs]));
        tensors.insert(format!("{module}.{up}.weight"), draw([outputs, 2]));
    }
    Lora::of(file, tensors)
}

#[test]
fn turbo_is_known_by_its_name() -> Result<()> {
    let (folder, around) = (folder((2, 12), 2)?, tempfile::tempdir().expect("a folder"));
    let plain = Model::load(&Source::dir(folder.path()))?;
    let turbo = around.path().join("anima-turbo-v1.0");
    fs::rename(folder.path(), &turbo).expect("renamed");
    let lora = write_lora("anima-turbo-lora-v0.1.safetensors", true)?;
    for model in [Model::load(&Source::dir(turbo))?, plain.with_lora(&[lora])?] {
        assert_eq!((model.defaults().steps, model.defaults().guidance_scale), (10, 1.0));
        assert_eq!(model.scheduler(), plain.scheduler());
        let note = "10 steps of Euler and a guidance scale of 1";
        assert!(model.notes().iter().any(|told| told.to_string().contains(note)), "{:?}", model.notes());
    }
    let car = plain.with_lora(&[write_lora("anima_turbo_car.safetensors", true)?])?;
    assert_eq!(car.defaults(), plain.defaults());
    Ok(())
}

#[test]
fn loras_of_qwen3_load_under_all_names() -> Result<()> {
    let model = load()?;
    let (path, before) = ("layers.0.mlp.down_proj", model.tensors("text_encoder").expect("an encoder"));
    let key = format!("{path}.weight");
    let (rows, columns) = before[&key].size2()?;
    for start in [
        "text_encoder",
        "text_encoder.qwen3",
        "text_encoders.qwen3_06b.transformer.model",
        "text_encoders.qwen3_4b.transformer.model",
    ] {
        let ones = |shape: [i64; 2]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
        let tensors = [("lora_A", ones([1, columns])), ("lora_B", ones([rows, 1]))];
        let tensors = tensors.map(|(half, x)| (format!("{start}.{path}.{half}.weight"), x)).into();
        let lora = Lora::of("words.safetensors", tensors)?;
        assert_eq!(lora.summary().modules.into_keys().collect::<Vec<_>>(), ["text_encoder"], "{start}");
        let merged = model.with_lora(&[lora])?;
        let after = merged.tensors("text_encoder").expect("an encoder");
        let is_changed = |name: &&String| before[*name] != after[*name];
        assert_eq!(before.keys().filter(is_changed).collect::<Vec<_>>(), [&key], "{start}");
    }
    Ok(())
}

#[test]
fn loras_are_merged_and_kept_beside() -> Result<()> {
    let model = load()?;
    let run = |model: Model| -> Result<Tensor> { Ok(request(&Pipeline::new(model)).run()?.latents.shallow_clone()) };
    let apart = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
    let plain = run(model.share()?)?;
    let merged = run(model.with_lora(&[lora(false)?])?)?;
    assert!(apart(&merged, &plain) > 1e-3);
    assert_eq!(run(model.with_lora(&[lora(true)?])?)?, merged, "both names mean the same layers");
    let beside = Pipeline::new(model.with_unmerged(&[lora(false)?])?);
    let output = request(&beside).guide(UnmergedLora::new("comfy", 1.0)).run()?;
    assert!(apart(&output.latents, &merged) < 1e-3, "{}", apart(&output.latents, &merged));
    let everywhere = UnmergedLora::new("comfy", 1.0).within(Region::rect(0.0..1.0, 0.0..1.0));
    let everywhere = request(&beside).guide(everywhere).run()?.latents;
    assert!(apart(&everywhere, &merged) < 1e-3, "{}", apart(&everywhere, &merged));
    let late = UnmergedLora::new("comfy", 1.0).window(Window::progress(0.5..=1.0));
    let placed = UnmergedLora::new("comfy", 1.0).within(Region::rect(0.0..0.5, 0.0..1.0));
    for part in [late, placed] {
        let output = request(&beside).guide(part).run()?;
        assert!(apart(&output.latents, &merged) > 1e-4 && apart(&output.latents, &plain) > 1e-4);
    }
    Ok(())
}

#[test]
fn loras_of_any_layers_are_recognized() -> Result<()> {
    let model = load()?;
    let plain = request(&Pipeline::new(model.share()?)).run()?.latents;
    for (module, outputs, inputs) in [
        ("transformer.transformer_blocks.1.attn1.to_q", 24, 24),
        ("transformer.transformer_blocks.1.ff.net.2", 24, 96),
        ("text_conditioner.blocks.0.self_attn.q_proj", 16, 16),
    ] {
        let draw = |shape: [i64; 2]| {
            (Tensor::arange::<i64>(shape.iter().product(), (Kind::Float, Device::Cpu)) * 1.7).sin().reshape(shape)
        };
        let mut tensors = Tensors::new();
        tensors.insert(format!("{module}.lora_A.weight"), draw([2, inputs]));
        tensors.insert(format!("{module}.lora_B.weight"), draw([outputs, 2]));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("lora.safetensors");
        write_safetensors(&tensors, &file)?;
        assert!(matches!(SingleFile::open(&file)?.contents()?, Contents::Lora { .. }), "{module}");
        let changed = request(&Pipeline::new(model.with_lora(&[Lora::open(&file)?])?)).run()?.latents;
        assert!((changed - &plain).abs().max().double_value(&[]) > 1e-5, "{module}");
    }
    // The width of Flux, which has layers of the same names.
    let mut tensors = Tensors::new();
    for (half, shape) in [("lora_A", [2, 12_288]), ("lora_B", [3072, 2])] {
        let name = format!("transformer.transformer_blocks.1.ff.net.2.{half}.weight");
        tensors.insert(name, Tensor::zeros(shape, (Kind::Float, Device::Cpu)));
    }
    assert!(SingleFile::of("flux.safetensors", tensors).contents().is_err());
    Ok(())
}

#[test]
fn prompt_beyond_512_tokens_has_zeros_beside_it() -> Result<()> {
    let mut options = LoadOptions::default();
    options.text.limit = Some(1024);
    let model = Model::load_with(&Source::dir(folder((2, 12), 2)?.path()), options)?;
    let long = "hat, ".repeat(400);
    let tokens = model.text(long.as_str().into())?.context.size()[1];
    assert!(tokens > 512 && tokens % 512 != 0, "{tokens}");
    let pipeline = Pipeline::new(model);
    let output = request(&pipeline).tune(|config| config.prompt.clone_from(&long)).run()?;
    assert_eq!(output.latents.isfinite().all().int64_value(&[]), 1);
    Ok(())
}

#[test]
fn copies_have_the_fingerprint_of_their_weights() -> Result<()> {
    let model = load()?;
    let fingerprint = |model: &Model| Ok::<_, impasto::Error>(model.identity()?.fingerprint);
    assert_eq!(fingerprint(&model.share()?)?, fingerprint(&model)?);
    assert_ne!(fingerprint(&model.with_lora(&[lora(true)?])?)?, fingerprint(&model)?);
    Ok(())
}

#[test]
fn shift_of_the_levels_can_be_chosen() -> Result<()> {
    let folder = folder((2, 12), 2)?;
    let load = |source: Source, shift: f64| {
        let mut options = LoadOptions::default();
        options.shift = Some(shift);
        Model::load_with(&source, options)
    };
    let second_level = |model: &Model| -> Result<f64> {
        let schedule = model.scheduler().schedule(4)?;
        Ok(schedule.steps().nth(1).expect("a step").from)
    };
    let own = Model::load(&Source::dir(folder.path()))?;
    // The times 1, .75, .5 and .25 have the levels t/(1 − t), times the shift.
    for (model, level) in [(own, 9.0), (load(Source::dir(folder.path()), 6.0)?, 18.0)] {
        assert!((second_level(&model)? - level).abs() < 1e-3, "{} {level}", second_level(&model)?);
    }
    let pipeline = Pipeline::new(Model::load(&Source::dir(folder.path()))?);
    let spaced = request(&pipeline).solver_named("LCM").tune(|config| config.spacing = Some(Spacing::Karras)).run()?;
    assert!(!spaced.notes.iter().any(|note| note.to_string().contains("is ignored")), "{:?}", spaced.notes);
    let message = |source, shift| load(source, shift).map(drop).unwrap_err().to_string();
    let far = message(Source::dir(folder.path()), 0.0);
    assert!(far.contains("shift is 0; expected 0.01 to 100"), "{far}");
    let other = message(Source::embedded(), 3.0);
    assert!(other.contains("only models with flow matching have a shift"), "{other}");
    Ok(())
}

#[test]
fn a_run_with_a_layer_of_clip_is_repeated() -> Result<()> {
    let (folder, anima) = (tempfile::tempdir().expect("a folder"), Pipeline::new(load()?));
    let clip = Pipeline::builder().build()?;
    for (layer, is_told) in [(1, false), (2, true)] {
        let path = folder.path().join(format!("{layer}.png"));
        let asked = clip.request(PROMPT).seed(3).steps(2).size((64, 96));
        asked.tune(|config| config.clip_skip = Some(layer)).run()?.save(0, &path)?;
        let output = Request::from_png(&anima, &path)?.run()?;
        let notes: Vec<String> = output.notes.iter().map(ToString::to_string).collect();
        assert_eq!(notes.iter().any(|note| note.contains("layer 2 of CLIP")), is_told, "{notes:?}");
    }
    Ok(())
}

#[test]
fn words_of_an_embedding_folder_stay_text() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = Tensors::from([("emb_params".to_owned(), Tensor::ones([1, 768], (Kind::Float, Device::Cpu)))]);
    write_safetensors(&rows, &folder.path().join("easynegative.safetensors"))?;
    let model = load()?;
    let (plain, pipeline) = (Pipeline::new(model.share()?), Pipeline::new(model).embedding_folder(folder.path()));
    let run = |pipeline: &Pipeline| request(pipeline).negative("easynegative, hat").run();
    let (output, want) = (run(&pipeline)?, run(&plain)?);
    assert_eq!(output.latents, want.latents);
    let notes: Vec<String> = output.notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("easynegative.safetensors is not used: this model's text encoder is not CLIP"));
    Ok(())
}

#[test]
fn what_needs_a_unet_says_so() -> Result<()> {
    let pipeline = Pipeline::new(load()?);
    let message = |result: Result<Output>| result.map(drop).unwrap_err().to_string();
    let reuse = message(request(&pipeline).tune(|config| config.reuse = 2).run());
    assert!(reuse.contains("reuse is 2") && reuse.contains("no UNet"), "{reuse}");
    let edges = message(request(&pipeline).size((72, 56)).seamless(Seamless::Both).run());
    assert!(edges.contains("seamless is Both") && edges.contains("no UNet"), "{edges}");
    let free_u = message(request(&pipeline).guide(FreeU::sd15()).run());
    assert!(free_u.contains("FreeU is for a model whose network is a transformer"), "{free_u}");
    let blocks = message(request(&pipeline).guide(SkipLayers::new(2.8)).run());
    assert!(blocks.contains("Stable Diffusion 3.5"), "{blocks}");
    let unet = pipeline.model().unet().map(drop).unwrap_err().to_string();
    assert!(unet.contains("a model with a UNet"), "{unet}");
    let net = tempfile::tempdir().expect("a folder");
    let config = serde_json::to_string(&ControlNetConfig::default()).expect("JSON");
    fs::write(net.path().join("config.json"), config).expect("written");
    let net = pipeline.model().controlnet(&Source::dir(net.path())).map(drop).unwrap_err().to_string();
    assert!(net.contains("a model with a UNet"), "{net}");
    let folder = folder((2, 12), 2)?;
    let mut options = LoadOptions::default();
    options.text = TextOptions { clip_skip: Some(2), ..TextOptions::default() };
    let skip = Model::load_with(&Source::dir(folder.path()), options).map(drop).unwrap_err().to_string();
    assert!(skip.contains("clip_skip is 2") && skip.contains("Anima"), "{skip}");
    let rows = Tensors::from([("emb_params".to_owned(), Tensor::zeros([1, 1024], (Kind::Float, Device::Cpu)))]);
    write_safetensors(&rows, &folder.path().join("scarf.safetensors"))?;
    let word = Embedding::open(folder.path().join("scarf.safetensors"))?;
    let learned = pipeline.model().with_embedding(&word).map(drop).unwrap_err().to_string();
    assert!(learned.contains("embedding is scarf") && learned.contains("not CLIP"), "{learned}");
    let mut options = LoadOptions::default();
    options.prediction = Some(Prediction::V);
    let predicts = Model::load_with(&Source::dir(folder.path()), options).map(drop).unwrap_err().to_string();
    assert!(predicts.contains("prediction is V") && predicts.contains("a flow"), "{predicts}");
    let mut options = LoadOptions::default();
    options.text_encoder_2 = Some(Source::dir(folder.path()));
    let second = Model::load_with(&Source::dir(folder.path()), options).map(drop).unwrap_err().to_string();
    assert!(
        second.contains("text_encoder_2 is") && second.contains("none for Anima, which reads text_enc"),
        "{second}"
    );
    let t5 = folder.path().join("t5_tokenizer");
    let refused = |tokenizer: &Value| {
        fs::write(t5.join("tokenizer.json"), tokenizer.to_string()).expect("written");
        Model::load(&Source::dir(folder.path())).map(drop).unwrap_err().to_string()
    };
    let other = refused(&tokenizer(false));
    assert!(other.contains("t5_tokenizer of ") && other.contains("adds 0 tokens after a text, and the one"), "{other}");
    let mut long = tokenizer(true);
    long["model"]["vocab"].as_array_mut().expect("rows").extend((0..30).map(|i| json!([format!("row{i}"), -9.0])));
    let long = refused(&long);
    assert!(long.contains("it has ids up to 80, and T5 knows 64 tokens; put the tokenizer of T5 there"), "{long}");
    let mut far = tokenizer(true);
    far["padding"] = json!({ "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": null,
                             "pad_id": 99_999, "pad_type_id": 0, "pad_token": "<pad>" });
    assert!(refused(&far).contains("it has ids up to 99999, and T5 knows 64 tokens"));
    let broken = refused(&json!([]));
    assert!(broken.contains("t5_tokenizer of ") && broken.contains("has no vocabulary"), "{broken}");
    fs::remove_dir_all(t5).expect("removed");
    let lost = Model::load(&Source::dir(folder.path())).map(drop).unwrap_err().to_string();
    assert!(lost.contains("t5_tokenizer/tokenizer.json") && lost.contains("google-t5/t5-base"), "{lost}");
    Ok(())
}

#[test]
fn all_in_one_file_paints_as_split_files() -> Result<()> {
    use impasto::weights::{Contents, ModelFamily, SingleFile, read_safetensors};
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let (split, folder) = (golden.join("single_file_anima"), tempfile::tempdir().expect("a folder"));
    for (part, model) in [("tokenizer", "tokenizer-qwen"), ("t5_tokenizer", "tokenizer-t5")] {
        small_models::put(folder.path(), part, model);
    }
    let latents = |model: Model| -> Result<Tensor> {
        let pipeline = Pipeline::new(model);
        let request = pipeline.request("a cat, red hat, blue eyes").negative("hat").seed(3).steps(2).size((64, 96));
        Ok(request.run()?.latents.shallow_clone())
    };
    let transformer = folder.path().join("anima.safetensors");
    fs::copy(split.join("anima.safetensors"), &transformer).expect("copied");
    let mut options = LoadOptions::default();
    options.text_encoder = Some(Source::file(split.join("qwen_3_06b_base.safetensors")));
    options.vae = Some(Source::file(split.join("qwen_image_vae.safetensors")));
    let want = latents(Model::load_with(&Source::file(&transformer), options)?)?;
    for (network, text, vae) in [
        ("model.diffusion_model.", "text_encoders.qwen3_06b.transformer.", "vae."),
        ("model.diffusion_model.net.", "cond_stage_model.qwen3_06b.transformer.", "first_stage_model."),
    ] {
        let mut all = Tensors::new();
        for (file, old, prefix) in
            [("anima", "net.", network), ("qwen_3_06b_base", "", text), ("qwen_image_vae", "", vae)]
        {
            for (name, x) in read_safetensors(&split.join(format!("{file}.safetensors")))? {
                all.insert(format!("{prefix}{}", name.strip_prefix(old).unwrap_or(&name)), x);
            }
        }
        let path = folder.path().join(format!("{vae}safetensors"));
        write_safetensors(&all, &path)?;
        let contents = SingleFile::open(&path)?.contents()?;
        assert_eq!(contents, Contents::Model { family: ModelFamily::Anima, inpaint: false });
        let model = Model::load(&Source::file(&path))?;
        assert!(!model.notes().iter().any(|note| note.text.contains("not used")), "{:?}", model.notes());
        assert_eq!(latents(model)?, want, "{network}");
    }
    Ok(())
}
