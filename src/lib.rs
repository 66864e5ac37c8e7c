//! Stable Diffusion on libtorch, with guidance methods that put *exactly this color* in *exactly this place*.
//!
//! A [`Pipeline`] runs a model of the Stable Diffusion family. Small, independent values steer each run.
//!
//! # Paint a picture
//!
//! Without a name, a pipeline runs the embedded model, which needs no network and no files:
//!
//! ```
//! # fn main() -> impasto::Result<()> {
//! let pipeline = impasto::Pipeline::builder().build()?;
//! let output = pipeline.request("a red house, navy sky, green ground").seed(7).steps(4).run()?;
//! output.image(0)?.save(std::env::temp_dir().join("house.png"))?;
//! # Ok(()) }
//! ```
//!
//! # Force a color
//!
//! A color before a word of the prompt is applied to the object that the word names. [`methods::ColorForce`] does the
//! same from code, and reports the color that was painted:
//!
//! ```
//! use impasto::methods::ColorForce;
//! use impasto::methods::color_force::ColorReport;
//! use impasto::{Pipeline, Rgb};
//!
//! # fn main() -> impasto::Result<()> {
//! let pipeline = Pipeline::builder().build()?;
//! let output = pipeline.request("1girl, #ffd700 eyes, hair, shirt").seed(7).steps(4).run()?;
//!
//! let eyes = ColorForce::exact("eyes", Rgb(255, 215, 0));
//! let output = pipeline.request("1girl, eyes, hair, shirt").seed(7).steps(4).guide(eyes).run()?;
//! println!("painted {}", output.details::<ColorReport>("eyes")?.painted[0].color);
//! # Ok(()) }
//! ```
//!
//! # Load a checkpoint
//!
//! A [`Source`] is a folder in diffusers' layout, a single file (`.safetensors`, `.ckpt`), or a repository of the
//! Hugging Face hub (feature `hub`). [`LoadOptions`] choose another precision, device or VAE:
//!
//! ```no_run
//! use impasto::{Pipeline, Source};
//!
//! # fn main() -> impasto::Result<()> {
//! let folder = Pipeline::builder().source(Source::dir("stable-diffusion-v1-5")).build()?;
//! let file = Pipeline::builder().source(Source::file("sd_xl_base.safetensors")).build()?;
//! # Ok(()) }
//! ```
//!
//! # Write a hook
//!
//! A [`CrossAttentionHook`](attention::CrossAttentionHook) names the phases of attention that it reads or changes. This
//! hook counts the attention calls that read the prompt:
//!
//! ```
//! use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs};
//! use impasto::{Branch, Pipeline, Result};
//!
//! #[derive(Default)]
//! struct Calls(usize);
//!
//! impl CrossAttentionHook for Calls {
//!     fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
//!         if site.is_cross() && branch == Branch::Cond { Interest::PROBS } else { Interest::NONE }
//!     }
//!     fn probs(&mut self, _: &At, _: &Probs) -> Result<()> {
//!         self.0 += 1;
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let mut calls = Calls::default();
//! Pipeline::builder().build()?.request("a red house").seed(7).steps(2).hook(&mut calls).run()?;
//! assert!(calls.0 > 0);
//! # Ok(()) }
//! ```
//!
//! A guidance method of your own does more: it adds branches, edits predictions, and moves the Gaussian from which the
//! sampler draws. A value that implements [`GuidanceRun`](guidance::GuidanceRun) is lent to one run, by
//! [`attach`](pipeline::Request::attach). Settings that implement [`Guidance`](guidance::Guidance) guide any number of
//! runs, by [`guide`](pipeline::Request::guide). [`testing::ToyModel`] is small enough for tests of hooks and methods.
//!
//! # Threads
//!
//! A pipeline, its outputs and hooks are `Send` and not `Sync`: one thread owns a pipeline and paints one picture at a
//! time. [`Model::share`] makes a second model of the same weights for another thread. Guidance methods are settings,
//! `Send` and `Sync`, so that pipelines of several threads can have the same method. One picture uses all of libtorch's
//! threads, or where impasto's kernels compute as many threads of their own; [`tch::set_num_threads`] sets their number
//! for the process.
//!
//! # Errors
//!
//! The library neither prints nor panics on bad input. Every fallible function returns an [`Error`], which names the
//! value, what was expected, and a remedy. Doubtful input gives a note in [`Output::notes`](pipeline::Output::notes).
//! An [`Error::custom`] carries the error of a hook or guidance method of your own.
//!
//! # Set-up
//!
//! The crate links to libtorch 2.11.0. A build without libtorch fails and prints the command that fetches it. The
//! README's "Set-up" lists the other ways: an installed PyTorch, an unpacked archive, the feature `download-libtorch`.
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `tiny` | yes | the embedded model and its ControlNet (8.5 MB) |
//! | `tiny-colorizer` | yes | the embedded model that colors sketches (6.4 MB) |
//! | `tiny-fast` | yes | the embedded model's UNet for four steps (4.7 MB) |
//! | `tiny-flow` | yes | the embedded model's transformer with flow matching (8.2 MB) |
//! | `hub` | no | [`Source`]s on the Hugging Face hub and in its cache |
//! | `download-libtorch` | no | a libtorch that cargo downloads if there is none |
//! | `python-extension` | no | what `tch` needs inside a Python extension |
//! | `doc-only` | no | documentation without libtorch |
//!
//! # Contents
//!
//! | to | see |
//! |---|---|
//! | force the color of a named thing | [`methods::ColorForce`] |
//! | place things by painting them | [`methods::PaintWithWords`] |
//! | give regions of the picture their own prompts | [`methods::RegionPrompts`], [`composition::Composition`] |
//! | guide a prompt by a picture, or by a second text | [`methods::ImageGuidance`] |
//! | draw like a picture, by an IP-Adapter | [`methods::IpAdapter`] |
//! | use the colors of another picture, color a sketch like one | [`methods::ReferenceColor`], [`methods::Colorize`] |
//! | turn a prompt into another one during the run | [`methods::PromptBlend`] |
//! | see where the picture attends to a word, or to every word | [`saliency::Daam`] |
//! | find a thing by the change that another word causes | [`saliency::Differential`] |
//! | start from a picture, repaint a part of one, vary a seed | [`pipeline::Request::start`], [`mask`], [`variation`] |
//! | give SDXL's second text encoder a prompt, share a run with a refiner | [`second_prompt`], [`until`] |
//! | follow edges, poses, strokes with ControlNets | [`Control`], [`hint`], [`pipeline::Request::control`] |
//! | read the results of guidance methods, repeat a run from its PNG | [`details`], [`reports`], [`from_png`] |
//! | choose a sampling method | [`diffusion::solver`], [`pipeline::Request::solver_named`] |
//! | watch or change attention yourself | [`attention::CrossAttentionHook`] |
//! | steer a run yourself | [`guidance::Guidance`], [`guidance::GuidanceRun`] |
//! | print errors and notes in the words of your program | [`wording::Wording`] |
//! | take one step at a time | [`sampler::Sampler`] |
//! | write the loop yourself | [`Model`], [`diffusion`] |
//! | try your guidance method without a model | [`testing::ToyModel`] |
//!
//! [`mask`]: pipeline::Request::mask
//! [`variation`]: pipeline::Request::variation
//! [`second_prompt`]: pipeline::Request::second_prompt
//! [`until`]: pipeline::Request::until
//! [`details`]: pipeline::Output::details
//! [`reports`]: pipeline::Output::reports
//! [`from_png`]: pipeline::Request::from_png

// The library neither panics nor prints; its tests, examples and benches may.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unreachable)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub, clippy::return_self_not_must_use)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

pub mod attention;
mod branch;
pub mod color;
pub mod compat;
pub mod composition;
pub mod conditioning;
pub mod diffusion;
mod error;
mod family;
pub mod files;
pub mod guidance;
pub mod hint;
pub mod json;
mod latent_colors;
pub mod mask;
pub mod methods;
mod micro_conditioning;
pub mod model;
pub mod nn;
pub mod pipeline;
pub mod prompt;
pub mod raster;
pub mod recipe;
pub mod reference;
mod repaint;
pub mod saliency;
pub mod sampler;
mod size;
mod step;
pub mod testing;
pub mod text;
pub mod vision;
pub mod weights;
mod window;
pub mod wording;

/// Crates with types that appear in this crate's interface, re-exported in the versions that this crate uses.
pub use {image, ndarray, tch};

pub use branch::{Branch, BranchInfo};
pub use color::{Lab, Rgb};
pub use conditioning::{Codec, Conditioning, Texts};
pub use error::{Error, MissingColor, Result};
pub use micro_conditioning::MicroConditioning;
pub use model::{Control, LoadOptions, Model, Precision};
pub use pipeline::{Output, Pipeline, job};
pub use prompt::{Prompt, TokenSpan};
pub use raster::Raster;
pub use recipe::Recipe;
pub use size::Size;
pub use step::{Grid, Step};
pub use weights::Source;
pub use window::Window;

/// Compiles the code of the README, and runs the blocks that are not marked `no_run`.
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

/// Compiles the code of the page on pictures as prompts.
#[cfg(doctest)]
#[doc = include_str!("../docs/ip-adapter.md")]
struct PicturesAsPrompts;

/// Compiles and runs the code of the page on models that color sketches.
#[cfg(doctest)]
#[doc = include_str!("../docs/colorize.md")]
struct Coloring;

/// Compiles and runs the code of the page on painting.
#[cfg(doctest)]
#[doc = include_str!("../docs/painting.md")]
struct Painting;

/// Compiles and runs the code of the page on repainting.
#[cfg(doctest)]
#[doc = include_str!("../docs/repaint.md")]
struct Repainting;

/// Compiles and runs the code of the page on image guidance.
#[cfg(doctest)]
#[doc = include_str!("../docs/image-guidance.md")]
struct ImageGuidance;

/// Compiles and runs the code of the page on maps of attention.
#[cfg(doctest)]
#[doc = include_str!("../docs/attention-maps.md")]
struct AttentionMaps;

/// Compiles and runs the code of the page on prompts of regions.
#[cfg(doctest)]
#[doc = include_str!("../docs/regions.md")]
struct Regions;

/// Compiles and runs the code of the page on prompts.
#[cfg(doctest)]
#[doc = include_str!("../docs/prompts.md")]
struct Prompts;

/// Compiles and runs the code of the page on prompt blends.
#[cfg(doctest)]
#[doc = include_str!("../docs/prompt-blend.md")]
struct Blend;

/// Compiles and runs the code of the page on perturbed attention.
#[cfg(doctest)]
#[doc = include_str!("../docs/perturbed-attention.md")]
struct Perturbed;

/// Compiles the code of the page on LoRA files.
#[cfg(doctest)]
#[doc = include_str!("../docs/lora.md")]
struct LoraFiles;

/// Compiles and runs the code of the page on color forcing.
#[cfg(doctest)]
#[doc = include_str!("../docs/color-forcing.md")]
struct ColorForcing;
