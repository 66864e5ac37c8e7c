//! `impasto bench`: how long a model takes on this machine.

use crate::console::print;
use crate::failure::Failure;
use crate::interrupt;
use crate::loading::Loading;
use crate::notes::Notes;
use clap::Args;
use impasto::job::Job;
use impasto::pipeline::Timing;
use impasto::{Size, Source};
use serde::Serialize;
use std::time::Instant;

/// Arguments of `impasto bench`.
#[derive(Args, Debug)]
pub struct Bench {
    /// Prompt of the pictures.
    #[arg(long, default_value = "1girl, hair, eyes")]
    prompt: String,
    /// Number of steps of a picture.
    #[arg(long, default_value_t = 8)]
    steps: usize,
    /// Size in pixels. The default is the model's own.
    #[arg(long, value_name = "WIDTHxHEIGHT")]
    size: Option<Size>,
    /// Number of measured pictures. One more picture before them is not measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Prints the times as one line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    loading: Loading,
}

/// Measured times in seconds. All but `load` are medians over the pictures.
#[derive(Debug, Serialize)]
struct Measured {
    load: f64,
    text: f64,
    step: f64,
    decode: f64,
    /// A whole picture of `steps` steps.
    picture: f64,
    steps: usize,
    size: String,
    threads: i32,
    /// Name of the instruction set of impasto's own kernels; `None`: libtorch computes.
    kernels: Option<&'static str>,
}

/// Measures the model.
pub fn bench(arguments: &Bench) -> Result<(), Failure> {
    let mut job = Job::default();
    job.config.steps = Some(arguments.steps);
    job.config.size = arguments.size;
    job.check().map_err(Failure::of_command_line)?;
    let token = interrupt::token()?;
    let begun = Instant::now();
    let pipeline = arguments.loading.pipeline(Source::embedded())?;
    let load = begun.elapsed().as_secs_f64();
    let mut notes = Notes::default();
    notes.tell_before(pipeline.model().notes());
    let mut timings: Vec<Timing> = Vec::new();
    let mut size = String::new();
    for round in 0..=arguments.rounds {
        let request = pipeline.request(&arguments.prompt).seed(u64::from(round)).steps(arguments.steps).cancel(&token);
        let request = request.tune(|config| config.size = arguments.size);
        notes.tell_before(&request.notes()?);
        let output = request.run()?;
        notes.tell_before(&output.notes); // such as a picture that was decoded in tiles
        size = output.image(0)?.size().to_string();
        if round > 0 {
            timings.push(output.timing);
        }
    }
    let median = |of: &dyn Fn(&Timing) -> f64| {
        let mut values: Vec<f64> = timings.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let measured = Measured {
        load,
        text: median(&|timing| timing.text.as_secs_f64()),
        step: median(&|timing| timing.step().as_secs_f64()),
        decode: median(&|timing| timing.decode.as_secs_f64()),
        picture: median(&|timing| timing.total().as_secs_f64()),
        steps: arguments.steps,
        size,
        threads: tch::get_num_threads(),
        kernels: impasto::model::kernels_in_use(),
    };
    if arguments.json {
        return print(serde_json::to_string(&measured).map_err(|error| Failure::Message(error.to_string()))?);
    }
    let Measured { load, text, step, decode, picture, steps, size, threads, kernels } = measured;
    let kernels = kernels.map_or_else(|| "libtorch alone".to_owned(), |set| format!("kernels for {set}"));
    print(format_args!("load    {load:.3} s"))?;
    print(format_args!("text    {text:.3} s"))?;
    print(format_args!("step    {step:.3} s"))?;
    print(format_args!("decode  {decode:.3} s"))?;
    print(format_args!("picture {picture:.3} s ({size}, {steps} steps, {threads} threads, {kernels})"))
}
