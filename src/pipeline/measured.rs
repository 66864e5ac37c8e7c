//! [`Measured`]: times of a model's work, measured once.

use super::Seamless;
use crate::error::Result;
use crate::step::Grid;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

/// Time below which the first call of a process is much longer than later ones, and is measured again.
const BRIEF: Duration = Duration::from_secs(1);
/// Largest number of times that are kept. A service that is asked for many sizes measures again.
const MOST: usize = 256;

/// A piece of work whose time depends on nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Piece {
    /// A call of the network.
    Call {
        grid: Grid,
        branches: usize,
        images: usize,
        controls: usize,
        seamless: Seamless,
        /// Thousandths of the cells that are merged.
        merged: u32,
        /// True for a call that uses deep layers of an earlier one again.
        reused: bool,
    },
    /// The decoding of a latent.
    Decode(Grid),
    /// The encoding of a picture.
    Encode(Grid),
}

/// Times of a model's work, measured once.
#[derive(Debug, Default)]
pub(super) struct Measured(RefCell<HashMap<Piece, Duration>>);

impl Measured {
    /// Returns the time of a piece of work, which `measure` measures if the time is unknown.
    pub(super) fn time(&self, piece: Piece, mut measure: impl FnMut() -> Result<Duration>) -> Result<Duration> {
        if let Some(known) = self.0.borrow().get(&piece) {
            return Ok(*known);
        }
        let mut time = measure()?;
        if time < BRIEF {
            time = time.min(measure()?);
        }
        let mut times = self.0.borrow_mut();
        if times.len() >= MOST {
            times.clear();
        }
        times.insert(piece, time);
        Ok(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_measured_once() -> Result<()> {
        let measured = Measured::default();
        let [small, large] = [8, 64].map(|side| Piece::Decode(Grid::new(side, side)));
        let mut times = [5, 3, 2000].map(Duration::from_millis).into_iter();
        let mut measure = || Ok(times.next().expect("measured no more"));
        assert_eq!(measured.time(small, &mut measure)?, Duration::from_millis(3), "the second of two brief calls");
        assert_eq!(measured.time(large, &mut measure)?, Duration::from_secs(2));
        assert_eq!(measured.time(small, &mut measure)?, Duration::from_millis(3));
        Ok(())
    }
}
