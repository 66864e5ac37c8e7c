//! Inputs for the tests that run the fuzz targets: the files of a corpus, and changes of them.

use std::path::{Path, PathBuf};

/// Returns the files of a target in the folder `corpus`, in the order of their names.
pub fn corpus(corpus: &Path, target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(corpus.join(target)).expect("a corpus");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a file"))).collect()
}

/// A generator of numbers that are the same in every run.
pub struct Dice(pub u64);

impl Dice {
    /// Returns a number below `most`; 0 if `most` is 0.
    pub fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most.max(1)
    }

    /// Changes an input in a few places: replaces bytes, and removes, repeats or inserts pieces.
    pub fn mutated(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        const PIECES: [&[u8]; 14] = [
            b"(",
            b"\"",
            b"{",
            b"}",
            b"\\",
            b"1048576",
            b"-1",
            b"1e308",
            b"null",
            b"[",
            b"\0",
            b" ",
            b"\xff",
            "İ".as_bytes(),
        ];
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            let end = (at + 1 + self.below(24)).min(bytes.len());
            match self.below(6) {
                0 if !bytes.is_empty() => bytes[at] = self.below(256) as u8,
                1 => bytes.truncate(at),
                2 => drop(bytes.drain(at.min(end)..end)),
                3 => {
                    let piece = bytes.get(at..end).unwrap_or_default().repeat(1 + self.below(60));
                    bytes.splice(at..at, piece);
                }
                4 => drop(bytes.splice(at..at, other.iter().copied().skip(self.below(other.len())).take(40))),
                _ => drop(bytes.splice(at..at, PIECES[self.below(PIECES.len())].iter().copied())),
            }
        }
        bytes
    }
}
