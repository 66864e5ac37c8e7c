//! A server of the Model Context Protocol, by which agents paint. A call of a tool becomes a job of the studio: it
//! waits in the same queue, has the same limits, and paints the same picture.
//!
//! <https://modelcontextprotocol.io/specification/2025-11-25>

mod answer;
mod call;
mod handler;
mod look;
mod pictures;
mod server;
mod tools;
pub(crate) mod words;

pub use server::Mcp;
