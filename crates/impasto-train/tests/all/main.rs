//! Every training, for a few steps.

mod control;
mod listed;
mod reference;
mod training;
