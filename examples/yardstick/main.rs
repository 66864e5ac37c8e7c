//! Says how well guidance guides.
#![allow(dead_code)]

mod generator;
mod judge;
mod metrics;
mod record;
mod regions;
mod runner;
mod statistics;
mod suite;

fn main() {}
