//! Says how well guidance guides.
#![allow(dead_code)]

mod metrics;
mod regions;
mod statistics;
mod suite;

fn main() {}
