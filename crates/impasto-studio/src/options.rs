//! [`Options`]: address and limits of a studio.

use crate::engine::Engine;
use impasto::model::Defaults;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Address and limits of a studio.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to bind to. Port 0 takes any free port. Default: 127.0.0.1:7860.
    pub address: SocketAddr,
    /// Secret that every request must carry: as `Authorization: Bearer TOKEN`, or as the cookie that `/?token=TOKEN`
    /// sets. Required for addresses beyond the loopback interface. Default: none.
    pub token: Option<String>,
    /// Largest number of jobs that wait; further ones are refused with status 429. Default: 16.
    pub queue: usize,
    /// Number of ended jobs that are kept, with their results. The latest result is kept in any case. Default: 32.
    pub kept: usize,
    /// Largest size in bytes of all requests that wait and all results that are kept. Results are forgotten for new
    /// ones, the oldest first, and requests beyond this size are refused with status 429. The latest result is kept in
    /// any case. Default: 512 MiB.
    pub memory: usize,
    /// Time after which a job is cancelled whose listeners have all left, such as the only page that showed the job.
    /// A job without any listener from the start runs to its end. `None`: every job does. Default: 10 s.
    pub abandoned: Option<Duration>,
    /// Largest size of a request in bytes. Default: 16 MiB.
    pub body: usize,
    /// Largest width and height of a picture in pixels. Default: 1024.
    pub side: u32,
    /// True if a model of larger pictures raises `side` to twice the longest side of its pictures while the model is in
    /// use. Default: false.
    pub side_grows: bool,
    /// Largest number of steps of a run. Default: 150.
    pub steps: usize,
    /// Largest number of pictures of a request. Default: 4.
    pub images: usize,
    /// Largest number of open connections; one address may open half of them, and a quarter may listen to events.
    /// Beyond that, a connection is closed for a new one: the oldest without the token, or else the one that is idle
    /// longest. One in the middle of a request is closed only if all others are, too. Default: 256.
    pub connections: usize,
    /// Time in which a request must have arrived, and in which a client must take a part of its answer. Default: 30 s.
    pub arrival: Duration,
    /// Time after which a run ends with an error. Default: 1 hour.
    pub run: Duration,
    /// Folder that gets every finished picture as PNG, but those of live views. The page lists the pictures of the
    /// folder. Default: none.
    pub outputs: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7860),
            token: None,
            queue: 16,
            kept: 32,
            memory: 512 << 20,
            abandoned: Some(Duration::from_secs(10)),
            body: 16 << 20,
            side: 1024,
            side_grows: false,
            steps: 150,
            images: 4,
            connections: 256,
            arrival: Duration::from_secs(30),
            run: Duration::from_secs(3600),
            outputs: None,
        }
    }
}

/// Largest side in pixels that a request may name for a model that is not loaded: twice the 1024 pixels of SDXL, SD 3,
/// Anima and Z-Image.
const SIDE_OF_OTHERS: u32 = 2048;

impl Options {
    /// Returns the largest side of a picture while a model of these defaults is in use.
    pub(crate) fn side_of(&self, model: Defaults) -> u32 {
        let twice = model.width.max(model.height).saturating_mul(2);
        if self.side_grows { self.side.max(twice) } else { self.side }
    }

    /// Returns the largest side that a request may name while an engine is in use. With a choice of models, the request
    /// may be for a model that is not loaded yet; the side is then checked again when that model is in use.
    pub(crate) fn side_to_read(&self, engine: &Engine) -> u32 {
        let side = self.side_of(engine.pipeline.model().defaults());
        if self.side_grows && engine.choice.is_some() { side.max(SIDE_OF_OTHERS) } else { side }
    }

    /// Largest size in bytes of a picture whose request is read. A PNG of the studio holds its request, the run's
    /// recipe, and a picture.
    pub(crate) const fn file(&self) -> usize {
        let pixels = (self.side as usize).saturating_pow(2);
        self.body.saturating_mul(3).saturating_add(pixels.saturating_mul(4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn side_grows_with_the_model_in_use() {
        let side = |options: &Options, width, height| options.side_of(Defaults::new(width, height, 7.5));
        let growing = Options { side_grows: true, ..Options::default() };
        assert_eq!((side(&growing, 256, 256), side(&growing, 832, 1216)), (1024, 2432));
        assert_eq!(side(&Options::default(), 832, 1216), 1024);
    }
}
