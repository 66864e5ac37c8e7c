//! Tests of every training task, for a few steps.

mod control;
mod distill;
mod listed;
mod reference;
mod training;
