//! Memory of a run: `cargo bench --bench memory [-- run|decode|encode|many|estimate]`; without a name, all of them.
//!
//! The bench reads the resident memory and its peak from Linux's `/proc`. Each measurement runs in its own process, so
//! that the peak belongs to that measurement alone.
//!
//! * `run`: two steps of a network of SD 1.5's size on 64×64 latents (512×512 pixels). One run is bare, another has all
//!   guidance methods of the row `all` of the other benches. Takes 4 GB and some minutes.
//! * `decode`, `encode`: a VAE of SD 1.5's size on pictures of 512×512 and 1024×1024 pixels, in f32 and bf16. The VAE
//!   works on the whole picture (as it does by default at these sizes) or in tiles. The figures do not include the
//!   model's resident memory.
//! * `many`: 200 runs of the embedded model in one process, each with a color force, a painted area and heat maps of
//!   all words. The bench prints the resident memory after each tenth of the runs, first with glibc's defaults, then
//!   with `MALLOC_ARENA_MAX=1`: memory that threads leave in arenas of their own looks like growth.
//! * `estimate`: the memory that runs of the embedded model and of a random model of SD 1.5's size hold beside the
//!   model, divided by `Request::estimate`. Some runs end before they decode a picture. A run of 64×64 pixels comes
//!   first, so that the figures have neither code nor weights that are read for the first time. Takes 6 GB.

mod support;

use impasto::mask::Region;
use impasto::methods::{ColorForce, PaintWithWords};
use impasto::nn::{ConfigFile, Tiling, Vae, VaeConfig};
use impasto::saliency::Daam;
use impasto::weights::Weights;
use impasto::{Codec, Grid, LoadOptions, Model, Pipeline, Precision, Result, Rgb, Source};
use ndarray::Array2;
use std::fs;
use std::path::Path;
use std::process::Command;
use support::figures::Figure;
use support::folder::write_model;
use support::process::resident;
use support::{PROMPT, Unet, seconds};
use tch::{Device, Kind, Tensor};

const MIB: f64 = 1_048_576.0;
/// Setting of glibc with which the memory of a freed tensor goes back to the system at once.
const RETURNED: [(&str, &str); 1] = [("MALLOC_MMAP_THRESHOLD_", "65536")];
/// Runs whose memory is estimated: side in pixels, number of pictures, and whether the run ends with pictures.
const EMBEDDED_RUNS: [[&str; 3]; 6] = [
    ["256", "1", "picture"],
    ["512", "1", "picture"],
    ["256", "8", "picture"],
    ["256", "8", "latents"],
    ["512", "8", "latents"],
    ["1024", "1", "latents"],
];
const LARGE_RUNS: [[&str; 3]; 4] =
    [["512", "1", "latents"], ["768", "1", "latents"], ["512", "3", "latents"], ["512", "1", "picture"]];
/// Number of runs of `many`.
const RUNS: usize = 200;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    tch::set_num_threads(1);
    if let Some(at) = arguments.iter().position(|argument| argument == "--work") {
        return match &arguments[at + 1..] {
            [work, row] if work == "run" => run(row),
            [work] if work == "many" => many(),
            [work, folder, side, images, end, kind] if work == "estimate" => {
                let kind = if kind == "bf16" { Kind::BFloat16 } else { Kind::Float };
                let number = |text: &str| text.parse().expect("a number");
                estimate(folder, number(side), number(images) as usize, end == "picture", kind)
            }
            [work, folder, side, tiling, kind] => {
                let kind = if kind == "bf16" { Kind::BFloat16 } else { Kind::Float };
                autoencode(work, Path::new(folder), side.parse().expect("a side"), tiling == "whole", kind)
            }
            other => panic!("--work is {other:?}; expected another work of this bench"),
        };
    }
    if !cfg!(target_os = "linux") {
        println!("this bench reads the resident memory from /proc; run it on Linux");
        return Ok(());
    }
    let named = |group: &str| arguments.iter().any(|argument| argument == group);
    let wanted = |group: &str| named(group) || !["run", "decode", "encode", "many", "estimate"].into_iter().any(named);
    for group in ["decode", "encode"].into_iter().filter(|group| wanted(group)) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        make(folder.path())?;
        let folder = folder.path().to_str().expect("a path in Unicode");
        let ways = [("512", "whole"), ("1024", "whole"), ("1024", "tiles")];
        for (side, tiling) in ways {
            for kind in ["f32", "bf16"] {
                let [before, peak, seconds] = work(&[group, folder, side, tiling, kind], &[])[..] else {
                    panic!("three numbers")
                };
                let above = (peak - before) / MIB;
                println!(
                    "{group} {side}² {tiling} {kind:<4} {above:6.0} MiB above the model's {:.0}, {seconds:.1} s",
                    before / MIB
                );
                let row = format!("{side} {tiling} {kind}");
                record(group, &row, "MiB above the model", above);
                record(group, &row, "s", seconds);
            }
        }
    }
    if wanted("many") {
        for environment in [&[][..], &[("MALLOC_ARENA_MAX", "1")]] {
            let resident = work(&["many"], environment);
            let told: Vec<String> = resident.iter().map(|bytes| format!("{:.1}", bytes / MIB)).collect();
            println!("{RUNS} runs {environment:?}: {} MiB after each tenth of them", told.join(", "));
            let row = environment.first().map_or("as it is", |(name, _)| *name);
            record("many", row, "MiB after a tenth", resident[0] / MIB);
            record("many", row, "MiB after all", resident[resident.len() - 1] / MIB);
        }
    }
    if wanted("estimate") {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_model(folder.path(), "sd15")?;
        let path = folder.path().to_str().expect("a path in Unicode");
        for (model, folder, runs) in [("embedded", "", &EMBEDDED_RUNS[..]), ("SD 1.5's size", path, &LARGE_RUNS[..])] {
            for (run, kind) in runs.iter().flat_map(|run| ["f32", "bf16"].map(|kind| (run, kind))) {
                let [side, images, end] = run;
                let row = format!("{model} {side} {images} {end} {kind}");
                for (allocator, environment) in [("defaults", &[][..]), ("returned", &RETURNED)] {
                    let work = work(&["estimate", folder, side, images, end, kind], environment);
                    let [held, estimated] = work[..] else { panic!("two numbers") };
                    let (held, ratio) = (held / MIB, held / estimated);
                    println!("estimate {row}, {allocator}: {held:.0} MiB, {ratio:.2} of the estimate");
                    record("estimate", &row, &format!("MiB, {allocator}"), held);
                    record("estimate", &row, &format!("ratio, {allocator}"), ratio);
                }
            }
        }
    }
    if wanted("run") {
        let [none, all] = ["none", "all"].map(|row| work(&["run", row], &[]));
        for (row, numbers) in [("none", &none), ("all", &all)] {
            let [model, peak, seconds] = numbers[..] else { panic!("three numbers") };
            let above = (peak - model) / MIB;
            println!("run {row:<5} peak {:.0} MiB, {above:.0} above the model, {seconds:.1} s a step", peak / MIB);
            record("run", row, "MiB", peak / MIB);
            record("run", row, "MiB above the model", above);
        }
        println!("run all / none: {:.4} of the process, {:.4} above the model", all[1] / none[1], {
            (all[1] - all[0]) / (none[1] - none[0])
        });
    }
    Ok(())
}

/// Records a figure of one process.
fn record(group: &str, row: &str, measure: &str, value: f64) {
    Figure { bench: "memory", group, row, measure, value, interval: None, rounds: 1 }.record();
}

/// Starts a process for some work and returns the numbers that the process prints.
fn work(work: &[&str], environment: &[(&str, &str)]) -> Vec<f64> {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let output = command.arg("--work").args(work).envs(environment.iter().copied()).output().expect("started");
    assert!(output.status.success(), "{work:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_whitespace().map(|number| number.parse().expect("a number")).collect()
}

/// Runs two steps with the guidance methods of a row.
fn run(row: &str) -> Result<()> {
    let model = Unet::sd15(Kind::Float)?;
    let before = begun();
    let seconds = seconds(&model, Grid::new(64, 64), 2, row)?;
    println!("{before} {} {seconds}", resident("VmHWM"));
    Ok(())
}

/// Encodes a picture of `side` pixels, or decodes the latent of such a picture.
fn autoencode(work: &str, folder: &Path, side: i64, whole: bool, kind: Kind) -> Result<()> {
    let tiling = if whole { Tiling::whole() } else { Tiling::above(1 << 30) };
    let vae_precision = Some(Precision::from(kind));
    let mut options = LoadOptions::default();
    options.vae = Some(Source::dir(folder));
    options.tiling = tiling;
    options.vae_precision = vae_precision;
    let model = Model::load_with(&Source::embedded(), options)?;
    let options = (Kind::Float, Device::Cpu);
    drop(model.decode(&Tensor::zeros([1, 4, 2, 2], options))?);
    let before = begun();
    let clock = support::clock::Clock::start();
    match work {
        "encode" => drop(model.encode(&Tensor::zeros([1, 3, side, side], options))?),
        _ => drop(model.decode(&Tensor::zeros([1, 4, side / 8, side / 8], options))?),
    }
    println!("{before} {} {}", resident("VmHWM"), clock.elapsed().as_secs_f64());
    Ok(())
}

/// Makes a run, and prints the memory that it held and the estimate. Without a folder, the model is the embedded one.
fn estimate(folder: &str, side: u32, images: usize, decodes: bool, kind: Kind) -> Result<()> {
    let source = if folder.is_empty() { Source::embedded() } else { Source::dir(folder) };
    let pipeline = Pipeline::builder().source(source).precision(kind).build()?;
    let request = |side: u32, images| {
        let request = pipeline.request(PROMPT).seed(7).steps(2).size((side, side)).images(images);
        if decodes { request.steps(1) } else { request.until(0.5) }
    };
    drop(request(64, 1).run()?);
    if decodes {
        drop(pipeline.model().decode(&Tensor::zeros([1, 4, 8, 8], (Kind::Float, Device::Cpu)))?);
    }
    let before = begun();
    drop(request(side, images).run()?);
    let held = resident("VmHWM") - before;
    let estimate = request(side, images).estimate()?;
    println!("{held} {}", estimate.bytes.expect("the memory of the model is known"));
    Ok(())
}

/// Makes pictures with the embedded model one after the other, and prints the resident memory.
fn many() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    for run in 1..=RUNS {
        let left = Region::new(Array2::from_shape_fn((32, 32), |(_, column)| if column < 16 { 1.0 } else { 0.0 }));
        let output = pipeline.request(PROMPT).seed(run as u64).steps(4);
        let output = output.guide(ColorForce::published("eyes", Rgb(255, 215, 0))).guide(Daam::words());
        let output = output.guide(PaintWithWords::default().mask(left, "hair", 1.5)).run()?;
        assert_eq!(output.images.len(), 1);
        drop(output);
        if run % (RUNS / 10) == 0 {
            println!("{}", resident("VmRSS"));
        }
    }
    Ok(())
}

/// Writes a folder with a VAE of SD 1.5's size and random weights.
fn make(folder: &Path) -> Result<()> {
    let config = r#"{ "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2 }"#;
    let random = Weights::random(1, Kind::Float, Device::Cpu);
    drop(Vae::new(&random, &VaeConfig::from_json("vae", config)?)?);
    fs::write(folder.join("config.json"), config).expect("written");
    let tensors: Vec<(String, Tensor)> = random.drawn()?.into_iter().collect();
    Ok(Tensor::write_safetensors(&tensors, folder.join("diffusion_pytorch_model.safetensors"))?)
}

/// Returns the resident memory in bytes, and resets the peak to that value.
fn begun() -> f64 {
    fs::write("/proc/self/clear_refs", "5").expect("the peak is reset");
    resident("VmRSS")
}
