//! The clock of the benches.

use cpu_time::ProcessTime;
use std::time::{Duration, Instant};
use tch::{Cuda, Device};

/// A clock for work on a CPU or GPU.
///
/// The clock takes the processor's time on one thread and wall time on several. On a GPU it waits until all
/// work is done.
pub enum Clock {
    Processor(ProcessTime),
    Wall(Instant),
    Gpu(i64, Instant),
}

impl Clock {
    pub fn start() -> Self {
        Self::on(Device::Cpu)
    }

    pub fn on(device: Device) -> Self {
        match device {
            Device::Cuda(index) => {
                Cuda::synchronize(index as i64);
                Self::Gpu(index as i64, Instant::now())
            }
            _ if tch::get_num_threads() == 1 => Self::Processor(ProcessTime::now()),
            _ => Self::Wall(Instant::now()),
        }
    }

    pub fn elapsed(&self) -> Duration {
        match self {
            Self::Processor(begun) => begun.elapsed(),
            Self::Wall(begun) => begun.elapsed(),
            Self::Gpu(index, begun) => {
                Cuda::synchronize(*index);
                begun.elapsed()
            }
        }
    }
}
