//! Untrusted inputs: each ends in an error or takes a bounded amount of work, even if the input is tiny.

#[path = "../../../fuzz/src/lib.rs"]
mod targets;

mod drawings;
mod files;
mod strokes;

use std::path::{Path, PathBuf};

/// Bytes that an input of a few kilobytes may allocate in total.
///
/// Allocations measure work, because they are the same on every machine, however busy. A configuration may ask for some
/// thousand tensors before it is refused. The memory of libtorch is not counted.
const MOST_BYTES: u64 = 128 << 20;
/// Number of allocations that an input of a few kilobytes may make.
const MOST_ALLOCATIONS: u64 = 1_000_000;
/// Number of mutated inputs of each target, which run after the corpus itself.
const MUTATIONS: usize = 300;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a file"))).collect()
}

/// A generator of numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most.max(1)
    }

    /// Changes an input in a few places: replaces bytes, and removes, repeats or inserts pieces.
    fn mutated(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
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

fn assert_bounded(name: &str, input: &[u8], what: &str, run: fn(&[u8])) {
    let work = allocation_counter::measure(|| run(input));
    let shown = String::from_utf8_lossy(&input[..input.len().min(400)]);
    let is_bounded = work.bytes_total <= MOST_BYTES && work.count_total <= MOST_ALLOCATIONS;
    assert!(is_bounded, "{name}, {what}: {work:?} for {shown:?}");
}

fn check(name: &str) {
    let (_, run) = targets::TARGETS.into_iter().find(|(known, _)| *known == name).expect("a target");
    let corpus = corpus(name);
    run(b"1girl"); // the first run loads models and vocabularies
    for (path, input) in &corpus {
        assert_bounded(name, input, &path.display().to_string(), run);
    }
    let mut dice = Dice(7);
    for nth in 0..MUTATIONS {
        let [(_, input), (_, other)] = [0, 1].map(|_| &corpus[dice.below(corpus.len())]);
        assert_bounded(name, &dice.mutated(input, other), &format!("mutation {nth}"), run);
    }
}

macro_rules! bounded {
    ($($target:ident),*) => {$(
        #[test]
        fn $target() {
            check(stringify!($target));
        }
    )*

        #[test]
        fn every_target_is_tested() {
            assert_eq!([$(stringify!($target)),*], targets::TARGETS.map(|(name, _)| name));
        }
    };
}

bounded!(safetensors, config, tokenizer, prompt, colors, infotext, recipe, composition, palette, hint, controlnet);
