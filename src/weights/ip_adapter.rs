//! Files of IP-Adapters.

use super::Weights;
use super::checkpoint::wrong_kind;
use super::file::read_with_header;
use super::recognize::{Contents, is_ip_adapter};
use crate::error::Result;
use std::path::Path;
use tch::{Device, Kind};

/// Opens the file of an IP-Adapter: safetensors, or a checkpoint of PyTorch with the two dictionaries `image_proj` and
/// `ip_adapter`.
///
/// # Errors
/// The errors of [`read_tensors`](super::read_tensors); an error that says what the file is, if it is no IP-Adapter.
pub(crate) fn open_ip_adapter(path: &Path, kind: Kind, device: Device) -> Result<Weights> {
    let (tensors, header) = read_with_header(path)?;
    if !header.tensors.keys().any(|name| is_ip_adapter(name)) {
        return Err(wrong_kind(&header.file, Contents::of(&header)?));
    }
    Ok(Weights::new(header.file, tensors, kind, device))
}
