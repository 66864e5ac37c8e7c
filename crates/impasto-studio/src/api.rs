//! The routes of the API.

use crate::options::Options;
use crate::painting;
use crate::queue::{Event, NotAccepted, Queue};
use crate::refusal::Refusal;
use crate::request::JobRequest;
use crate::{OPENAPI, page};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, StreamExt, stream};
use impasto::diffusion::solver;
use impasto::{Codec, Model};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_stream::wrappers::WatchStream;

/// The state that every handler sees.
pub struct Shared {
    pub queue: Arc<Queue>,
    pub options: Options,
    /// The answer of `/api/model`.
    pub model: Value,
    /// False once the worker has ended.
    pub alive: Arc<AtomicBool>,
}

/// Returns the routes. The server adds the limits and the guard.
pub fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/model", get(model))
        .route("/api/jobs", post(submit))
        .route("/api/jobs/{id}", get(job).delete(cancel))
        .route("/api/jobs/{id}/events", get(events))
        .route("/api/jobs/{id}/pictures/{index}", get(picture))
        .route("/api/recipes", post(recipe))
        .route("/api/health", get(health))
        .route("/api/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) }))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(|| async {
            let sentence = "this method is not allowed here; the API is described at /api/openapi.json";
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, sentence)
        })
        .fallback(|uri: Uri| async move { page::file(uri.path()) })
        .with_state(shared)
}

/// Describes a model and the limits of a request.
pub fn describe(model: &Model, options: &Options) -> impasto::Result<Value> {
    let defaults = model.defaults();
    Ok(json!({
        "name": model.identity()?.name,
        "width": defaults.width,
        "height": defaults.height,
        "multiple": model.cell(),
        "steps": impasto::pipeline::RequestConfig::default().steps,
        "guidance_scale": defaults.guidance_scale,
        "samplers": solver::labels().collect::<Vec<_>>(),
        "colorizes": model.colorizes(),
        "draws": painting::draws(model),
        "limits": {
            "side": options.side,
            "steps": options.steps,
            "images": options.images,
            "body": options.body,
            "queue": options.queue,
        },
    }))
}

async fn model(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.model.clone())
}

async fn submit(
    State(shared): State<Arc<Shared>>,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(body) = body.map_err(|rejection| match rejection {
        JsonRejection::BytesRejection(rejection) => unread(&rejection, &shared.options),
        JsonRejection::MissingJsonContentType(_) => {
            Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body has another type; expected application/json")
        }
        fault => Refusal::wrong(fault.body_text()),
    })?;
    let request = JobRequest::read(body, &shared.options).map_err(Refusal::wrong)?;
    if !shared.alive.load(Ordering::Relaxed) {
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the worker has ended; restart the studio"));
    }
    let accepted = shared.queue.submit(request).map_err(|reason| match reason {
        NotAccepted::Full(waiting) => {
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, format!("{waiting} jobs wait already; try again in a second"))
        }
        NotAccepted::Closed => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the studio is being closed"),
    })?;
    Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
}

/// Returns the refusal for a body that could not be read.
fn unread(rejection: &BytesRejection, options: &Options) -> Refusal {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::too_large(options.body),
        status => Refusal::new(status, rejection.body_text()),
    }
}

async fn job(State(shared): State<Arc<Shared>>, Path(id): Path<u64>) -> Result<Json<Value>, Refusal> {
    shared.queue.event(id).map(|event| Json(state(id, &event))).ok_or_else(|| Refusal::no_job(id))
}

/// Describes a job.
fn state(id: u64, event: &Event) -> Value {
    match event {
        Event::Queued { position } => json!({ "id": id, "state": "queued", "position": position }),
        Event::Started | Event::Step { .. } => json!({ "id": id, "state": "running" }),
        Event::Finished(finished) => json!({ "id": id, "state": "finished", "result": finished.result }),
        Event::Failed(error) => json!({ "id": id, "state": "failed", "error": **error }),
        Event::Cancelled => json!({ "id": id, "state": "cancelled" }),
    }
}

async fn cancel(State(shared): State<Arc<Shared>>, Path(id): Path<u64>) -> Result<StatusCode, Refusal> {
    if shared.queue.cancel(id) { Ok(StatusCode::NO_CONTENT) } else { Err(Refusal::no_job(id)) }
}

async fn events(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<u64>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Refusal> {
    let events = shared.queue.events(id).ok_or_else(|| Refusal::no_job(id))?;
    // The stream ends after the last event of the job.
    let told = WatchStream::new(events).flat_map(move |event| {
        let end = event.is_last().then_some(None);
        stream::iter([Some(message(id, &event))].into_iter().chain(end))
    });
    let told = told.take_while(|event| std::future::ready(event.is_some()));
    Ok(Sse::new(told.filter_map(|event| std::future::ready(event.map(Ok)))).keep_alive(KeepAlive::default()))
}

/// An event of a job as the page receives it.
fn message(id: u64, event: &Event) -> sse::Event {
    let (name, data) = match event {
        Event::Queued { position } => ("queued", json!({ "position": position })),
        Event::Started => ("started", json!({})),
        Event::Step { done, total, picture } => ("step", json!({ "done": done, "total": total, "picture": **picture })),
        Event::Finished(_) => ("finished", state(id, event)),
        Event::Failed(error) => ("failed", json!({ "error": **error })),
        Event::Cancelled => ("cancelled", json!({})),
    };
    sse::Event::default().event(name).data(data.to_string())
}

async fn picture(
    State(shared): State<Arc<Shared>>,
    Path((id, index)): Path<(u64, usize)>,
) -> Result<Response, Refusal> {
    let Some(Event::Finished(finished)) = shared.queue.event(id) else { return Err(Refusal::no_job(id)) };
    let missing = || {
        let count = finished.pictures.len();
        Refusal::new(
            StatusCode::NOT_FOUND,
            format!("job {id} has no picture {index}; it has {count} pictures, counted from 0"),
        )
    };
    let png = finished.pictures.get(index).ok_or_else(missing)?.clone();
    Ok(([(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, "no-store")], png).into_response())
}

async fn recipe(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<JobRequest>, Refusal> {
    if headers
        .get(header::CONTENT_TYPE)
        .is_none_or(|kind| !["image/png", "image/jpeg", "image/webp"].iter().any(|known| kind == known))
    {
        let sentence = "the body has another type; expected image/png, image/jpeg or image/webp";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence));
    }
    let png = body.map_err(|rejection| unread(&rejection, &shared.options))?;
    JobRequest::from_png(&png, &shared.options).map(Json).map_err(Refusal::wrong)
}

async fn health(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Value>) {
    let alive = shared.alive.load(Ordering::Relaxed);
    let (waiting, running) = shared.queue.load();
    let status = if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "alive": alive, "waiting": waiting, "running": running })))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let (waiting, running) = shared.queue.load();
    let text = shared.queue.metrics.text(waiting, running);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
