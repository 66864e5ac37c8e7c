//! [`Metrics`]: counters of a studio, in Prometheus' text format.

use impasto_worker::{Counter, Exposition};
use std::time::Duration;

/// Counters of a studio since its start.
#[derive(Debug, Default)]
pub struct Metrics {
    pub accepted: Counter,
    pub refused: Counter,
    pub finished: Counter,
    pub failed: Counter,
    pub cancelled: Counter,
    pub steps: Counter,
    /// Microseconds that the worker spent in jobs.
    busy: Counter,
}

impl Metrics {
    /// Adds the time of a job.
    pub fn worked(&self, time: Duration) {
        self.busy.add_time(time);
    }

    /// Returns the metrics as text, with the current load of the queue.
    pub fn text(&self, waiting: usize, running: usize) -> String {
        let mut text = Exposition::default();
        let mut put = |name: &str, kind: &str, help: &str, value: f64| text.put(name, kind, help, value);
        put("jobs_accepted_total", "counter", "Jobs that were accepted.", self.accepted.value() as f64);
        put(
            "jobs_refused_total",
            "counter",
            "Jobs refused because too many jobs or bytes waited.",
            self.refused.value() as f64,
        );
        put(
            "jobs_finished_total",
            "counter",
            "Jobs whose pictures were painted, or whose model was loaded.",
            self.finished.value() as f64,
        );
        put("jobs_failed_total", "counter", "Jobs that ended with an error.", self.failed.value() as f64);
        put("jobs_cancelled_total", "counter", "Jobs that were cancelled.", self.cancelled.value() as f64);
        put("steps_total", "counter", "Steps that jobs took.", self.steps.value() as f64);
        put("busy_seconds_total", "counter", "Seconds spent in jobs.", self.busy.value() as f64 / 1e6);
        put("jobs_waiting", "gauge", "Jobs that wait.", waiting as f64);
        put("jobs_running", "gauge", "Jobs that run.", running as f64);
        text.to_string()
    }
}
