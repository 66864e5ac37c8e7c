//! Laws of saliency: where phrases are found, and how maps follow from attention, steps and images.

use super::{GOLD, GRID, PROMPT, Twice, Watch, apart, found, latent, sampler, schedule, start};
use impasto::diffusion::Noise;
use impasto::diffusion::solver::Euler;
use impasto::methods::ColorForce;
use impasto::saliency::{Accumulate, Daam, DaamRun, Normalize, Occurrence, SaliencyRun};
use impasto::sampler::{Batching, Sampler, Start};
use impasto::testing::ToyModel;
use impasto::{Codec, Error, Result, TokenSpan, Window};
use tch::Tensor;

#[test]
fn repeated_phrase_is_found_at_every_place() -> Result<()> {
    let model = ToyModel::new(3)?;
    let spans = model.prompt("gold eyes and gold hair".into())?.find("gold")?;
    assert_eq!(spans, [TokenSpan { start: 1, end: 2 }, TokenSpan { start: 4, end: 5 }]);
    Ok(())
}

#[test]
fn phrase_is_read_at_the_chosen_occurrences() -> Result<()> {
    let model = ToyModel::new(3)?;
    let seen = |occurrence: Occurrence| -> Result<Tensor> {
        let look = Daam::of("eyes").tune(|options| options.occurrence = occurrence);
        let mut run = sampler().guide(look).start(&model, Start::new("red eyes, gold eyes", GRID, Noise::seeded(7)))?;
        let _ = run.finish()?;
        Ok(run.into_details()?.get::<DaamRun>("eyes")?.heat_map(0)?.values.shallow_clone())
    };
    let within = |start, end| seen(Occurrence::Within { start, end });
    let (first, second) = (seen(Occurrence::Nth(0))?, seen(Occurrence::Nth(1))?);
    assert!(apart(&first, &second) > 1e-6);
    assert_eq!((within(4, 8)?, within(10, 19)?), (first.shallow_clone(), second.shallow_clone()));
    assert!(apart(&within(0, 19)?, &((first + second) / 2.0)) < 1e-6, "the mean of both places");
    for (start, end) in [(0, 3), (12, 14), (40, 50)] {
        let error = within(start, end).expect_err("no eyes there").to_string();
        assert!(error.contains(&format!("{start}..{end}")) && error.contains("red eyes, gold eyes"), "{error}");
    }
    Ok(())
}

#[test]
fn daam_that_sees_nothing_is_an_error_or_a_note() -> Result<()> {
    let error = latent(sampler().guide(Daam::of("eyes").sites(|_| false))).expect_err("no sites").to_string();
    assert!(error.contains("block.attn2"), "{error}");
    let blind = ColorForce::published("eyes", GOLD)
        .saliency(Daam::of("eyes").window(Window::timesteps(0.0..=0.5)))
        .window(Window::WHOLE);
    let model = ToyModel::new(3)?;
    let mut run = sampler().guide(blind).start(&model, start(1))?;
    let _ = run.finish()?;
    assert!(run.notes().iter().any(|note| note.text.contains("no map")), "{:?}", run.notes());
    Ok(())
}

#[test]
fn token_shares_of_all_words_sum_to_one() -> Result<()> {
    let share = |phrase: &str| -> Result<Tensor> {
        let look = Daam::of(phrase).tune(|options| options.normalize = Normalize::TokenShare);
        let (_, details) = found(sampler().guide(look), 2)?;
        Ok(details.get::<DaamRun>(phrase)?.map()?.expect("there was a run"))
    };
    let parts = share("girl")? + share("with")? + share("gold eyes")?;
    assert_eq!(parts.size(), [2, 1, 8, 6]);
    assert!(apart(&parts, &Tensor::from(1f32)) < 1e-3, "all words together have all of the attention");
    assert!(apart(&share(PROMPT)?, &Tensor::from(1f32)) < 1e-3);
    Ok(())
}

#[test]
fn daam_averages_two_evaluations_of_a_step() -> Result<()> {
    let (_, details) = found(Sampler::new(schedule(3), Twice).guide(Daam::of("eyes")), 1)?;
    let look = details.get::<DaamRun>("eyes")?;
    assert!(look.heat_map(0)?.max()? <= 1.0, "a share of the attention, with any number of evaluations");
    Ok(())
}

#[test]
fn batch_maps_belong_to_their_own_images() -> Result<()> {
    let maps = |images, batching| -> Result<Vec<Tensor>> {
        let (_, details) = found(sampler().batching(batching).guide(Daam::of("eyes")), images)?;
        let look = details.get::<DaamRun>("eyes")?;
        (0..images).map(|image| Ok(look.heat_map(image)?.values.shallow_clone())).collect()
    };
    let (batch, alone) = (maps(3, Batching::OneByOne)?, maps(1, Batching::OneByOne)?);
    assert_eq!(batch[0], alone[0]);
    assert!(apart(&batch[0], &batch[1]) > 1e-6);
    for (together, apart_) in maps(3, Batching::Together)?.iter().zip(&batch) {
        assert!(apart(together, apart_) < 1e-4);
    }
    let (_, details) = found(sampler().guide(Daam::of("eyes")), 1)?;
    let look = details.get::<DaamRun>("eyes")?;
    assert!(look.heat_map(1).expect_err("one image").to_string().contains("image is 1"));
    let model = ToyModel::new(3)?;
    let unstepped = sampler().guide(Daam::of("eyes")).start(&model, start(1))?.into_details()?;
    assert!(matches!(unstepped.get::<DaamRun>("eyes")?.heat_map(0), Err(Error::NoMaps("Daam"))));
    Ok(())
}

#[test]
fn accumulated_maps_are_means_of_step_maps() -> Result<()> {
    let maps = |accumulate| -> Result<(Vec<Tensor>, Tensor)> {
        let look = Daam::of("eyes").tune(|options| {
            options.accumulate = accumulate;
            options.normalize = Normalize::Raw;
        });
        let mut watch = Watch::of(look);
        let _ = latent(Sampler::new(schedule(3), Euler).attach(&mut watch))?;
        let heat = watch.state::<DaamRun>().heat_map(0)?.values.shallow_clone();
        Ok((watch.maps, heat))
    };
    let (steps, heat) = maps(Accumulate::Step)?;
    assert_eq!(steps.len(), 3);
    let mean = (&steps[0] + &steps[1] + &steps[2]) / 3.0;
    assert!(apart(&mean.reshape([8, 6]), &heat) < 1e-6);
    let (means, same) = maps(Accumulate::Mean)?;
    assert!(apart(&means[2], &mean) < 1e-6 && apart(&means[1], &((&steps[0] + &steps[1]) / 2.0)) < 1e-6);
    assert_eq!(same, heat, "the heat map is the mean for every `Accumulate`");
    let (averages, _) = maps(Accumulate::Ema(0.25))?;
    let second = &steps[0] * 0.25 + &steps[1] * 0.75;
    assert!(apart(&averages[0], &steps[0]) < 1e-6 && apart(&averages[1], &second) < 1e-6);
    assert!(apart(&averages[2], &(second * 0.25 + &steps[2] * 0.75)) < 1e-6);
    Ok(())
}
