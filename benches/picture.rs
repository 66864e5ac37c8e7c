//! One picture of the embedded model per line of input: `cargo bench --bench picture -- --threads 2`.
//!
//! Prints the seconds each took and saves the last as `picture.png` if told `--save FOLDER`. `benches/peers/picture.py`
//! drives it in turns with diffusers.

use impasto::{Pipeline, Result};
use std::io::{BufRead, Write};
use std::time::Instant;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option =
        |name: &str| -> Option<&String> { arguments.get(arguments.iter().position(|found| found == name)? + 1) };
    tch::set_num_threads(option("--threads").and_then(|threads| threads.parse().ok()).unwrap_or(1));
    let mut pipeline = Pipeline::builder().build()?;
    for line in std::io::stdin().lock().lines() {
        let prompt = line.expect("a line of text");
        let begun = Instant::now();
        let output = pipeline.request(&prompt).seed(0).steps(28).run()?;
        println!("{}", begun.elapsed().as_secs_f64());
        std::io::stdout().flush().expect("somebody listens");
        if let Some(folder) = option("--save") {
            output.image(0)?.save(format!("{folder}/picture.png"))?;
        }
    }
    Ok(())
}
