//! Search for a seed: a run makes several first passes and finishes the best of them.

use impasto::Codec;
use impasto::diffusion::{Noise, Schedule, Spacing, TrainingSchedule};
use impasto::guidance::{Guidance, GuidanceRun, Setup};
use impasto::methods::ColorForce;
use impasto::methods::color_force::{ColorReport, ForceRun};
use impasto::sampler::{Sampler, Start};
use impasto::testing::ToyModel;
use impasto::{Grid, Pipeline, Result, Rgb};

const PROMPT: &str = "1girl, eyes, hair bow, hair, skin, shirt, background";
const GOLD: Rgb = Rgb(255, 215, 0);

/// A guidance method that asks for a first pass and gives each candidate a fixed score.
#[derive(Clone)]
struct Told(Vec<f64>);

impl Guidance for Told {
    fn first_pass(&self) -> Option<f64> {
        Some(500.0)
    }
    fn begin(&self, _: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        Ok(Box::new(self.clone()))
    }
}

impl GuidanceRun for Told {
    fn outlook(&self, _: &dyn Codec) -> Result<Vec<f64>> {
        Ok(self.0.clone())
    }
}

#[test]
fn the_best_candidate_is_finished() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let alone = pipeline.request(PROMPT).seed(9).steps(4).run()?;
    let mut noisy =
        pipeline.request(PROMPT).tune(|config| config.noise = Some(Noise::seeds(&[7, 8, 9, 10]))).steps(4).best_of(4);
    noisy = noisy.guide(Told(vec![0.1, 0.2, 0.9, 0.3]));
    assert_eq!(noisy.run()?.image(0)?, alone.image(0)?, "noise that the request gives");
    let (first, second) = (Told(vec![0.5, 0.1, 0.4, f64::NAN]), Told(vec![0.1, 0.9, 0.6, 1.0]));
    let found = pipeline.request(PROMPT).seed(7).steps(4).best_of(4).guide(first).guide(second).run()?;
    assert_eq!((found.seed, found.images.len()), (Some(9), 1), "the products of the scores are .05, .09 and .24");
    assert_eq!(found.image(0)?, alone.image(0)?);
    assert_eq!(found.timing.first_pass.len(), 2, "all candidates in one batch, down to timestep 500");
    let both = (Told(vec![0.5, 0.1, 0.4, f64::NAN]), (Told(Vec::new()), Told(vec![0.1, 0.9, 0.6, 1.0])));
    let found = pipeline.request(PROMPT).seed(7).steps(4).best_of(4).guide(both).run()?;
    assert_eq!(found.seed, Some(9), "a pair of methods gives the product of its scores");
    Ok(())
}

#[test]
fn variations_are_those_of_the_chosen_seed() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let found = pipeline.request(PROMPT).seed(7).steps(4).variation(70, 0.3).best_of(2).guide(Told(vec![0.0, 1.0]));
    let found = found.run()?;
    let alone = pipeline.request(PROMPT).seed(8).steps(4).variation(71, 0.3).run()?;
    assert_eq!(found.image(0)?, alone.image(0)?);
    assert_eq!(found.recipe().config.variation, Some((71, 0.3)));
    Ok(())
}

#[test]
fn best_of_exact_force_repeats_by_its_seed() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let force = ColorForce::exact("hair bow", GOLD);
    let found = pipeline.request(PROMPT).seed(100).steps(12).best_of(3).guide(force.clone()).run()?;
    let seed = found.seed.expect("no noise was given");
    assert!((100..103).contains(&seed), "{seed}");
    let told = found.details::<ColorReport>("hair bow")?;
    assert_eq!(told.competitions.iter().map(|one| one.image).collect::<Vec<_>>(), [0]);
    assert_eq!(found.details::<ForceRun>("hair bow")?.masks()?.size4()?.1, 1);

    let repeated = pipeline.request(PROMPT).seed(seed).steps(12).guide(force).run()?;
    let apart = (&found.latents - &repeated.latents).abs().max().double_value(&[]);
    assert!(apart < 0.02, "the same picture, except for rounding in a batch: {apart}");
    let again = repeated.details::<ColorReport>("hair bow")?;
    assert_eq!(told.competitions[0].rivals, again.competitions[0].rivals);
    Ok(())
}

#[test]
fn best_of_error_names_the_problem() -> Result<()> {
    let said = |change: &dyn Fn(&mut Start<'static>), told: bool| {
        let schedule =
            Schedule::new(&TrainingSchedule::stable_diffusion(), 2, Spacing::Karras).expect("steps in range");
        let mut sampler = Sampler::new(schedule, impasto::diffusion::solver::Euler);
        if told {
            sampler = sampler.guide(Told(Vec::new()));
        }
        let mut start = Start::new(PROMPT, Grid::new(8, 8), Noise::seeded(7));
        change(&mut start);
        let model = ToyModel::new(3).expect("a toy");
        sampler.start(&model, start).map(drop).expect_err("it cannot be searched").to_string()
    };
    let error = said(&|start| start.best_of = 2, false);
    assert_eq!(
        error,
        "best_of is 2; expected 1 without a guidance method that ranks pictures; add such a method, for example `ColorForce::exact`"
    );
    let error = said(&|start| start.best_of = 0, true);
    assert_eq!(error, "best_of is 0; expected 1 to 1024 first passes");
    let error = said(&|start| (start.best_of, start.images) = (2, 2), true);
    assert!(error.starts_with("images is 2 with best_of; expected 1 with best_of, because"), "{error}");
    let error = said(&|start| (start.best_of, start.noise) = (2, Noise::shared(7)), true);
    assert!(error.contains("one generator for the whole batch"));
    Ok(())
}
