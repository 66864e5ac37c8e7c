//! The options of the web UI, most of which a studio does not have.

use crate::fields::Fields;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::work::JSON;
use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Value, json};
use std::sync::Arc;

/// Answers with the options.
pub(super) async fn options(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({
        "sd_model_checkpoint": shared.name(),
        "sd_checkpoint_hash": "",
        "sd_vae": "Automatic",
        "CLIP_stop_at_last_layers": shared.clip_skip,
        "samples_format": "png",
        "enable_pnginfo": true,
        "return_grid": false,
        "live_previews_enable": true,
        "show_progress_every_n_steps": 1,
        "show_progress_type": "Approx cheap",
        "img2img_background_color": "#ffffff",
    }))
}

/// Accepts the options that the studio has anyway, and names the others.
pub(super) async fn set(State(shared): State<Arc<Shared>>, request: Request) -> Result<Json<Value>, Refusal> {
    let body = shared.work.read(request, JSON, shared.options.body).await?;
    let state = Arc::clone(&shared);
    let check = move || {
        let mut fields = Fields::parse(&body.bytes)?;
        if let Some(model) = fields.word("sd_model_checkpoint")?.filter(|model| model != state.name()) {
            let own = state.name();
            let sentence = format!(
                "the model {model:?} is not loaded; expected {own:?}; the program's option --model chooses another model"
            );
            return Err(Refusal::field("sd_model_checkpoint", sentence));
        }
        let others: Vec<&str> = fields.names().collect();
        let note = format!("these options are not used: {}", others.join(", "));
        Ok(Json(json!({ "impasto": { "notes": if others.is_empty() { vec![] } else { vec![note] } } })))
    };
    shared.work.run(check).await
}
