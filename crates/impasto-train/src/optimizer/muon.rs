//! Muon: momentum made orthogonal (Jordan 2024, <https://kellerjordan.github.io/posts/muon>).

use impasto::Result;
use impasto::weights::Tensors;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// The Muon optimizer. Every singular value of its steps is about the learning rate, so that directions with small
/// gradients move as far as others. Kernels [o, i, h, w] count as matrices [o, i·h·w].
#[derive(Debug)]
pub struct Muon {
    /// Learning rate, about 0.01.
    pub rate: f64,
    /// Decay rate of the running mean of gradients.
    pub momentum: f64,
    /// Share of the learning rate by which weights shrink.
    pub decay: f64,
    means: Tensors,
}

impl Muon {
    /// Creates an optimizer with a momentum of 0.95.
    pub fn new(rate: f64, decay: f64) -> Self {
        Self { rate, momentum: 0.95, decay, means: Tensors::new() }
    }

    pub(super) fn remember(&mut self, name: &str, x: &Tensor) -> Result<()> {
        self.means.insert(name.into(), Tensor::f_zeros(x.size(), (Kind::Float, x.device()))?);
        Ok(())
    }

    pub(super) fn step(&mut self, moved: Vec<(&str, Tensor, &Tensor)>, rate: f64) -> Result<()> {
        let rate = self.rate * rate;
        // Matrices of one shape are handled together, because many small products are slower than a batched product.
        let mut shapes: BTreeMap<(i64, i64), Vec<(Tensor, Tensor)>> = BTreeMap::new();
        for (name, x, gradient) in moved {
            let Some(mean) = self.means.get_mut(name) else { continue };
            let _ = mean.f_lerp_(gradient, 1.0 - self.momentum)?;
            let rows = x.size().first().copied().unwrap_or(1).max(1);
            let columns = x.numel() as i64 / rows;
            let ahead = gradient.f_lerp(mean, self.momentum)?.f_reshape([rows, columns])?; // Nesterov
            shapes.entry((rows, columns)).or_default().push((x, ahead));
        }
        for ((rows, columns), group) in shapes {
            let (moved, ahead): (Vec<Tensor>, Vec<Tensor>) = group.into_iter().unzip();
            let steps = orthogonal(&Tensor::f_stack(&ahead, 0)?)?;
            let scale = rate * (rows as f64 / columns as f64).max(1.0).sqrt();
            for (mut x, step) in moved.into_iter().zip(steps.f_unbind(0)?) {
                let _ = x.f_mul_scalar_(1.0 - rate * self.decay)?;
                let _ = x.f_sub_(&step.f_reshape(x.size())?.f_mul_scalar(scale)?)?;
            }
        }
        Ok(())
    }

    pub(super) fn state(&self) -> impl Iterator<Item = (String, Tensor)> {
        self.means.iter().map(|(name, x)| (format!("muon.mean.{name}"), x.shallow_clone()))
    }
}

/// Returns the nearest matrices whose singular values are all about 1 (0.7 to 1.2), [n, rows, columns]. The result
/// comes from five steps of a Newton–Schulz iteration with the polynomial that grows small values fastest.
fn orthogonal(x: &Tensor) -> Result<Tensor> {
    let tall = x.size3()?.1 > x.size3()?.2;
    let x = if tall { x.f_transpose(1, 2)? } else { x.shallow_clone() };
    let norms = x.f_square()?.f_sum_dim_intlist([1, 2].as_slice(), true, Kind::Float)?.f_sqrt()?;
    let mut x = x.f_div(&norms.f_add_scalar(1e-7)?)?.f_to_kind(Kind::BFloat16)?;
    for _ in 0..5 {
        let square = x.f_bmm(&x.f_transpose(1, 2)?)?;
        let polynomial = square.f_mul_scalar(-4.775)?.f_add(&square.f_bmm(&square)?.f_mul_scalar(2.0315)?)?;
        x = x.f_mul_scalar(3.4445)?.f_add(&polynomial.f_bmm(&x)?)?;
    }
    let x = x.f_to_kind(Kind::Float)?;
    Ok(if tall { x.f_transpose(1, 2)? } else { x })
}

#[cfg(test)]
mod tests {
    use super::*;
    use impasto::diffusion::Noise;

    #[test]
    fn singular_values_become_one_and_directions_stay() -> Result<()> {
        for shape in [[3, 8, 20], [2, 20, 8]] {
            let x = Noise::shared(3).draw(&shape)?;
            let (u, values, v) = orthogonal(&x)?.f_svd(true, true)?;
            assert!(values.min().double_value(&[]) > 0.6 && values.max().double_value(&[]) < 1.3, "{values}");
            let (u0, _, v0) = x.f_svd(true, true)?;
            // The result and its input have the same nearest orthogonal matrix, u·vᵀ.
            let nearest = |u: &Tensor, v: &Tensor| u.matmul(&v.transpose(1, 2));
            let apart = (nearest(&u, &v) - nearest(&u0, &v0)).abs().max().double_value(&[]);
            assert!(apart < 0.05, "{apart}");
        }
        Ok(())
    }
}
