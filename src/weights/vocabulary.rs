//! CLIP's published vocabulary, for single files, which contain no tokenizer.
//!
//! Only the vocabulary's merges are stored, in `clip/merges.txt.gz`; a token's ID follows from its position in the list
//! of merges.

use crate::error::{Error, Result};
use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::io::Read;

const MERGES: &[u8] = include_bytes!("clip/merges.txt.gz");

/// Returns the contents of `merges.txt`.
pub(crate) fn merges() -> Result<Vec<u8>> {
    let mut merges = Vec::new();
    GzDecoder::new(MERGES).read_to_end(&mut merges).map_err(|error| Error::io("merges.txt", error))?;
    Ok(merges)
}

/// Returns the contents of `vocab.json`: the 256 bytes, the same bytes at the end of a word, the results of merging,
/// and the start and end tokens.
pub(crate) fn vocab() -> Result<Vec<u8>> {
    let merges = merges()?;
    let merges = String::from_utf8_lossy(&merges);
    let bytes: Vec<String> = bytes().map(String::from).collect();
    let words = bytes.iter().map(|byte| format!("{byte}</w>"));
    let merged = merges.lines().filter(|line| !line.is_empty() && !line.starts_with("#version"));
    let merged = merged.map(|pair| pair.split(' ').collect::<String>());
    let ends = ["<|startoftext|>", "<|endoftext|>"].map(String::from);
    let tokens = bytes.iter().cloned().chain(words).chain(merged).chain(ends);
    let ids: BTreeMap<String, usize> = tokens.enumerate().map(|(id, token)| (token, id)).collect();
    serde_json::to_vec(&ids).map_err(|error| Error::Tokenizer(error.to_string()))
}

/// Returns the letters that stand for bytes, in the order of GPT-2: printable bytes first, then the others.
fn bytes() -> impl Iterator<Item = char> {
    let readable = || (b'!'..=b'~').chain(0xa1..=0xac).chain(0xae..=0xff);
    let others = (0..=u8::MAX).filter(move |byte| !readable().any(|readable| readable == *byte));
    let shifted = others.enumerate().filter_map(|(i, _)| char::from_u32(256 + i as u32));
    readable().map(char::from).chain(shifted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn tokens_have_their_published_ids() -> Result<()> {
        let digest: String = Sha256::digest(vocab()?).iter().map(|byte| format!("{byte:02x}")).collect();
        // digest of the published vocab.json, written in the same way
        assert_eq!(digest, "f9190aead40a965a09db1ba2e556dccac0eda8423cb4926bcd994722899ec68e");
        let vocab: BTreeMap<String, usize> = serde_json::from_slice(&vocab()?).unwrap();
        assert_eq!(vocab.len(), 49408);
        for (token, id) in [("!", 0), (",</w>", 267), ("<|startoftext|>", 49406), ("<|endoftext|>", 49407)] {
            assert_eq!(vocab[token], id, "{token}");
        }
        Ok(())
    }
}
