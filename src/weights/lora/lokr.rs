//! [`LoKr`]: the Kronecker product of two matrices.

use super::product::{Product, float, matrix};
use crate::error::Result;
use tch::{Device, Tensor};

/// A change ΔW = w1 ⊗ w2: ΔW[a·b + m, c·d + n, y, x] = w1[a, c] · w2[m, n, y, x], where w2 is [b, d] or [b, d, h, w].
///
/// Source: Edalati et al. (2022), "KronA"; LyCORIS.
#[derive(Debug)]
pub(super) struct LoKr {
    pub first: Half,
    pub second: Half,
}

/// A factor of a Kronecker product.
#[derive(Debug)]
pub(super) enum Half {
    /// The file has the factor itself.
    Whole(Tensor),
    /// The file has the factor's own factors.
    Product(Product),
}

impl Half {
    fn shape(&self) -> Option<Vec<i64>> {
        match self {
            Self::Whole(x) => Some(matrix(&x.size()).into()),
            Self::Product(product) => Some(matrix(&product.shape()?).into()),
        }
    }

    /// Returns the rank of a factor that has factors.
    fn rank(&self) -> Option<i64> {
        match self {
            Self::Whole(_) => None,
            Self::Product(product) => product.rank(),
        }
    }

    fn inputs(&self) -> Option<i64> {
        match self {
            Self::Whole(x) => x.size().get(1).copied(),
            Self::Product(product) => product.inputs(),
        }
    }

    fn compute(&self, device: Device) -> Result<Tensor> {
        match self {
            Self::Whole(x) => float(x, device),
            Self::Product(product) => product.compute(device),
        }
    }
}

impl LoKr {
    /// Returns the rank by which α is divided; `None` if the file has both factors whole, because α then has no
    /// meaning.
    pub(super) fn rank(&self) -> Option<i64> {
        self.second.rank().or_else(|| self.first.rank())
    }

    /// Returns the number of inputs of a linear layer with this change.
    pub(super) fn inputs(&self) -> Option<i64> {
        self.first.inputs()?.checked_mul(self.second.inputs()?)
    }

    /// Returns the shape of the change of a weight; `None` if the tensors do not fit together.
    pub(super) fn shape(&self, weight: &[i64]) -> Option<Vec<i64>> {
        let &[a, c] = self.first.shape()?.as_slice() else { return None };
        let second = match (&self.second, self.second.shape()?.as_slice()) {
            // The columns of a product without a core hold the kernel, [d·h·w].
            (Half::Product(_), &[b, columns]) if columns % cells(weight) == 0 => {
                [&[b, columns / cells(weight)], matrix(weight).get(2..).unwrap_or_default()].concat()
            }
            (_, second) => second.to_owned(),
        };
        let [b, d, kernel @ ..] = second.as_slice() else { return None };
        Some([&[a.checked_mul(*b)?, c.checked_mul(*d)?], kernel].concat())
    }

    /// Computes the change of a weight of shape `weight`, as a tensor [a, b, c, d, h·w].
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch), if the tensors do not fit together.
    pub(super) fn compute(&self, weight: &[i64], device: Device) -> Result<Tensor> {
        let [first, second] =
            [self.first.compute(device)?.f_flatten(1, -1)?, self.second.compute(device)?.f_flatten(1, -1)?];
        let ((a, c), (b, columns)) = (first.size2()?, second.size2()?);
        let cells = cells(weight);
        Ok(first.f_reshape([a, 1, c, 1, 1])?.f_mul(&second.f_reshape([1, b, 1, columns / cells, cells])?)?)
    }
}

/// Returns the number of places of a weight's kernel.
fn cells(weight: &[i64]) -> i64 {
    weight.iter().skip(2).product::<i64>().max(1)
}
