//! [`Choice`]: the swatch of each thing.

use super::things::{Things, mean, square_distance, values};
use crate::color::Lab;

/// Weight of the shares in the choice of swatches.
const SHARES: f64 = 15.0;
/// Weight of the borders of things.
const CONTRAST: f64 = 0.3;
/// Distance in CIE L\*a\*b\* from which two swatches divide things clearly.
const CLEAR: f64 = 30.0;
/// Rounds in which things may change their swatches.
const ROUNDS: usize = 20;

/// A color of the palette, with its share of the picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub color: Lab,
    /// Share of the picture; the shares of all targets sum to 1.
    pub share: f64,
}

/// The choice of a swatch for each thing.
///
/// With things of mass m and color p, and swatches of share s and color c, the choice makes
/// Σ m·|p̂ − ĉ|² + 15·Σ (M − s)²/s + .3·Σ b·(1 − |c − c′|/30) small. Here p̂ and ĉ are the colors less their means and
/// divided by their deviations, and M is the mass of the things that go to a swatch. The last sum is over neighbors
/// whose swatches are nearer than 30 to each other; b is the share of the smaller thing's border.
pub(super) struct Choice {
    /// Cost of each swatch for each thing.
    costs: Vec<Vec<f64>>,
    /// Share of the picture of each thing.
    masses: Vec<f64>,
    /// Share of the picture that each swatch is to have.
    shares: Vec<f64>,
    /// Pairs of neighbors, with the weights of their borders.
    borders: Vec<(usize, usize, f64)>,
    /// Cost of each pair of swatches for neighbors, 0..=1.
    alike: Vec<Vec<f64>>,
}

/// Returns weighted colors less their mean and divided by their deviation.
fn standardize(colors: &[(f64, Lab)]) -> Vec<[f64; 3]> {
    let middle = mean(colors.iter().copied());
    let apart = |color: Lab| [color.l - middle.l, color.a - middle.a, color.b - middle.b];
    let all: f64 = colors.iter().map(|(weight, _)| weight).sum();
    let squares = colors.iter().map(|(weight, color)| weight * square_distance(apart(*color), [0.0; 3]));
    let deviation = (squares.sum::<f64>() / all.max(1e-9)).sqrt().max(1.0);
    colors.iter().map(|(_, color)| apart(*color).map(|value| value / deviation)).collect()
}

impl Choice {
    pub(super) fn new(things: &Things, targets: &[Target]) -> Self {
        let weighted: Vec<(f64, Lab)> = things.things.iter().map(|thing| (thing.mass, thing.color)).collect();
        let swatches: Vec<(f64, Lab)> = targets.iter().map(|target| (target.share, target.color)).collect();
        let (sources, goals) = (standardize(&weighted), standardize(&swatches));
        let costs = sources
            .iter()
            .zip(&weighted)
            .map(|(source, (mass, _))| goals.iter().map(|goal| mass * square_distance(*source, *goal)).collect());
        let alike = |one: &Target, other: &Target| {
            let apart = square_distance(values(one.color), values(other.color)).sqrt();
            (1.0 - apart / CLEAR).max(0.0)
        };
        Self {
            costs: costs.collect(),
            masses: weighted.iter().map(|(mass, _)| *mass).collect(),
            shares: targets.iter().map(|target| target.share).collect(),
            borders: things.borders.iter().map(|((one, other), share)| (*one, *other, *share)).collect(),
            alike: targets.iter().map(|one| targets.iter().map(|other| alike(one, other)).collect()).collect(),
        }
    }

    /// Begins with the cheapest swatches, and changes one thing, or exchanges the swatches of two, while the value
    /// falls.
    pub(super) fn best(&self) -> Vec<usize> {
        let cheapest = |costs: &Vec<f64>| -> usize {
            costs.iter().enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(index, _)| index)
        };
        let mut chosen: Vec<usize> = self.costs.iter().map(cheapest).collect();
        let mut best = self.value(&chosen);
        for _ in 0..ROUNDS {
            let before = best;
            for thing in 0..chosen.len() {
                for swatch in 0..self.shares.len() {
                    let mut other = chosen.clone();
                    other.get_mut(thing).into_iter().for_each(|at| *at = swatch);
                    self.take_better(other, &mut chosen, &mut best);
                }
                for second in 0..thing {
                    let mut other = chosen.clone();
                    other.swap(thing, second);
                    self.take_better(other, &mut chosen, &mut best);
                }
            }
            if best == before {
                break;
            }
        }
        chosen
    }

    fn take_better(&self, other: Vec<usize>, chosen: &mut Vec<usize>, best: &mut f64) {
        let now = self.value(&other);
        if now < *best - 1e-12 {
            (*best, *chosen) = (now, other);
        }
    }

    /// Returns the sum of the costs, of the missed shares, and of the borders that are hard to see.
    fn value(&self, chosen: &[usize]) -> f64 {
        let cost: f64 = chosen.iter().zip(&self.costs).filter_map(|(at, costs)| costs.get(*at)).sum();
        let missed = self.shares.iter().enumerate().map(|(index, share)| {
            let own = chosen.iter().zip(&self.masses).filter(|(at, _)| **at == index);
            (own.map(|(_, mass)| mass).sum::<f64>() - share).powi(2) / share
        });
        let alike = |one: usize, other: usize| {
            let (one, other) = (chosen.get(one)?, chosen.get(other)?);
            self.alike.get(*one)?.get(*other)
        };
        let hidden: f64 =
            self.borders.iter().filter_map(|(one, other, share)| Some(share * alike(*one, *other)?)).sum();
        cost + SHARES * missed.sum::<f64>() + CONTRAST * hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbors_take_different_swatches() {
        // Things 0 and 1 are neighbors, and a little nearer to swatch 0. Thing 2 is nearer to swatch 1.
        let choose = |borders: Vec<(usize, usize, f64)>| {
            let (costs, masses) = (vec![vec![0.0, 0.01], vec![0.0, 0.01], vec![0.01, 0.0]], vec![1.0 / 3.0; 3]);
            let (shares, alike) = (vec![2.0 / 3.0, 1.0 / 3.0], vec![vec![1.0, 0.0], vec![0.0, 1.0]]);
            Choice { costs, masses, shares, borders, alike }.best()
        };
        assert_eq!(choose(Vec::new()), [0, 0, 1]);
        let chosen = choose(vec![(0, 1, 1.0)]);
        assert!(chosen[0] != chosen[1] && chosen[2] == 0, "{chosen:?}");
    }
}
