//! The APIs of other programs with real clients: the Python packages `openai`, `webuiapi` and `mcp`, and ComfyUI's
//! node.
//!
//! The tests need a Python with these packages. `PEERS` names this Python; without it, `.peers/bin/python` of the
//! repository is used. The test of a package that is missing counts as ignored. To install the packages in the
//! repository's folder:
//!
//! ```sh
//! python3 -m venv .peers && .peers/bin/pip install openai webuiapi mcp torch numpy pillow
//! ```

#![allow(clippy::unwrap_used)]

#[path = "all/engine.rs"]
#[allow(dead_code)] // no client here chooses a model
mod engine;

use impasto::Pipeline;
use impasto_studio::{Mcp, Options, Studio};
use libtest_mimic::{Arguments, Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The way to install what the tests need.
const INSTALL: &str = "python3 -m venv .peers && .peers/bin/pip install openai webuiapi mcp torch numpy pillow";
/// Environment variable that makes this program the server for the client of the package `mcp`.
const SERVE: &str = "IMPASTO_SERVE_MCP";
const TOKEN: &str = "secret";

fn main() {
    if std::env::var_os(SERVE).is_some() {
        return serve();
    }
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = std::env::var_os("PEERS").map_or(folder.join(".peers/bin/python"), PathBuf::from);
    let lacks = |package: &str| {
        let needed = format!("from importlib.util import find_spec as f; import sys; sys.exit(not f('{package}'))");
        let asked = Command::new(&python).args(["-c", &needed]).stderr(Stdio::null()).status();
        let missing = !asked.is_ok_and(|status| status.success());
        if missing {
            eprintln!("{} has no {package}, so its tests are ignored: {INSTALL}", python.display());
        }
        missing
    };
    let [openai, webuiapi, mcp, torch] = ["openai", "webuiapi", "mcp", "torch"].map(lacks);
    let trial = |name: &str, client: &'static str, missing: bool| {
        let python = python.clone();
        Trial::test(name, move || paint(&python, client)).with_ignored_flag(missing)
    };
    let asked = python.clone();
    let trials = vec![
        trial("openai_paints_edits_and_streams", "openai", openai),
        trial("webuiapi_paints_and_repaints", "webuiapi", webuiapi),
        trial("frontends_find_what_they_ask_for", "frontends", openai || webuiapi),
        trial("comfyui_node_paints_and_repaints", "comfyui", torch),
        Trial::test("mcp_paints_exact_colors_and_repaints", move || speak(&asked)).with_ignored_flag(mcp),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

/// Starts a studio with a token, and runs a client's part of `clients.py` against it.
fn paint(python: &Path, client: &str) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let free = ([127, 0, 0, 1], 0).into();
        let options = Options { address: free, token: Some(TOKEN.into()), ..Options::default() };
        let studio = Studio::bind(engine::with_networks(), options).await?;
        let address = studio.address();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(studio.serve(async {
            let _ = ended.await;
        }));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients.py");
        let mut command = Command::new(python);
        command.arg(script).args([client, &address.ip().to_string(), &address.port().to_string(), TOKEN]);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        drop(end);
        served.await?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
    })
}

/// Serves the client that started this program.
fn serve() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = Mcp::new(Pipeline::builder().build().unwrap(), Options::default(), Vec::new()).unwrap();
    runtime.block_on(server.serve(tokio::io::stdin(), tokio::io::stdout(), std::future::pending())).unwrap();
    runtime.shutdown_background();
}

/// Runs the part of `clients.py` that starts a server of the Model Context Protocol, which is this program.
fn speak(python: &Path) -> Result<(), Failed> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients.py");
    let mut command = Command::new(python);
    let output = command.arg(script).arg("mcp").arg(std::env::current_exe()?).arg(SERVE).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
}
