#!/usr/bin/env python3
"""Digests of the edges of 1,000 random pictures, by `canny_ref` of gen_canny.py, which that script checks against
cv2.Canny.

Each picture depends on its number alone, by SplitMix64 as in gen_strokes.py; `picture` below makes it.

usage: gen_canny_random.py OUT.json        needs numpy
"""
import hashlib, json, sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from gen_canny import canny_ref
from gen_strokes import SplitMix64


def picture(number):
    """Picture, thresholds and norm of a case: noise, blocks of 4 pixels, or a sawtooth."""
    rng = SplitMix64(number)
    w, h, gray, kind = 1 + rng.below(40), 1 + rng.below(40), rng.below(2), rng.below(3)
    channels = 1 if gray else 3
    if kind == 0:
        pixels = [rng.below(256) for _ in range(h * w * channels)]
    elif kind == 1:
        rows, columns = (h + 3) // 4, (w + 3) // 4
        blocks = [rng.below(256) for _ in range(rows * columns * channels)]
        pixels = [blocks[((y // 4) * columns + x // 4) * channels + c] for y in range(h) for x in range(w) for c in range(channels)]
    else:
        slopes = [(rng.below(40), rng.below(40), rng.below(256)) for _ in range(channels)]
        pixels = [(a * x + b * y + start) % 256 for y in range(h) for x in range(w) for a, b, start in slopes]
    low, high, l2 = rng.below(1200) / 4, rng.below(2400) / 4, rng.below(2) == 1
    shape = (h, w) if gray else (h, w, 3)
    return np.array(pixels, np.uint8).reshape(shape), low, high, l2


def main():
    digests = []
    for number in range(1000):
        image, low, high, l2 = picture(number)
        edges = canny_ref(image, low, high, l2)
        digests.append(hashlib.sha256((edges // 255).tobytes()).hexdigest()[:12])
    Path(sys.argv[1]).write_text(json.dumps({"sha256_of_bytes_0_and_1": digests}, separators=(",", ":")))


if __name__ == "__main__":
    main()
