//! What the tiny model is made with.
//!
//! * [`dataset`]: drawn pictures with captions, masks and exact colors.

pub mod dataset;
