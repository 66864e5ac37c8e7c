#!/usr/bin/env python3
"""Crops of masked parts, by the rule of the AUTOMATIC1111 web UI ("Only masked"): writes crop.json.

A part is padded by some pixels on each side, within the picture. Then its shorter side (relative to the size at which
the run paints) grows to the aspect of that size: half of the missing pixels before it, the rest after it. A part that
reaches beyond the picture is moved back, and cut if the picture has no room.
"""
import json
import pathlib
import random

random.seed(7)


def padded(box, pad, width, height):
    x1, y1, x2, y2 = box
    return [max(x1 - pad, 0), max(y1 - pad, 0), min(x2 + pad, width), min(y2 + pad, height)]


def expanded(box, run_width, run_height, width, height):
    x1, y1, x2, y2 = box
    ratio, wanted = (x2 - x1) / (y2 - y1), run_width / run_height
    if ratio > wanted:
        missing = int((x2 - x1) / wanted - (y2 - y1))
        y1, y2 = y1 - missing // 2, y2 + missing - missing // 2
        y1, y2 = into(y1, y2, height)
    else:
        missing = int((y2 - y1) * wanted - (x2 - x1))
        x1, x2 = x1 - missing // 2, x2 + missing - missing // 2
        x1, x2 = into(x1, x2, width)
    return [x1, y1, x2, y2]


def into(start, end, length):
    if end >= length:
        start, end = start - (end - length), length
    if start < 0:
        start, end = 0, end - start
    return start, min(end, length)


cases = []
for _ in range(120):
    width, height = random.randint(64, 1024), random.randint(64, 1024)
    x1, y1 = random.randrange(width - 8), random.randrange(height - 8)
    x2, y2 = random.randint(x1 + 1, width), random.randint(y1 + 1, height)
    run = random.choice([(512, 512), (512, 768), (768, 512), (256, 256), (1024, 576)])
    pad = random.choice([0, 8, 32, 64])
    around = padded([x1, y1, x2, y2], pad, width, height)
    cases.append({"picture": [width, height], "box": [x1, y1, x2, y2], "padding": pad, "run": list(run),
                  "padded": around, "crop": expanded(around, *run, width, height)})
path = pathlib.Path(__file__).with_name("crop.json")
path.write_text(json.dumps({"cases": cases}) + "\n")
