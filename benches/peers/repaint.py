#!/usr/bin/env python3
"""Repaints pictures by diffusers, for the comparison in docs/repaint.md.

    python3 -m venv .peers && .peers/bin/pip install torch==2.11.0 diffusers transformers
    cargo run --release -p impasto-yardstick --example repaint_study -- compare --out FOLDER --runs 24
    .peers/bin/python benches/peers/repaint.py FOLDER
    cargo run --release -p impasto-yardstick --example repaint_study -- compare --out FOLDER --runs 24

For each `given-N.png` in the folder, `StableDiffusionInpaintPipeline` repaints the white part of `mask-N.png` by the
prompt of `prompt-N.txt`, with the embedded model, the seed N and strength 1, and writes `diffusers-N.png`.
"""
import pathlib
import sys

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionInpaintPipeline
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    folder = pathlib.Path(sys.argv[1])
    model = ROOT / "crates" / "impasto-tiny" / "model"
    scheduler = EulerDiscreteScheduler.from_pretrained(model / "scheduler")
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(
        model, scheduler=scheduler, safety_checker=None, image_encoder=None, requires_safety_checker=False,
        torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    for given in sorted(folder.glob("given-*.png")):
        number = int(given.stem.split("-")[1])
        picture, mask = Image.open(given).convert("RGB"), Image.open(folder / f"mask-{number}.png").convert("L")
        prompt = (folder / f"prompt-{number}.txt").read_text()
        result = pipeline(prompt, image=picture, mask_image=mask, width=picture.width, height=picture.height,
                          strength=1.0, num_inference_steps=28, guidance_scale=5.5,
                          generator=torch.Generator().manual_seed(number)).images[0]
        result.save(folder / f"diffusers-{number}.png")


if __name__ == "__main__":
    main()
