//! The web API of AUTOMATIC1111's stable-diffusion-webui, `/sdapi/v1`.
//!
//! Requests become jobs of the studio, and the answers are made from the finished jobs. Fields that the studio does not
//! use are named in the answer.
//!
//! Source: `modules/api` of stable-diffusion-webui 1.10.

mod answer;
mod common;
mod controlnet;
mod extras;
mod fill;
mod img2img;
mod lists;
mod options;
mod painting;
mod png_info;
mod progress;
mod refusal;
mod txt2img;

pub(crate) use refusal::describe_refusal;

use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::work::JSON;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use axum::{Json, Router};
use serde_json::json;
use std::sync::Arc;

/// Returns the routes that answer at once.
pub(crate) fn routes(shared: Arc<Shared>) -> Router {
    let router = lists::NAMES.iter().fold(Router::new(), |router, name| {
        let list = move |state: State<Arc<Shared>>| lists::list(state, name);
        router.route(&format!("/sdapi/v1/{name}"), get(list))
    });
    let router = lists::REFRESHED
        .iter()
        .fold(router, |router, name| router.route(&format!("/sdapi/v1/{name}"), post(|| async { Json(json!({})) })));
    let router = controlnet::LISTS.iter().fold(router, |router, name| {
        let list = move |state: State<Arc<Shared>>| controlnet::list(state, name);
        router.route(&format!("/controlnet/{name}"), get(list))
    });
    router
        .route("/internal/ping", get(|| async { Json(json!({})) }))
        .route("/sdapi/v1/progress", get(progress::progress))
        .route("/sdapi/v1/interrupt", post(progress::interrupt))
        .route("/sdapi/v1/skip", post(progress::interrupt))
        .route("/sdapi/v1/png-info", post(png_info::png_info))
        .route("/sdapi/v1/extra-single-image", post(extras::single))
        .route("/sdapi/v1/extra-batch-images", post(extras::batch))
        .route("/sdapi/v1/interrogate", refuse("the studio has no network that describes pictures"))
        .route("/sdapi/{*rest}", any(refuse_path))
        .method_not_allowed_fallback(refuse_method)
        .with_state(shared)
}

/// Returns the routes whose answers may wait for a job.
pub(crate) fn waiting_routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/sdapi/v1/options", get(options::options).post(options::set))
        .route("/sdapi/v1/txt2img", post(painting::txt2img))
        .route("/sdapi/v1/img2img", post(painting::img2img))
        .method_not_allowed_fallback(refuse_method)
        .with_state(shared)
}

async fn refuse_path(uri: Uri) -> Refusal {
    let sentence = format!("{} is not a part of the web UI's API that the studio has", uri.path());
    Refusal::new(StatusCode::NOT_FOUND, sentence)
}

/// Returns a route that reads a request and refuses it for a reason.
fn refuse(reason: &'static str) -> MethodRouter<Arc<Shared>> {
    post(move |State(shared): State<Arc<Shared>>, request: Request| async move {
        match shared.work.read(request, JSON, shared.options.body).await {
            Ok(_) => Refusal::new(StatusCode::NOT_IMPLEMENTED, reason),
            Err(refusal) => refusal,
        }
    })
}

/// Answers another method. The router adds the allowed ones.
async fn refuse_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("the method {method} is not allowed here")).into_response()
}
