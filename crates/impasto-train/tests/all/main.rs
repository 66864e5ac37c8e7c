//! Every training, for a few steps.

mod control;
mod listed;
mod training;
