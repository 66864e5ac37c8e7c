//! Runs that start from a picture: cells that a mask keeps, networks that read masks, and refused inputs.

use impasto::attention::{AttentionSite, Tap};
use impasto::diffusion::solver::{Ddim, EulerAncestral, Heun, Lcm, Pndm, Solver, UniPc};
use impasto::diffusion::{
    Denoiser, Input, Noise, Predictions, Schedule, Spacing, SpacingOptions, Strength, Terminal, TrainingSchedule,
};
use impasto::sampler::{Batching, Origin, Sampler, Start};
use impasto::testing::ToyModel;
use impasto::{Codec, Conditioning, Error, Grid, Pipeline, Prompt, Raster, Result, Rgb, Size, Step, Texts};
use std::sync::Mutex;
use tch::{Device, Kind, Tensor};

const GRID: Grid = Grid::new(6, 4);

fn schedule(steps: usize) -> Schedule {
    Schedule::new(&TrainingSchedule::stable_diffusion(), steps, Spacing::Leading).unwrap()
}

/// A picture of the toy model's size, where a pixel is a cell.
fn picture(images: i64) -> Tensor {
    Noise::seeded(3).draw(&[images, 3, GRID.h, GRID.w]).unwrap().clamp(-1.0, 1.0)
}

/// A mask that repaints the left half.
fn left() -> Tensor {
    let mask = Tensor::zeros([1, 1, GRID.h, GRID.w], (Kind::Float, Device::Cpu));
    let _ = mask.narrow(3, 0, 2).fill_(1.0);
    mask
}

fn start(noise: Noise) -> Start<'static> {
    Start::new("a cat", GRID, noise)
}

/// A start from a picture or a latent, under a mask if there is one.
fn from<'a>(noise: Noise, origin: Origin<'a>, mask: Option<&'a Tensor>) -> Start<'a> {
    let mut start = start(noise);
    start.origin = origin;
    start.mask = mask;
    start
}

#[test]
fn kept_cells_equal_the_picture_bit_for_bit() {
    let (model, picture, mask) = (ToyModel::new(1).unwrap(), picture(1), left());
    let known = model.encode(&picture).unwrap();
    let solvers: [fn() -> Box<dyn Solver>; 6] = [
        || Box::new(EulerAncestral::default()),
        || Box::new(Heun),
        || Box::new(UniPc::default()),
        || Box::new(Pndm::default()),
        || Box::new(Lcm::default()),
        || Box::new(Ddim::default()),
    ];
    let mut options = SpacingOptions::default();
    options.terminal = Terminal::Lowest;
    let lowest = Schedule::with_options(&TrainingSchedule::stable_diffusion(), 5, Spacing::Leading, &options).unwrap();
    for make in solvers {
        for schedule in [schedule(5), schedule(5).last(3).unwrap(), lowest.clone()] {
            let start = from(Noise::seeded(7), Origin::Picture(&picture), Some(&mask));
            let mut run = Sampler::new(schedule, make()).start(&model, start).unwrap();
            let end = run.finish().unwrap();
            assert_eq!(end.narrow(3, 2, 2), known.narrow(3, 2, 2), "{}", make().name());
            assert_ne!(end.narrow(3, 0, 2), known.narrow(3, 0, 2));
        }
    }
}

#[test]
fn kept_cells_have_the_noise_of_each_level() {
    let (model, picture, mask) = (ToyModel::new(1).unwrap(), picture(1), left());
    let known = model.encode(&picture).unwrap();
    let mut noise = Noise::seeded(7);
    let _ = noise.draw(&[1, 4, GRID.h, GRID.w]).unwrap(); // the first draw is for the picture's posterior
    let first = noise.draw(&[1, 4, GRID.h, GRID.w]).unwrap();
    let start = from(Noise::seeded(7), Origin::Picture(&picture), Some(&mask));
    let mut run = Sampler::new(schedule(5).last(3).unwrap(), Heun).start(&model, start).unwrap();
    let steps = schedule(5).last(3).unwrap();
    assert!(run.latent().allclose(&(&known + steps.sigma_max() * &first), 1e-6, 1e-6, false));
    for step in steps.steps() {
        run.step().unwrap();
        let want = &known + step.to * &first;
        assert!(run.latent().narrow(3, 2, 2).allclose(&want.narrow(3, 2, 2), 1e-6, 1e-6, false));
    }
}

#[test]
fn whole_schedule_repaints_from_noise_alone() {
    let (model, picture, mask) = (ToyModel::new(1).unwrap(), picture(1), left());
    let first =
        |start: Start<'_>| Sampler::new(schedule(5), Heun).start(&model, start).unwrap().latent().shallow_clone();
    let mut noise = Noise::seeded(7);
    let _ = noise.draw(&[1, 4, GRID.h, GRID.w]).unwrap();
    let noise = noise.draw(&[1, 4, GRID.h, GRID.w]).unwrap();
    let repainted = first(from(Noise::seeded(7), Origin::Picture(&picture), Some(&mask)));
    assert!(repainted.allclose(&(schedule(5).initial_scale() * &noise), 1e-6, 1e-6, false));
    let known = model.encode(&picture).unwrap();
    let whole = first(from(Noise::seeded(7), Origin::Picture(&picture), None));
    assert!(whole.allclose(&(known + schedule(5).sigma_max() * &noise), 1e-6, 1e-6, false));
}

/// The toy model as an inpainting network, and the inputs that the network was shown.
struct Repainter {
    toy: ToyModel,
    seen: Mutex<Vec<Tensor>>,
}

impl Denoiser for Repainter {
    fn sites(&self) -> &[AttentionSite] {
        self.toy.sites()
    }
    fn inpaints(&self) -> bool {
        true
    }
    fn denoise(&self, step: &Step, inputs: &[Input<'_>], tap: &mut Tap<'_>) -> Result<Predictions> {
        let mut seen = self.seen.lock().unwrap();
        seen.extend(inputs.iter().map(|input| input.conditioning.concat.as_ref().unwrap().shallow_clone()));
        self.toy.denoise(step, inputs, tap)
    }
}

impl Codec for Repainter {
    fn prompt(&self, texts: Texts<'_>) -> Result<Prompt> {
        self.toy.prompt(texts)
    }
    fn text(&self, texts: Texts<'_>) -> Result<Conditioning> {
        self.toy.text(texts)
    }
    fn encode(&self, picture: &Tensor) -> Result<Tensor> {
        self.toy.encode(picture)
    }
    fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        self.toy.decode(latent)
    }
    fn cell(&self) -> i64 {
        1
    }
}

#[test]
fn inpainting_network_sees_mask_and_picture() {
    let model = Repainter { toy: ToyModel::new(1).unwrap(), seen: Mutex::default() };
    let (pictures, mask) = (picture(2), left());
    let stays = 1.0 - &mask;
    let beside = Tensor::cat(&[mask.expand([2, -1, -1, -1], false), model.encode(&(&pictures * stays)).unwrap()], 1);
    for batching in [Batching::Together, Batching::OneByOne] {
        let mut start = from(Noise::seeded(7), Origin::Picture(&pictures), Some(&mask));
        start.images = 2;
        let mut run = Sampler::new(schedule(2), Heun).batching(batching).start(&model, start).unwrap();
        // An inpainting network also paints the cells that stay.
        assert_ne!(run.finish().unwrap().narrow(3, 2, 2), model.encode(&pictures).unwrap().narrow(3, 2, 2));
        let seen = std::mem::take(&mut *model.seen.lock().unwrap());
        assert!(!seen.is_empty());
        for (i, seen) in seen.iter().enumerate() {
            let want = match batching {
                Batching::OneByOne => beside.narrow(0, i as i64 % 2, 1),
                _ => beside.shallow_clone(),
            };
            assert!(seen.allclose(&want, 1e-6, 1e-6, false), "{i}");
        }
    }
    // Everything is repainted if there is no mask.
    Sampler::new(schedule(2), Heun).start(&model, start(Noise::seeded(7))).unwrap().finish().unwrap();
    let seen = std::mem::take(&mut *model.seen.lock().unwrap());
    assert!(
        seen.iter()
            .all(|seen| seen.size() == [1, 5, GRID.h, GRID.w] && seen.narrow(1, 0, 1).min() == Tensor::from(1f32))
    );
    // The network needs a latent of the masked picture, which cannot be made from a latent.
    let latent = model.encode(&picture(1)).unwrap();
    let error =
        Sampler::new(schedule(2), Heun).start(&model, from(Noise::seeded(7), Origin::Latent(&latent), Some(&mask)));
    assert!(matches!(error.err(), Some(Error::Parameter { name: "start", .. })));
}

#[test]
fn image_from_a_picture_ignores_its_batch() {
    let (model, picture, mask) = (ToyModel::new(1).unwrap(), picture(1), left());
    let end = |noise: Noise, images: usize| {
        let mut start = from(noise, Origin::Picture(&picture), Some(&mask));
        start.images = images;
        let sampler =
            Sampler::new(schedule(5).last(4).unwrap(), EulerAncestral::default()).batching(Batching::OneByOne);
        sampler.start(&model, start).unwrap().finish().unwrap().shallow_clone()
    };
    let both = end(Noise::seeded(7), 2);
    assert_eq!(both.narrow(0, 1, 1), end(Noise::seeded(8), 1));
}

#[test]
fn run_continues_from_another_runs_latent() {
    let model = ToyModel::new(1).unwrap();
    let first =
        Sampler::new(schedule(4), Heun).start(&model, start(Noise::seeded(1))).unwrap().finish().unwrap().copy();
    let again = from(Noise::seeded(2), Origin::Latent(&first), None);
    let run = Sampler::new(schedule(4).last(2).unwrap(), Heun).start(&model, again).unwrap();
    let noise = Noise::seeded(2).draw(&[1, 4, GRID.h, GRID.w]).unwrap();
    let want = &first + schedule(4).last(2).unwrap().sigma_max() * noise;
    assert!(run.latent().allclose(&want, 1e-6, 1e-6, false));
}

#[test]
fn a_variation_lies_between_two_seeds() {
    let model = ToyModel::new(1).unwrap();
    let first =
        |start: Start<'_>| Sampler::new(schedule(4), Heun).start(&model, start).unwrap().latent().shallow_clone();
    let between = |strength| {
        let mut between = start(Noise::seeded(1));
        between.variation = Some((Noise::seeded(2), strength));
        first(between)
    };
    let [one, other] = [1, 2].map(|seed| first(start(Noise::seeded(seed))));
    assert!(between(0.0).allclose(&one, 1e-5, 1e-5, false) && between(1.0).allclose(&other, 1e-5, 1e-5, false));
    let far = |x: &Tensor| (x - &one).square().sum(Kind::Double).double_value(&[]);
    assert!(far(&between(0.1)) < far(&between(0.3)) && far(&between(0.3)) < far(&other));
}

#[test]
fn pictures_and_masks_of_another_size_are_refused() {
    let model = ToyModel::new(1).unwrap();
    let (wide, mask, picture) = (Tensor::zeros([1, 3, 6, 5], (Kind::Float, Device::Cpu)), left(), picture(1));
    let fails = |start: Start<'_>| Sampler::new(schedule(4), Heun).start(&model, start).err().unwrap().to_string();
    let error = fails(from(Noise::seeded(1), Origin::Picture(&wide), None));
    assert_eq!(error, "the picture to start from has shape [1, 3, 6, 5]; expected [1 or 1, 3, 6, 4]");
    assert!(fails(from(Noise::seeded(1), Origin::Picture(&picture), Some(&wide))).starts_with("the mask has shape"));
    assert!(fails(from(Noise::seeded(1), Origin::Latent(&wide), None)).starts_with("the latent to start from"));
    let error = fails(from(Noise::seeded(1), Origin::Noise, Some(&mask)));
    assert!(error.starts_with("mask is given without a picture"), "{error}");
}

/// Mean distance of two pictures' bytes, over the rows of `rows`.
fn apart(a: &Raster, b: &Raster, rows: std::ops::Range<u32>) -> f64 {
    let stride = 3 * a.size().width as usize;
    let part = |of: &Raster| of.bytes()[rows.start as usize * stride..rows.end as usize * stride].to_vec();
    let (a, b) = (part(a), part(b));
    a.iter().zip(&b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
}

#[test]
fn higher_strength_leaves_less_of_the_picture() {
    let pipeline = Pipeline::builder().build().unwrap();
    let prompt = "1girl, gold eyes, red hair, pale skin, blue shirt, green background";
    let other = "1girl, gold eyes, black hair, pale skin, red shirt, navy background";
    let first = pipeline.request(prompt).seed(7).steps(12).run().unwrap();
    let first = first.image(0).unwrap();
    let distance = |strength: Strength| {
        let output = pipeline.request(other).seed(7).steps(12).start(first, strength).run().unwrap();
        (apart(output.image(0).unwrap(), first, 0..256), output.timing.steps.len())
    };
    let (low, high, full) = (Strength::Portion(0.3), Strength::Portion(0.9), Strength::FullSteps(0.9));
    let (low, high, full) = (distance(low), distance(high), distance(full));
    assert!(low.0 < 20.0 && high.0 > 2.0 * low.0, "{low:?} {high:?}");
    assert_eq!((low.1, high.1, full.1), (3, 10, 12));
}

#[test]
fn a_shirt_is_repainted_and_the_face_stays() {
    let pipeline = Pipeline::builder().build().unwrap();
    let prompt = "1girl, gold eyes, pink hair bow, red hair, pale skin, blue shirt, green background";
    let first = pipeline.request(prompt).seed(7).run().unwrap();
    let first = first.image(0).unwrap();
    let mut mask = Raster::flat(Rgb(0, 0, 0), (256, 256));
    mask.paste(&Raster::flat(Rgb(255, 255, 255), (256, 64)), 0, 192);
    let red = prompt.replace("blue shirt", "red shirt");
    for sampler in ["DPM++ 2M Karras", "UniPC", "euler_ancestral"] {
        let request = pipeline.request(&red).seed(7).start(first, 1.0).mask(&mask).solver_named(sampler);
        let output = request.run().unwrap();
        let repainted = output.image(0).unwrap();
        // Above the mask, only the VAE's loss of two passes remains. The middle of the shirt is red.
        assert!(apart(repainted, first, 0..160) < 8.0, "{sampler}: {}", apart(repainted, first, 0..160));
        let Rgb(r, _, b) = repainted.pixel(128, 240).unwrap();
        assert!(r > 150 && b < 100, "{sampler}: {r} {b}");
    }
}

#[test]
fn request_takes_picture_size_and_sampler_names() {
    let pipeline = Pipeline::builder().build().unwrap();
    let wide = Raster::flat(Rgb(200, 30, 30), (96, 64));
    let output = pipeline.request("a red boat").seed(1).steps(4).start(&wide, 0.5).run().unwrap();
    assert_eq!(output.image(0).unwrap().size(), Size::new(96, 64));
    let output = pipeline.request("a red boat").seed(1).steps(4).start(&wide, 0.5).size((64, 64)).run().unwrap();
    assert_eq!(output.image(0).unwrap().size().width, 64);

    let output =
        pipeline.request("a red boat").seed(1).steps(2).size((64, 64)).solver_named("LCM Karras").run().unwrap();
    let notes = output.notes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    assert!(notes.contains("the solver Lcm has its own timesteps, so the spacing Karras is ignored"), "{notes}");
    let error = pipeline.request("a red boat").solver_named("Eular").run().unwrap_err().to_string();
    assert!(error.contains("did you mean \"Euler\""), "{error}");
    let error = pipeline.request("a red boat").mask(&wide).run().unwrap_err().to_string();
    assert!(error.starts_with("mask is given without a picture"), "{error}");
    let error = pipeline.request("a red boat").start(&wide, 1.5).run().unwrap_err().to_string();
    assert!(error.starts_with("strength is 1.5"), "{error}");
}
