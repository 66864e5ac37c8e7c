//! The routes of the API.

use crate::outputs::{Name, Outputs};
use crate::places::Place;
use crate::queue::{Description, Event, Submission};
use crate::refusal::Refusal;
use crate::request::JobRequest;
use crate::shared::Shared;
use crate::wording::Page;
use crate::work::JSON;
use crate::{OPENAPI, page};
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio_stream::wrappers::WatchStream;

/// The numbers in a path.
struct InPath<T>(T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        Path::from_request_parts(parts, state).await.map(|Path(numbers)| Self(numbers)).map_err(|_| {
            let sentence = format!("{} has no valid number; expected a path such as /api/jobs/1", parts.uri.path());
            Refusal::new(StatusCode::NOT_FOUND, sentence)
        })
    }
}

/// Largest number of pictures that a list of the folder of outputs has.
const LISTED: usize = 40;

/// Returns the routes. The server adds the limits and the guard.
pub fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/model", get(model).post(load))
        .route("/api/jobs", get(jobs).post(submit))
        .route("/api/jobs/{id}", get(job).delete(cancel))
        .route("/api/jobs/{id}/events", get(events))
        .route("/api/jobs/{id}/pictures/{index}", get(picture))
        .route("/api/outputs", get(outputs))
        .route("/api/outputs/{file}", get(output))
        .route("/api/outputs/{file}/report", get(output_report))
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

async fn model(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Refusal> {
    let state = Arc::clone(&shared);
    shared.work.run(move || Ok(Json(state.describe()))).await
}

/// A model that a client chooses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chosen {
    name: String,
}

/// Adds a job that loads a model.
async fn load(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Refusal> {
    let body = shared.work.read(request, JSON, shared.options.body).await?;
    let state = Arc::clone(&shared);
    let check = move || {
        let Chosen { name } = impasto::json::parse(&body.bytes).map_err(|error| Refusal::wrong(error.to_string()))?;
        state.choose(&name).ok_or_else(|| Refusal::field("name", state.unknown("name", &name)))
    };
    let model = Some(shared.work.run(check).await?);
    let accepted = shared.submit(Submission { model, ..Submission::default() })?;
    Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
}

async fn submit(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Refusal> {
    let body = shared.work.read(request, JSON, shared.options.body).await?;
    let options = shared.limits();
    let check = move || {
        let JobRequest { job, live, .. } = JobRequest::parse(&body.bytes, &options, &Page).map_err(Refusal::wrong)?;
        let prompt = job.config.prompt;
        Ok(Submission { json: body.bytes, prompt, live, ..Submission::default() })
    };
    let submission = shared.work.run(check).await?;
    let accepted = shared.accept(submission).await?;
    Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
}

async fn jobs(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.queue.jobs().iter().map(state).collect())
}

async fn job(State(shared): State<Arc<Shared>>, InPath(id): InPath<u64>) -> Result<Json<Value>, Refusal> {
    shared.queue.job(id).map(|job| Json(with_result(&job))).ok_or_else(|| Refusal::no_job(id))
}

/// Describes a job.
fn state(job: &Description) -> Value {
    let (state, detail) = match &job.event {
        Event::Queued { position } => ("queued", Some(("position", json!(position)))),
        Event::Started | Event::Step { .. } => ("running", None),
        Event::Finished(_) => ("finished", None),
        Event::Loaded => ("loaded", None),
        Event::Failed(error) => ("failed", Some(("error", json!(**error)))),
        Event::Cancelled => ("cancelled", None),
    };
    let mut described = json!({
        "id": job.id,
        "state": state,
        "prompt": *job.prompt,
        "live": job.live.as_deref(),
    });
    if let (Some((name, detail)), Some(fields)) = (detail, described.as_object_mut()) {
        fields.insert(name.into(), detail);
    }
    described
}

/// Describes a job with its result, if it is finished.
fn with_result(job: &Description) -> Value {
    let mut described = state(job);
    if let (Event::Finished(finished), Some(fields)) = (&job.event, described.as_object_mut()) {
        fields.insert("result".into(), finished.result.clone());
    }
    described
}

async fn cancel(State(shared): State<Arc<Shared>>, InPath(id): InPath<u64>) -> Result<StatusCode, Refusal> {
    if shared.queue.cancel(id) { Ok(StatusCode::NO_CONTENT) } else { Err(Refusal::no_job(id)) }
}

async fn events(
    State(shared): State<Arc<Shared>>,
    Extension(place): Extension<Arc<Place>>,
    InPath(id): InPath<u64>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Refusal> {
    let permit = shared.permit()?;
    let listener = shared.queue.listen(id).ok_or_else(|| Refusal::no_job(id))?;
    let kept = (permit, place.keep());
    let events = WatchStream::new(listener.events.clone());
    // The stream ends after the last event of the job.
    let queue = Arc::clone(&shared.queue);
    let told = events.flat_map(move |event| {
        let _ = &kept;
        let end = event.is_last().then_some(None);
        let described = listener.describe(event);
        stream::iter([Some(message(&described, queue.is_closed()))].into_iter().chain(end))
    });
    let told = told.take_while(|event| std::future::ready(event.is_some()));
    Ok(Sse::new(told.filter_map(|event| std::future::ready(event.map(Ok)))).keep_alive(KeepAlive::default()))
}

/// An event of a job as the page receives it. `closing` is true while the studio ends.
fn message(job: &Description, closing: bool) -> sse::Event {
    let (name, data) = match &job.event {
        Event::Queued { position } => ("queued", json!({ "position": position })),
        Event::Started => ("started", json!({})),
        Event::Step { part, parts, done, total, picture } => {
            ("step", json!({ "part": part, "parts": parts, "done": done, "total": total, "picture": **picture }))
        }
        Event::Finished(_) => ("finished", with_result(job)),
        Event::Loaded => ("loaded", json!({})),
        Event::Failed(error) => ("failed", json!({ "error": **error })),
        Event::Cancelled => ("cancelled", json!({ "closing": closing })),
    };
    sse::Event::default().event(name).data(data.to_string())
}

async fn picture(
    State(shared): State<Arc<Shared>>,
    InPath((id, index)): InPath<(u64, usize)>,
) -> Result<Response, Refusal> {
    let Some(Event::Finished(finished)) = shared.queue.job(id).map(|job| job.event) else {
        return Err(Refusal::no_job(id));
    };
    let encode = move || {
        let count = finished.count();
        let png = finished.png(index).map_err(|error| {
            let sentence = format!("the picture cannot be written: {}", error.worded(&Page));
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, sentence)
        })?;
        let sentence = || format!("job {id} has no picture {index}; it has {count} pictures, counted from 0");
        png.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, sentence()))
    };
    let png = shared.work.run(encode).await?;
    Ok(([(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, "no-store")], png).into_response())
}

/// Lists pictures of the folder of outputs, the newest first. The query `before=FILE` asks for older ones than a file.
async fn outputs(State(shared): State<Arc<Shared>>, uri: Uri) -> Result<Json<Value>, Refusal> {
    let folder = folder(&shared)?;
    let before = uri.query().and_then(|query| query.split('&').find_map(|part| part.strip_prefix("before=")));
    let before = before.map(named).transpose()?;
    let list = move || {
        folder.list(before, LISTED).map_err(|error| {
            let sentence =
                format!("the folder of outputs cannot be read: {error}; restart the studio with another folder");
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, sentence)
        })
    };
    let names = shared.work.run(list).await?;
    let described = names.iter().map(|name| {
        let file = name.to_string();
        let url = format!("/api/outputs/{file}");
        json!({ "file": file, "url": url, "time": name.time, "image": name.image, "seed": name.seed })
    });
    Ok(Json(json!({ "pictures": described.collect::<Vec<_>>(), "most": LISTED })))
}

async fn output(State(shared): State<Arc<Shared>>, InPath(file): InPath<String>) -> Result<Response, Refusal> {
    let (folder, name) = (folder(&shared)?, named(&file)?);
    let png = shared.work.run(move || folder.read(name).map_err(|error| missing(name, &error))).await?;
    Ok(([(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, "no-store")], png).into_response())
}

async fn output_report(
    State(shared): State<Arc<Shared>>,
    InPath(file): InPath<String>,
) -> Result<Json<Value>, Refusal> {
    let (folder, name) = (folder(&shared)?, named(&file)?);
    shared.work.run(move || folder.report(name).map_err(|error| missing(name, &error))).await.map(Json)
}

/// Returns the folder of outputs.
///
/// # Errors
/// A refusal by a studio without such a folder.
fn folder(shared: &Shared) -> Result<Outputs, Refusal> {
    shared.outputs.clone().ok_or_else(|| {
        let sentence = "the studio writes no pictures into a folder; start it with --outputs FOLDER";
        Refusal::new(StatusCode::NOT_FOUND, sentence)
    })
}

/// Reads the name of a file of the folder of outputs.
///
/// # Errors
/// A refusal of any name that the studio does not write.
fn named(file: &str) -> Result<Name, Refusal> {
    file.parse().map_err(|()| {
        let sentence = format!("{file} is no picture of the studio; expected a name that /api/outputs lists");
        Refusal::new(StatusCode::NOT_FOUND, sentence)
    })
}

/// Refuses a picture that the folder of outputs lacks, or that cannot be read.
fn missing(name: Name, error: &impasto::Error) -> Refusal {
    let sentence = format!("{name} cannot be read from the folder of outputs: {}", error.worded(&Page));
    Refusal::new(StatusCode::NOT_FOUND, sentence)
}

async fn recipe(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Refusal> {
    let kinds = &["image/png", "image/jpeg", "image/webp"];
    let body = shared.work.read(request, kinds, shared.options.file()).await?;
    let options = shared.limits();
    let read = move || {
        let restored = JobRequest::from_picture(&body.bytes, &options).map_err(Refusal::wrong)?;
        serde_json::to_vec(&restored).map_err(|error| Refusal::wrong(error.to_string()))
    };
    let json = shared.work.run(read).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

async fn health(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Value>) {
    let alive = shared.alive.load(Ordering::Relaxed);
    let (waiting, running) = shared.queue.load();
    let status = if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "alive": alive, "waiting": waiting, "running": running > 0 })))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let (waiting, running) = shared.queue.load();
    let mut text = shared.queue.metrics.text(waiting, running);
    if let Some(relay) = &shared.relay {
        text += &relay.metrics().await;
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
