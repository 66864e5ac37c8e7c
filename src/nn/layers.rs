//! Basic layers, and the methods of `Weights` that build them: `w.at("linear_1").linear(channels, width)?`.
//!
//! No other code holds the result that a layer has just computed. Activations and sums therefore work in place
//! (`f_silu_`, `f_add_`).

pub use super::kernels::Conv;
pub(super) use super::kernels::Gelu;

use super::kernels::{self, Sums};
use super::loras;
use super::seamless::Seamless;
use crate::error::{Error, Result};
use crate::weights::{Weight, Weights, of_layer};
use impasto_kernels::SerialLibtorch;
use tch::{Device, Tensor};

/// A linear layer, x·Wᵀ + b over the last axis.
#[derive(Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
}

impl Linear {
    /// Applies the layer: [.., inputs] → [.., outputs].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        loras::onto_cells(kernels::linear(x, &self.weight.get()?, self.bias.as_ref())?, x, &self.weight)
    }

    /// Applies the layer to the tokens of a prompt, without the LoRAs that act in a place of the picture.
    pub(super) fn forward_prompt(&self, x: &Tensor) -> Result<Tensor> {
        loras::onto_prompt(kernels::linear(x, &self.weight.get()?, self.bias.as_ref())?, x, &self.weight)
    }

    /// Applies the layer as [`forward`](Self::forward) does. Where `impasto-kernels` computes it, the result is f32 and
    /// not rounded to bf16.
    pub(super) fn forward_unrounded(&self, x: &Tensor) -> Result<Tensor> {
        loras::onto_cells(kernels::linear_unrounded(x, &self.weight.get()?, self.bias.as_ref())?, x, &self.weight)
    }

    /// Computes the GELU of the layer: [.., inputs] → [.., outputs]. `apply` is the method for the tokens of a picture
    /// or of a prompt.
    pub(super) fn forward_gelu(
        &self,
        x: &Tensor,
        gelu: Gelu,
        apply: fn(&Self, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        if loras::act_on(&self.weight) {
            return Ok(apply(self, x)?.f_gelu(gelu.name())?);
        }
        kernels::linear_gelu(x, &self.weight.get()?, self.bias.as_ref(), gelu)
    }

    /// Adds the layer of `x`, [b, .., inputs], to `onto`, [n, .., outputs], in place if both have the same rows. If n
    /// is less than b, the rows of `onto` are repeated. `onto` may be f32 beside a bf16 layer. The sum then is f32 if
    /// `impasto-kernels` computes the layer, otherwise bf16.
    pub(super) fn forward_onto(&self, onto: Tensor, x: &Tensor) -> Result<Tensor> {
        loras::onto_cells(kernels::linear_onto(onto, x, &self.weight.get()?, self.bias.as_ref())?, x, &self.weight)
    }

    /// Computes the layer of `x`, [b, .., inputs], plus `with`, [n, .., outputs]. If n is less than b, the rows of
    /// `with` are repeated.
    pub(super) fn forward_sum(&self, x: &Tensor, with: &Tensor) -> Result<Tensor> {
        loras::onto_cells(kernels::linear_sum(x, &self.weight.get()?, self.bias.as_ref(), with)?, x, &self.weight)
    }

    /// Returns the weight, with the LoRAs beside it.
    pub(super) const fn weight(&self) -> &Weight {
        &self.weight
    }

    /// Returns the number of output features.
    pub(super) fn outputs(&self) -> i64 {
        self.weight.size().first().copied().unwrap_or_default()
    }

    /// Joins layers that read the same input into one layer with concatenated outputs. Returns `None` if there are no
    /// layers, or if a layer has no bias, requires a gradient, is offloaded, or has LoRAs beside its weight.
    pub(super) fn join(each: &[Self]) -> Result<Option<Self>> {
        let biases: Option<Vec<&Tensor>> = each.iter().map(|layer| layer.bias.as_ref()).collect();
        let stays = |layer: &Self| {
            let weight = &layer.weight;
            weight.requires_grad() || weight.is_offloaded() || !weight.loras().is_empty()
        };
        match biases {
            Some(biases)
                if !each.is_empty() && !each.iter().any(stays) && !biases.iter().any(|bias| bias.requires_grad()) =>
            {
                let weights = each.iter().map(|layer| layer.weight.get()).collect::<Result<Vec<_>>>()?;
                let weight = Tensor::f_cat(&weights, 0)?;
                let weight = Weight::held(of_layer(&weight, weight.f_kind()?, weight.device())?);
                Ok(Some(Self { weight, bias: Some(Tensor::f_cat(&biases, 0)?) }))
            }
            _ => Ok(None),
        }
    }
}

/// Two linear layers stored as one, (values, gate). Two separate results in memory are cheaper to process further than
/// the halves of one wide result.
#[derive(Debug)]
pub(crate) struct Gated {
    values: Linear,
    gate: Linear,
}

impl Gated {
    /// Computes the values times the GELU of the gate: [.., inputs] → [.., outputs].
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let Self { values, gate } = self;
        if loras::act_on(&gate.weight) {
            return Ok(values.forward(x)?.f_mul_(&gate.forward(x)?.f_gelu_("none")?)?);
        }
        kernels::linear_gate(values.forward(x)?, x, &gate.weight.get()?, gate.bias.as_ref())
    }
}

/// A convolution.
#[derive(Debug)]
pub struct Conv2d {
    weight: Weight,
    bias: Option<Tensor>,
    conv: Conv,
    /// Kernel sums that [`Conv2d::forward_doubled`] keeps.
    pub(super) sums: Sums,
}

impl Conv2d {
    /// Applies the convolution: [b, inputs, h, w] → [b, outputs, h', w'].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (x, conv) = self.continued(x)?;
        loras::onto_picture(kernels::conv2d(&x, &self.weight.get()?, self.bias.as_ref(), conv)?, &x, &self.weight, conv)
    }

    /// Returns the input and the convolution to compute: if the picture continues at its opposite edges, the input has
    /// these edges around it in place of the convolution's zeros.
    fn continued(&self, x: &Tensor) -> Result<(Tensor, Conv)> {
        let seamless = Seamless::present();
        if seamless == Seamless::No || self.conv.padding == 0 {
            return Ok((x.shallow_clone(), self.conv));
        }
        Ok((seamless.pad(x, self.conv.padding)?, Conv { padding: 0, ..self.conv }))
    }

    /// Applies the convolution after nearest-neighbor upsampling by two: [b, inputs, h, w] → [b, outputs, 2h, 2w]. On a
    /// CPU, large layers keep sums of the weights from the first call on, unless the weights are offloaded. The sums
    /// take 16/9 of the weights' memory.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the convolution is not [`Conv::SAME`].
    pub fn forward_doubled(&self, x: &Tensor) -> Result<Tensor> {
        if self.conv != Conv::SAME {
            return Err(Error::parameter(
                "Conv",
                format!("{:?}", self.conv),
                "Conv::SAME, the only convolution that supports upsampling",
            ));
        }
        if Seamless::present() != Seamless::No || loras::act_on(&self.weight) {
            let (_, _, h, w) = x.size4()?;
            return self.forward(&x.f_upsample_nearest2d([2 * h, 2 * w], None::<f64>, None::<f64>)?);
        }
        // Sums of an offloaded kernel would stay in memory, so they are made anew at each call.
        let anew = Sums::default();
        let sums = if self.weight.is_offloaded() { &anew } else { &self.sums };
        kernels::upsample_conv2d(x, &self.weight.get()?, self.bias.as_ref(), sums)
    }

    /// Returns the value of [`kernels::among_kernels`] for the network whose first layer this is; `None` in training.
    pub(super) fn among_kernels(&self, x: &Tensor) -> Result<Option<SerialLibtorch>> {
        Ok(if self.weight.requires_grad() { None } else { kernels::among_kernels(x)? })
    }

    /// Adds the convolution of `x`, [b, inputs, h, w], to `onto`, [b, outputs, h', w'], in place.
    pub(crate) fn forward_onto(&self, onto: Tensor, x: &Tensor) -> Result<Tensor> {
        let (x, conv) = self.continued(x)?;
        let y = kernels::conv2d_onto(onto, &x, &self.weight.get()?, self.bias.as_ref(), conv)?;
        loras::onto_picture(y, &x, &self.weight, conv)
    }

    /// Computes the convolution of `x`, [b, inputs, h, w], plus `with`, [b, outputs, h', w'].
    pub(crate) fn forward_sum(&self, x: &Tensor, with: &Tensor) -> Result<Tensor> {
        let (x, conv) = self.continued(x)?;
        let y = kernels::conv2d_sum(&x, &self.weight.get()?, self.bias.as_ref(), conv, with)?;
        loras::onto_picture(y, &x, &self.weight, conv)
    }

    /// Splits the convolution into two whose results add up: one for the first `inputs` channels, with the bias, and
    /// one for the others.
    pub(crate) fn split(&self, inputs: i64) -> Result<[Self; 2]> {
        let others = self.weight.size().get(1).copied().unwrap_or_default() - inputs;
        let part = |start, length, bias| -> Result<Self> {
            Ok(Self { weight: self.weight.inputs(start, length)?, bias, conv: self.conv, sums: Sums::default() })
        };
        Ok([part(0, inputs, self.bias.as_ref().map(Tensor::shallow_clone))?, part(inputs, others, None)?])
    }

    /// Applies the convolution and adds `more`, [1 or b, outputs], to every cell. A single row for the whole batch
    /// takes no extra time, because the row is added to the bias. Where `impasto-kernels` computes the layer, the
    /// result is f32 and not rounded to bf16.
    pub(crate) fn forward_plus(&self, x: &Tensor, more: &Tensor) -> Result<Tensor> {
        let (weight, (x, conv)) = (self.weight.get()?, self.continued(x)?);
        let y = match (&self.bias, more.size2()?) {
            (Some(bias), (1, outputs)) => {
                kernels::conv2d_unrounded(&x, &weight, Some(&more.f_reshape([outputs])?.f_add(bias)?), conv)?
            }
            (bias, _) => {
                let mut y = kernels::conv2d_unrounded(&x, &weight, bias.as_ref(), conv)?;
                y.f_add_(&more.f_unsqueeze(-1)?.f_unsqueeze(-1)?)?
            }
        };
        loras::onto_picture(y, &x, &self.weight, conv)
    }
}

/// A group norm, which normalises groups of channels over the picture.
#[derive(Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    /// Normalises [b, channels, ..]; the shape stays. The result has the kind of the weights.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.normalizes(x) {
            return Ok(impasto_kernels::group_norm(x, self.groups, (&self.weight, &self.bias), self.eps, false)?);
        }
        let mut x = x.f_to_kind(self.weight.f_kind()?)?;
        if x.dim() == 4 && x.device() == Device::Cpu && channels_last(&x) {
            // For adjacent channels, libtorch's variance is E[x²] − E[x]², which loses the digits of a flat picture.
            x = x.f_contiguous()?;
        }
        Ok(x.f_group_norm(self.groups, Some(&self.weight), Some(&self.bias), self.eps, true)?)
    }

    /// Returns true if `impasto-kernels` computes the norm.
    fn normalizes(&self, x: &Tensor) -> bool {
        impasto_kernels::normalizes(x, (&self.weight, &self.bias))
    }

    /// Splits the norm into one for the first `channels` channels and one for the others. Returns `None` if a group
    /// contains channels of both.
    pub(crate) fn split(&self, channels: i64) -> Result<Option<[Self; 2]>> {
        let all = self.weight.size1()?;
        let group = all / self.groups;
        if channels % group != 0 {
            return Ok(None);
        }
        let part = |start, length| -> Result<Self> {
            let cut = |x: &Tensor| x.f_narrow(0, start, length);
            Ok(Self { weight: cut(&self.weight)?, bias: cut(&self.bias)?, groups: length / group, eps: self.eps })
        };
        Ok(Some([part(0, channels)?, part(channels, all - channels)?]))
    }

    /// Applies the norm, then SiLU in the memory of the norm's result.
    pub fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        if self.normalizes(x) {
            return Ok(impasto_kernels::group_norm(x, self.groups, (&self.weight, &self.bias), self.eps, true)?);
        }
        Ok(self.forward(x)?.f_silu_()?)
    }
}

/// A layer norm over the last axis.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Normalises [.., width]; the shape stays. The result has the kind of the weights.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if impasto_kernels::normalizes_rows(x, (&self.weight, &self.bias)) {
            return Ok(impasto_kernels::layer_norm(x, (&self.weight, &self.bias), self.eps)?);
        }
        let x = x.f_to_kind(self.weight.f_kind()?)?;
        Ok(x.f_layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, true)?)
    }
}

/// Constructors of layers. Each one reads `weight` and, for layers with a bias, `bias` at this view's path; errors are
/// those of [`Weights::tensor`].
impl Weights {
    /// A linear layer with bias.
    pub fn linear(&self, inputs: i64, outputs: i64) -> Result<Linear> {
        Ok(Linear { bias: Some(self.tensor("bias", &[outputs])?), ..self.linear_without_bias(inputs, outputs)? })
    }

    /// A linear layer without bias.
    pub(crate) fn linear_without_bias(&self, inputs: i64, outputs: i64) -> Result<Linear> {
        Ok(Linear { weight: self.weight("weight", &[outputs, inputs])?, bias: None })
    }

    /// A linear layer with 2 · `outputs` outputs, split into values (first half) and gate (second half).
    pub(crate) fn gated(&self, inputs: i64, outputs: i64) -> Result<Gated> {
        let both = self.linear(inputs, 2 * outputs)?;
        let half = |start| -> Result<Linear> {
            let bias = both.bias.as_ref().map(|bias| bias.f_narrow(0, start, outputs)).transpose()?;
            Ok(Linear { weight: both.weight.outputs(start, outputs)?, bias })
        };
        Ok(Gated { values: half(0)?, gate: half(outputs)? })
    }

    /// A linear layer over the channels, from the weights of a 1×1 convolution.
    pub(crate) fn cellwise(&self, inputs: i64, outputs: i64) -> Result<Linear> {
        let weight = self.weight("weight", &[outputs, inputs, 1, 1])?.matrix()?;
        Ok(Linear { weight, bias: Some(self.tensor("bias", &[outputs])?) })
    }

    /// A convolution with bias.
    pub fn conv2d(&self, inputs: i64, outputs: i64, conv: Conv) -> Result<Conv2d> {
        let without = self.conv2d_without_bias(inputs, outputs, conv)?;
        Ok(Conv2d { bias: Some(self.tensor("bias", &[outputs])?), ..without })
    }

    /// A convolution without bias.
    pub(crate) fn conv2d_without_bias(&self, inputs: i64, outputs: i64, conv: Conv) -> Result<Conv2d> {
        let weight = self.weight("weight", &[outputs, inputs, conv.kernel, conv.kernel])?;
        Ok(Conv2d { weight, bias: None, conv, sums: Sums::default() })
    }

    /// A convolution with bias of single pictures, from the weights of a causal convolution over frames.
    pub(crate) fn conv2d_of_last_frame(&self, inputs: i64, outputs: i64, conv: Conv) -> Result<Conv2d> {
        self.keep_last_frame("weight")?;
        self.conv2d(inputs, outputs, conv)
    }

    /// A group norm; `groups` divides `channels`.
    pub fn group_norm(&self, groups: i64, channels: i64, eps: f64) -> Result<GroupNorm> {
        let (weight, bias) = (self.tensor("weight", &[channels])?, self.tensor("bias", &[channels])?);
        Ok(GroupNorm { weight, bias, groups, eps })
    }

    /// A layer norm.
    pub(crate) fn layer_norm(&self, width: i64, eps: f64) -> Result<LayerNorm> {
        Ok(LayerNorm { weight: self.tensor("weight", &[width])?, bias: self.tensor("bias", &[width])?, eps })
    }
}

/// Computes softmax attention of `q`, `k` and `v`, [b, tokens, heads · d] each. With `causal`, no token attends to
/// later tokens.
pub(super) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: i64, causal: bool) -> Result<Tensor> {
    let (q, k, v) = (split_heads(q, heads)?, split_heads(k, heads)?, split_heads(v, heads)?);
    let output = Tensor::f_scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, causal, None::<f64>, false)?;
    Ok(output.f_transpose(1, 2)?.f_flatten(2, 3)?)
}

/// Splits the heads: [b, tokens, heads · d] → [b, heads, tokens, d].
pub(super) fn split_heads(x: &Tensor, heads: i64) -> Result<Tensor> {
    Ok(x.f_unflatten(2, [heads, -1])?.f_transpose(1, 2)?)
}

/// Flattens a grid to rows of cells: [b, channels, h, w] → [b, h · w, channels].
pub(super) fn cells(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_permute([0, 2, 3, 1])?.f_flatten(1, 2)?)
}

/// Reshapes rows of cells to a grid of the size of `like`: [b, h · w, channels] → [b, channels, h, w].
///
/// The result has the layout of `like`. A view of the cells would keep the channels adjacent in memory, and later sums
/// and convolutions would take over that layout. Every convolution of oneDNN would then rearrange its weights at every
/// call, which takes a third of the time of an SD-1.5-sized network.
pub(super) fn picture(cells: &Tensor, like: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = like.size4()?;
    // In this order of steps, the stride of a single picture is that of a batch's, by which libtorch knows the layout.
    let picture = cells.f_unflatten(1, [h, w])?.f_permute([0, 3, 1, 2])?;
    if channels_last(like) { Ok(picture) } else { Ok(picture.f_contiguous()?) }
}

/// Returns true if the channels of a picture, [b, channels, h, w], are adjacent in memory.
pub(super) fn channels_last(x: &Tensor) -> bool {
    x.stride().get(1) == Some(&1)
}
