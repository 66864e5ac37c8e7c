//! Settings of requests and pipelines are repeated from pictures: solvers, noise, colors in prompts, batches.

use super::{Folder, GOLD, PORTRAIT, again, assert_same, repeats};
use impasto::diffusion::solver::{DpmppSde, Multistep, UniPc};
use impasto::diffusion::{Noise, Spacing};
use impasto::guidance::Cfg;
use impasto::methods::ColorForce;
use impasto::pipeline::{ColorWords, Pipeline, Request, RequestConfig};
use impasto::saliency::Daam;
use impasto::sampler::Batching;
use impasto::{Raster, Result};

#[test]
fn plain_request_repeats() -> Result<()> {
    repeats(|r| r)
}

#[test]
fn request_with_all_settings_repeats() -> Result<()> {
    repeats(|r| {
        let r =
            r.negative("hair, \"blue\", naïve").size((96, 64)).solver_named("DPM++ 2M SDE Karras").guidance_scale(3.3);
        r.tune(|config| config.guidance_rescale = 0.7).variation(9, 0.2)
    })
}

#[test]
fn solver_with_settings_repeats() -> Result<()> {
    repeats(|r| {
        r.solver(DpmppSde { eta: 0.7, r: 0.4, ..DpmppSde::default() })
            .tune(|config| config.spacing = Some(Spacing::Karras))
    })
}

#[test]
fn multistep_solver_repeats() -> Result<()> {
    repeats(|r| r.solver(Multistep::dpmpp_3m()))
}

#[test]
fn solver_with_trailing_spacing_repeats() -> Result<()> {
    repeats(|r| r.solver(UniPc::bh2()).tune(|config| config.spacing = Some(Spacing::Trailing)))
}

#[test]
fn given_combination_repeats() -> Result<()> {
    repeats(|r| r.combine(Cfg(2.7)))
}

#[test]
fn given_noise_repeats() -> Result<()> {
    repeats(|r| r.tune(|config| config.noise = Some(Noise::shared(3))).solver_named("Euler a"))
}

#[test]
fn colors_in_a_prompt_repeat_once() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    let request =
        pipeline.request("1girl, #ffd700 eyes, {teal} shirt").tune(|config| config.color_words = ColorWords::Nothing);
    let output = request.seed(u64::MAX - 3).steps(6).run()?;
    assert_eq!((output.recipe().guidances.len(), output.reports.len()), (0, 2));
    let (notes, twice) = again(&mut pipeline, &output, 0)?;
    assert_eq!((notes.len(), twice.reports.len()), (0, 2));
    assert_same(&output, &twice);
    Ok(())
}

#[test]
fn picture_of_a_batch_repeats_the_batch() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    for batching in [Batching::Together, Batching::OneByOne] {
        let request = pipeline.request(PORTRAIT).seed(7).steps(2).images(2).tune(|config| config.batching = batching);
        let output = request.guide(ColorForce::exact("eyes", GOLD)).run()?;
        let (notes, twice) = again(&mut pipeline, &output, 1)?;
        assert_eq!(notes, [""; 0]);
        assert_same(&output, &twice);
        let folder = Folder::new();
        output.save(1, folder.file("second.png"))?;
        let texts = Raster::texts(folder.file("second.png"))?;
        let parameters = &texts.iter().find(|(keyword, _)| keyword == "parameters").expect("words").1;
        assert!(parameters.contains("Seed: 8,"), "the seed is the second image's: {parameters}");
        if batching == Batching::OneByOne {
            let alone = Request::from_png(&mut pipeline, folder.file("second.png"))?.images(1).seed(8).run()?;
            assert_eq!(alone.image(0)?, output.image(1)?);
        }
        assert!(output.save(2, folder.file("third.png")).is_err());
    }
    Ok(())
}

#[test]
fn methods_of_a_pipeline_repeat_once() -> Result<()> {
    let mut pipeline = Pipeline::builder().color_force("eyes", GOLD).guide(Daam::of("hair")).build()?;
    let output = pipeline.request(PORTRAIT).seed(7).steps(4).guide(Daam::of("shirt")).run()?;
    let (notes, twice) = again(&mut pipeline, &output, 0)?;
    assert_eq!((notes.len(), twice.reports.len()), (0, 3));
    assert_same(&output, &twice);
    let (_, twice) = again(&mut Pipeline::builder().build()?, &output, 0)?;
    assert_same(&output, &twice);
    Ok(())
}

#[test]
fn config_sets_what_setters_set() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    let by_setters =
        pipeline.request(PORTRAIT).negative("blurry").seed(7).steps(3).solver_named("Euler a").size((128, 96));
    let by_setters = by_setters.guidance_scale(5.0).variation(9, 0.2).run()?;
    let config = RequestConfig {
        prompt: PORTRAIT.into(),
        negative: "blurry".into(),
        seed: Some(7),
        steps: 3,
        solver_named: Some("Euler a".into()),
        size: Some((128, 96).into()),
        guidance_scale: Some(5.0),
        variation: Some((9, 0.2)),
        ..RequestConfig::default()
    };
    let by_config = pipeline.request("something else").config(config.clone()).run()?;
    assert_eq!(by_config.recipe().config, config);
    assert_same(&by_setters, &by_config);
    Ok(())
}
