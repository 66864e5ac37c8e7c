//! Reports on runs of [`impasto`]: an HTML page, contact sheets, and animations.
//!
//! The page and the contact sheets show what guidance methods report ([`impasto::guidance::Report`]). They depend on no
//! particular method.
//!
//! ```
//! # fn main() -> impasto::Result<()> {
//! use impasto::{Pipeline, Rgb, saliency::Daam};
//!
//! let pipeline = Pipeline::builder().color_force("eyes", Rgb(255, 215, 0)).build()?;
//! let output = pipeline.request("1girl, eyes, hair").steps(4).seed(7).guide(Daam::of("hair")).run()?;
//! # let folder = std::env::temp_dir();
//! impasto_report::save(&output, folder.join("run.html"))?;
//! impasto_report::contact_sheet(&output, 0)?.save(folder.join("run.png"))?;
//! # Ok(()) }
//! ```

// The library neither panics nor prints; its tests and examples may.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unreachable)]
#![warn(missing_docs, clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

mod animation;
mod contact_sheet;
mod frames;
mod lettering;
mod numbers;
mod page;
mod plot;
mod sheet;

pub use animation::animation;
pub use contact_sheet::contact_sheet;
pub use page::page;
pub use sheet::Sheet;

use impasto::pipeline::Output;
use impasto::{Result, files};
use std::path::Path;

/// Writes the [`page`] of a run to a file. The file is written completely or not at all.
///
/// # Errors
/// The errors of [`page`] and of [`files::write_whole`].
pub fn save(output: &Output, path: impl AsRef<Path>) -> Result<()> {
    files::write_whole(path.as_ref(), page(output)?.as_bytes())
}

/// Writes the [`page`] of a run as [`save`] does, but never replaces a file, as [`files::write_new`] explains.
///
/// # Errors
/// The errors of [`page`] and of [`files::write_new`].
pub fn save_new(output: &Output, path: impl AsRef<Path>) -> Result<()> {
    files::write_new(path.as_ref(), page(output)?.as_bytes())
}

/// Compiles the code of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
