#!/usr/bin/env python3
"""One block by operators of oneDNN that keep packed weights, and traced and frozen: shares of the eager block's time.

    .peers/bin/python benches/peers/block.py [--threads 2] [--rounds 30]

`benches/peers/step.py` says how to make the Python. The blocks are a residual block and a feed-forward layer of SD 1.5's
UNet: 320 channels, 32x32 cells, both branches. `packed` calls `mkldnn::_convolution_pointwise` and
`mkldnn::_linear_pointwise` with weights that were packed before, and with activations and sums in the operator where it
offers them. `traced` is `torch.jit.trace`, frozen and optimized for inference. Each way has enough copies of the weights
that none stays in a cache. `cargo bench -p impasto-kernels --bench kernels` times the same blocks of impasto's kernels
beside libtorch's operations.
"""
import argparse
import copy
import statistics
import time

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.resnet import ResnetBlock2D
from record import interval

ops, functional = torch.ops.mkldnn, torch.nn.functional
CHANNELS, SIDE, COPIES = 320, 32, 12


def packed_resnet(block):
    ones, like = [1, 1], [2, CHANNELS, SIDE, SIDE]
    kernels = [ops._reorder_convolution_weight(conv.weight, ones, ones, ones, 1, like) for conv in (block.conv1, block.conv2)]

    def run(x, time_embedding):
        y = functional.silu(block.norm1(x))
        y = ops._convolution_pointwise(y, kernels[0], block.conv1.bias, ones, ones, ones, 1, "none", [], "")
        y = y + block.time_emb_proj(functional.silu(time_embedding))[:, :, None, None]
        y = functional.silu(block.norm2(y))
        add = (ones, ones, ones, 1, "add", 1.0, None, [], None)
        return ops._convolution_pointwise(y, x, kernels[1], block.conv2.bias, *add)

    return run


def packed_feed_forward(layer):
    gated, out = layer.net[0].proj, layer.net[2]
    rows = 2 * SIDE * SIDE
    values, gate = (ops._reorder_linear_weight(half.contiguous(), rows) for half in gated.weight.chunk(2))
    biases = [half.contiguous() for half in gated.bias.chunk(2)]
    last = ops._reorder_linear_weight(out.weight, rows)

    def run(x):
        y = ops._linear_pointwise(x, gate, biases[1], "gelu", [], "none")
        y = ops._linear_pointwise(x, values, biases[0], "none", [], "") * y
        return ops._linear_pointwise(y, last, out.bias, "none", [], "")

    return run


def traced(block, inputs):
    return torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(block, inputs)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    print(f"{args.threads} threads, {args.rounds} rounds in turns; median milliseconds, and share of the eager block's time:")
    for kind in (torch.float32, torch.bfloat16):
        resnet = ResnetBlock2D(in_channels=CHANNELS, temb_channels=4 * CHANNELS, eps=1e-5).eval()
        picture = torch.randn(2, CHANNELS, SIDE, SIDE).to(kind, memory_format=torch.channels_last)
        blocks = {
            "residual block": (resnet, (picture, torch.randn(2, 4 * CHANNELS, dtype=kind)), packed_resnet),
            "feed-forward layer": (FeedForward(CHANNELS).eval(), (torch.randn(2, SIDE * SIDE, CHANNELS, dtype=kind),), packed_feed_forward),
        }
        for name, (block, inputs, packed) in blocks.items():
            copies = [copy.deepcopy(block).to(kind) for _ in range(COPIES)]
            for one in copies:  # eager convolutions are fastest with this layout of the kernels
                one.to(memory_format=torch.channels_last)
            ways = {
                "eager": copies,
                "packed": [packed(one) for one in copies],
                "traced": [traced(one, inputs) for one in copies],
            }
            exact = copies[0](*inputs).float()
            for way, calls in ways.items():
                apart = (calls[0](*inputs).float() - exact).norm() / exact.norm()
                assert apart < 0.02, f"{way}: {apart}"
            times = {way: [] for way in ways}
            for number in range(args.rounds + 3):
                for way, calls in ways.items():
                    begun = time.perf_counter()
                    for call in calls:
                        call(*inputs)
                    if number >= 3:  # the first rounds warm up, and optimize what was traced
                        times[way].append(1e3 * (time.perf_counter() - begun) / COPIES)
            for way in ways:
                ratios = [mine / eager for mine, eager in zip(times[way], times["eager"])]
                low, high = interval(ratios)
                print(f"  {str(kind)[6:]:<9} {name:<19} {way:<7} {statistics.median(times[way]):7.2f}   {statistics.median(ratios):.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
