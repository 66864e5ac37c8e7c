//! The lists of what a client can choose: models, samplers, schedulers and others.

use crate::refusal::Refusal;
use crate::shared::Shared;
use axum::Json;
use axum::extract::State;
use impasto::diffusion::solver;
use serde_json::{Value, json};
use std::sync::Arc;

/// Names of the lists.
pub(super) const NAMES: &[&str] = &[
    "sd-models",
    "samplers",
    "schedulers",
    "loras",
    "upscalers",
    "latent-upscale-modes",
    "sd-vae",
    "sd-modules",
    "hypernetworks",
    "face-restorers",
    "realesrgan-models",
    "prompt-styles",
    "embeddings",
    "memory",
    "scripts",
    "script-info",
    "extensions",
    "cmd-flags",
];

/// Names of the requests to read a folder again. The studio has nothing to read again.
pub(super) const REFRESHED: &[&str] =
    &["refresh-checkpoints", "refresh-vae", "refresh-loras", "refresh-embeddings", "reload-checkpoint"];

/// Names of the ways to enlarge a picture.
pub(super) const UPSCALERS: &[&str] = &["None", "Lanczos"];

/// Spacings of noise levels by the web UI's names and labels, and those that only this crate has by their own.
pub(super) const SCHEDULERS: &[(&str, &str)] = &[
    ("automatic", "Automatic"),
    ("uniform", "Uniform"),
    ("karras", "Karras"),
    ("exponential", "Exponential"),
    ("polyexponential", "Polyexponential"),
    ("sgm_uniform", "SGM Uniform"),
    ("kl_optimal", "KL Optimal"),
    ("align_your_steps", "Align Your Steps"),
    ("simple", "Simple"),
    ("normal", "Normal"),
    ("ddim", "DDIM"),
    ("beta", "Beta"),
    ("leading", "Leading"),
    ("linspace", "Linspace"),
    ("trailing", "Trailing"),
    ("beta_timesteps", "Beta timesteps"),
    ("align_your_steps_xl", "Align Your Steps XL"),
];

/// Answers with the list of a name.
pub(super) async fn list(State(shared): State<Arc<Shared>>, name: &'static str) -> Result<Json<Value>, Refusal> {
    let state = Arc::clone(&shared);
    shared.work.run(move || Ok(Json(describe(&state, name)))).await
}

fn describe(shared: &Shared, name: &str) -> Value {
    match name {
        "sd-models" => {
            let one = |name: &String| {
                json!({
                    "title": name, "model_name": name, "hash": null, "sha256": null, "filename": name, "config": null,
                })
            };
            shared.names().iter().map(one).collect()
        }
        "samplers" => {
            solver::labels().map(|label| json!({ "name": label, "aliases": [], "options": {} })).collect::<Value>()
        }
        "schedulers" => {
            let one = |(name, label): &(&str, &str)| {
                let rho = (*name == "karras").then_some(7.0);
                json!({
                    "name": name, "label": label, "aliases": [], "default_rho": rho, "need_inner_model": false,
                })
            };
            SCHEDULERS.iter().map(one).collect()
        }
        "loras" => {
            let one = |name: &String| json!({ "name": name, "alias": name, "path": name, "metadata": {} });
            shared.board.read().loras.iter().map(one).collect()
        }
        "upscalers" => UPSCALERS
            .iter()
            .map(|name| json!({ "name": name, "model_name": null, "model_path": null, "model_url": null, "scale": 4 }))
            .collect(),
        "latent-upscale-modes" => json!([{ "name": "Latent (bicubic)" }]),
        "embeddings" => json!({ "loaded": {}, "skipped": {} }),
        "memory" => {
            let unknown = json!({ "error": "the studio does not measure memory" });
            json!({ "ram": unknown, "cuda": unknown })
        }
        "scripts" => json!({ "txt2img": ["impasto"], "img2img": ["impasto"] }),
        "script-info" => [false, true]
            .iter()
            .map(|is_img2img| {
                let argument = json!({ "label": "fields of a job", "value": {} });
                json!({ "name": "impasto", "is_alwayson": true, "is_img2img": is_img2img, "args": [argument] })
            })
            .collect(),
        "cmd-flags" => json!({}),
        _ => json!([]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheduler_is_a_spacing_of_the_library() {
        for (name, label) in SCHEDULERS {
            for written in [name, label] {
                let spacing = solver::by_name(&format!("Euler {written}")).map(|(_, spacing)| spacing.is_some());
                assert_eq!(spacing.ok(), Some(*name != "automatic"), "{written}");
            }
        }
    }
}
