//! Folders of small models in diffusers' layout, whose parts are those of the reference cases.

use std::fs;
use std::path::Path;

/// Parts of Stable Diffusion 3.5 without T5, each with the name of its reference model.
pub const SD3: [(&str, &str); 6] = [
    ("transformer", "sd35-medium"),
    ("vae", "sd3-vae"),
    ("text_encoder", "sd3-clip-l"),
    ("text_encoder_2", "sd3-clip-g"),
    ("tokenizer", "tokenizer-tiny"),
    ("tokenizer_2", "tokenizer-tiny-pad0"),
];

/// Puts the reference model `model` into a folder, as its part `part`.
pub fn put(folder: &Path, part: &str, model: &str) {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let models = packages.map(|package| package.join("tests/golden/models")).find(|models| models.is_dir());
    let model = models.expect("the reference models").join(model);
    fs::create_dir_all(folder.join(part)).expect("a folder");
    for file in fs::read_dir(model).expect("a model").map(|entry| entry.expect("a file").path()) {
        let copy = folder.join(part).join(file.file_name().expect("a name"));
        fs::hard_link(&file, &copy).or_else(|_| fs::copy(&file, &copy).map(drop)).expect("copied");
    }
}
