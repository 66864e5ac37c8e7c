//! A pipeline around a network from outside this crate.

use impasto::attention::{AttentionSite, Tap};
use impasto::conditioning::Offer;
use impasto::diffusion::{Denoiser, Input, Prediction, Predictions, SchedulerConfig};
use impasto::model::{Defaults, Identity, ModelInfo};
use impasto::pipeline::{Request, Seamless};
use impasto::sampler::Batching;
use impasto::testing::ToyModel;
use impasto::{Codec, Conditioning, Pipeline, Prompt, Result, Step, Texts};
use tch::Tensor;

/// A network of one's own: half the prediction of another network.
struct Halved {
    toy: ToyModel,
    name: &'static str,
}

impl Halved {
    fn new(name: &'static str) -> Result<Self> {
        Ok(Self { toy: ToyModel::new(3)?, name })
    }
}

impl Denoiser for Halved {
    fn sites(&self) -> &[AttentionSite] {
        self.toy.sites()
    }

    fn denoise(&self, step: &Step, inputs: &[Input<'_>], tap: &mut Tap<'_>) -> Result<Predictions> {
        let seen = self.toy.denoise(step, inputs, tap)?;
        let halved = inputs.iter().map(|input| Ok(seen.x0(input.branch)?.f_mul_scalar(0.5)?));
        Ok(Predictions::new(step, inputs, halved.collect::<Result<Vec<_>>>()?))
    }
}

impl Codec for Halved {
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

    fn offer<'a>(&'a self, offer: &mut Offer<'a>) {
        offer.give::<_, dyn ModelInfo>(self, |model| model);
    }
}

impl ModelInfo for Halved {
    fn defaults(&self) -> Defaults {
        Defaults::new(24, 16, 3.0)
    }

    fn scheduler(&self) -> SchedulerConfig {
        SchedulerConfig::stable_diffusion("DDIMScheduler", Prediction::Epsilon)
    }

    fn identity(&self) -> Result<Identity> {
        Ok(Identity::new("halved", self.name))
    }
}

#[test]
fn own_network_has_defaults_and_exact_colors() -> Result<()> {
    let pipeline = Pipeline::new(Halved::new("a")?);
    let output = pipeline.request("a #20c040 boat").steps(6).seed(7).run()?;
    let size = output.image(0)?.size();
    assert_eq!((size.width, size.height), (24, 16));
    let config = &output.recipe().config;
    assert_eq!((config.guidance_scale, output.recipe().solver_name.as_str()), (Some(3.0), "Ddim"));
    let report = output.reports.iter().find(|report| report.name.contains("boat")).expect("a report on the boat");
    let off = report.data["painted"][0]["delta_e"].as_f64().expect("a color");
    assert!(off < 2.0, "{:#}", report.data);
    Ok(())
}

#[test]
fn own_network_paints_batches_and_previews() -> Result<()> {
    let pipeline = Pipeline::new(Halved::new("a")?);
    let mut shown = Vec::new();
    let together = pipeline
        .request("a red boat")
        .images(3)
        .steps(4)
        .seed(7)
        .on_preview(2, |preview| {
            shown.extend(preview.pictures()?.iter().map(|picture| picture.size().width));
            Ok(())
        })
        .run()?;
    assert_eq!(shown, [24; 6], "two previews of three pictures");
    let apart = pipeline.request("a red boat").images(3).steps(4).seed(7);
    let apart = apart.tune(|config| config.batching = Batching::OneByOne).run()?;
    assert!(together.latents.allclose(&apart.latents, 1e-4, 1e-4, false));
    Ok(())
}

#[test]
fn picture_of_an_own_network_repeats_its_run() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("own.png");
    let pipeline = Pipeline::new(Halved::new("a")?);
    let output = pipeline.request("a #20c040 boat").steps(4).seed(7).run()?;
    output.save(0, &path)?;
    let request = Request::from_png(&pipeline, &path)?;
    assert_eq!(request.notes()?, []);
    assert_eq!(request.run()?.image(0)?, output.image(0)?);
    let other = Pipeline::new(Halved::new("b")?);
    let notes = Request::from_png(&other, &path)?.notes()?;
    assert!(notes.iter().any(|note| note.to_string().contains("the picture was made with halved (a)")), "{notes:?}");
    Ok(())
}

#[test]
fn own_network_refuses_edges_that_it_cannot_continue() -> Result<()> {
    let pipeline = Pipeline::new(Halved::new("a")?);
    let error = pipeline.request("a red boat").steps(2).seamless(Seamless::Both).run().expect_err("no edges");
    assert!(error.to_string().starts_with("seamless is Both; expected no edges for this network"), "{error}");
    Ok(())
}
