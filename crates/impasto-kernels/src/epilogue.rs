//! [`Epilogue`]: what a layer does with its result before it stores it.

use tch::Tensor;

/// The last step of a layer: it decides where the result goes, and which other tensor takes part.
///
/// A tensor of an epilogue has the shape of the result. It is contiguous beside a linear layer, and in the layout
/// *channels last* beside a convolution. It is f32, or of the kind of the layer's input. The result has the kind of
/// that tensor.
#[derive(Debug, Default)]
pub enum Epilogue<'a> {
    /// The result becomes a new tensor.
    #[default]
    Store,
    /// The result becomes a new f32 tensor. Sums of bf16 products are f32, so the result is not rounded.
    StoreF32,
    /// The sum of the result and this tensor becomes a new tensor.
    Add(&'a Tensor),
    /// The result is added to this tensor in place.
    AddTo(Tensor),
    /// This tensor is multiplied in place by the GELU of the result: x·Φ(x), where Φ is the normal distribution.
    Gate(Tensor),
    /// The GELU of the result becomes a new tensor.
    Gelu,
    /// The approximation of GELU by tanh, x/2·(1 + tanh(√(2/π)·(x + .044715·x³))), becomes a new tensor.
    GeluTanh,
}
