//! Messages that each program words for its own readers: notes, and remedies as values.
//!
//! Errors and notes of this crate name settings and say what to do in the words of a library: `Builder::source`,
//! `guidance_scale`. A program with other names implements [`Wording`], and prints [`Error::worded`] and
//! [`Note::worded`]:
//!
//! ```
//! use impasto::wording::{Note, Remedy, Wording};
//!
//! struct Page;
//!
//! impl Wording for Page {
//!     fn name<'n>(&self, name: &'n str) -> &'n str {
//!         match name {
//!             "guidance_scale" => "Guidance scale",
//!             name => name,
//!         }
//!     }
//!     fn remedy(&self, remedy: Remedy) -> Option<&'static str> {
//!         match remedy {
//!             Remedy::LookAtMask => Some("click the color to see its mask"),
//!             _ => None,
//!         }
//!     }
//! }
//!
//! let error = impasto::Error::parameter("guidance_scale", -1, "a number of 0 or more");
//! assert_eq!(error.worded(&Page), "Guidance scale is -1; expected a number of 0 or more");
//! let note = Note { remedy: Some(Remedy::LookAtMask), ..Note::from("half of the mask is protected") };
//! assert_eq!(note.worded(&Page), "half of the mask is protected; click the color to see its mask");
//! assert_eq!(note.to_string(), "half of the mask is protected; look at the mask");
//! ```
//!
//! [`Error::worded`]: crate::Error::worded

mod note;
mod remedy;
mod shortened;

pub use note::Note;
pub(crate) use note::{LONG_QUOTE, QUOTED, excerpt};
pub use remedy::Remedy;
pub use shortened::shortened;

/// The words of a program for the settings and remedies that messages name.
///
/// ```
/// use impasto::wording::{Remedy, Wording};
///
/// struct Page;
///
/// impl Wording for Page {
///     fn remedy(&self, remedy: Remedy) -> Option<&'static str> {
///         (remedy == Remedy::Vae).then_some("choose a VAE below the model")
///     }
/// }
/// let error = impasto::Error::parameter("steps", 0, "1 or more");
/// assert_eq!(error.worded(&Page), "steps is 0; expected 1 or more");
/// ```
pub trait Wording {
    /// Returns the program's name of a setting, a part or a guidance method that this crate calls `name`, such as
    /// `guidance scale` or `ColorForce`. The default is `name` itself.
    fn name<'n>(&self, name: &'n str) -> &'n str {
        name
    }

    /// Returns what a user of the program does to follow a remedy, in words that complete a sentence, such as
    /// `add a VAE with --vae`. `None` if the program offers no such way out; messages then end without it.
    fn remedy(&self, remedy: Remedy) -> Option<&'static str>;
}

/// The words of this library.
pub(crate) struct Library;

impl Wording for Library {
    fn remedy(&self, remedy: Remedy) -> Option<&'static str> {
        Some(remedy.text())
    }
}
