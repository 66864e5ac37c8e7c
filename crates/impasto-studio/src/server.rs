//! [`Studio`]: the server.

use crate::api::{self, Shared};
use crate::guard::{self, Guard};
use crate::options::Options;
use crate::queue::Queue;
use crate::refusal::Refusal;
use crate::worker;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use impasto::Pipeline;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower_http::timeout::TimeoutLayer;

/// Time that open connections have to end after the studio was told to end.
const LAST: Duration = Duration::from_secs(5);
/// Pause after the system could not accept a connection, for example for lack of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// An error of a studio.
#[derive(Debug, thiserror::Error)]
pub enum StudioError {
    /// The address cannot be bound to.
    #[error("the studio cannot bind to {0}: {1}; choose another port")]
    Bind(SocketAddr, #[source] std::io::Error),
    /// The address is beyond the loopback interface, and no token is set.
    #[error("other machines can reach the address {0}; expected a token, so set one, or use 127.0.0.1")]
    NoToken(SocketAddr),
    /// The token is empty, or has a character that an address or a cookie cannot hold.
    #[error("the token is empty or has a forbidden character; expected letters, digits and any of `-_.`")]
    Token,
    /// The model cannot be used.
    #[error(transparent)]
    Model(impasto::Error),
}

/// Refuses a request that announces more than `limit` bytes.
///
/// The body is read and dropped first, up to some multiple of the limit. A client that sends its whole request before
/// it reads the answer would otherwise see a broken connection in place of the reason.
async fn refuse_large(State(limit): State<usize>, request: Request, next: Next) -> Response {
    const DROPPED: usize = 8;
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_none_or(|length: usize| length <= limit) {
        return next.run(request).await;
    }
    let (mut body, mut left) = (request.into_body().into_data_stream(), limit.saturating_mul(DROPPED));
    while let Some(Ok(chunk)) = body.next().await
        && left > 0
    {
        left = left.saturating_sub(chunk.len());
    }
    Refusal::too_large(limit).into_response()
}

/// A studio that is bound to its address and has its model.
pub struct Studio {
    listener: TcpListener,
    address: SocketAddr,
    queue: Arc<Queue>,
    router: Router,
    connections: usize,
    arrival: Duration,
}

impl std::fmt::Debug for Studio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Studio").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Studio {
    /// Binds to the address of `options` and starts the worker, which takes the pipeline.
    ///
    /// # Errors
    /// - [`StudioError::NoToken`] for an address beyond the loopback interface without a token.
    /// - [`StudioError::Token`] for a token of other characters than letters, digits, `-`, `_` and `.`.
    /// - [`StudioError::Bind`] if the address is taken or not this machine's.
    /// - [`StudioError::Model`] if the model's ControlNet cannot be loaded.
    pub async fn bind(pipeline: Pipeline, options: Options) -> Result<Self, StudioError> {
        if !options.address.ip().is_loopback() && options.token.is_none() {
            return Err(StudioError::NoToken(options.address));
        }
        if let Some(token) = &options.token
            && (token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)))
        {
            return Err(StudioError::Token);
        }
        let bound = TcpListener::bind(options.address).await;
        let listener = bound.map_err(|error| StudioError::Bind(options.address, error))?;
        let address = listener.local_addr().map_err(|error| StudioError::Bind(options.address, error))?;
        let model = api::describe(pipeline.model(), &options).map_err(StudioError::Model)?;
        let queue = Arc::new(Queue::new(&options));
        let worker = worker::start(pipeline, Arc::clone(&queue), &options).map_err(StudioError::Model)?;
        let alive = Arc::new(AtomicBool::new(true));
        let (ended, watched) = (Arc::clone(&alive), Arc::clone(&queue));
        tokio::task::spawn_blocking(move || {
            // The worker ends when the queue is closed, or by a fault of this program.
            let _ = worker.join();
            ended.store(false, Ordering::Relaxed);
            watched.close();
        });
        let guard = Arc::new(Guard { address, token: options.token.clone() });
        let (body, arrival, connections) = (options.body, options.arrival, options.connections);
        let shared = Arc::new(Shared { queue: Arc::clone(&queue), options, model, alive });
        let router = api::routes(shared)
            .layer(DefaultBodyLimit::max(body))
            .layer(middleware::from_fn_with_state(body, refuse_large))
            .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, arrival))
            .layer(middleware::from_fn_with_state(guard, guard::check));
        Ok(Self { listener, address, queue, router, connections, arrival })
    }

    /// Returns the address that the studio is bound to.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `end`. Then waiting jobs are cancelled, a running job ends at its next step, and open
    /// connections have five seconds to end.
    pub async fn serve(self, end: impl Future<Output = ()> + Send) {
        let slots = Arc::new(Semaphore::new(self.connections));
        let graceful = GracefulShutdown::new();
        let mut end = std::pin::pin!(end);
        loop {
            // A connection waits in the system's queue until another one has ended.
            let accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (self.listener.accept().await, slot)
            };
            let (accepted, slot) = tokio::select! {
                accepted = accepted => accepted,
                () = &mut end => break,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(BREATH).await;
                continue;
            };
            let service = TowerToHyperService::new(self.router.clone());
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.arrival)
                .serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                // A connection that was cut off is no fault of the studio.
                let _ = connection.await;
                drop(slot);
            });
        }
        self.queue.close();
        let _ = tokio::time::timeout(LAST, graceful.shutdown()).await;
    }
}

/// Ends the worker, also that of a studio that was never served.
impl Drop for Studio {
    fn drop(&mut self) {
        self.queue.close();
    }
}
