//! Loading: the embedded model, the same from a folder, and to the first picture.

use criterion::{Criterion, criterion_group, criterion_main};
use impasto::{Model, Pipeline, Source};

fn load(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("load");
    group.bench_function("embedded", |bencher| {
        bencher.iter(|| Model::load(&Source::embedded()).expect("the embedded model"));
    });
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/weights/tiny");
    group.bench_function("folder", |bencher| {
        bencher.iter(|| Model::load(&Source::dir(folder)).expect("the same files"));
    });
    group.bench_function("to a first picture of one step", |bencher| {
        bencher.iter(|| {
            let mut pipeline = Pipeline::builder().build().expect("the embedded model");
            pipeline.request("a red boat").seed(7).steps(1).run().expect("a picture")
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = load
}
criterion_main!(benches);
