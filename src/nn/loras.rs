//! LoRAs beside the weights, in one call of a network: their strengths and places, and what they add to a layer.

use super::kernels::{self, Conv};
use crate::attention::repeated;
use crate::error::Result;
use crate::step::Grid;
use crate::weights::{Factors, Weight};
use std::cell::RefCell;
use std::mem;
use tch::{Kind, Tensor};

/// A LoRA that acts in a call of a network.
#[derive(Debug)]
pub(crate) struct Acting {
    /// Index of the LoRA among those of the network.
    pub lora: usize,
    pub strength: f64,
    /// The cells in which the LoRA acts; `None`: all cells.
    pub place: Option<Place>,
}

/// Shares of the cells in which a LoRA acts, [1 or n, 1, h, w] for each level of a network.
#[derive(Debug)]
pub(crate) struct Place(Vec<Tensor>);

impl Place {
    /// Creates a place from shares of the latent's cells, [1 or n, 1, h, w], for a network of `levels` levels.
    pub(crate) fn new(shares: &Tensor, levels: u32) -> Result<Self> {
        let (_, _, h, w) = shares.size4()?;
        let shares = shares.f_to_kind(Kind::Float)?;
        let level = |halvings| -> Result<Tensor> {
            let Grid { h, w } = Grid::new(h, w).halved(halvings);
            Ok(shares.f_adaptive_avg_pool2d([h, w])?)
        };
        (0..levels).map(level).collect::<Result<_>>().map(Self)
    }

    /// Returns the shares for `cells` cells, [1 or n, cells, 1]; `None` if no level has as many.
    fn of_cells(&self, cells: i64) -> Result<Option<Tensor>> {
        let level = self.0.iter().find(|level| level.size().iter().skip(2).product::<i64>() == cells);
        Ok(level.map(|level| level.f_flatten(2, 3)?.f_transpose(1, 2)).transpose()?)
    }

    /// Returns the shares for a picture of `sides`, [1 or n, 1, h, w]; `None` if no level has these sides.
    fn of_picture(&self, sides: &[i64]) -> Option<&Tensor> {
        self.0.iter().find(|level| level.size().get(2..) == Some(sides))
    }
}

thread_local! {
    /// The LoRAs that act in the layers of this thread. Networks are called on one thread, and their layers have no
    /// other way to learn about the run.
    static ACTING: RefCell<Vec<Acting>> = const { RefCell::new(Vec::new()) };
}

/// Resets the LoRAs when a call of a network ends, also by an error.
struct Reset(Vec<Acting>);

impl Drop for Reset {
    fn drop(&mut self) {
        ACTING.set(mem::take(&mut self.0));
    }
}

/// Calls `compute`, whose layers compute these LoRAs beside their weights.
pub(crate) fn within<T>(acting: Vec<Acting>, compute: impl FnOnce() -> T) -> T {
    let _reset = Reset(ACTING.replace(acting));
    compute()
}

/// Returns true if a LoRA acts in a place of the picture.
pub(crate) fn act_in_places() -> bool {
    ACTING.with_borrow(|all| all.iter().any(|acting| acting.place.is_some()))
}

/// Returns true if a LoRA acts on a layer of this weight.
pub(super) fn act_on(weight: &Weight) -> bool {
    !weight.loras().is_empty()
        && ACTING
            .with_borrow(|all| all.iter().any(|acting| weight.loras().iter().any(|(lora, _)| *lora == acting.lora)))
}

/// Calls `add` with every LoRA that acts on a layer of this weight, and with its factors.
fn each(weight: &Weight, mut y: Tensor, add: impl Fn(Tensor, &Acting, &Factors) -> Result<Tensor>) -> Result<Tensor> {
    if weight.loras().is_empty() {
        return Ok(y);
    }
    ACTING.with_borrow(|all| {
        for acting in all {
            for (_, factors) in weight.loras().iter().filter(|(lora, _)| *lora == acting.lora) {
                y = add(y, acting, factors)?;
            }
        }
        Ok(y)
    })
}

/// Adds the LoRAs of a linear layer of cells `x`, [b, cells, inputs], to its result `y`. A LoRA with a place acts on
/// cells alone, so it leaves other rows, such as those of a time embedding, as they are.
pub(super) fn onto_cells(y: Tensor, x: &Tensor, weight: &Weight) -> Result<Tensor> {
    each(weight, y, |y, Acting { strength, place, .. }, factors| {
        let Some(place) = place else { return onto_rows(y, x, factors, *strength, None) };
        let shares = match x.size().as_slice() {
            &[_, cells, _] => place.of_cells(cells)?,
            _ => None,
        };
        match shares {
            Some(shares) => onto_rows(y, x, factors, *strength, Some(&shares)),
            None => Ok(y),
        }
    })
}

/// Adds the LoRAs without a place of a linear layer of a prompt's tokens `x`, [b, tokens, inputs], to its result `y`.
pub(super) fn onto_prompt(y: Tensor, x: &Tensor, weight: &Weight) -> Result<Tensor> {
    each(weight, y, |y, Acting { strength, place, .. }, factors| match place {
        Some(_) => Ok(y),
        None => onto_rows(y, x, factors, *strength, None),
    })
}

/// Adds the LoRAs of a convolution of the picture `x`, [b, inputs, h, w], to its result `y`.
pub(super) fn onto_picture(y: Tensor, x: &Tensor, weight: &Weight, conv: Conv) -> Result<Tensor> {
    each(weight, y, |mut y, Acting { strength, place, .. }, Factors { down, up, ratio }| {
        let mut hidden = kernels::conv2d(x, down.as_ref().unwrap_or(up), None, conv)?;
        hidden = hidden.f_mul_scalar_(strength * ratio)?;
        if let Some(place) = place {
            let sides = hidden.size();
            let Some(shares) = sides.get(2..).and_then(|sides| place.of_picture(sides)) else { return Ok(y) };
            hidden = times(hidden, shares)?;
        }
        match down {
            Some(_) => kernels::conv2d_onto(y, &hidden, up, None, Conv::CELL),
            None => Ok(y.f_add_(&hidden)?),
        }
    })
}

/// One LoRA with a place that changes keys or values of a prompt.
pub(super) struct Placed {
    /// Shares of the cells, [1 or n, cells, 1].
    pub shares: Tensor,
    index: usize,
}

/// Returns the LoRAs with a place that act on layers of these weights, for a picture of `cells` cells.
pub(super) fn find_placed(weights: [&Weight; 2], cells: i64) -> Result<Vec<Placed>> {
    if weights.iter().all(|weight| weight.loras().is_empty()) {
        return Ok(Vec::new());
    }
    ACTING.with_borrow(|all| {
        let mut found = Vec::new();
        for (index, acting) in all.iter().enumerate() {
            let changes = weights.iter().any(|weight| weight.loras().iter().any(|(lora, _)| *lora == acting.lora));
            let Some(place) = acting.place.as_ref().filter(|_| changes) else { continue };
            if let Some(shares) = place.of_cells(cells)? {
                found.push(Placed { shares, index });
            }
        }
        Ok(found)
    })
}

impl Placed {
    /// Adds this LoRA to the result `y` of a linear layer of a prompt's tokens `x`, as if it acted everywhere.
    pub(super) fn onto_prompt(&self, mut y: Tensor, x: &Tensor, weight: &Weight) -> Result<Tensor> {
        ACTING.with_borrow(|all| {
            let Some(acting) = all.get(self.index) else { return Ok(y) };
            for (_, factors) in weight.loras().iter().filter(|(lora, _)| *lora == acting.lora) {
                y = onto_rows(y, x, factors, acting.strength, None)?;
            }
            Ok(y)
        })
    }
}

/// Adds strength · ratio · shares · up·(down·x) to `y`, [.., outputs].
fn onto_rows(mut y: Tensor, x: &Tensor, factors: &Factors, strength: f64, shares: Option<&Tensor>) -> Result<Tensor> {
    let Factors { down, up, ratio } = factors;
    let mut hidden = kernels::linear(x, down.as_ref().unwrap_or(up), None)?.f_mul_scalar(strength * ratio)?;
    if let Some(shares) = shares {
        hidden = times(hidden, shares)?;
    }
    match down {
        Some(_) => kernels::linear_onto(y, &hidden, up, None),
        None => Ok(y.f_add_(&hidden)?),
    }
}

/// Multiplies `x`, [b, ..], by shares, [1 or n, ..], whose rows repeat.
pub(super) fn times(x: Tensor, shares: &Tensor) -> Result<Tensor> {
    let shares = shares.f_to_device(x.device())?.f_to_kind(x.f_kind()?)?;
    match shares.size().first() {
        Some(1) => Ok(x.f_mul(&shares)?),
        _ => Ok(x.f_mul(&repeated(&shares, x.size().first().copied().unwrap_or_default())?)?),
    }
}
