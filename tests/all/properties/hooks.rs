//! Laws of attention hooks: which phases are called, what a phase may change, and how errors of hooks are reported.

use super::{Probe, apart, latent, raise, sampler, schedule};
use impasto::attention::{At, AttentionSite, CrossAttentionHook, HookTable, Interest, Place, Probs, Scores, SiteKind};
use impasto::diffusion::solver::Euler;
use impasto::guidance::GuidanceRun;
use impasto::sampler::Sampler;
use impasto::{Branch, Error, Pipeline, Result};
use tch::{Kind, Tensor};

#[test]
fn reading_hook_changes_no_bit_and_sees_every_site() -> Result<()> {
    let mut probe = Probe::wanting(Interest::PROBS);
    assert_eq!(latent(sampler().hook(&mut probe))?, latent(sampler())?);
    assert_eq!(probe.calls, 6 * 2 * 2); // steps × branches × sites, with self-attention
    assert!(probe.worst < 1e-5, "rows sum to one, off by {}", probe.worst);
    Ok(())
}

#[test]
fn inactive_hook_is_never_called() -> Result<()> {
    let mut probe = Probe { off: true, ..Probe::wanting(Interest::PROBS) };
    assert_eq!(latent(sampler().hook(&mut probe))?, latent(sampler())?);
    assert_eq!(probe.calls, 0);
    Ok(())
}

#[test]
fn editing_phase_changes_the_picture() -> Result<()> {
    let plain = latent(sampler())?;
    for phase in [Interest::CONTEXT, Interest::BIAS, Interest::SCORES, Interest::OUTPUT] {
        let mut probe = Probe::wanting(phase);
        let edited = latent(sampler().hook(&mut probe))?;
        assert!(apart(&edited, &plain) > 1e-3, "{phase:?} changed nothing");
        assert_eq!(probe.calls, 6, "{phase:?}"); // once a step: one cross-attention site, one branch
    }
    Ok(())
}

#[test]
fn bias_is_equal_in_fused_and_explicit_kernel() -> Result<()> {
    // The run has one step, because rounding errors grow over several.
    let one = || Sampler::new(schedule(1), Euler);
    let fused = latent(one().hook(&mut Probe::wanting(Interest::BIAS)))?;
    let explicit = latent(one().hook(&mut Probe::wanting(Interest::SCORES)))?;
    assert!(apart(&fused, &explicit) < 1e-4 * fused.abs().max().double_value(&[]), "{}", apart(&fused, &explicit));
    Ok(())
}

#[test]
fn biases_add_up_in_any_order() -> Result<()> {
    struct Constant(f64);
    impl CrossAttentionHook for Constant {
        fn interest(&self, site: &AttentionSite, _: Branch) -> Interest {
            if site.is_cross() { Interest::BIAS } else { Interest::NONE }
        }
        fn bias(&mut self, _: &At, scores: &Scores) -> Result<Option<Tensor>> {
            Ok(Some(raise(&scores.full()?, &Tensor::from(self.0 as f32))))
        }
    }
    let (mut a, mut b) = (Constant(0.25), Constant(0.5));
    let one = latent(sampler().hook(&mut a).hook(&mut b))?;
    assert_eq!(one, latent(sampler().hook(&mut b).hook(&mut a))?);
    Ok(())
}

#[test]
fn failing_hook_error_names_site_phase_and_step() -> Result<()> {
    let mut probe = Probe { fails: true, ..Probe::wanting(Interest::PROBS) };
    let message = latent(sampler().hook(&mut probe)).expect_err("it fails").to_string();
    assert!(message.contains("probs of block.attn1 at step 0"), "{message}");
    Ok(())
}

#[test]
fn hook_count_changed_in_a_run_is_an_error() -> Result<()> {
    #[derive(Default)]
    struct Fickle(Probe, usize);
    impl GuidanceRun for Fickle {
        fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
            self.1 += 1;
            if self.1 > 2 { Vec::new() } else { vec![&mut self.0] }
        }
    }
    let error = latent(sampler().guide(Fickle::default)).expect_err("a hook is missing");
    assert!(matches!(error, Error::HooksChanged { before: 1, now: 0 }), "{error}");
    Ok(())
}

#[test]
fn hook_result_of_wrong_shape_names_its_phase() -> Result<()> {
    struct Wrong(Interest);
    impl CrossAttentionHook for Wrong {
        fn interest(&self, site: &AttentionSite, _: Branch) -> Interest {
            if site.is_cross() { self.0 } else { Interest::NONE }
        }
        fn context(&mut self, _: &At, context: &mut Tensor) -> Result<()> {
            *context = context.narrow(2, 0, 3);
            Ok(())
        }
        fn bias(&mut self, _: &At, _: &Scores) -> Result<Option<Tensor>> {
            Ok(Some(Tensor::zeros([3, 7], (Kind::Float, tch::Device::Cpu))))
        }
        fn scores(&mut self, _: &At, scores: &mut Tensor) -> Result<()> {
            *scores = scores.narrow(3, 0, 2);
            Ok(())
        }
        fn output(&mut self, _: &At, output: &mut Tensor) -> Result<()> {
            *output = output.narrow(1, 0, 2);
            Ok(())
        }
    }
    for (phase, name) in [
        (Interest::CONTEXT, "context"),
        (Interest::BIAS, "bias"),
        (Interest::SCORES, "scores"),
        (Interest::OUTPUT, "output"),
    ] {
        let message = latent(sampler().hook(Wrong(phase))).expect_err(name).to_string();
        assert!(message.contains(&format!("{name} of block.attn2 at step 0: {name} has shape")), "{message}");
    }
    Ok(())
}

#[test]
fn bias_per_head_reaches_its_head_and_readers() -> Result<()> {
    /// A hook that steers every head to another token, as a bias or as an edit of the scores.
    struct PerHead(Interest);
    fn steer() -> Tensor {
        let bias = Tensor::zeros([1, 2, 1, 10], (Kind::Float, tch::Device::Cpu));
        for head in 0..2 {
            let _ = bias.narrow(1, head, 1).narrow(3, 3 * head, 1).fill_(2.0);
        }
        bias
    }
    impl CrossAttentionHook for PerHead {
        fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
            if site.is_cross() && branch == Branch::Cond { self.0 | Interest::PROBS } else { Interest::NONE }
        }
        fn bias(&mut self, _: &At, _: &Scores) -> Result<Option<Tensor>> {
            Ok(Some(steer()))
        }
        fn scores(&mut self, _: &At, scores: &mut Tensor) -> Result<()> {
            *scores = &*scores + steer();
            Ok(())
        }
        fn probs(&mut self, _: &At, probs: &Probs) -> Result<()> {
            let (after, before) = (probs.columns(probs.tokens())?, probs.untouched().columns(probs.tokens())?);
            for head in 0..2i64 {
                let of =
                    |probs: &Tensor| probs.select(1, head).select(2, 3 * head).mean(Kind::Double).double_value(&[]);
                assert!(of(&after) > 2.0 * of(&before), "head {head}: {} → {}", of(&before), of(&after));
            }
            let values = Tensor::ones([10, 1], (Kind::Float, tch::Device::Cpu));
            assert!(apart(&probs.attend(&values)?, &Tensor::from(1f32)) < 1e-5, "rows sum to one");
            Ok(())
        }
    }
    let one = || Sampler::new(schedule(1), Euler);
    let fused = latent(one().hook(PerHead(Interest::BIAS)))?;
    let explicit = latent(one().hook(PerHead(Interest::SCORES)))?;
    assert!(apart(&fused, &explicit) < 1e-4 * fused.abs().max().double_value(&[]));
    assert!(apart(&fused, &latent(one())?) > 1e-3);
    Ok(())
}

#[test]
fn site_with_wrong_index_is_an_error() -> Result<()> {
    let site = AttentionSite::new("twice", SiteKind::Cross, Place::Up, 0, 1);
    let error = HookTable::new(&[], &[site.clone(), site], &[Branch::Cond]).expect_err("index 0 twice").to_string();
    assert!(error.contains("twice") && error.contains("the site's position"), "{error}");
    Ok(())
}

#[test]
fn context_edited_in_place_stays_at_its_site() -> Result<()> {
    /// A hook that doubles the third token, in place if its flag is set.
    struct Doubler(bool);
    impl CrossAttentionHook for Doubler {
        fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
            if site.is_cross() && branch == Branch::Cond { Interest::CONTEXT } else { Interest::NONE }
        }
        fn context(&mut self, _: &At, context: &mut Tensor) -> Result<()> {
            if !self.0 {
                *context = context.copy();
            }
            let _ = context.narrow(1, 3, 1).f_mul_scalar_(2.0)?;
            Ok(())
        }
    }
    let pipeline = Pipeline::builder().build()?;
    let run = |in_place: bool| -> Result<Tensor> {
        let request = pipeline.request("1girl, red hair").seed(7).steps(2).hook(Doubler(in_place));
        Ok(request.run()?.latents.copy())
    };
    assert_eq!(run(true)?, run(false)?);
    Ok(())
}
