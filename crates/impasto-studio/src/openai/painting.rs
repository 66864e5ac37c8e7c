//! Requests for pictures, which wait for their jobs.

use super::common::Wishes;
use super::{answer, edits, generations, stream};
use crate::arrival::in_time;
use crate::options::Options;
use crate::order::Order;
use crate::places::Place;
use crate::queue::Api;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::waiter::Waiter;
use crate::work::JSON;
use axum::Extension;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Reads a body with its type as an order.
type Read = fn(&str, &[u8], &Options) -> Result<(Order, Wishes), Refusal>;

/// A kind of request.
struct Kind {
    /// Beginning of the names of its events.
    name: &'static str,
    /// Types of its body.
    types: &'static [&'static str],
    read: Read,
}

/// Answers with pictures from a prompt.
pub(super) async fn generations(
    State(shared): State<Arc<Shared>>,
    Extension(place): Extension<Arc<Place>>,
    request: Request,
) -> Result<Response, Refusal> {
    let read = |_: &str, body: &[u8], options: &Options| generations::read(body, options);
    paint(shared, place, request, Kind { name: "image_generation", types: JSON, read }).await
}

/// Answers with pictures from a picture.
pub(super) async fn edits(
    State(shared): State<Arc<Shared>>,
    Extension(place): Extension<Arc<Place>>,
    request: Request,
) -> Result<Response, Refusal> {
    let kind = Kind { name: "image_edit", types: &["multipart/form-data"], read: edits::read };
    paint(shared, place, request, kind).await
}

/// Returns the text of a header.
fn text(request: &Request, name: HeaderName) -> String {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

async fn paint(shared: Arc<Shared>, place: Arc<Place>, request: Request, kind: Kind) -> Result<Response, Refusal> {
    let Kind { name, types, read } = kind;
    let (site, typed) = (format!("http://{}", text(&request, header::HOST)), text(&request, header::CONTENT_TYPE));
    let (options, state) = (shared.limits(), Arc::clone(&shared));
    let arrive = async {
        let body = shared.work.read(request, types, options.body).await?;
        let limits = options.clone();
        let understand = move || {
            let (mut order, wishes) = read(&typed, &body.bytes, &limits)?;
            order.model = wishes.model.as_deref().and_then(|model| state.choose(model));
            let (submission, notes) = order.submission(Api::OpenAi);
            Ok((submission, notes, wishes))
        };
        shared.work.run(understand).await
    };
    let (submission, mut notes, wishes) = in_time(options.arrival, arrive).await?;
    let (own, is_chosen) = (shared.name(), submission.model.is_some());
    if let Some(other) = wishes.model.as_deref().filter(|model| !is_chosen && **model != *own) {
        notes.push(format!("model is not used: the studio has {own:?}, and not {other:?}"));
    }
    let waiter = Waiter::submit(&shared, place, submission)?;
    if wishes.partial.is_some() {
        let events = stream::stream(shared, waiter, name, wishes, notes);
        return Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response());
    }
    let finished = waiter.finish().await?;
    let json = shared.work.run(move || answer::write(&finished, &wishes, &site, notes)).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}
