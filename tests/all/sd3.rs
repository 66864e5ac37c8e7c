//! Stable Diffusion 3.5, a transformer with joint attention, on a small random model: texts, methods, adapters, errors.

use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs, SiteKind};
use impasto::mask::Region;
use impasto::methods::color_force::ColorReport;
use impasto::methods::{
    ColorForce, PaintWithWords, PerturbedAttention, PromptBlend, ReferenceColor, RegionPrompts, SkipLayers,
    UnmergedLora,
};
use impasto::pipeline::Request;
use impasto::saliency::{ConceptAttention, ConceptAttentionRun, Daam, DaamRun};
use impasto::weights::{Embedding, Lora, Tensors, write_safetensors};
use impasto::{Branch, Codec, Grid, LoadOptions, Model, Output, Pipeline, Raster, Result, Rgb, Source, Texts, Window};
use serde_json::json;
use std::fs;
use std::path::Path;
use tch::{Device, Kind, Tensor};

pub const PROMPT: &str = "a cat, red hat, blue eyes";

/// A small model in diffusers' layout, whose parts are those of the reference cases. Without T5 if `t5` is false.
fn folder(t5: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models");
    let third = [("text_encoder_3", "sd3-t5"), ("tokenizer_3", "tokenizer-t5")];
    let parts = [
        ("transformer", "sd35-medium"),
        ("vae", "sd3-vae"),
        ("text_encoder", "sd3-clip-l"),
        ("text_encoder_2", "sd3-clip-g"),
        ("tokenizer", "tokenizer-tiny"),
        ("tokenizer_2", "tokenizer-tiny-pad0"),
    ];
    for (part, model) in parts.into_iter().chain(third.into_iter().filter(|_| t5)) {
        fs::create_dir(folder.path().join(part)).expect("a folder");
        for file in fs::read_dir(models.join(model)).expect("a model").map(|entry| entry.expect("a file").path()) {
            let copy = folder.path().join(part).join(file.file_name().expect("a name"));
            fs::hard_link(&file, &copy).or_else(|_| fs::copy(&file, &copy).map(drop)).expect("copied");
        }
    }
    folder
}

/// Loads the small model.
pub fn load() -> Result<Model> {
    Model::load(&Source::dir(folder(true).path()))
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
    assert_eq!((defaults.width, defaults.height, defaults.guidance_scale), (128, 128, 4.5));
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

/// A hook that reads the attention of each half of the picture to the hat.
struct Halves(Vec<i64>, Vec<[f64; 2]>);

impl CrossAttentionHook for Halves {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if site.is_cross() && branch == Branch::Cond { Interest::PROBS } else { Interest::NONE }
    }
    fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        assert_eq!((at.site.kind, at.grid), (SiteKind::Joint, Grid::new(6, 4)));
        let all = probs.columns(probs.tokens())?;
        let rows = all.f_sum_dim_intlist([3i64].as_slice(), false, Kind::Float)?;
        assert!(rows.max().double_value(&[]) < 1.0, "the picture attends to itself too");
        let hat = all.f_index_select(3, &Tensor::from_slice(&self.0))?;
        let hat = hat.f_mean_dim([3i64].as_slice(), false, Kind::Float)?.f_reshape([-1, at.grid.h, at.grid.w])?;
        self.1.push([0, 2].map(|left| hat.narrow(2, left, 2).mean(Kind::Float).double_value(&[])));
        Ok(())
    }
}

#[test]
fn paint_draws_joint_attention_into_its_mask() -> Result<()> {
    let pipeline = Pipeline::new(load()?);
    let spans = pipeline.model().prompt(PROMPT.into())?.find("hat")?;
    let columns: Vec<i64> = spans.iter().flat_map(|span| span.start..span.end).collect();
    let read = |paint: Option<PaintWithWords>| -> Result<(Tensor, Vec<[f64; 2]>)> {
        let mut hook = Halves(columns.clone(), Vec::new());
        let request = request(&pipeline).hook(&mut hook);
        let output = paint.into_iter().fold(request, Request::guide).run()?;
        Ok((output.latents.shallow_clone(), hook.1))
    };
    let bare = request(&pipeline).run()?;
    let (latents, plain) = read(None)?;
    assert_eq!((&latents, plain.len()), (&bare.latents, 4 * 4), "a reader changes no bit");
    let left = PaintWithWords::default().mask(Region::rect(0.0..0.5, 0.0..1.0), "hat", 2.0);
    let (_, painted) = read(Some(left))?;
    // The first layer of the first step has the same queries in both runs.
    let (plain, painted) = (plain[0], painted[0]);
    assert!(painted[0] > 1.1 * plain[0] && painted[1] < 1.01 * plain[1], "{plain:?} {painted:?}");
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
    let long = vec!["a green scarf"; 40].join(", ");
    acts(&pipeline, |request| request.guide(PromptBlend::to(long).curve(|_| 0.5)))?;
    let reference = Raster::flat(Rgb(200, 40, 90), (64, 96));
    acts(&pipeline, |request| request.guide(ReferenceColor::new(&reference)))?;
    let perturbed = PerturbedAttention::new(3.0).sites(|site| site.kind == SiteKind::SelfAttention);
    acts(&pipeline, |request| request.guide(perturbed))?;
    let exact = acts(&pipeline, |request| request.guide(ColorForce::exact("hat", Rgb(255, 215, 0))))?;
    assert_eq!(exact.details::<ColorReport>("hat")?.painted.len(), 1);
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

/// A LoRA for one block's attention, under the fused names of kohya or those of PEFT.
fn lora(fused: bool) -> Result<Lora> {
    let draw = |rows: i64, columns: i64| {
        (Tensor::arange::<i64>(rows * columns, (Kind::Float, Device::Cpu)) * 1.7).sin().reshape([rows, columns]) * 0.3
    };
    let (down, up) = (draw(2, 32), draw(96, 2));
    let mut tensors = Tensors::new();
    if fused {
        let module = "lora_unet_joint_blocks_1_x_block_attn_qkv";
        tensors.insert(format!("{module}.lora_down.weight"), down);
        tensors.insert(format!("{module}.lora_up.weight"), up);
        return Lora::of("fused.safetensors", tensors);
    }
    for (third, layer) in (0..).zip(["to_q", "to_k", "to_v"]) {
        let module = format!("transformer.transformer_blocks.1.attn.{layer}");
        tensors.insert(format!("{module}.lora_A.weight"), down.copy());
        tensors.insert(format!("{module}.lora_B.weight"), up.narrow(0, 32 * third, 32).copy());
    }
    Lora::of("apart.safetensors", tensors)
}

#[test]
fn loras_are_merged_and_kept_beside() -> Result<()> {
    let model = load()?;
    let run = |model: Model| -> Result<Tensor> { Ok(request(&Pipeline::new(model)).run()?.latents.shallow_clone()) };
    let plain = run(model.share()?)?;
    let merged = run(model.with_lora(&[lora(false)?])?)?;
    assert!(apart(&merged, &plain) > 1e-3);
    assert!(apart(&run(model.with_lora(&[lora(true)?])?)?, &merged) < 1e-4, "both names mean the same layers");
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
fn parts_that_do_not_fit_are_named() -> Result<()> {
    let load = |folder: &Path| Model::load(&Source::dir(folder)).map(drop).unwrap_err().to_string();
    let lost = folder(true);
    fs::remove_dir_all(lost.path().join("tokenizer_3")).expect("removed");
    let message = load(lost.path());
    assert!(message.contains("tokenizer_3/tokenizer.json") && message.contains("t5-v1_1-xxl"), "{message}");
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
