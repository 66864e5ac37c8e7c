//! Kernels beside libtorch's operations, in turns, for layers and two blocks of SD 1.5 at 256×256 pixels.
//!
//! `cargo bench -p impasto-kernels --bench kernels [-- --threads N] [--rounds N]`
//!
//! Weights are many and used in turns, so that they come from memory as in a network. The last column is the kernels'
//! time as a share of libtorch's.

use impasto_kernels::Epilogue;
use std::time::Instant;
use tch::{Device, Kind, TchError, Tensor};

/// Bytes of the weights that are used in turns.
const BYTES: i64 = 200_000_000;

type Layer<'a> = Box<dyn Fn(usize) -> Result<Tensor, TchError> + 'a>;

fn main() -> Result<(), TchError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| -> Option<i32> {
        arguments.get(arguments.iter().position(|found| found == name)? + 1)?.parse().ok()
    };
    tch::set_num_threads(option("--threads").unwrap_or(1));
    let rounds = option("--rounds").unwrap_or(9);
    println!("{:48} {:>10} {:>10} {:>7}", "layer", "libtorch", "kernels", "share");
    for kind in [Kind::Float, Kind::BFloat16] {
        for [heads, d, queries, tokens] in [[8, 40, 1024, 1024], [8, 40, 1024, 77], [8, 80, 256, 256], [8, 160, 64, 77]]
        {
            let rows = |rows| random(&[2, rows, heads * d], kind).unflatten(2, [heads, d]).transpose(1, 2);
            let (q, k, v) = (rows(queries), rows(tokens), rows(tokens));
            if !impasto_kernels::attends(&q, &k, &v) {
                println!("no kernels for {kind:?} on this processor");
                break;
            }
            let plain = |_| {
                let y = Tensor::f_scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, false, None, false)?;
                y.f_transpose(1, 2)?.f_flatten(2, 3)
            };
            let ours = |_| Ok(impasto_kernels::attend(&q, &k, &v, None, false)?.output);
            let name = format!("{kind:?} attention, width {d}, {queries} to {tokens}");
            compare(&name, 1, rounds, [Box::new(plain), Box::new(ours)])?;
        }
        for [inputs, outputs, side, kernel] in [
            [320, 320, 32, 1],
            [640, 2560, 16, 1],
            [1280, 1280, 8, 1],
            [320, 320, 32, 3],
            [640, 640, 16, 3],
            [1280, 1280, 8, 3],
            [1280, 1280, 4, 3],
        ] {
            let x = random(&[2, side, side, inputs], kind).permute([0, 3, 1, 2]);
            let size = kind.elt_size_in_bytes() as i64 * inputs * outputs * kernel * kernel;
            let weights: Vec<Tensor> = (0..(BYTES / size).clamp(2, 24))
                .map(|_| random(&[outputs, inputs, kernel, kernel], kind) / ((inputs * kernel * kernel) as f64).sqrt())
                .collect();
            let arranged: Vec<Tensor> =
                weights.iter().map(|x| impasto_kernels::arranged(x, kind)).collect::<Result<_, _>>()?;
            if arranged.iter().any(|weight| !impasto_kernels::multiplies(&x, weight)) {
                break;
            }
            let bias = random(&[outputs], kind);
            let padding = kernel / 2;
            let plain = |i: usize| x.f_conv2d(&weights[i], Some(&bias), [1, 1], [padding, padding], [1, 1], 1);
            let ours = |i: usize| impasto_kernels::conv2d(&x, &arranged[i], Some(&bias), (1, padding), Epilogue::Store);
            let name = format!("{kind:?} convolution {kernel}×{kernel}, {inputs} to {outputs}, {side}×{side}");
            compare(&name, weights.len(), rounds, [Box::new(plain), Box::new(ours)])?;
        }
        feed_forward(kind, rounds)?;
        residual_block(kind, rounds)?;
    }
    Ok(())
}

/// Times a transformer's feed-forward layer of 320 channels: a linear layer, a gate by GELU, and a linear layer.
fn feed_forward(kind: Kind, rounds: i32) -> Result<(), TchError> {
    let x = random(&[2, 1024, 320], kind);
    let layers = |inputs: i64, outputs: i64| Layers::new(&[outputs, inputs], kind);
    let (joined, values, gate, last) = (layers(320, 2560)?, layers(320, 1280)?, layers(320, 1280)?, layers(1280, 320)?);
    if !impasto_kernels::multiplies(&x, &values.arranged[0]) {
        return Ok(());
    }
    let plain = |i: usize| {
        let halves = x.f_linear(&joined.weights[i], Some(&joined.bias))?.f_chunk(2, -1)?;
        halves[1].f_gelu("none")?.f_mul(&halves[0])?.f_linear(&last.weights[i], Some(&last.bias))
    };
    let ours = |i: usize| {
        let y = impasto_kernels::linear(&x, &values.arranged[i], Some(&values.bias), Epilogue::Store)?;
        let y = impasto_kernels::linear(&x, &gate.arranged[i], Some(&gate.bias), Epilogue::Gate(y))?;
        impasto_kernels::linear(&y, &last.arranged[i], Some(&last.bias), Epilogue::Store)
    };
    compare(&format!("{kind:?} feed-forward layer, 320, 32×32"), COPIES, rounds, [Box::new(plain), Box::new(ours)])
}

/// Times a residual block of 320 channels: twice a norm, SiLU and a 3×3 convolution, a row added to all cells, and the
/// sum.
fn residual_block(kind: Kind, rounds: i32) -> Result<(), TchError> {
    let x = random(&[2, 32, 32, 320], kind).permute([0, 3, 1, 2]);
    let (scale, offset, row) = (random(&[320], kind), random(&[320], kind), random(&[320], kind));
    let [first, second] = [Layers::new(&[320, 320, 3, 3], kind)?, Layers::new(&[320, 320, 3, 3], kind)?];
    if !impasto_kernels::multiplies(&x, &first.arranged[0]) {
        return Ok(());
    }
    let cells = row.f_reshape([1, 320, 1, 1])?;
    let plain = |i: usize| {
        let norm = |x: &Tensor| x.f_group_norm(32, Some(&scale), Some(&offset), 1e-5, false)?.f_silu_();
        let y = norm(&x)?.f_conv2d(&first.weights[i], Some(&first.bias), 1, 1, 1, 1)?.f_add_(&cells)?;
        norm(&y)?.f_conv2d(&second.weights[i], Some(&second.bias), 1, 1, 1, 1)?.f_add_(&x)
    };
    let bias = first.bias.f_add(&row)?;
    let ours = |i: usize| {
        let norm = |x: &Tensor| impasto_kernels::group_norm(x, 32, (&scale, &offset), 1e-5, true);
        let y = impasto_kernels::conv2d(&norm(&x)?, &first.arranged[i], Some(&bias), (1, 1), Epilogue::StoreF32)?;
        impasto_kernels::conv2d(&norm(&y)?, &second.arranged[i], Some(&second.bias), (1, 1), Epilogue::Add(&x))
    };
    compare(&format!("{kind:?} residual block, 320, 32×32"), COPIES, rounds, [Box::new(plain), Box::new(ours)])
}

/// Copies of a block's weights.
const COPIES: usize = 12;

/// Copies of a layer's weights in both layouts, and a bias.
struct Layers {
    weights: Vec<Tensor>,
    arranged: Vec<Tensor>,
    bias: Tensor,
}

impl Layers {
    fn new(shape: &[i64], kind: Kind) -> Result<Self, TchError> {
        let inputs: i64 = shape[1..].iter().product();
        let weights: Vec<Tensor> = (0..COPIES).map(|_| random(shape, kind) / (inputs as f64).sqrt()).collect();
        let arranged = weights.iter().map(|x| impasto_kernels::arranged(x, kind)).collect::<Result<_, _>>()?;
        // libtorch's convolutions are fastest with this layout.
        let weights = match shape.len() {
            4 => weights.iter().map(|x| x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])).collect(),
            _ => weights,
        };
        Ok(Self { weights, arranged, bias: random(&shape[..1], kind) })
    }
}

fn random(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind)
}

/// Times both layers with each of their weights, in turns, and prints the medians in milliseconds.
fn compare(name: &str, weights: usize, rounds: i32, layers: [Layer<'_>; 2]) -> Result<(), TchError> {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=rounds {
        for (layer, times) in layers.iter().zip(&mut times) {
            let begun = Instant::now();
            for weight in 0..weights {
                let _ = layer(weight)?;
            }
            if round > 0 {
                times.push(begun.elapsed().as_secs_f64() * 1e3 / weights as f64);
            }
        }
    }
    let mut ratios: Vec<f64> = times[1].iter().zip(&times[0]).map(|(ours, plain)| ours / plain).collect();
    let median = |numbers: &mut Vec<f64>| {
        numbers.sort_by(f64::total_cmp);
        numbers[numbers.len() / 2]
    };
    let [mut plain, mut ours] = times;
    println!("{name:48} {:>7.3} ms {:>7.3} ms {:>7.2}", median(&mut plain), median(&mut ours), median(&mut ratios));
    Ok(())
}
