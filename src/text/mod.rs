//! CLIP's tokenizer: splits text into the token ids that a text encoder reads, and tells the letters of each token.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tokenizer = impasto::text::Tokenizer::from_json(&std::fs::read("tokenizer.json")?)?;
//! assert_eq!(tokenizer.padded_to("a cat", 77)?.len(), 77);
//! assert_eq!(tokenizer.prompt("a cat")?.find("cat")?.len(), 1);
//! # Ok(()) }
//! ```
//!
//! The rules are those of the fast tokenizer of `transformers`: NFC normalization, one space for any run of white
//! space, lower case, CLIP's split pattern, and byte-level BPE with `</w>` at the end of words.

mod chunks;
mod emphasis;
mod options;
mod tokenizer;

pub use chunks::{Chunks, Long};
pub use emphasis::Emphasis;
pub use options::TextOptions;
pub(crate) use tokenizer::LENGTH;
pub use tokenizer::{Tokenizer, Tokens};
