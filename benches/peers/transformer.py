#!/usr/bin/env python3
"""One call of a transformer with both branches: impasto, diffusers and OpenVINO in turns, as ratios.

    .peers/bin/python benches/peers/transformer.py [--network anima|sd35] [--kind f32|bf16] [--blocks 4] [--latents 32]
        [--threads 1] [--rounds 12] [--alone]

`benches/peers/step.py` says how to make the Python. The networks are of the size of Anima and of Stable Diffusion 3.5
medium, with random weights and fewer blocks (4 unless `--blocks` says otherwise), so that all peers fit in memory at
once. All blocks of a network cost the same, but for those of Stable Diffusion 3.5 that have no second attention; these
4 have it. diffusers computes in eager mode. `--alone` leaves OpenVINO out. Every ratio is the median over rounds of a
ratio within a round.
"""
import argparse
import copy
import pathlib
import statistics
import subprocess
import time

import torch
from compiled import First, compiled
from diffusers import CosmosTransformer3DModel, SD3Transformer2DModel
from record import interval, record
from step import told

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Anima(torch.nn.Module):
    """Anima's transformer, as a function of tensors; pictures have one frame, and no cell is padding."""

    def __init__(self, blocks):
        super().__init__()
        self.network = CosmosTransformer3DModel(
            in_channels=16, out_channels=16, num_attention_heads=16, attention_head_dim=128, num_layers=blocks, mlp_ratio=4.0,
            text_embed_dim=1024, adaln_lora_dim=256, patch_size=(1, 2, 2), rope_scale=(1.0, 4.0, 4.0), concat_padding_mask=True,
            extra_pos_embed_type=None)

    def inputs(self, side):
        return torch.randn(2, 16, side, side), torch.full((2,), 0.5), torch.randn(2, 512, 1024)

    def forward(self, x, time, context):
        mask = x.new_zeros(1, 1, *x.shape[2:])
        return self.network(x.unsqueeze(2), time, context, padding_mask=mask, return_dict=False)[0]


class Sd35(torch.nn.Module):
    """The transformer of Stable Diffusion 3.5 medium, as a function of tensors."""

    def __init__(self, blocks):
        super().__init__()
        self.network = SD3Transformer2DModel(
            sample_size=128, in_channels=16, out_channels=16, num_attention_heads=24, attention_head_dim=64, num_layers=blocks,
            joint_attention_dim=4096, caption_projection_dim=1536, pooled_projection_dim=2048, pos_embed_max_size=384,
            dual_attention_layers=tuple(range(min(blocks, 13))), qk_norm="rms_norm")

    def inputs(self, side):
        return torch.randn(2, 16, side, side), torch.randn(2, 333, 4096), torch.randn(2, 2048), torch.full((2,), 500.0)

    def forward(self, x, context, pooled, time):
        return self.network(x, context, pooled, time, return_dict=False)[0]


class Only(torch.nn.Module):
    """A network whose only result is the first of a tuple, as `First` expects."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, *inputs, return_dict):
        return (self.network(*inputs),)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=["anima", "sd35"], default="anima")
    parser.add_argument("--kind", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--latents", type=int, default=32, help="side of the latents")
    parser.add_argument("--peer", help="path of a bench `peer` that is built already: target/release/deps/peer-...")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--alone", action="store_true", help="leave OpenVINO out")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.threads == 1 else time.perf_counter
    kind = dict(f32=torch.float32, bf16=torch.bfloat16)[args.kind]
    network = (Anima if args.network == "anima" else Sd35)(args.blocks).eval()
    inputs = network.inputs(args.latents)
    calls = {}
    if not args.alone:
        calls["OpenVINO"] = compiled("OpenVINO", First(Only(copy.deepcopy(network))), list(inputs), kind, args.threads)
    network = network.to(kind)
    given = [x.to(kind) for x in inputs]
    calls = {"diffusers": lambda *_: network(*given), **calls}

    bench = ["cargo", "bench", "--quiet", "--bench", "peer"]
    if args.peer is None:
        subprocess.run([*bench, "--no-run"], cwd=ROOT, check=True)
    run = [*bench, "--"] if args.peer is None else [args.peer]
    run += ["--threads", str(args.threads), "--transformer", args.network, "--kind", args.kind]
    run += ["--latents", str(args.latents), "--blocks", str(args.blocks)]
    ours = subprocess.Popen(run, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    rounds = []
    for number in range(args.rounds + 1):
        times = {"impasto": told(ours, "step")}
        for peer, call in calls.items():
            with torch.inference_mode():
                begun = clock()
                call(*inputs)
                times[peer] = clock() - begun
        if number:  # the first round warms up
            rounds.append(times)
    ours.stdin.close()
    group = f"{args.network} {args.kind}"
    print(f"{group}, {args.blocks} blocks, {args.threads} threads, {args.rounds} rounds in turns; median milliseconds:")
    for who in ("impasto", *calls):
        ms = 1e3 * statistics.median(times[who] for times in rounds)
        print(f"  {who:<20} {ms:9.1f}")
        record("transformer", group, who, "ms", ms, None, args.rounds, args.threads)
    for peer in calls:
        ratios = [times["impasto"] / times[peer] for times in rounds]
        ratio, (low, high) = statistics.median(ratios), interval(ratios)
        print(f"  impasto / {peer} {ratio:.3f} [{low:.3f}, {high:.3f}]")
        record("transformer", group, "impasto", f"ratio to {peer}", ratio, (low, high), args.rounds, args.threads)


if __name__ == "__main__":
    main()
