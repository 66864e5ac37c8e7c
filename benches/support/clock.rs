//! What times are taken with.

use cpu_time::ProcessTime;
use std::time::{Duration, Instant};
use tch::{Cuda, Device};

/// The processor's time on one thread, else the wall's; a GPU's until all that was asked of it is done.
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
