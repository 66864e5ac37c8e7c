//! A check that a network keeps what it computes of the prompt alone.

use impasto::attention::{Call, HookTable, KvCache, Tap};
use impasto::diffusion::{Denoiser, Input};
use impasto::{Branch, Conditioning, Grid, Model, Result};
use tch::{Device, Kind, Tensor};

/// Checks that a second evaluation with the cache of a run reads the prompt of the first one, and that an evaluation
/// with a new cache reads its own.
pub fn check(model: &Model, first: &Conditioning, second: &Conditioning) -> Result<()> {
    let step = model.scheduler().schedule(3)?.steps().nth(1).expect("a step");
    let x = Tensor::arange(16 * 12 * 8, (Kind::Float, Device::Cpu)).sin().reshape([1, 16, 12, 8]) * step.sigma;
    let (branches, table) = ([Branch::Cond], HookTable::default());
    let evaluate = |conditioning: &Conditioning, cache: &mut KvCache| -> Result<Tensor> {
        let call = Call { step: &step, branches: &branches, images: 0..1, grid: Grid::new(12, 8) };
        let mut tap = Tap::new(call, Vec::new(), &table, cache)?;
        let inputs = [Input::new(Branch::Cond, &x, conditioning)];
        Ok(model.denoise(&step, &inputs, &mut tap)?.x0(Branch::Cond)?.shallow_clone())
    };
    let mut cache = KvCache::default();
    let x0 = evaluate(first, &mut cache)?;
    assert_eq!(evaluate(second, &mut cache)?, x0, "the prompt is kept");
    let anew = evaluate(second, &mut KvCache::default())?;
    assert!((anew - x0).abs().max().double_value(&[]) > 1e-4, "another prompt gives another picture");
    Ok(())
}
