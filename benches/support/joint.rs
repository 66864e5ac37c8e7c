//! The transformer of Stable Diffusion 3.5 medium, with random weights and fewer blocks.

use impasto::attention::{AttentionSite, Tap};
use impasto::diffusion::{Denoiser, Input, Noise, Predictions};
use impasto::nn::ConfigFile;
use impasto::nn::mmdit::{Sd3Config, Sd3Transformer};
use impasto::testing::ToyModel;
use impasto::weights::Weights;
use impasto::{Codec, Conditioning, Prompt, Result, Step, Texts};
use tch::{Device, Kind, Tensor};

/// The numbers of the transformer. The blocks `DUAL` have a second attention.
const NUMBERS: &str = r#"{ "num_layers": BLOCKS, "in_channels": CHANNELS, "out_channels": CHANNELS,
    "num_attention_heads": 24, "attention_head_dim": 64, "joint_attention_dim": 4096, "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048, "patch_size": 2, "pos_embed_max_size": 384, "qk_norm": "rms_norm",
    "dual_attention_layers": DUAL }"#;
/// Columns of a prompt: those of CLIP and of T5.
pub const COLUMNS: i64 = 333;

/// Returns the numbers of the transformer with its first `blocks` blocks, for latents of `channels` channels.
pub fn numbers(blocks: i64, channels: i64) -> Result<Sd3Config> {
    let dual: Vec<_> = (0..blocks.min(13)).collect(); // the blocks with a second attention
    let numbers = NUMBERS.replace("BLOCKS", &blocks.to_string()).replace("CHANNELS", &channels.to_string());
    Sd3Config::from_json("transformer", &numbers.replace("DUAL", &format!("{dual:?}")))
}

/// The transformer without other networks: prompts are noise, and pictures are latents.
pub struct Joint {
    network: Sd3Transformer,
    words: ToyModel,
}

impl Joint {
    pub fn new(blocks: i64) -> Result<Self> {
        let weights = Weights::random(1, Kind::Float, Device::Cpu);
        Ok(Self { network: Sd3Transformer::new(&weights, &numbers(blocks, 4)?)?, words: ToyModel::new(1)? })
    }
}

impl Denoiser for Joint {
    fn sites(&self) -> &[AttentionSite] {
        self.network.sites()
    }
    fn denoise(&self, step: &Step, inputs: &[Input<'_>], tap: &mut Tap<'_>) -> Result<Predictions> {
        let x = Tensor::cat(&inputs.iter().map(|input| input.x).collect::<Vec<_>>(), 0);
        let context = Tensor::cat(&inputs.iter().map(|input| &input.conditioning.context).collect::<Vec<_>>(), 0);
        let pooled = Noise::shared(4).draw(&[x.size()[0], 2048])?;
        let time = step.sigma / (1.0 + step.sigma);
        let (sample, timestep) = (&x * (1.0 - time), Tensor::from(1000.0 * time));
        let velocity = self.network.forward(&sample, &timestep, &context, &pooled, &[], tap)?;
        Ok(Predictions::new(step, inputs, (sample - velocity * time).chunk(inputs.len() as i64, 0)))
    }
}

impl Codec for Joint {
    fn prompt(&self, texts: Texts<'_>) -> Result<Prompt> {
        self.words.prompt(texts.first.replace(',', "").as_str().into())
    }
    fn text(&self, _: Texts<'_>) -> Result<Conditioning> {
        Ok(Conditioning::new(Noise::shared(3).draw(&[1, COLUMNS, 4096])?))
    }
    fn encode(&self, picture: &Tensor) -> Result<Tensor> {
        self.words.encode(picture)
    }
    fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        self.words.decode(latent)
    }
    fn cell(&self) -> i64 {
        1
    }
}
