//! The log of the servers and workers, on the standard error, and their traces.

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

/// Environment variable for what the log has: a level such as `info`, or levels of parts such as
/// `impasto_worker=debug`.
const VARIABLE: &str = "IMPASTO_LOG";

/// The log of a process. Its end sends the last traces.
pub struct Log {
    #[cfg(feature = "otel")]
    _traces: Option<crate::traces::Traces>,
}

/// Begins the log, which has warnings and errors unless the environment asks for more.
pub fn begin() -> Log {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).with_env_var(VARIABLE);
    let log = fmt::layer().with_writer(std::io::stderr).with_ansi(false).without_time();
    let subscriber = registry().with(log.with_filter(filter.from_env_lossy()));
    #[cfg(feature = "otel")]
    let traces = crate::traces::Traces::begin();
    #[cfg(feature = "otel")]
    let subscriber = subscriber.with(traces.as_ref().map(crate::traces::Traces::layer));
    let _ = subscriber.try_init(); // a process carries out one command
    Log {
        #[cfg(feature = "otel")]
        _traces: traces,
    }
}
