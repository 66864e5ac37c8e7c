//! Tests of the studio over real connections, as clients use it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod api;
mod engine;
mod limits;
mod load;
mod mcp;
mod models;
mod networks;
mod openai;
mod outputs;
mod queue;
mod refusals;
mod running;
mod schema;
mod sdapi;
mod strangers;
