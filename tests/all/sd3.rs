//! Stable Diffusion 3.5, a transformer with joint attention, on a small random model: texts, methods, adapters, errors.

use crate::small_models::put;
use crate::{kept_prompt, small_models};
use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, SiteKind};
use impasto::guidance::GuidanceRun;
use impasto::mask::Region;
use impasto::methods::color_force::ColorReport;
use impasto::methods::{
    ColorForce, FreeU, ImageGuidance, PerturbedAttention, PromptBlend, ReferenceColor, RegionPrompts, SkipLayers,
    SmoothedEnergy, UnmergedLora,
};
use impasto::nn::ConfigFile;
use impasto::nn::mmdit::{Sd3Config, Sd3Transformer};
use impasto::pipeline::{Detail, Request};
use impasto::saliency::{ConceptAttention, ConceptAttentionRun, Daam, DaamRun, Spread};
use impasto::weights::{
    Contents, Embedding, Lora, ModelFamily, SingleFile, Tensors, Weights, read_safetensors, write_safetensors,
};
use impasto::{
    Branch, BranchInfo, Codec, Conditioning, LoadOptions, Model, Output, Pipeline, Raster, Result, Rgb, Source, Texts,
    Window,
};
use serde_json::json;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use tch::{Device, Kind, Tensor};

pub const PROMPT: &str = "a cat, red hat, blue eyes";

/// A small model in diffusers' layout, whose parts are those of the reference cases. Without T5 if `t5` is false.
pub fn folder(t5: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let third = [("text_encoder_3", "sd3-t5"), ("tokenizer_3", "tokenizer-t5")];
    for (part, model) in small_models::SD3.into_iter().chain(third.into_iter().filter(|_| t5)) {
        put(folder.path(), part, model);
    }
    folder
}

/// Loads the small model.
pub fn load() -> Result<Model> {
    Model::load(&Source::dir(folder(true).path()))
}

/// A small model whose transformer has random weights and these numbers in place of those of the reference cases.
pub fn remade(numbers: &[(&str, serde_json::Value)]) -> Result<tempfile::TempDir> {
    let folder = folder(true);
    let part = folder.path().join("transformer");
    let text = fs::read_to_string(part.join("config.json")).expect("read");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for (name, number) in numbers {
        config[*name] = number.clone();
    }
    let w = Weights::random(3, Kind::Float, Device::Cpu);
    Sd3Transformer::new(&w, &Sd3Config::from_json("", &config.to_string())?)?;
    fs::remove_dir_all(&part).expect("removed");
    fs::create_dir(&part).expect("a folder");
    fs::write(part.join("config.json"), config.to_string()).expect("written");
    write_safetensors(&w.drawn()?, &part.join("diffusion_pytorch_model.safetensors"))?;
    Ok(folder)
}

fn request(pipeline: &Pipeline) -> Request<'_> {
    pipeline.request(PROMPT).negative("hat").seed(3).steps(4).size((64, 96))
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
    assert_eq!((defaults.width, defaults.height, defaults.guidance_scale, defaults.steps), (128, 128, 4.5, 40));
    let output = request(&pipeline).run()?;
    assert_eq!((output.latents.size(), output.image(0)?.size().to_string()), (vec![1, 16, 12, 8], "64×96".into()));
    assert_eq!(output.notes, []);
    assert_eq!(request(&pipeline).run()?.latents, output.latents);
    Ok(())
}

#[test]
fn phrases_have_columns_of_clip_and_t5() -> Result<()> {
    let model = load()?;
    let spans = model.prompt(PROMPT.into())?.find("hat")?;
    assert!(spans.iter().any(|span| span.end <= 77) && spans.iter().any(|span| span.start >= 77), "{spans:?}");
    let text = model.text(PROMPT.into())?;
    assert_eq!(text.context.size(), [1, 77 + 256, 64]);
    assert_eq!(text.pooled.expect("pooled texts").size(), [1, 48]);
    // CLIP reads a long prompt in chunks, and T5 as one text.
    let long = format!("{}, scarf", vec!["red hat"; 60].join(", "));
    let (context, prompt) = (model.text((&long).into())?.context, model.prompt((&long).into())?);
    let clip = context.size()[1] - 256;
    assert!(clip > 77 && clip % 77 == 0, "{clip}");
    assert!(prompt.find("scarf")?.iter().all(|span| span.end <= clip), "T5 reads 256 tokens");
    assert!(prompt.find("red hat")?.iter().any(|span| span.start >= clip));
    let output = request(&Pipeline::new(model)).tune(|config| config.prompt = long.clone()).run()?;
    assert!(output.latents.isfinite().all().int64_value(&[]) == 1);
    Ok(())
}

#[test]
fn each_encoder_reads_its_own_prompt() -> Result<()> {
    let model = load()?;
    let text = |second, third| model.text(Texts::new(PROMPT, second).with_third(third));
    let (plain, other) = (text(None, None)?, text(None, Some("a dog"))?);
    assert_eq!(other.context.narrow(1, 0, 77), plain.context.narrow(1, 0, 77));
    assert!(apart(&other.context.narrow(1, 77, 256), &plain.context.narrow(1, 77, 256)) > 1e-3);
    let second = text(Some("a dog"), None)?;
    assert_eq!(second.context.narrow(1, 77, 256), plain.context.narrow(1, 77, 256));
    assert!(apart(&second.context.narrow(1, 0, 77), &plain.context.narrow(1, 0, 77)) > 1e-3);
    let prompt = model.prompt(Texts::new(PROMPT, None).with_third(Some("a green dog")))?;
    assert!(prompt.find("dog")?.iter().all(|span| span.start >= 77));
    let pipeline = Pipeline::new(model);
    acts(&pipeline, |request| request.third_prompt("a dog"))?;
    Ok(())
}

#[test]
fn model_without_t5_reads_zeros() -> Result<()> {
    let model = Model::load(&Source::dir(folder(false).path()))?;
    assert!(model.notes().iter().any(|note| note.to_string().contains("LoadOptions::text_encoder_3")));
    let text = model.text(PROMPT.into())?;
    assert_eq!(text.context.narrow(1, 77, 256).abs().max().double_value(&[]), 0.0);
    let message = model.text(Texts::from(PROMPT).with_third(Some("a dog"))).map(drop).unwrap_err().to_string();
    assert!(message.contains("third_prompt"), "{message}");
    let (whole, without, mut options) = (folder(true), folder(false), LoadOptions::default());
    options.text_encoder_3 = Some(Source::dir(without.path()));
    let missing = Model::load_with(&Source::dir(without.path()), options.clone()).map(drop).unwrap_err().to_string();
    assert!(missing.contains("text_encoder_3/") && missing.contains("LoadOptions::text_encoder_3"), "{missing}");
    options.text_encoder_3 = Some(Source::dir(whole.path()));
    let with = Model::load_with(&Source::dir(folder(false).path()), options)?;
    assert_eq!(with.text(PROMPT.into())?.context, load()?.text(PROMPT.into())?.context);
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
    let all = |phrase: &str| -> Result<Tensor> {
        let output = request(&pipeline).guide(ConceptAttention::of(phrase)).run()?;
        Ok(output.details::<ConceptAttentionRun>(phrase)?.heat_map(0)?.values)
    };
    // The shares of all words add up to 1.
    let sum = ["a", "cat", "red", "hat", "blue", "eyes"].map(all).into_iter().collect::<Result<Vec<_>>>()?;
    let sum = sum.iter().sum::<Tensor>().max().double_value(&[]);
    assert!(sum < 1.1, "{sum}");
    let forced = ColorForce::published("hat", Rgb(20, 200, 60)).saliency(ConceptAttention::of("hat"));
    acts(&pipeline, |request| request.guide(forced))?;
    let site = "transformer_blocks.1.attn";
    assert!(pipeline.model().sites_that_find_words().contains(&site.to_owned()));
    Ok(())
}

#[test]
fn prompt_is_embedded_once_per_run() -> Result<()> {
    let model = load()?;
    let own = model.text(PROMPT.into())?;
    let mut other = own.share();
    other.context = other.context.f_zeros_like()?;
    kept_prompt::check(&model, &own, &other)?;
    let pipeline = Pipeline::new(model);
    let paint = |prompt: &str| request(&pipeline).tune(|config| config.prompt = prompt.into()).run();
    assert!(apart(&paint("[a cat:a dog:2]")?.latents, &paint("a cat")?.latents) > 1e-4, "a new text is read");
    Ok(())
}

/// A hook that reads the results of the prompt's tokens in the last block.
struct LastText(Vec<Tensor>);

impl CrossAttentionHook for LastText {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        let reads = site.name == "transformer_blocks.3.attn" && branch == Branch::Cond;
        if reads { Interest::OUTPUT } else { Interest::NONE }
    }
    fn output(&mut self, at: &At<'_>, _: &mut Tensor) -> Result<()> {
        self.0.extend(at.text_output().map(Tensor::shallow_clone));
        Ok(())
    }
}

#[test]
fn last_block_has_text_results_only_for_hooks() -> Result<()> {
    let folder = remade(&[])?;
    let file = folder.path().join("transformer/diffusion_pytorch_model.safetensors");
    let mut tensors = read_safetensors(&file)?;
    let queries = tensors.get_mut("transformer_blocks.3.attn.add_q_proj.bias").expect("queries of the text");
    let _ = queries.fill_(f64::NAN);
    write_safetensors(&tensors, &file)?;
    let pipeline = Pipeline::new(Model::load(&Source::dir(folder.path()))?);
    let bare = request(&pipeline).run()?;
    assert_eq!(bare.latents.isfinite().all().int64_value(&[]), 1, "no queries are computed");
    let mut hook = LastText(Vec::new());
    assert_eq!(request(&pipeline).hook(&mut hook).run()?.latents, bare.latents);
    assert_eq!((hook.0.len(), hook.0[0].size()), (4, vec![1, 77 + 256, 32]));
    assert_eq!(hook.0[0].isnan().all().int64_value(&[]), 1, "queries are computed for a hook");
    Ok(())
}

#[test]
fn numbers_that_no_flow_has_are_refused() -> Result<()> {
    let folder = folder(true);
    let (at, load) = (folder.path(), || Model::load(&Source::dir(folder.path())).map(drop).unwrap_err().to_string());
    fs::create_dir(at.join("scheduler")).expect("a folder");
    let scheduler = at.join("scheduler/scheduler_config.json");
    fs::write(&scheduler, r#"{ "_class_name": "EulerDiscreteScheduler" }"#).expect("written");
    let message = load();
    assert!(message.contains("EulerDiscreteScheduler") && message.contains("FlowMatchEulerDiscrete"), "{message}");
    fs::remove_file(&scheduler).expect("removed");
    let config = at.join("text_encoder_3/config.json");
    let text = fs::read_to_string(&config).expect("read");
    let mut numbers: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    numbers["layer_norm_epsilon"] = json!(-1.0);
    fs::remove_file(&config).expect("the link is removed"); // not the file that it was linked to
    fs::write(&config, numbers.to_string()).expect("written");
    assert!(load().contains("layer_norm_epsilon"), "{}", load());
    let mut options = LoadOptions::default();
    options.text.limit = Some(usize::MAX);
    let message = Model::load_with(&Source::dir(at), options).map(drop).unwrap_err().to_string();
    assert!(message.contains("limit") && message.contains("1 to 4096"), "{message}");
    Ok(())
}

/// Names of the sites that saliencies read by default.
trait FindsWords {
    fn sites_that_find_words(&self) -> Vec<String>;
}

impl FindsWords for Model {
    fn sites_that_find_words(&self) -> Vec<String> {
        let sites = impasto::diffusion::Denoiser::sites(self).iter().filter(|site| site.is_cross() && site.finds_words);
        sites.map(|site| site.name.clone()).collect()
    }
}

#[test]
fn every_method_acts_on_joint_attention() -> Result<()> {
    let pipeline = Pipeline::new(load()?);
    let half = || Region::rect(0.0..0.5, 0.0..1.0);
    acts(&pipeline, |request| request.guide(ColorForce::published("hat", Rgb(255, 215, 0))))?;
    acts(&pipeline, |request| request.guide(RegionPrompts::default().thing(half(), "blue eyes", "eyes", 0.8)))?;
    acts(&pipeline, |request| request.guide(PromptBlend::to("hat").curve(|_| 0.5)))?;
    acts(&pipeline, |request| request.guide(PromptBlend::to(long()).curve(|_| 0.5)))?;
    let reference = Raster::flat(Rgb(200, 40, 90), (64, 96));
    acts(&pipeline, |request| request.guide(ReferenceColor::new(&reference)))?;
    acts(&pipeline, |request| request.guide(ImageGuidance::text("a green scarf")))?;
    let seen = request(&pipeline).guide(ImageGuidance::new(&reference)).run().map(drop).unwrap_err().to_string();
    assert!(seen.contains("T5 reads") && seen.contains("CLIP alone"), "{seen}");
    acts(&pipeline, |request| request.guide(PerturbedAttention::new(3.0)))?;
    acts(&pipeline, |request| request.guide(SmoothedEnergy::new(3.0)))?;
    let free_u = request(&pipeline).guide(FreeU::sd15()).run().map(drop).unwrap_err().to_string();
    assert!(free_u.contains("FreeU is for a model whose network is a transformer"), "{free_u}");
    let exact = acts(&pipeline, |request| request.guide(ColorForce::exact("hat", Rgb(255, 215, 0))))?;
    assert_eq!(exact.details::<ColorReport>("hat")?.painted.len(), 1);
    Ok(())
}

/// A prompt of several chunks.
fn long() -> String {
    vec!["a green scarf"; 40].join(", ")
}

/// The context of the prompt's branch.
struct Context(Option<Tensor>);

impl GuidanceRun for Context {
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, _: &dyn Codec) -> Result<()> {
        if branch.role == "cond" {
            self.0 = Some(conditioning.context.copy());
        }
        Ok(())
    }
}

#[test]
fn prompts_of_any_length_blend_t5_with_t5() -> Result<()> {
    let pipeline = Pipeline::new(load()?);
    for (from, to) in [(PROMPT.to_owned(), long()), (long(), PROMPT.to_owned())] {
        let [a, b] = [&from, &to].map(|text| pipeline.model().text(text.into()).unwrap().context);
        let t5 = |context: &Tensor| context.slice(1, context.size()[1] - 256, None, 1);
        for share in [1.0, 0.5] {
            let (mut seen, blend) = (Context(None), PromptBlend::to(to.as_str()).curve(move |_| share));
            pipeline.request(from.as_str()).steps(1).size((64, 96)).guide(blend).attach(&mut seen).run()?;
            let seen = seen.0.expect("the run had a prompt");
            let (chunks, rest) = (a.size()[1] - 256, (b.size()[1] - a.size()[1]).max(0));
            assert_eq!(seen.size()[1], a.size()[1].max(b.size()[1]), "{share} from {from:?}");
            assert_eq!(seen.narrow(1, chunks, 256), t5(&a).lerp(&t5(&b), share), "{share} from {from:?}");
            if share == 1.0 {
                let moved = Tensor::cat(&[seen.narrow(1, 0, chunks), seen.slice(1, chunks + 256, None, 1)], 1);
                let want = b.slice(1, 0, b.size()[1] - 256, 1);
                assert_eq!(moved.narrow(1, 0, want.size()[1]), want, "from {from:?}");
                assert_eq!(moved.size()[1], chunks + rest, "from {from:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn exact_color_needs_no_separate_self_attention() -> Result<()> {
    // As Stable Diffusion 3 medium, whose picture attends only together with the prompt.
    let folder = remade(&[("dual_attention_layers", json!([])), ("qk_norm", json!(null))])?;
    let pipeline = Pipeline::new(Model::load(&Source::dir(folder.path()))?);
    assert!(impasto::diffusion::Denoiser::sites(pipeline.model()).iter().all(|site| site.kind == SiteKind::Joint));
    let exact = acts(&pipeline, |request| request.guide(ColorForce::exact("hat", Rgb(255, 215, 0))))?;
    assert_eq!(exact.details::<ColorReport>("hat")?.painted.len(), 1);
    let competing = request(&pipeline).guide(Daam::competing("hat")).run()?;
    let map = competing.details::<DaamRun>("hat")?.heat_map(0)?.values.shallow_clone();
    assert!(map.std(true).double_value(&[]) > 1e-4 && map.max().double_value(&[]) <= 1.0, "{map}");
    let spread = Spread::of(Region::rect(0.2..0.4, 0.2..0.4));
    acts(&pipeline, |request| request.guide(ColorForce::published("hat", Rgb(9, 9, 99)).saliency(spread)))?;
    let message = |request: Request<'_>| request.run().map(drop).unwrap_err().to_string();
    let reference = Raster::flat(Rgb(200, 40, 90), (64, 96));
    for error in [
        message(request(&pipeline).guide(PerturbedAttention::new(3.0))),
        message(request(&pipeline).guide(SmoothedEnergy::new(3.0))),
        message(request(&pipeline).guide(ReferenceColor::new(&reference))),
    ] {
        assert!(error.contains("a network with self-attention, such as a UNet"), "{error}");
    }
    Ok(())
}

#[test]
fn layers_are_skipped_in_their_window() -> Result<()> {
    let pipeline = Pipeline::new(load()?);
    let skip = || SkipLayers::new(2.8).blocks([1]);
    let early = acts(&pipeline, |request| request.guide(skip().window(Window::progress(0.0..=0.5))))?;
    let whole = acts(&pipeline, |request| request.guide(skip().window(Window::WHOLE)))?;
    assert!(apart(&early.latents, &whole.latents) > 1e-4);
    let none = request(&pipeline).guide(SkipLayers::new(0.0).blocks([1])).run()?;
    assert!(apart(&none.latents, &request(&pipeline).run()?.latents) < 1e-4);
    let beyond = request(&pipeline).guide(SkipLayers::new(2.8)).run().map(drop).unwrap_err().to_string();
    assert!(beyond.contains("blocks is 7; expected blocks below 4"), "{beyond}");
    let unet = Pipeline::builder().build()?;
    let other =
        unet.request("a red boat").steps(1).guide(SkipLayers::new(2.8)).run().map(drop).unwrap_err().to_string();
    assert!(other.contains("Stable Diffusion 3.5"), "{other}");
    let concept = unet.request("a red boat").steps(1).guide(ConceptAttention::of("boat"));
    let concept = concept.run().map(drop).unwrap_err().to_string();
    assert!(concept.contains("joint attention") && concept.contains("Daam"), "{concept}");
    Ok(())
}

/// The program whose names a LoRA has.
#[derive(Clone, Copy)]
enum Writer {
    /// Kohya's trainer, which counts queries, keys and values as one layer.
    Kohya,
    /// ComfyUI's names, which are those of the original files.
    Comfy,
    Peft,
    OneTrainer,
    /// OneTrainer with the names of the original files, which counts the thirds of a layer.
    OneTrainerOriginal,
}

/// Makes a LoRA for one block's attention, with the name of a file.
fn write_lora(file: &str, writer: Writer) -> Result<Lora> {
    let draw = |rows: i64, columns: i64| {
        (Tensor::arange::<i64>(rows * columns, (Kind::Float, Device::Cpu)) * 1.7).sin().reshape([rows, columns]) * 0.3
    };
    let (down, up) = (draw(2, 32), draw(96, 2));
    let mut tensors = Tensors::new();
    let fused = match writer {
        Writer::Kohya => Some(("lora_unet_joint_blocks_1_x_block_attn_qkv", ["lora_down", "lora_up"])),
        Writer::Comfy => Some(("diffusion_model.joint_blocks.1.x_block.attn.qkv", ["lora_A", "lora_B"])),
        Writer::Peft | Writer::OneTrainer | Writer::OneTrainerOriginal => None,
    };
    if let Some((module, [first, second])) = fused {
        tensors.insert(format!("{module}.{first}.weight"), down);
        tensors.insert(format!("{module}.{second}.weight"), up);
        return Lora::of(file, tensors);
    }
    for (third, layer) in (0..).zip(["to_q", "to_k", "to_v"]) {
        let [down_name, up_name] = match writer {
            Writer::OneTrainer => ["down", "up"]
                .map(|half| format!("lora_transformer_transformer_blocks_1_attn_{layer}.lora_{half}.weight")),
            Writer::OneTrainerOriginal => ["down", "up"]
                .map(|half| format!("transformer.joint_blocks.1.x_block.attn.qkv.{third}.lora_{half}.weight")),
            _ => ["A", "B"].map(|half| format!("transformer.transformer_blocks.1.attn.{layer}.lora_{half}.weight")),
        };
        tensors.insert(down_name, down.copy());
        tensors.insert(up_name, up.narrow(0, 32 * third, 32).copy());
    }
    Lora::of(file, tensors)
}

/// A LoRA under the fused names of kohya or those of PEFT.
fn lora(fused: bool) -> Result<Lora> {
    match fused {
        true => write_lora("fused.safetensors", Writer::Kohya),
        false => write_lora("apart.safetensors", Writer::Peft),
    }
}

#[test]
fn lora_for_few_steps_keeps_the_flows_solver() -> Result<()> {
    let model = load()?;
    let few = model.with_lora(&[write_lora("Hyper-SD3-8steps-CFG-lora.safetensors", Writer::Peft)?])?;
    assert_eq!((few.defaults().steps, few.defaults().guidance_scale), (8, 5.0));
    assert_eq!(few.scheduler(), model.scheduler());
    let pipeline = Pipeline::new(few);
    assert!(request(&pipeline).run()?.latents.isfinite().all().int64_value(&[]) == 1);
    let notes = pipeline.model().notes();
    assert!(notes.iter().any(|note| note.to_string().contains("8 steps of Euler")), "{notes:?}");
    let style = model.with_lora(&[write_lora("lcm_style.safetensors", Writer::Peft)?])?;
    assert_eq!((style.defaults().steps, style.scheduler()), (model.defaults().steps, model.scheduler()));
    Ok(())
}

#[test]
fn loras_are_merged_and_kept_beside() -> Result<()> {
    let model = load()?;
    let run = |model: Model| -> Result<Tensor> { Ok(request(&Pipeline::new(model)).run()?.latents.shallow_clone()) };
    let plain = run(model.share()?)?;
    let merged = run(model.with_lora(&[lora(false)?])?)?;
    assert!(apart(&merged, &plain) > 1e-3);
    let others = [
        ("trained.safetensors", Writer::OneTrainer),
        ("thirds.safetensors", Writer::OneTrainerOriginal),
        ("comfy.safetensors", Writer::Comfy),
    ];
    for lora in [lora(true)?].into_iter().chain(others.map(|(file, writer)| write_lora(file, writer).expect("a LoRA")))
    {
        assert!(apart(&run(model.with_lora(&[lora])?)?, &merged) < 1e-4, "all names mean the same layers");
    }
    let twice = run(model.with_lora(&[lora(true)?.scale(0.5), lora(false)?.scale(0.5)])?)?;
    assert!(apart(&twice, &merged) < 1e-3, "a layer is changed by both files");
    let beside = Pipeline::new(model.with_unmerged(&[lora(true)?])?);
    let output = request(&beside).guide(UnmergedLora::new("fused", 1.0)).run()?;
    assert!(apart(&output.latents, &merged) < 1e-3, "{}", apart(&output.latents, &merged));
    let late = UnmergedLora::new("fused", 1.0).window(Window::progress(0.5..=1.0));
    let placed = UnmergedLora::new("fused", 1.0).within(Region::rect(0.0..0.5, 0.0..1.0));
    for part in [late, placed] {
        let output = request(&beside).guide(part).run()?;
        assert!(apart(&output.latents, &merged) > 1e-4 && apart(&output.latents, &plain) > 1e-4);
    }
    Ok(())
}

#[test]
fn loras_of_every_encoder_load_under_all_names() -> Result<()> {
    let model = load()?;
    let (clip, t5) = ("text_model.encoder.layers.0.mlp.fc1", "encoder.block.0.layer.0.SelfAttention.q");
    let kohya = |start: &str, path: &str| format!("{start}_{}", path.replace('.', "_"));
    for (part, path, names) in [
        ("text_encoder", clip, ["lora_te1", "text_encoders.clip_l.transformer", "text_encoder", "clip_l"]),
        ("text_encoder_2", clip, ["lora_te2", "text_encoders.clip_g.transformer", "text_encoder_2", "clip_g"]),
        ("text_encoder_3", t5, ["lora_te3", "text_encoders.t5xxl.transformer", "text_encoder_3", "t5"]),
    ] {
        let key = format!("{path}.weight");
        let before = model.tensors(part).expect("an encoder");
        let (rows, columns) = before[&key].size2()?;
        for (index, start) in names.into_iter().enumerate() {
            let module = if index == 0 { kohya(start, path) } else { format!("{start}.{path}") };
            let ones = |shape: [i64; 2]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
            let [down, up] = if index == 0 { ["lora_down", "lora_up"] } else { ["lora_A", "lora_B"] };
            let tensors = [(down, ones([1, columns])), (up, ones([rows, 1]))];
            let tensors = tensors.map(|(half, tensor)| (format!("{module}.{half}.weight"), tensor)).into();
            let merged = model.with_lora(&[Lora::of("words.safetensors", tensors)?])?;
            let after = merged.tensors(part).expect("an encoder");
            let is_changed = |name: &&String| before[*name] != after[*name];
            assert_eq!(before.keys().filter(is_changed).collect::<Vec<_>>(), [&key], "{module}");
            assert!(apart(&(&before[&key] + 1.0), &after[&key]) < 1e-4, "{module}");
        }
    }
    Ok(())
}

#[test]
fn lora_of_the_last_norm_is_recognized() -> Result<()> {
    let contents = |layers: &[(&str, i64, i64)]| {
        let mut tensors = Tensors::new();
        for &(layer, rows, columns) in layers {
            for (half, shape) in [("lora_A", [4, columns]), ("lora_B", [rows, 4])] {
                tensors.insert(format!("{layer}.{half}.weight"), Tensor::zeros(shape, (Kind::Float, Device::Cpu)));
            }
        }
        SingleFile::of("it.safetensors", tensors).contents()
    };
    // In Stable Diffusion 3 medium, this norm has as many rows as the layers of Flux are wide.
    for start in ["transformer.transformer_blocks.23.", "lora_transformer_transformer_blocks_23_"] {
        let norm = format!("{start}norm1_context{}linear", if start.ends_with('.') { "." } else { "_" });
        let (query, lora) = (format!("{start}attn.to_q"), Contents::Lora { family: Some(ModelFamily::Sd3) });
        let of_width = |width: i64| contents(&[(&*norm, 2 * width, width), (&*query, width, width)]);
        assert_eq!(of_width(1536)?, lora);
        assert!(of_width(3072).is_err(), "a LoRA of Flux");
    }
    Ok(())
}

#[test]
fn learned_words_are_read_by_clip() -> Result<()> {
    let (folder, model) = (tempfile::tempdir().expect("a folder"), load()?);
    let rows = |width: i64| Tensor::ones([1, width], (Kind::Float, Device::Cpu)) * 0.4;
    let both = Tensors::from([("clip_l".to_owned(), rows(24)), ("clip_g".to_owned(), rows(40))]);
    let file = folder.path().join("scarf.safetensors");
    write_safetensors(&both, &file)?;
    let learned = model.with_embedding(&Embedding::open(&file)?)?;
    let [plain, other] = [&model, &learned].map(|model| model.text("a scarf".into()));
    let (plain, other) = (plain?.context, other?.context);
    assert!(apart(&plain.narrow(1, 0, 77), &other.narrow(1, 0, 77)) > 1e-3);
    assert_eq!(plain.narrow(1, 77, 256), other.narrow(1, 77, 256));
    Ok(())
}

#[test]
fn words_of_another_family_stay_text() -> Result<()> {
    let [fitting, others] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let model = load()?;
    let write = |folder: &Path, name: &str, width: i64| {
        let rows = Tensor::ones([1, width], (Kind::Float, Device::Cpu)) * 0.4;
        write_safetensors(&Tensors::from([("emb_params".to_owned(), rows)]), &folder.join(name))
    };
    write(fitting.path(), "scarf.safetensors", 40)?;
    write(others.path(), "easynegative.safetensors", 1024)?;
    let run = |pipeline: &Pipeline| request(pipeline).negative("easynegative, scarf").run();
    let want = run(&Pipeline::new(model.share()?).embedding_folder(fitting.path()))?;
    let output = run(&Pipeline::new(model).embedding_folder(fitting.path()).embedding_folder(others.path()))?;
    assert_eq!(output.latents, want.latents);
    let told = |output: &Output| output.notes.iter().any(|note| note.text.contains("the embedding is 1024 wide"));
    assert!(told(&output) && !told(&want), "{:?}", output.notes);
    Ok(())
}

#[test]
fn sides_beyond_the_positions_are_told_in_pixels() -> Result<()> {
    // The small network has positions for 12 patches of 16 pixels along each side.
    let pipeline = Pipeline::new(load()?);
    assert_eq!(impasto::diffusion::Denoiser::longest_side(pipeline.model()), Some(24));
    let message = |request: Request<'_>| request.run().map(drop).unwrap_err().to_string();
    let wide = message(request(&pipeline).size((200, 64)));
    assert!(wide.contains("width is 200; expected a multiple of 8 in 8..=192, because the model"), "{wide}");
    let scene = Raster::flat(Rgb(60, 120, 90), (64, 199));
    let high = message(request(&pipeline).size((64, 199)).start(&scene, 0.5));
    assert!(high.contains("height is 199; expected 1 to 192"), "{high}");
    let latents = Tensor::zeros([1, 16, 12, 26], (Kind::Float, Device::Cpu));
    let resumed = message(pipeline.request(PROMPT).steps(4).resume(&latents, 0.5));
    assert!(resumed.contains("latents of 208×96 pixels; expected sides of at most 192 pixels"), "{resumed}");
    assert_eq!(request(&pipeline).size((192, 32)).steps(1).run()?.image(0)?.size().to_string(), "192×32");
    Ok(())
}

#[test]
fn second_run_beyond_the_positions_is_refused_first() -> Result<()> {
    let pipeline = Pipeline::new(load()?);
    let beyond = "a smaller scale, because the sides would be 240×144 pixels, beyond 192";
    let estimated = request(&pipeline).size((160, 96)).hires(1.5, 0.5).estimate().map(drop).unwrap_err().to_string();
    assert!(estimated.contains(beyond), "{estimated}");
    let mut steps = 0;
    let counted = request(&pipeline).size((160, 96)).hires(1.5, 0.5).on_step(|_| {
        steps += 1;
        ControlFlow::Continue(())
    });
    let painted = counted.run().map(drop).unwrap_err().to_string();
    assert!(painted.contains(beyond) && steps == 0, "{steps} steps: {painted}");
    Ok(())
}

#[test]
fn large_part_is_repainted_within_the_positions() -> Result<()> {
    let pipeline = Pipeline::new(load()?);
    let scene = Raster::flat(Rgb(60, 120, 90), (256, 64));
    let mut mask = Raster::flat(Rgb(0, 0, 0), (256, 64));
    mask.paste(&Raster::flat(Rgb(255, 255, 255), (200, 40)), 28, 12);
    let request = request(&pipeline).size((256, 64)).start(&scene, 0.0).detail(Detail::under(mask));
    let output = request.run()?;
    assert_eq!(output.image(0)?.size().to_string(), "256×64");
    let report = output.reports.iter().find(|report| report.name == "detail 1: detail").expect("a report");
    assert_eq!(report.data["size"], json!({ "width": 192, "height": 48 }));
    Ok(())
}

#[test]
fn wide_picture_is_read_within_the_positions() -> Result<()> {
    let pipeline = Pipeline::new(load()?);
    let mut wide = Raster::flat(Rgb(60, 120, 90), (160, 32));
    wide.paste(&Raster::flat(Rgb(200, 40, 30), (40, 20)), 50, 6);
    let reference = pipeline.reference(&wide, PROMPT, ["hat"])?;
    assert_eq!(reference.picture().size().to_string(), "192×64");
    Ok(())
}

#[test]
fn vae_with_another_scale_is_noted() -> Result<()> {
    let (model, other) = (folder(true), tempfile::tempdir().expect("a folder"));
    put(other.path(), "vae", "sd3-vae");
    let notes = || -> Result<Vec<String>> {
        let mut options = LoadOptions::default();
        options.vae = Some(Source::dir(other.path().join("vae")));
        let model = Model::load_with(&Source::dir(model.path()), options)?;
        Ok(model.notes().iter().map(ToString::to_string).collect())
    };
    let own = notes()?;
    assert!(!own.iter().any(|note| note.contains("does not fit")), "{own:?}");
    let config = other.path().join("vae/config.json");
    let text = fs::read_to_string(&config).expect("read").replace("1.5305", "0.3611").replace("0.0609", "0.1159");
    fs::remove_file(&config).expect("the link is removed"); // not the file that it was linked to
    fs::write(&config, text).expect("written");
    let told = notes()?;
    let misfit = "shifts latents by 0.1159 and scales them by 0.3611, which does not fit SD 3 (0.0609 and 1.5305)";
    assert!(told.iter().any(|note| note.contains(misfit)), "{told:?}");
    Ok(())
}

#[test]
fn parts_that_do_not_fit_are_named() -> Result<()> {
    let load = |folder: &Path| Model::load(&Source::dir(folder)).map(drop).unwrap_err().to_string();
    let lost = folder(true);
    fs::remove_dir_all(lost.path().join("tokenizer_3")).expect("removed");
    let message = load(lost.path());
    assert!(message.contains("tokenizer_3/tokenizer.json") && message.contains("google-t5/t5-base"), "{message}");
    put(lost.path(), "tokenizer_3", "tokenizer-qwen");
    let message = load(lost.path());
    assert!(message.contains("tokenizer_3 of ") && message.contains("and the one of T5 adds 1"), "{message}");
    let other = folder(true);
    let config = other.path().join("transformer/config.json");
    let mut changed: serde_json::Value = serde_json::from_slice(&fs::read(&config).expect("read")).expect("JSON");
    changed["pooled_projection_dim"] = json!(40);
    fs::remove_file(&config).expect("removed");
    fs::write(&config, changed.to_string()).expect("written");
    let message = load(other.path());
    assert!(message.contains("pooled_projection_dim") || message.contains("text_embedder"), "{message}");
    Ok(())
}

/// Prefix of the names of CLIP-L's tensors in a published file.
const CLIP_L: &str = "text_encoders.clip_l.transformer.";
/// Prefix of the names of CLIP-G's tensors in a published file.
const CLIP_G: &str = "text_encoders.clip_g.transformer.";

/// Returns the transformer's tensors under their published names, with queries, keys and values in one layer.
fn published(tensors: &Tensors) -> Tensors {
    const RENAMED: [(&str, &str); 24] = [
        ("transformer_blocks.", "model.diffusion_model.joint_blocks."),
        (".attn.norm_q", ".x_block.attn.ln_q"),
        (".attn.norm_k", ".x_block.attn.ln_k"),
        (".attn.to_out.0", ".x_block.attn.proj"),
        (".attn2.norm_q", ".x_block.attn2.ln_q"),
        (".attn2.norm_k", ".x_block.attn2.ln_k"),
        (".attn2.to_out.0", ".x_block.attn2.proj"),
        (".ff.net.0.proj", ".x_block.mlp.fc1"),
        (".ff.net.2", ".x_block.mlp.fc2"),
        (".norm1.linear", ".x_block.adaLN_modulation.1"),
        (".attn.norm_added_q", ".context_block.attn.ln_q"),
        (".attn.norm_added_k", ".context_block.attn.ln_k"),
        (".attn.to_add_out", ".context_block.attn.proj"),
        (".ff_context.net.0.proj", ".context_block.mlp.fc1"),
        (".ff_context.net.2", ".context_block.mlp.fc2"),
        (".norm1_context.linear", ".context_block.adaLN_modulation.1"),
        ("pos_embed.proj", "x_embedder.proj"),
        ("pos_embed.pos_embed", "pos_embed"),
        ("time_text_embed.timestep_embedder.linear_1", "t_embedder.mlp.0"),
        ("time_text_embed.timestep_embedder.linear_2", "t_embedder.mlp.2"),
        ("time_text_embed.text_embedder.linear_1", "y_embedder.mlp.0"),
        ("time_text_embed.text_embedder.linear_2", "y_embedder.mlp.2"),
        ("proj_out", "final_layer.linear"),
        ("norm_out.linear", "final_layer.adaLN_modulation.1"),
    ];
    const JOINED: [([&str; 3], &str); 3] = [
        ([".attn.to_q.", ".attn.to_k.", ".attn.to_v."], ".x_block.attn.qkv."),
        ([".attn2.to_q.", ".attn2.to_k.", ".attn2.to_v."], ".x_block.attn2.qkv."),
        ([".attn.add_q_proj.", ".attn.add_k_proj.", ".attn.add_v_proj."], ".context_block.attn.qkv."),
    ];
    let mut renamed = Tensors::new();
    for (name, x) in tensors {
        // Published files store the shift of the last norms before the scale.
        let is_exchanged = ["norm_out.", "transformer_blocks.3.norm1_context."].iter().any(|at| name.starts_with(at));
        let x = if is_exchanged { x.roll([x.size()[0] / 2], [0]) } else { x.shallow_clone() };
        let name = RENAMED.iter().fold(name.clone(), |name, (from, to)| name.replace(from, to));
        let is_block = name.starts_with("model.");
        renamed.insert(if is_block { name } else { format!("model.diffusion_model.{name}") }, x);
    }
    for ([q, k, v], joined) in JOINED {
        let queries: Vec<String> = renamed.keys().filter(|name| name.contains(q)).cloned().collect();
        for name in queries {
            let parts = [q, k, v].map(|part| renamed.remove(&name.replace(q, part)).expect("a third"));
            renamed.insert(name.replace(q, joined), Tensor::cat(&parts, 0));
        }
    }
    renamed
}

/// Returns the tensors of a small model under the names of a published file without T5. The transformer reads 24 pooled
/// numbers of each CLIP, and the encoders have rows for all tokens of CLIP's own vocabulary. CLIP-L has no projection.
fn single_file() -> Result<Tensors> {
    use impasto::nn::{Vae, VaeConfig};
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models");
    let read = |file: &str| impasto::weights::read_safetensors(&models.join(file));
    let mut all = published(&read("sd35-medium/diffusion_pytorch_model.safetensors")?);
    for (prefix, file) in [(CLIP_L, "sd3-clip-l/model.safetensors"), (CLIP_G, "sd3-clip-g/model.safetensors")] {
        for (name, x) in read(file)? {
            let x = match name.as_str() {
                "text_model.embeddings.token_embedding.weight" => x.repeat([50, 1]).narrow(0, 0, 49408),
                "text_projection.weight" if prefix == CLIP_L => continue,
                "text_projection.weight" => x.narrow(0, 0, 24),
                _ => x,
            };
            all.insert(format!("{prefix}{name}"), x);
        }
    }
    // Shapes do not show the groups of a VAE's norms, so this VAE has as many channels as published ones have groups.
    let config = r#"{ "block_out_channels": [32, 32, 32, 32], "latent_channels": 16, "use_quant_conv": false,
        "use_post_quant_conv": false }"#;
    let w = Weights::random(5, Kind::Float, Device::Cpu);
    Vae::new(&w, &VaeConfig::from_json("vae", config)?)?;
    let (vae, others) = (w.drawn()?, all.len());
    for (name, shape, renamed, ..) in &crate::checkpoints::key_map("sd15")["vae"] {
        let Some(x) = vae.get(renamed) else { continue };
        let x = if shape.len() == 4 && x.dim() == 2 { x.unsqueeze(-1).unsqueeze(-1) } else { x.shallow_clone() };
        all.insert(name.clone(), x);
    }
    assert_eq!(all.len(), others + vae.len());
    Ok(all)
}

#[test]
fn clip_l_without_projection_is_pooled_as_it_is() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, tensors: &Tensors| -> Result<Source> {
        let file = folder.path().join(name);
        write_safetensors(tensors, &file)?;
        Ok(Source::file(file))
    };
    let mut tensors = single_file()?;
    let model = Model::load(&write("sd3_medium_incl_clips.safetensors", &tensors)?)?;
    let loaded = model.tensors("transformer").expect("a transformer");
    let transformer = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models/sd35-medium");
    let stored = impasto::weights::read_safetensors(&transformer.join("diffusion_pytorch_model.safetensors"))?;
    assert_eq!(loaded.len(), stored.len());
    assert!(stored.iter().all(|(name, x)| loaded[name] == *x), "the published names mean the same tensors");

    let pooled = |model: &Model| -> Result<Tensor> { Ok(model.text(PROMPT.into())?.pooled.expect("pooled texts")) };
    let own = pooled(&model)?;
    assert_eq!(own.size(), [1, 48]);
    let output = request(&Pipeline::new(model)).run()?;
    assert_eq!(output.latents.size(), [1, 16, 12, 8]);
    assert_eq!(output.latents.isfinite().all().int64_value(&[]), 1);

    let (clip_l, rest): (Tensors, Tensors) = single_file()?.into_iter().partition(|(name, _)| name.starts_with(CLIP_L));
    let clip_l: Tensors = clip_l.into_iter().map(|(name, x)| (name[CLIP_L.len()..].to_owned(), x)).collect();
    let mut options = LoadOptions::default();
    options.text_encoder = Some(write("clip_l.safetensors", &clip_l)?);
    let apart_files = Model::load_with(&write("sd3_medium.safetensors", &rest)?, options)?;
    assert_eq!(pooled(&apart_files)?, own);

    let identity = Tensor::eye(24, (Kind::Float, Device::Cpu));
    tensors.insert(format!("{CLIP_L}text_projection.weight"), identity);
    let want = pooled(&Model::load(&write("identity.safetensors", &tensors)?)?)?;
    assert!(apart(&own, &want) < 1e-6 && own.narrow(1, 0, 24).std(true).double_value(&[]) > 1e-2, "{own} {want}");

    tensors.remove(&format!("{CLIP_G}text_projection.weight"));
    let message = Model::load(&write("without.safetensors", &tensors)?).map(drop).unwrap_err().to_string();
    assert!(message.contains("pooled_projection_dim is 48") && message.contains("text_projection.weight"), "{message}");
    Ok(())
}
