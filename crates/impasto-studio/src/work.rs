//! [`Work`]: the bodies of requests, and what is done with them beside the server's own threads.

use crate::options::Options;
use crate::refusal::Refusal;
use axum::body::HttpBody;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::StreamExt;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Number of requests that are parsed, or of pictures that are encoded, at the same time.
const AT_ONCE: usize = 2;
/// Number of the largest files that may be in memory at the same time.
const FILES: usize = 4;
/// Number of bytes that count as one in the semaphore for bodies.
const UNIT: usize = 1024;

/// Type of a body in JSON.
pub const JSON: &[&str] = &["application/json"];

/// Limits of the memory and the processor time that requests take at the same time.
pub struct Work {
    bodies: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

/// The body of a request. Its memory counts as taken until the value is dropped.
pub struct Body {
    pub bytes: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

/// Checks the type that a request gives its body.
fn expect_type(headers: &HeaderMap, expected: &[&str]) -> Result<(), Refusal> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()?.split(';').next());
    if given.is_some_and(|given| expected.iter().any(|expected| given.trim().eq_ignore_ascii_case(expected))) {
        return Ok(());
    }
    let sentence = format!("the body has another type; expected {}", expected.join(" or "));
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence))
}

impl Work {
    pub fn new(options: &Options) -> Self {
        let bodies = FILES.saturating_mul(options.file()).div_ceil(UNIT).min(Semaphore::MAX_PERMITS);
        Self { bodies: Arc::new(Semaphore::new(bodies)), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Reads a body of one of the types `kinds` and of at most `limit` bytes, as soon as there is memory for it.
    ///
    /// A larger body is read and dropped, up to some multiple of the limit. A client that sends its whole request
    /// before it reads the answer would otherwise see a broken connection in place of the reason.
    pub async fn read(&self, request: Request, kinds: &[&str], limit: usize) -> Result<Body, Refusal> {
        const DROPPED: usize = 8;
        expect_type(request.headers(), kinds)?;
        let body = request.into_body();
        let size = body.size_hint();
        let mut fits = size.lower() <= limit as u64;
        let most = size.upper().and_then(|most| usize::try_from(most).ok()).map_or(limit, |most| limit.min(most));
        let units = u32::try_from(most.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let room = if fits { Arc::clone(&self.bodies).acquire_many_owned(units).await.ok() } else { None };
        let (mut bytes, mut count, mut chunks) = (Vec::new(), 0, body.into_data_stream());
        while let Some(chunk) = chunks.next().await {
            let broken = |_| Refusal::wrong("the body of the request ended early; send it again");
            let chunk = chunk.map_err(broken)?;
            count += chunk.len();
            fits &= count <= limit;
            if fits {
                bytes.extend_from_slice(&chunk);
            } else {
                bytes = Vec::new();
                if count > limit.saturating_mul(DROPPED) {
                    break;
                }
            }
        }
        if !fits {
            return Err(Refusal::too_large(limit));
        }
        bytes.shrink_to_fit();
        Ok(Body { bytes, _room: room })
    }

    /// Runs work that takes memory and time, as soon as the work's turn comes, on a thread that may block.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.unwrap_or_else(|_| {
            let sentence = "the studio has a fault and could not answer this request; please report the request";
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, sentence))
        })
    }
}
