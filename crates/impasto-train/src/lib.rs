//! Training of small models of the Stable Diffusion family, such as the one that [`impasto`] embeds.
//!
//! * [`dataset`]: drawn pictures with captions, masks and exact colors, made from a seed alone.
//! * [`Training`]: the training loop. It takes a [`Task`] (the networks and their loss), splits every batch among
//!   workers, and survives being killed.
//! * [`VaeTask`], [`ClipTask`], [`UnetTask`], [`TextTask`], [`EvaluatorTask`]: the tasks of the embedded model.
//!   [`Latents`] connect the VAE with the UNet; [`ModelFolder`] collects all parts.
//! * [`ControlTask`]: a ControlNet that follows lines and strokes of color, for any checkpoint with a UNet, from
//!   [`Pictures`] of any kind. [`Adherence`] measures how closely pictures follow them.
//! * [`lora`]: a LoRA for any checkpoint with a UNet, from a few pictures with captions.
//! * [`DistillTask`]: a UNet that paints in four steps.
//! * [`FlowTask`]: a transformer that predicts the velocity of a rectified flow.
//! * [`ReferenceTask`]: a model that colors a sketch like a reference picture. [`Coloring`] measures how well.
//! * [`Optimizer`]: Muon and AdamW. [`averaged`]: the mean of the weights of several runs.

// The library neither panics nor prints; its tests, examples and program may.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unreachable)]
#![warn(missing_docs, clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

mod adherence;
mod checkpoint;
mod clip;
mod coloring;
mod conditions;
mod control;
mod curves;
pub mod dataset;
mod denoising;
mod distill;
mod error;
mod evaluator;
mod export;
mod flow;
mod grounding;
mod hints;
mod journal;
mod latents;
mod layout;
mod listed;
pub mod lora;
mod optimizer;
mod parameters;
mod pictures;
mod rate;
mod reference;
mod scribble;
mod splitmix;
mod task;
mod text;
mod training;
mod unet;
mod vae;

pub use adherence::{Adherence, edge_f1};
pub use checkpoint::{Checkpoint, halved};
pub use clip::ClipTask;
pub use coloring::Coloring;
pub use control::ControlTask;
pub use curves::curves;
pub use distill::DistillTask;
pub use error::Error;
pub use evaluator::{Evaluator, EvaluatorTask};
pub use export::{ModelFolder, export};
pub use flow::FlowTask;
pub use hints::drawn_by_a_person;
pub use journal::Journal;
pub use latents::Latents;
pub use listed::Listed;
pub use optimizer::{AdamW, Muon, Optimizer, Rule, clip};
pub use parameters::{Parameters, averaged};
pub use pictures::{Drawn, Pictures, Sample};
pub use rate::Rate;
pub use reference::ReferenceTask;
pub use task::{Loss, Shard, Task};
pub use text::TextTask;
pub use training::{Training, TrainingProgress};
pub use unet::UnetTask;
pub use vae::{HELD_OUT, VaeTask};
