//! Requests for pictures, which wait for their jobs.

use super::common::Wishes;
use super::{answer, img2img, txt2img};
use crate::arrival::in_time;
use crate::described::Described;
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
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Reads a body as an order.
type Read = fn(&[u8], &Options) -> Result<(Order, Wishes), Refusal>;

/// Answers with pictures from a prompt.
pub(super) async fn txt2img(
    State(shared): State<Arc<Shared>>,
    Extension(place): Extension<Arc<Place>>,
    request: Request,
) -> Result<Response, Refusal> {
    paint(&shared, place, request, txt2img::read).await
}

/// Answers with pictures from a picture.
pub(super) async fn img2img(
    State(shared): State<Arc<Shared>>,
    Extension(place): Extension<Arc<Place>>,
    request: Request,
) -> Result<Response, Refusal> {
    paint(&shared, place, request, img2img::read).await
}

async fn paint(shared: &Arc<Shared>, place: Arc<Place>, request: Request, read: Read) -> Result<Response, Refusal> {
    let (options, state) = (shared.options.clone(), Arc::clone(shared));
    let arrive = async {
        let body = shared.work.read(request, JSON, options.body).await?;
        let limits = options.clone();
        let understand = move || {
            let (mut order, wishes) = read(&body.bytes, &limits)?;
            order.model = wishes.model.as_deref().and_then(|model| state.choose(model));
            let (submission, notes) = order.submission(Api::WebUi);
            Ok((submission, notes, wishes))
        };
        shared.work.run(understand).await
    };
    let (submission, mut notes, wishes) = in_time(options.arrival, arrive).await?;
    note_model(shared, submission.model.is_some(), &wishes, &mut notes);
    let finished = Waiter::submit(shared, place, submission)?.finish().await?;
    let json = shared.work.run(move || answer::write(&finished, &wishes, notes)).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// Notes a model, or a layer of its text encoder, that the studio does not use.
fn note_model(shared: &Shared, is_chosen: bool, wishes: &Wishes, notes: &mut Vec<String>) {
    let Described { name, clip_skip: layer, .. } = shared.board.read();
    if let Some(other) = wishes.model.as_deref().filter(|model| !is_chosen && **model != *name) {
        notes.push(format!("sd_model_checkpoint is not used: the studio has {name:?}, and not {other:?}"));
    }
    if let Some(other) = wishes.clip_skip.filter(|other| *other <= 1 && layer > 1) {
        notes.push(format!("the clip skip {other} is not used: the model reads layer {layer} from the last"));
    }
}
