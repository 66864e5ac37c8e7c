//! Attention, linear layers, convolutions and norms for [`tch`]'s tensors, in AVX2 and in AVX-512.
//!
//! libtorch multiplies matrices with MKL, which uses AVX-512 on Intel's processors only, and which multiplies bf16 as
//! f32 on processors without AMX. The kernels of this crate use AVX-512 on every processor that has it, and AVX2 on the
//! others. They have threads of their own, as many as libtorch has. All algorithms are written once, for any
//! instruction set.
//!
//! [`attends`] and [`multiplies`] say whether the kernels can compute given tensors. They need
//!
//! - a processor of the family x86-64 with AVX2, FMA and F16C,
//! - tensors on the CPU, f32 or bf16, without gradients,
//! - weights that are [`arranged`],
//! - a build of this crate with `opt-level` 2 or 3. In a debug build, add this to the Cargo.toml of your workspace:
//!
//! ```toml
//! [profile.dev.package.impasto-kernels]
//! opt-level = 3
//! debug-assertions = false
//! overflow-checks = false
//! ```
//!
//! [`in_use`] says which instruction set computes. The environment variable `IMPASTO_KERNELS` chooses another one:
//!
//! | value | who computes |
//! |---|---|
//! | none | the best of the processor's sets, or libtorch |
//! | `off` | libtorch |
//! | `scalar` | the kernels without vector instructions, for tests on any processor and system; slow |
//! | `avx2` | the kernels in AVX2, also in debug builds and beside AVX-512 |
//! | `avx512` | the kernels in AVX-512, also in debug builds, and for bf16 beside AMX |
//! | `amx` | the kernels in AVX-512, with AMX for products of bf16, on Linux; not measured, so never chosen by itself |
//!
//! # Equal bits
//!
//! Each row of attention depends on its query, the keys and the values alone. The functions compute in the same order,
//! so that `weigh(&scores(q, k)?, v)` equals `attend(q, k, v)` to the bit. All results are equal to the bit for any
//! number of threads.
//!
//! # Example
//!
//! ```
//! use tch::{Device, Kind, Tensor};
//!
//! # fn main() -> Result<(), tch::TchError> {
//! let x = Tensor::f_randn([1, 2, 64, 16], (Kind::Float, Device::Cpu))?; // [n, heads, tokens, width]
//! if impasto_kernels::attends(&x, &x, &x) {
//!     let attention = impasto_kernels::attend(&x, &x, &x, None, true)?;
//!     assert_eq!(attention.output.size(), [1, 64, 2 * 16]);
//!     assert_eq!(attention.probabilities.map(|p| p.size()), Some(vec![1, 2, 64, 64]));
//! }
//! # Ok(()) }
//! ```

#![warn(missing_docs, missing_debug_implementations, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Loops over vectors count; the documentation of `Simd` says why.
#![allow(clippy::needless_range_loop)]

mod accumulate;
mod arrange;
mod attention;
mod cells;
mod dispatch;
mod epilogue;
mod functions;
mod group_norm;
mod instruction_set;
mod isa;
mod job;
mod layer_norm;
mod layers;
mod norms;
mod number;
mod pages;
mod panels;
mod parallel;
mod pool;
mod product;
mod rms_norm;
mod serial;
mod tensors;
#[cfg(test)]
mod tests;
mod tile;
mod winograd;
mod words;

pub use accumulate::{accumulate, accumulates};
pub use arrange::{arranged, arranges};
pub use attention::{Attention, attend, attend_rows, attends, largest_scores, scores, weigh, weighs};
pub use epilogue::Epilogue;
pub use instruction_set::{InstructionSet, InvalidChoice, in_use, missed};
pub use layers::{adds_to, conv2d, conv2d_positions, conv2d_upsampled, linear, multiplies};
pub use norms::{group_norm, layer_norm, normalizes, normalizes_rows, rms_norm, scales_rows};
pub use serial::SerialLibtorch;
