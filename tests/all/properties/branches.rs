//! Laws of branches: which branches are evaluated, in which order, and which edits reach a variation of a prompt.

use super::{GOLD, GRID, Probe, Watch, apart, found, latent, sampler, schedule};
use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest};
use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Noise, Predictions, Schedule, SpacingOptions, TrainingSchedule};
use impasto::guidance::{Cfg, GuidanceRun, Plan, Setup};
use impasto::methods::ColorForce;
use impasto::saliency::{Daam, DaamRun, Differential};
use impasto::sampler::{Batching, Sampler, Start};
use impasto::testing::ToyModel;
use impasto::{Branch, BranchInfo, Codec, Conditioning, Result, Rgb, Step, Window};
use tch::Tensor;

/// A reader that keeps the predictions of the last evaluation by branch.
#[derive(Default)]
struct Predicted(Vec<(Branch, Tensor)>);

impl GuidanceRun for Predicted {
    fn predicted(&mut self, _: &Step, predictions: &mut Predictions) -> Result<()> {
        let all = predictions.branches().map(|branch| Ok((branch, predictions.x0(branch)?.copy())));
        self.0 = all.collect::<Result<_>>()?;
        Ok(())
    }
}

#[test]
fn differential_leaves_other_branches_alone() -> Result<()> {
    let one = |batching| Sampler::new(schedule(1), Euler).batching(batching);
    for (batching, allowed) in [(Batching::OneByOne, 0.0), (Batching::Together, 1e-4)] {
        let (mut with, mut without) = (Predicted::default(), Predicted::default());
        let _ = latent(one(batching).guide(Differential::of("eyes", "pink")).attach(&mut with))?;
        let _ = latent(one(batching).attach(&mut without))?;
        let branches: Vec<Branch> = with.0.iter().map(|(branch, _)| *branch).collect();
        assert_eq!(branches, [Branch::Extra(0), Branch::Uncond, Branch::Cond]);
        for ((branch, with), (_, without)) in with.0.iter().skip(1).zip(&without.0) {
            assert!(apart(with, without) <= allowed, "{batching:?} {branch:?}: {}", apart(with, without));
        }
    }
    Ok(())
}

#[test]
fn forces_share_differential_inside_their_window() -> Result<()> {
    /// A reader that counts the branches of every evaluation.
    #[derive(Default)]
    struct Count(Vec<usize>);
    impl GuidanceRun for Count {
        fn predicted(&mut self, _: &Step, predictions: &mut Predictions) -> Result<()> {
            self.0.push(predictions.branches().count());
            Ok(())
        }
    }
    let force = |color, word: &str| {
        ColorForce::published("eyes", color)
            .saliency(Differential::of("eyes", word))
            .window(Window::timesteps(300.0..=700.0))
    };
    let table = TrainingSchedule::stable_diffusion();
    let run = |words: [&str; 2]| -> Result<Vec<usize>> {
        let schedule = Schedule::from_timesteps(&table, &[900.0, 600.0, 400.0, 200.0], &SpacingOptions::default())?;
        let mut count = Count::default();
        let sampler = Sampler::new(schedule, Euler).guide(force(GOLD, words[0])).guide(force(Rgb(0, 0, 139), words[1]));
        let _ = latent(sampler.attach(&mut count))?;
        Ok(count.0)
    };
    assert_eq!(run(["pink", "pink"])?, [2, 3, 3, 2]);
    assert_eq!(run(["pink", "blue"])?, [2, 4, 4, 2]);
    Ok(())
}

#[test]
fn prompt_edits_also_reach_a_variation() -> Result<()> {
    /// A guidance method that doubles the context of the prompt and of every variation of it.
    struct Louder;
    impl GuidanceRun for Louder {
        fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, _: &dyn Codec) -> Result<()> {
            if branch.like == Branch::Cond {
                conditioning.context = &conditioning.context * 2.0;
            }
            Ok(())
        }
    }
    let map = |louder_first: bool| -> Result<Tensor> {
        let mut look = Watch::of(Differential::of("eyes", "pink"));
        let sampler = Sampler::new(schedule(1), Euler);
        let sampler = match louder_first {
            true => sampler.guide(|| Louder).attach(&mut look),
            false => sampler.attach(&mut look).guide(|| Louder),
        };
        let _ = latent(sampler)?;
        Ok(look.maps.pop().expect("one step was taken"))
    };
    assert_eq!(map(true)?, map(false)?, "the order of attachment does not matter");
    Ok(())
}

#[test]
fn varied_prompt_has_word_at_every_occurrence() -> Result<()> {
    /// A reader that lists the prompts of all branches.
    #[derive(Default)]
    struct Names(Vec<String>);
    impl GuidanceRun for Names {
        fn condition(&mut self, branch: &BranchInfo, _: &mut Conditioning, _: &dyn Codec) -> Result<()> {
            self.0.push(branch.prompt.clone());
            Ok(())
        }
    }
    let (model, mut names) = (ToyModel::new(3)?, Names::default());
    let start = Start::new("eyes and Eyes", GRID, Noise::seeded(1));
    let _ = sampler().guide(Differential::of("eyes", "pink")).attach(&mut names).start(&model, start)?;
    assert_eq!(names.0, ["", "eyes and Eyes", "pink eyes and pink Eyes"]);
    let weak = Differential::of("eyes", "pink").weight(-1.0);
    assert!(latent(sampler().guide(weak)).expect_err("negative").to_string().contains("weight is -1"));
    Ok(())
}

#[test]
fn guidance_scale_one_evaluates_the_prompt_alone() -> Result<()> {
    let mut probe = Probe::wanting(Interest::PROBS);
    let (_, details) = found(sampler().combine(Cfg(1.0)).hook(&mut probe).guide(Daam::of("eyes")), 1)?;
    assert_eq!(probe.calls, 6 * 2); // steps × sites
    assert!(details.get::<DaamRun>("eyes")?.heat_map(0)?.max()? > 0.0);
    Ok(())
}

/// Attention injection: `Cond` also attends to the context of an extra branch at the same self-attention site.
#[derive(Default)]
struct Inject {
    branch: Option<Branch>,
    seen: Option<Tensor>,
    injected: usize,
}

impl GuidanceRun for Inject {
    fn begin(&mut self, setup: &mut Setup) -> Result<()> {
        let text = "a reference picture";
        self.branch = Some(setup.add("reference", Branch::Cond, text, setup.text(text)?)?);
        let again = setup.add("reference", Branch::Cond, text, setup.text(text)?)?;
        assert_eq!(Some(again), self.branch, "the same branch is added once");
        Ok(())
    }
    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        let noised = Noise::shared(99).draw(&[1, 4, GRID.h, GRID.w])?.f_mul_scalar(step.sigma)?;
        self.branch.into_iter().for_each(|branch| plan.evaluate_at(branch, noised.shallow_clone()));
        Ok(())
    }
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![self]
    }
}

impl CrossAttentionHook for Inject {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if !site.is_cross() && branch != Branch::Uncond { Interest::CONTEXT } else { Interest::NONE }
    }
    fn context(&mut self, at: &At, context: &mut Tensor) -> Result<()> {
        if at.branch == Branch::Cond {
            let seen = self.seen.take().expect("extra branches are evaluated first");
            *context = Tensor::f_cat(&[&*context, &seen], 1)?;
            self.injected += 1;
        } else {
            self.seen = Some(context.shallow_clone());
        }
        Ok(())
    }
}

#[test]
fn later_branch_reads_data_of_an_earlier_branch() -> Result<()> {
    for batching in [Batching::Together, Batching::OneByOne] {
        let mut inject = Inject::default();
        let with = latent(sampler().batching(batching).attach(&mut inject))?;
        assert_eq!(inject.injected, 6);
        assert!(apart(&with, &latent(sampler())?) > 1e-2);
    }
    Ok(())
}

#[test]
fn branch_requested_at_two_latents_is_an_error() -> Result<()> {
    // Both methods share the branch, and each brings a latent of its own.
    let message = latent(sampler().guide(Inject::default).guide(Inject::default)).expect_err("two latents");
    assert!(message.to_string().contains("given twice for Extra(0); expected one latent for each branch"), "{message}");
    Ok(())
}

#[test]
fn unevaluated_branch_error_names_the_method() -> Result<()> {
    struct Curious;
    impl GuidanceRun for Curious {
        fn predicted(&mut self, _: &Step, predictions: &mut Predictions) -> Result<()> {
            predictions.x0(Branch::Extra(0)).map(drop)
        }
        fn name(&self) -> &'static str {
            "Curious"
        }
    }
    let message = latent(sampler().attach(&mut Curious)).expect_err("the branch was not evaluated").to_string();
    assert!(message.contains("Curious: branch Extra(0) was not evaluated"), "{message}");
    Ok(())
}
