//! [`Settings`]: limits and times of a queue.

use std::time::Duration;

/// Limits and times of a queue. All programs of a queue should have the same ones.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of failed tries after which a job is given up: 1 or more. A job whose workers die is given up after it
    /// was begun three times as often, because most workers do not die of their job. A worker that ends in order does
    /// not count.
    pub tries: u32,
    /// Time without a sign of life after which a worker's jobs go to others, in whole seconds.
    pub lease: Duration,
    /// Time between two signs of life, and between two looks for a job: at most half of `lease`.
    pub beat: Duration,
    /// Largest number of waiting jobs of a user.
    pub waiting: u32,
    /// Largest size of a job in bytes, without its pictures' bytes.
    pub job_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tries: 3,
            lease: Duration::from_secs(30),
            beat: Duration::from_millis(500),
            waiting: 10_000,
            job_bytes: 1 << 20,
        }
    }
}
