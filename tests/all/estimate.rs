//! Estimates of memory and time, and limits of memory that split batches.

use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs};
use impasto::pipeline::{Hires, Request};
use impasto::testing::ToyModel;
use impasto::{Branch, Pipeline, Result, Source};
use std::fs;
use std::ops::Range;
use std::process::Command;

const PROMPT: &str = "1girl, red hair";

#[test]
fn estimate_grows_with_the_work() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let request = |side: u32| pipeline.request(PROMPT).steps(8).size((side, side));
    let of = |request: Request<'_>| -> Result<(u64, f64, usize)> {
        let estimate = request.estimate()?;
        Ok((estimate.bytes.expect("known memory"), estimate.time.as_secs_f64(), estimate.rows))
    };
    let (bytes, time, rows) = of(request(128))?;
    assert_eq!(rows, 2);
    let more_steps = of(request(128).steps(80))?;
    assert!(more_steps.0 == bytes && more_steps.1 > 3.0 * time, "{more_steps:?} of 80 steps, {time} s of 8");
    let larger = of(request(384))?;
    assert!(larger.0 > 8 * bytes && larger.1 > time, "{larger:?}, {bytes}, {time} s");
    let more_pictures = of(request(128).images(4))?;
    assert!(more_pictures.0 > 3 * bytes && more_pictures.1 > time && more_pictures.2 == 8, "{more_pictures:?}");
    assert_eq!(of(request(128).guidance_scale(1.0))?.2, 1, "no negative branch");
    let second = of(request(128).tune(|config| config.hires = Some(Hires::new(2.0, 0.5))))?;
    assert_eq!(second.0, of(request(256))?.0.max(second.0), "the second run is larger");
    assert!(second.1 > time && second.0 > 3 * bytes, "{second:?}");
    let exact = of(pipeline.request("1girl, #ff0000 hair").steps(80).size((128, 128)))?;
    assert!(exact.1 > more_steps.1, "{exact:?}: a first pass, and branches that find the hair");
    let detailed = of(request(128).detail("hair"))?;
    assert!(detailed.1 > time && detailed.0 > bytes, "{detailed:?}: details are painted at the model's own size");
    Ok(())
}

#[test]
fn estimate_counts_layers_that_are_used_again() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let time = |reuse: usize, merge: f64| -> Result<f64> {
        let request = pipeline.request(PROMPT).steps(80).size((256, 256));
        let request = request.tune(|config| (config.reuse, config.merge_tokens) = (reuse, merge));
        Ok(request.estimate()?.time.as_secs_f64())
    };
    let (whole, again) = (time(1, 0.0)?, time(3, 0.0)?);
    assert!(again < 0.85 * whole, "{again} s with layers that are used again, {whole} s without");
    let merged = time(1, 0.5)?;
    assert!(merged != whole, "the call with merged cells is measured by itself");
    Ok(())
}

#[test]
fn later_estimates_measure_nothing() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let mut calls = 0;
    let request = pipeline.request(PROMPT).steps(20).size((64, 64)).on_step(|_| {
        calls += 1;
        std::ops::ControlFlow::Continue(())
    });
    let (first, again) = (request.estimate()?, request.estimate()?);
    assert_eq!((first.bytes, first.rows), (again.bytes, again.rows));
    let apart = first.time.as_secs_f64() / again.time.as_secs_f64();
    assert!((0.2..5.0).contains(&apart), "only the time of reading the prompt is measured again: {apart}");
    drop(request);
    assert_eq!(calls, 0, "no step is taken");
    Ok(())
}

/// A hook that keeps the images of each call of the network.
#[derive(Default)]
struct Images(Vec<Range<i64>>);

impl CrossAttentionHook for Images {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if site.is_cross() && branch == Branch::Cond { Interest::PROBS } else { Interest::NONE }
    }

    fn probs(&mut self, at: &At<'_>, _: &Probs<'_>) -> Result<()> {
        self.0.push(at.images.clone());
        Ok(())
    }
}

#[test]
fn limit_splits_the_batch_and_keeps_pictures() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let run = |limit: Option<u64>| -> Result<_> {
        let mut images = Images::default();
        let request = pipeline.request(PROMPT).seed(7).steps(4).images(5).size((256, 256)).hook(&mut images);
        let request = request.tune(|config| (config.memory_limit, config.until) = (limit, Some(0.5)));
        let rows = request.estimate()?.rows;
        let latents = request.run()?.latents;
        images.0.dedup();
        let first = 1 + images.0.iter().position(|images| images.end == 5).expect("the last image");
        images.0.truncate(first);
        Ok((latents, rows, images.0))
    };
    let (whole, rows, images) = run(None)?;
    assert!(rows == 10 && images.len() == 1 && images[0] == (0..5), "{rows} rows, {images:?}");
    let (split, rows, images) = run(Some(9))?;
    let largest = images.iter().map(|images| 2 * (images.end - images.start)).max();
    assert!(rows < 10 && largest == Some(rows as i64), "{rows} rows, {images:?}");
    assert!(images.windows(2).all(|pair| pair[0].end == pair[1].start) && images[0].start == 0, "{images:?}");
    let apart = (&whole - &split).abs().max().double_value(&[]);
    assert!(apart < 1e-3, "{apart}");
    // Below the memory of both branches, each branch has calls of its own.
    let (single, rows, _) = run(Some(4))?;
    let apart = (&whole - &single).abs().max().double_value(&[]);
    assert!(rows == 1 && apart < 1e-3, "{rows} rows, {apart}");
    Ok(())
}

#[test]
fn limit_decodes_pictures_one_after_the_other() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let request = |limit| {
        let request = pipeline.request(PROMPT).seed(7).steps(2).images(3).size((256, 256));
        request.tune(|config| config.memory_limit = limit)
    };
    let (whole, split) = (request(None), request(Some(40)));
    let [all, limited] = [&whole, &split].map(|request| request.estimate().unwrap().bytes.expect("known memory"));
    assert!(all > 60 << 20 && limited <= 40 << 20, "{all}, {limited}");
    let (whole, split) = (whole.run()?, split.run()?);
    for (one, other) in whole.images.iter().zip(&split.images) {
        let apart = one.bytes().iter().zip(other.bytes()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(apart <= Some(2), "{apart:?}");
    }
    Ok(())
}

#[test]
fn impossible_limit_names_the_way_out() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let request = || pipeline.request(PROMPT).steps(2).size((512, 512)).tune(|config| config.memory_limit = Some(2));
    for error in [request().estimate().unwrap_err(), request().run().unwrap_err()] {
        let error = error.to_string();
        assert!(
            error.starts_with("memory_limit is 2 MiB; expected 8 MiB or more, which a step of one branch"),
            "{error}"
        );
        assert!(error.contains("512×512 pixels takes") && error.contains("paint a smaller picture"), "{error}");
    }
    let decoding = request().tune(|config| config.memory_limit = Some(20)).run().unwrap_err().to_string();
    assert!(decoding.contains("which decoding a picture of 512×512 pixels takes"), "{decoding}");
    Ok(())
}

#[test]
fn unknown_memory_is_not_guessed() -> Result<()> {
    let pipeline = Pipeline::new(ToyModel::new(1)?);
    let estimate = pipeline.request("a boat").steps(4).images(3).estimate()?;
    assert_eq!((estimate.bytes, estimate.rows), (None, 6));
    let limited = pipeline.request("a boat").steps(2).tune(|config| config.memory_limit = Some(1000));
    let error = limited.run().unwrap_err().to_string();
    assert!(error.contains("memory_limit is 1000 MiB; expected no limit, because the memory"), "{error}");
    Ok(())
}

/// Variable that names the run whose memory a process measures.
const RUN: &str = "IMPASTO_MEASURED_RUN";

/// Returns a line of the process's status, in bytes.
fn resident(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    1024.0 * line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap()
}

/// Makes a run, and prints the memory that it held beside the model, and the estimate.
fn measure(run: &str) -> Result<()> {
    let numbers = [
        ("num_attention_heads", 6),
        ("attention_head_dim", 64),
        ("caption_projection_dim", 384),
        ("pos_embed_max_size", 64),
    ];
    let numbers = numbers.map(|(name, number)| (name, serde_json::json!(number)));
    let (anima, sd3) = (super::anima::folder((3, 128), 3)?, super::sd3::remade(&numbers)?);
    let source = match run {
        "transformer" => Source::dir(anima.path()),
        "joint" => Source::dir(sd3.path()),
        "flow" => Source::embedded_flow(),
        _ => Source::embedded(),
    };
    let pipeline = Pipeline::builder().source(source).build()?;
    let request = |side: u32, images| {
        let request = pipeline.request(PROMPT).seed(7).steps(2).size((side, side)).images(images);
        match run {
            "pictures" => request.size((side * 2, side * 2)),
            "transformer" | "joint" => request.size((side * 2, side * 2)).images(2 * images).until(0.5),
            _ => request.images(8 * images).until(0.5),
        }
    };
    // The first run reads code and weights, and arranges the weights for calls with many tokens.
    drop(request(if ["transformer", "joint"].contains(&run) { 256 } else { 32 }, 1).run()?);
    fs::write("/proc/self/clear_refs", "5").expect("the peak is reset");
    let before = resident("VmRSS");
    drop(request(256, 1).run()?);
    let held = resident("VmHWM") - before;
    println!("held {held} {}", request(256, 1).estimate()?.bytes.expect("known memory"));
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn estimate_is_near_the_measured_memory() -> Result<()> {
    if let Ok(run) = std::env::var(RUN) {
        return measure(&run);
    }
    if fs::OpenOptions::new().write(true).open("/proc/self/clear_refs").is_err() {
        return Ok(()); // a system that does not reset the peak
    }
    for run in ["pictures", "latents", "transformer", "joint", "flow"] {
        let mut test = Command::new(std::env::current_exe().expect("this program"));
        test.args(["--exact", "estimate::estimate_is_near_the_measured_memory", "--nocapture"]);
        // A freed tensor goes back to the system at once.
        let output = test.env(RUN, run).env("MALLOC_MMAP_THRESHOLD_", "65536").output().expect("started");
        let told = String::from_utf8_lossy(&output.stdout);
        let numbers = told.lines().find_map(|line| line.split_once("held ")).unwrap_or_else(|| panic!("{output:?}")).1;
        let numbers: Vec<f64> = numbers.split_whitespace().map(|number| number.parse().unwrap()).collect();
        let ratio = numbers[0] / numbers[1];
        assert!(numbers[0] > f64::from(16 << 20) && (2.0 / 3.0..1.25).contains(&ratio), "{run}: {numbers:?}, {ratio}");
    }
    Ok(())
}
