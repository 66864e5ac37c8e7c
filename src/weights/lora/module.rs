//! [`Module`]: the tensors of a LoRA file that change one layer, and the change that they make.

use crate::error::Result;
use tch::{Kind, Tensor};

/// Parts of tensor names that only unsupported algorithms have, and the names of these algorithms.
const UNSUPPORTED: [(&str, &str); 8] = [
    (".hada_", "LoHa"),
    (".lokr_", "LoKr"),
    (".dora_scale", "DoRA"),
    (".lora_magnitude_vector", "DoRA"),
    (".oft_", "OFT"),
    (".on_input", "IA3"),
    (".a1.weight", "GLoRA"),
    (".b1.weight", "GLoRA"),
];

/// Returns the unsupported algorithm that a tensor of this name belongs to; `None` if there is none.
pub(in crate::weights) fn unsupported(name: &str) -> Option<&'static str> {
    UNSUPPORTED.iter().find(|(part, _)| name.contains(part)).map(|(_, algorithm)| *algorithm)
}

/// Returns true if only a LoRA or a related adapter has a tensor of this name.
pub(in crate::weights) fn adapts(name: &str) -> bool {
    unsupported(name).is_some() || (split(name).is_some() && !name.ends_with(".alpha"))
}

/// A function that selects the place of a tensor among the pieces of a module.
pub(super) type Piece = fn(&mut Pieces) -> &mut Option<Tensor>;

/// Endings of the tensor names of a module, each with the tensor's place.
const ENDS: [(&str, Piece); 14] = [
    (".lora_down.weight", |pieces| &mut pieces.down),
    (".lora_up.weight", |pieces| &mut pieces.up),
    (".lora_mid.weight", |pieces| &mut pieces.mid),
    (".lora.down.weight", |pieces| &mut pieces.down),
    (".lora.up.weight", |pieces| &mut pieces.up),
    (".lora_linear_layer.down.weight", |pieces| &mut pieces.down),
    (".lora_linear_layer.up.weight", |pieces| &mut pieces.up),
    ("_lora.down.weight", |pieces| &mut pieces.down),
    ("_lora.up.weight", |pieces| &mut pieces.up),
    (".alpha", |pieces| &mut pieces.alpha),
    (".diff", |pieces| &mut pieces.diff),
    (".diff_b", |pieces| &mut pieces.diff_b),
    // Norms have their own endings for the same differences.
    (".w_norm", |pieces| &mut pieces.diff),
    (".b_norm", |pieces| &mut pieces.diff_b),
];

/// PEFT's names of the two matrices. The adapter's name may follow: `….lora_A.default.weight`.
const PEFT: [(&str, Piece); 2] = [(".lora_A.", |pieces| &mut pieces.down), (".lora_B.", |pieces| &mut pieces.up)];

/// Splits a tensor's name into the name of its module and the tensor's place; `None` if no supported form of LoRA has
/// such a tensor.
pub(super) fn split(name: &str) -> Option<(&str, Piece)> {
    let peft = |(letter, piece): &(&str, Piece)| {
        let (module, rest) = name.split_once(letter)?;
        (rest == "weight" || rest.ends_with(".weight")).then_some((module, *piece))
    };
    let end = |(end, piece): &(&str, Piece)| Some((name.strip_suffix(end)?, *piece));
    PEFT.iter().find_map(peft).or_else(|| ENDS.iter().find_map(end))
}

/// The tensors of a module, while a file is read.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    down: Option<Tensor>,
    up: Option<Tensor>,
    mid: Option<Tensor>,
    alpha: Option<Tensor>,
    diff: Option<Tensor>,
    diff_b: Option<Tensor>,
}

/// The changes of one layer.
#[derive(Debug)]
pub(super) struct Module {
    /// Change of the weight.
    pub delta: Option<Delta>,
    /// Difference of the bias.
    pub bias: Option<Tensor>,
    /// The α of the file, for a change of low rank.
    pub alpha: Option<f64>,
}

/// A change of a layer's weight, as trained. Each algorithm has its own form.
#[derive(Debug)]
pub(super) enum Delta {
    /// LoRA and LoCon: up · down. With LoCon's middle matrix, Σ over p and q of up[o, p] · mid[p, q, y, x] ·
    /// down[q, i].
    LowRank { down: Tensor, mid: Option<Tensor>, up: Tensor },
    /// A difference of the whole weight.
    Full(Tensor),
}

/// A flaw of a module's tensors, as the end of a sentence about the module.
pub(super) type Flaw = &'static str;

impl Pieces {
    /// Puts the pieces together. Pieces that change nothing, such as one half of a pair, have a flaw.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch) only, such as out of memory.
    pub(super) fn assemble(self) -> Result<std::result::Result<Module, Flaw>> {
        let Self { down, up, mid, alpha, diff, diff_b } = self;
        let delta = match (down, up, diff) {
            (Some(down), Some(up), None) => Some(Delta::LowRank { down, mid, up }),
            (None, None, Some(diff)) => Some(Delta::Full(diff)),
            (None, None, None) if diff_b.is_some() => None,
            (Some(_), None, None) => return Ok(Err("has a down matrix, but no up matrix")),
            (None, Some(_), None) => return Ok(Err("has an up matrix, but no down matrix")),
            (None, None, None) => return Ok(Err("has neither a pair of matrices nor a difference")),
            _ => return Ok(Err("has both a matrix of low rank and a whole difference")),
        };
        let alpha = alpha.map(|alpha| alpha.f_sum(Kind::Double)?.f_double_value(&[])).transpose()?;
        Ok(Ok(Module { delta, bias: diff_b, alpha }))
    }
}

impl Delta {
    /// Returns the rank r by which α is divided; `None` for a change without α.
    pub(super) fn rank(&self) -> Option<i64> {
        match self {
            Self::LowRank { down, .. } => down.size().first().copied(),
            Self::Full(_) => None,
        }
    }

    /// Returns the number of inputs of the layer; `None` if the change is not one of a matrix or kernel.
    pub(super) fn inputs(&self) -> Option<i64> {
        let (Self::LowRank { down: x, .. } | Self::Full(x)) = self;
        x.size().get(1).copied()
    }

    /// Returns the shape of the change, without computing the change; `None` if the tensors do not fit together.
    pub(super) fn shape(&self) -> Option<Vec<i64>> {
        let (down, mid, up) = match self {
            Self::Full(diff) => return Some(diff.size()),
            Self::LowRank { down, mid, up } => (down.size(), mid.as_ref().map(Tensor::size), up.size()),
        };
        let (&[outputs, rank], Some((&first, inside))) = (bare(&up), down.split_first()) else { return None };
        match (mid.as_deref(), inside) {
            (None, [_, ..]) if rank == first => Some([&[outputs], inside].concat()),
            (Some(&[p, q, h, w]), [inputs, ..]) if p == rank && q == first && bare(&down).len() == 2 => {
                Some(vec![outputs, *inputs, h, w])
            }
            _ => None,
        }
    }

    /// Returns the change in f32 and without the factor α/r, as a tensor of `shape`, the change's own shape.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch), if the tensors do not fit together.
    pub(super) fn tensor(&self, shape: &[i64]) -> Result<Tensor> {
        let (down, mid, up) = match self {
            Self::Full(diff) => return Ok(diff.f_to_kind(Kind::Float)?),
            Self::LowRank { down, mid, up } => (down, mid, up),
        };
        let rows = |x: &Tensor| -> Result<Tensor> { Ok(x.f_to_kind(Kind::Float)?.f_flatten(1, -1)?) };
        let (up, down) = (rows(up)?, rows(down)?); // [o, p], [q, i·k·k]
        let Some(mid) = mid else { return Ok(up.f_matmul(&down)?.f_reshape(shape)?) };
        let mid = mid.f_to_kind(Kind::Float)?.f_permute([2, 3, 0, 1])?; // [h, w, p, q]
        // The smaller product comes first, so that no factor grows far beyond the file.
        let ((o, p), (q, i)) = (up.size2()?, down.size2()?);
        let change = match p.saturating_mul(i) <= o.saturating_mul(q) {
            true => up.f_matmul(&mid.f_matmul(&down)?)?,
            false => up.f_matmul(&mid)?.f_matmul(&down)?,
        }; // [h, w, o, i]
        Ok(change.f_permute([2, 3, 0, 1])?.f_reshape(shape)?)
    }
}

/// Returns [rows, columns] for a matrix that is stored as a 1×1 convolution; other shapes stay as they are.
pub(super) fn bare(shape: &[i64]) -> &[i64] {
    match shape {
        [_, _, ones @ ..] if ones.iter().all(|&size| size == 1) => shape.get(..2).unwrap_or(shape),
        _ => shape,
    }
}
