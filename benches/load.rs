//! Time and peak memory of loading, and time of the first step:
//! `cargo bench --bench load [-- tiny|start|small|large|first] [--rounds N]`.
//!
//! Without a name, `tiny` and `small` run. The time of loading is compared with the time to read the same bytes and
//! to convert them by libtorch.
//!
//! `small` and `large` are diffusers folders of random f16 weights in a temporary folder, with a small VAE and text
//! encoder. `small` has a UNet of SD 1.5's build with a quarter of its channels. `large` has the UNet of SD 1.5 itself
//! (1.7 GB). Each measurement runs in its own process, so that the peak memory belongs to that measurement alone. The
//! files are in the system's file cache.
//!
//! * `floor`: reads the files once and converts each tensor with `to_kind`. The tensors stay in memory, as a loaded
//!   model's do.
//! * `load`: calls `Model::load_with`. The ratio is to the floor of the same round.
//! * `peak`: most resident memory while loading, less the resident memory before, as a multiple of the model's bytes.
//!
//! `start` has the time of the parts of a new process that makes a picture with the embedded model, and the memory that
//! the process holds after each part.
//!
//! `first` has the time of the first step of a model of `large`, and of the first step of a copy (`Model::share`), as
//! ratios to the first steps of later runs of the same model. The steps have two branches, 32×32 latents and two
//! threads. Layers that keep sums of their weights make them in the first step.

mod support;

use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Noise, Schedule, Spacing, TrainingSchedule};
use impasto::sampler::{Sampler, Start};
use impasto::weights::Header;
use impasto::{Grid, LoadOptions, Model, Pipeline, Result, Source};
use serde_json::json;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::{Instant, UNIX_EPOCH};
use support::PROMPT;
use support::figures::Figure;
use support::folder::{TINY, weights_file, write_folder};
use support::process::resident;
use support::statistics::{bootstrap, median};
use tch::{Kind, Tensor};

/// The parts that have weights.
const PARTS: [&str; 3] = ["unet", "vae", "text_encoder"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| arguments.get(arguments.iter().position(|argument| argument == name)? + 1);
    tch::set_num_threads(1);
    if let (Some(work), Some(folder)) = (after("--work"), after("--folder")) {
        let kind = if arguments.iter().any(|argument| argument == "bf16") { Kind::BFloat16 } else { Kind::Float };
        return match work.as_str() {
            "make small" => make(Path::new(folder), 4),
            "make large" => make(Path::new(folder), 1),
            "floor" => measured(|| floor(Path::new(folder), kind)),
            "first" => first(Path::new(folder), kind),
            "start" => start(),
            _ => measured(|| {
                let mut options = LoadOptions::default();
                options.precision = kind.into();
                let begun = Instant::now();
                let model = Model::load_with(&Source::dir(folder), options)?;
                let seconds = begun.elapsed().as_secs_f64();
                drop(model);
                Ok((seconds, bytes(Path::new(folder), kind)?))
            }),
        };
    }
    let rounds = after("--rounds").and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let named = |group: &str| arguments.iter().any(|argument| argument == group);
    let any = ["tiny", "start", "small", "large", "first"].into_iter().any(named);
    let wanted = |group: &str| named(group) || (!any && ["tiny", "small"].contains(&group));
    if wanted("tiny") {
        tiny(rounds)?;
    }
    if wanted("start") {
        starts(rounds);
    }
    for group in ["small", "large"].into_iter().filter(|group| wanted(group)) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        work(&format!("make {group}"), folder.path(), "f32");
        for kind in ["f32", "bf16"] {
            compare(group, folder.path(), kind, rounds);
        }
    }
    if wanted("first") {
        let folder = tempfile::tempdir().expect("a temporary folder");
        work("make large", folder.path(), "f32");
        for kind in ["f32", "bf16"] {
            first_steps(folder.path(), kind, rounds);
        }
    }
    Ok(())
}

/// Measures the embedded model: loading it, loading it from a folder, and the time to a first picture.
fn tiny(rounds: usize) -> Result<()> {
    let time = |row: &str, act: &dyn Fn() -> Result<()>| -> Result<()> {
        act()?; // warm-up
        let times = (0..rounds).map(|_| {
            let begun = Instant::now();
            act().map(|()| 1e3 * begun.elapsed().as_secs_f64())
        });
        let ms = median(times.collect::<Result<_>>()?);
        println!("tiny: {row:<32} {ms:8.1} ms");
        Figure { bench: "load", group: "tiny", row, measure: "ms", value: ms, interval: None, rounds }.record();
        Ok(())
    };
    time("embedded", &|| Model::load(&Source::embedded()).map(drop))?;
    time("folder", &|| Model::load(&Source::dir(TINY)).map(drop))?;
    time("to a first picture of one step", &|| {
        Pipeline::builder().build()?.request("a red boat").seed(7).steps(1).run().map(drop)
    })
}

/// The variable with the time at which a process for `start` was begun, in seconds of the Unix epoch.
const BEGUN: &str = "IMPASTO_BEGUN";

/// Returns the seconds of the Unix epoch.
fn now() -> f64 {
    UNIX_EPOCH.elapsed().expect("a clock after 1970").as_secs_f64()
}

/// Prints, for each part of a process that makes a picture, the milliseconds since the process was begun and the
/// resident memory in bytes, both at the end of the part.
fn start() -> Result<()> {
    let begun: f64 = std::env::var(BEGUN).ok().and_then(|begun| begun.parse().ok()).expect("the time of the begin");
    let tell = || println!("{} {}", 1e3 * (now() - begun), resident("VmRSS"));
    tell();
    let pipeline = Pipeline::builder().build()?;
    tell();
    let picture = || pipeline.request("a red boat").seed(7).steps(1).run();
    picture()?;
    tell();
    picture()?;
    tell();
    let copy = pipeline.model().share()?;
    tell();
    let other = Model::load(&Source::embedded())?;
    tell();
    drop((copy, other));
    Ok(())
}

/// Measures the parts of new processes, and prints the medians.
fn starts(rounds: usize) {
    let rows = ["main", "build", "first picture", "later picture", "copy", "another model"];
    let runs: Vec<Vec<f64>> = (0..rounds).map(|_| work("start", Path::new(""), "f32")).collect();
    for (at, row) in rows.into_iter().enumerate() {
        let before = |run: &[f64], measure| if at == 0 { 0.0 } else { run[2 * at - 2 + measure] };
        for (measure, name, unit) in [(0, "ms", 1.0), (1, "MiB", f64::from(1 << 20))] {
            let value = median(runs.iter().map(|run| (run[2 * at + measure] - before(run, measure)) / unit).collect());
            println!("start: {row:<16} {value:8.1} {name}");
            Figure { bench: "load", group: "start", row, measure: name, value, interval: None, rounds }.record();
        }
    }
}

/// Measures floor and load in turns, and prints their medians and ratio.
fn compare(group: &str, folder: &Path, kind: &str, rounds: usize) {
    let (mut floors, mut loads, mut peaks, mut whole) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        floors.push(work("floor", folder, kind)[0]);
        let [seconds, bytes, before, peak] = work("load", folder, kind)[..] else { panic!("four numbers") };
        loads.push(seconds);
        peaks.push((peak - before) / bytes);
        whole.push(peak / bytes);
    }
    let ratios: Vec<f64> = loads.iter().zip(&floors).map(|(load, floor)| load / floor).collect();
    let interval @ (low, high) = bootstrap(&ratios);
    let (floor, load, ratio) = (median(floors), median(loads), median(ratios));
    let (peak, whole) = (median(peaks), median(whole));
    println!(
        "{group}, f16 to {kind}: floor {floor:.2} s, load {load:.2} s, ratio {ratio:.3} [{low:.3}, {high:.3}], peak \
         {peak:.3} of the model ({whole:.3} with the process)"
    );
    let figures = [("floor s", floor), ("s", load), ("ratio", ratio), ("peak", peak), ("peak of process", whole)];
    for (measure, value) in figures {
        let interval = (measure == "ratio").then_some(interval);
        Figure { bench: "load", group, row: kind, measure, value, interval, rounds }.record();
    }
}

/// Measures the first steps of models in processes of their own, and prints the medians of their ratios to later steps.
fn first_steps(folder: &Path, kind: &str, rounds: usize) {
    let times: Vec<Vec<f64>> = (0..rounds).map(|_| work("first", folder, kind)).collect();
    for (at, row) in ["loaded", "copy"].into_iter().enumerate() {
        let ratios: Vec<f64> = times.iter().map(|times| times[at] / times[2]).collect();
        let (interval @ (low, high), ratio) = (bootstrap(&ratios), median(ratios));
        println!("first step, {kind}, {row:<6} {ratio:.3} [{low:.3}, {high:.3}] of a later step");
        let row = &format!("{row} {kind}");
        Figure { bench: "load", group: "first", row, measure: "ratio", value: ratio, interval: Some(interval), rounds }
            .record();
    }
}

/// Prints the seconds of the first step of a model, of the first step of its copy, and of later runs' first steps.
fn first(folder: &Path, kind: Kind) -> Result<()> {
    tch::set_num_threads(2);
    let step = |model: &Model| -> Result<f64> {
        let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 2, Spacing::Leading)?;
        let start = Start::new(PROMPT, Grid::new(32, 32), Noise::shared(7));
        let mut run = Sampler::new(schedule, Euler).start(model, start)?;
        let begun = Instant::now();
        run.step()?;
        Ok(begun.elapsed().as_secs_f64())
    };
    step(&Model::load(&Source::embedded())?)?; // starts libtorch and its threads
    let mut options = LoadOptions::default();
    options.precision = kind.into();
    let model = Model::load_with(&Source::dir(folder), options)?;
    let (loaded, copy) = (step(&model)?, step(&model.share()?)?);
    let later = median((0..5).map(|_| step(&model)).collect::<Result<_>>()?);
    println!("{loaded} {copy} {later}");
    Ok(())
}

/// Starts a process for some work and returns the numbers that the process prints.
fn work(work: &str, folder: &Path, kind: &str) -> Vec<f64> {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--work", work, "--folder"]).arg(folder).arg(kind).env(BEGUN, now().to_string());
    let output = command.output().expect("started");
    assert!(output.status.success(), "{work}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_whitespace().map(|number| number.parse().expect("a number")).collect()
}

/// Prints the seconds and bytes of some work, the resident memory before the work, and the peak.
fn measured(act: impl FnOnce() -> Result<(f64, f64)>) -> Result<()> {
    drop(Model::load(&Source::embedded())?); // starts libtorch, so that `before` includes libtorch's own memory
    let before = resident("VmRSS");
    let (seconds, bytes) = act()?;
    println!("{seconds} {bytes} {before} {}", resident("VmHWM"));
    Ok(())
}

/// Returns the bytes of a folder's weights in `kind`.
fn bytes(folder: &Path, kind: Kind) -> Result<f64> {
    let mut numbers = 0;
    for part in PARTS {
        let header = Header::open(&weights_file(folder, part))?;
        numbers += header.tensors.values().map(|stored| stored.shape.iter().product::<i64>()).sum::<i64>();
    }
    Ok((numbers * kind.elt_size_in_bytes() as i64) as f64)
}

/// Returns the seconds of reading and converting the weights of a folder, and the bytes of the converted weights.
fn floor(folder: &Path, kind: Kind) -> Result<(f64, f64)> {
    let mut seconds = 0.0;
    let mut buffer = vec![0; 1 << 20];
    let mut kept = Vec::new(); // a model keeps its weights, too
    for part in PARTS {
        let file = weights_file(folder, part);
        let begun = Instant::now();
        let mut content = File::open(&file).expect("the weights");
        while content.read(&mut buffer).expect("read") > 0 {}
        seconds += begun.elapsed().as_secs_f64();
        let tensors = Tensor::read_safetensors(&file)?;
        let begun = Instant::now();
        kept.extend(tensors.iter().map(|(_, x)| x.to_kind(kind)));
        seconds += begun.elapsed().as_secs_f64();
    }
    drop(kept);
    Ok((seconds, bytes(folder, kind)?))
}

/// Writes a diffusers folder of random f16 weights. The UNet is SD 1.5's with `1 / thinner` of the channels.
fn make(folder: &Path, thinner: i64) -> Result<()> {
    let channels = [320, 640, 1280, 1280].map(|channels| channels / thinner);
    let unet = json!({
        "block_out_channels": channels, "layers_per_block": 2, "cross_attention_dim": 768, "attention_head_dim": 8,
        "norm_num_groups": 16, "in_channels": 4, "out_channels": 4, "sample_size": 64,
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]
    });
    let vae = json!({ "block_out_channels": [32, 32, 32, 32], "layers_per_block": 2 });
    let text = json!({
        "vocab_size": 779, "hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 2,
        "intermediate_size": 768, "eos_token_id": 778
    });
    let parts = [("unet", &unet), ("vae", &vae), ("text_encoder", &text)];
    write_folder(folder, "StableDiffusionPipeline", &parts.map(|(part, config)| (part, config.to_string())))
}
