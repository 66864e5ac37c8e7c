//! Models of two sizes, for benches that need whole models.

use super::folder::write_model;
use impasto::{Model, Result, Source};

/// Calls `group` with the name, the model and the number of rounds: for the embedded model, `tiny`, and for a model of
/// Stable Diffusion 1.5's size with random weights, `sd15`. The options of the command line are these names, which
/// select a model, `--rounds N` with a default of `rounds`, and `--threads N` with a default of 1.
pub fn each_model(rounds: usize, group: impl Fn(&str, &Model, usize) -> Result<()>) -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| -> Option<usize> {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse().ok()
    };
    let wanted = |name: &str| {
        let named = |name: &&str| arguments.iter().any(|argument| argument == *name);
        named(&name) || !["tiny", "sd15"].iter().any(named)
    };
    tch::set_num_threads(number("--threads").unwrap_or(1) as i32);
    let rounds = number("--rounds").unwrap_or(rounds);
    if wanted("tiny") {
        group("tiny", &Model::load(&Source::embedded())?, rounds)?;
    }
    if wanted("sd15") {
        let folder = tempfile::tempdir().expect("a folder");
        write_model(folder.path(), "sd15")?;
        group("sd15", &Model::load(&Source::dir(folder.path()))?, rounds)?;
    }
    Ok(())
}
