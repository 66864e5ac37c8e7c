//! Laws of batches: images of a batch do not influence each other, however the batch is evaluated.

use super::{GOLD, GRID, PROMPT, Probe, apart, latents, sampler};
use impasto::attention::Interest;
use impasto::diffusion::Noise;
use impasto::mask::Region;
use impasto::methods::paint_with_words::WeightFn;
use impasto::methods::{ColorForce, PaintWithWords};
use impasto::saliency::{Daam, Differential, WordMapsRun};
use impasto::sampler::{Batching, Start};
use impasto::testing::ToyModel;
use impasto::{Result, Rgb, Window};
use ndarray::Array2;
use tch::Tensor;

#[test]
fn batching_keeps_pictures_and_tells_hooks_images() -> Result<()> {
    let guided = |batching, images| {
        let force = ColorForce::published("eyes", GOLD).color_var(5.0).window(Window::WHOLE);
        latents(sampler().batching(batching).guide(force), images)
    };
    let (together, alone) = (guided(Batching::Together, 3)?, guided(Batching::OneByOne, 3)?);
    assert!(apart(&together, &alone) < 1e-3, "{}", apart(&together, &alone));
    for image in 0..3 {
        let force = ColorForce::published("eyes", GOLD).color_var(5.0).window(Window::WHOLE);
        let model = ToyModel::new(3)?;
        let start = Start::new(PROMPT, GRID, Noise::seeded(7 + image));
        let mut run = sampler().batching(Batching::OneByOne).guide(force).start(&model, start)?;
        let own = run.finish()?;
        assert_eq!(alone.narrow(0, image as i64, 1), *own, "image {image} of the batch equals the same image alone");
    }

    let mut probe = Probe::wanting(Interest::PROBS);
    let _ = latents(sampler().batching(Batching::OneByOne).hook(&mut probe), 2)?;
    assert!(probe.images.contains(&(0..1)) && probe.images.contains(&(1..2)));
    let mut probe = Probe::wanting(Interest::PROBS);
    let _ = latents(sampler().hook(&mut probe), 2)?;
    assert!(probe.images.iter().all(|images| *images == (0..2)));
    Ok(())
}

/// Makes a run with two forces (one by a second prompt), a painted region, DAAM and a bare hook.
///
/// Returns the latents and the first image's maps of all words.
fn everything(batching: Batching, images: usize, first_seed: u64) -> Result<(Tensor, Vec<Tensor>)> {
    let half = Region::new(Array2::from_shape_fn((8, 6), |(row, _)| if row < 4 { 1.0 } else { 0.0 }));
    let paint = PaintWithWords::default().mask(half, "girl", 1.5).weight(WeightFn::LogMax(0.4));
    let force = |phrase: &str, color| ColorForce::published(phrase, color).color_var(15.0).window(Window::WHOLE);
    let gold = force("eyes", GOLD).saliency((Daam::of("eyes"), Differential::of("eyes", "pink")));
    let blue = force("gold", Rgb(0, 0, 139)).saliency_cutoff(0.4);
    let mut probe = Probe::wanting(Interest::PROBS);
    let model = ToyModel::new(3)?;
    let sampler = sampler().batching(batching).guide(paint).guide(gold).guide(blue);
    let mut start = Start::new(PROMPT, GRID, Noise::seeded(first_seed));
    start.images = images;
    let mut run = sampler.guide(Daam::words()).hook(&mut probe).start(&model, start)?;
    let x = run.finish()?.shallow_clone();
    let details = run.into_details()?;
    let maps = details.get::<WordMapsRun>("Daam::words")?.heat_maps(0)?;
    let maps: Vec<Tensor> = maps.iter().map(|map| map.values.shallow_clone()).collect();
    Ok((x, maps))
}

#[test]
fn combined_methods_keep_images_of_a_batch_apart() -> Result<()> {
    let (all, maps) = everything(Batching::OneByOne, 3, 7)?;
    assert_eq!(maps.len(), 4, "a map per word");
    assert!(apart(&all, &latents(sampler(), 3)?) > 1e-2);
    let (again, same_maps) = everything(Batching::OneByOne, 3, 7)?;
    assert_eq!((&again, &same_maps), (&all, &maps));
    for image in 0..3 {
        let (alone, _) = everything(Batching::OneByOne, 1, 7 + image)?;
        assert_eq!(all.narrow(0, image as i64, 1), alone, "image {image} of the batch equals the same image alone");
    }
    let (together, _) = everything(Batching::Together, 3, 7)?;
    assert!(apart(&together, &all) < 1e-2, "{}", apart(&together, &all));
    Ok(())
}
