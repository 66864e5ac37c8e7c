//! What times are taken with.

use cpu_time::ProcessTime;
use std::time::{Duration, Instant};

/// The processor's time on one thread, else the wall's.
pub enum Clock {
    Processor(ProcessTime),
    Wall(Instant),
}

impl Clock {
    pub fn start() -> Self {
        if tch::get_num_threads() == 1 { Self::Processor(ProcessTime::now()) } else { Self::Wall(Instant::now()) }
    }

    pub fn elapsed(&self) -> Duration {
        match self {
            Self::Processor(begun) => begun.elapsed(),
            Self::Wall(begun) => begun.elapsed(),
        }
    }
}
