//! Writes the pictures of a small style that the embedded model does not know, with captions, to train a LoRA on.
//!
//! `cargo run --release -p impasto-train --example blueprints -- FOLDER`

use clap::Parser;
use impasto::Result;
use impasto_train::dataset::{Dataset, Style, Wording};
use std::fs;
use std::path::PathBuf;

/// Draws portraits and scenes in white lines on blue, each with a caption in a text file of the same name.
#[derive(Parser)]
struct Options {
    /// Folder of the pictures; a missing folder is made.
    #[arg(value_name = "FOLDER", default_value = "blueprints")]
    folder: PathBuf,
    /// Number of pictures.
    #[arg(long, default_value_t = 20)]
    count: u64,
    /// Seed of the first drawing; each later drawing has the next seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let Options { folder, count, seed } = Options::parse();
    fs::create_dir_all(&folder).expect("the folder can be made");
    let dataset = Dataset::new(256)?.in_style(Style::Blueprint);
    for seed in seed..seed + count {
        let drawing = dataset.draw(seed)?;
        // The captions name colors that the pictures do not have, so that the LoRA learns to paint in blue what a
        // prompt calls red.
        let caption = format!("blueprint, {}", drawing.record.caption(Wording::FULL, 0));
        drawing.picture.save(folder.join(format!("{seed:03}.png")))?;
        fs::write(folder.join(format!("{seed:03}.txt")), &caption).expect("the caption can be written");
        println!("{seed:03}.png  {caption}");
    }
    Ok(())
}
