//! Arrays of numbers as compressed text, which keeps every bit.

use crate::error::{Error, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::io::{Read, Write};
use tch::{Device, Kind, Tensor};

/// Limit in bytes of all pictures and packed values of a file after unpacking.
pub(crate) const UNPACKED: u64 = 1 << 29;

/// Values of f32, low byte first, compressed (zlib) and written in base64.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Packed {
    shape: Vec<i64>,
    values: String,
}

impl Packed {
    /// Packs a tensor of any kind, as f32.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a tensor that is too large to be read again.
    pub(super) fn of(tensor: &Tensor) -> Result<Self> {
        if bytes(&tensor.size(), 4).is_none() {
            return Err(unfit(&tensor.size()));
        }
        let flat = tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_flatten(0, -1)?.f_contiguous()?;
        let bytes: Vec<u8> = Vec::<f32>::try_from(&flat)?.into_iter().flat_map(f32::to_le_bytes).collect();
        Ok(Self { shape: tensor.size(), values: pack(&bytes)? })
    }

    /// Unpacks the tensor, f32 on the CPU.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the number of values does not fit the shape.
    pub(super) fn tensor(&self) -> Result<Tensor> {
        let length = bytes(&self.shape, 4).ok_or_else(|| unfit(&self.shape))?;
        let bytes = unpack(&self.values, &self.shape, length)?;
        let (chunks, _) = bytes.as_chunks::<4>();
        let values: Vec<f32> = chunks.iter().copied().map(f32::from_le_bytes).collect();
        Ok(Tensor::f_from_slice(&values)?.f_reshape(self.shape.as_slice())?)
    }
}

/// Bytes of a plane, compressed (zlib) and written in base64.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PackedBytes {
    /// Rows and columns.
    shape: (usize, usize),
    bytes: String,
}

impl PackedBytes {
    /// Packs the bytes of rows × columns.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the bytes cannot be compressed.
    pub(crate) fn of(bytes: &[u8], shape: (usize, usize)) -> Result<Self> {
        Ok(Self { shape, bytes: pack(bytes)? })
    }

    /// Unpacks the bytes; also returns rows and columns.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the number of bytes does not fit the shape.
    pub(crate) fn unpack(&self) -> Result<(Vec<u8>, (usize, usize))> {
        let shape = [self.shape.0, self.shape.1].map(|side| i64::try_from(side).unwrap_or(i64::MAX));
        let length = bytes(&shape, 1).ok_or_else(|| unfit(&shape))?;
        Ok((unpack(&self.bytes, &shape, length)?, self.shape))
    }
}

/// Compresses bytes and writes them in base64.
fn pack(bytes: &[u8]) -> Result<String> {
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
    let packed = packer.write_all(bytes).and_then(|()| packer.finish()).map_err(|error| malformed(&error))?;
    Ok(BASE64_STANDARD.encode(packed))
}

/// Returns the `length` bytes that [`pack`] has packed.
fn unpack(packed: &str, shape: &[i64], length: u64) -> Result<Vec<u8>> {
    let packed = BASE64_STANDARD.decode(packed).map_err(|error| malformed(&error))?;
    let mut bytes = Vec::new();
    // One byte beyond the expected length is read, so that surplus values are noticed.
    let read = ZlibDecoder::new(packed.as_slice()).take(length.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| malformed(&error))?;
    if bytes.len() as u64 == length {
        return Ok(bytes);
    }
    let got = bytes.len();
    Err(malformed(&format!(
        "the values of shape {shape:?} have {got} bytes; expected {length}; use a file that has not been edited"
    )))
}

/// Returns the number of bytes of an array of this shape, whose elements have `each` bytes; `None` for more than
/// [`UNPACKED`], because a short text may unpack to any number of zeros.
fn bytes(shape: &[i64], each: u64) -> Option<u64> {
    let bytes = shape.iter().try_fold(each, |bytes, side| bytes.checked_mul(u64::try_from(*side).ok()?));
    bytes.filter(|bytes| *bytes <= UNPACKED)
}

/// Returns the number of bytes to which packed values in `fields` unpack, as their shape says; 0 if `fields` are not
/// packed values.
pub(super) fn unpacked(fields: &Map<String, Value>) -> u64 {
    let packed = |field: &str| fields.get(field).is_some_and(Value::is_string);
    match fields.get("shape").map(Vec::<i64>::deserialize) {
        Some(Ok(shape)) if packed("values") => bytes(&shape, 4).unwrap_or(u64::MAX),
        Some(Ok(shape)) if packed("bytes") => bytes(&shape, 1).unwrap_or(u64::MAX),
        _ => 0,
    }
}

/// Returns the packed labels of a label map; `None` if `fields` are not a label map.
pub(super) fn label_map(fields: &Map<String, Value>) -> Option<&str> {
    fields.get("bytes").filter(|_| fields.contains_key("shape"))?.as_str()
}

/// Returns the error for a shape that is negative or too large.
fn unfit(shape: &[i64]) -> Error {
    let most = UNPACKED >> 20;
    malformed(&format!("the shape is {shape:?}; expected dimensions of 0 or more with at most {most} MiB in all"))
}

fn malformed(problem: &dyn std::fmt::Display) -> Error {
    Error::Malformed { file: "packed values".into(), problem: problem.to_string() }
}

/// Serialization of a plane, rows × columns, among settings.
pub(crate) mod plane {
    use super::{Packed, malformed};
    use crate::error::Result as Checked;
    use ndarray::Array2;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
    use tch::Tensor;

    pub(crate) fn serialize<S: Serializer>(plane: &Array2<f32>, to: S) -> Result<S::Ok, S::Error> {
        let packed = || -> Checked<Packed> {
            let flat: Vec<f32> = plane.iter().copied().collect();
            Packed::of(&Tensor::f_from_slice(&flat)?.f_reshape([plane.nrows() as i64, plane.ncols() as i64])?)
        };
        packed().map_err(ser::Error::custom)?.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Array2<f32>, D::Error> {
        let packed = Packed::deserialize(from)?;
        let plane = || -> Checked<Array2<f32>> {
            let values = packed.tensor()?;
            let (rows, columns) = values.size2()?;
            let flat = Vec::<f32>::try_from(&values.f_flatten(0, -1)?)?;
            Array2::from_shape_vec((rows as usize, columns as usize), flat).map_err(|error| malformed(&error))
        };
        plane().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_to_the_bit() -> Result<()> {
        let tensor = Tensor::from_slice(&[0.1f32, -0.0, f32::MIN_POSITIVE / 8.0, 3e38, 1.0, 2.0]).reshape([1, 2, 3]);
        let written = serde_json::to_string(&Packed::of(&tensor)?).unwrap();
        let read = serde_json::from_str::<Packed>(&written).unwrap().tensor()?;
        assert_eq!((read.size(), read.get(0)), (vec![1, 2, 3], tensor.get(0)));
        Ok(())
    }

    #[test]
    fn values_that_contradict_their_shape_are_refused() -> Result<()> {
        let packed = Packed::of(&Tensor::from_slice(&[1.0f32, 2.0]))?;
        for shape in [vec![3], vec![1], vec![-2], vec![i64::MAX, 8]] {
            assert!(Packed { shape, values: packed.values.clone() }.tensor().is_err());
        }
        assert!(Packed { shape: vec![2], values: "#".into() }.tensor().is_err());
        assert!(Packed { shape: vec![2], values: "AAAA".into() }.tensor().is_err());
        Ok(())
    }
}
