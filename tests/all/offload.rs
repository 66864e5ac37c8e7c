//! `LoadOptions::offload`: weights that stay in their files, and the pictures of such models.

use impasto::hint::{Drawing, Sketch, Strokes};
use impasto::weights::{Lora, Tensors, write_safetensors};
use impasto::{Control, LoadOptions, Model, Pipeline, Raster, Result, Rgb, Source};
use std::path::Path;
use tch::{Device, Kind, Tensor};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/impasto-tiny/model");

fn load(offload: bool, kind: Kind) -> Result<Model> {
    let mut options = LoadOptions::default();
    options.offload = offload;
    options.precision = kind.into();
    Model::load_with(&Source::dir(MODEL), options)
}

fn latents(model: Model) -> Result<Tensor> {
    let pipeline = Pipeline::new(model);
    Ok(pipeline.request("1girl, eyes").seed(1).steps(2).run()?.latents.shallow_clone())
}

/// Returns the kinds of a part's matrices and kernels, and the kinds of its vectors, without repetitions.
fn kinds(model: &Model, part: &str) -> Result<[Vec<Kind>; 2]> {
    let tensors = model.tensors(part).expect("the part");
    Ok([true, false].map(|wide| {
        let mut kinds: Vec<Kind> = tensors.values().filter(|x| (x.dim() > 1) == wide).map(Tensor::kind).collect();
        kinds.dedup();
        kinds
    }))
}

#[test]
fn offloaded_model_paints_the_same_picture() -> Result<()> {
    for kind in [Kind::Float, Kind::BFloat16] {
        let (plain, offloaded) = (load(false, kind)?, load(true, kind)?);
        assert_eq!(kinds(&plain, "unet")?, [[kind], [kind]]);
        assert_eq!(kinds(&offloaded, "unet")?, [[Kind::Half], [kind]], "the file is in f16");
        assert_eq!(kinds(&offloaded, "vae")?, [[kind], [kind]], "the VAE is not offloaded");
        assert_eq!(offloaded.identity()?.fingerprint, plain.identity()?.fingerprint);
        let shared = offloaded.share()?;
        assert_eq!(kinds(&shared, "unet")?, [[Kind::Half], [kind]]);
        let picture = latents(plain)?;
        assert_eq!(latents(offloaded)?, picture);
        assert_eq!(latents(shared)?, picture);
    }
    Ok(())
}

#[test]
fn lora_on_offloaded_model_keeps_the_files_kind() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ink.safetensors");
    let offloaded = load(true, Kind::Float)?;
    let unet = offloaded.tensors("unet").expect("a UNet");
    let key = unet.keys().find(|name| name.ends_with("attn2.to_k.weight")).expect("cross-attention").clone();
    let (rows, columns) = unet[&key].size2()?;
    let name = key.trim_end_matches(".weight");
    let ones = |shape: [i64; 2]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
    let tensors = [("lora_A", ones([1, columns])), ("lora_B", ones([rows, 1]))];
    let tensors: Tensors = tensors.map(|(end, x)| (format!("unet.{name}.{end}.weight"), x)).into();
    write_safetensors(&tensors, &path)?;
    let lora = [Lora::open(&path)?.scale(0.5)];
    let [inked, plain] = [offloaded.with_lora(&lora)?, load(false, Kind::Float)?.with_lora(&lora)?];
    let weight = |model: &Model| Ok::<_, impasto::Error>(model.tensors("unet").expect("a UNet")[&key].shallow_clone());
    assert_eq!(weight(&inked)?, weight(&plain)?.to_kind(Kind::Half));
    let (without, [inked, plain]) = (latents(offloaded)?, [latents(inked)?, latents(plain)?]);
    let apart = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
    assert!(apart(&inked, &plain) < 0.1 * apart(&without, &plain), "only the LoRA's rounding differs");
    Ok(())
}

#[test]
fn offloaded_controlnet_has_the_same_effect() -> Result<()> {
    let strokes = Strokes::new((64, 64)).line([(8.0, 8.0), (40.0, 8.0)], 3.0, Rgb(255, 99, 71));
    let mut paper = Raster::flat(Rgb(255, 255, 255), (64, 64));
    (10..50).for_each(|x| paper.set(x, 32, Rgb(0, 0, 0)));
    let drawing = Drawing { sketch: Sketch::of_line_art(&paper)?, strokes };
    let paint = |offload| -> Result<Tensor> {
        let pipeline = Pipeline::new(load(offload, Kind::Float)?);
        let net = pipeline.model().controlnet(&Source::dir(Path::new(MODEL).join("controlnet")))?;
        let control = Control::drawing(&net, &drawing);
        Ok(pipeline.request("1girl, eyes").seed(1).steps(2).control(control).run()?.latents.shallow_clone())
    };
    assert_eq!(paint(true)?, paint(false)?);
    Ok(())
}
