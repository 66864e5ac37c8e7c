//! [`SmoothedEnergy`]: pictures with more structure, by guidance away from a prediction with blurred self-attention.

use super::away::Away;
use super::changed_attention::{self, Sites};
use crate::attention::{At, AttentionSite};
use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Setup};
use crate::recipe::{Function, Recipe};
use crate::window::Window;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::Tensor;

/// Smoothed-energy guidance: x0 + s · (cond − smoothed), where cond is the prompt's prediction. The smoothed prediction
/// is made in the same way, except that the queries of the chosen [`sites`](Self::sites) of self-attention are blurred
/// over the cells. Without a [`blur`](Self::blur), every cell has the mean of all queries.
///
/// The method is close to [`PerturbedAttention`](super::PerturbedAttention), and costs one more branch per step, too.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::Pipeline;
/// use impasto::methods::SmoothedEnergy;
/// let pipeline = Pipeline::builder().guide(SmoothedEnergy::new(3.0).blur(2.0)).build()?;
/// let output = pipeline.request("a red boat, blue sky").seed(7).steps(4).run()?;
/// # Ok(()) }
/// ```
///
/// Source: Hong (2024), "Smoothed Energy Guidance: Guiding Diffusion Models with Reduced Energy Curvature of Attention"
/// (arXiv 2408.00760), and its code. diffusers' `SmoothedEnergyGuidance` blurs only where the code takes the mean, and
/// takes the mean where the code blurs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct SmoothedEnergy {
    scale: f64,
    blur: Option<f64>,
    window: Window,
    #[serde(default)]
    sites: Option<Sites>,
}

impl SmoothedEnergy {
    /// Creates the method with `scale`, the factor s, 0..=30; 3 is usual, and 0 changes nothing.
    pub const fn new(scale: f64) -> Self {
        Self { scale, blur: None, window: Window::WHOLE, sites: None }
    }

    /// Blurs the queries by a Gaussian of this standard deviation, in cells of the attention site, 0.1..=1000. Default:
    /// the mean of all queries, which is the strongest blur.
    pub fn blur(mut self, cells: f64) -> Self {
        self.blur = Some(cells);
        self
    }

    /// Acts only in this window; outside of the window the smoothed branch is not evaluated. Default: the whole run.
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Smooths the self-attention sites that `select` accepts. Default: the self-attention sites of the middle block,
    /// or in a transformer those of the middle one of the layers that have self-attention.
    pub fn sites(mut self, select: impl Fn(&AttentionSite) -> bool + Send + Sync + 'static) -> Self {
        self.sites = Some(Function(Arc::new(select)));
        self
    }

    const fn away(&self) -> Away {
        Away { scale: self.scale, window: self.window }
    }
}

/// Computes the attention of blurred queries.
fn attend_blurred(at: &At<'_>, blur: Option<f64>) -> Result<Option<Tensor>> {
    let q = at.query();
    let (n, heads, cells, d) = q.size4()?;
    let Some(blur) = blur else {
        return at.attend_from(&q.f_mean_dim([2i64].as_slice(), true, q.kind())?.f_expand_as(q)?);
    };
    if cells != at.grid.cells() {
        return Ok(None);
    }
    // The blur of rows and the blur of columns are matrices, [h, h] and [w, w].
    let [rows, columns] = [at.grid.h, at.grid.w].map(|side| -> Result<Tensor> {
        let matrix = Tensor::f_from_slice(&gaussian(side as usize, blur))?.f_reshape([side, side])?;
        Ok(matrix.f_to_kind(q.kind())?.f_to_device(q.device())?)
    });
    let q = rows?.f_matmul(&q.f_reshape([n * heads, at.grid.h, at.grid.w * d])?)?;
    let q = columns?.f_matmul(&q.f_reshape([n * heads * at.grid.h, at.grid.w, d])?)?;
    at.attend_from(&q.f_reshape([n, heads, cells, d])?)
}

/// The matrix of a Gaussian blur of `side` cells, row by row. Cells are reflected at both ends. The kernel reaches
/// three standard deviations, but at most half the side.
fn gaussian(side: usize, deviation: f64) -> Vec<f64> {
    let reach = ((6.0 * deviation).ceil() as usize / 2).min(side / 2);
    let weight = |far: usize| (-0.5 * (far as f64 / deviation).powi(2)).exp();
    let total: f64 = weight(0) + 2.0 * (1..=reach).map(weight).sum::<f64>();
    let last = side.saturating_sub(1);
    let mut matrix = vec![0.0; side * side];
    for (cell, row) in matrix.chunks_mut(side.max(1)).enumerate() {
        for far in 0..=reach {
            let below = cell.abs_diff(far);
            let above = if cell + far > last { (2 * last).abs_diff(cell + far) } else { cell + far };
            let sides: &[usize] = if far == 0 { &[below] } else { &[below, above] };
            for at in sides {
                if let Some(place) = row.get_mut(*at) {
                    *place += weight(far) / total;
                }
            }
        }
    }
    matrix
}

impl Guidance for SmoothedEnergy {
    fn check(&self) -> Result<()> {
        if let Some(blur) = self.blur.filter(|blur| !(0.1..=1000.0).contains(blur)) {
            let expected = "0.1..=1000 cells; without a blur, the mean of all queries is used";
            return Err(Error::parameter("SmoothedEnergy::blur", blur, expected));
        }
        self.away().check()
    }

    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        let blur = self.blur;
        changed_attention::begin(self.away(), self.sites.as_ref(), setup, "smoothed energy", move |at| {
            attend_blurred(at, blur)
        })
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("SmoothedEnergy", self)
    }

    fn name(&self) -> &'static str {
        "SmoothedEnergy"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn blur_is_that_of_the_reference() {
        let golden: Value = crate::json::parse(include_str!("../../tests/golden/specs/seg.json")).unwrap();
        let numbers = |value: &Value| -> Vec<f64> {
            value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
        };
        for case in golden.as_array().unwrap() {
            let (side, deviation) = (case["side"].as_i64().unwrap(), case["deviation"].as_f64().unwrap());
            let matrix = Tensor::from_slice(&gaussian(side as usize, deviation)).reshape([side, side]);
            let of = |name: &str| Tensor::from_slice(&numbers(&case[name])).reshape([side, side]);
            let got = matrix.matmul(&of("cells")).matmul(&matrix.transpose(0, 1));
            assert!(got.allclose(&of("blurred"), 1e-6, 1e-6, false), "{side} cells, {deviation}");
        }
    }

    #[test]
    fn wrong_blur_is_an_error() {
        for blur in [0.0, -1.0, f64::NAN, 1e9] {
            let error = SmoothedEnergy::new(3.0).blur(blur).check().unwrap_err().to_string();
            assert!(error.starts_with("SmoothedEnergy::blur is"), "{error}");
        }
        assert!(SmoothedEnergy::new(-1.0).check().is_err());
    }
}
