//! The studio as clients meet it, over real connections.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod api;
mod load;
mod refusals;
mod running;
mod schema;
