//! The autoencoder between pictures and latents: Stable Diffusion's VAE, Qwen-Image's, or a tiny autoencoder.

use crate::error::Result;
use crate::json;
use crate::nn::qwen_vae::{QwenVae, QwenVaeConfig};
use crate::nn::{Cell, ConfigFile, Taesd, TaesdConfig, Tiling, Vae, VaeConfig};
use crate::step::Grid;
use crate::weights::Weights;
use crate::wording::{Note, Remedy};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

/// Memory of encoding, as a multiple of the estimate by which tiles are chosen (`docs/performance.md`).
const ENCODING: f64 = 4.0 / 3.0;

/// Configuration of an autoencoder.
#[derive(Clone, Debug)]
pub(super) enum AutoencoderConfig {
    Vae(VaeConfig),
    Qwen(QwenVaeConfig),
    Tiny(TaesdConfig),
}

impl AutoencoderConfig {
    /// Parses `config.json` of any kind, chosen by its `_class_name`.
    pub(super) fn from_json(file: &str, text: &str) -> Result<Self> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Class {
            _class_name: Option<String>,
        }
        let class: Class = json::parse(text).unwrap_or_default(); // the parsers below report errors
        match class._class_name.as_deref() {
            Some("AutoencoderKLQwenImage") => QwenVaeConfig::from_json(file, text).map(Self::Qwen),
            Some("AutoencoderTiny") => TaesdConfig::from_json(file, text).map(Self::Tiny),
            _ => VaeConfig::from_json(file, text).map(Self::Vae),
        }
    }

    /// Number of channels of a latent.
    pub(super) const fn latent_channels(&self) -> i64 {
        match self {
            Self::Vae(config) => config.latent_channels,
            Self::Qwen(config) => config.z_dim,
            Self::Tiny(config) => config.latent_channels,
        }
    }

    /// Number of pixels per cell, in each direction.
    pub(super) fn factor(&self) -> i64 {
        match self {
            Self::Vae(config) => config.factor(),
            Self::Qwen(config) => config.factor(),
            Self::Tiny(config) => config.factor(),
        }
    }

    /// Returns the memory that encoding and decoding in `kind` need for each latent cell.
    fn cells(&self, kind: Kind) -> [Cell; 2] {
        let [encoding, decoding] = match self {
            Self::Vae(config) => [config.encoding(), config.decoding()],
            Self::Qwen(config) => [config.peak_of_encoding(), config.peak_of_decoding()],
            Self::Tiny(config) => [config.working(); 2],
        };
        let bytes = kind.elt_size_in_bytes() as f64;
        [encoding, decoding].map(|numbers| Cell { factor: self.factor(), bytes: numbers * bytes })
    }

    /// Returns true if the autoencoder's values exceed the range of f16, as SDXL's do.
    pub(super) const fn overflows(&self) -> bool {
        match self {
            Self::Vae(config) => config.force_upcast,
            Self::Qwen(_) => false,
            Self::Tiny(config) => config.force_upcast,
        }
    }

    /// Returns the scaling factor and the shift of latents, which distinguish model families. `None` for tiny
    /// autoencoders, whose latents are in the diffusion's units, and for factors of each channel.
    pub(super) fn scale_and_shift(&self) -> Option<(f64, f64)> {
        match self {
            Self::Vae(config) => Some((config.scaling_factor, config.shift_factor.unwrap_or_default())),
            Self::Qwen(_) | Self::Tiny(_) => None,
        }
    }
}

/// A model's autoencoder, between pictures in −1..=1 and latents in the diffusion's units, both f32.
#[derive(Debug)]
pub(super) struct Autoencoder {
    network: Network,
    config: AutoencoderConfig,
    options: (Kind, Device),
    tiling: Tiling,
}

#[derive(Debug)]
enum Network {
    Vae(Box<Vae>),
    Qwen(Box<QwenVae>),
    Tiny(Box<Taesd>),
}

impl Autoencoder {
    /// Loads the autoencoder from `w`. Large pictures are processed in tiles.
    pub(super) fn new(w: &Weights, config: &AutoencoderConfig, tiling: Tiling) -> Result<Self> {
        let network = match config {
            AutoencoderConfig::Vae(config) => Network::Vae(Box::new(Vae::new(w, config)?)),
            AutoencoderConfig::Qwen(config) => Network::Qwen(Box::new(QwenVae::new(w, config)?)),
            AutoencoderConfig::Tiny(config) => Network::Tiny(Box::new(Taesd::new(w, config)?)),
        };
        Ok(Self { network, config: config.clone(), options: (w.kind(), w.device()), tiling })
    }

    /// Builds the autoencoder again from `w`, whose tensors are this autoencoder's.
    pub(super) fn again(&self, w: &Weights) -> Result<Self> {
        let network = match &self.network {
            Network::Vae(vae) => Network::Vae(Box::new(vae.again(w)?)),
            Network::Qwen(vae) => Network::Qwen(Box::new(vae.again(w)?)),
            Network::Tiny(taesd) => Network::Tiny(Box::new(Taesd::new(w, taesd.config())?)),
        };
        Ok(Self { network, config: self.config.clone(), options: self.options, tiling: self.tiling })
    }

    pub(super) const fn config(&self) -> &AutoencoderConfig {
        &self.config
    }

    /// Returns true if latents of pictures are drawn from the posterior. Anima is given the posterior's mode.
    pub(super) const fn draws(&self) -> bool {
        !matches!(self.network, Network::Qwen(_))
    }

    /// Encodes pictures; returns mean and standard deviation of their latents.
    pub(super) fn encode(&self, picture: &Tensor) -> Result<(Tensor, Tensor)> {
        let picture = picture.f_to_device(self.options.1)?.f_to_kind(Kind::Float)?;
        let [cell, _] = self.config.cells(self.options.0);
        let both = self.tiling.encode(&picture, cell, |tile| self.encode_whole(tile))?;
        let channels = both.size4()?.1 / 2;
        Ok((both.f_narrow(1, 0, channels)?, both.f_narrow(1, channels, channels)?))
    }

    /// Encodes pictures without tiles; returns mean and standard deviation, concatenated along channels.
    fn encode_whole(&self, picture: &Tensor) -> Result<Tensor> {
        let picture = picture.f_to_kind(self.options.0)?;
        let (mean, std) = match &self.network {
            Network::Vae(vae) => {
                let posterior = vae.encode(&picture)?;
                let std = posterior.std()?.f_to_kind(Kind::Float)?.f_mul_scalar(vae.config().scaling_factor)?;
                (vae.scaled(&posterior.mean.f_to_kind(Kind::Float)?)?, std)
            }
            Network::Qwen(vae) => {
                let mean = vae.scale(&vae.encode(&picture)?.mean.f_to_kind(Kind::Float)?)?;
                let std = mean.f_zeros_like()?;
                (mean, std)
            }
            Network::Tiny(taesd) => {
                let latent = taesd.encode(&picture)?.f_to_kind(Kind::Float)?;
                let std = latent.f_zeros_like()?;
                (latent, std)
            }
        };
        Ok(Tensor::f_cat(&[mean, std], 1)?)
    }

    /// Decodes latents to pictures.
    pub(super) fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        let latent = latent.f_to_device(self.options.1)?.f_to_kind(Kind::Float)?;
        let [_, cell] = self.config.cells(self.options.0);
        self.tiling.decode(&latent, cell, |tile| self.decode_whole(tile))
    }

    /// Estimates the memory in bytes that decoding `images` latents of `grid` takes beside the weights.
    pub(super) fn memory_of_decoding(&self, grid: Grid, images: i64) -> f64 {
        let [_, cell] = self.config.cells(self.options.0);
        self.memory_of(cell, grid, images)
    }

    /// Estimates the memory in bytes that encoding `images` pictures of `grid` takes beside the weights.
    pub(super) fn memory_of_encoding(&self, grid: Grid, images: i64) -> f64 {
        let [cell, _] = self.config.cells(self.options.0);
        ENCODING * self.memory_of(cell, grid, images)
    }

    fn memory_of(&self, cell: Cell, grid: Grid, images: i64) -> f64 {
        self.tiling.cells_at_once(images, grid.h, grid.w, cell.bytes) * cell.bytes
    }

    /// Returns a note about the tiles in which a latent of `h` × `w` cells is decoded; `None` if it is decoded whole.
    pub(super) fn tiles_told(&self, h: i64, w: i64) -> Option<Note> {
        let [_, cell] = self.config.cells(self.options.0);
        let (rows, columns) = self.tiling.tile(h, w, cell.bytes)?;
        let (width, height) = (columns * cell.factor, rows * cell.factor);
        let whole = (h * w) as f64 * cell.bytes / f64::from(1 << 30);
        Some(Remedy::WholeDecoding.after(format!(
            "the picture was decoded in blended tiles of {width}×{height} pixels, because decoding it whole would have \
             taken about {whole:.1} GiB"
        )))
    }

    fn decode_whole(&self, latent: &Tensor) -> Result<Tensor> {
        let latent = match &self.network {
            Network::Vae(vae) => vae.unscaled(latent)?,
            Network::Qwen(vae) => vae.unscale(latent)?,
            Network::Tiny(_) => latent.shallow_clone(),
        };
        let latent = latent.f_to_kind(self.options.0)?;
        let picture = match &self.network {
            Network::Vae(vae) => vae.decode(&latent)?,
            Network::Qwen(vae) => vae.decode(&latent)?,
            Network::Tiny(taesd) => taesd.decode(&latent)?,
        };
        Ok(picture.f_to_kind(Kind::Float)?)
    }
}
