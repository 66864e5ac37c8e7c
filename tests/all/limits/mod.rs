//! Untrusted inputs: each ends in an error or takes a bounded amount of work, even if the input is tiny.

#[path = "../../../fuzz/src/mutation.rs"]
mod mutation;
#[path = "../../../fuzz/src/lib.rs"]
mod targets;

mod drawings;
mod files;
mod json;
mod pickles;
mod strokes;

use mutation::{Dice, corpus};
use std::path::Path;

/// Bytes that an input of a few kilobytes may allocate in total.
///
/// Allocations measure work, because they are the same on every machine, however busy. A configuration may ask for some
/// thousand tensors before it is refused. The memory of libtorch is not counted.
const MOST_BYTES: u64 = 128 << 20;
/// Number of allocations that an input of a few kilobytes may make.
const MOST_ALLOCATIONS: u64 = 1_000_000;
/// Number of mutated inputs of each target, which run after the corpus itself.
const MUTATIONS: usize = 300;

fn assert_bounded(name: &str, input: &[u8], what: &str, run: fn(&[u8])) {
    let work = allocation_counter::measure(|| run(input));
    let shown = String::from_utf8_lossy(&input[..input.len().min(400)]);
    let is_bounded = work.bytes_total <= MOST_BYTES && work.count_total <= MOST_ALLOCATIONS;
    assert!(is_bounded, "{name}, {what}: {work:?} for {shown:?}");
}

fn check(name: &str) {
    let (_, run) = targets::TARGETS.into_iter().find(|(known, _)| *known == name).expect("a target");
    let corpus = corpus(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus"), name);
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

bounded!(
    safetensors,
    pickle,
    config,
    tokenizer,
    prompt,
    colors,
    infotext,
    recipe,
    composition,
    palette,
    hint,
    controlnet
);
