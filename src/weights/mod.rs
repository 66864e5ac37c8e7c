//! Checkpoint files and the tensors in them.
//!
//! A file is read into [`Tensors`]. A network requests each tensor from [`Weights`] by name and shape, on the line of
//! the field that the tensor fills. Missing, misshapen and unused tensors are collected in one [`LoadReport`] at the
//! end; loading does not stop at the first problem.
//!
//! ```
//! use impasto::weights::{Tensors, Weights};
//! use tch::{Device, Kind, Tensor};
//!
//! let tensors = Tensors::from([("proj.weight".into(), Tensor::f_ones([2, 3], (Kind::Half, Device::Cpu))?)]);
//! let w = Weights::new("example", tensors, Kind::Float, Device::Cpu);
//! let weight = w.at("proj").tensor("weight", &[2, 3])?;       // converted to f32
//! let _bias = w.at("proj").tensor("bias", &[2])?;             // missing: returns zeros, and loading continues
//! assert!(w.finish().unwrap_err().to_string().contains("proj.bias [2]"));
//! # Ok::<(), impasto::Error>(())
//! ```

mod anima;
mod beside;
mod checkpoint;
mod embedding;
mod file;
#[cfg(feature = "hub")]
mod hub;
mod ip_adapter;
mod kernel_layout;
mod lora;
mod mapped;
mod names;
mod pickle;
mod random;
mod recognize;
mod report;
mod safetensors;
mod sd3;
mod shapes;
mod single;
mod source;
pub(crate) mod vocabulary;
mod weight;
mod z_image;

pub use crate::family::ModelFamily;
pub(crate) use beside::Factors;
pub use checkpoint::read_folder;
pub(crate) use checkpoint::{Checkpoint, Reading, way};
pub use embedding::Embedding;
pub use file::{Header, Parts, Stored, read_tensors};
#[cfg(feature = "hub")]
#[cfg_attr(docsrs, doc(cfg(feature = "hub")))]
pub use hub::{CachedModel, Download, Hub};
pub(crate) use ip_adapter::open_ip_adapter;
pub(crate) use kernel_layout::of_layer;
pub(crate) use lora::Unmerged;
pub use lora::{Lora, LoraSummary};
pub use mapped::Tensors;
pub use recognize::Contents;
pub use report::{LoadReport, Misshapen, Named};
pub use safetensors::{parse_safetensors, read_safetensors, write_safetensors};
pub use single::{Evidence, SingleFile};
pub use source::Source;
pub(crate) use weight::Weight;

use crate::error::{Error, Result, is_finite};
use kernel_layout::KernelLayout;
use std::cell::RefCell;
use std::fmt::Display;
use std::path::Path;
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

/// Number of missing tensors at which loading stops; SDXL's UNet, the largest network here, has 1,680 tensors.
const MOST_MISSING: usize = 4096;

/// A view of the tensors below a path, which records all requests. Cloning and [`Weights::at`] are cheap.
#[derive(Clone, Debug)]
#[must_use]
pub struct Weights {
    path: String,
    layout: KernelLayout,
    in_memory: bool,
    offload: bool,
    /// LoRAs that layers compute beside their weights.
    unmerged: Rc<Vec<Unmerged>>,
    store: Rc<Store>,
}

#[derive(Debug)]
struct Store {
    file: String,
    origin: Origin,
    kind: Kind,
    device: Device,
    asked: RefCell<Asked>,
}

#[derive(Debug)]
enum Origin {
    /// Tensors that were not requested yet. A requested tensor is removed, which releases its part of the mapped file
    /// once no other tensor needs it.
    Tensors(RefCell<Tensors>),
    Random(u64),
}

/// The use of a requested tensor, which decides its layout in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// The tensor is the matrix or kernel of a layer.
    Layer,
    /// The tensor is the matrix or kernel of a layer, and stays in the kind and on the device of its file.
    Offloaded,
    /// The tensor is used in another way.
    Tensor,
}

#[derive(Debug, Default)]
struct Asked {
    handed_out: Tensors,
    not_finite: Vec<String>,
    overflown: Vec<String>,
    missing: Vec<Named>,
    misshapen: Vec<Misshapen>,
}

impl Weights {
    /// Creates a view that hands out `tensors`, converted to `kind` and moved to `device`. Messages name `file` as the
    /// source of the tensors.
    pub fn new(file: impl Into<String>, tensors: Tensors, kind: Kind, device: Device) -> Self {
        Self::of(file.into(), Origin::Tensors(tensors.into()), kind, device)
    }

    /// Opens a file of weights; see [`read_tensors`].
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Malformed`] if the file is not a file of weights.
    pub fn open(path: &Path, kind: Kind, device: Device) -> Result<Self> {
        Ok(Self::new(path.display().to_string(), read_tensors(path)?, kind, device))
    }

    /// Creates random weights for any network, for benches and tests: every requested tensor exists. Matrices and
    /// kernels are nearly normally distributed with a standard deviation of 1/√fan_in, other weights (of norms) are 1,
    /// biases are 0. Equal seeds and names give equal values.
    pub fn random(seed: u64, kind: Kind, device: Device) -> Self {
        Self::of(format!("random weights (seed {seed})"), Origin::Random(seed), kind, device)
    }

    fn of(file: String, origin: Origin, kind: Kind, device: Device) -> Self {
        let store = Store { file, origin, kind, device, asked: RefCell::default() };
        Self {
            path: String::new(),
            layout: KernelLayout::Plain,
            in_memory: false,
            offload: false,
            unmerged: Rc::default(),
            store: Rc::new(store),
        }
    }

    /// Returns a view of the tensors below `name`: `w.at("resnets").at(0)`.
    pub fn at(&self, name: impl Display) -> Self {
        Self { path: self.full(name), ..self.clone() }
    }

    /// Returns a view that lays out the kernels of convolutions channels last, on a CPU only. Convolutions and norms
    /// then keep pictures in that layout too. The layout suits networks made of convolutions. In networks with
    /// attention on every level, changing the layout back and forth costs more time than the layout saves (measured:
    /// `docs/performance.md`). Such networks are small, and none of their weights is offloaded.
    pub(crate) fn channels_last(&self) -> Self {
        Self { layout: KernelLayout::ChannelsLast, offload: false, ..self.clone() }
    }

    /// Returns a view that copies each tensor when it is handed out, so that no tensor stays a view of a mapped file.
    /// Otherwise a program that writes into such a file would silently change the network.
    pub(crate) fn in_memory(&self) -> Self {
        Self { in_memory: true, ..self.clone() }
    }

    /// Returns a view whose layers leave their matrices and kernels in the file if `offload` is true, and convert each
    /// one at each use. Kernels are then not packed.
    pub(crate) fn offload(&self, offload: bool) -> Self {
        Self { offload, ..self.clone() }
    }

    /// Returns a view whose layers compute LoRAs beside their weights.
    pub(crate) fn beside(&self, loras: Vec<Unmerged>) -> Self {
        Self { unmerged: Rc::new(loras), ..self.clone() }
    }

    /// Returns the path of this view, such as `down_blocks.0`; empty at the root.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Returns the kind that tensors are converted to.
    pub fn kind(&self) -> Kind {
        self.store.kind
    }

    /// Returns the device that tensors are moved to.
    pub fn device(&self) -> Device {
        self.store.device
    }

    /// The error for a fault of the file that the tensors come from.
    pub(crate) fn fault(&self, problem: impl Into<String>) -> Error {
        Error::Malformed { file: self.store.file.clone(), problem: problem.into() }
    }

    /// Returns true if a tensor of this name exists, without requesting the tensor. Random weights always return false.
    pub(crate) fn has(&self, name: &str) -> bool {
        let name = self.full(name);
        match &self.store.origin {
            Origin::Tensors(left) => {
                left.borrow().contains_key(&name) || self.store.asked.borrow().handed_out.contains_key(&name)
            }
            Origin::Random(_) => false,
        }
    }

    /// Returns the shape of the tensor `name`, without requesting the tensor; `None` if [`has`](Self::has) is false.
    pub(crate) fn shape(&self, name: &str) -> Option<Vec<i64>> {
        let name = self.full(name);
        let Origin::Tensors(left) = &self.store.origin else { return None };
        let shape = |tensors: &Tensors| tensors.get(&name).map(Tensor::size);
        shape(&left.borrow()).or_else(|| shape(&self.store.asked.borrow().handed_out))
    }

    /// Requests the tensor `name` as `shape`, in this view's kind and on its device.
    ///
    /// A 1×1 convolution [o, i, 1, 1] and a matrix [o, i] are the same weights, and a request for one accepts the
    /// other. A tensor is recorded as a problem if it is missing, has another shape or holds no floating-point numbers.
    /// Zeros of `shape`, which share one number in memory, are then returned, and [`Weights::finish`] reports the
    /// problem.
    ///
    /// # Errors
    /// [`Error::Torch`], such as out of memory. [`Error::Weights`] once 4096 tensors are missing, because a
    /// configuration of a few hundred bytes can request millions of tensors, and each request takes time and memory.
    pub fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        self.requested(name, shape, Use::Tensor)
    }

    /// Requests the matrix or kernel `name` of a layer as `shape`; a view that [offloads](Self::offload) leaves it in
    /// its file.
    ///
    /// # Errors
    /// The errors of [`Weights::tensor`].
    pub(crate) fn weight(&self, name: &str, shape: &[i64]) -> Result<Weight> {
        let tensor = self.requested(name, shape, if self.offload { Use::Offloaded } else { Use::Layer })?;
        let weight = match self.offload {
            true => Weight::offload(tensor, self.kind(), self.device())?,
            false => Weight::held(tensor),
        };
        let own = self.unmerged.iter().enumerate().filter_map(|(lora, all)| Some((lora, all.layers.get(&self.path)?)));
        let placed = |(lora, factors): (usize, &Factors)| -> Result<(usize, Factors)> {
            Ok((lora, factors.of_layer(shape, self.kind(), self.device())?))
        };
        Ok(weight.beside(own.map(placed).collect::<Result<_>>()?))
    }

    /// Replaces the kernel `name` of a causal convolution over frames, [outputs, inputs, frames, h, w], by its last
    /// frame, [outputs, inputs, h, w]. Zeros precede the first frame of a video, so a picture meets no other frame.
    ///
    /// # Errors
    /// [`Error::Torch`] only.
    pub(crate) fn keep_last_frame(&self, name: &str) -> Result<()> {
        if let Origin::Tensors(left) = &self.store.origin
            && let Some(kernel) = left.borrow_mut().get_mut(&self.full(name))
            && let &[_, _, frames, _, _] = kernel.size().as_slice()
            && frames > 0
        {
            // A copy, so that the other frames do not stay in memory.
            *kernel = kernel.f_select(2, frames - 1)?.f_contiguous()?;
        }
        Ok(())
    }

    /// Requests a tensor for a use.
    fn requested(&self, name: &str, shape: &[i64], usage: Use) -> Result<Tensor> {
        let store = &*self.store;
        let name = self.full(name);
        let mut asked = store.asked.borrow_mut();
        let found = match &store.origin {
            Origin::Tensors(left) => left.borrow_mut().remove(&name),
            Origin::Random(seed) => Some(random::tensor(*seed, &name, shape)?),
        };
        // A repeated request gets the tensor of the first one.
        let Some(tensor) = found.or_else(|| asked.handed_out.get(&name).map(Tensor::shallow_clone)) else {
            asked.missing.push(Named { name, shape: shape.to_vec() });
            if asked.missing.len() >= MOST_MISSING {
                drop(asked);
                return Err(Error::Weights(Box::new(self.report())));
            }
            return self.placeholder(shape);
        };
        let (got, kind) = (tensor.size(), tensor.f_kind()?);
        if matrix(&got) != matrix(shape) || !is_float(kind) {
            asked.misshapen.push(Misshapen { name, expected: shape.to_vec(), got, kind });
            return self.placeholder(shape);
        }
        let reshaped = tensor.f_reshape(shape)?;
        let placed = match usage {
            Use::Layer => of_layer(&reshaped, store.kind, store.device)?,
            Use::Offloaded | Use::Tensor => reshaped.f_to_device(store.device)?.f_to_kind(store.kind)?,
        };
        if !is_finite(&placed)? {
            match is_finite(&tensor.f_to_kind(Kind::Double)?)? {
                true => asked.overflown.push(name.clone()),
                false => asked.not_finite.push(name.clone()),
            }
        }
        let mut given = if usage == Use::Offloaded { reshaped } else { placed };
        if self.in_memory && given.data_ptr() == tensor.data_ptr() {
            given = given.f_alias_copy()?;
        }
        given = match usage {
            Use::Layer if store.device == Device::Cpu && impasto_kernels::arranges(store.kind) => given,
            Use::Layer | Use::Tensor => self.layout.of(given, store.device)?,
            Use::Offloaded => given,
        };
        asked.handed_out.insert(name, given.shallow_clone());
        Ok(given)
    }

    /// Requests the tensor `name` if it exists; an absent tensor does not count as missing.
    ///
    /// # Errors
    /// The errors of [`Weights::tensor`].
    pub(crate) fn optional(&self, name: &str, shape: &[i64]) -> Result<Option<Tensor>> {
        if self.has(name) { self.tensor(name, shape).map(Some) } else { Ok(None) }
    }

    /// Returns the tensors that random weights have handed out so far, in the layout of files. Once a network is built,
    /// these are all of its tensors. Weights that are not random return none.
    ///
    /// # Errors
    /// [`Error::Torch`] only, such as out of memory.
    pub fn drawn(&self) -> Result<Tensors> {
        match self.store.origin {
            Origin::Tensors(_) => Ok(Tensors::new()),
            Origin::Random(_) => {
                self.hand_out().into_iter().map(|(name, tensor)| Ok((name, tensor.f_contiguous()?))).collect()
            }
        }
    }

    /// Returns shallow clones of all tensors handed out so far, in the kind and layout in which they were handed out.
    pub(crate) fn hand_out(&self) -> Tensors {
        share(&self.store.asked.borrow().handed_out)
    }

    /// Returns a report of the requests so far and of their problems.
    pub fn report(&self) -> LoadReport {
        let asked = self.store.asked.borrow();
        let unused = match &self.store.origin {
            Origin::Tensors(left) => left
                .borrow()
                .iter()
                .filter(|(name, _)| !is_leftover(name))
                .map(|(name, tensor)| Named { name: name.clone(), shape: tensor.size() })
                .collect(),
            Origin::Random(_) => Vec::new(),
        };
        LoadReport {
            file: self.store.file.clone(),
            loaded: asked.handed_out.len(),
            missing: asked.missing.clone(),
            misshapen: asked.misshapen.clone(),
            unused,
            not_finite: asked.not_finite.clone(),
            overflown: asked.overflown.clone(),
        }
    }

    /// Checks that every request was met. Networks call this method at the end of their constructors. Unused tensors
    /// are not an error.
    ///
    /// # Errors
    /// [`Error::Weights`] with the whole report if a tensor is missing, is misshapen, or holds numbers too large for
    /// the requested kind.
    pub fn finish(&self) -> Result<()> {
        {
            let asked = self.store.asked.borrow();
            if asked.missing.is_empty() && asked.misshapen.is_empty() && asked.overflown.is_empty() {
                return Ok(());
            }
        }
        Err(Error::Weights(Box::new(self.report())))
    }

    fn full(&self, name: impl Display) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }

    /// Returns zeros of `shape` that share one number in memory.
    fn placeholder(&self, shape: &[i64]) -> Result<Tensor> {
        Ok(Tensor::f_zeros([], (self.store.kind, self.store.device))?.f_expand(shape, false)?)
    }
}

/// Returns shallow clones of the tensors, which share their memory.
pub(crate) fn share(tensors: &Tensors) -> Tensors {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}

/// Returns true if checkpoints contain the tensor `name` although no network needs it.
fn is_leftover(name: &str) -> bool {
    const ENDS: [&str; 7] = [
        "position_ids",
        "logit_scale",
        "attn_mask",
        "lm_head.weight",              // a text encoder predicts no tokens
        "encoder.embed_tokens.weight", // T5's embedding once more
        "time_conv.weight",            // joins the frames of a video
        "time_conv.bias",
    ];
    ENDS.iter().any(|end| name.ends_with(end))
}

/// Reduces [o, i, 1, 1] and [o, i, 1] to [o, i]; keeps other shapes.
fn matrix(shape: &[i64]) -> &[i64] {
    match shape {
        [matrix @ .., 1, 1] | [matrix @ .., 1] if matrix.len() == 2 => matrix,
        other => other,
    }
}

const fn is_float(kind: Kind) -> bool {
    matches!(kind, Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double | Kind::Float8e5m2 | Kind::Float8e4m3fn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(tensors: &[(&str, &[i64], Kind)]) -> Weights {
        let tensors =
            tensors.iter().map(|(name, shape, kind)| ((*name).into(), Tensor::ones(*shape, (*kind, Device::Cpu))));
        Weights::new("test.safetensors", tensors.collect(), Kind::Float, Device::Cpu)
    }

    #[test]
    fn cell_convolution_and_matrix_are_interchangeable() -> Result<()> {
        let w = weights(&[("conv.weight", &[3, 2, 1, 1], Kind::Half), ("linear.weight", &[3, 2], Kind::BFloat16)]);
        let linear = w.at("conv").tensor("weight", &[3, 2])?;
        assert_eq!((linear.size(), linear.kind()), (vec![3, 2], Kind::Float));
        assert_eq!(w.at("linear").tensor("weight", &[3, 2, 1, 1])?.size(), [3, 2, 1, 1]);
        w.finish()
    }

    #[test]
    fn report_collects_all_problems() -> Result<()> {
        let w = weights(&[
            ("a.weight", &[3, 2], Kind::Float),
            ("b.weight", &[4], Kind::Int8),
            ("c.weight", &[4], Kind::Float),
            ("embeddings.position_ids", &[1, 77], Kind::Int64),
        ]);
        assert_eq!(w.at("a").tensor("weight", &[2, 3])?.size(), [2, 3]);
        let _ = w.at("b").tensor("weight", &[4])?;
        let _ = w.at("d").tensor("weight", &[4])?;
        assert!(w.at("e").optional("weight", &[4])?.is_none());
        let report = w.report();
        let names = |named: &[Named]| named.iter().map(|n| n.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&report.missing), ["d.weight"]);
        assert_eq!(names(&report.unused), ["c.weight"]);
        assert_eq!(report.misshapen.iter().map(|m| &*m.name).collect::<Vec<_>>(), ["a.weight", "b.weight"]);
        assert_eq!(report.loaded, 0);
        assert!(matches!(w.finish(), Err(Error::Weights(found)) if *found == report));
        Ok(())
    }

    #[test]
    fn nonfinite_weights_are_noted_overflow_is_an_error() -> Result<()> {
        let load = |value: f32, kind| -> Result<LoadReport> {
            let w =
                Weights::new("x", Tensors::from([("a".into(), Tensor::from_slice(&[1.0, value]))]), kind, Device::Cpu);
            let _ = w.tensor("a", &[2])?;
            let report = w.report();
            assert_eq!(w.finish().is_err(), !report.overflown.is_empty());
            Ok(report)
        };
        assert_eq!(load(f32::NAN, Kind::Float)?.not_finite, ["a"]);
        assert_eq!(load(f32::INFINITY, Kind::Half)?.not_finite, ["a"]);
        assert_eq!(load(f32::MAX, Kind::Float)?.not_finite, [""; 0], "a sum may overflow, the weights do not");
        assert_eq!(load(65504.0, Kind::Half)?.overflown, [""; 0], "65504 is the largest f16");
        let report = load(1e5, Kind::Half)?;
        assert_eq!((report.overflown.len(), report.not_finite.len()), (1, 0));
        assert!(report.to_string().contains("too large for the requested kind:\n  a"), "{report}");
        Ok(())
    }

    #[test]
    fn repeated_request_returns_the_same_tensor() -> Result<()> {
        let w = weights(&[("a.weight", &[3, 2], Kind::Half)]);
        let first = w.at("a").tensor("weight", &[3, 2])?;
        assert!(matches!(&w.store.origin, Origin::Tensors(left) if left.borrow().is_empty()));
        assert!(w.has("a.weight"));
        assert_eq!(w.at("a").tensor("weight", &[3, 2, 1, 1])?.data_ptr(), first.data_ptr());
        assert_eq!((w.report().loaded, w.report().unused.len()), (1, 0));
        w.finish()
    }

    #[test]
    fn unused_tensors_alone_are_no_error() -> Result<()> {
        let w = weights(&[("a.weight", &[2], Kind::Float), ("b.weight", &[2], Kind::Float)]);
        let _ = w.at("a").tensor("weight", &[2])?;
        assert_eq!(w.report().unused.len(), 1);
        w.finish()
    }
}
