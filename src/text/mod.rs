//! CLIP's tokenizer: from text to the token ids that a text encoder reads, and back to the letters of each token.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tokenizer = impasto::text::Tokenizer::from_json(&std::fs::read("tokenizer.json")?)?;
//! assert_eq!(tokenizer.padded("a cat")?.len(), 77);
//! assert_eq!(tokenizer.prompt("a cat")?.find("cat")?.len(), 1);
//! # Ok(()) }
//! ```
//!
//! The rules are those of the fast tokenizer of `transformers`: NFC, white space to one space, lower case, CLIP's split
//! pattern, byte-level BPE with `</w>`.

mod chunks;
mod emphasis;
mod options;
mod tokenizer;

pub use chunks::{Chunks, Long};
pub use emphasis::Emphasis;
pub use options::TextOptions;
pub(crate) use tokenizer::LENGTH;
pub use tokenizer::{Tokenizer, Tokens};
