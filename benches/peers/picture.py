#!/usr/bin/env python3
"""One picture of the embedded model, or of any folder: diffusers and impasto in turns, as a ratio.

    python3 -m venv .peers && .peers/bin/pip install torch==2.11.0 diffusers transformers
    .peers/bin/python benches/peers/picture.py [--threads 2] [--rounds 30] [--model FOLDER]

Both do the same work: the same weights in f32, prompt, seed, 28 Euler steps with the model's own guidance scale (7.5 where a folder names
none), decoding included. The script also says how far the two pictures are apart.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from record import interval, record

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROMPT = "1girl, eyes, hair bow, hair, skin, shirt, background"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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

    def diffusers():
        begun = clock()
        generator = torch.Generator().manual_seed(0)
        image = pipe(PROMPT, num_inference_steps=28, guidance_scale=scale, generator=generator).images[0]
        return clock() - begun, image

    impasto(), diffusers()
    rows = []
    for _ in range(args.rounds):
        theirs, image = diffusers()
        rows.append((impasto(), theirs))
    ours.stdin.close()
    ratios = [a / b for a, b in rows]
    ratio, (low, high) = statistics.median(ratios), interval(ratios)
    apart = np.abs(np.asarray(image, float) - np.asarray(Image.open(f"{folder}/picture.png"), float)).max()
    print(f"{args.threads} threads, {args.rounds} rounds in turns, median seconds a picture:")
    group = "embedded" if args.model == ROOT / "crates/impasto-tiny/model" else args.model.name
    for who, seconds in (("impasto", [a for a, _ in rows]), ("diffusers", [b for _, b in rows])):
        print(f"  {who:<9} {statistics.median(seconds):.3f}")
        record("picture", group, who, "s", statistics.median(seconds), None, args.rounds, args.threads)
    print(f"  ratio     {ratio:.3f} [{low:.3f}, {high:.3f}]")
    record("picture", group, "impasto", "ratio to diffusers", ratio, (low, high), args.rounds, args.threads)
    print(f"  the pictures differ by at most {apart:.0f} of 255")


if __name__ == "__main__":
    main()
