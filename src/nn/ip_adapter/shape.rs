//! Shapes of the tensors in an IP-Adapter's file, which tell the sizes of its networks.

use crate::error::Result;
use crate::weights::Weights;

/// Returns rows and columns of a matrix of the file.
///
/// # Errors
/// [`Error::Malformed`](crate::error::Error::Malformed) if the file has no such matrix.
pub(super) fn matrix(w: &Weights, name: &str) -> Result<(i64, i64)> {
    let path = if w.path().is_empty() { name.to_owned() } else { format!("{}.{name}", w.path()) };
    match w.shape(name).as_deref() {
        Some(&[rows, columns]) if rows > 0 && columns > 0 => Ok((rows, columns)),
        Some(other) => Err(w.fault(format!("{path} has shape {other:?}; expected a matrix; download the file again"))),
        None => Err(w.fault(format!("the file has no {path}; download the file again"))),
    }
}

/// Returns the shapes of the projections to keys in a file, rows and columns, in the order of their numbers 1, 3, 5 …
///
/// # Errors
/// [`Error::Malformed`](crate::error::Error::Malformed) if there are none, or a shape is not a matrix.
pub(crate) fn file_sites(w: &Weights) -> Result<Vec<(i64, i64)>> {
    let names = (0..).map(|i| format!("ip_adapter.{}.to_k_ip.weight", 2 * i + 1));
    let shapes: Vec<_> = names.take_while(|name| w.has(name)).map(|name| matrix(w, &name)).collect::<Result<_>>()?;
    if shapes.is_empty() {
        return Err(w.fault(
            "the file has no ip_adapter.1.to_k_ip.weight, the first tensor of an IP-Adapter; give the file of a plain, \
             Plus, Plus-face or full-face IP-Adapter",
        ));
    }
    Ok(shapes)
}

/// Describes a file with `got` sites for a model that has `expected` sites.
pub(crate) fn other_sites(got: usize, expected: usize) -> String {
    format!(
        "the IP-Adapter is for a model with {got} cross-attention sites; expected {expected}, as in this model; give an \
         IP-Adapter of the model's family"
    )
}
