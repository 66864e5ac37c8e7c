//! The progress of the first job of the web UI's API, and its end.

use crate::queue::{Api, Event};
use crate::shared::Shared;
use axum::Json;
use axum::extract::{RawQuery, State};
use serde_json::{Value, json};
use std::sync::Arc;

/// Answers with the progress of the first job that runs or waits.
pub(super) async fn progress(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Json<Value> {
    let load = shared.queue.load_of(Api::WebUi);
    let skips = query.unwrap_or_default().to_lowercase().split('&').any(|pair| pair == "skip_current_image=true");
    let (count, running) = load.as_ref().map_or((0, None), |load| (load.count, load.running));
    let event = load.map_or(Event::Cancelled, |load| load.event);
    let share = event.share();
    let (done, total, picture) = match event {
        Event::Step { done, total, picture, .. } => (done, total, Some(picture)),
        _ => (0, 0, None),
    };
    let seconds = running.map_or(0.0, |time| time.as_secs_f64());
    let left = if share > 0.0 { seconds / share - seconds } else { 0.0 };
    let picture = picture.as_deref().filter(|_| !skips).and_then(|url| url.split_once("base64,"));
    Json(json!({
        "progress": share,
        "eta_relative": left,
        "state": {
            "skipped": false,
            "interrupted": false,
            "stopping_generation": false,
            "job": if count > 0 { "impasto" } else { "" },
            "job_count": count,
            "job_timestamp": "0",
            "job_no": 0,
            "sampling_step": done,
            "sampling_steps": total,
        },
        "current_image": picture.map(|(_, encoded)| encoded),
        "textinfo": null,
    }))
}

/// Ends the job of this API that runs, with an unfinished picture. Jobs of the studio's own page go on. A job that runs
/// on another machine is cancelled.
pub(super) async fn interrupt(State(shared): State<Arc<Shared>>) -> Json<Value> {
    if let Some(load) = shared.queue.load_of(Api::WebUi).filter(|load| load.running.is_some()) {
        match &shared.relay {
            Some(_) => drop(shared.queue.cancel(load.first)),
            None => shared.queue.finish_early(load.first),
        }
    }
    Json(json!({}))
}
