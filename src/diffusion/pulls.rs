//! [`Pulls`]: combines several pulls on a mean.

use crate::error::Result;
use tch::Tensor;

/// Mean bias: pulls on a Gaussian's mean, each toward its own target, combined as a product of Gaussians (a product of
/// experts).
///
/// A pull toward `target` has a weight w per cell: the variance of the pulled value divided by the variance of the
/// target. Cells without a pull have w = 0 and stay the same, bit for bit. All pulls together give
/// mean′ = mean + (Σ shift)/(1 + Σ w), where shift is w·(target − base). `base` is the mean itself, or x0 to leave the
/// noise in the mean as it is. The order of pulls does not matter.
///
/// Source: the document "Color Forcing", "How It Works": μ ← (c·μ + V·g)/(V + c) is one pull with w = V/c.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    pulls: Vec<Pull>,
    repaints: Vec<Repaint>,
}

#[derive(Debug)]
struct Pull {
    shift: Tensor,
    weight: Tensor,
    rank: Option<Tensor>,
}

/// A change of content that is already there, such as the latent of a finished picture.
///
/// All tensors are [n, channels, h, w], or have one channel where the text says so.
#[derive(Debug)]
pub(crate) struct Repaint {
    /// The content less the base that is pulled. All repaints of a step have the same content.
    pub shift: Tensor,
    /// The change of the content.
    pub change: Tensor,
    /// Share of each cell that changes, one channel in 0..=1.
    pub share: Tensor,
    /// Weight w of the pull to the changed content, one channel; 0 in cells that keep the content.
    pub weight: Tensor,
    /// Rank among the repaints that claim the same cell, one channel.
    pub rank: Tensor,
}

/// Sum of the shares of a cell above which repaints contest the cell. Edges of neighboring objects overlap a little.
const CONTESTED: f64 = 1.1;

impl Pulls {
    /// Creates a collection without pulls.
    pub(crate) const fn none() -> Self {
        Self { pulls: Vec::new(), repaints: Vec::new() }
    }

    /// Adds a pull. `weight` is w ≥ 0 and finite (values up to 1e6 are exact enough); `shift` is w·(target − base).
    /// Both have the shape of the pulled tensor or broadcast to that shape: usually `weight` is [n, 1, h, w] and
    /// `shift` is [n, c, h, w].
    pub(crate) fn add(&mut self, shift: Tensor, weight: Tensor) {
        self.pulls.push(Pull { shift, weight, rank: None });
    }

    /// Adds a pull that competes with other ranked pulls. Among the ranked pulls with w > 0 in a cell, only the pull
    /// with the largest `rank` acts. In a tie, the pull that was added first acts. `rank` has the shape of `weight`.
    /// Pulls without rank act in addition.
    pub(crate) fn add_ranked(&mut self, shift: Tensor, weight: Tensor, rank: Tensor) {
        self.pulls.push(Pull { shift, weight, rank: Some(rank) });
    }

    /// Adds a repaint.
    ///
    /// Repaints pull together: toward the content plus the sum of their changes, with the largest of their weights.
    /// Where their shares of a cell exceed the cell, only the repaint with the largest rank changes the cell. In images
    /// with a repaint, cells that nothing pulls are set to the content, so that the surroundings of a changed object
    /// stay as they were.
    pub(crate) fn repaint(&mut self, repaint: Repaint) {
        self.repaints.push(repaint);
    }

    /// The mean after all pulls and repaints; the same tensor if there are none.
    ///
    /// # Errors
    /// libtorch's error if shapes do not fit each other.
    pub(crate) fn apply(&self, mean: &Tensor) -> Result<Tensor> {
        let repainted = self.repainted()?;
        let mut settled = self.settle()?;
        let mut still = mean.shallow_clone();
        if let Some((shift, weight)) = repainted {
            let held = weight.f_amax([1i64, 2, 3], true)?.f_gt(0.0)?;
            still = mean.f_add(&shift)?.f_where_self(&held, mean)?;
            settled.push((shift.f_mul(&weight)?, weight));
        }
        let mut settled = settled.into_iter();
        let Some((mut shift, mut weight)) = settled.next() else { return Ok(still) };
        for (other_shift, other_weight) in settled {
            (shift, weight) = (shift.f_add(&other_shift)?, weight.f_add(&other_weight)?);
        }
        let moved = mean.f_add(&shift.f_div(&weight.f_add_scalar(1.0)?)?)?;
        Ok(moved.f_where_self(&weight.f_gt(0.0)?, &still)?)
    }

    /// The shift and the weight of all repaints together.
    fn repainted(&self) -> Result<Option<(Tensor, Tensor)>> {
        let Some(first) = self.repaints.first() else { return Ok(None) };
        let mut shares = first.share.shallow_clone();
        let mut weight = first.weight.shallow_clone();
        for other in self.repaints.iter().skip(1) {
            (shares, weight) = (shares.f_add(&other.share)?, weight.f_maximum(&other.weight)?);
        }
        let contested = shares.f_gt(CONTESTED)?;
        let ranks: Vec<Tensor> = self
            .repaints
            .iter()
            .map(|repaint| Ok(repaint.rank.f_masked_fill(&repaint.share.f_le(0.0)?, f64::NEG_INFINITY)?))
            .collect::<Result<_>>()?;
        let winner = Tensor::f_stack(&Tensor::f_broadcast_tensors(&ranks)?, 0)?.f_argmax(0, false)?;
        let mut shift = first.shift.shallow_clone();
        for (place, repaint) in (0i64..).zip(&self.repaints) {
            let lost = winner.f_ne(place)?.f_logical_and(&contested)?;
            shift = shift.f_add(&repaint.change.f_masked_fill(&lost, 0.0)?)?;
        }
        Ok(Some((shift, weight)))
    }

    /// The (shift, weight) of the pulls. Of the ranked pulls, there is one alone: in each cell the one that acts there.
    fn settle(&self) -> Result<Vec<(Tensor, Tensor)>> {
        let mut settled = Vec::with_capacity(self.pulls.len());
        let mut first: Option<(&Tensor, &Pull)> = None;
        let mut winner: Option<(Tensor, Tensor, Tensor)> = None;
        let claim = |rank: &Tensor, weight: &Tensor| rank.f_masked_fill(&weight.f_le(0.0)?, f64::NEG_INFINITY);
        for pull @ Pull { shift, weight, rank } in &self.pulls {
            match (rank, first) {
                (None, _) => settled.push((shift.shallow_clone(), weight.shallow_clone())),
                (Some(rank), None) => first = Some((rank, pull)),
                (Some(rank), Some((known, pull))) => {
                    let (best, best_shift, best_weight) = match winner {
                        Some(winner) => winner,
                        None => (claim(known, &pull.weight)?, pull.shift.shallow_clone(), pull.weight.shallow_clone()),
                    };
                    let claim = claim(rank, weight)?;
                    let wins = claim.f_gt_tensor(&best)?;
                    let (shift, weight) =
                        (shift.f_where_self(&wins, &best_shift)?, weight.f_where_self(&wins, &best_weight)?);
                    winner = Some((claim.f_maximum(&best)?, shift, weight));
                }
            }
        }
        match (winner, first) {
            (Some((_, shift, weight)), _) => settled.push((shift, weight)),
            (None, Some((_, pull))) => settled.push((pull.shift.shallow_clone(), pull.weight.shallow_clone())),
            (None, None) => {}
        }
        Ok(settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use tch::{Device, Kind};

    fn assert_near(got: &Tensor, want: f64) {
        assert!((got.double_value(&[]) - want).abs() <= 1e-6 * want.abs().max(1.0), "{got:?} {want}");
    }

    #[test]
    fn pulls_combine_as_a_product_of_gaussians() {
        let golden: Value = serde_json::from_str(include_str!("../../tests/golden/specs/forcing.json")).unwrap();
        for case in golden["blend_cases"].as_array().unwrap() {
            let number = |of: &Value, name: &str| of[name].as_f64().unwrap();
            let mean = Tensor::from(number(case, "mu") as f32);
            let forces = case["forces"].as_array().unwrap();
            let (mut forward, mut backward) = (Pulls::none(), Pulls::none());
            for (pulls, order) in [(&mut forward, 0), (&mut backward, 1)] {
                for i in 0..forces.len() {
                    let force = &forces[if order == 0 { i } else { forces.len() - 1 - i }];
                    let weight = Tensor::from((number(force, "m") * number(case, "V") / number(force, "c")) as f32);
                    let gold = number(case, "signal_scale") * number(force, "g");
                    pulls.add(&weight * (gold - &mean), weight);
                }
            }
            // `signal_scale` is for the golden file's variance-preserving cases: only the target is multiplied by it.
            let want = number(case, "out");
            assert_near(&forward.apply(&mean).unwrap(), want);
            assert_near(&backward.apply(&mean).unwrap(), want);
        }
    }

    #[test]
    fn cells_without_a_pull_keep_their_bits() {
        let mean = Tensor::randn([2, 4, 8, 8], (Kind::Float, Device::Cpu));
        assert_eq!(Pulls::none().apply(&mean).unwrap().data_ptr(), mean.data_ptr());
        let weight = Tensor::zeros([1, 1, 8, 8], (Kind::Float, Device::Cpu));
        let _ = weight.narrow(3, 0, 4).fill_(0.7);
        let mut pulls = Pulls::none();
        pulls.add(&weight * (3.0 - &mean), weight);
        let moved = pulls.apply(&mean).unwrap();
        assert_eq!(moved.narrow(3, 4, 4), mean.narrow(3, 4, 4));
        let want = (&mean + 0.7 * 3.0) / 1.7;
        assert!(moved.narrow(3, 0, 4).allclose(&want.narrow(3, 0, 4), 1e-5, 1e-6, false));
    }

    #[test]
    fn a_very_strong_pull_reaches_its_target() {
        let mean = Tensor::from(-7f32);
        for weight in [1e-6, 1.0, 1e6, 1e30] {
            let mut pulls = Pulls::none();
            pulls.add(Tensor::from((weight * 10.0) as f32), Tensor::from(weight as f32));
            assert_near(&pulls.apply(&mean).unwrap(), -7.0 + 10.0 * weight / (1.0 + weight));
        }
    }

    #[test]
    fn competing_pulls_highest_rank_wins_then_earliest() {
        // One row of cells: only A pulls, only B pulls, A wins, B wins, a tie. The third pull acts everywhere without a
        // rank.
        let row = |values: [f32; 5]| Tensor::from_slice(&values).reshape([1, 1, 1, 5]);
        let (a, b) = (row([1., 0., 1., 1., 1.]), row([0., 1., 1., 1., 1.]));
        let mean = row([0.; 5]);
        let mut pulls = Pulls::none();
        pulls.add_ranked(&a * 10.0, a, row([0.1, 0.9, 0.9, 0.1, 0.5]));
        pulls.add(row([1.; 5]), row([1.; 5]));
        pulls.add_ranked(&b * 20.0, b, row([0.9, 0.1, 0.1, 0.9, 0.5]));
        let want = row([11., 21., 11., 21., 11.]) / 3.0;
        assert!(pulls.apply(&mean).unwrap().allclose(&want, 1e-6, 1e-6, false));
    }

    #[test]
    fn repaints_add_up_where_they_share_cells() {
        let row = |values: [f32; 4]| Tensor::from_slice(&values).reshape([1, 1, 1, 4]);
        // The content is 5 everywhere. Both repaints share the first cell and contest the third. The last cell keeps
        // the content.
        let repaint = |change: f32, share: [f32; 4], rank: f32| Repaint {
            shift: row([4.0; 4]),
            change: row([change; 4]) * row(share).gt(0.0).to_kind(Kind::Float),
            weight: row(share).gt(0.0).to_kind(Kind::Float) * 1e6,
            share: row(share),
            rank: row([rank; 4]),
        };
        let mean = row([1.0; 4]);
        let mut pulls = Pulls::none();
        pulls.repaint(repaint(10.0, [0.5, 1.0, 1.0, 0.0], 0.2));
        let near = |pulls: &Pulls, want: [f32; 4]| pulls.apply(&mean).unwrap().allclose(&row(want), 0.0, 1e-3, false);
        assert!(near(&pulls, [15.0, 15.0, 15.0, 5.0]));
        pulls.repaint(repaint(100.0, [0.5, 0.0, 1.0, 0.0], 0.9));
        assert!(near(&pulls, [115.0, 15.0, 105.0, 5.0]));
        let mut weak = Pulls::none();
        weak.repaint(Repaint { weight: row([0.0, 1.0, 3.0, 0.0]), ..repaint(10.0, [0.5, 1.0, 1.0, 0.0], 0.2) });
        assert!(near(&weak, [15.0, 8.0, 11.5, 5.0]), "a weight of w reaches w/(1 + w) of the way");
    }

    #[test]
    fn ranked_pulls_divide_the_cells_as_in_the_golden() {
        let golden: Value = serde_json::from_str(include_str!("../../tests/golden/specs/saliency.json")).unwrap();
        let map = |value: &Value| {
            let rows = value.as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
            Tensor::from_slice(&rows.map(|cell| cell.as_f64().unwrap()).collect::<Vec<_>>()).reshape([1, 1, 8, 8])
        };
        let grid = |f: fn(f64, f64) -> f64| {
            let cells: Vec<f64> = (0..64).map(|i| f(f64::from(i / 8), f64::from(i % 8))).collect();
            Tensor::from_slice(&cells).reshape([1, 1, 8, 8])
        };
        let first = map(&golden["minmax"]);
        let second = grid(|y, x| (-((y - 4.0).powi(2) + (x - 5.0).powi(2)) / 6.0).exp());
        let second = (&second - second.min()) / (second.max() - second.min() + 1e-8);
        let masks = [&first, &second].map(|map| map.ge(0.3).to_kind(Kind::Double));
        let mut pulls = Pulls::none();
        pulls.add_ranked(&masks[0] * 2.0, masks[0].shallow_clone(), first);
        pulls.add_ranked(&masks[1] * 4.0, masks[1].shallow_clone(), second);
        let moved = pulls.apply(&masks[0].zeros_like()).unwrap();
        let area = |value: f64| moved.eq(value).sum(Kind::Int64).int64_value(&[]);
        assert_eq!(
            [area(1.0), area(2.0)].map(Value::from),
            [&golden["winner"]["area1"], &golden["winner"]["area2"]].map(Value::clone)
        );
    }
}
