#!/usr/bin/env python3
"""One picture of the embedded model, or of any folder: impasto and its peers in turns, as ratios.

    python3 -m venv .peers && .peers/bin/pip install torch==2.11.0 diffusers transformers openvino
    .peers/bin/python benches/peers/picture.py [--threads 2] [--rounds 30] [--model FOLDER] [--compiled]

The peer is diffusers in eager mode. With `--compiled` there are two more: diffusers with its UNet compiled by
torch.compile and by OpenVINO, as in `step.py`; its text encoder and VAE stay eager. All do the same work: the same
weights in f32, prompt, seed, 28 Euler steps with the model's own guidance scale (7.5 where a folder names none), decoding
included. The script also prints the largest difference of a pixel's
channel between impasto's picture and each peer's.
"""
import argparse
import copy
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np
import torch
from compiled import PEERS, First, compiled
from diffusers import StableDiffusionPipeline
from PIL import Image
from record import interval, record

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROMPT = "1girl, eyes, hair bow, hair, skin, shirt, background"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiled", action="store_true", help="time torch.compile and OpenVINO too")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "crates/impasto-tiny/model", help="a diffusers folder")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.threads == 1 else time.perf_counter  # as `benches/support/clock.rs`
    pipe = StableDiffusionPipeline.from_pretrained(args.model, safety_checker=None, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    own = args.model / "impasto.json"
    scale = json.loads(own.read_text())["guidance_scale"] if own.exists() else 7.5
    folder = tempfile.mkdtemp()
    build = ["cargo", "bench", "--quiet", "--bench", "peer", "--no-run"]
    subprocess.run(build, cwd=ROOT, check=True)
    run = ["cargo", "bench", "--quiet", "--bench", "peer", "--", "--threads", str(args.threads), "--save", folder]
    run += ["--model", str(args.model.resolve())]
    ours = subprocess.Popen(run, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def impasto():
        ours.stdin.write(PROMPT + "\n")
        ours.stdin.flush()
        return float(ours.stdout.readline())

    # What the pipeline calls as its UNet, for each peer. OpenVINO reads the weights in f32, so it is compiled first.
    eager, networks = pipe.unet, {"diffusers": pipe.unet.forward}
    side, width = eager.config.sample_size, eager.config.cross_attention_dim
    inputs = torch.randn(2, 4, side, side), torch.tensor(500.0), torch.randn(2, 77, width)
    for peer in PEERS[::-1] if args.compiled else ():
        call = compiled(peer, First(copy.deepcopy(eager)), inputs, torch.float32, args.threads)
        networks[peer] = lambda x, t, encoder_hidden_states, call=call, **_: (call(x, t.float(), encoder_hidden_states),)

    def theirs(peer):
        eager.forward = networks[peer]
        begun = clock()
        generator = torch.Generator().manual_seed(0)
        image = pipe(PROMPT, num_inference_steps=28, guidance_scale=scale, generator=generator).images[0]
        return clock() - begun, image

    impasto()
    for peer in networks:
        theirs(peer)
    seconds, images = {peer: [] for peer in ("impasto", *networks)}, {}
    for _ in range(args.rounds):
        for peer in networks:
            elapsed, images[peer] = theirs(peer)
            seconds[peer].append(elapsed)
        seconds["impasto"].append(impasto())
    ours.stdin.close()
    own = np.asarray(Image.open(f"{folder}/picture.png"), float)
    print(f"{args.threads} threads, {args.rounds} rounds in turns, median seconds a picture:")
    group = "embedded" if args.model == ROOT / "crates/impasto-tiny/model" else args.model.name
    for who, times in seconds.items():
        print(f"  {who:<13} {statistics.median(times):.3f}")
        record("picture", group, who, "s", statistics.median(times), None, args.rounds, args.threads)
    for peer, image in images.items():
        ratios = [a / b for a, b in zip(seconds["impasto"], seconds[peer])]
        ratio, (low, high) = statistics.median(ratios), interval(ratios)
        apart = np.abs(np.asarray(image, float) - own).max()
        print(f"  impasto / {peer:<13} {ratio:.3f} [{low:.3f}, {high:.3f}]; the pictures differ by at most {apart:.0f} of 255")
        record("picture", group, "impasto", f"ratio to {peer}", ratio, (low, high), args.rounds, args.threads)
        record("picture", group, peer, "largest difference", apart, None, args.rounds, args.threads)


if __name__ == "__main__":
    main()
