//! Laws of runs: failed and cancelled runs, parts of runs, repainting, and what guidance methods do at the end.

use super::{GOLD, GRID, PROMPT, Probe, apart, found, latent, paint, sampler, schedule, start};
use impasto::attention::Interest;
use impasto::diffusion::solver::{Euler, by_name};
use impasto::diffusion::{Denoised, Noise, Schedule, Spacing, TrainingSchedule, Transition};
use impasto::guidance::{Guidance, GuidanceRun, Setup};
use impasto::methods::ColorForce;
use impasto::methods::color_force::ColorReport;
use impasto::methods::paint_with_words::PaintReport;
use impasto::saliency::{Daam, DaamRun};
use impasto::sampler::{CancelToken, Origin, Sampler, Start};
use impasto::testing::ToyModel;
use impasto::{Codec, Error, Result, Step};
use tch::{Kind, Tensor};

#[test]
fn failed_start_keeps_details_of_an_earlier_run() -> Result<()> {
    let (look, force, paint) = (Daam::of("eyes"), ColorForce::published("eyes", GOLD), paint());
    let (_, details) = found(sampler().guide(look.clone()).guide(force.clone()).guide(paint.clone()), 1)?;
    let model = ToyModel::new(3)?;
    let guidances: [Box<dyn Guidance>; 3] = [Box::new(look), Box::new(force), Box::new(paint)];
    for guidance in guidances {
        assert!(sampler().guide(guidance).start(&model, Start::new("a dog", GRID, Noise::seeded(1))).is_err());
    }
    assert!(details.get::<DaamRun>("eyes")?.heat_map(0).is_ok());
    assert!(details.get::<ColorReport>("Eyes").is_ok() && details.get::<PaintReport>("PaintWithWords").is_ok());
    Ok(())
}

#[test]
fn unknown_label_of_details_is_an_error() -> Result<()> {
    let force = ColorForce::published("eyes", GOLD);
    let (_, details) = found(sampler().guide(Daam::of("girl")).guide(force).guide(paint()), 1)?;
    let error = details.get::<ColorReport>("no such label").expect_err("no such method");
    assert!(matches!(error, Error::Parameter { name: "details", .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("\"no such label\"") && message.ends_with(": \"eyes\""), "{message}");
    let message = details.get::<String>("no such label").expect_err("no such method").to_string();
    assert!(message.ends_with(": \"girl\", \"eyes\", \"PaintWithWords\""), "{message}");
    let message = details.get::<String>("eyes").expect_err("a force reports no text").to_string();
    assert!(message.contains("String"), "{message}");
    Ok(())
}

#[test]
fn replaced_prompt_serves_methods_in_any_order() -> Result<()> {
    /// A method that replaces the context by that of another prompt.
    struct Another;
    impl Guidance for Another {
        fn replaces_context(&self) -> bool {
            true
        }
        fn begin(&self, setup: &mut Setup, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
            setup.replace_prompt(setup.codec.prompt("boy with gold dog".into())?);
            Ok(Box::new(AnotherRun))
        }
    }
    struct AnotherRun;
    impl GuidanceRun for AnotherRun {}
    let dog = || Daam::of("dog"); // a word of the other prompt alone
    assert!(found(sampler().guide(dog()), 1).is_err());
    for sampler in [
        sampler().guide(dog()).guide(Another),
        sampler().guide(Another).guide(dog()),
        sampler().guide((dog(), Another)),
        sampler().guide((Another, dog())),
    ] {
        let _ = found(sampler, 1)?;
    }
    Ok(())
}

#[test]
fn failed_run_does_not_continue() -> Result<()> {
    struct Late;
    impl GuidanceRun for Late {
        fn transition(&mut self, step: &Step, _: &mut Transition) -> Result<()> {
            if step.index == 2 { Err(Error::NoMaps("Late")) } else { Ok(()) }
        }
    }
    let model = ToyModel::new(3)?;
    let mut run = sampler().guide(|| Late).start(&model, start(1))?;
    assert!(run.finish().is_err());
    assert!(matches!(run.step(), Err(Error::RunFailed)));
    assert!(matches!(run.finish().map(drop), Err(Error::RunFailed)));
    assert!(matches!(run.decode(), Err(Error::RunFailed)));
    Ok(())
}

#[test]
fn latent_of_wrong_shape_or_nan_is_an_error() -> Result<()> {
    struct Cut;
    impl GuidanceRun for Cut {
        fn transition(&mut self, _: &Step, transition: &mut Transition) -> Result<()> {
            transition.mean = transition.mean.narrow(2, 0, 4);
            Ok(())
        }
        fn name(&self) -> &'static str {
            "Cut"
        }
    }
    let error = latent(sampler().attach(&mut Cut)).expect_err("another shape");
    assert!(matches!(error, Error::Guidance { phase: "transition", step: Some(0), .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.starts_with("Cut: ") && message.contains("[1, 4, 4, 6]"), "{message}");

    struct Break;
    impl GuidanceRun for Break {
        fn denoised(&mut self, _: &Step, denoised: &mut Denoised) -> Result<()> {
            denoised.x0 = &denoised.x0 * f64::NAN;
            Ok(())
        }
    }
    let message = latent(sampler().guide(|| Break)).expect_err("not a number").to_string();
    assert!(message.contains("not finite at step 0"), "{message}");
    Ok(())
}

#[test]
fn cancelled_run_does_not_call_the_model() -> Result<()> {
    let token = CancelToken::new();
    let mut probe = Probe::wanting(Interest::PROBS);
    let model = ToyModel::new(3)?;
    let mut run = sampler().hook(&mut probe).cancel(&token).start(&model, start(1))?;
    let _ = run.step()?;
    token.cancel();
    assert!(matches!(run.step(), Err(Error::Cancelled)));
    drop(run);
    assert_eq!(probe.calls, 4);
    Ok(())
}

/// A guidance method whose pull has a weight of 0 everywhere.
struct Weightless;

impl GuidanceRun for Weightless {
    fn transition(&mut self, _: &Step, transition: &mut Transition) -> Result<()> {
        let none = transition.mean.zeros_like();
        transition.pull(none.shallow_clone(), none);
        Ok(())
    }
}

#[test]
fn pull_without_weight_keeps_bits_in_every_solver() -> Result<()> {
    let names = [
        "Euler a",
        "Heun",
        "LMS",
        "DPM2",
        "DPM2 a",
        "DPM++ 2S a",
        "dpmpp_2s",
        "DPM++ 2M",
        "DPM++ 3M SDE",
        "DPM++ SDE",
        "DDIM",
        "PLMS",
        "DEIS",
        "UniPC",
        "uni_pc_bh2",
        "LCM",
        "TCD",
    ];
    for name in names {
        let run = |pulled: bool| -> Result<Tensor> {
            let sampler = Sampler::new(schedule(6), by_name(name)?.0);
            latent(if pulled { sampler.guide(|| Weightless) } else { sampler })
        };
        let plain = run(false)?;
        assert_eq!(run(true)?, plain, "{name}");
        assert_eq!(plain.isfinite().all(), Tensor::from(true), "{name}");
    }
    Ok(())
}

#[test]
fn partial_run_equals_that_part_of_the_whole() -> Result<()> {
    let model = ToyModel::new(3)?;
    let all = Schedule::new(&TrainingSchedule::stable_diffusion(), 9, Spacing::Leading)?;
    let part = all.until(0.6)?;
    let places: Vec<_> = part.steps().map(|step| (step.place(), step.left())).collect();
    assert_eq!(places, (0..5).map(|i| (i, 9 - i)).collect::<Vec<_>>());
    let rest: Vec<_> = all.after(0.6)?.steps().map(|step| (step.place(), step.left())).collect();
    assert_eq!(rest, (5..9).map(|i| (i, 9 - i)).collect::<Vec<_>>());
    assert_eq!(all.last(3)?.until(0.9)?.steps().map(|step| (step.before, step.after)).last(), Some((6, 1)));
    for name in ["DPM++ 2S", "DPM++ 2M", "DPM++ 3M", "DEIS", "UniPC", "PLMS", "Heun"] {
        let solver = by_name(name)?.0;
        let mut whole = Sampler::new(all.clone(), solver).start(&model, start(1))?;
        for _ in 0..5 {
            let _ = whole.step()?;
        }
        let mut begun = Sampler::new(part.clone(), by_name(name)?.0).start(&model, start(1))?;
        while begun.step()?.is_some() {}
        assert_eq!(begun.latent(), whole.latent(), "{name}");
    }
    Ok(())
}

#[test]
fn repainting_until_a_level_ends_at_that_level() -> Result<()> {
    let model = ToyModel::new(3)?;
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 9, Spacing::Leading)?.until(0.6)?;
    let to = schedule.steps().last().expect("five steps").to;
    let mask = Tensor::zeros([1, 1, 8, 6], (Kind::Float, tch::Device::Cpu));
    let _ = mask.narrow(2, 4, 4).fill_(1.0);
    let finished = |prompt: &str, inside: f64| -> Result<Tensor> {
        let latent = Tensor::full([1, 4, 8, 6], 0.5, (Kind::Float, tch::Device::Cpu));
        let _ = latent.narrow(2, 4, 4).fill_(inside);
        let mut start = Start::new(prompt, GRID, Noise::seeded(7));
        start.origin = Origin::Latent(&latent);
        start.mask = Some(&mask);
        let mut run = Sampler::new(schedule.clone(), Euler).start(&model, start)?;
        Ok(run.finish()?.copy())
    };
    let (upper, lower) = ((2, 0, 4), (2, 4, 4));
    let of = |x: &Tensor, (axis, from, count): (i64, i64, i64)| x.narrow(axis, from, count).copy();
    let (a, b) = (finished(PROMPT, 0.5)?, finished(PROMPT, -3.0)?);
    assert_eq!(of(&a, lower), of(&b, lower), "the repainted part does not depend on the old picture");
    // The kept part is the picture plus the first noise, for any prompt.
    let noise = Noise::seeded(7).draw(&[1, 4, 8, 6])?;
    let kept = (noise * to + 0.5) / to.hypot(1.0);
    assert!(apart(&of(&a, upper), &of(&kept, upper)) < 1e-5);
    Ok(())
}

/// A guidance method that adds 1 to the finished latent and counts its calls.
#[derive(Default)]
struct Finisher(usize);

impl GuidanceRun for Finisher {
    fn finish(&mut self, latent: &mut Tensor, _: &dyn Codec) -> Result<()> {
        self.0 += 1;
        *latent = &*latent + 1.0;
        Ok(())
    }
}

#[test]
fn finish_waits_for_the_end_and_keeps_the_mask() -> Result<()> {
    let model = ToyModel::new(3)?;
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 9, Spacing::Leading)?;
    let latent = Tensor::full([1, 4, 8, 6], 0.5, (Kind::Float, tch::Device::Cpu));
    let mask = Tensor::zeros([1, 1, 8, 6], (Kind::Float, tch::Device::Cpu));
    let _ = mask.narrow(2, 4, 4).fill_(1.0);
    let finished = |schedule: Schedule, finisher: &mut Finisher| -> Result<Tensor> {
        let mut start = Start::new(PROMPT, GRID, Noise::seeded(7));
        start.origin = Origin::Latent(&latent);
        start.mask = Some(&mask);
        let mut run = Sampler::new(schedule, Euler).attach(finisher).start(&model, start)?;
        Ok(run.finish()?.copy())
    };
    let mut finisher = Finisher::default();
    let whole = finished(schedule.clone(), &mut finisher)?;
    assert_eq!((whole.narrow(2, 0, 4), finisher.0), (latent.narrow(2, 0, 4), 1));
    let _ = finished(schedule.until(0.5)?, &mut finisher)?;
    assert_eq!(finisher.0, 1, "`finish` is not called for a run that ends early");
    Ok(())
}
