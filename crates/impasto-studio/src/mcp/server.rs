//! [`Mcp`]: the server.

use super::handler::Handler;
use super::pictures::Pictures;
use super::tools;
use crate::engine::Engine;
use crate::options::Options;
use crate::painting::Painter;
use crate::queue::Queue;
use crate::server::StudioError;
use crate::work::Work;
use crate::worker;
use rmcp::serve_server;
use rmcp::service::ServerInitializeError;
use rmcp::transport::async_rw::AsyncRwTransport;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::io::{AsyncRead, AsyncWrite};

/// A server of the Model Context Protocol for one client, which has its model.
///
/// ```no_run
/// use impasto::Pipeline;
/// use impasto_studio::{Mcp, Options};
///
/// #[tokio::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let server = Mcp::new(Pipeline::builder().build()?, Options::default(), Vec::new())?;
///     server.serve(tokio::io::stdin(), tokio::io::stdout(), std::future::pending()).await?;
///     Ok(())
/// }
/// ```
pub struct Mcp {
    handler: Handler,
    queue: Arc<Queue>,
    worker: JoinHandle<()>,
    /// Largest size of a message in bytes.
    message: usize,
}

impl std::fmt::Debug for Mcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mcp").finish_non_exhaustive()
    }
}

impl Mcp {
    /// Starts the worker, which takes the engine, or the pipeline. The client may read pictures in `folders`, and in
    /// the folders inside. Of `options`, the numbers for connections have no effect.
    ///
    /// # Errors
    /// - [`StudioError::Folder`] for a folder that cannot be found.
    /// - [`StudioError::Model`] if the model's ControlNet cannot be loaded.
    pub fn new(engine: impl Into<Engine>, options: Options, folders: Vec<PathBuf>) -> Result<Self, StudioError> {
        let (engine, queue) = (engine.into(), Arc::new(Queue::new(&options)));
        let limits = Options { side: options.side_to_read(&engine), ..options.clone() };
        let pictures = Pictures::new(Arc::clone(&queue), limits.clone(), folders);
        let pictures = Arc::new(pictures.map_err(|(folder, error)| StudioError::Folder(folder, error))?);
        let painter = Painter::new(engine, false, &options).map_err(StudioError::Model)?;
        let models = painter.models().map(|models| models.names()).unwrap_or_default();
        let tools = tools::describe(&models).map_err(StudioError::Model)?;
        let worker = worker::start(painter, Arc::clone(&queue), None, &limits).map_err(StudioError::Model)?;
        let (message, work) = (options.body, Work::new(&limits));
        let handler = Handler { queue: Arc::clone(&queue), options: limits, pictures, work, tools };
        Ok(Self { handler, queue, worker, message })
    }

    /// Answers the client until its input ends, or until `end`. Then the running job ends at its next step.
    ///
    /// # Errors
    /// [`StudioError::Protocol`] if the client does not begin as the protocol says.
    pub async fn serve(
        self,
        input: impl AsyncRead + Send + Unpin + 'static,
        output: impl AsyncWrite + Send + Unpin + 'static,
        end: impl Future<Output = ()> + Send,
    ) -> Result<(), StudioError> {
        let Self { handler, queue, worker, message } = self;
        let transport = AsyncRwTransport::new_server(input, output).with_max_line_length(message);
        let answer = async {
            match serve_server(handler, transport).await {
                Ok(running) => drop(running.waiting().await), // a fault of the server ends it like the client's leave
                // A client may leave before it begins.
                Err(ServerInitializeError::ConnectionClosed(_)) => {}
                Err(error) => return Err(StudioError::Protocol(error.to_string())),
            }
            Ok(())
        };
        let answered = tokio::select! {
            answered = answer => answered,
            () = end => Ok(()),
        };
        queue.close();
        // The worker ends when the queue is closed, or by a fault of this program.
        let _ = tokio::task::spawn_blocking(|| drop(worker.join())).await;
        answered
    }
}
