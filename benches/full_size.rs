//! One measurement of a model of full size; `benches/peers/full_size.py` starts this program.
//!
//! * `full_size make sd15|sdxl|sd35|anima FOLDER`: fills an empty folder with a diffusers model of random f16 weights,
//!   in the sizes of Stable Diffusion 1.5 (2.1 GB), SDXL (6.9 GB), Stable Diffusion 3.5 medium without T5 (6.7 GB) or
//!   Anima (5.7 GB).
//! * `full_size work FOLDER SIDE f32|bf16 held|offload THREADS`: loads the folder, evaluates both branches of a step,
//!   and decodes a picture of SIDE×SIDE pixels. Prints the seconds of the three, the peak of resident memory, and the
//!   peak without mapped files, in bytes. An evaluation on a small latent comes first, so that the step is not the
//!   first call.

mod support;

use impasto::attention::Tap;
use impasto::diffusion::{Denoiser, Input, Noise};
use impasto::{Branch, Codec, LoadOptions, Model, Result, Source, Step};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::folder::write_model;
use support::process::resident;
use tch::Kind;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", model, folder] => write_model(Path::new(folder), model),
        ["work", folder, side, kind, place, threads] => {
            tch::set_num_threads(threads.parse().expect("a number of threads"));
            let kind = if kind == "bf16" { Kind::BFloat16 } else { Kind::Float };
            work(Path::new(folder), side.parse().expect("a number of pixels"), kind, place == "offload")
        }
        _ => {
            println!("this bench needs arguments; run benches/peers/full_size.py");
            Ok(())
        }
    }
}

/// Loads, evaluates and decodes, and prints the figures.
fn work(folder: &Path, side: i64, kind: Kind, offload: bool) -> Result<()> {
    let peak = Peak::start();
    let begun = Instant::now();
    let vae_precision = Some(kind.into());
    let mut options = LoadOptions::default();
    options.precision = kind.into();
    options.vae_precision = vae_precision;
    options.offload = offload;
    let model = Model::load_with(&Source::dir(folder), options)?;
    let load = begun.elapsed().as_secs_f64();
    let is_flow = folder.join("transformer").exists();
    let channels = if is_flow { 16 } else { 4 };
    let texts = [model.text("".into())?, model.text("a red boat".into())?];
    let step = |cells: i64| -> Result<f64> {
        let x = Noise::seeded(1).draw(&[1, channels, cells, cells])?;
        let inputs = [Input::new(Branch::Uncond, &x, &texts[0]), Input::new(Branch::Cond, &x, &texts[1])];
        let begun = Instant::now();
        drop(model.denoise(&Step::new(0, 1, 3.0, 0.0, 600.0), &inputs, &mut Tap::none())?);
        Ok(begun.elapsed().as_secs_f64())
    };
    step(32)?;
    let seconds = step(side / 8)?;
    let x = Noise::seeded(1).draw(&[1, channels, side / 8, side / 8])?;
    let begun = Instant::now();
    drop(model.decode(&x)?);
    println!("{load} {seconds} {} {} {}", begun.elapsed().as_secs_f64(), resident("VmHWM"), peak.stop());
    Ok(())
}

/// Peak of the resident memory without mapped files, read every 10 ms.
struct Peak {
    reader: thread::JoinHandle<()>,
}

static HIGHEST: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicBool = AtomicBool::new(false);

impl Peak {
    fn start() -> Self {
        let read = || {
            while !ENDED.load(Ordering::Relaxed) {
                HIGHEST.fetch_max(resident("RssAnon") as u64, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(10));
            }
        };
        Self { reader: thread::spawn(read) }
    }

    /// Ends the reading and returns the peak in bytes.
    fn stop(self) -> u64 {
        ENDED.store(true, Ordering::Relaxed);
        self.reader.join().expect("the reader does not panic");
        HIGHEST.load(Ordering::Relaxed)
    }
}
