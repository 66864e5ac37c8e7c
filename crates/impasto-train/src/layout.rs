//! [`Layouts`]: the classes in the patches of drawings, which a network learns to tell.

use super::dataset::{Class, Dataset};
use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Place};
use impasto::{Branch, Result};
use ndarray::Array2;
use std::panic::resume_unwind;
use tch::{Kind, Tensor};

/// Number of classes.
const CLASSES: usize = Class::ALL.len();
/// Side of a patch in pixels: two cells of a latent, which are a token of a transformer.
const PATCH: usize = 16;

/// The share of each class in each patch of many drawings. A patch has 16×16 pixels.
#[derive(Debug)]
pub(super) struct Layouts {
    /// Shares in 255ths: drawings, patches row by row, classes.
    shares: Vec<u8>,
    /// Number of patches along each side of a drawing.
    side: usize,
}

impl Layouts {
    /// Draws the masks of the seeds 0..`count` and measures the shares. All cores share the work.
    pub(super) fn draw(dataset: Dataset, count: u64) -> Result<Self> {
        let side = dataset.size() as usize / PATCH;
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let part = count.div_ceil(cores).max(1);
        let starts = (0..count).step_by(part as usize);
        std::thread::scope(|scope| {
            let threads: Vec<_> = starts
                .map(|start| {
                    let own = start..(start + part).min(count);
                    scope.spawn(move || -> Result<Vec<u8>> {
                        let mut shares = Vec::new();
                        for seed in own {
                            shares.extend(measure(&dataset.draw(seed)?.mask));
                        }
                        Ok(shares)
                    })
                })
                .collect();
            // A panic of a thread continues in the caller.
            let parts = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            Ok(Self { shares: parts.collect::<Result<Vec<_>>>()?.concat(), side })
        })
    }

    /// Returns the shares in patches of drawings, by index, [n, patches, classes] f32. Indices wrap around.
    pub(super) fn batch(&self, indices: &[usize]) -> Result<Tensor> {
        let values: Vec<u8> = indices.iter().flat_map(|&index| self.of(index).iter().copied()).collect();
        let shape = [indices.len() as i64, (self.side * self.side) as i64, CLASSES as i64];
        Ok(Tensor::f_from_slice(&values)?.f_view(shape)?.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?)
    }

    /// Returns true if a drawing shows something of the class. Indices wrap around.
    pub(super) fn shows(&self, index: usize, class: Class) -> bool {
        self.of(index).iter().skip(class.index().into()).step_by(CLASSES).any(|share| *share > 0)
    }

    fn of(&self, index: usize) -> &[u8] {
        let size = self.side * self.side * CLASSES;
        let index = index % (self.shares.len() / size.max(1)).max(1);
        self.shares.get(index * size..(index + 1) * size).unwrap_or_default()
    }
}

/// Returns the shares of the classes in the patches of a mask, in 255ths.
fn measure(mask: &Array2<u8>) -> Vec<u8> {
    let mut counts = Vec::new();
    for patch in mask.exact_chunks((PATCH, PATCH)) {
        let mut own = [0usize; CLASSES];
        for class in patch {
            if let Some(count) = own.get_mut(usize::from(*class)) {
                *count += 1;
            }
        }
        counts.extend(own);
    }
    counts.into_iter().map(|count| (count * 255 / (PATCH * PATCH)) as u8).collect()
}

/// Returns the shares of objects and hair bows together, [n, 1, side, side], of the shares of [`Layouts::batch`].
pub(super) fn of_things(shares: &Tensor) -> Result<Tensor> {
    let things: Vec<_> = Class::OBJECTS.iter().chain([&Class::HairBow]).map(|class| i64::from(class.index())).collect();
    let each = shares.f_index_select(2, &Tensor::f_from_slice(&things)?)?;
    let (n, patches, _) = each.size3()?;
    let side = patches.isqrt();
    Ok(each.f_sum_dim_intlist([2i64].as_slice(), false, Kind::Float)?.f_view([n, 1, side, side])?)
}

/// Hook that keeps the queries of the cross-attention of one block.
#[derive(Debug)]
pub(super) struct Queries {
    block: usize,
    kept: Option<Tensor>,
}

impl CrossAttentionHook for Queries {
    fn interest(&self, site: &AttentionSite, _: Branch) -> Interest {
        if site.is_cross() && site.place == Place::Layer(self.block) { Interest::OUTPUT } else { Interest::NONE }
    }

    fn output(&mut self, at: &At<'_>, _: &mut Tensor) -> Result<()> {
        self.kept = Some(at.query().shallow_clone());
        Ok(())
    }
}

impl Queries {
    /// Creates a hook for a network of `blocks` blocks: for the fourth block of eight. Deeper blocks have details to
    /// settle.
    pub(super) const fn of(blocks: i64) -> Self {
        Self { block: (blocks * 3 / 8) as usize, kept: None }
    }

    /// Returns the cross-entropy of the classes that a linear layer tells from the queries, for the shares of
    /// [`Layouts::batch`]; `None` if the network has no such block.
    pub(super) fn cross_entropy(&self, weight: &Tensor, bias: &Tensor, shares: &Tensor) -> Result<Option<Tensor>> {
        let Some(queries) = &self.kept else { return Ok(None) };
        let tokens = queries.f_transpose(1, 2)?.f_flatten(2, 3)?.f_to_kind(Kind::Float)?;
        let told = tokens.f_linear(weight, Some(bias))?.f_log_softmax(-1, Kind::Float)?;
        let each = told.f_mul(shares)?.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)?;
        Ok(Some(each.f_mean(Kind::Float)?.f_neg()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_masks() -> Result<()> {
        let dataset = Dataset::new(64)?;
        let layouts = Layouts::draw(dataset, 5)?;
        let shares = layouts.batch(&[3, 4, 8])?;
        assert_eq!(shares.size(), [3, 16, 20]);
        assert_eq!(shares.get(0), shares.get(2), "indices wrap around");
        let mask = dataset.draw(3)?.mask;
        for class in Class::ALL {
            let count = mask.iter().filter(|index| **index == class.index()).count();
            let share = shares.get(0).select(1, class.index().into()).mean(Kind::Float).double_value(&[]);
            assert!((share - count as f64 / 4096.0).abs() < 0.005, "{class}: {share} {count}");
            assert_eq!(layouts.shows(3, class), share > 0.0, "{class}");
        }
        let last = dataset.draw(4)?.mask;
        let corner = last.indexed_iter().filter(|((y, x), class)| *y >= 48 && *x >= 48 && **class == 9).count();
        let share = shares.get(1).get(15).get(9).double_value(&[]);
        assert!((share - corner as f64 / 256.0).abs() < 0.005, "ground in the last patch: {share} {corner}");
        Ok(())
    }

    #[test]
    fn things_are_objects_and_bows() -> Result<()> {
        let mut shares = vec![0.0f32; 2 * 4 * CLASSES];
        for (patch, class, share) in
            [(1, Class::Car, 0.5), (1, Class::Moon, 0.25), (2, Class::Sky, 1.0), (7, Class::HairBow, 0.75)]
        {
            shares[patch * CLASSES + usize::from(class.index())] = share;
        }
        let things = of_things(&Tensor::f_from_slice(&shares)?.f_view([2, 4, CLASSES as i64])?)?;
        assert_eq!(things.size(), [2, 1, 2, 2]);
        assert_eq!(Vec::<f32>::try_from(things.flatten(0, -1))?, [0.0, 0.75, 0.0, 0.0, 0.0, 0.0, 0.0, 0.75]);
        Ok(())
    }

    #[test]
    fn cross_entropy_is_least_for_told_classes() -> Result<()> {
        let told = |query: &[f32]| -> Result<f64> {
            let kept = Some(Tensor::f_from_slice(query)?.f_view([1, 2, 1, 1])?);
            let [weight, bias] = [Tensor::from_slice2(&[[9.0f32, 0.0], [0.0, 9.0]]), Tensor::from_slice(&[0f32; 2])];
            let shares = Tensor::from_slice(&[0.0f32, 1.0]).view([1, 1, 2]);
            let entropy = Queries { block: 0, kept }.cross_entropy(&weight, &bias, &shares)?;
            Ok(entropy.map_or(f64::NAN, |entropy| entropy.double_value(&[])))
        };
        assert!(told(&[0.0, 1.0])? < 1e-3);
        assert!((told(&[0.0, 0.0])? - 2f64.ln()).abs() < 1e-6);
        assert!(told(&[1.0, 0.0])? > 8.0);
        assert!(Queries::of(8).cross_entropy(&Tensor::new(), &Tensor::new(), &Tensor::new())?.is_none());
        Ok(())
    }
}
