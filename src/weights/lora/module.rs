//! [`Module`]: the tensors of a LoRA file that change one layer, and the change that they make.

use super::delta::Delta;
use super::dora::Magnitude;
use super::glora::Glora;
use super::ia3::Ia3;
use super::loha::LoHa;
use super::lokr::{Half, LoKr};
use super::oft::Oft;
use super::piece::Piece;
use super::product::Product;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use tch::{Kind, Tensor};

/// An algorithm by which a module changes a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Algorithm {
    Lora,
    LoHa,
    LoKr,
    Full,
    Ia3,
    Oft,
    Boft,
    Glora,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lora => "LoRA",
            Self::LoHa => "LoHa",
            Self::LoKr => "LoKr",
            Self::Full => "full difference",
            Self::Ia3 => "IA3",
            Self::Oft => "OFT",
            Self::Boft => "BOFT",
            Self::Glora => "GLoRA",
        })
    }
}

/// The changes of one layer.
#[derive(Debug)]
pub(super) struct Module {
    pub algorithm: Algorithm,
    /// Change of the weight.
    pub delta: Option<Delta>,
    /// Trained lengths of the changed weight's rows or columns.
    pub magnitude: Option<Magnitude>,
    /// Difference of the bias.
    pub bias: Option<Tensor>,
    /// The α of the file, for a change of low rank.
    pub alpha: Option<f64>,
    /// Shapes of the module's tensors, for messages.
    pub shapes: Shapes,
}

/// Names and shapes of a module's tensors.
#[derive(Debug)]
pub(super) struct Shapes(Vec<(&'static str, Vec<i64>)>);

impl fmt::Display for Shapes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, shape)) in self.0.iter().enumerate() {
            write!(f, "{}{name} {shape:?}", if i > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// A flaw of a module's tensors, as the end of a sentence about the module.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The module changes nothing, such as one half of a pair of matrices. Some trainers save such modules.
    Empty(&'static str),
    /// The module lacks tensors, or has tensors that exclude each other.
    Broken(String),
}

/// Tensors of a module, by their place.
#[derive(Debug, Default)]
pub(super) struct Pieces(BTreeMap<Piece, Tensor>);

/// A result whose error is a flaw of a module.
type Checked<T> = std::result::Result<T, Flaw>;

impl Pieces {
    /// Puts a tensor in its place; returns false if the place is taken.
    pub(super) fn insert(&mut self, piece: Piece, x: Tensor) -> bool {
        self.0.insert(piece, x).is_none()
    }

    fn take(&mut self, piece: Piece) -> Option<Tensor> {
        self.0.remove(&piece)
    }

    /// Takes a tensor that the module must have.
    fn require(&mut self, piece: Piece) -> Checked<Tensor> {
        self.take(piece).ok_or_else(|| Flaw::Broken(format!("lacks the tensor {}", piece.name())))
    }

    /// Returns the algorithms to which the tensors belong.
    fn algorithms(&self) -> BTreeSet<Algorithm> {
        let algorithm = |(piece, x): (&Piece, &Tensor)| match piece {
            Piece::Down | Piece::Mid | Piece::Up => Some(Algorithm::Lora),
            Piece::HadaW1A | Piece::HadaW1B | Piece::HadaW2A | Piece::HadaW2B | Piece::HadaT1 | Piece::HadaT2 => {
                Some(Algorithm::LoHa)
            }
            Piece::LokrW1 | Piece::LokrW1A | Piece::LokrW1B => Some(Algorithm::LoKr),
            Piece::LokrW2 | Piece::LokrW2A | Piece::LokrW2B | Piece::LokrT2 => Some(Algorithm::LoKr),
            Piece::Diff => Some(Algorithm::Full),
            Piece::Scale | Piece::OnInput => Some(Algorithm::Ia3),
            Piece::OftBlocks => Some(if x.dim() == 4 { Algorithm::Boft } else { Algorithm::Oft }),
            Piece::GloraA1 | Piece::GloraA2 | Piece::GloraB1 | Piece::GloraB2 => Some(Algorithm::Glora),
            Piece::DiffOfBias | Piece::Rescale | Piece::DoraScale | Piece::MagnitudeVector | Piece::Alpha => None,
        };
        self.0.iter().filter_map(algorithm).collect()
    }

    /// Puts the pieces together.
    pub(super) fn assemble(mut self) -> Checked<Module> {
        let shapes = Shapes(self.0.iter().map(|(piece, x)| (piece.name(), x.size())).collect());
        let algorithms: Vec<Algorithm> = self.algorithms().into_iter().collect();
        let alpha = self.take(Piece::Alpha).map(|x| number(Piece::Alpha, &x)).transpose()?;
        let bias = self.take(Piece::DiffOfBias);
        let (algorithm, delta) = match *algorithms {
            [] if bias.is_some() => (Algorithm::Full, None),
            [] if self.0.is_empty() => return Err(Flaw::Empty("has neither a pair of matrices nor a difference")),
            [] => return Err(Flaw::Broken("has no change of a weight".into())),
            [algorithm] => (algorithm, Some(self.delta(algorithm, alpha)?)),
            [first, second, ..] => {
                return Err(Flaw::Broken(format!("has tensors of two algorithms, {first} and {second}")));
            }
        };
        let magnitude = match self.take(Piece::DoraScale) {
            Some(x) => Some(Magnitude::DoraScale(x)),
            None => self.take(Piece::MagnitudeVector).map(Magnitude::Vector),
        };
        match self.0.first_key_value() {
            Some((piece, _)) => {
                Err(Flaw::Broken(format!("has the tensor {} beside tensors that exclude it", piece.name())))
            }
            None if delta.is_none() && magnitude.is_some() => {
                Err(Flaw::Broken("has trained lengths (DoRA) without a change of the weight".into()))
            }
            None => Ok(Module { algorithm, delta, magnitude, bias, alpha, shapes }),
        }
    }

    /// Takes the tensors of one algorithm, and makes a change of them.
    fn delta(&mut self, algorithm: Algorithm, alpha: Option<f64>) -> Checked<Delta> {
        Ok(match algorithm {
            Algorithm::Lora => match (self.take(Piece::Down), self.take(Piece::Up)) {
                (Some(down), Some(up)) => Delta::LowRank(Product::new(up, self.take(Piece::Mid), down)),
                (Some(_), None) => return Err(Flaw::Empty("has a down matrix, but no up matrix")),
                (None, Some(_)) => return Err(Flaw::Empty("has an up matrix, but no down matrix")),
                (None, None) => return Err(Flaw::Broken("has a middle matrix, but no down and up matrix".into())),
            },
            Algorithm::LoHa => {
                let (first, second) = (self.take(Piece::HadaT1), self.take(Piece::HadaT2));
                if first.is_some() != second.is_some() {
                    return Err(Flaw::Broken("has only one of the tensors hada_t1 and hada_t2".into()));
                }
                let mut product = |rows, core, columns| -> Checked<Product> {
                    Ok(Product::of_lycoris(self.require(rows)?, core, self.require(columns)?))
                };
                Delta::LoHa(LoHa {
                    first: product(Piece::HadaW1A, first, Piece::HadaW1B)?,
                    second: product(Piece::HadaW2A, second, Piece::HadaW2B)?,
                })
            }
            Algorithm::LoKr => {
                let mut half = |whole, core, rows, columns| -> Checked<Half> {
                    Ok(match self.take(whole) {
                        Some(whole) => Half::Whole(whole), // its factors stay, and are then one tensor too many
                        None => {
                            let core = if core { self.take(Piece::LokrT2) } else { None };
                            Half::Product(Product::of_lycoris(self.require(rows)?, core, self.require(columns)?))
                        }
                    })
                };
                Delta::LoKr(LoKr {
                    first: half(Piece::LokrW1, false, Piece::LokrW1A, Piece::LokrW1B)?,
                    second: half(Piece::LokrW2, true, Piece::LokrW2A, Piece::LokrW2B)?,
                })
            }
            Algorithm::Full => Delta::Full(self.require(Piece::Diff)?),
            Algorithm::Ia3 => {
                let scale = self.require(Piece::Scale)?;
                let on_input = number(Piece::OnInput, &self.require(Piece::OnInput)?)? != 0.0;
                Delta::Ia3(Ia3 { scale, on_input })
            }
            Algorithm::Oft | Algorithm::Boft => Delta::Oft(Oft {
                blocks: self.require(Piece::OftBlocks)?,
                rescale: self.take(Piece::Rescale),
                constraint: alpha.unwrap_or_default(),
            }),
            Algorithm::Glora => Delta::Glora(Glora {
                a1: self.require(Piece::GloraA1)?,
                a2: self.require(Piece::GloraA2)?,
                b1: self.require(Piece::GloraB1)?,
                b2: self.require(Piece::GloraB2)?,
            }),
        })
    }
}

/// Returns the number that a tensor of one element holds.
fn number(piece: Piece, x: &Tensor) -> Checked<f64> {
    let name = piece.name();
    if x.numel() != 1 {
        return Err(Flaw::Broken(format!("has the tensor {name} of shape {:?}, which should be one number", x.size())));
    }
    let value = x.f_sum(Kind::Double).and_then(|sum| sum.f_double_value(&[]));
    let value = value.map_err(|error| Flaw::Broken(format!("has the tensor {name}, which cannot be read: {error}")))?;
    match value.is_finite() {
        true => Ok(value),
        false => Err(Flaw::Broken(format!("has the tensor {name} of value {value}, which should be a finite number"))),
    }
}
