//! Cost of each phase of a hook at one attention site.
//!
//! The first row, `none`, has no hook. A column holds the probabilities of one token.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use impasto::attention::{
    At, AttentionSite, Call, CrossAttentionHook, HookTable, Interest, KvCache, Place, Probs, Scores, SiteKind, Tap,
};
use impasto::{Branch, Grid, Result, Step, TokenSpan};
use std::hint::black_box;
use tch::{Device, Kind, Tensor};

/// A hook that asks for one phase and does as little work as a useful hook can do in that phase.
struct Does {
    phase: Interest,
    active: bool,
}

impl CrossAttentionHook for Does {
    fn interest(&self, _: &AttentionSite, branch: Branch) -> Interest {
        if branch == Branch::Cond { self.phase } else { Interest::NONE }
    }
    fn active(&self, _: &Step) -> bool {
        self.active
    }
    fn probs(&mut self, _: &At, probs: &Probs) -> Result<()> {
        let _ = black_box(probs.columns(TokenSpan { start: 5, end: 7 })?);
        Ok(())
    }
    fn bias(&mut self, at: &At, scores: &Scores) -> Result<Option<Tensor>> {
        let bias = Tensor::zeros([1, 1, at.grid.cells(), scores.tokens().end], (Kind::Float, Device::Cpu));
        Ok(Some(bias * scores.max()?))
    }
    fn scores(&mut self, _: &At, scores: &mut Tensor) -> Result<()> {
        let _ = scores.narrow(3, 5, 2).f_mul_scalar_(1.5)?;
        Ok(())
    }
}

fn sites(criterion: &mut Criterion) {
    tch::set_num_threads(1);
    // Sites as (name, heads, side of the grid, width of a head).
    // `tiny` is a site of the tiny model, `sd15` the largest site of SD 1.5 at 512 × 512 pixels.
    for (name, heads, side, width) in [("tiny", 5, 16, 16), ("sd15", 8, 64, 40)] {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let (q, context) = (random(&[2, heads, side * side, width]), random(&[2, 77, heads * width]));
        let split = |context: &Tensor| -> Result<(Tensor, Tensor)> {
            let k = context.f_unflatten(2, [heads, width])?.f_transpose(1, 2)?;
            Ok((k.shallow_clone(), k))
        };
        let site = AttentionSite::new("attn2", SiteKind::Cross, Place::Up, 0, heads);
        let step = Step::new(0, 1, 1.0, 0.0, 500.0);
        let mut group = criterion.benchmark_group(format!("attention/{name}"));
        for (row, hook) in [
            ("none", None),
            ("attached, no interest", Some((Interest::NONE, true))),
            ("attached, inactive", Some((Interest::PROBS, false))),
            ("two columns", Some((Interest::PROBS, true))),
            ("bias by the largest score", Some((Interest::BIAS, true))),
            ("edited scores", Some((Interest::SCORES, true))),
        ] {
            let mut hooks: Vec<Does> = hook.map(|(phase, active)| Does { phase, active }).into_iter().collect();
            let branches = [Branch::Uncond, Branch::Cond];
            let lent = |hooks: &'_ mut Vec<Does>| -> HookTable {
                let lent: Vec<&mut dyn CrossAttentionHook> = hooks.iter_mut().map(|hook| hook as _).collect();
                HookTable::new(&lent, std::slice::from_ref(&site), &branches).expect("one site")
            };
            let (table, mut cache) = (lent(&mut hooks), KvCache::default());
            group.bench_function(BenchmarkId::from_parameter(row), |bencher| {
                bencher.iter(|| {
                    let call = Call { step: &step, branches: &branches, images: 0..1, grid: Grid::new(side, side) };
                    let lent: Vec<&mut dyn CrossAttentionHook> = hooks.iter_mut().map(|hook| hook as _).collect();
                    let mut tap = Tap::new(call, lent, &table, &mut cache).expect("the same hooks");
                    tap.attend(&site, &q, &context, split).expect("shapes fit")
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = sites
}
criterion_main!(benches);
