//! OpenAI's API for images, `/v1`.
//!
//! Requests become jobs of the studio, and the answers are made from the finished jobs. Fields that the studio does not
//! use are named in the answer.
//!
//! Source: the reference of OpenAI's API, "Images" and "Models".

mod answer;
mod common;
mod edits;
mod extra_args;
mod generations;
mod models;
mod multipart;
mod painting;
mod refusal;
mod stream;

pub(crate) use refusal::describe_refusal;

use crate::refusal::Refusal;
use crate::shared::Shared;
use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use std::sync::Arc;

/// Returns the routes that answer at once.
pub(crate) fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/models", get(models::models))
        .route("/v1/models/{name}", get(models::model))
        .route("/v1/{*rest}", any(refuse_path))
        .method_not_allowed_fallback(refuse_method)
        .with_state(shared)
}

/// Returns the routes whose answers wait for a job.
pub(crate) fn waiting_routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/images/generations", post(painting::generations))
        .route("/v1/images/edits", post(painting::edits))
        .method_not_allowed_fallback(refuse_method)
        .with_state(shared)
}

async fn refuse_path(uri: Uri) -> Refusal {
    let sentence = format!("{} is not a part of OpenAI's API that the studio has", uri.path());
    Refusal::new(StatusCode::NOT_FOUND, sentence)
}

/// Answers another method. The router adds the allowed ones.
async fn refuse_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("the method {method} is not allowed here")).into_response()
}
