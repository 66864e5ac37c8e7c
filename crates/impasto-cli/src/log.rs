//! The log of the servers and workers, on the standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Environment variable for what the log has: a level such as `info`, or levels of parts such as
/// `impasto_worker=debug`.
const VARIABLE: &str = "IMPASTO_LOG";

/// Begins the log, which has warnings and errors unless the environment asks for more.
pub fn begin() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).with_env_var(VARIABLE);
    let log = tracing_subscriber::fmt().with_env_filter(filter.from_env_lossy()).with_writer(std::io::stderr);
    let _ = log.with_ansi(false).without_time().try_init(); // a process carries out one command
}
