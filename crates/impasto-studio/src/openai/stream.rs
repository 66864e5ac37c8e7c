//! [`stream`]: the events of a request for pictures, with partial pictures.

use super::answer::{encode, now, size};
use super::common::Wishes;
use super::refusal::describe_refusal;
use crate::finished::Finished;
use crate::queue::Event;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::waiter::Waiter;
use axum::response::sse;
use futures_util::{Stream, StreamExt, stream as streams};
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use std::sync::Arc;

/// A stream of events that has not ended.
struct Running {
    shared: Arc<Shared>,
    waiter: Waiter,
    /// Beginning of the events' names: `image_generation` or `image_edit`.
    kind: &'static str,
    wishes: Arc<Wishes>,
    notes: Vec<String>,
    /// Number of partial pictures that were sent.
    sent: usize,
}

/// Returns the events of a job: partial pictures, then each finished one.
pub(super) fn stream(
    shared: Arc<Shared>,
    waiter: Waiter,
    kind: &'static str,
    wishes: Wishes,
    notes: Vec<String>,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    let running = Running { shared, waiter, kind, wishes: Arc::new(wishes), notes, sent: 0 };
    let told = streams::unfold(Some(running), |running| async {
        match running?.next().await {
            Ok((events, running)) => Some((events, running)),
            Err(refusal) => Some((vec![message("error", &describe_refusal(&refusal))], None)),
        }
    });
    told.flat_map(|events| streams::iter(events.into_iter().map(Ok)))
}

impl Running {
    /// Waits for the next events, and returns them with the rest of the stream, if it goes on.
    async fn next(mut self) -> Result<(Vec<sse::Event>, Option<Self>), Refusal> {
        loop {
            let event = self.waiter.next().await?;
            let share = event.share();
            match event {
                Event::Finished(finished) => return Ok((self.complete(finished).await?, None)),
                Event::Step { picture, .. } => {
                    let most = self.wishes.partial.unwrap_or_default();
                    // Partial pictures stand at equal shares of the run.
                    let due = ((most + 1) as f64 * share) as usize;
                    let Some((_, encoded)) = picture.split_once("base64,").filter(|_| self.sent < due.min(most)) else {
                        continue;
                    };
                    let event = self.event("partial_image", encoded, "auto", "png", |fields| {
                        fields.insert("partial_image_index".into(), self.sent.into());
                    });
                    self.sent += 1;
                    return Ok((vec![event], Some(self)));
                }
                _ => {}
            }
        }
    }

    /// Returns the events of the finished pictures.
    async fn complete(self, finished: Arc<Finished>) -> Result<Vec<sse::Event>, Refusal> {
        let (all, wishes) = (Arc::clone(&finished), Arc::clone(&self.wishes));
        let write = move || (0..all.count()).map(|index| encode(&all, index, &wishes)).collect::<Result<Vec<_>, _>>();
        let encoded = self.shared.work.run(write).await?;
        let summary = finished.summary(self.notes.clone());
        let none = json!({
            "input_tokens": 0,
            "input_tokens_details": { "image_tokens": 0, "text_tokens": 0 },
            "output_tokens": 0,
            "total_tokens": 0,
        });
        let complete = |picture: &String| {
            self.event("completed", picture, &size(&finished), self.wishes.format_name(), |fields| {
                fields.insert("usage".into(), none.clone());
                fields.insert("impasto".into(), summary.clone());
            })
        };
        Ok(encoded.iter().map(complete).collect())
    }

    /// Returns an event with a picture in base64, and further fields.
    fn event(
        &self,
        name: &str,
        picture: &str,
        size: &str,
        format: &str,
        add: impl FnOnce(&mut Map<String, Value>),
    ) -> sse::Event {
        let name = format!("{}.{name}", self.kind);
        let mut event = json!({
            "type": name,
            "b64_json": picture,
            "created_at": now(),
            "size": size,
            "quality": "auto",
            "background": "opaque",
            "output_format": format,
        });
        event.as_object_mut().map(add);
        message(&name, &event)
    }
}

/// Returns an event with a name.
fn message(name: &str, data: &Value) -> sse::Event {
    sse::Event::default().event(name).data(data.to_string())
}
