//! Comparison with ColorizeDiffusion's numbers, through the guidance method and the networks that users run.
//!
//! `tests/golden/specs/gen_colorize.py` is the generator of the numbers.

#[allow(unreachable_pub)]
#[path = "../../../tests/all/closed_form.rs"]
mod closed_form;

use super::manipulation::{TextVectors, levels, local_weights};
use super::preparation::size_ratios;
use super::{Colorize, DualCfg, FigureAndGround, Injection, Ink, Manipulation, ReferenceScales};
use crate::attention::{AttentionSite, Tap};
use crate::branch::{Branch, BranchInfo};
use crate::color::Rgb;
use crate::conditioning::{Codec, Conditioning, Offer, Texts};
use crate::diffusion::solver::Euler;
use crate::diffusion::{
    Denoiser, Input, Noise, Prediction, Predictions, Schedule, Spacing, SpacingOptions, TrainingSchedule,
};
use crate::error::Result;
use crate::guidance::{Cfg, Combine};
use crate::mask::Region;
use crate::model::{LoadOptions, Model};
use crate::nn::{
    AddedConditions, ClipImageProcessor, ConfigFile, ReferenceEncoder, ReferenceTokens, SketchEncoder,
    SketchEncoderConfig, UNet, UnetConfig,
};
use crate::pipeline::Pipeline;
use crate::prompt::Prompt;
use crate::raster::Raster;
use crate::reference::{Feature, ReferenceFeatures, SketchColorizer, SketchFeatures};
use crate::sampler::{Batching, Sampler, Start};
use crate::size::Size;
use crate::step::{Grid, Step};
use crate::vision::{View, Vision, VisionEncoder};
use crate::weights::{ModelFamily, SingleFile, Source, Tensors, Weights};
use crate::window::Window;
use closed_form::{shape, summed, tensors, wave};
use ndarray::Array2;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

fn formulas() -> Value {
    serde_json::from_str(include_str!("../../../tests/golden/specs/colorize_formulas.json")).unwrap()
}

fn models() -> Value {
    serde_json::from_str(include_str!("../../../tests/golden/specs/colorize_models.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn tensor(value: &Value) -> Tensor {
    Tensor::from_slice(&numbers(&value["data"])).reshape(shape(&value["shape"])).to_kind(Kind::Float)
}

fn thresholds(value: &Value) -> [f64; 4] {
    numbers(value).try_into().unwrap()
}

#[track_caller]
fn near(got: &Tensor, want: &Tensor, tolerance: f64) {
    assert_eq!(got.size(), want.size());
    let off = (got - want).abs().max().double_value(&[]);
    assert!(off <= tolerance, "off by {off}");
}

/// The small networks of the generator, as a model of a run.
///
/// Every call is at one latent and one timestep, independent of the run. The UNet's outputs are kept by branch and
/// step.
struct Upstream {
    unet: UNet,
    encoder: SketchEncoder,
    tokens: Tensor,
    /// True if extra branches belong to an injected reference.
    injects: bool,
    /// True if figure and background have tokens of their own.
    parts: bool,
    /// Encoders of background and style, in version 2.
    background: Option<ReferenceEncoder>,
    style: Option<ReferenceEncoder>,
    outputs: RefCell<BTreeMap<(Branch, usize), Tensor>>,
}

/// Tensors of a list of the generator, with a prefix before their names.
fn part_tensors(prefix: &str, keys: &Value) -> Tensors {
    let all = tensors(keys, |key| key[2].as_bool().unwrap());
    all.into_iter().map(|(name, x)| (format!("{prefix}{name}"), x)).collect()
}

/// Tensors of all of the generator's networks, by the names in the published files of a version.
fn file_tensors(version: &str) -> Tensors {
    let models = models();
    let mut all = part_tensors("model.diffusion_model.", &models[version]["unet_keys"]);
    all.extend(part_tensors("control_encoder.", &models["v1"]["encoder_keys"]));
    match version {
        "v15" => {
            all.extend(part_tensors("thresh_embedder.", &models["v15"]["threshold"]["keys"]));
            all.extend(part_tensors("transformer.", &models["v15"]["cluster"]["keys"]));
        }
        "v2" => {
            all.extend(part_tensors("bg_encoder.", &models["v2"]["bg_keys"]));
            all.extend(part_tensors("style_encoder.", &models["v2"]["style_keys"]));
        }
        _ => {}
    }
    all
}

/// Weights of a part of the generator's files; tests check that every tensor is read.
fn weights_of(file: &SingleFile, part: &str) -> Result<Option<Weights>> {
    Ok(file.part(part)?.map(|tensors| Weights::new("closed form", tensors, Kind::Float, Device::Cpu)))
}

impl Upstream {
    fn new() -> Result<Self> {
        Self::of("v1")
    }

    fn of(version: &str) -> Result<Self> {
        let file = SingleFile::of("mult_eps.safetensors", file_tensors(version));
        assert!(!file.prediction()?.v, "the file name says ε-prediction");
        let config = |part: &str| file.config(part, ModelFamily::Sd2).map(|config| config.expect("the part is there"));
        let mut unet: Value = serde_json::from_str(&config("unet")?).unwrap();
        unet["attention_head_dim"] = vec![2, 4, 8, 8].into(); // 32 channels a head, not 64 as in published models
        let weights = |part: &str| weights_of(&file, part).map(|weights| weights.expect("the part is there"));
        let (of_unet, of_encoder) = (weights("unet")?, weights("sketch_encoder")?);
        let unet_config = UnetConfig::from_json("unet", &unet.to_string())?;
        let unet = UNet::new(&of_unet, &unet_config)?;
        let reference = |part: &str| -> Result<Option<ReferenceEncoder>> {
            let Some(weights) = weights_of(&file, part)? else { return Ok(None) };
            let encoder = ReferenceEncoder::new(&weights, &unet_config)?;
            assert_eq!(weights.report().unused, vec![], "{part}");
            Ok(Some(encoder))
        };
        let (background, style) = (reference("background_encoder")?, reference("style_encoder")?);
        assert_eq!(background.is_some() && style.is_some(), version == "v2");
        let config = SketchEncoderConfig::from_json("sketch_encoder", &config("sketch_encoder")?)?;
        let encoder = SketchEncoder::new(&of_encoder, &config)?;
        assert_eq!((of_unet.report().unused, of_encoder.report().unused), (vec![], vec![]));
        let tokens = wave(&[1, 9, 48], 3, None) * 3.0;
        let (injects, parts, outputs) = (false, false, RefCell::default());
        Ok(Self { unet, encoder, tokens, injects, parts, background, style, outputs })
    }

    /// Outputs of the UNet for each branch of a run of one step.
    fn branches(&self, colors: Colorize, combine: impl Combine + 'static) -> Result<BTreeMap<Branch, Tensor>> {
        let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 1, Spacing::Leading)?;
        let outputs = self.run(colors, combine, schedule)?;
        Ok(outputs.into_iter().map(|((branch, _), out)| (branch, out)).collect())
    }

    fn run(
        &self,
        colors: Colorize,
        combine: impl Combine + 'static,
        schedule: Schedule,
    ) -> Result<BTreeMap<(Branch, usize), Tensor>> {
        self.outputs.borrow_mut().clear();
        let start = Start::new("", Grid::new(16, 16), Noise::seeded(1));
        // Rows of one batch with equal inputs may differ by rounding.
        let sampler = Sampler::new(schedule, Euler).batching(Batching::OneByOne);
        let mut run = sampler.combine(combine).guide(colors).start(self, start)?;
        while run.step()?.is_some() {}
        Ok(self.outputs.take())
    }
}

impl Denoiser for Upstream {
    fn sites(&self) -> &[AttentionSite] {
        self.unet.sites()
    }

    fn denoise(&self, step: &Step, inputs: &[Input<'_>], tap: &mut Tap<'_>) -> Result<Predictions> {
        let count = inputs.len() as i64;
        let context = inputs.iter().map(|input| &input.conditioning.context).collect::<Vec<_>>();
        let level = |i: usize| {
            let each = inputs
                .iter()
                .map(|input| input.conditioning.extras.get::<SketchFeatures>().unwrap().0[i].shallow_clone());
            Tensor::cat(&each.collect::<Vec<_>>(), 0)
        };
        let features = (0..5).map(level).collect();
        let mut reference = inputs[0].conditioning.extras.get::<ReferenceFeatures>().map(ReferenceFeatures::share);
        if let Some((_, threshold)) = reference.as_mut().and_then(|reference| reference.figure.as_mut()) {
            *threshold = models()["v2"]["inputs"]["threshold"].as_f64().unwrap();
        }
        let added = AddedConditions { features, reference, ..AddedConditions::default() };
        // An injected reference has a branch of its own, with the generator's noise.
        let latents = inputs.iter().map(|input| match input.branch {
            Branch::Extra(_) if self.injects => {
                let level = models()["injection"]["alpha_bar_t"].as_f64().unwrap();
                wave(&[1, 4, 16, 16], 12, None) * level.sqrt() + wave(&[1, 4, 16, 16], 11, None) * (1.0 - level).sqrt()
            }
            _ => wave(&[1, 4, 16, 16], 2, None),
        });
        let x = Tensor::cat(&latents.collect::<Vec<_>>(), 0);
        let out = self.unet.forward(&x, &Tensor::from(451.0), &Tensor::cat(&context, 0), Some(&added), tap)?;
        for (input, out) in inputs.iter().zip(out.chunk(count, 0)) {
            self.outputs.borrow_mut().insert((input.branch, step.index), out);
        }
        Ok(Predictions::new(step, inputs, inputs.iter().map(|input| input.x.shallow_clone())))
    }
}

impl Codec for Upstream {
    fn prompt(&self, texts: Texts<'_>) -> Result<Prompt> {
        Ok(Prompt::new(texts.first, Vec::new(), 0))
    }

    fn text(&self, _: Texts<'_>) -> Result<Conditioning> {
        Ok(Conditioning::new(Tensor::zeros([1, 1, 48], (Kind::Float, Device::Cpu))))
    }

    fn encode(&self, picture: &Tensor) -> Result<Tensor> {
        assert_eq!(picture.size(), [1, 3, 128, 128], "the reference is stretched to the picture's size");
        Ok(wave(&[1, 4, 16, 16], 12, None))
    }

    fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        Ok(latent.narrow(1, 0, 3))
    }

    fn offer<'a>(&'a self, offer: &mut Offer<'a>) {
        offer.give::<_, dyn VisionEncoder>(self, |model| model);
        offer.give::<_, dyn SketchColorizer>(self, |model| model);
    }
}

impl VisionEncoder for Upstream {
    /// Tokens of the reference, or of its background for a picture with white pixels.
    fn vision(&self, picture: &Raster, _: View) -> Result<Vision> {
        let whole = Tensor::ones([1, 1, 48], (Kind::Float, Device::Cpu));
        let behind = picture.bytes().contains(&255);
        let pair = wave(&[1, 18, 48], 5, None) * 3.0;
        let tokens = match (self.parts, behind) {
            (false, _) => self.tokens.shallow_clone(),
            (true, false) => pair.narrow(1, 0, 9),
            (true, true) => pair.narrow(1, 9, 9),
        };
        Ok(Vision::new(Tensor::cat(&[&whole, &tokens], 1), 0..48))
    }
}

impl SketchColorizer for Upstream {
    /// Features of the generator's latents, size and tokens, which replace the arguments.
    fn features(&self, of: Feature, _: &Tensor, _: &Tensor, ratios: [f64; 2]) -> Result<Vec<Tensor>> {
        assert_eq!(ratios, [(64.0 + 128.0) / 128.0; 2], "a reference of 64 pixels for a picture of 128");
        let (encoder, stream) = if of == Feature::Background { (&self.background, 8) } else { (&self.style, 9) };
        let Some(encoder) = encoder else { return Ok(Vec::new()) };
        encoder.forward(&wave(&[1, 4, 16, 16], stream, None), &wave(&[1, 512], 7, None), &self.tokens)
    }

    /// Features of the generator's sketch, or of the negative of its reference for a colored sketch.
    ///
    /// The generator's pictures do not consist of bytes, so they replace the argument. A blank sheet is encoded
    /// as it is.
    fn sketch(&self, sketch: &Tensor) -> Result<SketchFeatures> {
        assert_eq!(sketch.size(), [1, 3, 128, 128]);
        let blank = sketch.max().double_value(&[]) <= -1.0;
        let colored = sketch.abs().min().double_value(&[]) < 0.9; // a sketch is black and white
        if colored {
            return self.encoder.forward(&-wave(&[1, 3, 128, 128], 13, Some((-1.0, 1.0)))).map(SketchFeatures);
        }
        let shown = if blank { sketch.shallow_clone() } else { wave(&[1, 3, 128, 128], 1, Some((-1.0, 1.0))) };
        self.encoder.forward(&shown).map(SketchFeatures)
    }
}

#[test]
fn published_layout_is_loaded_as_a_colorizer() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let tiny = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model");
    let load_version = |version: &str, name: &str, more: &[&str]| -> Result<Model> {
        let path = folder.path().join(name);
        let mut all = file_tensors(version);
        // Tensors that training leaves in such files.
        all.extend(more.iter().map(|name| ((*name).to_owned(), Tensor::zeros([1000], (Kind::Float, Device::Cpu)))));
        crate::weights::write_safetensors(&all, &path)?;
        let vae = Some(Source::dir(tiny.join("vae")));
        Model::load_with(&Source::file(path), LoadOptions { vae, ..LoadOptions::default() })
    };
    let load = |name: &str, more: &[&str]| load_version("v1", name, more);
    for version in ["v15", "v2"] {
        let model = load_version(version, "newer.safetensors", &[])?;
        assert!(model.colorizes() && model.share()?.colorizes());
        assert!(!model.notes().iter().any(|note| note.text.contains("not used")), "{version}: {:?}", model.notes());
    }
    let model = load("mult.safetensors", &["betas", "posterior_variance"])?;
    assert!(model.colorizes());
    assert_eq!((model.defaults().width, model.defaults().guidance_scale), (512, 4.0));
    assert_eq!(model.prediction(), Prediction::V);
    assert!(model.notes().iter().any(|note| note.text.contains("CC BY-NC-SA")), "{:?}", model.notes());
    assert!(!model.notes().iter().any(|note| note.text.contains("not used")), "{:?}", model.notes());
    assert_eq!(load("mult_eps.safetensors", &[])?.prediction(), Prediction::Epsilon);
    let (sketch, reference) = pictures();
    let pipeline = Pipeline::new(model);
    let colors = Colorize::new(&sketch, &reference);
    let error = pipeline.request("").size((128, 128)).steps(1).guide(colors).run().unwrap_err().to_string();
    assert!(error.contains("the image encoder") && error.contains("laion/CLIP-ViT-H-14"), "{error}");
    let output = pipeline.request("").size((128, 128)).steps(1).guide(Colorize::freely(&sketch)).run()?;
    assert_eq!(output.image(0)?.size().width, 128);
    Ok(())
}

fn pictures() -> (Raster, Raster) {
    let mut sketch = Raster::flat(Rgb(255, 255, 255), (128, 128));
    (20..100).for_each(|x| sketch.set(x, 64, Rgb(0, 0, 0)));
    (sketch, Raster::flat(Rgb(200, 120, 40), (64, 64)))
}

fn colors() -> Colorize {
    let (sketch, reference) = pictures();
    Colorize::new(&sketch, &reference)
}

fn parted(parts: FigureAndGround) -> Colorize {
    colors().tune(|options| options.parts = Some(parts))
}

fn styled(colors: Colorize) -> Colorize {
    colors.tune(|options| options.style = true)
}

#[test]
fn network_outputs_equal_colorize_diffusion() -> Result<()> {
    let (case, model) = (&models()["v1"], Upstream::new()?);
    let features = model.encoder.forward(&wave(&[1, 3, 128, 128], 1, Some((-1.0, 1.0))))?;
    features.iter().zip(case["hints"].as_array().unwrap()).for_each(|(got, want)| summed(got, want));
    assert_eq!(features.len(), case["hints"].as_array().unwrap().len());

    let branches = model.branches(colors(), Cfg(4.0))?;
    summed(&branches[&Branch::Cond], &case["out"]);
    summed(&branches[&Branch::Uncond], &case["out_zero_context"]);
    assert_eq!(branches.len(), 2, "no sketch guidance, no branch for it");
    let branches = model.branches(colors().tune(|options| options.sketch_strength = 0.0), Cfg(1.0))?;
    summed(&branches[&Branch::Cond], &case["out_no_hint"]);
    let scales = ReferenceScales { all: 0.6, ..ReferenceScales::default() };
    let scaled = colors().tune(|options| options.scales = scales);
    summed(&model.branches(scaled, Cfg(1.0))?[&Branch::Cond], &case["out_reference_scale_0.6"]);
    let scaled = colors().tune(|options| options.sites = Some(vec![0.6; 16]));
    summed(&model.branches(scaled, Cfg(1.0))?[&Branch::Cond], &case["out_reference_scale_0.6"]);
    Ok(())
}

#[test]
fn sites_have_the_order_of_colorize_diffusion() -> Result<()> {
    let model = Upstream::new()?;
    let cross: Vec<&AttentionSite> = model.sites().iter().filter(|site| site.is_cross()).collect();
    assert_eq!(cross.len(), 16);
    // The groups that the specification names.
    let scales = ReferenceScales { all: 1.0, encoder: 0.1, high: 0.7, middle: 0.2, low: 0.3, bottom: 0.5 };
    let got: Vec<f64> = cross.iter().map(|site| (scales.of(site) * 1e6).round() / 1e6).collect();
    let want = [0.07, 0.07, 0.02, 0.02, 0.03, 0.03, 0.5, 0.3, 0.3, 0.3, 0.2, 0.2, 0.2, 0.7, 0.7, 0.7];
    assert_eq!(got, want);
    let fewer = colors().tune(|options| options.sites = Some(vec![1.0; 15]));
    let error = model.branches(fewer, Cfg(1.0)).unwrap_err().to_string();
    assert!(error.contains("number of sites is 15; expected 16"), "{error}");
    Ok(())
}

#[test]
fn figure_and_background_read_tokens_of_their_own() -> Result<()> {
    let (golden, model) = (&models()["v1"]["masked"], Upstream { parts: true, ..Upstream::new()? });
    summed(&model.branches(parted(mixed()), Cfg(1.0))?[&Branch::Cond], &golden["out"]);
    Ok(())
}

/// Figure and ground: the generator's mask of the sketch at its threshold, and the middle of the reference.
fn figure() -> FigureAndGround {
    let mask = Vec::<f32>::try_from(wave(&[16 * 16], 4, Some((0.0, 1.0)))).unwrap();
    let sketch = Region::new(Array2::from_shape_vec((16, 16), mask).unwrap());
    FigureAndGround { threshold: 0.4, ..FigureAndGround::new(sketch, Region::rect(0.25..0.75, 0.25..0.75)) }
}

/// Figure and ground of [`figure`] at the generator's strengths.
fn mixed() -> FigureAndGround {
    let golden = &models()["v1"]["masked"];
    let number = |name: &str| golden[name].as_f64().unwrap();
    assert_eq!(number("mask_threshold"), 0.4);
    FigureAndGround { figure: number("fg_scale"), ground: number("bg_scale"), merge: number("merge_scale"), ..figure() }
}

#[test]
fn adapter_outputs_equal_colorize_diffusion() -> Result<()> {
    let (golden, model) = (&models()["v15"]["cases"], Upstream { parts: true, ..Upstream::of("v15")? });
    for (case, figure_adapter, ground_adapter) in
        [("neither", false, false), ("foreground", true, false), ("background", false, true), ("both", true, true)]
    {
        let parts = FigureAndGround { figure_adapter, ground_adapter, ..mixed() };
        // The adapters see the cells of their own branch, whether branches run one by one or stacked.
        for guidance in [1.0, 4.0] {
            let outputs = model.branches(parted(parts.clone()), Cfg(guidance))?;
            summed(&outputs[&Branch::Cond], &golden[case]);
        }
    }
    let whole = Upstream { parts: false, ..model };
    summed(&whole.branches(colors(), Cfg(1.0))?[&Branch::Cond], &golden["unmasked_off"]);
    Ok(())
}

#[test]
fn reference_tokens_equal_colorize_diffusion() -> Result<()> {
    let golden = &models()["v15"];
    let file = SingleFile::of("switch.safetensors", file_tensors("v15"));
    let weights = weights_of(&file, "reference_tokens")?.expect("version 1.5 has them");
    let parts = ReferenceTokens::new(&weights)?;
    assert_eq!(weights.report().unused, vec![]);
    let zeros = Tensor::zeros([1, 1, 64], (Kind::Float, Device::Cpu));
    let thresholds = &golden["threshold"];
    let marked = numbers(&thresholds["values"]).into_iter().map(|threshold| parts.marked(&zeros, threshold));
    near(&Tensor::cat(&marked.collect::<Result<Vec<_>>>()?, 0), &tensor(&thresholds["out"]), 1e-5);
    summed(&parts.background(&wave(&[2, 7, 64], 6, None))?, &golden["cluster"]["out"]);
    let error = parts.background(&Tensor::zeros([1, 7, 48], (Kind::Float, Device::Cpu))).unwrap_err().to_string();
    assert!(error.contains("tokens of the reference has shape [1, 7, 48]; expected [b, tokens, 64]"), "{error}");
    Ok(())
}

#[test]
fn background_and_style_equal_colorize_diffusion() -> Result<()> {
    let (golden, model) = (&models()["v2"], Upstream::of("v2")?);
    for (of, name) in [(Feature::Background, "bg_hints"), (Feature::Style, "style_hints")] {
        let features = model.features(of, &Tensor::new(), &Tensor::new(), [1.5, 1.5])?;
        let want = golden[name].as_array().unwrap();
        assert_eq!(features.len(), want.len());
        features.iter().zip(want).for_each(|(got, want)| summed(got, want));
    }
    summed(&model.branches(styled(colors()), Cfg(1.0))?[&Branch::Cond], &golden["out_style"]);
    let model = Upstream { parts: true, ..model };
    // The generator sets only the threshold of the skip connections; attention keeps its default.
    let parts = || parted(FigureAndGround { threshold: 0.05, ..figure() });
    summed(&model.branches(parts(), Cfg(1.0))?[&Branch::Cond], &golden["out_bg"]);
    let both = model.branches(styled(parts()), Cfg(4.0))?;
    summed(&both[&Branch::Cond], &golden["out_both"]);
    assert_ne!(
        both[&Branch::Uncond],
        model.branches(parts(), Cfg(4.0))?[&Branch::Uncond],
        "the style changes every branch"
    );
    let plain = Upstream::new()?.branches(styled(colors()), Cfg(1.0)).unwrap_err().to_string();
    assert!(plain.contains("style is true; expected false, because this model has no style encoder"), "{plain}");
    Ok(())
}

#[test]
fn size_embedding_equals_colorize_diffusion() -> Result<()> {
    for case in formulas()["size_ratio"].as_array().unwrap() {
        let size = |height: &str, width: &str| {
            Size::new(case[width].as_u64().unwrap() as u32, case[height].as_u64().unwrap() as u32)
        };
        let ratios = size_ratios(size("ref_h", "ref_w"), size("h", "w"));
        let want = numbers(&case["ratios"]);
        assert!(ratios.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-6), "{ratios:?}, not {want:?}");
    }
    let golden = &formulas()["size_embedding"];
    let ratios: [f64; 2] = numbers(&golden["ratios"]).try_into().unwrap();
    summed(&ReferenceEncoder::label(ratios)?, &golden["out"]);
    Ok(())
}

#[test]
fn injected_reference_equals_colorize_diffusion() -> Result<()> {
    let (golden, model) = (&models()["injection"], Upstream { injects: true, ..Upstream::new()? });
    for case in golden["cases"].as_array().unwrap() {
        let number = |name: &str| case[name].as_f64().unwrap();
        let window = Window::timesteps(0.0..=999.0 * (1.0 - number("start")));
        let injection =
            Injection { reference: number("fidelity_reference"), sketch: number("fidelity_sketch"), window };
        let table = TrainingSchedule::stable_diffusion();
        let at = golden["inputs"]["t"].as_f64().unwrap();
        let schedule = Schedule::from_timesteps(&table, &[at], &SpacingOptions::default())?;
        let colors = colors().tune(|options| options.injection = Some(injection));
        let outputs = model.run(colors, Cfg(4.0), schedule)?;
        summed(&outputs[&(Branch::Cond, 0)], &case["cond"]);
        summed(&outputs[&(Branch::Uncond, 0)], &case["no_reference"]);
        // No injected branch is evaluated outside of the window. A reference fidelity of 1 saves one of two passes.
        let passes = if number("start") > 0.5 { 0 } else { 2 - usize::from(number("fidelity_reference") == 1.0) };
        assert_eq!(outputs.len(), 2 + passes);
    }
    Ok(())
}

#[test]
fn dual_cfg_adds_sketchless_branch_when_needed() -> Result<()> {
    let model = Upstream::new()?;
    let branches = |reference, sketch| model.branches(colors(), DualCfg::new(reference, sketch));
    let three = branches(4.0, 1.5)?;
    assert_eq!(three.keys().copied().collect::<Vec<_>>(), [Branch::Extra(0), Branch::Uncond, Branch::Cond]);
    let blank = model.encoder.forward(&Tensor::full([1, 3, 128, 128], -1.0, (Kind::Float, Device::Cpu)))?;
    let added = AddedConditions { features: blank, ..AddedConditions::default() };
    let x = wave(&[1, 4, 16, 16], 2, None);
    let want = model.unet.forward(&x, &Tensor::from(451.0), &model.tokens, Some(&added), &mut Tap::none())?;
    near(&three[&Branch::Extra(0)], &want, 1e-4);
    assert_eq!(branches(4.0, 1.0)?.len(), 2);
    assert_eq!(branches(1.0, 2.0)?.keys().copied().collect::<Vec<_>>(), [Branch::Extra(0), Branch::Cond]);
    assert_eq!(branches(0.5, 1.0)?.len(), 1);
    Ok(())
}

#[test]
fn dual_cfg_equals_colorize_diffusion() -> Result<()> {
    let golden = &formulas()["cfg"];
    let branches = [Branch::Extra(3), Branch::Uncond, Branch::Cond];
    let info = |branch| BranchInfo {
        branch,
        like: if branch == Branch::Uncond { branch } else { Branch::Cond },
        role: if branch == Branch::Extra(3) { "without the sketch" } else { "" },
        prompt: String::new(),
        second_prompt: None,
        third_prompt: None,
        shared: true,
    };
    let (step, conditioning) = (Step::new(0, 1, 1.0, 0.0, 500.0), Conditioning::new(Tensor::from(0.0)));
    let x = Tensor::zeros([1, 4, 2, 2], (Kind::Float, Device::Cpu));
    for case in golden["cases"].as_array().unwrap() {
        let mut combine = DualCfg::new(case["reference"].as_f64().unwrap(), case["sketch"].as_f64().unwrap());
        combine.begin(&branches.map(info))?;
        assert_eq!(combine.branches(&step).len() as u64, case["passes"].as_u64().unwrap());
        let inputs = branches.map(|branch| Input::new(branch, &x, &conditioning));
        let x0 = ["no_sketch", "no_reference", "cond"].map(|name| tensor(&golden[name]));
        let combined = combine.combine(&step, &Predictions::new(&step, &inputs, x0))?;
        near(&combined, &tensor(&case["out"]), 1e-5);
    }
    let error = DualCfg::new(4.0, 2.0).begin(&branches[1..].iter().copied().map(info).collect::<Vec<_>>());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("sketch scale is 2; expected 1 or less, because no branch without the sketch"), "{error}");
    assert!(error.contains("add the guidance method Colorize"), "{error}");
    Ok(())
}

#[test]
fn reference_is_read_only_in_its_windows() -> Result<()> {
    let model = Upstream::new()?;
    for case in formulas()["windows"].as_array().unwrap() {
        let times: Vec<f64> = numbers(&case["t"]).into_iter().filter(|t| *t > 0.0).collect();
        let schedule =
            Schedule::from_timesteps(&TrainingSchedule::stable_diffusion(), &times, &SpacingOptions::default())?;
        // r = 1 - t/999
        let window = |start: &str, end: &str| {
            let [start, end] = [start, end].map(|name| case[name].as_f64().unwrap());
            (end > 0.0).then(|| Window::timesteps(999.0 * (1.0 - end)..=999.0 * (1.0 - start)))
        };
        let colors = colors().window(window("start", "end").expect("there is one"));
        let colors = colors.tune(|options| options.pause = window("no_start", "no_end"));
        let outputs = model.run(colors, Cfg(4.0), schedule)?;
        for (index, on) in case["reference_on"].as_array().unwrap().iter().take(times.len()).enumerate() {
            let [cond, uncond] = [Branch::Cond, Branch::Uncond].map(|branch| &outputs[&(branch, index)]);
            assert_eq!(cond != uncond, on.as_bool().unwrap(), "t = {}", times[index]);
        }
    }
    Ok(())
}

#[test]
fn token_manipulation_equals_colorize_diffusion() -> Result<()> {
    let golden = formulas();
    let vector = |name: &Value| name.as_str().map(|name| tensor(&golden["text"][name]).reshape([-1]));
    let read = |case: &Value| {
        let name = |field: &str| case[field].as_str().map(str::to_owned);
        let manipulation = Manipulation {
            target: name("target").unwrap(),
            anchor: name("anchor"),
            control: name("control"),
            scale: case["scale"].as_f64().unwrap(),
            enhance: case["enhance"].as_bool().unwrap(),
            thresholds: case["thresholds"]
                .as_array()
                .map_or([0.5, 0.55, 0.65, 0.95], |_| thresholds(&case["thresholds"])),
        };
        let target = vector(&case["target"]).unwrap();
        (manipulation, TextVectors { target, anchor: vector(&case["anchor"]), control: vector(&case["control"]) })
    };
    let tokens = tensor(&golden["tokens"]);
    for case in golden["local"].as_array().unwrap() {
        let (manipulation, texts) = read(case);
        near(&manipulation.local(&tokens, &texts)?, &tensor(&case["out"]), 1e-4);
    }
    for case in golden["global"].as_array().unwrap() {
        let (manipulation, texts) = read(case);
        near(&manipulation.global(&tokens.narrow(1, 0, 1), &texts)?, &tensor(&case["out"]), 1e-5);
    }
    let mut changed = tokens.shallow_clone();
    for step in golden["local_sequence"]["steps"].as_array().unwrap() {
        let (manipulation, texts) = read(&golden["local"][step.as_u64().unwrap() as usize]);
        changed = manipulation.local(&changed, &texts)?;
    }
    near(&changed, &tensor(&golden["local_sequence"]["out"]), 1e-3);
    Ok(())
}

#[test]
fn resemblance_weights_equal_colorize_diffusion() -> Result<()> {
    let golden = formulas();
    for case in golden["weights"].as_array().unwrap() {
        let got = local_weights(&tensor(&case["scores"]), &tensor(&case["dscale"]), thresholds(&case["thresholds"]))?;
        near(&got, &tensor(&case["weights"]), 1e-5);
    }
    let map = &golden["heatmap"];
    let got = levels(&tensor(&map["scores"]), thresholds(&map["thresholds"]))?.reshape([-1]);
    let got: Vec<f64> = Vec::<u8>::try_from(got).unwrap().into_iter().map(|level| f64::from(63 * level)).collect();
    assert_eq!(got, numbers(&map["levels"]));
    // ColorizeDiffusion divides by zero where all scores are equal; here the weights are 0.
    let alike = Tensor::ones([1, 5, 1], (Kind::Float, Device::Cpu));
    let weights = local_weights(&alike, &Tensor::ones([1, 1, 1], (Kind::Float, Device::Cpu)), [0.1, 0.2, 0.3, 0.4])?;
    assert_eq!(weights.abs().max().double_value(&[]), 0.0);
    Ok(())
}

#[test]
fn stretched_references_equal_colorize_diffusion() -> Result<()> {
    let golden = &formulas()["clip_preprocess"];
    let json = r#"{"crop_size": 6, "size": 6}"#;
    let processor = ClipImageProcessor::from_json("preprocessor_config.json", json)?;
    let got = processor.stretch(&wave(&[1, 3, 9, 14], 21, Some((-1.0, 1.0))))?;
    near(&got, &tensor(&golden["out"]), 1e-5);
    let upward = processor.stretch(&wave(&[1, 3, 4, 5], 22, Some((-1.0, 1.0))))?;
    let json = r#"{"crop_size": 6, "size": 6, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#;
    let plain = ClipImageProcessor::from_json("preprocessor_config.json", json)?;
    near(&plain.stretch(&wave(&[1, 3, 4, 5], 22, Some((-1.0, 1.0))))?, &tensor(&golden["upsample_only"]), 1e-5);
    assert!(upward.size() == [1, 3, 6, 6]);
    Ok(())
}

/// A model that keeps the first sketch that a run encodes.
struct Sketched(RefCell<Option<Tensor>>, Upstream);

impl Denoiser for Sketched {
    fn sites(&self) -> &[AttentionSite] {
        self.1.sites()
    }

    fn denoise(&self, step: &Step, inputs: &[Input<'_>], _: &mut Tap<'_>) -> Result<Predictions> {
        Ok(Predictions::new(step, inputs, inputs.iter().map(|input| input.x.shallow_clone())))
    }
}

impl Codec for Sketched {
    fn prompt(&self, texts: Texts<'_>) -> Result<Prompt> {
        self.1.prompt(texts)
    }

    fn text(&self, texts: Texts<'_>) -> Result<Conditioning> {
        self.1.text(texts)
    }

    fn encode(&self, picture: &Tensor) -> Result<Tensor> {
        self.1.encode(picture)
    }

    fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        self.1.decode(latent)
    }

    fn offer<'a>(&'a self, offer: &mut Offer<'a>) {
        offer.give::<_, dyn SketchColorizer>(self, |model| model);
    }
}

impl SketchColorizer for Sketched {
    fn sketch(&self, sketch: &Tensor) -> Result<SketchFeatures> {
        self.0.borrow_mut().get_or_insert(sketch.shallow_clone());
        Ok(SketchFeatures(vec![Tensor::zeros([1, 64, 1, 1], (Kind::Float, Device::Cpu))]))
    }
}

#[test]
fn sketches_are_placed_as_in_colorize_diffusion() -> Result<()> {
    let mut model = Sketched(RefCell::new(None), Upstream::new()?);
    for case in formulas()["placement"].as_array().unwrap() {
        let side = |name: &str| case[name].as_u64().unwrap() as u32;
        let white = Raster::flat(Rgb(255, 255, 255), (side("w"), side("h")));
        let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 1, Spacing::Leading)?;
        let grid = Grid::new(i64::from(side("target_h") / 8), i64::from(side("target_w") / 8));
        let colors = Colorize::freely(&white).tune(|options| options.ink = Ink::Light);
        let _ = Sampler::new(schedule, Euler).guide(colors).start(&model, Start::new("", grid, Noise::seeded(1)))?;
        let shown = model.0.get_mut().take().expect("a sketch");
        assert_eq!(shown.size()[2..], [i64::from(side("target_h")), i64::from(side("target_w"))]);
        let lit = shown.select(1, 0).select(0, 0).gt(0.9);
        let span = |axis: i64| {
            let along = lit.any_dim(axis, false).nonzero();
            let first = along.min().int64_value(&[]);
            (first, along.max().int64_value(&[]) - first + 1)
        };
        assert_eq!(span(1), (side("top").into(), side("new_h").into()), "rows of {case}");
        assert_eq!(span(0), (side("left").into(), side("new_w").into()), "columns of {case}");
        assert_eq!(
            shown.min().double_value(&[]),
            if shown.numel() as u32 == 3 * side("new_h") * side("new_w") { 1.0 } else { -1.0 }
        );
    }
    Ok(())
}
