//! The APIs of other programs with real clients: the Python packages `openai` and `webuiapi`.
//!
//! The tests need a Python with both. `PEERS` names this Python; without it, `.peers/bin/python` of the repository is
//! used. Where there is none, the tests count as ignored. To install both in the repository's folder:
//!
//! ```sh
//! python3 -m venv .peers && .peers/bin/pip install openai webuiapi
//! ```

#![allow(clippy::unwrap_used)]

use impasto::Pipeline;
use impasto_studio::{Options, Studio};
use libtest_mimic::{Arguments, Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The way to install what the tests need.
const INSTALL: &str = "python3 -m venv .peers && .peers/bin/pip install openai webuiapi";
const TOKEN: &str = "secret";

fn main() {
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = std::env::var_os("PEERS").map_or(folder.join(".peers/bin/python"), PathBuf::from);
    let needed = "from importlib.util import find_spec as f; import sys; sys.exit(not (f('openai') and f('webuiapi')))";
    let asked = Command::new(&python).args(["-c", needed]).stderr(Stdio::null()).status();
    let missing = !asked.is_ok_and(|status| status.success());
    if missing {
        eprintln!("{} has no openai and webuiapi, so their tests are ignored: {INSTALL}", python.display());
    }
    let trial = |name: &str, client: &'static str| {
        let python = python.clone();
        Trial::test(name, move || paint(&python, client)).with_ignored_flag(missing)
    };
    let trials = vec![
        trial("openai_paints_edits_and_streams", "openai"),
        trial("webuiapi_paints_and_repaints", "webuiapi"),
        trial("frontends_find_what_they_ask_for", "frontends"),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

/// Starts a studio with a token, and runs a client's part of `clients.py` against it.
fn paint(python: &Path, client: &str) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let free = ([127, 0, 0, 1], 0).into();
        let options = Options { address: free, token: Some(TOKEN.into()), ..Options::default() };
        let studio = Studio::bind(Pipeline::builder().build()?, options).await?;
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
