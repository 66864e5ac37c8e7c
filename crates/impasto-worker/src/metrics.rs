//! [`Metrics`]: counters of a worker, in Prometheus' text format.

use std::fmt::{self, Display, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds a number.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// Adds a time in microseconds.
    pub fn add_time(&self, time: Duration) {
        self.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Returns the sum of the added numbers.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Metrics in Prometheus' text format, version 0.0.4. The names begin with `impasto_`.
///
/// ```
/// let mut text = impasto_worker::Exposition::default();
/// text.put("jobs_total", "counter", "Jobs that were painted.", 7.0);
/// assert!(text.to_string().ends_with("impasto_jobs_total 7\n"));
/// ```
///
/// Source: Prometheus' documentation, "Exposition formats".
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Adds a metric: its name without the prefix, its kind (`counter` or `gauge`), what it counts, and its value.
    pub fn put(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP impasto_{name} {help}\n# TYPE impasto_{name} {kind}\nimpasto_{name} {value}");
    }
}

impl Display for Exposition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The counters of a worker since its start. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Counters>);

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub begun: Counter,
    pub done: Counter,
    pub failed: Counter,
    pub troubles: Counter,
    pub given_back: Counter,
    pub cancelled: Counter,
    /// Microseconds spent in jobs.
    pub busy: Counter,
}

impl Metrics {
    pub(crate) fn counters(&self) -> &Counters {
        &self.0
    }

    /// Returns the counters in Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = Exposition::default();
        let mut put = |name: &str, help: &str, value: &Counter| {
            text.put(&format!("worker_jobs_{name}_total"), "counter", help, value.value() as f64);
        };
        let counters = &*self.0;
        put("begun", "Jobs that the worker began.", &counters.begun);
        put("done", "Jobs that the worker ended with pictures.", &counters.done);
        put("failed", "Jobs that ended with an error.", &counters.failed);
        put("troubles", "Failed tries at jobs that are tried again.", &counters.troubles);
        put("given_back", "Jobs that the worker gave back at its end.", &counters.given_back);
        put("cancelled", "Jobs that were cancelled, or that went to another worker.", &counters.cancelled);
        let seconds = counters.busy.value() as f64 / 1e6;
        text.put("worker_busy_seconds_total", "counter", "Seconds that the worker spent in jobs.", seconds);
        text.to_string()
    }
}
