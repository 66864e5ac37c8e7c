//! [`Studio`]: the server.

use crate::connection::Connection;
use crate::engine::Engine;
use crate::guard::{self, Guard};
use crate::options::Options;
use crate::outputs::Outputs;
use crate::painting::Painter;
use crate::places::{Places, Taken};
use crate::queue::Queue;
use crate::relay::Relay;
use crate::shared::Shared;
use crate::work::Work;
use crate::{api, arrival, dialect, openai, sdapi, worker};
use axum::{Extension, Router, middleware};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;

/// Time that open connections have to end after the studio was told to end.
const LAST: Duration = Duration::from_secs(5);
/// Time in which the first request of a connection must begin to be answered.
const FIRST: Duration = Duration::from_secs(5);
/// Upper bound of [`Options::arrival`]. The server adds the time to the present one, which may not overflow.
const LONGEST_ARRIVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// Number of clients that the system lets wait to be accepted. Further ones have to try again after a second.
const QUEUE: u32 = 4096;
/// Pause after the system could not accept a connection for lack of file descriptors or memory.
const BREATH: Duration = Duration::from_millis(100);
/// Time between two checks for jobs whose listeners have left.
const CHECK: Duration = Duration::from_millis(500);

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
    /// A folder of pictures cannot be found.
    #[error("the folder {folder} cannot be used: {1}; create it, or give another one", folder = .0.display())]
    Folder(PathBuf, #[source] std::io::Error),
    /// A client does not begin as the Model Context Protocol says.
    #[error("the client does not speak the protocol: {0}")]
    Protocol(String),
    /// The queue of [`Studio::bind_to_queue`] does not answer.
    #[error(transparent)]
    Queue(impasto_worker::QueueError),
    /// The model cannot be used.
    #[error(transparent)]
    Model(impasto::Error),
}

/// Listens at an address, with a queue for clients that come while all connections are taken.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As `TcpListener::bind` does: the address can be bound again at once after a restart.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

/// Returns true if a client or its network broke a connection off before it was accepted. Other failures are for a lack
/// of file descriptors or memory.
fn is_of_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Kind;
    let broken = matches!(error.kind(), Kind::ConnectionAborted | Kind::ConnectionRefused | Kind::ConnectionReset);
    let unreachable = matches!(error.kind(), Kind::HostUnreachable | Kind::NetworkDown | Kind::NetworkUnreachable);
    broken || unreachable || error.kind() == Kind::Interrupted
}

/// A studio that is bound to its address and has its model.
pub struct Studio {
    listener: TcpListener,
    address: SocketAddr,
    queue: Arc<Queue>,
    router: Router,
    places: Arc<Places>,
    arrival: Duration,
    abandoned: Option<Duration>,
}

impl std::fmt::Debug for Studio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Studio").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Studio {
    /// Binds to the address of `options` and starts the worker, which takes the engine, or the pipeline.
    ///
    /// # Errors
    /// - [`StudioError::NoToken`] for an address beyond the loopback interface without a token.
    /// - [`StudioError::Token`] for a token of other characters than letters, digits, `-`, `_` and `.`.
    /// - [`StudioError::Bind`] if the address is taken or not this machine's.
    /// - [`StudioError::Folder`] if the folder of outputs cannot be read.
    /// - [`StudioError::Model`] if the model's ControlNet cannot be loaded, or a folder of LoRAs cannot be read.
    pub async fn bind(engine: impl Into<Engine>, options: Options) -> Result<Self, StudioError> {
        Self::bind_with(engine.into(), options, None).await
    }

    /// Binds to the address of `options`, as [`bind`](Self::bind) does. The jobs are painted by the workers of `queue`
    /// that have the model of the name `model`, and survive an end of the studio. The engine only describes this model
    /// and its networks.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind), and [`StudioError::Queue`] if the queue does not answer.
    pub async fn bind_to_queue(
        engine: impl Into<Engine>,
        options: Options,
        queue: impasto_worker::Queue,
        model: impl Into<String>,
    ) -> Result<Self, StudioError> {
        Self::bind_with(engine.into(), options, Some(Relay { queue, model: model.into() })).await
    }

    async fn bind_with(engine: Engine, options: Options, relay: Option<Relay>) -> Result<Self, StudioError> {
        if !options.address.ip().is_loopback() && options.token.is_none() {
            return Err(StudioError::NoToken(options.address));
        }
        if let Some(token) = &options.token
            && (token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)))
        {
            return Err(StudioError::Token);
        }
        // The workers of a queue have one model.
        let engine = if relay.is_some() { Engine { choice: None, ..engine } } else { engine };
        let limits = Options { side: options.side_to_read(&engine), ..options.clone() };
        let outputs = options
            .outputs
            .as_deref()
            .map(|folder| Outputs::of(folder, &limits).map_err(|error| StudioError::Folder(folder.into(), error)));
        let outputs = outputs.transpose()?;
        let listener = listen(options.address).map_err(|error| StudioError::Bind(options.address, error))?;
        let address = listener.local_addr().map_err(|error| StudioError::Bind(options.address, error))?;
        let painter = Painter::new(engine, true, &options).map_err(StudioError::Model)?;
        let (board, models) = (painter.board(), painter.models());
        let queue = Arc::new(Queue::new(&options));
        let worker = match relay.clone() {
            Some(relay) => {
                let left = relay.left(&limits).await.map_err(StudioError::Queue)?;
                relay.start(left, Arc::clone(&queue), outputs.clone(), &limits).map_err(StudioError::Model)?
            }
            None => {
                worker::start(painter, Arc::clone(&queue), outputs.clone(), &options).map_err(StudioError::Model)?
            }
        };
        let alive = Arc::new(AtomicBool::new(true));
        let (ended, watched) = (Arc::clone(&alive), Arc::clone(&queue));
        tokio::task::spawn_blocking(move || {
            // The worker ends when the queue is closed, or by a fault of this program.
            let _ = worker.join();
            ended.store(false, Ordering::Relaxed);
            watched.close();
        });
        let guard = Arc::new(Guard { address, token: options.token.clone() });
        let (places, abandoned) = (Places::new(options.connections), options.abandoned);
        let arrival = options.arrival.min(LONGEST_ARRIVAL);
        let streams = Arc::new(Semaphore::new((options.connections / 4).clamp(1, Semaphore::MAX_PERMITS)));
        let work = Work::new(&limits);
        let options = Options { arrival, ..limits };
        let shared = Arc::new(Shared {
            queue: Arc::clone(&queue),
            relay,
            options,
            board,
            models,
            alive,
            work,
            outputs,
            streams,
        });
        // Requests that wait for their jobs have a time for their arrival alone.
        let router = api::routes(Arc::clone(&shared))
            .merge(sdapi::routes(Arc::clone(&shared)))
            .merge(openai::routes(Arc::clone(&shared)))
            .layer(middleware::from_fn_with_state(arrival, arrival::refuse_late))
            .merge(sdapi::waiting_routes(Arc::clone(&shared)))
            .merge(openai::waiting_routes(shared))
            .layer(middleware::from_fn_with_state(guard, guard::check))
            .layer(middleware::from_fn(dialect::translate));
        Ok(Self { listener, address, queue, router, places, arrival, abandoned })
    }

    /// Returns the address that the studio is bound to.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `end`. Then waiting jobs are cancelled, a running job ends at its next step, and open
    /// connections have five seconds to end.
    pub async fn serve(self, end: impl Future<Output = ()> + Send) {
        let graceful = GracefulShutdown::new();
        let mut end = std::pin::pin!(end);
        let mut checks = tokio::time::interval(CHECK);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = checks.tick() => {
                    self.abandoned.inspect(|time| self.queue.cancel_abandoned(*time));
                    continue;
                }
                () = &mut end => break,
            };
            let (stream, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_client(&error) => continue,
                Err(_) => {
                    self.places.make_room();
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            };
            self.places.wait_for_room(client.ip()).await;
            if let Some(taken) = self.places.take(client.ip()) {
                tokio::spawn(self.answer(stream, taken, &graceful));
            }
        }
        self.queue.close();
        let _ = tokio::time::timeout(LAST, graceful.shutdown()).await;
    }

    /// Answers the requests of a connection, until the connection ends or must make room for another.
    fn answer(
        &self,
        stream: TcpStream,
        taken: Taken,
        graceful: &GracefulShutdown,
    ) -> impl Future<Output = ()> + Send + use<> {
        let service = TowerToHyperService::new(self.router.clone().layer(Extension(Arc::clone(&taken.place))));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.arrival)
            .serve_connection(TokioIo::new(Connection::new(stream, self.arrival)), service);
        let connection = graceful.watch(connection);
        let first = self.arrival.min(FIRST);
        async move {
            let silent = async {
                tokio::time::sleep(first).await;
                if taken.place.has_begun() {
                    std::future::pending().await
                }
            };
            // A connection that was cut off is no fault of the studio.
            tokio::select! {
                _ = connection => {}
                () = taken.place.ended() => {}
                () = silent => {}
            }
        }
    }
}

/// Ends the worker, also that of a studio that was never served.
impl Drop for Studio {
    fn drop(&mut self) {
        self.queue.close();
    }
}
