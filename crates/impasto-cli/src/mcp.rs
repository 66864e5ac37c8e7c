//! `impasto mcp`: a server of the Model Context Protocol, by which agents paint.

use crate::adapters::Networks;
use crate::choice::ModelFolders;
use crate::console;
use crate::failure::Failure;
use crate::interrupt;
use crate::limits::Limits;
use crate::loading::Loading;
use crate::log;
use clap::Args;
use impasto_studio::{Mcp, Options, StudioError};
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `impasto mcp`.
#[derive(Args, Debug)]
pub struct McpArguments {
    /// A folder whose pictures the agent may read, with the folders inside. May be given several times. Without one,
    /// the agent reads no file.
    #[arg(long, value_name = "FOLDER")]
    folder: Vec<PathBuf>,
    /// Largest number of calls that wait; further ones are refused.
    #[arg(long, value_name = "NUMBER", default_value_t = 16)]
    waiting: usize,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    folders: ModelFolders,
    #[command(flatten)]
    networks: Networks,
    #[command(flatten)]
    loading: Loading,
}

/// Time between two checks of whether Ctrl-C was pressed.
const CHECK: Duration = Duration::from_millis(100);

/// Serves the agent until it closes the standard input, or until Ctrl-C. The standard output has the protocol alone.
pub fn mcp(arguments: &McpArguments) -> Result<(), Failure> {
    let _log = log::begin();
    let interrupted = interrupt::token()?;
    let McpArguments { folder, waiting, limits, folders, networks, loading } = arguments;
    let pipeline = folders.pipeline(loading)?;
    let options = Options { queue: *waiting, ..limits.options() };
    let engine = folders.engine(pipeline, loading, networks)?;
    let server = Mcp::new(engine, options, folder.clone()).map_err(|error| match error {
        StudioError::Model(error) => Failure::Library(error),
        wrong @ StudioError::Folder(..) => Failure::CommandLine(format!("--folder: {wrong}")),
        other => Failure::Message(other.to_string()),
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Message(format!("the server cannot start: {error}")))?;
    console::tell("The server waits for an agent on the standard input. Ctrl-C ends the server.");
    let served = runtime.block_on(server.serve(tokio::io::stdin(), tokio::io::stdout(), async {
        while !interrupted.is_cancelled() {
            tokio::time::sleep(CHECK).await;
        }
    }));
    // A read of the standard input cannot be cancelled, so the runtime must not wait for its end.
    runtime.shutdown_background();
    served.map_err(|error| Failure::Message(error.to_string()))
}
