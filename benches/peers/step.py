#!/usr/bin/env python3
"""One call of a UNet with both branches, bare and with guidance: impasto and its peers in turns, as ratios.

    python3 -m venv .peers && .peers/bin/pip install torch==2.11.0 torchvision diffusers transformers accelerate openvino
    .peers/bin/python benches/peers/step.py [--unet sd15|tiny] [--kind f32|bf16|f16] [--threads 2] [--rounds 30]
        [--latents 32] [--compiled] [--candle] [--sdcpp] [--device cuda]

The peer is diffusers in eager mode. With `--compiled` there are two more, which compute the bare step only, because a
compiled network has no attention to read: torch.compile (freezing, fixed shapes; a C++ compiler must be there) and, on
a CPU, OpenVINO (latency hint, precision hint). `--candle` adds candle, whose program in `benches/peers/candle` is built
first, and `--sdcpp` adds stable-diffusion.cpp (`benches/peers/sdcpp.py` says how to install it). Both compute the bare
step of `sd15` in f32.

On diffusers' side, both rows with guidance are attention processors. `daam` computes every cross-attention's
probabilities and sums the conditional half's maps per token, like the DAAM package. `paint` adds
`w * ln(1 + sigma) * max(scores)` to the conditional half's scores, like paint-with-words-sd. Weights are random
(`sd15`) or the embedded model's (`tiny`). Latents are 32x32 on a CPU and 64x64 on a GPU, unless `--latents` says
otherwise. Every ratio is the median over rounds of a ratio within a round.

`env IMPASTO_KERNELS=avx2 ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2` before the command makes a processor with
AVX-512 compute as one with AVX2: impasto, libtorch and OpenVINO. Candle and stable-diffusion.cpp choose their
instructions when they are compiled; candle is compiled for AVX2 if ATEN_CPU_CAPABILITY is avx2.
"""
import argparse
import copy
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from compiled import PEERS, First, compiled
from diffusers import UNet2DConditionModel
from record import interval, record

ROOT = pathlib.Path(__file__).resolve().parents[2]
SD15 = dict(sample_size=64, in_channels=4, out_channels=4, block_out_channels=(320, 640, 1280, 1280),
            layers_per_block=2, cross_attention_dim=768, attention_head_dim=8)
ROWS = ("none", "daam", "paint")
# Candle chooses its instructions when it is compiled.
CANDLE = "x86-64-v3" if os.environ.get("ATEN_CPU_CAPABILITY") == "avx2" else "native"


class Processor:
    """An attention processor that sums the maps of the conditional half, or biases that half's scores."""

    def __init__(self, name, maps, weights=None):
        self.name, self.maps, self.weights = name, maps, weights

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (attn.head_to_batch_dim(f(x)) for f, x in ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context)))
        scores = torch.bmm(q, k.transpose(1, 2)) * attn.scale
        half = scores.shape[0] // 2
        if self.weights is not None:
            scores[half:] += 0.4 * 1.8 * self.weights[scores.shape[1]] * scores[half:].max()
        probs = scores.softmax(-1)
        if self.maps is not None:
            self.maps[self.name] = self.maps.get(self.name, 0) + probs[half:].permute(2, 0, 1)
        out = attn.batch_to_head_dim(torch.bmm(probs, v))
        return attn.to_out[1](attn.to_out[0](out))


def told(program, row):
    """The seconds that a program tells for one call."""
    program.stdin.write(row + "\n")
    program.stdin.flush()
    return float(program.stdout.readline())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unet", choices=["sd15", "tiny"], default="sd15")
    parser.add_argument("--kind", choices=["f32", "bf16", "f16"], default="f32", help="precision of sd15")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="device of sd15; impasto's libtorch must support it, as PyTorch must")
    parser.add_argument("--peer", help="path of a bench `peer` that is built already: target/release/deps/peer-...")
    parser.add_argument("--latents", type=int, help="side of the latents")
    parser.add_argument("--compiled", action="store_true", help="time torch.compile and OpenVINO too")
    parser.add_argument("--candle", action="store_true", help="time candle too")
    parser.add_argument("--sdcpp", action="store_true", help="time stable-diffusion.cpp too")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    if (args.candle or args.sdcpp) and (args.unet, args.kind, args.device) != ("sd15", "f32", "cpu"):
        parser.error("--candle and --sdcpp compute sd15 in f32 on the CPU only")
    torch.set_num_threads(args.threads)
    cpu_clock = time.process_time if args.threads == 1 else time.perf_counter

    def clock():  # as `benches/support/clock.rs`
        if args.device == "cpu":
            return cpu_clock()
        torch.cuda.synchronize()
        return time.perf_counter()

    def clocked(call):
        def seconds():
            begun = clock()
            call(*given)
            return clock() - begun

        return seconds

    kind = dict(f32=torch.float32, bf16=torch.bfloat16, f16=torch.float16)[args.kind if args.unet == "sd15" else "f32"]
    if args.unet == "sd15":
        unet = UNet2DConditionModel(**SD15).eval()
    else:
        unet = UNet2DConditionModel.from_pretrained(ROOT / "crates/impasto-tiny/model/unet", torch_dtype=torch.float32).eval()
    side = args.latents or (32 if args.device == "cpu" else 64)
    inputs = torch.randn(2, 4, side, side), torch.tensor(500.0), torch.randn(2, 77, unet.config.cross_attention_dim)
    # Each peer has a network of its own, and all have the same weights in memory. OpenVINO reads them in f32, so it comes
    # first.
    calls = {}
    peers = PEERS[::-1] if args.device == "cpu" else ("torch.compile",)
    for peer in peers if args.compiled else ():
        own = copy.deepcopy(unet, {id(weight): weight for weight in unet.parameters()}).to(args.device)
        calls[peer] = clocked(compiled(peer, First(own), [x.to(args.device) for x in inputs], kind, args.threads))
    unet = unet.to(args.device, kind)
    options = dict(dtype=unet.dtype, device=unet.device)
    x, context = (inputs[i].to(**options) for i in (0, 2))
    plain = dict(unet.attn_processors)
    weights = {}
    for halvings in range(4):
        cells = (side >> halvings) ** 2
        weights[cells] = torch.zeros(cells, 77, **options)
        weights[cells][: cells // 2, 5] = 1

    def processors(row):
        made = dict(plain)
        for name in made:
            if row != "none" and "attn2" in name:
                made[name] = Processor(name, {} if row == "daam" else None, weights if row == "paint" else None)
        return made

    def diffusers(row):
        unet.set_attn_processor(processors(row))
        with torch.inference_mode():
            begun = clock()
            unet(x, torch.tensor(500), context)
            return clock() - begun

    given = [x.to(args.device) for x in inputs]
    if args.candle:
        folder = ROOT / "benches/peers/candle"
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=folder, check=True, env=os.environ | {"RUSTFLAGS": f"-C target-cpu={CANDLE}"})
        program = folder / "target/release/candle-step"
        candle = subprocess.Popen([program, str(side), str(args.threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        calls["candle"] = lambda: told(candle, "step")
    if args.sdcpp:
        files = tempfile.TemporaryDirectory()
        subprocess.run(["cargo", "bench", "--quiet", "--bench", "full_size", "--", "make", "sd15", files.name], cwd=ROOT, check=True)
        program = [sys.executable, ROOT / "benches/peers/sdcpp.py", files.name, str(side), str(args.threads)]
        sdcpp = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        calls["stable-diffusion.cpp"] = lambda: told(sdcpp, "step")

    bench = ["cargo", "bench", "--quiet", "--bench", "peer"]
    if args.peer is None:
        subprocess.run([*bench, "--no-run"], cwd=ROOT, check=True)
    run = [*bench, "--"] if args.peer is None else [args.peer]
    run += ["--threads", str(args.threads), "--step", args.unet, "--kind", args.kind, "--device", args.device]
    run += ["--latents", str(side)]
    ours = subprocess.Popen(run, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    rounds = []
    for number in range(args.rounds + 1):
        times = {}
        for row in ROWS:
            times["diffusers", row], times["impasto", row] = diffusers(row), told(ours, row)
        times.update({(peer, "none"): seconds() for peer, seconds in calls.items()})
        if number:  # the first round warms up
            rounds.append(times)
    ours.stdin.close()
    print(f"{args.unet}, {args.threads} threads, {args.rounds} rounds in turns; median milliseconds, ratio to the same library's bare step:")
    group = args.kind if args.unet == "sd15" else args.unet
    if args.candle or args.sdcpp:
        group += " beside others"
    for who in ("diffusers", *calls, "impasto"):
        for row in ROWS if who not in calls else ROWS[:1]:
            ms = 1e3 * statistics.median(times[who, row] for times in rounds)
            ratio = statistics.median(times[who, row] / times[who, "none"] for times in rounds)
            print(f"  {who:<20} {row:<6} {ms:9.1f}   {ratio:.3f}")
            record("step", group, f"{who} {row}", "ms", ms, None, args.rounds, args.threads)
    for row in ROWS:
        ratios = [times["impasto", row] / times["diffusers", row] for times in rounds]
        ratio, (low, high) = statistics.median(ratios), interval(ratios)
        print(f"  impasto / diffusers, {row:<6} {ratio:.3f} [{low:.3f}, {high:.3f}]")
        record("step", group, f"impasto {row}", "ratio to diffusers", ratio, (low, high), args.rounds, args.threads)
    for peer in calls:
        ratios = [times["impasto", "none"] / times[peer, "none"] for times in rounds]
        ratio, (low, high) = statistics.median(ratios), interval(ratios)
        print(f"  impasto / {peer}, none {ratio:.3f} [{low:.3f}, {high:.3f}]")
        record("step", group, "impasto none", f"ratio to {peer}", ratio, (low, high), args.rounds, args.threads)


if __name__ == "__main__":
    main()
