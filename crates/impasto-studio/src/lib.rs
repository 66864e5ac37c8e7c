//! The studio of [`impasto`]: a page for painting with exact colors, and the JSON API behind the page.
//!
//! [`Studio`] owns one [`Engine`], a [`Pipeline`](impasto::Pipeline) with networks that requests can name, on a thread
//! of its own, which runs one request after the other.
//! [`OPENAPI`] describes the API. The server also returns the description at `/api/openapi.json`. Programs that know
//! AUTOMATIC1111's web API find it at `/sdapi/v1`, and OpenAI's API for images at `/v1`; both make the same jobs.
//! [`Mcp`] serves an agent instead, by the Model Context Protocol, with the same limits. [`QueuePainter`] paints the
//! jobs of a queue on many machines.
//!
//! ```no_run
//! use impasto::Pipeline;
//! use impasto_studio::{Options, Studio};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let studio = Studio::bind(Pipeline::builder().build()?, Options::default()).await?;
//!     println!("{}", studio.address());
//!     studio.serve(std::future::pending()).await;
//!     Ok(())
//! }
//! ```
//!
//! # Safety on a network
//!
//! The server binds to the loopback interface. It binds to any other address only with a [`token`](Options::token),
//! which every request must then carry. Requests for other hosts' names and requests from other sites' pages are
//! refused, so that neither DNS rebinding nor a foreign page reaches the API. No request names a file.

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unreachable)]
#![warn(missing_docs, clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

mod api;
mod arrival;
mod connection;
mod described;
#[cfg(test)]
mod description;
mod dialect;
mod embedded;
mod engine;
mod fields;
mod finished;
mod guard;
mod mcp;
mod metrics;
mod openai;
mod options;
mod order;
mod outputs;
mod page;
mod painting;
mod places;
mod queue;
mod queued;
mod refusal;
mod relay;
mod request;
mod sdapi;
mod server;
mod shared;
mod upload;
mod waiter;
mod wording;
mod work;
mod worker;

pub use engine::{Engine, Models};
pub use mcp::Mcp;
pub use options::Options;
pub use queued::QueuePainter;
pub use request::{JobRequest, Restored};
pub use server::{Studio, StudioError};

/// Description of the API in the OpenAPI format, version 3.1. The schemas of a request are made from [`JobRequest`].
pub const OPENAPI: &str = include_str!("../openapi.json");
