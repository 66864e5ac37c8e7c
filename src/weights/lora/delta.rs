//! [`Delta`]: the change of a layer's weight by one of the algorithms of LoRA and its relatives.

use super::glora::Glora;
use super::ia3::Ia3;
use super::loha::LoHa;
use super::lokr::LoKr;
use super::oft::Oft;
use super::product::{Product, float, matrix};
use crate::error::Result;
use tch::Tensor;

/// A change ΔW of a weight W at strength 1, without the factor α/r. Each algorithm has its own form.
#[derive(Debug)]
pub(super) enum Delta {
    /// LoRA and LoCon: up · down, with LoCon's middle matrix as the core.
    LowRank(Product),
    LoHa(LoHa),
    LoKr(LoKr),
    /// A difference of the whole weight.
    Full(Tensor),
    Ia3(Ia3),
    /// Diagonal OFT and BOFT.
    Oft(Oft),
    Glora(Glora),
}

/// A reason why a change is not one of a weight.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// The change has this shape, and the weight another one.
    Shape(Vec<i64>),
    /// The tensors do not fit together or do not fit the weight; the text says which tensors would.
    Tensors(&'static str),
}

impl Delta {
    /// Returns the rank r by which α is divided; `None` for a change without α.
    pub(super) fn rank(&self) -> Option<i64> {
        match self {
            Self::LowRank(product) => product.rank(),
            Self::LoHa(loha) => loha.first.rank(),
            Self::LoKr(lokr) => lokr.rank(),
            Self::Glora(glora) => glora.rank(),
            Self::Full(_) | Self::Ia3(_) | Self::Oft(_) => None,
        }
    }

    /// Returns the number of inputs of a linear layer that has this change; `None` if the change does not show it.
    pub(super) fn inputs(&self) -> Option<i64> {
        match self {
            Self::LowRank(product) => product.inputs(),
            Self::LoHa(loha) => loha.first.inputs(),
            Self::LoKr(lokr) => lokr.inputs(),
            Self::Full(diff) => diff.size().get(1).copied(),
            Self::Ia3(ia3) => ia3.inputs(),
            Self::Oft(_) => None,
            Self::Glora(glora) => glora.inputs(),
        }
    }

    /// Checks, without computing the change, that the change is one of a weight of shape `weight`. Any product of a
    /// small file's tensors is therefore at most as large as the weight.
    pub(super) fn check(&self, weight: &[i64]) -> std::result::Result<(), Misfit> {
        const OLD_GLORA: &str = "the order that LyCORIS 2 and later save (b1 · b2); the file has the order of LyCORIS \
                                 before version 2, which is not supported";
        let (shape, rule) = match self {
            Self::LowRank(product) => (product.shape(), "as many rows in down as columns in up"),
            Self::LoHa(loha) => (loha.shape(weight), "two products of one shape, w1_a · w1_b and w2_a · w2_b"),
            Self::LoKr(lokr) => (lokr.shape(weight), "two matrices, the second one with the weight's kernel"),
            Self::Full(diff) => (Some(diff.size()), ""),
            Self::Glora(glora) if glora.is_old() => (None, OLD_GLORA),
            Self::Glora(glora) => {
                (glora.shape(), "a1 [inputs, rank], a2 [rank, inputs], b1 [outputs, rank] and b2 [rank, inputs]")
            }
            Self::Ia3(ia3) => {
                let rule = "one factor for each output, or for each input if on_input is 1";
                return ia3.fits(weight).then_some(()).ok_or(Misfit::Tensors(rule));
            }
            Self::Oft(oft) => {
                let rule = "square blocks that have as many rows together as the weight, and one rescale for each row";
                return oft.fits(weight).then_some(()).ok_or(Misfit::Tensors(rule));
            }
        };
        match shape {
            Some(shape) if matrix(&shape) == matrix(weight) => Ok(()),
            Some(shape) => Err(Misfit::Shape(shape)),
            None => Err(Misfit::Tensors(rule)),
        }
    }

    /// Computes the change of a weight in f32, in the weight's shape.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch), if the change does not pass [`check`](Self::check) for the weight.
    pub(super) fn compute(&self, w: &Tensor) -> Result<Tensor> {
        let (shape, device) = (w.size(), w.device());
        let change = match self {
            Self::LowRank(product) => product.compute(device)?,
            Self::LoHa(loha) => loha.compute(device)?,
            Self::LoKr(lokr) => lokr.compute(&shape, device)?,
            Self::Full(diff) => float(diff, device)?,
            Self::Ia3(ia3) => ia3.compute(w)?,
            Self::Oft(oft) => oft.compute(w)?,
            Self::Glora(glora) => glora.compute(w)?,
        };
        Ok(change.f_reshape(shape)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::lokr::Half;
    use super::*;
    use tch::{Device, Kind};

    fn wave(shape: &[i64]) -> Tensor {
        let count: i64 = shape.iter().product();
        (Tensor::arange(count, (Kind::Float, Device::Cpu)) + 0.3 * shape.len() as f64).sin().reshape(shape)
    }

    /// Checks a change of `w` against a formula of the place [o, i, y, x] in the change.
    fn check(delta: &Delta, w: &Tensor, formula: impl Fn([i64; 4]) -> f64) {
        assert_eq!(delta.check(&w.size()), Ok(()));
        let change = delta.compute(w).unwrap();
        assert_eq!((change.size(), change.kind()), (w.size(), Kind::Float));
        let change = cells(&change);
        let (outputs, inputs, height, width) = change.size4().unwrap();
        for place in 0..outputs * inputs * height * width {
            let (rest, x) = (place / width, place % width);
            let (rest, y) = (rest / height, rest % height);
            let at = [rest / inputs, rest % inputs, y, x];
            let (got, want) = (change.double_value(&at), formula(at));
            assert!((got - want).abs() < 2e-5, "{got} at {at:?}, expected {want}");
        }
    }

    /// Returns a matrix as a kernel [o, i, 1, 1].
    fn cells(x: &Tensor) -> Tensor {
        if x.dim() == 2 { x.unsqueeze(-1).unsqueeze(-1) } else { x.shallow_clone() }
    }

    fn number(x: &Tensor, at: &[i64]) -> f64 {
        x.double_value(at)
    }

    /// Σ over p and q of t[p, q, y, x] · a[p, o] · b[q, i].
    fn tucker(t: &Tensor, a: &Tensor, b: &Tensor, [o, i, y, x]: [i64; 4]) -> f64 {
        let (p, q, ..) = t.size4().unwrap();
        let pairs = (0..p).flat_map(|p| (0..q).map(move |q| (p, q)));
        pairs.map(|(p, q)| number(t, &[p, q, y, x]) * number(a, &[p, o]) * number(b, &[q, i])).sum()
    }

    /// Σ over r of a[row, r] · b[r, column].
    fn product(a: &Tensor, b: &Tensor, row: i64, column: i64) -> f64 {
        (0..b.size()[0]).map(|r| number(a, &[row, r]) * number(b, &[r, column])).sum()
    }

    #[test]
    fn loha_multiplies_two_products() {
        let (a1, b1, a2, b2) = (wave(&[6, 2]), wave(&[2, 36]), wave(&[6, 3]), wave(&[3, 36]));
        let lycoris = |a: &Tensor, t, b: &Tensor| Product::of_lycoris(a.shallow_clone(), t, b.shallow_clone());
        let loha = Delta::LoHa(LoHa { first: lycoris(&a1, None, &b1), second: lycoris(&a2, None, &b2) });
        check(&loha, &wave(&[6, 4, 3, 3]), |[o, i, y, x]| {
            let column = (i * 3 + y) * 3 + x;
            product(&a1, &b1, o, column) * product(&a2, &b2, o, column)
        });
        let (t1, a1, b1) = (wave(&[2, 3, 3, 3]), wave(&[2, 6]), wave(&[3, 4]));
        let (t2, a2, b2) = (wave(&[5, 1, 3, 3]), wave(&[5, 6]), wave(&[1, 4]));
        let first = lycoris(&a1, Some(t1.shallow_clone()), &b1);
        let loha = Delta::LoHa(LoHa { first, second: lycoris(&a2, Some(t2.shallow_clone()), &b2) });
        check(&loha, &wave(&[6, 4, 3, 3]), |at| tucker(&t1, &a1, &b1, at) * tucker(&t2, &a2, &b2, at));
        assert_eq!((loha.rank(), loha.inputs()), (Some(3), Some(4)));
    }

    #[test]
    fn lokr_is_a_kronecker_product() {
        // The first factor is the larger one, [4, 1], in the second matrix.
        for (a, c, b, d) in [(2, 2, 3, 4), (4, 1, 2, 8), (1, 4, 8, 2)] {
            let (w1, w2) = (wave(&[a, c]), wave(&[b, d]));
            let halves = [Half::Whole(w1.shallow_clone()), Half::Whole(w2.shallow_clone())];
            let [first, second] = halves;
            let lokr = Delta::LoKr(LoKr { first, second });
            check(&lokr, &wave(&[a * b, c * d]), |[o, i, ..]| {
                number(&w1, &[o / b, i / d]) * number(&w2, &[o % b, i % d])
            });
            assert_eq!((lokr.rank(), lokr.inputs()), (None, Some(c * d)), "α has no meaning");
        }
        let w = wave(&[6, 8, 3, 3]);
        let (a1, b1) = (wave(&[2, 5]), wave(&[5, 4]));
        let first = || Half::Product(Product::of_lycoris(a1.shallow_clone(), None, b1.shallow_clone()));
        let lokr = |second| Delta::LoKr(LoKr { first: first(), second });
        let whole = wave(&[3, 2, 3, 3]);
        let whole_lokr = lokr(Half::Whole(whole.shallow_clone()));
        assert_eq!(whole_lokr.rank(), Some(5));
        check(&whole_lokr, &w, |[o, i, y, x]| product(&a1, &b1, o / 3, i / 2) * number(&whole, &[o % 3, i % 2, y, x]));
        let (a2, b2) = (wave(&[3, 1]), wave(&[1, 18]));
        let flat = lokr(Half::Product(Product::of_lycoris(a2.shallow_clone(), None, b2.shallow_clone())));
        assert_eq!(flat.rank(), Some(1), "the second half's rank counts");
        check(&flat, &w, |[o, i, y, x]| {
            product(&a1, &b1, o / 3, i / 2) * product(&a2, &b2, o % 3, ((i % 2) * 3 + y) * 3 + x)
        });
        let (t2, a2, b2) = (wave(&[2, 3, 3, 3]), wave(&[2, 3]), wave(&[3, 2]));
        let core = Some(t2.shallow_clone());
        let core = lokr(Half::Product(Product::of_lycoris(a2.shallow_clone(), core, b2.shallow_clone())));
        assert_eq!(core.rank(), Some(3));
        check(&core, &w, |[o, i, y, x]| product(&a1, &b1, o / 3, i / 2) * tucker(&t2, &a2, &b2, [o % 3, i % 2, y, x]));
    }

    #[test]
    fn ia3_scales_rows_or_columns() {
        for w in [wave(&[6, 4]), wave(&[6, 4, 3, 3])] {
            for (on_input, scale) in [(false, wave(&[6])), (false, wave(&[1, 6, 1, 1])), (true, wave(&[4]))] {
                let flat = scale.flatten(0, -1);
                let own = cells(&w);
                check(&Delta::Ia3(Ia3 { scale, on_input }), &w, |[o, i, y, x]| {
                    number(&own, &[o, i, y, x]) * number(&flat, &[if on_input { i } else { o }])
                });
            }
        }
    }

    /// R = (I + Q)(I − Q)⁻¹ with Q = (B − Bᵀ) · scale, by the series I + 2·(Q + Q² + …).
    fn rotation(block: &Tensor, scale: f64) -> Tensor {
        let q = (block - block.transpose(-2, -1)).to_kind(Kind::Double) * scale;
        let (mut power, mut sum) = (q.copy(), q.copy());
        for _ in 0..200 {
            power = power.matmul(&q);
            sum += &power;
        }
        Tensor::eye(q.size()[0], (Kind::Double, Device::Cpu)) + sum * 2.0
    }

    #[test]
    fn oft_rotates_blocks_of_rows() {
        let (w, blocks, rescale) = (wave(&[6, 4, 3, 3]), wave(&[2, 3, 3]) * 0.2, wave(&[6, 1, 1, 1]));
        let norm = (&blocks - blocks.transpose(-2, -1)).norm().double_value(&[]);
        // A bound of half the norm for 6 outputs, no bound, and a bound that is not reached.
        for (constraint, scale) in [(norm / 12.0, 0.5), (0.0, 1.0), (norm, 1.0)] {
            for rescale in [None, Some(rescale.shallow_clone())] {
                let factor = rescale.as_ref().map(|x| x.flatten(0, -1));
                let oft = Oft { blocks: blocks.shallow_clone(), rescale, constraint };
                let rotations = [0, 1].map(|k| rotation(&blocks.get(k), scale));
                check(&Delta::Oft(oft), &w, |[o, i, y, x]| {
                    let (k, m) = (o / 3, o % 3);
                    let row = |j| number(&rotations[k as usize], &[j, m]) * number(&w, &[k * 3 + j, i, y, x]);
                    let factor = factor.as_ref().map_or(1.0, |x| number(x, &[o]));
                    factor * (0..3).map(row).sum::<f64>() - number(&w, &[o, i, y, x])
                });
            }
        }
    }

    #[test]
    fn boft_rotates_shuffled_rows() {
        let (w, blocks) = (wave(&[8, 3]), wave(&[2, 2, 4, 4]) * 0.1);
        let mut rows = w.to_kind(Kind::Double);
        for stage in 0..2 {
            // Rows [.., 2, h] become [.., h, 2], so that rows of distance h stand side by side.
            let h = 2 << stage;
            let place = |row: i64| {
                let (group, inside) = (row / (2 * h), row % (2 * h));
                group * 2 * h + (inside % 2) * h + inside / 2
            };
            let places: Vec<i64> = (0..8).map(place).collect();
            let shuffled = rows.index_select(0, &Tensor::from_slice(&places));
            let turned = [0, 1].map(|k| rotation(&blocks.get(stage).get(k), 1.0).matmul(&shuffled.narrow(0, 4 * k, 4)));
            let turned = Tensor::cat(&turned, 0);
            rows = Tensor::zeros_like(&rows);
            rows = rows.index_copy(0, &Tensor::from_slice(&places), &turned);
        }
        let delta = Delta::Oft(Oft { blocks, rescale: None, constraint: 0.0 });
        check(&delta, &w, |[o, i, ..]| number(&rows, &[o, i]) - number(&w, &[o, i]));
    }

    #[test]
    fn glora_mixes_inputs_at_every_place() {
        // The rank is below and above the number of inputs.
        for rank in [2, 7] {
            let (w, b2) = (wave(&[6, 4, 3, 3]), wave(&[rank, 4, 3, 3]));
            let (a1, a2, b1) = (wave(&[4, rank, 1, 1]), wave(&[rank, 4, 1, 1]), wave(&[6, rank, 1, 1]));
            let [a, b, up] = [&a1, &a2, &b1].map(|x| x.flatten(1, -1));
            let down = b2.flatten(1, -1);
            let delta = Delta::Glora(Glora { a1, a2, b1, b2 });
            assert_eq!(delta.rank(), Some(rank));
            check(&delta, &w, |[o, i, y, x]| {
                let mixed: f64 = (0..4).map(|j| number(&w, &[o, j, y, x]) * product(&a, &b, j, i)).sum();
                mixed + product(&up, &down, o, (i * 3 + y) * 3 + x)
            });
        }
    }
}
