//! Z-Image, a transformer of one stream, on a small random model: captions, methods, files, adapters, errors.

use crate::{kept_prompt, small_models};
use impasto::attention::Tap;
use impasto::diffusion::{Denoiser, Input};
use impasto::mask::Region;
use impasto::methods::color_force::ColorReport;
use impasto::methods::{
    ColorForce, FreeU, ImageGuidance, PerturbedAttention, PromptBlend, ReferenceColor, RegionPrompts, SkipLayers,
    SmoothedEnergy, UnmergedLora,
};
use impasto::nn::ControlNetConfig;
use impasto::pipeline::Request;
use impasto::saliency::{ConceptAttention, ConceptAttentionRun, Daam, DaamRun};
use impasto::sampler::Batching;
use impasto::text::TextOptions;
use impasto::weights::{Contents, Lora, ModelFamily, SingleFile, Tensors, read_safetensors, write_safetensors};
use impasto::{Branch, Codec, Conditioning, LoadOptions, Model, Output, Pipeline, Raster, Result, Rgb, Source};
use std::fs;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

const PROMPT: &str = "a cat with a red hat and blue eyes, in a garden of many flowers";

/// A small model in diffusers' layout, whose parts are those of the reference cases. The folder has this name.
pub fn folder(name: &str) -> (tempfile::TempDir, PathBuf) {
    let around = tempfile::tempdir().expect("a folder");
    let folder = around.path().join(name);
    for (part, model) in [
        ("transformer", "z-image"),
        ("vae", "sd3-vae"),
        ("text_encoder", "anima-qwen3"),
        ("tokenizer", "tokenizer-qwen"),
    ] {
        small_models::put(&folder, part, model);
    }
    (around, folder)
}

/// Loads the small model.
fn load() -> Result<Model> {
    let (_around, folder) = folder("z-image");
    Model::load(&Source::dir(folder))
}

/// Returns a request for a picture of 24 patches, which 8 learned tokens fill.
fn request(pipeline: &Pipeline) -> Request<'_> {
    pipeline.request(PROMPT).negative("hat").seed(3).steps(3).size((64, 96))
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

/// Runs the plain request and a changed one, and checks that the change acts and that the numbers are finite.
fn acts<'p>(pipeline: &'p Pipeline, change: impl FnOnce(Request<'p>) -> Request<'p>) -> Result<Output> {
    let (plain, changed) = (request(pipeline).run()?, change(request(pipeline)).run()?);
    let apart = apart(&plain.latents, &changed.latents);
    assert!(apart.is_finite() && apart > 1e-4, "{apart}");
    Ok(changed)
}

#[test]
fn pipeline_paints_by_the_familys_defaults() -> Result<()> {
    let pipeline = Pipeline::new(load()?);
    let defaults = pipeline.model().defaults();
    assert_eq!((defaults.width, defaults.height, defaults.guidance_scale), (1024, 1024, 5.0));
    let output = request(&pipeline).run()?;
    assert_eq!((output.latents.size(), output.image(0)?.size().to_string()), (vec![1, 16, 12, 8], "64×96".into()));
    assert_eq!(output.notes, []);
    assert_eq!(request(&pipeline).run()?.latents, output.latents);
    let (_around, turbo) = folder("Z-Image-Turbo");
    let turbo = Model::load(&Source::dir(turbo))?;
    assert_eq!((turbo.defaults().steps, turbo.defaults().guidance_scale), (8, 1.0));
    assert!(turbo.notes().iter().any(|note| note.to_string().contains("distilled")), "{:?}", turbo.notes());
    Ok(())
}

#[test]
fn phrases_have_columns_behind_the_template() -> Result<()> {
    let model = load()?;
    let (text, short) = (model.text(PROMPT.into())?.context, model.text("".into())?.context);
    let [tokens, few] = [&text, &short].map(|context| context.size()[1]);
    assert!(tokens > few && tokens % 32 == 0 && few % 32 == 0, "{tokens} {few}");
    let prompt = model.prompt(PROMPT.into())?;
    let (cat, eyes) = (prompt.find("cat")?, prompt.find("eyes")?);
    assert!(cat[0].start > 1 && cat[0].end <= eyes[0].start && eyes[0].end < tokens, "{cat:?} {eyes:?}");
    let weighed = model.text(PROMPT.replace("red hat", "(red hat:1.5)").as_str().into())?.context;
    let hat = prompt.find("red hat")?[0];
    let rows = |x: &Tensor| x.narrow(1, hat.start, hat.len());
    assert!(apart(&rows(&weighed), &(rows(&text) * 1.5)) < 1e-5);
    assert_eq!(weighed.narrow(1, 0, hat.start), text.narrow(1, 0, hat.start));
    Ok(())
}

#[test]
fn longest_prompt_fits_beside_the_template() -> Result<()> {
    let (model, longest) = (load()?, impasto::prompt::LONGEST);
    let words = |bytes: usize| "cat ".repeat(bytes / 4);
    assert_eq!(model.text((&*words(longest)).into())?.context.size3()?.1, 512);
    let error = model.text((&*words(longest + 4)).into()).map(drop).unwrap_err().to_string();
    assert!(error.contains("a text of 65540 bytes"), "{error}");
    Ok(())
}

#[test]
fn branches_get_what_they_get_alone() -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let model = load()?;
    let step = model.scheduler().schedule(3)?.steps().nth(1).expect("a step");
    // The first and the last caption are filled to as many tokens, and the second to fewer.
    let texts = [PROMPT.repeat(2), "hat".into(), format!("{PROMPT} {PROMPT}")];
    let own = texts.iter().map(|text| model.text(text.into())).collect::<Result<Vec<_>>>()?;
    let mut equal: Vec<Conditioning> = own.iter().map(Conditioning::share).collect();
    Conditioning::equalize(&mut equal, &model)?;
    assert!(own[0].context.size() != own[1].context.size() && own[0].context.size() == own[2].context.size());
    let branches = [Branch::Uncond, Branch::Cond, Branch::Extra(0)];
    for images in [1, 2] {
        let wave = Tensor::arange(images * 16 * 12 * 8, (Kind::Float, Device::Cpu)).sin();
        let x = wave.reshape([images, 16, 12, 8]) * step.sigma;
        let inputs: Vec<Input<'_>> = (0..3).map(|i| Input::new(branches[i], &x, &equal[i])).collect();
        let together = model.denoise(&step, &inputs, &mut Tap::none())?;
        for (branch, own) in branches.into_iter().zip(&own) {
            let alone = model.denoise(&step, &[Input::new(branch, &x, own)], &mut Tap::none())?;
            let apart = apart(together.x0(branch)?, alone.x0(branch)?);
            assert!(apart < 1e-5, "{branch:?} of {images} images: {apart}");
        }
    }
    let pipeline = Pipeline::new(model);
    let regions = || RegionPrompts::default().add(Region::rect(0.0..0.5, 0.0..1.0), &texts[0], 0.8);
    let run = |batching| {
        request(&pipeline)
            .images(2)
            .guide(regions())
            .guide(Daam::of("hat"))
            .tune(|config| config.batching = batching)
            .run()
    };
    let (together, one) = (run(Batching::Together)?, run(Batching::OneByOne)?);
    assert!(apart(&together.latents, &one.latents) < 1e-4);
    Ok(())
}

#[test]
fn caption_is_refined_once_per_run() -> Result<()> {
    let model = load()?;
    kept_prompt::check(&model, &model.text("a cat".into())?, &model.text("a dog".into())?)?;
    let pipeline = Pipeline::new(model);
    let paint = |prompt: &str| request(&pipeline).tune(|config| config.prompt = prompt.into()).run();
    assert!(apart(&paint("[a cat:a dog:1]")?.latents, &paint("a cat")?.latents) > 1e-4, "a new text is read");
    Ok(())
}

#[test]
fn saliencies_have_maps_of_the_latents_cells() -> Result<()> {
    let pipeline = Pipeline::new(load()?);
    let bare = request(&pipeline).run()?;
    let output = request(&pipeline).guide(Daam::of("hat")).guide(ConceptAttention::of("cat")).run()?;
    assert_eq!(output.latents, bare.latents, "readers change no bit");
    let maps =
        [output.details::<DaamRun>("hat")?.heat_map(0)?, output.details::<ConceptAttentionRun>("cat")?.heat_map(0)?];
    for map in maps {
        let (least, most) = (map.values.min().double_value(&[]), map.values.max().double_value(&[]));
        assert_eq!(map.values.size(), [12, 8]);
        assert!(least >= 0.0 && most <= 1.0 && most > least, "{least} {most}");
    }
    Ok(())
}

#[test]
fn every_method_acts_on_one_stream() -> Result<()> {
    let pipeline = Pipeline::new(load()?);
    let half = || Region::rect(0.0..0.5, 0.0..1.0);
    acts(&pipeline, |request| request.guide(ColorForce::published("hat", Rgb(255, 215, 0))))?;
    acts(&pipeline, |request| request.guide(RegionPrompts::default().thing(half(), "blue eyes", "eyes", 0.8)))?;
    acts(&pipeline, |request| request.guide(PromptBlend::to("hat").curve(|_| 0.5)))?;
    let long = vec!["a green scarf"; 20].join(", ");
    acts(&pipeline, |request| request.guide(PromptBlend::to(long.as_str()).curve(|_| 0.5)))?;
    // The blend's last steps read fewer columns than the prompt has.
    let padded = format!("{long}, hat");
    let shrinking = pipeline.request(&padded).size((64, 96)).seed(7).steps(3).guide(PromptBlend::to("hat"));
    let shrinking = shrinking.guide(ColorForce::exact("hat", Rgb(255, 215, 0))).guide(ConceptAttention::of("hat"));
    assert_eq!(shrinking.guide(Daam::words()).run()?.details::<ColorReport>("hat")?.painted.len(), 1);
    let reference = Raster::flat(Rgb(200, 40, 90), (64, 96));
    acts(&pipeline, |request| request.guide(ReferenceColor::new(&reference)))?;
    // A region whose caption is as long as the prompt's comes before the reference, whose caption is shorter.
    let regions = || {
        let request = request(&pipeline).tune(|config| config.prompt = PROMPT.repeat(2));
        request.guide(RegionPrompts::default().add(half(), PROMPT.repeat(2), 0.8))
    };
    let described = ReferenceColor::new(&reference).described("hat");
    assert!(apart(&regions().guide(described).run()?.latents, &regions().run()?.latents) > 1e-4);
    acts(&pipeline, |request| request.guide(ImageGuidance::text("a green scarf")))?;
    let seen = request(&pipeline).guide(ImageGuidance::new(&reference)).run().map(drop).unwrap_err().to_string();
    assert!(seen.contains("Qwen3 reads") && seen.contains("CLIP alone"), "{seen}");
    acts(&pipeline, |request| request.guide(PerturbedAttention::new(3.0)))?;
    acts(&pipeline, |request| request.guide(SmoothedEnergy::new(3.0)))?;
    let exact = acts(&pipeline, |request| request.guide(ColorForce::exact("hat", Rgb(255, 215, 0))))?;
    assert_eq!(exact.details::<ColorReport>("hat")?.painted.len(), 1);
    Ok(())
}

/// Returns the transformer's tensors under ComfyUI's names, with queries, keys and values in one layer.
fn original(tensors: &Tensors) -> Tensors {
    let mut renamed = Tensors::new();
    for (name, x) in tensors {
        if let Some(block) = name.strip_suffix(".attention.to_q.weight") {
            let parts =
                ["q", "k", "v"].map(|part| tensors[&format!("{block}.attention.to_{part}.weight")].shallow_clone());
            renamed.insert(format!("{block}.attention.qkv.weight"), Tensor::cat(&parts, 0));
        } else if !name.contains(".attention.to_k") && !name.contains(".attention.to_v") {
            let name = name.replace("to_out.0", "out").replace("norm_q", "q_norm").replace("norm_k", "k_norm");
            let name = name.replace("all_x_embedder.2-1", "x_embedder").replace("all_final_layer.2-1", "final_layer");
            renamed.insert(format!("model.diffusion_model.{name}"), x.shallow_clone());
        }
    }
    let wrap = |name: String| if name.starts_with("model.") { name } else { format!("model.diffusion_model.{name}") };
    renamed.into_iter().map(|(name, x)| (wrap(name), x)).collect()
}

#[test]
fn files_of_comfyui_load_as_the_folder_does() -> Result<()> {
    let (_around, folder) = folder("z-image");
    let tensors = read_safetensors(&folder.join("transformer/diffusion_pytorch_model.safetensors"))?;
    let beside = tempfile::tempdir().expect("a folder");
    let file = beside.path().join("z_image_bf16.safetensors");
    write_safetensors(&original(&tensors), &file)?;
    let contents = SingleFile::open(&file)?.contents()?;
    assert_eq!(contents, Contents::Model { family: ModelFamily::ZImage, inpaint: false });
    assert_eq!(contents.to_string(), "a Z-Image model");
    let other = ["cap_embedder.0.weight", "layers.0.adaLN_modulation.1.weight", "layers.0.attention.qkv.weight"];
    let row = || Tensor::zeros([2, 2], (Kind::Float, Device::Cpu));
    let other = SingleFile::of("other", other.into_iter().map(|name| (name.to_owned(), row())).collect());
    let other = other.contents().map(drop).unwrap_err().to_string();
    assert!(other.contains("a Lumina-Image 2.0 model"), "{other}");
    let mut options = LoadOptions::default();
    options.text_encoder = Some(Source::file(folder.join("text_encoder/model.safetensors")));
    options.vae = Some(Source::dir(&folder));
    let lost = Model::load_with(&Source::file(&file), options.clone()).map(drop).unwrap_err().to_string();
    assert!(lost.contains("tokenizer/tokenizer.json") && lost.contains("Qwen/Qwen3-4B"), "{lost}");
    fs::create_dir(beside.path().join("tokenizer")).expect("a folder");
    for name in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        fs::copy(folder.join("tokenizer").join(name), beside.path().join("tokenizer").join(name)).expect("copied");
    }
    let model = Model::load_with(&Source::file(&file), options)?;
    let (own, want) = (request(&Pipeline::new(model)).run()?, request(&Pipeline::new(load()?)).run()?);
    assert!(apart(&own.latents, &want.latents) < 1e-5);
    Ok(())
}

/// A LoRA for one layer's attention, under the names of ComfyUI, which join three layers, or those of diffusers.
fn lora(fused: bool) -> Result<Lora> {
    let draw = |rows: i64, columns: i64| {
        (Tensor::arange::<i64>(rows * columns, (Kind::Float, Device::Cpu)) * 1.7).sin().reshape([rows, columns]) * 0.3
    };
    let (down, up) = (draw(2, 32), draw(96, 2));
    if fused {
        let module = "diffusion_model.layers.1.attention.qkv";
        let tensors = [("lora_down", down), ("lora_up", up)];
        let tensors = tensors.map(|(half, x)| (format!("{module}.{half}.weight"), x)).into();
        return Lora::of("fused.safetensors", tensors);
    }
    Lora::of("apart.safetensors", thirds("transformer.layers.1.attention.", ["lora_A", "lora_B"], &down, &up))
}

/// Returns a LoRA's tensors for queries, keys and values, each of which has a third of the rows of `up`. The names of
/// the modules begin with `start`.
fn thirds(start: &str, halves: [&str; 2], down: &Tensor, up: &Tensor) -> Tensors {
    let mut tensors = Tensors::new();
    for (third, layer) in (0..).zip(["to_q", "to_k", "to_v"]) {
        let [first, second] = halves.map(|half| format!("{start}{layer}.{half}.weight"));
        tensors.insert(first, down.copy());
        tensors.insert(second, up.narrow(0, 32 * third, 32).copy());
    }
    tensors
}

#[test]
fn lora_of_two_underscores_acts() -> Result<()> {
    let (model, file) = (load()?, "Z-Image-Fun-Lora-Distill-8-Steps-2603-ComfyUI.safetensors");
    let draw = |rows: i64, columns: i64| Tensor::ones([rows, columns], (Kind::Float, Device::Cpu));
    let tensors = |start: &str| thirds(start, ["lora_down", "lora_up"], &draw(2, 32), &draw(96, 2));
    let funs = tensors("lora_unet__layers_1_attention_");
    let contents = SingleFile::of(file, funs.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect());
    assert_eq!(contents.contents()?, Contents::Lora { family: Some(ModelFamily::ZImage) });
    let want = model.with_lora(&[Lora::of("kohya.safetensors", tensors("lora_unet_layers_1_attention_"))?])?;
    let lora = Lora::of(file, funs)?;
    assert_eq!(lora.summary().modules.into_keys().collect::<Vec<_>>(), ["unet"]);
    let fun = model.with_lora(&[lora])?;
    assert_eq!(fun.tensors("transformer"), want.tensors("transformer"));
    assert_ne!(fun.tensors("transformer"), model.tensors("transformer"));
    assert_eq!((fun.defaults().steps, fun.defaults().guidance_scale), (8, 1.0));
    assert_eq!((want.defaults(), fun.scheduler()), (model.defaults(), model.scheduler()));
    Ok(())
}

#[test]
fn quantized_parts_of_a_folder_are_refused() -> Result<()> {
    for (part, stem, tensor) in [
        ("transformer", "diffusion_pytorch_model", "layers.0.feed_forward.w1.qweight"),
        ("text_encoder", "model", "layers.0.mlp.up_proj.weight.absmax"),
    ] {
        let (_around, folder) = folder("z-image");
        let file = folder.join(part).join(stem).with_extension("safetensors");
        let mut tensors = read_safetensors(&file)?;
        tensors.insert(tensor.into(), Tensor::zeros([4], (Kind::Float, Device::Cpu)));
        write_safetensors(&tensors, &folder.join("quantized.safetensors"))?;
        fs::remove_file(&file).expect("removed");
        fs::rename(folder.join("quantized.safetensors"), &file).expect("renamed");
        let message = Model::load(&Source::dir(&folder)).map(drop).unwrap_err().to_string();
        assert!(message.contains(&format!("as its tensor {tensor} shows")), "{message}");
        assert!(message.contains("use the f16 or bf16 file of the same model"), "{message}");
    }
    Ok(())
}

#[test]
fn loras_are_merged_and_kept_beside() -> Result<()> {
    let model = load()?;
    let run = |model: Model| -> Result<Tensor> { Ok(request(&Pipeline::new(model)).run()?.latents.shallow_clone()) };
    let plain = run(model.share()?)?;
    let merged = run(model.with_lora(&[lora(false)?])?)?;
    assert!(apart(&merged, &plain) > 1e-3);
    assert!(apart(&run(model.with_lora(&[lora(true)?])?)?, &merged) < 1e-4, "both names mean the same layers");
    let beside = Pipeline::new(model.with_unmerged(&[lora(true)?])?);
    let output = request(&beside).guide(UnmergedLora::new("fused", 1.0)).run()?;
    assert!(apart(&output.latents, &merged) < 1e-3, "{}", apart(&output.latents, &merged));
    let placed = UnmergedLora::new("fused", 1.0).within(Region::rect(0.0..0.5, 0.0..1.0));
    let output = request(&beside).guide(placed).run()?;
    assert!(apart(&output.latents, &merged) > 1e-4 && apart(&output.latents, &plain) > 1e-4);
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
fn what_the_family_lacks_is_named() -> Result<()> {
    let pipeline = Pipeline::new(load()?);
    let net = tempfile::tempdir().expect("a folder");
    let config = serde_json::to_string(&ControlNetConfig::default()).expect("JSON");
    fs::write(net.path().join("config.json"), config).expect("written");
    let net = pipeline.model().controlnet(&Source::dir(net.path())).map(drop).unwrap_err().to_string();
    assert!(net.contains("a model with a UNet"), "{net}");
    let (_around, folder) = folder("z-image");
    let mut options = LoadOptions::default();
    options.text = TextOptions { clip_skip: Some(2), ..TextOptions::default() };
    let skip = Model::load_with(&Source::dir(&folder), options).map(drop).unwrap_err().to_string();
    assert!(skip.contains("clip_skip is 2") && skip.contains("Z-Image"), "{skip}");
    let blocks = request(&pipeline).guide(SkipLayers::new(2.8)).run().map(drop).unwrap_err().to_string();
    assert!(blocks.contains("Stable Diffusion 3.5"), "{blocks}");
    let free_u = request(&pipeline).guide(FreeU::sd15()).run().map(drop).unwrap_err().to_string();
    assert!(free_u.contains("a model with a UNet"), "{free_u}");
    let second = request(&pipeline).second_prompt("a dog").run().map(drop).unwrap_err().to_string();
    assert!(second.contains("second_prompt"), "{second}");
    let far = request(&pipeline).size((64, 2048)).run().map(drop).unwrap_err().to_string();
    assert!(far.contains("at most 64 rows and 64 columns"), "{far}");
    fs::remove_file(folder.join("transformer/config.json")).expect("removed");
    fs::write(folder.join("transformer/config.json"), r#"{"_class_name": "ZImageTransformer2DModel", "dim": 33}"#)
        .expect("written");
    let odd = Model::load(&Source::dir(&folder)).map(drop).unwrap_err().to_string();
    assert!(odd.contains("n_heads is 30"), "{odd}");
    Ok(())
}
