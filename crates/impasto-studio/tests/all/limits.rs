//! Requests of strangers, inside pictures and in the forms of other APIs: each ends in an error or is read in little
//! memory.

#[path = "../../../../fuzz/src/mutation.rs"]
mod mutation;
#[path = "../../../../fuzz/src/orders.rs"]
mod orders;
#[path = "../../../../fuzz/src/request.rs"]
mod request;

use mutation::{Dice, corpus};
use std::path::Path;

/// Number of mutated inputs, which run after the corpus itself.
const MUTATIONS: usize = 300;

/// Runs a target on its corpus and on changes of it.
fn check(name: &str, run: fn(&[u8])) {
    let corpus = corpus(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus"), name);
    for (_, input) in &corpus {
        run(input);
    }
    let mut dice = Dice(7);
    for _ in 0..MUTATIONS {
        let [(_, input), (_, other)] = [0, 1].map(|_| &corpus[dice.below(corpus.len())]);
        run(&dice.mutated(input, other));
    }
}

#[test]
fn request_of_a_picture_is_read_in_little_memory() {
    check("request", request::request);
}

#[test]
fn requests_of_other_apis_are_read_in_little_memory() {
    check("txt2img", orders::txt2img);
    check("img2img", orders::img2img);
    check("generations", orders::generations);
    check("edits", orders::edits);
}
