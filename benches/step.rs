//! Time of a sampler step with each guidance method: `cargo bench --bench step`.
//!
//! `-- sd15` also builds a network of SD 1.5's size. Criterion measures one row after the other. On a machine with
//! other users, `benches/overhead.rs` compares the rows in turns.

mod support;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Denoiser, Noise, Schedule, Spacing, TrainingSchedule};
use impasto::sampler::{Sampler, Start};
use impasto::{Codec, Grid, Model, Source};
use support::rows::{ROWS, methods};
use support::{PROMPT, Unet};
use tch::Kind;

fn steps<M: Denoiser + Codec>(criterion: &mut Criterion, name: &str, model: &M, grid: Grid) {
    let mut group = criterion.benchmark_group(format!("step/{name}"));
    for row in ROWS {
        group.bench_function(BenchmarkId::from_parameter(row), |bencher| {
            let schedule =
                Schedule::new(&TrainingSchedule::stable_diffusion(), 1000, Spacing::Leading).expect("1000 steps");
            let mut sampler = Sampler::new(schedule, Euler);
            for guidance in methods(row) {
                sampler = sampler.guide(guidance);
            }
            let mut run = sampler.start(model, Start::new(PROMPT, grid, Noise::shared(7))).expect("it starts");
            let _ = run.step().expect("the first step fills the caches of the run");
            bencher.iter_batched(|| (), |()| run.step().expect("a step"), BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn all(criterion: &mut Criterion) {
    tch::set_num_threads(1);
    let model = Model::load(&Source::embedded()).expect("the embedded model");
    steps(criterion, "tiny", &model, Grid::new(32, 32));
    if std::env::args().any(|argument| argument.contains("sd15")) {
        steps(criterion, "sd15", &Unet::sd15(Kind::Float).expect("random weights"), Grid::new(32, 32));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = all
}
criterion_main!(benches);
