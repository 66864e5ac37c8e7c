//! Time of image guidance's work before a run, for a prompt of SD 1.x and the tokens of ViT-L.

use criterion::{Criterion, criterion_group, criterion_main};
use impasto::methods::image_guidance::{GuidanceParams, Mapping, tween};
use std::hint::black_box;
use tch::{Device, Kind, Tensor};

fn tweens(criterion: &mut Criterion) {
    tch::set_num_threads(1);
    let random = |tokens: i64| Tensor::randn([tokens, 768], (Kind::Float, Device::Cpu));
    let (text, picture) = (random(77), random(257));
    for (row, mapping) in
        [("best fit", Mapping::BestFit { reuse: true }), ("best fit, once each", Mapping::BestFit { reuse: false })]
    {
        let mut params = GuidanceParams::default();
        params.mapping = mapping;
        criterion.bench_function(&format!("tween/{row}"), |bencher| {
            bencher.iter(|| black_box(tween(&text, &picture, &params).expect("it can be done")));
        });
    }
}

criterion_group!(benches, tweens);
criterion_main!(benches);
