//! LoRAs beside the weights of the embedded model: in all steps, in a window, in a place, and beside other methods.

use impasto::attention::Tap;
use impasto::conditioning::{LoraPlace, LoraStrengths};
use impasto::diffusion::{Denoiser, Input};
use impasto::mask::Region;
use impasto::methods::{PaintWithWords, RegionPrompt, RegionPrompts, UnmergedLora};
use impasto::pipeline::Request;
use impasto::weights::{Lora, Tensors};
use impasto::{Branch, Codec, LoadOptions, Model, Output, Pipeline, Result, Rgb, Source, Step, Window};
use tch::{Device, Kind, Tensor};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/impasto-tiny/model");
const PROMPT: &str = "1girl, eyes, hair, shirt, background";

/// Numbers that look random, nearly normally distributed around 0.
fn draw(name: &str, shape: &[i64], scale: f64) -> Tensor {
    let phase = name.bytes().fold(0.0, |sum, byte| sum * 0.3 + f64::from(byte));
    let count: i64 = shape.iter().product();
    let wave = ((Tensor::arange(count, (Kind::Double, Device::Cpu)) * 12.9898 + phase).sin() * 43758.5).frac();
    let inputs: i64 = shape.iter().skip(1).product();
    (wave * scale / (inputs as f64).sqrt()).to_kind(Kind::Float).reshape(shape)
}

/// A pair of LoRA, or the tensors of another algorithm, for a weight of this shape.
type Writer = fn(&str, &[i64]) -> Vec<(&'static str, Tensor)>;

fn low_rank(name: &str, weight: &[i64]) -> Vec<(&'static str, Tensor)> {
    let (down, up) = ([&[4], &weight[1..]].concat(), [&[weight[0], 4], &vec![1; weight.len() - 2][..]].concat());
    vec![
        ("lora_down.weight", draw(name, &down, 1.5)),
        ("lora_up.weight", draw(&format!("{name}!"), &up, 1.5)),
        ("alpha", Tensor::from(2.0f32)),
    ]
}

fn dora(name: &str, weight: &[i64]) -> Vec<(&'static str, Tensor)> {
    let lengths = [&[weight[0]], &vec![1; weight.len() - 1][..]].concat();
    let mut pieces = low_rank(name, weight);
    pieces.push(("dora_scale", draw(name, &lengths, 0.2) + 1.0));
    pieces
}

fn difference(name: &str, weight: &[i64]) -> Vec<(&'static str, Tensor)> {
    vec![("diff", draw(name, weight, 0.4))]
}

/// The tensors of a LoRA for the layers of the UNet that `changes` selects by their paths.
fn tensors(model: &Model, write: Writer, changes: impl Fn(&str) -> bool) -> Tensors {
    let mut tensors = Tensors::new();
    for (name, weight) in model.tensors("unet").expect("a UNet") {
        let Some(path) = name.strip_suffix(".weight").filter(|path| weight.dim() > 1 && changes(path)) else {
            continue;
        };
        for (piece, tensor) in write(path, &weight.size()) {
            tensors.insert(format!("lora_unet_{}.{piece}", path.replace('.', "_")), tensor);
        }
    }
    tensors
}

fn share(tensors: &Tensors) -> Tensors {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}

fn is_spatial(path: &str) -> bool {
    !path.contains("time_emb")
}

/// The embedded model with two LoRAs beside its weights, `ink` and `glow`.
pub fn model_beside() -> Result<Model> {
    let model = Model::load(&Source::embedded())?;
    let ink = Lora::of("ink.safetensors", tensors(&model, low_rank, is_spatial))?;
    let glow = Lora::of("folder/glow.pt", tensors(&model, low_rank, |path| path.contains("attn2.to_v")))?;
    model.with_unmerged(&[ink, glow])
}

fn paint<'p>(pipeline: &'p Pipeline, set: impl FnOnce(Request<'p>) -> Request<'p>) -> Result<Output> {
    set(pipeline.request(PROMPT).seed(7).steps(4).size((192, 192))).run()
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn beside_the_weights_is_as_merged() -> Result<()> {
    let model = Model::load(&Source::embedded())?;
    let bare = paint(&Pipeline::new(model.share()?), |request| request)?.latents;
    for (write, all) in [(low_rank as Writer, true), (dora, false), (difference, false)] {
        let lora = tensors(&model, write, |path| all || path.contains("up_blocks"));
        let lora = || Lora::of("ink", share(&lora)).map(|lora| lora.scale(0.8));
        let merged = Pipeline::new(model.with_lora(&[lora()?.scale(0.8 * 0.5)])?);
        let beside = model.with_unmerged(&[lora()?])?;
        let told = beside.share()?.with_unmerged(&[]).is_ok();
        let beside = Pipeline::new(beside);
        let (a, b) = (
            paint(&merged, |request| request)?.latents,
            paint(&beside, |request| request.guide(UnmergedLora::new("ink", 0.5)))?.latents,
        );
        assert!(told && apart(&a, &bare) > 0.3, "the LoRA changes the picture by {}", apart(&a, &bare));
        assert!(apart(&a, &b) < 5e-3, "merged and beside are {} apart", apart(&a, &b));
        assert_eq!(paint(&beside, |request| request)?.latents, bare, "a LoRA that no run names does nothing");
    }
    Ok(())
}

#[test]
fn window_limits_the_steps_of_a_lora() -> Result<()> {
    let pipeline = Pipeline::new(model_beside()?);
    let during = |window| paint(&pipeline, |request| request.guide(UnmergedLora::new("ink", 0.5).window(window)));
    let bare = paint(&pipeline, |request| request)?;
    let [whole, late, early] = [0.0..=1.0, 0.5..=1.0, 0.0..=0.5].map(|window| during(Window::progress(window)));
    let (whole, late, early) = (whole?.latents, late?.latents, early?.latents);
    for (a, b) in [(&whole, &late), (&whole, &early), (&late, &early), (&late, &bare.latents), (&early, &bare.latents)]
    {
        assert!(apart(a, b) > 0.02, "{}", apart(a, b));
    }
    // Half the strength in each of two methods is the whole strength, and two windows make the whole run.
    let half = || UnmergedLora::new("ink", 0.25);
    let twice = paint(&pipeline, |request| request.guide(half()).guide(half()))?;
    assert!(apart(&twice.latents, &whole) < 2e-3, "{}", apart(&twice.latents, &whole));
    let of = |window| UnmergedLora::new("ink", 0.5).window(Window::progress(window));
    let joined = paint(&pipeline, |request| request.guide(of(0.0..=0.5)).guide(of(0.5..=1.0)))?;
    assert_eq!(joined.latents, whole);
    let idle = during(Window::timesteps(0.0..=0.5))?;
    assert_eq!(idle.latents, bare.latents);
    assert!(idle.notes.iter().any(|note| note.text.contains("the LoRA \"ink\" did nothing")), "{:?}", idle.notes);
    Ok(())
}

#[test]
fn place_limits_the_cells_of_a_lora() -> Result<()> {
    let pipeline = Pipeline::new(model_beside()?);
    let one_step = |lora: Option<UnmergedLora>| {
        let request = pipeline.request(PROMPT).seed(7).steps(1).size((192, 192)).guidance_scale(3.0);
        lora.into_iter().fold(request, Request::guide).run().map(|output| output.latents)
    };
    let bare = one_step(None)?;
    for name in ["ink", "glow"] {
        let lora = || UnmergedLora::new(name, 0.5);
        let whole = one_step(Some(lora()))?;
        let everywhere = one_step(Some(lora().within(Region::rect(0.0..1.0, 0.0..1.0))))?;
        assert!(apart(&everywhere, &whole) < 2e-3, "{name} everywhere: {}", apart(&everywhere, &whole));
        let left = one_step(Some(lora().within(Region::rect(0.0..0.5, 0.0..1.0))))?;
        let columns = left.size()[3];
        let of = |x: &Tensor, y: &Tensor, first: i64| {
            (x - y).narrow(3, first, columns / 2).abs().mean(Kind::Float).double_value(&[])
        };
        let (inside, outside) = (of(&left, &bare, 0), of(&left, &bare, columns / 2));
        assert!(inside > 1.5 * outside, "{name}: {inside} inside, {outside} outside");
    }
    Ok(())
}

#[test]
fn place_may_follow_a_thing_beside_other_methods() -> Result<()> {
    let pipeline = Pipeline::new(model_beside()?);
    let run = |lora: Option<UnmergedLora>| {
        let request = pipeline.request(PROMPT).seed(7).steps(6).size((192, 192));
        let paint = PaintWithWords::default().mask(Region::rect(0.2..0.8, 0.0..0.5), "hair", 0.5);
        let request = request.color_force("hair", Rgb(200, 30, 30)).guide(paint);
        lora.into_iter().fold(request, Request::guide).run()
    };
    let (bare, hair) = (run(None)?, run(Some(UnmergedLora::new("ink", 0.6).on("hair")))?);
    assert!(apart(&bare.latents, &hair.latents) > 0.05);
    assert!(hair.notes.iter().all(|note| !note.text.contains("was not found")), "{:?}", hair.notes);
    let lost = run(Some(UnmergedLora::new("ink", 0.6).on("boat"))).expect_err("a phrase of another prompt");
    assert!(lost.to_string().contains("boat"), "{lost}");
    Ok(())
}

#[test]
fn region_has_a_lora_of_its_own() -> Result<()> {
    let pipeline = Pipeline::new(model_beside()?);
    let run = |lora: Option<f64>| {
        let left = RegionPrompt::new(Region::rect(0.0..0.5, 0.0..1.0), "1girl, blue hair", 0.8);
        let left = lora.map_or(left.clone(), |strength| left.lora("glow", strength));
        let right = RegionPrompt::new(Region::rect(0.5..1.0, 0.0..1.0), "1girl, red hair", 0.8);
        paint(&pipeline, |request| request.steps(1).guide(RegionPrompts::default().region(left).region(right)))
    };
    let (bare, none, ink) = (run(None)?.latents, run(Some(0.0))?.latents, run(Some(1.0))?.latents);
    assert!(apart(&bare, &none) < 1e-3, "{}", apart(&bare, &none));
    let change = |first: i64| (&ink - &bare).narrow(3, first, 12).abs().mean(Kind::Float).double_value(&[]);
    assert!(change(0) > 1.5 * change(12), "{} in the region, {} beside it", change(0), change(12));
    let strong = run(Some(11.0)).expect_err("a strength outside the range").to_string();
    assert!(strong.contains("strength of a LoRA is 11"), "{strong}");
    Ok(())
}

#[test]
fn unknown_lora_is_told_before_the_first_step() -> Result<()> {
    let pipeline = Pipeline::new(model_beside()?);
    let error = paint(&pipeline, |request| request.guide(UnmergedLora::new("chalk", 1.0))).expect_err("unknown");
    let message = error.to_string();
    assert!(message.contains("lora is \"chalk\"; expected one of ink, glow"), "{message}");
    let bare = Pipeline::builder().build()?;
    let error = paint(&bare, |request| request.guide(UnmergedLora::new("ink", 1.0))).expect_err("no LoRA");
    assert!(error.to_string().contains("Model::with_unmerged"), "{error}");
    let model = pipeline.model();
    let again = Lora::of("ink.pt", tensors(model, low_rank, |path| path.contains("mid_block")))?;
    assert!(model.with_unmerged(&[again]).expect_err("a second ink").to_string().contains("the LoRA's name is ink"));
    let mut biased = tensors(model, difference, |path| path.ends_with("to_out.0"));
    biased.insert("lora_unet_conv_out.diff_b".into(), Tensor::zeros([4], (Kind::Float, Device::Cpu)));
    let notes = model.with_unmerged(&[Lora::of("biased", biased)?])?.notes().to_vec();
    assert!(notes.iter().any(|note| note.text.contains("changes of biases and norms are not used")), "{notes:?}");
    let text = Lora::of(
        "words",
        Tensors::from([
            ("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight".into(), draw("a", &[2, 64], 1.0)),
            ("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight".into(), draw("b", &[256, 2], 1.0)),
        ]),
    )?;
    let message = model.with_unmerged(&[text]).expect_err("no layer of the UNet").to_string();
    assert!(message.contains("changes no matrix or kernel of the denoising network"), "{message}");
    Ok(())
}

#[test]
fn place_of_other_cells_than_the_latent_is_told() -> Result<()> {
    let model = model_beside()?;
    let (x, place) = (Tensor::zeros([1, 4, 24, 24], (Kind::Float, Device::Cpu)), LoraPlace::new());
    place.set(Some(Tensor::ones([1, 1, 12, 24], (Kind::Float, Device::Cpu))))?;
    let mut text = model.text(PROMPT.into())?;
    LoraStrengths::add(&mut text, "ink", 0.5, Some(&place));
    let step = Step::new(0, 1, 3.0, 0.0, 600.0);
    let message = model.denoise(&step, &[Input::new(Branch::Cond, &x, &text)], &mut Tap::none()).expect_err("a shape");
    assert!(message.to_string().contains("the place of a LoRA has shape [1, 1, 12, 24]"), "{message}");
    assert!(place.set(Some(Tensor::ones([24, 24], (Kind::Float, Device::Cpu)))).is_err());
    Ok(())
}

#[test]
fn models_made_of_a_model_keep_its_loras() -> Result<()> {
    let model = model_beside()?;
    let draw = |model: Model| paint(&Pipeline::new(model), |request| request.guide(UnmergedLora::new("ink", 0.5)));
    let wanted = draw(model.share()?)?.latents;
    assert_eq!(draw(model.with_unmerged(&[])?)?.latents, wanted);
    assert!(apart(&draw(model.with_lora(&[])?)?.latents, &wanted) < 1e-3);
    let mut options = LoadOptions::default();
    options.offload = true;
    let offloaded = Model::load_with(&Source::dir(MODEL), options)?;
    let ink = Lora::of("ink", tensors(&model, low_rank, is_spatial))?;
    let drawn = draw(offloaded.with_unmerged(&[ink])?)?.latents;
    assert!(apart(&drawn, &wanted) < 5e-3, "{}", apart(&drawn, &wanted));
    Ok(())
}

#[test]
fn loras_act_in_half_precision() -> Result<()> {
    let half_precision = || crate::with(LoadOptions::default(), |options| options.precision = Kind::BFloat16.into());
    let half = Model::load_with(&Source::embedded(), half_precision())?;
    let ink = Lora::of("ink", tensors(&half, low_rank, is_spatial))?;
    let pipeline = Pipeline::new(half.with_unmerged(&[ink])?);
    let lora = || UnmergedLora::new("ink", 0.5);
    let bare = paint(&pipeline, |request| request)?.latents;
    let whole = paint(&pipeline, |request| request.guide(lora()))?.latents;
    let placed = paint(&pipeline, |request| request.guide(lora().within(Region::rect(0.0..1.0, 0.0..1.0))))?.latents;
    let full = Pipeline::new(model_beside()?);
    let exact = paint(&full, |request| request.guide(lora()))?.latents;
    let mean = |a: &Tensor, b: &Tensor| (a - b).abs().mean(Kind::Float).double_value(&[]);
    // A strong LoRA makes the network's rounding larger, in the weights as beside them.
    let merged = Lora::of("ink", tensors(pipeline.model(), low_rank, is_spatial))?.scale(0.5);
    let merged = Model::load_with(&Source::embedded(), half_precision())?.with_lora(&[merged])?;
    let merged = paint(&Pipeline::new(merged), |request| request)?.latents;
    let (change, rounding) = (mean(&bare, &exact), mean(&merged, &exact));
    assert!(rounding < 0.25 * change, "{rounding} {change}");
    for (what, error) in [("whole", mean(&whole, &exact)), ("placed", mean(&placed, &exact))] {
        assert!(error < 1.5 * rounding, "{what}: {error} {rounding} {change}");
    }
    Ok(())
}
