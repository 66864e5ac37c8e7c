#!/usr/bin/env python3
"""Decoding of a latent by a VAE of SD 1.5's size: impasto and its peers in turns, as ratios.

    .peers/bin/python benches/peers/decode.py [--latents 64] [--threads 2] [--rounds 5] [--taesd]

`benches/peers/step.py` says how to make the Python. The peers are diffusers in eager mode, torch.compile and OpenVINO.
All compute in f32, with random weights. `--taesd` decodes by a tiny autoencoder (TAESD) instead, in impasto and in
diffusers.
"""
import argparse
import copy
import pathlib
import statistics
import subprocess
import time

import torch
from compiled import PEERS, First, compiled
from diffusers import AutoencoderKL, AutoencoderTiny
from record import interval, record

ROOT = pathlib.Path(__file__).resolve().parents[2]
SD15 = dict(block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=int, default=64, help="side of the latents")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--taesd", action="store_true", help="decode by a tiny autoencoder")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    clock = time.process_time if args.threads == 1 else time.perf_counter  # as `benches/support/clock.rs`
    vae = AutoencoderTiny() if args.taesd else AutoencoderKL(**SD15)
    latent = torch.randn(1, 4, args.latents, args.latents)
    eager = First(vae.eval(), "decode")
    # OpenVINO reads the weights in f32, so it comes first.
    calls = {peer: compiled(peer, copy.deepcopy(eager), [latent], torch.float32, args.threads)
             for peer in (() if args.taesd else PEERS[::-1])}
    calls["diffusers"] = eager

    def clocked(call):
        begun = clock()
        call(latent)
        return clock() - begun

    bench = ["cargo", "bench", "--quiet", "--bench", "peer"]
    subprocess.run([*bench, "--no-run"], cwd=ROOT, check=True)
    run = [*bench, "--", "--threads", str(args.threads), "--decode", "taesd" if args.taesd else "vae", "--latents", str(args.latents)]
    ours = subprocess.Popen(run, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def impasto(_):
        ours.stdin.write("decode\n")
        ours.stdin.flush()
        return float(ours.stdout.readline())

    rounds = []
    for number in range(args.rounds + 1):
        times = {who: clocked(call) for who, call in calls.items()} | {"impasto": impasto(latent)}
        if number:  # the first round warms up
            rounds.append(times)
    ours.stdin.close()
    group = f"{'taesd' if args.taesd else 'vae'} {8 * args.latents}"
    print(f"{group}, {args.threads} threads, {args.rounds} rounds in turns; median seconds:")
    for who in ("impasto", *calls):
        seconds = statistics.median(times[who] for times in rounds)
        ratios = [times["impasto"] / times[who] for times in rounds]
        ratio, (low, high) = statistics.median(ratios), interval(ratios)
        print(f"  {who:<13} {seconds:.3f}   impasto / {who} {ratio:.3f} [{low:.3f}, {high:.3f}]")
        record("decode", group, who, "s", seconds, None, args.rounds, args.threads)
        record("decode", group, who, "ratio", ratio, (low, high), args.rounds, args.threads)


if __name__ == "__main__":
    main()
