//! Tests of every training task, for a few steps.

mod arguments;
mod control;
mod distill;
mod flow;
mod listed;
mod lora;
mod reference;
mod training;
