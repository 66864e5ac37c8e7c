//! `impasto studio`: the server of the studio, a page for painting in the browser.

use crate::adapters::Networks;
use crate::choice::ModelFolders;
use crate::console;
use crate::failure::Failure;
use crate::interrupt;
use crate::limits::Limits;
use crate::loading::Loading;
use crate::log;
use crate::queue;
use clap::Args;
use impasto_studio::{Options, Studio, StudioError};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `impasto studio`.
#[derive(Args, Debug)]
pub struct StudioArguments {
    /// Address and port of the studio's page. An address that other machines can reach needs --token.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7860")]
    address: SocketAddr,
    /// Secret that opens the studio's page: http://ADDRESS/?token=TOKEN.
    #[arg(long, env = "IMPASTO_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Lets workers on many machines paint: `sqlite:FILE`, or `postgres://USER:PASSWORD@HOST/DATABASE`. The jobs
    /// survive the studio. The default is to paint here.
    #[arg(long, value_name = "ADDRESS", requires = "store")]
    queue: Option<String>,
    /// The store of the workers' pictures: a folder, or `s3://BUCKET/PREFIX` in a program that was built with S3.
    #[arg(long, value_name = "PLACE", requires = "queue")]
    store: Option<String>,
    /// Largest number of jobs that wait; further ones are refused.
    #[arg(long, value_name = "NUMBER", default_value_t = 16)]
    waiting: usize,
    #[command(flatten)]
    limits: Limits,
    /// Folder that gets every finished picture as PNG. Its pictures are in the page's history, also after a restart.
    #[arg(long, value_name = "FOLDER")]
    outputs: Option<PathBuf>,
    #[command(flatten)]
    folders: ModelFolders,
    #[command(flatten)]
    networks: Networks,
    #[command(flatten)]
    loading: Loading,
}

/// Time between two checks of whether Ctrl-C was pressed.
const CHECK: Duration = Duration::from_millis(100);

/// Serves the studio's page until Ctrl-C.
pub fn studio(arguments: &StudioArguments) -> Result<(), Failure> {
    if arguments.queue.is_some() && !arguments.folders.is_empty() {
        let reason = "--model-dir is given beside --queue, whose workers have one model each; expected one of both";
        return Err(Failure::CommandLine(reason.into()));
    }
    let _log = log::begin();
    let interrupted = interrupt::token()?;
    let StudioArguments { address, token, waiting, limits, outputs, folders, networks, loading, .. } = arguments;
    let pipeline = folders.pipeline(loading)?;
    let engine = folders.engine(pipeline, loading, networks)?;
    let (token, outputs) = (token.clone(), outputs.clone());
    let options = Options { address: *address, token, queue: *waiting, outputs, ..limits.options() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Message(format!("the server cannot start: {error}")))?;
    runtime.block_on(async {
        let bound = match arguments.queue.as_deref().zip(arguments.store.as_deref()) {
            Some((address, store)) => {
                let model = crate::submit::model(arguments.loading.model.as_deref());
                Studio::bind_to_queue(engine, options, queue::open(address, store).await?, model).await
            }
            None => Studio::bind(engine, options).await,
        };
        let studio = bound.map_err(|error| match error {
            StudioError::Model(error) => Failure::Library(error),
            wrong @ (StudioError::NoToken(_) | StudioError::Token) => Failure::CommandLine(wrong.to_string()),
            other => Failure::Message(other.to_string()),
        })?;
        let query = if arguments.token.is_some() { "?token=TOKEN" } else { "" };
        match console::print(format_args!("http://{}/{query}", studio.address())) {
            Ok(()) | Err(Failure::Closed) => {} // The studio serves its page without a reader of the address, too.
            Err(failure) => return Err(failure),
        }
        console::tell("Ctrl-C ends the studio.");
        studio
            .serve(async {
                while !interrupted.is_cancelled() {
                    tokio::time::sleep(CHECK).await;
                }
            })
            .await;
        Ok(())
    })
}
