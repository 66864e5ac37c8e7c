//! Models that were distilled to few steps.

use impasto::weights::{Lora, Tensors};
use impasto::{Model, Pipeline, Result, Source};
use std::path::Path;
use tch::Tensor;

/// A LoRA that changes nothing, in a file of this name.
fn lora(file: &str) -> Result<Lora> {
    let module = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q";
    let [down, up] = [[2, 80], [80, 2]].map(|shape| Tensor::zeros(shape, tch::kind::FLOAT_CPU));
    let tensors = [("lora_down.weight", down), ("lora_up.weight", up)];
    Lora::of(file, tensors.map(|(ending, x)| (format!("{module}.{ending}"), x)).into_iter().collect::<Tensors>())
}

#[test]
fn lora_for_few_steps_sets_sampler_and_scale() -> Result<()> {
    let model = Model::load(&Source::embedded())?;
    assert_eq!((model.defaults().steps, model.defaults().guidance_scale), (28, 5.5));
    let ordinary = model.with_lora(&[lora("ink.safetensors")?])?;
    assert_eq!((ordinary.defaults(), ordinary.scheduler()), (model.defaults(), model.scheduler()));

    let pipeline = Pipeline::new(model.with_lora(&[lora("lcm-lora-sdv1-5.safetensors")?, lora("ink.safetensors")?])?);
    let output = pipeline.request("a red boat").seed(7).size((64, 64)).run()?;
    let recipe = output.recipe();
    assert_eq!((recipe.config.steps, recipe.config.guidance_scale), (Some(4), Some(1.0)));
    assert_eq!((recipe.solver_name.as_str(), output.timing.steps.len()), ("Lcm", 4));
    let note = "4 steps of LCM and a guidance scale of 1";
    assert!(output.notes.iter().any(|told| told.to_string().contains(note)), "{:?}", output.notes);

    let chosen = pipeline.request("a red boat").seed(7).size((64, 64)).steps(2).solver_named("Euler").run()?;
    assert_eq!((chosen.recipe().solver_name.as_str(), chosen.timing.steps.len()), ("Euler", 2));
    Ok(())
}

#[test]
fn name_of_a_folder_sets_steps_not_its_sampler() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model"), folder.path());
    let to = to.join("tiny-lcm");
    super::embedded_model::copy(&from, &to);
    std::fs::remove_file(to.join("impasto.json")).expect("removed");
    let model = Model::load(&Source::dir(&to))?;
    assert_eq!((model.defaults().steps, model.defaults().guidance_scale), (4, 1.0));
    assert_eq!(model.scheduler().class_name, "EulerDiscreteScheduler");
    std::fs::write(to.join("impasto.json"), r#"{ "steps": 9 }"#).expect("written");
    assert_eq!(Model::load(&Source::dir(&to))?.defaults().steps, 9);
    Ok(())
}

#[test]
fn embedded_fast_model_paints_in_four_steps() -> Result<()> {
    let pipeline = Pipeline::builder().source(Source::embedded_fast()).build()?;
    let output = pipeline.request("a red house, green ground, navy sky, masterpiece").seed(7).run()?;
    assert_eq!((output.timing.steps.len(), output.recipe().config.guidance_scale), (4, Some(1.0)));
    assert!(output.notes.iter().any(|note| note.to_string().contains("does not know \"masterpiece\"")));
    let mean = |rows: std::ops::Range<usize>| -> [f64; 3] {
        let (part, mut sums) = (&output.images[0].bytes()[rows.start * 768..rows.end * 768], [0.0; 3]);
        part.iter().enumerate().for_each(|(at, byte)| sums[at % 3] += f64::from(*byte));
        sums
    };
    let ([sky_red, sky_green, sky_blue], [_, ground_green, ground_blue]) = (mean(0..40), mean(220..256));
    assert!(sky_blue > 1.5 * sky_red.max(sky_green), "the sky is navy: {sky_red:.0} {sky_green:.0} {sky_blue:.0}");
    assert!(ground_green > 1.5 * ground_blue, "the ground is green: {ground_green:.0} {ground_blue:.0}");
    Ok(())
}
