//! The list of models, which has the studio's own.

use crate::refusal::Refusal;
use crate::shared::Shared;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

/// Answers with the list of models.
pub(super) async fn models(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({ "object": "list", "data": [describe(&shared)] }))
}

/// Answers with the model of a name.
pub(super) async fn model(
    State(shared): State<Arc<Shared>>,
    name: Option<Path<String>>,
) -> Result<Json<Value>, Refusal> {
    if name.is_some_and(|Path(name)| name == shared.name()) {
        return Ok(Json(describe(&shared)));
    }
    let sentence = format!("the model is not loaded; expected {:?}", shared.name());
    Err(Refusal { field: Some("model"), ..Refusal::new(StatusCode::NOT_FOUND, sentence) })
}

fn describe(shared: &Shared) -> Value {
    json!({ "id": shared.name(), "object": "model", "created": 0, "owned_by": "impasto" })
}
