//! The network of the evaluator: it finds the parts in pictures of the embedded model.
//!
//! It was trained on drawn pictures (`docs/tiny-model.md`) and knows nothing of the crate, nor of what was asked. The tests of
//! the crate look through it too, so nothing here knows the yardstick.

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use tch::{Kind, TchError, Tensor};

/// What it tells apart, in the order of its logits.
pub const CLASSES: [&str; 20] = [
    "background",
    "skin",
    "hair",
    "eyes",
    "hair bow",
    "mouth",
    "shirt",
    "detail",
    "sky",
    "ground",
    "house",
    "tree",
    "boat",
    "star",
    "fish",
    "flower",
    "moon",
    "sun",
    "car",
    "cup",
];

/// The weights by name.
pub struct Network(HashMap<String, Tensor>);

impl Network {
    /// Side of the pictures that it was trained on; larger ones are to be made as small.
    pub const SIDE: i64 = 128;

    /// Where the repository has the weights.
    pub fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/evaluator/evaluator.safetensors")
    }

    pub fn open() -> Result<Self, Box<dyn Error + Send + Sync>> {
        let path = Self::path();
        if !path.exists() {
            return Err(format!(
                "{}: the judge's weights are not there; they are test data of the repository and no part of the package, \
                 so run this in a clone of the repository, or name another judge",
                path.display()
            )
            .into());
        }
        let single = |(name, x): (String, Tensor)| Ok::<_, TchError>((name, x.f_to_kind(Kind::Float)?));
        Ok(Self(Tensor::read_safetensors(path)?.into_iter().map(single).collect::<Result<_, _>>()?))
    }

    /// Logits, [1, classes, 64, 64], of a picture in -1..=1, [1, 3, 128, 128].
    pub fn logits(&self, x: &Tensor) -> Result<Tensor, Box<dyn Error + Send + Sync>> {
        let block = |name: &str, x: &Tensor, stride| {
            Ok::<_, Box<dyn Error + Send + Sync>>(self.conv(name, x, stride)?.f_relu()?)
        };
        let down = |n: usize, x: &Tensor| block(&format!("e{n}b"), &block(&format!("e{n}"), x, 2)?, 1);
        let x1 = down(1, x)?;
        let x2 = down(2, &x1)?;
        let x3 = down(3, &x2)?;
        let mut y = down(4, &x3)?;
        for (name, beside) in [("d3", &x3), ("d2", &x2), ("d1", &x1)] {
            let (h, w) = (beside.size()[2], beside.size()[3]);
            y = block(name, &Tensor::f_cat(&[&y.f_upsample_nearest2d([h, w], None, None)?, beside], 1)?, 1)?;
        }
        self.conv("out", &y, 1)
    }

    fn conv(&self, name: &str, x: &Tensor, stride: i64) -> Result<Tensor, Box<dyn Error + Send + Sync>> {
        let tensor = |name: String| self.0.get(&name).ok_or_else(|| format!("the judge's weights have no {name}"));
        let (weight, bias) = (tensor(format!("{name}.weight"))?, tensor(format!("{name}.bias"))?);
        let padding = weight.size()[3] / 2;
        Ok(x.f_conv2d(weight, Some(bias), [stride, stride], [padding, padding], [1, 1], 1)?)
    }
}
