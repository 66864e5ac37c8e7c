//! [`IpAdapterNet`]: the weights of an IP-Adapter, with its image encoder.

mod form;
mod projection;
mod resampler;
mod shape;

pub(crate) use shape::{file_sites, other_sites};

use super::clip_image::ClipImageProcessor;
use super::clip_vision::ClipVision;
use super::layers::Linear;
use crate::attention::{AttentionSite, Place};
use crate::error::{Error, Result};
use crate::raster::Raster;
use crate::vision::View;
use crate::weights::Weights;
use form::Form;
use projection::Projection;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tch::{Device, Kind, Tensor};

/// An IP-Adapter: a projection of pictures to tokens, and projections of these tokens to keys and values for every
/// cross-attention site of a UNet. An image encoder reads the pictures. Copies share the weights, and threads may share
/// a copy.
///
/// [`Model::ip_adapter`](crate::Model::ip_adapter) loads the net, and [`IpAdapter`](crate::methods::IpAdapter) guides a
/// run with it. The tokens of a picture can be computed once and used in many runs:
///
/// ```no_run
/// # fn main() -> impasto::Result<()> {
/// use impasto::methods::IpAdapter;
/// use impasto::methods::ip_adapter::ImagePrompt;
/// use impasto::vision::View;
/// use impasto::{Pipeline, Raster, Source};
///
/// let pipeline = Pipeline::builder().source(Source::file("sd15.safetensors")).build()?;
/// let net = pipeline.model().ip_adapter("ip-adapter_sd15.safetensors", &Source::dir("image_encoder"))?;
/// let tokens = net.encode(&Raster::open("fox.png")?, View::default())?;
/// assert_eq!(tokens.size(), [1, 4, 768]);
/// let like = IpAdapter::new(&net, ImagePrompt::tokens(&tokens)).strength(0.6);
/// # Ok(()) }
/// ```
///
/// Source: Ye et al., "IP-Adapter: Text Compatible Image Prompt Adapter for Text-to-Image Diffusion Models" (arXiv
/// 2308.06721); names and numbers of tensors as in tencent-ailab/IP-Adapter.
#[derive(Clone)]
pub struct IpAdapterNet {
    network: Arc<Mutex<Network>>,
    file: Arc<str>,
    /// Number of columns of a token.
    width: i64,
    /// Number of columns of keys and values at each site, in the file's order.
    sites: Arc<[i64]>,
}

/// The networks of an IP-Adapter.
#[derive(Debug)]
struct Network {
    projection: Projection,
    sites: Vec<Site>,
    tower: ClipVision,
    processor: ClipImageProcessor,
    /// Tokens of no picture, once they are known.
    nothing: Option<Tensor>,
    options: (Kind, Device),
}

/// The projections of tokens at one cross-attention site.
#[derive(Debug)]
struct Site {
    to_k_ip: Linear,
    to_v_ip: Linear,
}

impl fmt::Debug for IpAdapterNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IpAdapterNet")
            .field("file", &self.file)
            .field("width", &self.width)
            .field("sites", &self.sites.len())
            .finish_non_exhaustive()
    }
}

impl IpAdapterNet {
    /// Builds an IP-Adapter from the weights `w` of its file, for an image encoder with its preprocessor. The names of
    /// the tensors tell the form: plain, full face or Plus.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the file is no IP-Adapter, has a form that is not supported (FaceID), has further
    /// tensors, or was made for another image encoder; [`Error::Weights`] if tensors are missing or misshapen.
    pub fn new(w: &Weights, encoder: ClipVision, processor: ClipImageProcessor) -> Result<Self> {
        let form = Form::find(w)?;
        let shapes = file_sites(w)?;
        let width = shapes.first().map(|(_, width)| *width).unwrap_or_default();
        let projection = Projection::new(&w.at("image_proj"), form, width)?;
        let mut sites = Vec::with_capacity(shapes.len());
        for (i, (inner, _)) in shapes.iter().enumerate() {
            let site = w.at("ip_adapter").at(2 * i + 1);
            sites.push(Site {
                to_k_ip: site.at("to_k_ip").linear_without_bias(width, *inner)?,
                to_v_ip: site.at("to_v_ip").linear_without_bias(width, *inner)?,
            });
        }
        w.finish()?;
        let loaded = w.report();
        if let Some(unused) = loaded.unused.first() {
            return Err(w.fault(format!(
                "the file has tensors that do not belong to an IP-Adapter of its form ({form}), such as {}; download \
                 the file again, or give the file of another IP-Adapter",
                unused.name
            )));
        }
        if let Some(name) = loaded.not_finite.first() {
            return Err(
                w.fault(format!("the file has NaN or infinite weights, for example in {name}; download it again"))
            );
        }
        projection.check(encoder.config()).map_err(|problem| w.fault(problem))?;
        let inner = shapes.into_iter().map(|(inner, _)| inner).collect();
        let options = (w.kind(), w.device());
        let network = Network { projection, sites, tower: encoder, processor, nothing: None, options };
        Ok(Self { network: Arc::new(Mutex::new(network)), file: loaded.file.into(), width, sites: inner })
    }

    /// Computes the tokens of pictures, [images, 3, s, s] → [images, tokens, width] f32. The pictures are prepared for
    /// the image encoder, as [`ClipImageProcessor::pixels`] does.
    ///
    /// # Errors
    /// [`Error::Shape`] for pictures of another size.
    pub fn tokens(&self, pixels: &Tensor) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        self.network().tokens(pixels)
    }

    /// Computes the tokens of a picture, [1, tokens, width] f32. `view` says how the picture becomes the square that
    /// the image encoder reads.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a picture without pixels.
    pub fn encode(&self, picture: &Raster, view: View) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let network = self.network();
        let pixels = network.processor.apply_view(picture, view)?;
        network.tokens(&pixels)
    }

    /// Returns the tokens of no picture, [1, tokens, width] f32, to which the negative prompt's branch attends.
    ///
    /// # Errors
    /// [`Error::Torch`] only, such as out of memory.
    pub fn unconditional(&self) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let mut network = self.network();
        if let Some(nothing) = &network.nothing {
            return Ok(nothing.shallow_clone());
        }
        let nothing = network.unconditional()?;
        network.nothing = Some(nothing.shallow_clone());
        Ok(nothing)
    }

    /// Returns the name of the file without its folder.
    pub(crate) fn name(&self) -> &str {
        Path::new(&*self.file).file_name().and_then(|name| name.to_str()).unwrap_or(&self.file)
    }

    /// Returns the width of a token, the width of the model's context.
    pub(crate) const fn width(&self) -> i64 {
        self.width
    }

    /// Computes keys and values of tokens at the site with the file's `number`, [b, tokens, width] → [b, tokens, inner]
    /// each.
    pub(crate) fn keys_values(&self, number: usize, tokens: &Tensor) -> Result<(Tensor, Tensor)> {
        let _no_grad = tch::no_grad_guard();
        let network = self.network();
        let site = network.sites.get(number).ok_or_else(|| self.misfit(number + 1))?;
        let (kind, device) = network.options;
        let tokens = tokens.f_to_device(device)?.f_to_kind(kind)?;
        Ok((site.to_k_ip.forward(&tokens)?, site.to_v_ip.forward(&tokens)?))
    }

    /// Returns the cross-attention sites of a network in the order of the file, in which the bottleneck comes last.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the file has another number of sites.
    pub(crate) fn sites<'s>(&self, sites: &'s [AttentionSite]) -> Result<Vec<&'s AttentionSite>> {
        let numbered = in_file_order(sites);
        if numbered.len() == self.sites.len() { Ok(numbered) } else { Err(self.misfit(numbered.len())) }
    }

    /// The error for a network with another number of sites.
    fn misfit(&self, sites: usize) -> Error {
        let problem = other_sites(self.sites.len(), sites);
        Error::Malformed { file: self.file.to_string(), problem }
    }

    fn network(&self) -> MutexGuard<'_, Network> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Network {
    fn tokens(&self, pixels: &Tensor) -> Result<Tensor> {
        let read = self.projection.input(self.tower.forward(&pixels.f_to_kind(Kind::Float)?)?)?;
        self.project(&read)
    }

    fn unconditional(&self) -> Result<Tensor> {
        let on = (Kind::Float, self.options.1);
        match self.projection {
            // The original trained with zeros in place of the embedding, and not with the embedding of a picture.
            Projection::Plain { .. } => self.project(&Tensor::f_zeros([1, self.tower.config().projection_dim], on)?),
            Projection::FullFace { .. } | Projection::Plus(_) => {
                let config = self.tower.config();
                self.tokens(&Tensor::f_zeros([1, config.num_channels, config.image_size, config.image_size], on)?)
            }
        }
    }

    fn project(&self, read: &Tensor) -> Result<Tensor> {
        let (kind, device) = self.options;
        let tokens = self.projection.forward(&read.f_to_device(device)?.f_to_kind(kind)?)?;
        Ok(tokens.f_to_kind(Kind::Float)?)
    }
}

/// Returns the cross-attention sites of a UNet in the order in which IP-Adapters number them: those of the contracting
/// half, of the expanding half, of the bottleneck.
pub(crate) fn in_file_order(sites: &[AttentionSite]) -> Vec<&AttentionSite> {
    let of = |place: Place| {
        sites.iter().filter(move |site| site.is_cross() && site.control.is_none() && site.place == place)
    };
    of(Place::Down).chain(of(Place::Up)).chain(of(Place::Mid)).collect()
}
