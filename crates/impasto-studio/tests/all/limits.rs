//! Requests of strangers inside pictures: each ends in an error or is read in little memory.

#[path = "../../../../fuzz/src/mutation.rs"]
mod mutation;
#[path = "../../../../fuzz/src/request.rs"]
mod request;

use mutation::{Dice, corpus};
use request::request;
use std::path::Path;

/// Number of mutated inputs, which run after the corpus itself.
const MUTATIONS: usize = 300;

#[test]
fn request_of_a_picture_is_read_in_little_memory() {
    let corpus = corpus(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus"), "request");
    for (_, input) in &corpus {
        request(input);
    }
    let mut dice = Dice(7);
    for _ in 0..MUTATIONS {
        let [(_, input), (_, other)] = [0, 1].map(|_| &corpus[dice.below(corpus.len())]);
        request(&dice.mutated(input, other));
    }
}
