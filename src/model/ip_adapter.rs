//! [`Model::ip_adapter`]: IP-Adapters of a model.

use super::Model;
use super::vision::open_tower;
use crate::error::Result;
use crate::nn::ip_adapter::{IpAdapterNet, file_sites, in_file_order, other_sites};
use crate::weights::{ModelFamily, Source, Weights, open_ip_adapter};
use std::path::Path;

impl Model {
    /// Loads an IP-Adapter for this model with the image encoder that it was trained with, in the model's kind and on
    /// its device. The method [`IpAdapter`](crate::methods::IpAdapter) guides a run with it.
    ///
    /// - `file` is the adapter's file, safetensors or `.bin`: plain, Plus, Plus-face or full-face, for SD 1.5 or SDXL.
    ///   The names of its tensors tell the form.
    /// - `image_encoder` is the folder of a CLIP vision tower, of a model that has one, or a file of a tower's weights.
    ///   Adapters for SD 1.5 and those with `vit-h` in their name need ViT-H, the others for SDXL need bigG.
    ///
    /// ```no_run
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::{Model, Source};
    ///
    /// let model = Model::load(&Source::file("sd15.safetensors"))?;
    /// let plain = model.ip_adapter("ip-adapter_sd15.bin", &Source::dir("models/image_encoder"))?;
    /// let face = model.ip_adapter("ip-adapter-plus-face_sd15.bin", &Source::file("CLIP-ViT-H-14.safetensors"))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Malformed`](crate::error::Error::Malformed) or [`Error::OtherKind`](crate::error::Error::OtherKind) for
    /// a file that is no supported IP-Adapter, for an adapter of another model family, and for one of another image
    /// encoder; [`Error::Weights`](crate::error::Error::Weights) if tensors are missing or misshapen; the errors of
    /// [`Model::load`] for the image encoder.
    pub fn ip_adapter(&self, file: impl AsRef<Path>, image_encoder: &Source) -> Result<IpAdapterNet> {
        let _no_grad = tch::no_grad_guard();
        let w = open_ip_adapter(file.as_ref(), self.kind, self.device)?.offload(self.offload);
        self.fits(&w)?;
        let (tower, processor) = open_tower(image_encoder, self.offload, self.kind, self.device)?;
        IpAdapterNet::new(&w, tower, processor)
    }

    /// Checks that the projections of an IP-Adapter have the shapes of this model's own.
    fn fits(&self, w: &Weights) -> Result<()> {
        let family = |width: i64| {
            let family = ModelFamily::of_context(width).map(|family| format!(" ({family})"));
            format!("{width}{}", family.unwrap_or_default())
        };
        let (theirs, ours) = (file_sites(w)?, in_file_order(self.backbone.unet_for("ip_adapter")?.sites()));
        let tensors = self.parts.get("unet");
        let own = |name: &str| {
            let weight = tensors.and_then(|tensors| tensors.get(&format!("{name}.to_k.weight")))?;
            weight.size2().ok()
        };
        let (width, name) = (theirs.first().map(|(_, width)| *width), ours.first().map(|site| site.name.as_str()));
        if let (Some(width), Some((_, context))) = (width, name.and_then(own))
            && width != context
        {
            return Err(w.fault(format!(
                "the IP-Adapter is for a model whose context has the width {}; expected {}, as in this model; give an \
                 IP-Adapter of the model's family",
                family(width),
                family(context)
            )));
        }
        if theirs.len() != ours.len() {
            return Err(w.fault(other_sites(theirs.len(), ours.len())));
        }
        for (number, (got, site)) in theirs.iter().zip(ours).enumerate() {
            if let Some(wanted) = own(&site.name).filter(|wanted| wanted != got) {
                return Err(w.fault(format!(
                    "ip_adapter.{}.to_k_ip.weight has shape [{}, {}]; expected [{}, {}], as the model has it at {}; give \
                     an IP-Adapter of the model's family",
                    2 * number + 1,
                    got.0,
                    got.1,
                    wanted.0,
                    wanted.1,
                    site.name
                )));
            }
        }
        Ok(())
    }
}
