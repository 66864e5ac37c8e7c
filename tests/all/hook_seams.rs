//! Data that a hook can read: queries, keys and values of a call, and attention over the hook's own keys and values.

use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs};
use impasto::diffusion::{Noise, Schedule, Spacing, TrainingSchedule, solver::Euler};
use impasto::sampler::{Sampler, Start};
use impasto::testing::ToyModel;
use impasto::{Branch, Error, Grid, Result};
use tch::{Kind, Tensor};

/// A hook that rebuilds the output of every call from probabilities and values.
#[derive(Default)]
struct Rebuild {
    expected: Option<Tensor>,
    calls: usize,
}

impl CrossAttentionHook for Rebuild {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        let all = Interest::CONTEXT | Interest::PROBS | Interest::OUTPUT;
        if site.is_cross() && branch == Branch::Cond { all } else { Interest::NONE }
    }
    fn context(&mut self, at: &At, _: &mut Tensor) -> Result<()> {
        assert!(at.values().is_none(), "there are no values yet when a hook edits the context");
        Ok(())
    }
    fn probs(&mut self, at: &At, probs: &Probs) -> Result<()> {
        let values = at.values().expect("there are values by now");
        let heads = probs.attend(values)?; // [n, heads, queries, width]
        self.expected = Some(heads.f_transpose(1, 2)?.f_flatten(2, 3)?);
        Ok(())
    }
    fn output(&mut self, at: &At, output: &mut Tensor) -> Result<()> {
        let expected = self.expected.take().expect("probabilities come before the output");
        let apart = (&*output - &expected).abs().max().double_value(&[]);
        assert!(apart < 1e-5, "{apart}");

        // Keys of zeros give the mean of the values.
        let (n, heads, queries, width) = at.query().size4()?;
        let value = Tensor::arange(3, (Kind::Float, output.device())).reshape([1, 1, 3, 1]);
        let value = value.expand([n, heads, 3, width], false).contiguous();
        let beside = at.attend_with(&value.zeros_like(), &value)?;
        assert_eq!(beside.size(), [n, queries, heads * width]);
        assert!((beside - 1.0).abs().max().double_value(&[]) < 1e-6);
        for (key, bad) in [(&value, value.narrow(2, 0, 2)), (&value.narrow(3, 0, width - 1), value.shallow_clone())] {
            let error = at.attend_with(key, &bad).expect_err("they do not fit");
            assert!(matches!(&error, Error::Shape { .. }) && error.to_string().contains("tokens"), "{error}");
        }
        self.calls += 1;
        Ok(())
    }
}

#[test]
fn hook_rebuilds_output_and_attends_over_own_keys() -> Result<()> {
    let mut rebuild = Rebuild::default();
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 2, Spacing::Leading)?;
    let mut start = Start::new("girl with gold eyes", Grid::new(8, 6), Noise::seeded(7));
    start.images = 2;
    let model = ToyModel::new(3)?;
    let mut run = Sampler::new(schedule, Euler).hook(&mut rebuild).start(&model, start)?;
    while run.step()?.is_some() {}
    drop(run);
    assert!(rebuild.calls >= 2, "{} calls", rebuild.calls);
    Ok(())
}
