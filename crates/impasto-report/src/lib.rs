//! Reports on runs of [`impasto`]: an HTML page, contact sheets, and animations.
//!
//! The page and the contact sheets show what guidance methods report ([`impasto::guidance::Report`]). They depend on no
//! particular method.
//!
//! ```
//! # fn main() -> impasto::Result<()> {
//! use impasto::{Pipeline, Rgb, saliency::Daam};
//!
//! let mut pipeline = Pipeline::builder().color_force("eyes", Rgb(255, 215, 0)).build()?;
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
use impasto::{Error, Result};
use std::io::Write;
use std::path::Path;
use tempfile::NamedTempFile;

/// Writes the [`page`] of a run to a file. The file is written completely or not at all.
///
/// # Errors
/// The errors of [`page`]; [`Error::Io`].
pub fn save(output: &Output, path: impl AsRef<Path>) -> Result<()> {
    write_whole(page(output)?.as_bytes(), path.as_ref())
}

/// Writes the [`page`] of a run as [`save`] does, but never replaces a file.
///
/// # Errors
/// The errors of [`page`]; [`Error::Io`], of the kind [`AlreadyExists`](std::io::ErrorKind::AlreadyExists) if a file
/// has the name `path` already.
pub fn save_new(output: &Output, path: impl AsRef<Path>) -> Result<()> {
    let (page, path) = (page(output)?, path.as_ref());
    let written = || Ok(part(page.as_bytes(), path)?.persist_noclobber(path)?);
    written().map(drop).map_err(|source| Error::Io { path: path.to_owned(), source })
}

/// Writes a file completely or not at all.
fn write_whole(bytes: &[u8], path: &Path) -> Result<()> {
    let written = || Ok(part(bytes, path)?.persist(path)?);
    written().map(drop).map_err(|source| Error::Io { path: path.to_owned(), source })
}

/// Writes a temporary file into the folder of `path`.
fn part(bytes: &[u8], path: &Path) -> std::io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // the umask applies, as to any file
    let mut file = builder.prefix(".report").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Compiles the code of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
