//! A durable queue of pictures to paint, and the workers that paint them on many machines.
//!
//! A [`Queue`] is a table in SQLite or PostgreSQL that survives its programs. A [`Worker`] takes jobs from it, lets a
//! [`Paint`] paint them, and writes the pictures to a [`Store`]. Leases, heartbeats and the jobs of workers that died
//! are those of [apalis](https://github.com/apalis-dev/apalis).
//!
//! A job is JSON that this crate does not read: [`Paint`] does. Its [`Key`] is a hash of the model and the job, so that
//! a job that is asked for twice is painted once.
//!
//! ```no_run
//! use impasto_worker::{Address, Order, Queue, Settings, Store};
//!
//! # async fn submit() -> Result<(), impasto_worker::QueueError> {
//! let store = Store::open("pictures")?;
//! let queue = Queue::open(&"sqlite:queue.db".parse::<Address>()?, store, Settings::default()).await?;
//! let job = serde_json::json!({ "prompt": "1girl, #ffd700 eyes", "seed": 7 });
//! let entry = queue.submit(Order::new("embedded", job)).await?;
//! println!("{} is {}", entry.key, entry.state);
//! # Ok(())
//! # }
//! ```

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unreachable)]
#![warn(missing_docs, clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

mod address;
mod attempt;
mod engine;
mod entry;
mod error;
mod failure;
mod key;
mod metrics;
mod order;
mod paint;
mod pictures;
mod progress;
mod queue;
mod settings;
mod stop;
mod store;
mod table;
mod ticket;
mod worker;

pub use address::Address;
pub use entry::{Entry, Filter, State};
pub use error::QueueError;
pub use failure::Failure;
pub use key::Key;
pub use metrics::{Counter, Exposition, Metrics};
pub use order::{Class, Order};
pub use paint::{Paint, Painted};
pub use progress::Progress;
pub use queue::Queue;
pub use settings::Settings;
pub use store::Store;
pub use worker::Worker;
