//! Damaged checkpoints of PyTorch.

use super::mutation::{Dice, corpus};
use super::targets::TARGETS;
use std::path::Path;

/// Number of damaged files, unless the variable `IMPASTO_DAMAGED_FILES` has another number.
const FILES: usize = 10_000;
/// Bytes that reading a file may allocate in total: for buffers, and for each byte of the file.
const MOST_BYTES: (u64, u64) = (1 << 20, 1 << 10);

#[test]
fn damaged_checkpoints_take_little_memory() {
    let (_, read) = TARGETS.into_iter().find(|(name, _)| *name == "pickle").expect("a target");
    let corpus = corpus(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus"), "pickle");
    let mut dice = Dice(11);
    let files = std::env::var("IMPASTO_DAMAGED_FILES").map_or(FILES, |files| files.parse().expect("a number of files"));
    for nth in 0..files {
        let [(path, input), (_, other)] = [0, 1].map(|_| &corpus[dice.below(corpus.len())]);
        // Half of the changes keep the length, so that the places of all records in a zip file stay right.
        let damaged = if nth % 2 == 0 { dice.mutated(input, other) } else { overwritten(&mut dice, input) };
        let work = allocation_counter::measure(|| read(&damaged));
        let most = MOST_BYTES.0 + MOST_BYTES.1 * damaged.len() as u64;
        assert!(work.bytes_total <= most, "mutation {nth} of {}: {work:?}", path.display());
    }
}

/// Overwrites bytes in a few places, with any bytes or with bytes of another place.
fn overwritten(dice: &mut Dice, input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=dice.below(4) {
        let (at, from) = (dice.below(bytes.len()), dice.below(bytes.len()));
        let length = (1 + dice.below(8)).min(bytes.len() - at.max(from));
        match dice.below(2) {
            0 => bytes.copy_within(from..from + length, at),
            _ => bytes[at..at + length].iter_mut().for_each(|byte| *byte = dice.below(256) as u8),
        }
    }
    bytes
}
