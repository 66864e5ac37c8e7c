//! A program of one's own with all of impasto's options, such as `--seed`, `--force eyes=gold` and `--start`. The
//! feature `clap` of impasto makes a job into a group of options.

use clap::Parser;
use impasto::job::{Job, Nets};
use impasto::{Pipeline, Result};

/// Paints a picture.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    job: Job,
}

fn main() -> Result<()> {
    let Arguments { mut job } = Arguments::parse();
    if job.config.prompt.is_empty() {
        "1girl, eyes, hair, shirt".clone_into(&mut job.config.prompt);
        job.forces.push("eyes=gold".parse()?);
        (job.config.seed, job.config.steps) = (Some(7), Some(8));
    }
    job.check()?; // a wrong number is told before the model is loaded
    let pipeline = Pipeline::builder().build()?;
    let mut nets = Nets::default();
    nets.load(&job, pipeline.model())?;
    let output = job.request(&pipeline, &nets)?.run()?;
    output.save(0, "job.png")?;
    println!("job.png, seed {}", output.seed.unwrap_or_default());
    Ok(())
}
