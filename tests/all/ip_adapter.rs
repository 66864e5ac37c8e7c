//! IP-Adapters of random weights on the embedded model: files, places and strengths of pictures, other methods beside.

use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Place, Probs};
use impasto::diffusion::Denoiser;
use impasto::mask::Region;
use impasto::methods::color_force::ColorReport;
use impasto::methods::ip_adapter::ImagePrompt;
use impasto::methods::paint_with_words::Area;
use impasto::methods::{ColorForce, IpAdapter, PaintWithWords, ReferenceColor};
use impasto::nn::ip_adapter::IpAdapterNet;
use impasto::nn::{ClipImageProcessor, ClipVision, ClipVisionConfig, ConfigFile};
use impasto::pipeline::Request;
use impasto::saliency::{Daam, DaamRun, SaliencyRun};
use impasto::sampler::Batching;
use impasto::vision::{Crop, View, VisionEncoder};
use impasto::weights::{Lora, Tensors, Weights};
use impasto::{Branch, Model, Output, Pipeline, Raster, Result, Rgb, Source, Window};
use ndarray::Array2;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

const PROMPT: &str = "1girl, eyes, hair, shirt, background";
const RED: Rgb = Rgb(200, 30, 30);

/// Numbers that look random, nearly normally distributed.
fn draw(name: &str, shape: &[i64]) -> Tensor {
    let phase = name.bytes().fold(0.0, |sum, byte| sum * 0.3 + f64::from(byte));
    let count: i64 = shape.iter().product();
    let wave = ((Tensor::arange(count, (Kind::Double, Device::Cpu)) * 12.9898 + phase).sin() * 43758.5).frac();
    (wave * 1.2 / (*shape.last().expect("columns") as f64).sqrt()).to_kind(Kind::Float).reshape(shape)
}

/// Sizes of the projections of sites, rows and columns, in the order of an IP-Adapter's file.
fn shapes(model: &Model) -> Vec<(i64, i64)> {
    let unet = model.tensors("unet").expect("a UNet");
    let of = |place| model.sites().iter().filter(move |site| site.is_cross() && site.place == place);
    let sites = of(Place::Down).chain(of(Place::Up)).chain(of(Place::Mid));
    sites.map(|site| unet[&format!("{}.to_k.weight", site.name)].size2().expect("a matrix")).collect()
}

/// The tensors of a plain IP-Adapter of random weights for sites and an embedding of `inputs` numbers.
fn plain(shapes: &[(i64, i64)], inputs: i64) -> Tensors {
    let width = shapes[0].1;
    let mut tensors = Tensors::new();
    let mut add = |name: String, shape: &[i64]| drop(tensors.insert(name.clone(), draw(&name, shape)));
    add("image_proj.proj.weight".into(), &[4 * width, inputs]);
    add("image_proj.proj.bias".into(), &[4 * width]);
    for (i, (rows, columns)) in shapes.iter().enumerate() {
        for end in ["to_k_ip", "to_v_ip"] {
            add(format!("ip_adapter.{}.{end}.weight", 2 * i + 1), &[*rows, *columns]);
        }
    }
    tensors.insert("image_proj.norm.weight".into(), Tensor::ones([width], (Kind::Float, Device::Cpu)));
    tensors.insert("image_proj.norm.bias".into(), Tensor::zeros([width], (Kind::Float, Device::Cpu)));
    tensors
}

/// The tensors of a plain IP-Adapter for the embedded model and its image encoder.
fn embedded(model: &Model) -> Result<Tensors> {
    let seen = model.vision(&Raster::flat(RED, (64, 64)), View::default())?;
    Ok(plain(&shapes(model), seen.tokens.size()[2]))
}

/// Writes tensors to a file in a folder of its own, which lasts as long as the test process.
fn write(tensors: &Tensors, name: &str) -> PathBuf {
    let path = tempfile::tempdir().expect("a folder").keep().join(name);
    let tensors: Vec<(&String, &Tensor)> = tensors.iter().collect();
    Tensor::write_safetensors(&tensors, &path).expect("a file");
    path
}

/// A pipeline of the embedded model with a random IP-Adapter.
pub fn adapted() -> Result<(Pipeline, IpAdapterNet)> {
    let pipeline = Pipeline::builder().build()?;
    let file = write(&embedded(pipeline.model())?, "random.safetensors");
    let net = pipeline.model().ip_adapter(&file, &Source::embedded())?;
    std::fs::remove_dir_all(file.parent().expect("a folder")).ok();
    Ok((pipeline, net))
}

/// A tower that reads pictures of 8×8 pixels, and its preprocessor.
fn tower() -> Result<(ClipVision, ClipImageProcessor)> {
    let config = r#"{
        "architectures": ["CLIPVisionModelWithProjection"], "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 8, "patch_size": 4, "projection_dim": 6
    }"#;
    let config = ClipVisionConfig::from_json("config.json", config)?;
    let processor = ClipImageProcessor::from_json("preprocessor.json", r#"{ "size": 8, "crop_size": 8 }"#)?;
    Ok((ClipVision::new(&Weights::random(7, Kind::Float, Device::Cpu), &config)?, processor))
}

/// Builds a net from tensors, with the image encoder of [`tower`].
fn build(tensors: Tensors) -> Result<IpAdapterNet> {
    let (tower, processor) = tower()?;
    IpAdapterNet::new(&Weights::new("it.safetensors", tensors, Kind::Float, Device::Cpu), tower, processor)
}

/// An IP-Adapter for the one cross-attention site of the toy model.
pub fn toy() -> Result<IpAdapterNet> {
    build(plain(&[(16, 16)], 6))
}

/// The tensors of a Plus adapter for one site, with states of `inputs` numbers.
fn plus(inputs: i64) -> Tensors {
    let mut tensors = plain(&[(16, 16)], 6);
    tensors.retain(|name, _| name.starts_with("ip_adapter."));
    let layer = "layers.0.0";
    for (name, shape) in [
        ("latents".into(), vec![1, 3, 12]),
        ("proj_in.weight".into(), vec![12, inputs]),
        ("proj_in.bias".into(), vec![12]),
        ("proj_out.weight".into(), vec![16, 12]),
        ("proj_out.bias".into(), vec![16]),
        ("norm_out.weight".into(), vec![16]),
        ("norm_out.bias".into(), vec![16]),
        (format!("{layer}.norm1.weight"), vec![12]),
        (format!("{layer}.norm1.bias"), vec![12]),
        (format!("{layer}.norm2.weight"), vec![12]),
        (format!("{layer}.norm2.bias"), vec![12]),
        (format!("{layer}.to_q.weight"), vec![64, 12]),
        (format!("{layer}.to_kv.weight"), vec![128, 12]),
        (format!("{layer}.to_out.weight"), vec![12, 64]),
        ("layers.0.1.0.weight".into(), vec![12]),
        ("layers.0.1.0.bias".into(), vec![12]),
        ("layers.0.1.1.weight".into(), vec![48, 12]),
        ("layers.0.1.3.weight".into(), vec![12, 48]),
    ] {
        let name = format!("image_proj.{name}");
        tensors.insert(name.clone(), draw(&name, &shape));
    }
    tensors
}

/// Two pictures that differ.
fn pictures() -> [Raster; 2] {
    let mut striped = Raster::flat(RED, (64, 48));
    (0..4).for_each(|i| striped.paste(&Raster::flat(Rgb(250, 240, 20), (8, 48)), 16 * i, 0));
    [Raster::flat(Rgb(20, 40, 160), (48, 64)), striped]
}

fn paint(pipeline: &Pipeline, steps: usize, methods: impl IntoIterator<Item = IpAdapter>) -> Result<Output> {
    methods.into_iter().fold(pipeline.request(PROMPT).seed(7).steps(steps), Request::guide).run()
}

fn apart(a: &Output, b: &Output) -> f64 {
    (&a.latents - &b.latents).abs().max().double_value(&[])
}

/// The message of a method that no run can use.
fn refusal(pipeline: &Pipeline, method: IpAdapter) -> String {
    paint(pipeline, 1, [method]).expect_err("a refusal").to_string()
}

#[test]
fn nothing_changes_without_strength_or_window() -> Result<()> {
    let (pipeline, net) = adapted()?;
    let [picture, other] = &pictures();
    let bare = paint(&pipeline, 2, [])?;
    let everywhere = || Region::rect(0.0..1.0, 0.0..1.0);
    let idle = [
        IpAdapter::new(&net, picture).strength(0.0),
        IpAdapter::new(&net, picture).block("mid_block", 0.0),
        IpAdapter::new(&net, ImagePrompt::new(picture).within(everywhere()).strength(0.0)),
        IpAdapter::new(&net, picture).window(Window::timesteps(0.0..=0.5)),
    ];
    for method in idle {
        let output = paint(&pipeline, 2, [method])?;
        assert_eq!(output.latents, bare.latents);
        let said = output.notes.iter().any(|note| note.text.contains("did nothing"));
        assert!(said && output.notes.iter().all(|note| note.origin == Some("IpAdapter")), "{:?}", output.notes);
    }
    let [one, two] = [picture, other].map(|picture| paint(&pipeline, 2, [IpAdapter::new(&net, picture)]));
    let (one, two) = (one?, two?);
    assert!(apart(&one, &bare) > 0.05 && apart(&one, &two) > 0.05, "{} {}", apart(&one, &bare), apart(&one, &two));
    assert_eq!(one.notes, []);
    Ok(())
}

#[test]
fn methods_add_up_and_pictures_share_a_softmax() -> Result<()> {
    let (pipeline, net) = adapted()?;
    let [one, two] = &pictures();
    let like = |picture, strength| IpAdapter::new(&net, picture).strength(strength);
    let together = paint(&pipeline, 2, [like(one, 0.7), like(one, 0.2)])?;
    assert!(apart(&together, &paint(&pipeline, 2, [like(one, 0.9)])?) < 1e-3);
    // A picture that is given twice weighs as much as once in a softmax.
    let twice = paint(&pipeline, 2, [IpAdapter::pictures(&net, [one, one])])?;
    assert!(apart(&twice, &paint(&pipeline, 2, [like(one, 1.0)])?) < 1e-3);
    let mixed = paint(&pipeline, 2, [like(one, 1.0).picture(two)])?;
    let added = paint(&pipeline, 2, [like(one, 1.0), like(two, 1.0)])?;
    assert!(apart(&mixed, &added) > 0.05, "{}", apart(&mixed, &added));
    Ok(())
}

#[test]
fn tokens_of_a_picture_stand_for_the_picture() -> Result<()> {
    let (pipeline, net) = adapted()?;
    let [_, striped] = &pictures();
    let view = View { crop: Crop::Stretch, ..View::default() };
    let by_tokens = IpAdapter::new(&net, ImagePrompt::tokens(&net.encode(striped, view)?));
    let by_picture = paint(&pipeline, 1, [IpAdapter::new(&net, striped).view(view)])?;
    assert_eq!(paint(&pipeline, 1, [by_tokens])?.latents, by_picture.latents);
    assert_ne!(paint(&pipeline, 1, [IpAdapter::new(&net, striped)])?.latents, by_picture.latents);
    Ok(())
}

#[test]
fn picture_acts_inside_its_region() -> Result<()> {
    let (pipeline, net) = adapted()?;
    let [picture, _] = &pictures();
    let within = |region| IpAdapter::new(&net, ImagePrompt::new(picture).within(region));
    let bare = paint(&pipeline, 1, [])?;
    let whole = paint(&pipeline, 1, [IpAdapter::new(&net, picture)])?;
    let everywhere = paint(&pipeline, 1, [within(Region::rect(0.0..1.0, 0.0..1.0))])?;
    assert!(apart(&whole, &everywhere) < 1e-4 * apart(&whole, &bare).max(1.0));
    let nowhere = paint(&pipeline, 1, [within(Region::new(Array2::zeros((32, 32))))])?;
    assert!(apart(&nowhere, &bare) < 1e-4);
    let left = paint(&pipeline, 1, [within(Region::rect(0.0..0.5, 0.0..1.0))])?;
    let change = (&left.latents - &bare.latents).abs().mean_dim([0i64, 1, 2].as_slice(), false, Kind::Float);
    let [inside, outside] = [0, 20].map(|column| change.narrow(0, column, 12).mean(Kind::Float).double_value(&[]));
    assert!(inside > 2.0 * outside, "{inside} and {outside}");
    // In a batch, every image has its own region.
    let each = Region::each([Region::rect(0.0..0.5, 0.0..1.0), Region::new(Array2::zeros((32, 32)))]);
    let batch = pipeline.request(PROMPT).seed(7).steps(1).images(2).guide(within(each)).run()?;
    assert!((batch.latents.get(0) - left.latents.get(0)).abs().max().double_value(&[]) < 1e-3);
    let second = pipeline.request(PROMPT).seed(8).steps(1).run()?;
    assert!((batch.latents.get(1) - second.latents.get(0)).abs().max().double_value(&[]) < 1e-3);
    Ok(())
}

#[test]
fn picture_acts_on_the_object_of_a_phrase() -> Result<()> {
    let (pipeline, net) = adapted()?;
    let [picture, _] = &pictures();
    let look = Daam::competing("hair");
    let run = |methods: Option<IpAdapter>| -> Result<Output> {
        let request = pipeline.request(PROMPT).seed(7).steps(8).guide(look.clone());
        methods.into_iter().fold(request, Request::guide).run()
    };
    let bare = run(None)?;
    let on_hair = run(Some(IpAdapter::new(&net, ImagePrompt::new(picture).on("hair")).strength(0.6)))?;
    let hair = bare.details::<DaamRun>("hair")?.map()?.expect("a map").ge(0.5).to_kind(Kind::Float);
    let change = (&on_hair.latents - &bare.latents).abs().mean_dim([1i64].as_slice(), true, Kind::Float);
    let mean =
        |mask: &Tensor| (&change * mask).sum(Kind::Float).double_value(&[]) / mask.sum(Kind::Float).double_value(&[]);
    let (inside, outside) = (mean(&hair), mean(&(1.0 - &hair)));
    assert!(inside > 1.5 * outside, "{inside} and {outside}");
    let message = refusal(&pipeline, IpAdapter::new(&net, ImagePrompt::new(picture).on("boat")));
    assert!(message.contains("boat"), "{message}");
    Ok(())
}

#[test]
fn images_of_a_batch_are_those_painted_alone() -> Result<()> {
    let (pipeline, net) = adapted()?;
    let [picture, _] = &pictures();
    let run = |batching| {
        let left = ImagePrompt::new(picture).within(Region::rect(0.0..0.5, 0.0..1.0));
        let request = pipeline.request(PROMPT).seed(7).steps(2).images(2).guide(IpAdapter::new(&net, left));
        request.tune(|config| config.batching = batching).run()
    };
    assert!(apart(&run(Batching::Together)?, &run(Batching::OneByOne)?) < 1e-3);
    Ok(())
}

/// The prompt's attention at the first cross-attention site.
#[derive(Default)]
struct First(Option<Tensor>);

impl CrossAttentionHook for First {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if site.is_cross() && branch == Branch::Cond { Interest::PROBS } else { Interest::NONE }
    }
    fn probs(&mut self, _: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        if self.0.is_none() {
            self.0 = Some(probs.columns(probs.tokens())?);
        }
        Ok(())
    }
}

#[test]
fn attention_to_words_stays_what_it_is() -> Result<()> {
    let (pipeline, net) = adapted()?;
    let (mut with, mut without) = (First::default(), First::default());
    let request = || pipeline.request(PROMPT).seed(7).steps(1);
    let _ = request().hook(&mut without).run()?;
    let _ = request().hook(&mut with).guide(IpAdapter::new(&net, &pictures()[0])).run()?;
    let change = (with.0.expect("a call") - without.0.expect("a call")).abs().max().double_value(&[]);
    assert!(change < 1e-6, "{change}");
    Ok(())
}

#[test]
fn run_without_guidance_has_no_tokens_of_nothing() -> Result<()> {
    let (pipeline, net) = adapted()?;
    let request = |scale| pipeline.request(PROMPT).seed(7).steps(1).guidance_scale(scale);
    for scale in [1.0, 4.0] {
        let bare = request(scale).run()?;
        let like = request(scale).guide(IpAdapter::new(&net, &pictures()[0])).run()?;
        assert!(apart(&bare, &like) > 0.01, "{scale}");
    }
    Ok(())
}

#[test]
fn pictures_act_beside_all_other_methods() -> Result<()> {
    let (pipeline, net) = adapted()?;
    let [picture, other] = &pictures();
    let run = |like: Option<IpAdapter>| -> Result<Output> {
        let request = pipeline
            .request(PROMPT)
            .negative("ugly")
            .seed(7)
            .steps(8)
            .guide(ColorForce::exact("hair", Rgb(255, 215, 0)))
            .guide(PaintWithWords::default().area(Area::mask(Region::rect(0.2..0.8, 0.5..1.0), "shirt")))
            .guide(Daam::of("eyes"))
            .guide(ReferenceColor::new(other).strength(0.5));
        like.into_iter().fold(request, Request::guide).run()
    };
    let like = IpAdapter::new(&net, picture).picture(ImagePrompt::new(other).on("shirt").strength(0.5)).strength(0.2);
    let (without, with) = (run(None)?, run(Some(like))?);
    assert!(apart(&without, &with) > 0.05, "{}", apart(&without, &with));
    let report = with.details::<ColorReport>("hair")?;
    assert!(report.painted[0].delta_e < 6.0, "CIEDE2000 {}", report.painted[0].delta_e);
    let map = with.details::<DaamRun>("eyes")?.map()?.expect("a map");
    assert_eq!((map.size(), with.latents.isfinite().all()), (vec![1, 1, 32, 32], Tensor::from(true)));
    let report = with.reports.iter().find(|report| report.name == "IpAdapter").expect("a report");
    assert_eq!((report.data["adapter"].as_str(), report.pictures.len()), (Some("random.safetensors"), 2));
    Ok(())
}

#[test]
fn settings_that_no_run_can_use_are_errors() -> Result<()> {
    let (pipeline, net) = adapted()?;
    let [picture, _] = &pictures();
    let like = || IpAdapter::new(&net, picture);
    let with = |prompt| IpAdapter::new(&net, prompt);
    let tokens = |shape: &[i64]| ImagePrompt::tokens(&Tensor::zeros(shape, (Kind::Float, Device::Cpu)));
    let tall = Region::new(Array2::zeros((64, 32)));
    let two = Region::each([Region::rect(0.0..0.5, 0.0..1.0), Region::rect(0.5..1.0, 0.0..1.0)]);
    for (method, says) in [
        (IpAdapter::pictures(&net, Vec::<ImagePrompt>::new()), "pictures is empty"),
        (IpAdapter::pictures(&net, vec![picture; 65]), "pictures is 65; expected at most 64"),
        (like().strength(f64::NAN), "strength is NaN"),
        (like().block("up_blocks.9", 1.0), "block is up_blocks.9"),
        (like().block("up_blocks", 11.0), "strength of a block is 11"),
        (with(ImagePrompt::new(picture).strength(0.5)), "give the picture a place"),
        (with(ImagePrompt::new(picture).within(tall)), "32 rows × 32 columns"),
        (with(ImagePrompt::new(picture).within(two)), "regions is 2 for 1 images"),
        (with(ImagePrompt::new(picture).within(Region::rect(0.5..0.2, 0.0..1.0))), "rect is"),
        (with(tokens(&[2, 4, 8])), "the tokens of one picture"),
        (with(tokens(&[1, 4, 3])), "as this IP-Adapter makes them"),
    ] {
        let message = refusal(&pipeline, method);
        assert!(message.contains(says), "{says}: {message}");
    }
    Ok(())
}

#[test]
fn adapter_of_another_model_is_refused() -> Result<()> {
    let model = Model::load(&Source::embedded())?;
    let own = shapes(&model);
    let message = |tensors: &Tensors| {
        model.ip_adapter(write(tensors, "other.safetensors"), &Source::embedded()).expect_err("a refusal").to_string()
    };
    let inputs = embedded(&model)?["image_proj.proj.weight"].size()[1];
    let sdxl = message(&plain(&[(640, 2048)], inputs));
    let width = own[0].1;
    assert!(sdxl.contains(&format!("the width 2048 (SDXL); expected {width}")), "{sdxl}");
    let fewer = message(&plain(&own[1..], inputs));
    assert!(fewer.contains(&format!("expected {}, as in this model", own.len())), "{fewer}");
    let mut wider = own.clone();
    wider[1].0 *= 2;
    let wider = message(&plain(&wider, inputs));
    assert!(wider.contains("ip_adapter.3.to_k_ip.weight has shape"), "{wider}");
    let tower = message(&plain(&own, 1024));
    assert!(tower.contains("wants an image encoder with embeddings of width 1024 (ViT-H)"), "{tower}");
    let pipeline = Pipeline::new(model);
    let message = refusal(&pipeline, IpAdapter::new(&toy()?, &pictures()[0]));
    assert!(message.contains("a model with 1 cross-attention sites"), "{message}");
    Ok(())
}

#[test]
fn other_files_are_refused_by_name() -> Result<()> {
    let model = Model::load(&Source::embedded())?;
    let adapter = write(&embedded(&model)?, "adapter.safetensors");
    for refusal in [Model::load(&Source::file(&adapter)).map(drop), Lora::open(&adapter).map(drop)] {
        let message = refusal.expect_err("no model").to_string();
        assert!(message.contains("an IP-Adapter") && message.contains("`Model::ip_adapter`"), "{message}");
    }
    let open = |path: &Path| model.ip_adapter(path, &Source::embedded()).expect_err("no adapter").to_string();
    let name = "lora_unet_mid_block_attentions_0_proj_in";
    let lora = Tensors::from([
        (format!("{name}.lora_down.weight"), draw("a", &[2, 8])),
        (format!("{name}.lora_up.weight"), draw("b", &[8, 2])),
    ]);
    let message = open(&write(&lora, "ink.safetensors"));
    assert!(message.contains("the file is a LoRA") && message.contains("Model::with_lora"), "{message}");
    let page = tempfile::tempdir().expect("a folder").keep().join("page.bin");
    std::fs::write(&page, "<!DOCTYPE html><html></html>").expect("a file");
    assert!(open(&page).contains("HTML"), "{}", open(&page));
    assert!(open(Path::new("nowhere.safetensors")).contains("nowhere.safetensors"));
    let encoder = model.ip_adapter(&adapter, &Source::file(&adapter)).expect_err("no image encoder").to_string();
    assert!(encoder.contains("no image encoder of CLIP"), "{encoder}");
    Ok(())
}

#[test]
fn forms_are_told_by_names_and_face_id_is_refused() -> Result<()> {
    let net = build(plus(8))?;
    let pixels = Tensor::ones([2, 3, 8, 8], (Kind::Float, Device::Cpu));
    assert_eq!((net.tokens(&pixels)?.size(), net.unconditional()?.size()), (vec![2, 3, 16], vec![1, 3, 16]));
    assert!(net.tokens(&pixels.narrow(2, 0, 4)).is_err());
    assert_eq!(toy()?.tokens(&pixels)?.size(), [2, 4, 16]);
    let rename = |from: &str, to: &str| {
        let renamed = plain(&[(16, 16)], 6).into_iter().map(|(name, x)| (name.replace(from, to), x));
        build(renamed.collect()).expect_err("a refusal").to_string()
    };
    for message in
        [rename("image_proj.proj.", "image_proj.proj.0."), rename("image_proj.", "image_proj.perceiver_resampler.")]
    {
        assert!(message.contains("FaceID") && message.contains("face recognizer"), "{message}");
    }
    assert!(rename("image_proj.", "image_projection.").contains("no projection of a known IP-Adapter"));
    assert!(rename("ip_adapter.1.", "ip_adapter.2.").contains("ip_adapter.1.to_k_ip.weight"));
    Ok(())
}

#[test]
fn broken_tensors_are_refused_by_name() {
    let message = |mut tensors: Tensors, change: &dyn Fn(&mut Tensors)| {
        change(&mut tensors);
        build(tensors).expect_err("a refusal").to_string()
    };
    let put = |name: &str, shape: &[i64]| {
        let (name, x) = (name.to_owned(), draw(name, shape));
        move |tensors: &mut Tensors| drop(tensors.insert(name.clone(), x.shallow_clone()))
    };
    let one = || plain(&[(16, 16)], 6);
    for (tensors, change, says) in [
        (one(), Box::new(put("ip_adapter.1.to_v_ip.weight", &[16, 8])) as Box<dyn Fn(&mut Tensors)>, "to_v_ip.weight"),
        (one(), Box::new(put("ip_adapter.1.to_k_ip.weight", &[16])), "expected a matrix"),
        (one(), Box::new(put("ip_adapter.2.to_k_ip.weight", &[16, 16])), "such as ip_adapter.2.to_k_ip.weight"),
        (one(), Box::new(put("image_proj.proj.weight", &[60, 6])), "expected a multiple of 16"),
        (one(), Box::new(put("image_proj.norm.weight", &[8])), "image_proj.norm.weight"),
        (one(), Box::new(|tensors| drop(tensors.remove("ip_adapter.1.to_v_ip.weight"))), "ip_adapter.1.to_v_ip.weight"),
        (one(), Box::new(put("image_proj.proj.weight", &[64, 9])), "width 9; the given one has 6"),
        (plus(8), Box::new(put("image_proj.latents", &[3, 12])), "expected [1, tokens, 12]"),
        (plus(8), Box::new(put("image_proj.layers.0.0.to_q.weight", &[60, 12])), "expected a multiple of 64"),
        (plus(8), Box::new(|tensors| drop(tensors.remove("image_proj.proj_in.weight"))), "has no image_proj.proj_in"),
        (plus(1280), Box::new(|_| {}), "with states of width 1280 (ViT-H); the given one has 8"),
        (
            one(),
            Box::new(|tensors| {
                tensors.insert("image_proj.proj.bias".into(), Tensor::full([64], f64::NAN, (Kind::Float, Device::Cpu)));
            }),
            "NaN or infinite weights",
        ),
    ] {
        let message = message(tensors, &*change);
        assert!(message.contains(says), "{says}: {message}");
    }
}
