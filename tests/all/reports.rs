//! Reports and times of runs.

use impasto::diffusion::{Denoiser, Noise, Schedule, Spacing, solver::EulerAncestral};
use impasto::mask::Region;
use impasto::methods::{ColorForce, PaintWithWords};
use impasto::pipeline::Pipeline;
use impasto::saliency::Daam;
use impasto::sampler::{Sampler, Start};
use impasto::testing::ToyModel;
use impasto::{Grid, Result, Rgb, Window};
use ndarray::Array2;
use tch::Tensor;

#[test]
fn timing_covers_every_part_of_a_run() -> Result<()> {
    // At 20 steps the first pass takes longer than all work around it, including the decoding of its picture.
    let pipeline = Pipeline::builder().build()?;
    let request = pipeline.request("1girl, eyes, hair, skin").seed(7).steps(20);
    let output = request.guide(ColorForce::exact("hair", Rgb(255, 99, 71))).run()?;
    let timing = &output.timing;
    let steps: std::time::Duration = timing.steps.iter().sum();
    let first_pass: std::time::Duration = timing.first_pass.iter().sum();
    assert_eq!(timing.first_pass.len(), timing.steps.len(), "two passes");
    assert!(first_pass > steps / 4 && timing.text < first_pass, "{timing:?}");
    assert_eq!(timing.total(), timing.text + first_pass + steps + timing.decode);
    assert!(timing.decode.as_micros() > 0 && timing.step() <= timing.total());
    Ok(())
}

#[test]
fn reading_reports_in_a_run_changes_no_bit() -> Result<()> {
    let guided = |nosy: bool| -> Result<Tensor> {
        let model = ToyModel::new(3)?;
        let schedule = Schedule::new(&impasto::diffusion::TrainingSchedule::stable_diffusion(), 6, Spacing::Leading)?;
        let force = ColorForce::published("eyes", Rgb(255, 215, 0))
            .color_var(5.0)
            .window(Window::WHOLE)
            .tune(|options| options.trim = 2);
        let region = Region::new(Array2::from_shape_fn((8, 6), |(row, _)| row as f32 / 7.0));
        let sampler = Sampler::new(schedule, EulerAncestral::default()).guide(force).guide(Daam::of("gold"));
        let sampler = sampler.guide(PaintWithWords::default().mask(region, "girl", 1.0)).guide(Daam::words());
        let mut start = Start::new("girl with gold eyes", Grid::new(8, 6), Noise::seeded(7));
        start.images = 2;
        let mut run = sampler.start(&model, start)?;
        while run.step()?.is_some() {
            if nosy {
                for report in run.reports()? {
                    report.pictures.iter().try_for_each(|picture| picture.raster().map(drop))?;
                }
            }
        }
        assert!(!model.sites().is_empty() && run.reports()?.len() == 4);
        let picture = run.decode()?;
        Ok(Tensor::cat(&[run.latent().flatten(0, -1), picture.flatten(0, -1)], 0))
    };
    assert_eq!(guided(true)?, guided(false)?);
    Ok(())
}
