//! Stable Diffusion on libtorch, with guidance methods that put *exactly this color* in *exactly this place*.
//!
//! A [`Pipeline`] runs a model of the Stable Diffusion family. Small, independent values steer each run:
//!
//! ```
//! # fn main() -> impasto::Result<()> {
//! use impasto::{Pipeline, Rgb};
//!
//! let mut pipeline = Pipeline::builder().color_force("eyes", Rgb(255, 215, 0)).build()?;
//! let output = pipeline.request("1girl, eyes, hair, shirt").steps(8).seed(7).run()?;
//! output.image(0)?.save(std::env::temp_dir().join("gold_eyes.png"))?;
//! # Ok(()) }
//! ```
//!
//! | to | see |
//! |---|---|
//! | force the color of a named thing | [`methods::ColorForce`] |
//! | place things by painting them | [`methods::PaintWithWords`] |
//! | give regions of the picture their own prompts | [`methods::RegionPrompts`], [`composition::Composition`] |
//! | guide a prompt by a picture, or by a second text | [`methods::ImageGuidance`] |
//! | turn a prompt into another one during the run | [`methods::PromptBlend`] |
//! | see where the picture attends to a word, or to every word | [`saliency::Daam`] |
//! | find a thing by the change that another word causes | [`saliency::Differential`] |
//! | start from a picture, repaint a part of one, vary a seed | [`pipeline::Request::start`], [`mask`], [`variation`] |
//! | give SDXL's second text encoder a prompt, share a run with a refiner | [`second_prompt`], [`until`] |
//! | follow edges, poses, strokes with ControlNets | [`Control`], [`hint`], [`pipeline::Request::control`] |
//! | read the reports of guidance methods, repeat a run from its PNG | [`pipeline::Output::reports`], [`from_png`] |
//! | choose a sampling method | [`diffusion::solver`], [`pipeline::Request::solver_named`] |
//! | watch or change attention yourself | [`attention::CrossAttentionHook`] |
//! | steer a run yourself | [`guidance::Guidance`] |
//! | take one step at a time | [`sampler::Sampler`] |
//! | write the loop yourself | [`Model`], [`diffusion`] |
//! | try your guidance method without a model | [`testing::ToyModel`] |
//!
//! [`mask`]: pipeline::Request::mask
//! [`variation`]: pipeline::Request::variation
//! [`second_prompt`]: pipeline::Request::second_prompt
//! [`until`]: pipeline::Request::until
//! [`from_png`]: pipeline::Request::from_png
//!
//! The library neither prints nor panics on bad input. Invalid input gives an [`Error`] that names the value and a
//! remedy; doubtful input gives a note in [`Output::notes`](pipeline::Output::notes).

// The library neither panics nor prints; its tests, examples and benches may.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unreachable)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub, clippy::return_self_not_must_use)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

pub mod attention;
mod branch;
pub mod color;
pub mod compat;
pub mod composition;
mod conditioning;
pub mod diffusion;
mod error;
mod files;
pub mod guidance;
pub mod hint;
mod latent_colors;
pub mod mask;
pub mod methods;
mod micro_conditioning;
mod model;
pub mod nn;
pub mod pipeline;
pub mod prompt;
pub mod raster;
mod recipe;
pub mod reference;
pub mod saliency;
pub mod sampler;
mod size;
mod step;
pub mod testing;
pub mod text;
mod vision;
pub mod weights;
mod window;

/// The versions of these crates whose types appear in this crate's interface.
pub use {image, ndarray, tch};

pub use branch::{Branch, BranchInfo};
pub use color::{Lab, Rgb};
pub use conditioning::{Codec, Conditioning};
pub use error::{Error, MissingColor, Result};
pub use micro_conditioning::MicroConditioning;
pub use model::{Control, Controlled, Defaults, Guess, Identity, LoadOptions, Model, Precision};
pub use pipeline::{Output, Pipeline};
pub use prompt::{Prompt, TokenSpan};
pub use raster::Raster;
pub use recipe::Recipe;
pub use size::Size;
pub use step::{Grid, Step};
pub use vision::{Crop, View, Vision};
pub use weights::Source;
pub use window::Window;

/// Compiles the code of the README, and runs it where it says so.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles and runs the code of the guide.
#[cfg(doctest)]
#[doc = include_str!("../docs/guide.md")]
struct Guide;

/// Compiles and runs the code of the page on colors.
#[cfg(doctest)]
#[doc = include_str!("../docs/colors.md")]
struct Colors;

/// Compiles and runs the code of the page on color strokes.
#[cfg(doctest)]
#[doc = include_str!("../docs/color-strokes.md")]
struct ColorStrokes;

/// Compiles and runs the code of the page on reference colors.
#[cfg(doctest)]
#[doc = include_str!("../docs/reference-color.md")]
struct ReferenceColors;

/// Compiles and runs the code of the page on models that color sketches.
#[cfg(doctest)]
#[doc = include_str!("../docs/colorize.md")]
struct Coloring;

/// Compiles and runs the code of the page on painting.
#[cfg(doctest)]
#[doc = include_str!("../docs/painting.md")]
struct Painting;

/// Compiles and runs the code of the page on image guidance.
#[cfg(doctest)]
#[doc = include_str!("../docs/image-guidance.md")]
struct ImageGuidance;
