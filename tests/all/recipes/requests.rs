//! Settings of requests and pipelines are repeated from pictures: solvers, noise, colors in prompts, batches.

use super::{Folder, GOLD, PORTRAIT, RED, again, assert_same, paint, repeats};
use impasto::diffusion::solver::{DpmppSde, Multistep, UniPc};
use impasto::diffusion::{Noise, Spacing};
use impasto::guidance::Cfg;
use impasto::methods::{ColorForce, ReferenceColor};
use impasto::pipeline::{ColorWords, KeptPictures, Pipeline, Request, RequestConfig};
use impasto::saliency::Daam;
use impasto::sampler::Batching;
use impasto::{Raster, Result, Rgb};

#[test]
fn plain_request_repeats() -> Result<()> {
    repeats(|r| r)
}

#[test]
fn request_with_all_settings_repeats() -> Result<()> {
    repeats(|r| {
        let r =
            r.negative("hair, \"blue\", naïve").size((96, 64)).solver_named("DPM++ 2M SDE Karras").guidance_scale(3.3);
        r.tune(|config| (config.guidance_rescale, config.merge_tokens) = (0.7, 0.3)).variation(9, 0.2)
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
    repeats(|r| r.solver(Multistep { order: 3, ..Multistep::default() }))
}

#[test]
fn solver_with_trailing_spacing_repeats() -> Result<()> {
    repeats(|r| r.solver(UniPc::default()).tune(|config| config.spacing = Some(Spacing::Trailing)))
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
    let pipeline = Pipeline::builder().build()?;
    let request =
        pipeline.request("1girl, #ffd700 eyes, {teal} shirt").tune(|config| config.color_words = ColorWords::Nothing);
    let output = request.seed(u64::MAX - 3).steps(6).run()?;
    assert_eq!((output.recipe().guidances.len(), output.reports.len()), (0, 2));
    let (notes, twice) = again(&pipeline, &output, 0)?;
    assert_eq!((notes.len(), twice.reports.len()), (0, 2));
    assert_same(&output, &twice);
    Ok(())
}

#[test]
fn picture_of_a_batch_repeats_the_batch() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    for batching in [Batching::Together, Batching::OneByOne] {
        let request = pipeline.request(PORTRAIT).seed(7).steps(2).images(2).tune(|config| config.batching = batching);
        let output = request.guide(ColorForce::exact("eyes", GOLD)).run()?;
        let (notes, twice) = again(&pipeline, &output, 1)?;
        assert!(notes.is_empty(), "{notes:?}");
        assert_same(&output, &twice);
        let folder = Folder::new();
        output.save(1, folder.file("second.png"))?;
        let texts = Raster::texts(&std::fs::read(folder.file("second.png")).expect("a file"))?;
        let parameters = &texts.iter().find(|(keyword, _)| keyword == "parameters").expect("words").1;
        assert!(parameters.contains("Seed: 8,"), "the seed is the second image's: {parameters}");
        if batching == Batching::OneByOne {
            let alone = Request::from_png(&pipeline, folder.file("second.png"))?.images(1).seed(8).run()?;
            assert_eq!(alone.image(0)?, output.image(1)?);
        }
        assert!(output.save(2, folder.file("third.png")).is_err());
    }
    Ok(())
}

#[test]
fn methods_of_a_pipeline_repeat_once() -> Result<()> {
    let pipeline = Pipeline::builder().color_force("eyes", GOLD).guide(Daam::of("hair")).build()?;
    let output = pipeline.request(PORTRAIT).seed(7).steps(4).guide(Daam::of("shirt")).run()?;
    let (notes, twice) = again(&pipeline, &output, 0)?;
    assert_eq!((notes.len(), twice.reports.len()), (0, 3));
    assert_same(&output, &twice);
    let (_, twice) = again(&Pipeline::builder().build()?, &output, 0)?;
    assert_same(&output, &twice);
    Ok(())
}

#[test]
fn config_gives_the_same_run_as_setters() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let by_setters =
        pipeline.request(PORTRAIT).negative("blurry").seed(7).steps(3).solver_named("Euler a").size((128, 96));
    let by_setters = by_setters.guidance_scale(5.0).variation(9, 0.2).run()?;
    let mut config = RequestConfig::default();
    config.prompt = PORTRAIT.into();
    config.negative = "blurry".into();
    config.seed = Some(7);
    config.steps = Some(3);
    config.solver_named = Some("Euler a".into());
    config.size = Some((128, 96).into());
    config.guidance_scale = Some(5.0);
    config.variation = Some((9, 0.2));
    let by_config = pipeline.request("something else").tune(|own| *own = config.clone()).run()?;
    assert_eq!(by_config.recipe().config, config);
    assert_same(&by_setters, &by_config);
    Ok(())
}

#[test]
fn pictures_may_be_kept_as_thumbnails() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let reference = pipeline.request(PORTRAIT).seed(1).steps(2).run()?.image(0)?.clone();
    let request = pipeline.request(PORTRAIT).seed(7).steps(2).guide(ReferenceColor::new(&reference));
    let output = request.guide(paint()).run()?;
    let folder = Folder::new();
    let [whole, lean] = ["whole.png", "lean.png"].map(|name| folder.file(name));
    output.save(0, &whole)?;
    output.save_with(0, &lean, KeptPictures::Thumbnails)?;
    let size = |path: &std::path::Path| std::fs::metadata(path).expect("it is there").len();
    assert!(size(&lean) + 40_000 < size(&whole), "{} and {} bytes", size(&lean), size(&whole));

    let error = Request::from_png(&pipeline, &lean).unwrap_err().to_string();
    assert!(error.contains("the picture sha256:") && error.contains("of 256×256 pixels"), "{error}");
    assert!(error.contains("from_png_with") && error.contains("lean.png"), "{error}");
    // The reference is found by its pixels, although it comes from another file. The recipe's other picture is the map
    // of the painted areas.
    reference.save(folder.file("reference.png"))?;
    let mut map = Raster::flat(Rgb(255, 255, 255), (128, 128));
    map.paste(&Raster::flat(RED, (64, 64)), 0, 64);
    let given = [Raster::flat(GOLD, (8, 8)), map, Raster::open(folder.file("reference.png"))?];
    let again = Request::from_png_with(&pipeline, &lean, &given)?.run()?;
    assert_eq!(again.image(0)?, output.image(0)?);
    Ok(())
}
