//! [`Stop`]: the wish that a worker ends.

use tokio::sync::watch;

/// The wish that a worker ends. Clones share it.
#[derive(Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Returns the wish, and a sender that makes it by `true`. A worker whose sender is gone ends, too.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Returns true if the worker is to end.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the worker is to end.
    pub async fn wait(&mut self) {
        drop(self.0.wait_for(|stop| *stop).await);
    }
}
