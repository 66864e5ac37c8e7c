//! Models with flow matching: kinds `flow_force`, `single_file_flow` and `lora_flow`.

use super::runs::{assembled, grid, observed};
use super::{Case, Outputs, Result, device};
use impasto::attention::Tap;
use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Noise, Schedule};
use impasto::guidance::Cfg;
use impasto::mask::Region;
use impasto::methods::ColorForce;
use impasto::methods::color_force::{ForceRun, ForceTarget};
use impasto::nn::anima_conditioner::{AnimaConditioner, AnimaConditionerConfig};
use impasto::nn::cosmos::{CosmosConfig, CosmosTransformer};
use impasto::nn::mmdit::{Sd3Config, Sd3Transformer};
use impasto::nn::qwen_vae::{QwenVae, QwenVaeConfig};
use impasto::nn::qwen3::{Qwen3, Qwen3Config};
use impasto::nn::t5::{T5, T5Config};
use impasto::nn::{ClipText, ClipTextConfig, ConfigFile, Vae, VaeConfig};
use impasto::sampler::{Sampler, Start};
use impasto::weights::{Contents, Lora, ModelFamily, Parts, SingleFile, Tensors, Weights, read_folder};
use impasto::{Rgb, Step};
use ndarray::Array2;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, Tensor};

#[derive(Deserialize)]
struct Force {
    rgb: [u8; 3],
    color_var: f64,
}

/// Computes color forcing with given masks in a flow model's run.
pub fn flow_force(case: &Case) -> Result<Outputs> {
    let (_folder, model) = assembled(case)?;
    let (prompt, negative): (String, Option<String>) = (case.param("prompt")?, case.param("negative_prompt")?);
    let target: Option<String> = case.param("target")?;
    let table = model.training_schedule();
    let times: Vec<f64> = case.param("levels")?;
    let sigmas: Vec<f64> = times.iter().map(|t| table.sigma_of(1000.0 * t)).collect();
    let schedule = Schedule::from_sigmas(table, &sigmas)?;
    // The published window ends at Stable Diffusion's timestep 700.
    let is_forced = |step: &Step| step.sd_timestep <= 700.0;
    let active: Vec<i64> = schedule.steps().filter(is_forced).map(|step| step.index as i64).collect();
    let forces: Vec<Force> = case.param("forces")?;
    let name = |i: usize| format!("force {i}");
    let mut sampler = Sampler::new(schedule, Euler).combine(Cfg(case.param("guidance_scale")?));
    for (i, Force { rgb: [r, g, b], color_var }) in forces.iter().enumerate() {
        let mask = case.input(&format!("mask.{i}"))?;
        let (h, w) = mask.size2()?;
        let values = Array2::from_shape_vec((h as usize, w as usize), Vec::<f32>::try_from(&mask.flatten(0, -1))?)?;
        let force = ColorForce::published(name(i), Rgb(*r, *g, *b))
            .saliency(Region::rect(0.0..1.0, 0.0..1.0))
            .mask(Region::new(values))
            .color_var(*color_var);
        sampler = sampler.guide(match target.as_deref() {
            Some("denoised") => force.tune(|options| options.target = ForceTarget::Denoised),
            _ => force,
        });
    }
    let mut start = Start::new(&prompt, grid(case)?, Noise::shared(case.param("seed")?));
    start.negative = negative.as_deref().unwrap_or_default();
    let mut run = sampler.start(&model, start)?;
    let mut steps = Vec::new();
    while let Some(progress) = run.step()? {
        steps.push(observed(case, run.latent(), progress.step.to)?);
    }
    let latents = run.finish()?.shallow_clone();
    let details = run.into_details()?;
    let mut outputs = vec![
        ("latents".to_owned(), latents),
        ("step_latents".to_owned(), Tensor::stack(&steps, 0)),
        ("active".to_owned(), Tensor::from_slice(&active)),
    ];
    for i in 0..forces.len() {
        let force: &ForceRun = details.get(&name(i))?;
        outputs.push((format!("gold.{i}"), force.gold_latent().shallow_clone()));
    }
    Ok(outputs)
}

/// Computes the networks of a case's model for the case's inputs. `part` gives configuration and weights of a part.
fn outputs(case: &Case, mut part: impl FnMut(&str) -> Result<(String, Tensors)>) -> Result<Outputs> {
    let mut outputs = Outputs::new();
    for role in case.models.keys() {
        let (config, tensors) = part(role)?;
        let names: BTreeSet<String> = tensors.keys().cloned().collect();
        let (file, w) = ("config.json", Weights::new(role.as_str(), tensors, Kind::Float, device()));
        let rows = |name: &str| -> Result<(Tensor, Vec<i64>)> {
            let x = case.input(name)?.shallow_clone();
            let (rows, length) = (x.size()[0], x.size()[1]);
            Ok((x, vec![length; rows as usize]))
        };
        match role.as_str() {
            "transformer" if names.contains("pos_embed.pos_embed") => {
                let transformer = Sd3Transformer::new(&w, &Sd3Config::from_json(file, &config)?)?;
                let [sample, time, context, pooled] =
                    ["sample", "timestep", "encoder_hidden_states", "pooled"].map(|name| case.input(name));
                let velocity = transformer.forward(sample?, time?, context?, pooled?, &[], &mut Tap::none())?;
                outputs.push(("velocity".into(), velocity));
            }
            "transformer" => {
                let transformer = CosmosTransformer::new(&w, &CosmosConfig::from_json(file, &config)?)?;
                let [sample, time, context] =
                    ["sample", "timestep", "encoder_hidden_states"].map(|name| case.input(name));
                let velocity = transformer.forward(sample?, time?, context?, &mut Tap::none())?;
                outputs.push(("velocity".into(), velocity));
            }
            "text_conditioner" => {
                let conditioner = AnimaConditioner::new(&w, &AnimaConditionerConfig::from_json(file, &config)?)?;
                let ((source, sources), (ids, targets)) = (rows("source")?, rows("target_ids")?);
                let context = conditioner.forward(&source, &sources, &ids, &targets)?;
                outputs.push(("context".into(), context.narrow(1, 0, targets[0])));
            }
            "text_encoder" | "text_encoder_2" if names.contains("text_model.final_layer_norm.weight") => {
                let clip = ClipText::new(&w, &ClipTextConfig::from_json(file, &config)?)?;
                let states = clip.forward(case.input("clip_ids")?)?;
                let penultimate = states.before_last(1).ok_or("one layer")?.shallow_clone();
                outputs.push((format!("{role}.penultimate"), penultimate));
                outputs.push((format!("{role}.text_embeds"), states.text_embeds.ok_or("no projection")?));
            }
            "text_encoder_3" => {
                let t5 = T5::new(&w, &T5Config::from_json(file, &config)?)?;
                outputs.push(("text_3.last_hidden_state".into(), t5.states(case.input("input_ids")?)?));
            }
            "text_encoder" => {
                let qwen = Qwen3::new(&w, &Qwen3Config::from_json(file, &config)?)?;
                let (ids, lengths) = rows("input_ids")?;
                let states = qwen.forward(&ids, &lengths)?;
                let last = states.last().ok_or("no states")?.shallow_clone();
                outputs.push(("text.last_hidden_state".into(), last));
            }
            "vae" if names.contains("encoder.conv_norm_out.weight") => {
                let vae = Vae::new(&w, &VaeConfig::from_json(file, &config)?)?;
                outputs.push(("mean".into(), vae.encode(case.input("image")?)?.mean));
                outputs.push(("decoded".into(), vae.decode(case.input("latents")?)?));
            }
            "vae" => {
                let vae = QwenVae::new(&w, &QwenVaeConfig::from_json(file, &config)?)?;
                outputs.push(("mean".into(), vae.encode(case.input("image")?)?.mean));
                outputs.push(("decoded".into(), vae.decode(case.input("latents")?)?));
            }
            other => return Err(format!("unknown part {other}").into()),
        }
        assert_eq!(w.report().unused, [], "{role}");
    }
    Ok(outputs)
}

/// Returns the text of a part's own configuration.
fn config(case: &Case, part: &str) -> Result<String> {
    Ok(std::fs::read_to_string(case.model(part)?.join("config.json"))?)
}

/// Computes the networks of single files in ComfyUI's layout, with the configurations that the files show.
pub fn single_file_flow(case: &Case) -> Result<Outputs> {
    let files: BTreeMap<String, String> = case.param("files")?;
    let open = |role: &str| -> Result<SingleFile> {
        let file = files.get("all").or(files.get(role)).ok_or("no such file")?;
        Ok(SingleFile::open(&case.dir.join(file))?)
    };
    outputs(case, |part| {
        let file: SingleFile = match part {
            "transformer" | "text_conditioner" => open("diffusion_models"),
            "text_encoder" => open("text_encoders"),
            other => open(other),
        }?;
        let tensors = file.part(part)?.ok_or_else(|| format!("no {part} in the file"))?;
        let family = match file.contents() {
            Ok(Contents::Model { family, .. }) => family,
            _ => ModelFamily::Anima,
        };
        let derived = file.config(part, family)?.ok_or("no configuration")?;
        // Shapes show neither CLIP's number of heads nor the VAE's groups, which are those of the published networks.
        let is_hidden = |name: &&str| tensors.contains_key(*name);
        let hides = ["text_model.final_layer_norm.weight", "encoder.conv_norm_out.weight"].iter().any(is_hidden);
        Ok((if hides { config(case, part)? } else { derived }, tensors))
    })
}

/// Computes models changed by LoRAs.
pub fn lora_flow(case: &Case) -> Result<Outputs> {
    #[derive(Deserialize)]
    struct Scaled {
        file: String,
        scale: f64,
    }
    let mut parts = Parts::new();
    for (role, folder) in &case.models {
        let (_, tensors, _) = read_folder(folder, None)?.ok_or("no weights")?;
        parts.insert(role.clone(), tensors);
    }
    let open = |Scaled { file, scale }| -> Result<Lora> { Ok(Lora::open(case.dir.join(file as String))?.scale(scale)) };
    let loras = case.param::<Vec<Scaled>>("files")?.into_iter().map(open).collect::<Result<Vec<_>>>()?;
    assert_eq!(Lora::merge(&loras, &mut parts)?, [""; 0]);
    outputs(case, |part| Ok((config(case, part)?, parts.remove(part).ok_or("no such part")?)))
}
