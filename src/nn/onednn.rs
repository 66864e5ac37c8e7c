//! oneDNN's convolution with a kernel that is already in oneDNN's layout.
//!
//! libtorch has this operator for `torch.compile`, and `tch` has no function for it. A TorchScript module without
//! weights calls it: `onednn/convolution.pt`, written by `onednn/convolution.py`.

use crate::error::Result;
use std::sync::OnceLock;
use tch::{CModule, IValue, TchError, Tensor};

/// Width in cells up to which the pictures of a batch are convolved side by side. oneDNN reads the whole kernel for
/// each picture, which takes longer than the products of such a picture.
const NARROW: i64 = 4;

/// Convolves [b, inputs, h, w] with a packed kernel of stride 1 and adds `bias` → [b, outputs, h', w'], contiguous. The
/// kernel's side is at most 2 · `padding` + 1. Gradients do not flow.
pub(super) fn conv2d(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>, padding: i64) -> Result<Tensor> {
    let (b, inputs, h, w) = x.size4()?;
    if b == 1 || w > NARROW {
        return Ok(convolve(x, kernel, bias, padding)?.f_contiguous()?);
    }
    // The zeros between two pictures pad both of them.
    let each = w + padding;
    let beside = x.f_constant_pad_nd([0, padding])?.f_permute([1, 2, 0, 3])?.f_reshape([1, inputs, h, b * each])?;
    let y = convolve(&beside, kernel, bias, padding)?.f_squeeze_dim(0)?;
    let width = w + 2 * padding + 1 - kernel.size4()?.3;
    let y = y.f_narrow(2, 0, b * each)?.f_unflatten(2, [b, each])?.f_narrow(3, 0, width)?; // [outputs, h', b, w']
    Ok(y.f_permute([2, 0, 1, 3])?.f_contiguous()?)
}

/// Convolves by the module. The result has channels last.
fn convolve(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>, padding: i64) -> Result<Tensor> {
    let tensor = |tensor: &Tensor| IValue::Tensor(tensor.shallow_clone());
    let bias = bias.map_or(IValue::None, tensor);
    match module()?.forward_is(&[tensor(x), tensor(kernel), bias, IValue::Int(padding)])? {
        IValue::Tensor(y) => Ok(y),
        other => Err(TchError::Kind(format!("oneDNN's convolution returned {other:?}, expected a tensor")).into()),
    }
}

/// Returns the module, which is read once.
fn module() -> Result<&'static CModule> {
    static MODULE: OnceLock<CModule> = OnceLock::new();
    if let Some(module) = MODULE.get() {
        return Ok(module);
    }
    let module = CModule::load_data(&mut include_bytes!("onednn/convolution.pt").as_slice())?;
    Ok(MODULE.get_or_init(|| module))
}

#[cfg(test)]
mod tests {
    use super::super::{Conv, layers};
    use super::*;
    use crate::weights::Weights;
    use std::io::Write;
    use std::process::Command;
    use tch::{Device, Kind};

    /// Variable that makes the test below the child process, which runs the layers.
    const CHILD: &str = "IMPASTO_TEST_RUNS_LAYERS";
    /// Line between the two calls of the layers.
    const SECOND: &str = "second call";

    /// Runs layers of SD 1.5's size twice. With AVX2, oneDNN's layout of these kernels depends on the picture's size.
    fn run_layers() -> Result<()> {
        let w = Weights::random(1, Kind::Float, Device::Cpu).packed();
        let convs = [(640, 640, 32), (1920, 1280, 8), (1280, 1280, 4)].map(|(inputs, outputs, side)| {
            let conv = w.at(format!("{inputs} {outputs}")).conv2d(inputs, outputs, Conv::SAME);
            conv.map(|conv| (conv, Tensor::ones([2, inputs, side, side], (Kind::Float, Device::Cpu))))
        });
        let convs = convs.into_iter().collect::<Result<Vec<_>>>()?;
        let linear: layers::Linear = w.at("linear").linear(1280, 5120)?;
        let rows = Tensor::ones([2, 64, 1280], (Kind::Float, Device::Cpu));
        for call in ["first call", SECOND] {
            writeln!(std::io::stdout(), "{call}").expect("standard output");
            for (conv, x) in &convs {
                drop(conv.forward(x)?);
                drop(conv.forward_doubled(x)?);
            }
            drop(linear.forward(&rows)?);
        }
        Ok(())
    }

    #[test]
    fn second_call_turns_no_kernel_around() -> Result<()> {
        if std::env::var_os(CHILD).is_some() {
            return run_layers();
        }
        if !tch::utils::has_mkldnn() {
            return Ok(()); // libtorch computes without oneDNN
        }
        let program = std::env::current_exe().expect("this program");
        // Any processor can compute with AVX2, so this path is checked on all of them, beside the processor's own.
        for isa in ["AVX2", "DEFAULT"] {
            let output = Command::new(&program)
                .args(["nn::onednn::tests::second_call_turns_no_kernel_around", "--exact", "--nocapture"])
                .envs([(CHILD, "1"), ("ONEDNN_VERBOSE", "profile_exec"), ("ONEDNN_MAX_CPU_ISA", isa)])
                .env("IMPASTO_KERNELS", "off")
                .output()
                .expect("the child runs");
            let printed = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{isa}: {printed}{}", String::from_utf8_lossy(&output.stderr));
            let (_, second) = printed.split_once(SECOND).unwrap_or_else(|| panic!("{isa}: {printed}"));
            assert!(second.contains("onednn_verbose") && second.contains("convolution"), "{isa}: {second}");
            // oneDNN's unvectorised reorder takes up to 30 times as long as the layer itself.
            let slow: Vec<&str> = second.lines().filter(|line| line.contains("reorder,simple")).collect();
            assert!(slow.is_empty(), "{isa}: {}", slow.join("\n"));
        }
        Ok(())
    }
}
