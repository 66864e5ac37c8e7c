//! IP-Adapters: kind `ip_adapter`, and the adapters of `pipeline_ip_adapter`.

use super::networks::load;
use super::{Case, Outputs, Result, device, kind};
use impasto::attention::{AttentionSite, Tap};
use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Denoiser, Input, Noise, Predictions, Schedule, Spacing, TrainingSchedule};
use impasto::guidance::Cfg;
use impasto::mask::Region;
use impasto::methods::IpAdapter;
use impasto::methods::ip_adapter::ImagePrompt;
use impasto::nn::ip_adapter::IpAdapterNet;
use impasto::nn::{AddedConditions, ClipImageProcessor, ClipVision, ClipVisionConfig, ConfigFile, UNet, UnetConfig};
use impasto::sampler::{Sampler, Start};
use impasto::testing::ToyModel;
use impasto::weights::Weights;
use impasto::{Branch, Codec, Conditioning, Grid, Prompt, Step, Texts};
use ndarray::Array2;
use serde::Deserialize;
use serde_json::Value;
use std::cell::RefCell;
use tch::{Device, Kind, Tensor};

/// An adapter of a case, with its scale if the case has no runs.
#[derive(Deserialize)]
pub struct Adapter {
    pub file: String,
    #[serde(default)]
    pub scale: Value,
}

#[derive(Deserialize)]
struct ScaledRun {
    id: String,
    scales: Vec<Value>,
    #[serde(default)]
    masks: bool,
}

/// A UNet that predicts the noise in the case's sample instead of the run's latent, and keeps the prediction.
struct Alone<'c> {
    case: &'c Case,
    unet: UNet,
    toy: ToyModel,
    /// Predictions for the negative prompt and for the prompt, [2, 4, h, w].
    eps: RefCell<Option<Tensor>>,
}

impl Denoiser for Alone<'_> {
    fn sites(&self) -> &[AttentionSite] {
        self.unet.sites()
    }

    fn device(&self) -> Device {
        device()
    }

    fn denoise(&self, step: &Step, inputs: &[Input<'_>], tap: &mut Tap<'_>) -> impasto::Result<Predictions> {
        let input = |name: &str| self.case.inputs[name].shallow_clone();
        let context: Vec<&Tensor> = inputs.iter().map(|input| &input.conditioning.context).collect();
        let rows = |name| self.case.inputs.get(name).map(|x| x.expand([inputs.len() as i64, -1], false));
        let added = AddedConditions {
            text_embeds: rows("text_embeds"),
            time_ids: rows("time_ids"),
            ..AddedConditions::default()
        };
        let (context, sample) =
            (Tensor::cat(&context, 0), Tensor::cat(&inputs.iter().map(|_| input("sample")).collect::<Vec<_>>(), 0));
        let eps = self.unet.forward(&sample, &input("timestep"), &context, Some(&added), tap)?;
        let row = |branch| inputs.iter().position(|input| input.branch == branch).expect("a branch") as i64;
        let both = [Branch::Uncond, Branch::Cond].map(|branch| eps.get(row(branch)));
        *self.eps.borrow_mut() = Some(Tensor::stack(&both, 0));
        Ok(Predictions::new(step, inputs, inputs.iter().map(|input| input.x.zeros_like())))
    }
}

impl Codec for Alone<'_> {
    fn prompt(&self, texts: Texts<'_>) -> impasto::Result<Prompt> {
        self.toy.prompt(texts)
    }

    /// Returns row 0 of the case's context for the empty negative prompt, and row 1 for the prompt.
    fn text(&self, texts: Texts<'_>) -> impasto::Result<Conditioning> {
        let rows = &self.case.inputs["encoder_hidden_states"];
        Ok(Conditioning::new(rows.narrow(0, i64::from(!texts.first.is_empty()), 1)))
    }

    fn encode(&self, picture: &Tensor) -> impasto::Result<Tensor> {
        self.toy.encode(picture)
    }

    fn decode(&self, latent: &Tensor) -> impasto::Result<Tensor> {
        self.toy.decode(latent)
    }
}

/// Computes the tokens of pictures, and a UNet that attends to them.
pub fn ip_adapter(case: &Case) -> Result<Outputs> {
    let adapters: Vec<Adapter> = case.param("adapters")?;
    let net = |adapter: &Adapter| -> Result<IpAdapterNet> {
        let (config, w) = load(case.model("image_encoder")?)?;
        let tower = ClipVision::new(&w, &ClipVisionConfig::from_json("config.json", &config)?)?;
        let w = Weights::open(&case.dir.join(&adapter.file), kind(), device())?;
        Ok(IpAdapterNet::new(&w, tower, ClipImageProcessor::default())?)
    };
    let nets: Vec<IpAdapterNet> = adapters.iter().map(net).collect::<Result<_>>()?;
    let mut outputs = Outputs::new();
    for (k, net) in nets.iter().enumerate() {
        let tokens = net.tokens(case.input(&format!("pixel_values.{k}"))?)?;
        let nothing = net.unconditional()?.expand([tokens.size()[0], -1, -1], false);
        outputs.extend([(format!("tokens.{k}"), tokens), (format!("tokens_uncond.{k}"), nothing)]);
    }
    let (config, w) = load(case.model("unet")?)?;
    let unet = UNet::new(&w, &UnetConfig::from_json("config.json", &config)?)?;
    let model = Alone { case, unet, toy: ToyModel::new(1)?, eps: RefCell::new(None) };
    let (.., h, w) = case.input("sample")?.size4()?;
    for ScaledRun { id, scales, masks } in case.param::<Vec<ScaledRun>>("runs")? {
        let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 1, Spacing::Leading)?;
        let mut sampler = Sampler::new(schedule, Euler).combine(Cfg(7.5));
        for (k, (net, scale)) in nets.iter().zip(&scales).enumerate() {
            sampler = sampler.guide(method(case, k, net, scale, masks)?);
        }
        let start = Start::new("a picture", Grid::new(h, w), Noise::seeded(1));
        let _ = sampler.start(&model, start)?.finish()?;
        outputs.push((format!("{id}.eps"), model.eps.take().ok_or("no evaluation")?));
    }
    Ok(outputs)
}

/// Returns the method of adapter `k` with a scale in diffusers' notation: a number, a table of blocks, or a list with a
/// number for each picture.
pub fn method(case: &Case, k: usize, net: &IpAdapterNet, scale: &Value, masked: bool) -> Result<IpAdapter> {
    let tokens = net.tokens(case.input(&format!("pixel_values.{k}"))?)?;
    let each = scale.as_array();
    let mut pictures = Vec::new();
    for (i, tokens) in tokens.split(1, 0).iter().enumerate() {
        let mut picture = ImagePrompt::tokens(tokens);
        if masked {
            let mask = case.input(&format!("mask.{k}"))?.get(i as i64).to_device(Device::Cpu).to_kind(Kind::Float);
            let (rows, columns) = mask.size2()?;
            let values = Vec::<f32>::try_from(mask.flatten(0, -1))?;
            picture = picture.within(Region::new(Array2::from_shape_vec((rows as usize, columns as usize), values)?));
        }
        if let Some(each) = each {
            picture = picture.strength(each[i].as_f64().ok_or("a scale of a picture is no number")?);
        }
        pictures.push(picture);
    }
    let method = IpAdapter::pictures(net, pictures);
    Ok(match scale {
        Value::Object(table) if table.is_empty() => method.strength(0.0),
        Value::Object(table) => table.iter().try_fold(method, |method, (part, value)| {
            let name = if part == "mid" { "mid_block".into() } else { format!("{part}_blocks") };
            blocks(method, &name, value)
        })?,
        Value::Array(_) => method,
        number => method.strength(number.as_f64().ok_or("a scale is no number")?),
    })
}

/// Sets the strengths of the blocks below `name`.
fn blocks(method: IpAdapter, name: &str, value: &Value) -> Result<IpAdapter> {
    match value {
        Value::Object(table) => table.iter().try_fold(method, |method, (block, value)| {
            let number = block.strip_prefix("block_").ok_or("expected block_i")?;
            blocks(method, &format!("{name}.{number}"), value)
        }),
        Value::Array(values) => values
            .iter()
            .enumerate()
            .try_fold(method, |method, (i, value)| blocks(method, &format!("{name}.attentions.{i}"), value)),
        number => Ok(method.block(name, number.as_f64().ok_or("a scale of a block is no number")?)),
    }
}
