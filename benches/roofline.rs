//! Speed of a network's step beside the best rate of the machine.
//!
//! `cargo bench --bench roofline [-- --side 32] [--rounds N] [--threads N] [--kind bf16] [--model tiny]`
//!
//! The bench takes a step apart into its layers. The network is a UNet of Stable Diffusion 1.5's size or the embedded
//! model's; the step has both branches of one image. Each distinct layer is timed by itself, in turns with all others
//! and with the whole step.
//!
//! The bench prints the layers' times, their share of the roof, and the step against the layers' sum. The roof is the
//! best rate that any layer reached in this run. Rates count the multiplications of the plain algorithms; Winograd's
//! algorithm takes fewer, so that rates of 3×3 kernels in f32 can exceed the processor's. With `--kind bf16` a step in
//! f32 is timed in turns too. The last figure is the least time that bf16 could take, at the roof, as a share of the
//! f32 step.

mod support;

use impasto::attention::{AttentionSite, Place, SiteKind, Tap};
use impasto::nn::Conv;
use impasto::weights::Weights;
use impasto::{Grid, LoadOptions, Model, Result, Source};
use std::collections::BTreeMap;
use support::clock::Clock;
use support::statistics::median;
use support::{Unet, seconds};
use tch::{Device, Kind, Tensor};

/// Rows of a step: both branches of one image.
const BATCH: i64 = 2;
/// Tokens of a prompt.
const TOKENS: i64 = 77;

/// A layer with its sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    /// Convolution: rows, inputs, outputs, side of its input, kernel, stride.
    Conv(i64, i64, i64, i64, i64, i64),
    /// Upsampling, which repeats cells two by two, and a convolution: channels, side of the upsampling's input.
    Doubled(i64, i64),
    /// Linear layer: inputs, outputs, rows.
    Linear(i64, i64, i64),
    /// Attention: rows, heads, channels, queries, keys.
    Attention(i64, i64, i64, i64, i64),
    /// Group norm and SiLU: rows, groups, channels, side.
    Norm(i64, i64, i64, i64),
}

impl Layer {
    /// Multiplications and additions, in 10⁹.
    fn gflop(self) -> f64 {
        let products = match self {
            Self::Conv(rows, inputs, outputs, side, kernel, stride) => {
                rows * (side / stride) * (side / stride) * inputs * outputs * kernel * kernel
            }
            // `kernels::doubled` takes four products instead of nine from 128 cells on.
            Self::Doubled(channels, side) => {
                let taps = if BATCH * side * side >= 128 { 4 } else { 9 };
                BATCH * 4 * side * side * channels * channels * taps
            }
            Self::Linear(inputs, outputs, rows) => rows * inputs * outputs,
            Self::Attention(rows, _, channels, queries, keys) => 2 * rows * queries * keys * channels,
            Self::Norm(..) => 0,
        };
        2e-9 * products as f64
    }

    /// Returns the layer's work as a function that can be called repeatedly.
    fn work(self, kind: Kind) -> Result<Box<dyn FnMut() -> Result<()>>> {
        let w = Weights::random(1, kind, Device::Cpu);
        let noise = |shape: &[i64]| Tensor::f_randn(shape, (Kind::Float, Device::Cpu))?.f_to_kind(kind);
        // In a network, pictures have the layout of the kernels.
        let picture = |rows, channels, side| match impasto_kernels::arranges(kind) {
            true => noise(&[rows, side, side, channels])?.f_permute([0, 3, 1, 2]),
            false => noise(&[rows, channels, side, side]),
        };
        Ok(match self {
            Self::Conv(rows, inputs, outputs, side, kernel, stride) => {
                let conv = w.conv2d(inputs, outputs, Conv { kernel, stride, padding: kernel / 2 })?;
                let x = picture(rows, inputs, side)?;
                Box::new(move || conv.forward(&x).map(drop))
            }
            Self::Doubled(channels, side) => {
                let (conv, x) = (w.conv2d(channels, channels, Conv::SAME)?, picture(BATCH, channels, side)?);
                Box::new(move || conv.forward_doubled(&x).map(drop))
            }
            Self::Linear(inputs, outputs, rows) => {
                let (linear, x) = (w.linear(inputs, outputs)?, noise(&[rows, inputs])?);
                Box::new(move || linear.forward(&x).map(drop))
            }
            Self::Attention(rows, heads, channels, queries, keys) => {
                let kind = if keys == TOKENS { SiteKind::Cross } else { SiteKind::SelfAttention };
                let site = AttentionSite::new("", kind, Place::Mid, 0, heads);
                let split = |cells| noise(&[rows, cells, heads, channels / heads])?.f_transpose(1, 2);
                let (q, k, v) = (split(queries)?, split(keys)?, split(keys)?);
                Box::new(move || {
                    let project = |_: &Tensor| Ok((k.shallow_clone(), v.shallow_clone()));
                    Tap::none().attend(&site, &q, &k, project).map(drop)
                })
            }
            Self::Norm(rows, groups, channels, side) => {
                let (norm, x) = (w.group_norm(groups, channels, 1e-5)?, picture(rows, channels, side)?);
                Box::new(move || norm.forward_silu(&x).map(drop))
            }
        })
    }
}

/// The sizes of a UNet.
struct Sizes {
    /// Channels of every level.
    widths: &'static [i64],
    /// True for each level that has transformers.
    attends: &'static [bool],
    /// Residual blocks of a level on the way down; one more on the way up.
    blocks: usize,
    heads: i64,
    groups: i64,
}

/// Sizes of Stable Diffusion 1.5's UNet.
const SD15: Sizes =
    Sizes { widths: &[320, 640, 1280, 1280], attends: &[true, true, true, false], blocks: 2, heads: 8, groups: 32 };

/// Sizes of the embedded model's UNet.
const TINY: Sizes = Sizes { widths: &[48, 80, 80], attends: &[false, true, false], blocks: 1, heads: 5, groups: 8 };

/// Returns the layers of a UNet over latents of `side` cells, and how often each occurs.
///
/// Both branches share one latent, so layers up to the first attention to the prompt have one row. On the way up, skip
/// connections kept before that attention have one row too, unless a norm's group spans both the skip connection and
/// the other input.
fn layers(sizes: &Sizes, side: i64) -> BTreeMap<Layer, usize> {
    let &Sizes { widths, attends, blocks, heads, groups } = sizes;
    let mut layers = BTreeMap::new();
    let mut add = |layer| *layers.entry(layer).or_default() += 1;
    let resnet = |add: &mut dyn FnMut(Layer), rows, inputs, outputs, side| {
        add(Layer::Norm(rows, groups, inputs, side));
        add(Layer::Conv(rows, inputs, outputs, side, 3, 1));
        add(Layer::Norm(rows, groups, outputs, side));
        add(Layer::Conv(rows, outputs, outputs, side, 3, 1));
        if inputs != outputs {
            add(Layer::Conv(rows, inputs, outputs, side, 1, 1));
        }
    };
    let beside = |add: &mut dyn FnMut(Layer), inputs: i64, (skip, kept): (i64, i64), outputs, side| {
        let group = (inputs + skip) / groups;
        if kept == BATCH || inputs % group != 0 {
            return resnet(add, BATCH, inputs + skip, outputs, side);
        }
        for (rows, part) in [(BATCH, inputs), (kept, skip)] {
            add(Layer::Norm(rows, part / group, part, side));
            add(Layer::Conv(rows, part, outputs, side, 3, 1));
            add(Layer::Conv(rows, part, outputs, side, 1, 1));
        }
        add(Layer::Norm(BATCH, groups, outputs, side));
        add(Layer::Conv(BATCH, outputs, outputs, side, 3, 1));
    };
    let transformer = |add: &mut dyn FnMut(Layer), distinct: i64, width: i64, side: i64| {
        let cells = side * side;
        add(Layer::Norm(distinct, groups, width, side));
        // The projection in; self-attention's q, k, v and out; cross-attention's q.
        (0..6).for_each(|_| add(Layer::Linear(width, width, distinct * cells)));
        // Cross-attention's out; the projection out.
        (0..2).for_each(|_| add(Layer::Linear(width, width, BATCH * cells)));
        (0..2).for_each(|_| add(Layer::Linear(width, 4 * width, BATCH * cells)));
        add(Layer::Linear(4 * width, width, BATCH * cells));
        add(Layer::Attention(distinct, heads, width, cells, cells));
        add(Layer::Attention(BATCH, heads, width, cells, TOKENS));
    };
    let (first, last, depth) = (widths[0], widths[widths.len() - 1], widths.len() - 1);
    add(Layer::Conv(1, 4, first, side, 3, 1));
    let (mut skips, mut inputs, mut rows) = (vec![(first, 1)], first, 1);
    for (level, (&width, &attends)) in widths.iter().zip(attends).enumerate() {
        let side = side >> level;
        for _ in 0..blocks {
            resnet(&mut add, rows, inputs, width, side);
            if attends {
                transformer(&mut add, rows, width, side);
                rows = BATCH;
            }
            skips.push((width, rows));
            inputs = width;
        }
        if level < depth {
            add(Layer::Conv(rows, width, width, side, 3, 2));
            skips.push((width, rows));
        }
    }
    resnet(&mut add, rows, last, last, side >> depth);
    transformer(&mut add, rows, last, side >> depth);
    resnet(&mut add, BATCH, last, last, side >> depth);
    for (level, (&width, &attends)) in widths.iter().zip(attends).enumerate().rev() {
        for _ in 0..=blocks {
            beside(&mut add, inputs, skips.pop().unwrap_or((0, BATCH)), width, side >> level);
            if attends {
                transformer(&mut add, BATCH, width, side >> level);
            }
            inputs = width;
        }
        if level > 0 {
            add(Layer::Doubled(width, side >> level));
        }
    }
    add(Layer::Norm(BATCH, groups, first, side));
    add(Layer::Conv(BATCH, first, 4, side, 3, 1));
    layers
}

/// The network whose steps are timed.
enum Network {
    Large(Box<Unet>),
    Tiny(Box<Model>),
}

impl Network {
    fn tiny(kind: Kind) -> Result<Self> {
        let mut options = LoadOptions::default();
        options.precision = kind.into();
        Ok(Self::Tiny(Box::new(Model::load_with(&Source::embedded(), options)?)))
    }

    /// Returns the seconds of a step.
    fn step(&self, side: i64) -> Result<f64> {
        let grid = Grid::new(side, side);
        match self {
            Self::Large(unet) => seconds(&**unet, grid, 2, "none"),
            Self::Tiny(model) => seconds(&**model, grid, 20, "none"),
        }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str, default: i64| -> i64 {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    tch::set_num_threads(option("--threads", 1) as i32);
    let _no_grad = tch::no_grad_guard();
    let (side, rounds) = (option("--side", 32), option("--rounds", 5));
    let kind = if arguments.iter().any(|argument| argument == "bf16") { Kind::BFloat16 } else { Kind::Float };
    let tiny = arguments.iter().any(|argument| argument == "tiny");
    let layers = layers(if tiny { &TINY } else { &SD15 }, side);
    let mut works = layers.keys().map(|layer| layer.work(kind)).collect::<Result<Vec<_>>>()?;
    let network = |kind| {
        Ok::<_, impasto::Error>(if tiny { Network::tiny(kind)? } else { Network::Large(Box::new(Unet::sd15(kind)?)) })
    };
    let (unet, exact) = (network(kind)?, (kind != Kind::Float).then(|| network(Kind::Float)).transpose()?);
    let mut times = vec![Vec::new(); works.len()];
    let (mut steps, mut exact_steps) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        for (work, times) in works.iter_mut().zip(&mut times) {
            work()?; // warm-up
            let clock = Clock::start();
            work()?;
            if round > 0 {
                times.push(clock.elapsed().as_secs_f64());
            }
        }
        let step = unet.step(side)?;
        let exact_step = exact.as_ref().map(|unet| unet.step(side)).transpose()?;
        if round > 0 {
            steps.push(step);
            exact_steps.extend(exact_step);
        }
    }
    let times: Vec<f64> = times.into_iter().map(median).collect();
    let rate = |layer: &Layer, seconds: f64| layer.gflop() / seconds;
    let roof = layers.keys().zip(&times).map(|(layer, seconds)| rate(layer, *seconds)).fold(0.0, f64::max);
    let sum: f64 = layers.values().zip(&times).map(|(count, seconds)| *count as f64 * seconds).sum();
    let work: f64 = layers.iter().map(|(layer, count)| *count as f64 * layer.gflop()).sum();
    println!("{side}×{side} latents, {kind:?}, batch {BATCH}, {} threads, {rounds} rounds", tch::get_num_threads());
    println!("{:<34} {:>5} {:>9} {:>9} {:>6}", "layer", "times", "ms each", "GFLOP/s", "roof");
    for ((layer, count), seconds) in layers.iter().zip(&times) {
        let (name, rate) = (format!("{layer:?}"), rate(layer, *seconds));
        println!("{name:<34} {count:>5} {:>9.2} {rate:>9.0} {:>5.0}%", 1e3 * seconds, 100.0 * rate / roof);
    }
    let step = median(steps);
    println!("work {work:.1} GFLOP; at the roof of {roof:.0} GFLOP/s {:.3} s", work / roof);
    println!(
        "layers one by one {sum:.3} s; the step {step:.3} s, {:.2} of their sum, {:.0} GFLOP/s",
        step / sum,
        work / step
    );
    if !exact_steps.is_empty() {
        let exact_step = median(exact_steps);
        let (taken, least) = (step / exact_step, work / roof / exact_step);
        println!(
            "the step in f32 {exact_step:.2} s, {:.0} GFLOP/s; in {kind:?} {taken:.2} of that time, at the roof \
             {least:.2}",
            work / exact_step
        );
    }
    Ok(())
}
