//! The list of models that a client can choose.

use crate::refusal::Refusal;
use crate::shared::Shared;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

/// Answers with the list of models.
pub(super) async fn models(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Refusal> {
    let state = Arc::clone(&shared);
    let names = shared.work.run(move || Ok(state.names())).await?;
    let models: Vec<Value> = names.iter().map(|name| describe(name)).collect();
    Ok(Json(json!({ "object": "list", "data": models })))
}

/// Answers with the model of a name.
pub(super) async fn model(
    State(shared): State<Arc<Shared>>,
    name: Option<Path<String>>,
) -> Result<Json<Value>, Refusal> {
    let state = Arc::clone(&shared);
    let names = shared.work.run(move || Ok(state.names())).await?;
    let asked = name.map(|Path(name)| name).unwrap_or_default();
    if names.contains(&asked) {
        return Ok(Json(describe(&asked)));
    }
    let sentence = shared.unknown("model", &asked);
    Err(Refusal { field: Some("model"), ..Refusal::new(StatusCode::NOT_FOUND, sentence) })
}

fn describe(name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": 0, "owned_by": "impasto" })
}
