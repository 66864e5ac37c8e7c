//! The options of the web UI, most of which a studio does not have.

use crate::arrival::in_time;
use crate::fields::Fields;
use crate::places::Place;
use crate::queue::{Api, Submission};
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::waiter::Waiter;
use crate::work::JSON;
use axum::extract::{Request, State};
use axum::{Extension, Json};
use serde_json::{Value, json};
use std::sync::Arc;

/// Answers with the options.
pub(super) async fn options(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({
        "sd_model_checkpoint": *shared.name(),
        "sd_checkpoint_hash": "",
        "sd_vae": "Automatic",
        "CLIP_stop_at_last_layers": shared.board.read().clip_skip,
        "samples_format": "png",
        "enable_pnginfo": true,
        "return_grid": false,
        "live_previews_enable": true,
        "show_progress_every_n_steps": 1,
        "show_progress_type": "Approx cheap",
        "img2img_background_color": "#ffffff",
    }))
}

/// Loads the model that is asked for, accepts the options that the studio has anyway, and names the others.
pub(super) async fn set(
    State(shared): State<Arc<Shared>>,
    Extension(place): Extension<Arc<Place>>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let state = Arc::clone(&shared);
    let arrive = async {
        let body = shared.work.read(request, JSON, shared.options.body).await?;
        let check = move || {
            let mut fields = Fields::parse(&body.bytes)?;
            let model = fields.word("sd_model_checkpoint")?.filter(|model| **model != *state.name());
            let choose = |asked: String| {
                let refuse = || Refusal::field("sd_model_checkpoint", state.unknown("sd_model_checkpoint", &asked));
                state.choose(&asked).ok_or_else(refuse)
            };
            let model = model.map(choose).transpose()?;
            let others: Vec<&str> = fields.names().collect();
            let note = format!("these options are not used: {}", others.join(", "));
            Ok((model, if others.is_empty() { vec![] } else { vec![note] }))
        };
        shared.work.run(check).await
    };
    let (model, notes) = in_time(shared.options.arrival, arrive).await?;
    if let Some(model) = model {
        let submission = Submission { model: Some(model), api: Api::WebUi, ..Submission::default() };
        Waiter::submit(&shared, place, submission)?.loaded().await?;
    }
    Ok(Json(json!({ "impasto": { "notes": notes } })))
}
