//! Guidance methods on a network with joint attention, the transformer of Stable Diffusion 3 in a small size.

use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs, SiteKind, Tap};
use impasto::conditioning::Offer;
use impasto::diffusion::{Denoiser, Input, Prediction, Predictions, SchedulerConfig};
use impasto::mask::Region;
use impasto::methods::{ColorForce, PaintWithWords};
use impasto::model::{Defaults, ModelInfo};
use impasto::nn::ConfigFile;
use impasto::nn::mmdit::{Sd3Config, Sd3Transformer};
use impasto::pipeline::Request;
use impasto::saliency::{Daam, DaamRun};
use impasto::testing::ToyModel;
use impasto::weights::Weights;
use impasto::{Branch, Codec, Conditioning, Output, Pipeline, Prompt, Result, Rgb, Step, Texts};
use tch::{Device, Kind, Tensor};

const CONFIG: &str = r#"{
    "in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2,
    "joint_attention_dim": 16, "caption_projection_dim": 16, "pooled_projection_dim": 16, "pos_embed_max_size": 8,
    "dual_attention_layers": [0], "qk_norm": "rms_norm"
}"#;

/// A network with joint attention between the texts and the pictures of a toy model.
struct Joint {
    toy: ToyModel,
    transformer: Sd3Transformer,
}

impl Joint {
    fn new() -> Result<Self> {
        let config = Sd3Config::from_json("config.json", CONFIG)?;
        let transformer = Sd3Transformer::new(&Weights::random(5, Kind::Float, Device::Cpu), &config)?;
        Ok(Self { toy: ToyModel::new(3)?, transformer })
    }
}

impl Denoiser for Joint {
    fn sites(&self) -> &[AttentionSite] {
        self.transformer.sites()
    }

    fn denoise(&self, step: &Step, inputs: &[Input<'_>], tap: &mut Tap<'_>) -> Result<Predictions> {
        let latents: Vec<&Tensor> = inputs.iter().map(|input| input.x).collect();
        let x = Tensor::f_cat(&latents, 0)?;
        let rows = |input: &Input<'_>| Ok(input.conditioning.context.f_expand([input.x.size4()?.0, -1, -1], false)?);
        let context = Tensor::f_cat(&inputs.iter().map(rows).collect::<Result<Vec<_>>>()?, 0)?;
        let pooled = context.f_mean_dim([1i64].as_slice(), false, Kind::Float)?;
        let scale = Prediction::Epsilon.input_scale(step.sigma);
        let timestep = Tensor::from(step.timestep);
        let read = x.f_mul_scalar(scale)?;
        let out = self.transformer.forward(&read, &timestep, &context, &pooled, &[], tap)?;
        let x0 = read.f_mul_scalar(scale)?.f_add(&out.f_mul_scalar(0.3)?)?;
        Ok(Predictions::new(step, inputs, x0.f_chunk(inputs.len() as i64, 0)?))
    }
}

impl Codec for Joint {
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

impl ModelInfo for Joint {
    fn defaults(&self) -> Defaults {
        Defaults::new(16, 8, 3.0)
    }

    fn scheduler(&self) -> SchedulerConfig {
        SchedulerConfig::stable_diffusion("EulerDiscreteScheduler", Prediction::Epsilon)
    }
}

fn request(pipeline: &Pipeline<Joint>) -> Request<'_> {
    pipeline.request("a red boat").seed(3).steps(4)
}

/// A hook that reads the attention of each half of the picture to the third word, "boat".
#[derive(Default)]
struct Halves(Vec<[f64; 2]>);

impl CrossAttentionHook for Halves {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if site.is_cross() && branch == Branch::Cond { Interest::PROBS } else { Interest::NONE }
    }
    fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        assert_eq!((at.site.kind, at.grid.cells()), (SiteKind::Joint, 4 * 8));
        let all = probs.columns(probs.tokens())?;
        let rows = all.f_sum_dim_intlist([3i64].as_slice(), false, Kind::Float)?;
        assert!(rows.max().double_value(&[]) < 1.0, "the picture attends to itself too");
        let boat = all.f_narrow(3, 3, 1)?.f_reshape([-1, at.grid.h, at.grid.w])?;
        self.0.push([0, 4].map(|left| boat.narrow(2, left, 4).mean(Kind::Float).double_value(&[])));
        Ok(())
    }
}

/// Runs a request with paint, if any. Returns the output and the attention that a hook reads.
fn read_halves(pipeline: &Pipeline<Joint>, paint: Option<PaintWithWords>) -> Result<(Output, Vec<[f64; 2]>)> {
    let mut hook = Halves::default();
    let request = request(pipeline).hook(&mut hook);
    let output = match paint {
        Some(paint) => request.guide(paint).run()?,
        None => request.run()?,
    };
    Ok((output, hook.0))
}

#[test]
fn readers_of_joint_attention_change_no_bit() -> Result<()> {
    let pipeline = Pipeline::new(Joint::new()?);
    let plain = request(&pipeline).run()?;
    let (read, seen) = read_halves(&pipeline, None)?;
    assert_eq!(read.latents, plain.latents);
    assert_eq!(seen.len(), 4 * 2);
    Ok(())
}

#[test]
fn paint_draws_joint_attention_into_its_mask() -> Result<()> {
    let pipeline = Pipeline::new(Joint::new()?);
    let plain = read_halves(&pipeline, None)?.1;
    let paint = PaintWithWords::default().mask(Region::rect(0.0..0.5, 0.0..1.0), "boat", 2.0);
    let painted = read_halves(&pipeline, Some(paint))?.1;
    // The first layer of the first step has the same queries in both runs.
    let (plain, painted) = (plain[0], painted[0]);
    assert!(painted[0] > 1.1 * plain[0] && painted[1] < 1.01 * plain[1], "{plain:?} {painted:?}");
    Ok(())
}

#[test]
fn saliency_and_forces_read_joint_attention() -> Result<()> {
    let pipeline = Pipeline::new(Joint::new()?);
    let output = request(&pipeline).guide(Daam::of("boat")).run()?;
    let map = output.details::<DaamRun>("boat")?.heat_map(0)?.values.shallow_clone();
    let (least, most) = (map.min().double_value(&[]), map.max().double_value(&[]));
    assert!(least.is_finite() && most > least, "{least} {most}");
    let forced = request(&pipeline).guide(ColorForce::published("boat", Rgb(20, 200, 60))).run()?;
    let plain = request(&pipeline).run()?;
    assert!((&forced.latents - &plain.latents).abs().max().double_value(&[]) > 1e-3);
    Ok(())
}
