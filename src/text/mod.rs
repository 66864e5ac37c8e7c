//! Tokenizers: they split a text into the token ids that a text encoder reads, and tell the letters of each token.
//! [`Tokenizer`] is CLIP's, and [`SequenceTokenizer`] is that of Qwen3 and T5.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tokenizer = impasto::text::Tokenizer::from_json(&std::fs::read("tokenizer.json")?)?;
//! assert_eq!(tokenizer.padded_to("a cat", 77)?.len(), 77);
//! assert_eq!(tokenizer.prompt("a cat")?.find("cat")?.len(), 1);
//! # Ok(()) }
//! ```
//!
//! CLIP's rules are those of the fast tokenizer of `transformers`: NFC normalization, one space for any run of white
//! space, lower case, CLIP's split pattern, and byte-level BPE with `</w>` at the end of words.

pub mod anima;
mod charsmap;
mod chunks;
mod definition;
mod emphasis;
mod options;
mod plain;
mod sequence;
pub(crate) mod t5;
mod tokenizer;
pub(crate) mod z_image;

pub use chunks::{Chunks, Long};
pub use emphasis::Emphasis;
pub use options::TextOptions;
pub use sequence::SequenceTokenizer;
pub(crate) use t5::T5Text;
pub(crate) use tokenizer::LENGTH;
pub use tokenizer::{Tokenizer, Tokens};
pub(crate) use z_image::ZImageText;
