//! Prompts that change from step to step, and those that `AND` combines.

use super::case::{Case, Result};
use super::{Outputs, runs};
use impasto::diffusion::{Noise, Predictions};
use impasto::guidance::GuidanceRun;
use impasto::prompt::{LoraTag, PromptSchedule, PromptSyntax, conjunction, networks};
use impasto::{Branch, Pipeline, Size, Step};
use serde_json::{Value, json};
use tch::{Device, Tensor};

/// Checks the texts of each step, the prompts that `AND` combines, and the tags of networks.
pub fn prompt_schedule(case: &Case) -> Result<Outputs> {
    let expected: Value = case.json(case.param::<String>("expected")?)?;
    let all = |name: &str| expected[name].as_array().cloned().unwrap_or_default();
    let same = |got: Value, want: &Value| -> Result<()> {
        if got == *want { Ok(()) } else { Err(format!("{want} is read as {got}").into()) }
    };
    for want in all("schedules") {
        let (prompt, steps, second) = (text(&want), count(&want["steps"]), want["hires_steps"].as_u64());
        let syntax = if want["old_scheduling"] == true { PromptSyntax::OldWebUi } else { PromptSyntax::WebUi };
        let schedule = match second {
            Some(second) => PromptSchedule::of_second_run(&prompt, syntax, steps, second as usize)?,
            None => PromptSchedule::new(&prompt, syntax, steps)?,
        };
        let mut got = want.clone();
        got["schedule"] = schedule.entries().map(|(end, text)| json!([end, text])).collect();
        got["parsed"] = json!(schedule.is_parsed());
        same(got, &want)?;
    }
    for want in all("used") {
        let (prompt, steps) = (text(&want), count(&want["steps"]));
        let schedule = PromptSchedule::new(&prompt, PromptSyntax::WebUi, steps)?;
        let texts: Vec<&str> = (0..steps).map(|step| schedule.at(step)).collect();
        same(json!({ "prompt": prompt, "steps": steps, "texts": texts }), &want)?;
    }
    for want in all("conjunction") {
        let parts = conjunction(&text(&want)).into_iter().map(|part| json!([part.text, part.weight]));
        same(json!({ "prompt": want["prompt"], "parts": parts.collect::<Value>() }), &want)?;
    }
    for want in all("networks") {
        let tags = networks(&text(&want));
        let lora = |LoraTag { name, text_strength, strength, .. }: &LoraTag| json!({ "name": name, "te": text_strength, "unet": strength });
        let loras: Value = tags.loras.iter().map(lora).collect();
        let got = json!({ "prompt": want["prompt"], "text": tags.text, "lora": loras, "ignored": tags.ignored });
        same(got, &want)?;
    }
    Ok(Vec::new())
}

fn text(case: &Value) -> String {
    case["prompt"].as_str().unwrap_or_default().to_owned()
}

fn count(value: &Value) -> usize {
    value.as_u64().unwrap_or_default() as usize
}

/// The latents at the beginning of every step but the first, each with its noise level.
#[derive(Default)]
struct Begins(Vec<(Tensor, f64)>);

impl GuidanceRun for Begins {
    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> impasto::Result<()> {
        if step.eval == 0 && step.index > 0 {
            let (x0, eps) = (predictions.x0(Branch::Cond)?, predictions.eps(Branch::Cond)?);
            self.0.push((x0 + eps * step.sigma, step.sigma));
        }
        Ok(())
    }
}

/// Computes a request whose prompts are in the syntax of the web UI.
pub fn pipeline_prompt(case: &Case) -> Result<Outputs> {
    let (_folder, model) = runs::assembled(case)?;
    let pipeline = Pipeline::new(model);
    let (width, height): (u32, u32) = (case.param("width")?, case.param("height")?);
    let text = |name| case.param::<Option<String>>(name);
    let (negative, second, second_negative) = (text("negative_prompt")?, text("prompt_2")?, text("negative_prompt_2")?);
    let (scale, rescale): (Option<f64>, Option<f64>) = (case.param("guidance_scale")?, case.param("guidance_rescale")?);
    let images: Option<usize> = case.param("num_images_per_prompt")?;
    let seed = case.param("seed")?;
    let mut begins = Begins::default();
    let request = pipeline.request(case.param::<String>("prompt")?).steps(case.param("num_inference_steps")?);
    let request = request.negative(negative.unwrap_or_default()).size(Size::new(width, height)).tune(|config| {
        (config.second_prompt, config.second_negative) = (second, second_negative);
        config.guidance_scale = scale.or(config.guidance_scale);
        config.guidance_rescale = rescale.unwrap_or_default();
        config.images = images.unwrap_or(1);
        config.noise = Some(Noise::shared(seed));
    });
    let output = request.attach(&mut begins).run()?;
    let steps = begins.0.iter().map(|(latent, level)| runs::observed(case, latent, *level));
    let steps: Vec<Tensor> = steps.chain([Ok(output.latents.shallow_clone())]).collect::<Result<_>>()?;
    let mut outputs = vec![
        ("latents".to_owned(), output.latents.shallow_clone()),
        ("step_latents".to_owned(), Tensor::stack(&steps, 0)),
    ];
    if case.wanted.contains_key("image") {
        let pictures = output.images.iter().map(|picture| picture.to_tensor(Device::Cpu));
        let pictures = Tensor::cat(&pictures.collect::<impasto::Result<Vec<_>>>()?, 0);
        outputs.push(("image".to_owned(), (pictures + 1.0) / 2.0));
    }
    Ok(outputs)
}
