"""Writes yardstick_guides.json: distances of palettes, in plain Python.

Each picture is reduced to 64 x 64 cells, averaged in linear light. The distance is a mean over 16 directions of a
golden spiral in CIELAB: the 1-Wasserstein distance of both pictures' colors along each direction.
"""

import json
import math
from pathlib import Path

GRID = 64
XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
WHITE = [0.95047, 1.0, 1.08883]


def pixel(kind, y, x):
    if kind == "stripes":
        return (7 * x + 3 * y) % 256, (x * y) % 256, (200 + 2 * y) % 256
    return 255 - (x * x) % 256, 40, (5 * x + 11 * y) % 256


def linear(channel):
    c = channel / 255
    return c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4


def lab(light):
    t = [sum(m * c for m, c in zip(row, light)) / w for row, w in zip(XYZ, WHITE)]
    f = [v ** (1 / 3) if v > 216 / 24389 else (24389 / 27 * v + 16) / 116 for v in t]
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


def small(kind, h, w):
    colors = []
    for i in range(GRID):
        for j in range(GRID):
            ys = range(i * h // GRID, max((i + 1) * h // GRID, i * h // GRID + 1))
            xs = range(j * w // GRID, max((j + 1) * w // GRID, j * w // GRID + 1))
            cell = [[linear(c) for c in pixel(kind, y, x)] for y in ys for x in xs]
            colors.append(lab([sum(c) / len(cell) for c in zip(*cell)]))
    return colors


def sliced(a, b, directions=16):
    total = 0
    for i in range(directions):
        z = 1 - (2 * i + 1) / directions
        turn = math.pi * (1 + math.sqrt(5)) * (i + 0.5)
        d = (z, math.sqrt(1 - z * z) * math.cos(turn), math.sqrt(1 - z * z) * math.sin(turn))
        along = [sorted(sum(p * q for p, q in zip(color, d)) for color in colors) for colors in (a, b)]
        total += sum(abs(p - q) for p, q in zip(*along)) / len(a)
    return total / directions


def main():
    cases = []
    for size, other in [((64, 64), (64, 64)), ((128, 128), (128, 128)), ((128, 128), (96, 70)), ((100, 65), (192, 256))]:
        distance = sliced(small("stripes", *size), small("rings", *other))
        cases.append({"stripes": size, "rings": other, "distance": round(distance, 8)})
    path = Path(__file__).with_name("yardstick_guides.json")
    path.write_text(json.dumps({"palette": cases}) + "\n")


main()
