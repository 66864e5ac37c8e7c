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
    let (options, state) = (shared.limits(), Arc::clone(shared));
    let arrive = async {
        let body = shared.work.read(request, JSON, options.body).await?;
        let limits = options.clone();
        let understand = move || {
            let (mut order, wishes) = read(&body.bytes, &limits)?;
            order.model = wishes.model.as_deref().and_then(|model| state.choose(model));
            let note = ignore_clip_skip(&mut order, &state.board.read())?;
            let (submission, mut notes) = order.submission(Api::WebUi);
            notes.extend(note);
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

/// Takes the layer of CLIP out of an order if the model in use has no CLIP, and returns a note. The web UI ignores the
/// layer for such models, and its clients often ask for one. An order for another model stays as it is, because nothing
/// is known of a model before it is loaded.
fn ignore_clip_skip(order: &mut Order, model: &Described) -> Result<Option<String>, Refusal> {
    let is_for_another = order.model.as_deref().is_some_and(|name| *name != *model.name);
    if model.has_clip || is_for_another {
        return Ok(None);
    }
    let layer = order.take_clip_skip()?;
    Ok(layer.map(|layer| format!("the clip skip {layer} is not used: the model has no CLIP")))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Map, Value, json};

    /// Orders layer 2 of CLIP while the model "anima" is in use. Returns the note, and the layer that the job keeps.
    fn order_layer(has_clip: bool, model: Option<&str>) -> (Option<String>, Option<Value>) {
        let body = json!({ "prompt": "a boat", "override_settings": { "CLIP_stop_at_last_layers": 2 } });
        let (mut order, _) = txt2img::read(body.to_string().as_bytes(), &Options::default()).unwrap();
        order.model = model.map(str::to_owned);
        let described = Described {
            model: Arc::default(),
            name: "anima".into(),
            loras: Arc::default(),
            networks: Arc::default(),
            clip_skip: 1,
            has_clip,
            side: 1024,
        };
        let note = ignore_clip_skip(&mut order, &described).unwrap();
        let (submission, _) = order.submission(Api::WebUi);
        let mut job: Map<String, Value> = serde_json::from_slice(&submission.json).unwrap();
        assert_eq!(job.remove("prompt"), Some(json!("a boat")));
        (note, job.remove("clip_skip"))
    }

    #[test]
    fn clip_skip_is_left_out_for_models_without_clip() {
        let note = "the clip skip 2 is not used: the model has no CLIP";
        for model in [None, Some("anima")] {
            assert_eq!(order_layer(false, model), (Some(note.to_owned()), None));
        }
        let stays = (None, Some(json!(2)));
        assert_eq!(order_layer(false, Some("other")), stays, "nothing is known of another model");
        assert_eq!(order_layer(true, None), stays);
    }
}
