//! The time in which a request has to arrive.

use crate::refusal::Refusal;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::future::Future;
use std::time::Duration;

/// Refuses a request that has not arrived, or has not been answered, in time.
pub(crate) async fn refuse_late(State(arrival): State<Duration>, request: Request, next: Next) -> Response {
    in_time(arrival, async { Ok(next.run(request).await) }).await.unwrap_or_else(IntoResponse::into_response)
}

/// Waits for the part of an answer that has to be done in the time for a request's arrival.
///
/// # Errors
/// The refusals of `part`, and one after the time.
pub(crate) async fn in_time<T>(
    arrival: Duration,
    part: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    tokio::time::timeout(arrival, part).await.unwrap_or_else(|_| {
        let sentence = format!("the request took longer than {arrival:?}; send it again, or send less");
        Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, sentence))
    })
}
