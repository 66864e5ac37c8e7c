#!/usr/bin/env python3
"""Models of full size with random f16 weights: load, one step of both branches, decoding and peak memory, beside diffusers.

    .peers/bin/python benches/peers/full_size.py [--model sd15|sdxl|sd35|anima] [--side 512] [--kind f32|bf16] [--threads 2]
        [--rounds 3]

`benches/peers/step.py` says how to make the Python. impasto (weights in memory, and offloaded to their files) and
diffusers run in turns, each in a process of its own, with the same folder. The files are in the system's file cache if
memory allows. "peak" is the most resident memory of a process, "own" is the peak without mapped files, which the system
can drop when it needs memory. SDXL in f32 takes 15 GB. Stable Diffusion 3.5 medium has no T5 here. Linux only, because memory is read from /proc.
"""
import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from record import record

ROOT = pathlib.Path(__file__).resolve().parents[2]
MEASURES = ("load s", "step s", "decode s", "peak GB", "own GB")


def resident(name):
    """The value of a line of /proc/self/status, in bytes."""
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return 1024 * int(line.split()[1])


def network(folder, kind):
    """Loads a folder's networks. Returns one call of the denoiser, the decoder, and the channels of latents."""
    import torch
    from diffusers import (AnimaTextConditioner, AutoencoderKL, AutoencoderKLQwenImage, CosmosTransformer3DModel,
                           SD3Transformer2DModel, UNet2DConditionModel)
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, Qwen3Model

    def part(name, network):
        return network.from_pretrained(folder / name, torch_dtype=kind) if (folder / name).exists() else None

    def noise(*shape):
        return torch.randn(*shape, dtype=kind)

    if (folder / "text_conditioner").exists():
        texts = part("text_encoder", Qwen3Model), part("text_conditioner", AnimaTextConditioner)
        transformer, vae = part("transformer", CosmosTransformer3DModel), part("vae", AutoencoderKLQwenImage)
        context = noise(2, 512, 1024)

        def anima(x, kept=texts):
            mask = x.new_zeros(1, 1, *x.shape[2:])
            return transformer(x.unsqueeze(2), torch.full((2,), 0.5, dtype=kind), context, padding_mask=mask)

        return anima, lambda x: vae.decode(x.unsqueeze(2)), 16
    if (folder / "transformer").exists():
        texts = [part(name, CLIPTextModelWithProjection) for name in ("text_encoder", "text_encoder_2")]
        transformer, vae = part("transformer", SD3Transformer2DModel), part("vae", AutoencoderKL)
        context, pooled = noise(2, 333, 4096), noise(2, 2048)
        return lambda x, kept=texts: transformer(x, context, pooled, torch.full((2,), 600.0, dtype=kind)), vae.decode, 16
    unet, vae = part("unet", UNet2DConditionModel), part("vae", AutoencoderKL)
    texts = part("text_encoder", CLIPTextModel), part("text_encoder_2", CLIPTextModelWithProjection)
    context, added = noise(2, 77, unet.config.cross_attention_dim), None
    if texts[1]:
        added = dict(text_embeds=noise(2, 1280), time_ids=torch.full((2, 6), 1024.0, dtype=kind))
    return lambda x, kept=texts: unet(x, 600, context, added_cond_kwargs=added), vae.decode, 4


def diffusers(folder, side, kind, threads):
    """Does in diffusers what `work` in benches/full_size.rs does, and prints the same figures."""
    highest, ended = [0], threading.Event()

    def read():
        while not ended.wait(0.01):
            highest[0] = max(highest[0], resident("RssAnon"))

    reader = threading.Thread(target=read)
    reader.start()
    import torch
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    kind = torch.bfloat16 if kind == "bf16" else torch.float32
    begun = time.perf_counter()
    call, decode, channels = network(folder, kind)
    load = time.perf_counter() - begun

    def step(cells):
        x = torch.randn(1, channels, cells, cells, dtype=kind)
        begun = time.perf_counter()
        call(x.repeat(2, 1, 1, 1))
        return time.perf_counter() - begun

    step(32)
    seconds = step(side // 8)
    x = torch.randn(1, channels, side // 8, side // 8, dtype=kind)
    begun = time.perf_counter()
    decode(x)
    decoded = time.perf_counter() - begun
    ended.set()
    reader.join()
    print(load, seconds, decoded, resident("VmHWM"), highest[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["sd15", "sdxl", "sd35", "anima"], default="sd15")
    parser.add_argument("--side", type=int, default=512, help="width and height of the picture in pixels")
    parser.add_argument("--kind", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--diffusers", type=pathlib.Path, help=argparse.SUPPRESS)  # a process that measures diffusers
    args = parser.parse_args()
    if args.diffusers:
        return diffusers(args.diffusers, args.side, args.kind, args.threads)
    bench = ["cargo", "bench", "--quiet", "--bench", "full_size"]
    subprocess.run([*bench, "--no-run"], cwd=ROOT, check=True)
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*bench, "--", "make", args.model, folder], cwd=ROOT, check=True)
        common = ["--side", str(args.side), "--kind", args.kind, "--threads", str(args.threads)]
        commands = {
            "diffusers": [sys.executable, __file__, "--diffusers", folder, *common],
            **{row: [*bench, "--", "work", folder, str(args.side), args.kind, place, str(args.threads)]
               for row, place in (("impasto", "held"), ("offload", "offload"))},
        }
        for _ in range(args.rounds):
            figures = {}
            for row, command in commands.items():
                out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
                load, step, decode, peak, own = map(float, out.split())
                figures[row] = dict(zip(MEASURES, (load, step, decode, peak / 1e9, own / 1e9)))
            rounds.append(figures)
    group = f"{args.model} {args.side} {args.kind}"
    print(f"{group}, {args.threads} threads, {args.rounds} rounds in turns; medians, and ratios to diffusers:")
    for row in commands:
        told = []
        for measure in MEASURES:
            value = statistics.median(figures[row][measure] for figures in rounds)
            ratio = statistics.median(figures[row][measure] / figures["diffusers"][measure] for figures in rounds)
            told.append(f"{measure} {value:.2f} ({ratio:.3f})")
            record("full_size", group, row, measure, value, None, args.rounds, args.threads)
            record("full_size", group, row, f"{measure} ratio", ratio, None, args.rounds, args.threads)
        print(f"  {row:<10}", "   ".join(told))


if __name__ == "__main__":
    main()
