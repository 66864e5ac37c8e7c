#!/usr/bin/env python3
"""Lines that sketchKeras' network finds in two pictures, for sketch_keras.json.

needs torch (CPU), numpy, opencv-python-headless.   usage: gen_sketch_keras.py OUT.json

Weights and pictures follow from an index, by the rule in gen_controlnet.py. Variances of batch norms are 1 + |value|,
and the last convolution's bias is 0. The network was checked against the class of ColorizeDiffusion's
preprocessor/sketchKeras.py (c9bd9fb): same names, same shapes, and outputs equal to the bit.
"""
import json
import sys

import cv2
import numpy as np
import torch
import torch.nn.functional as F


def unit(n, count):
    x = (np.uint64(n) << np.uint64(32)) + np.arange(count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = x + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) / float(1 << 53)


DOWN = [[(1, 32, 3, 1)], [(32, 64, 4, 2), (64, 64, 3, 1)], [(64, 128, 4, 2), (128, 128, 3, 1)],
        [(128, 256, 4, 2), (256, 256, 3, 1)], [(256, 512, 4, 2)], [(512, 512, 3, 1)]]
UP = [[(1024, 512, 4, 1), (512, 256, 3, 1)], [(512, 256, 4, 1), (256, 128, 3, 1)],
      [(256, 128, 4, 1), (128, 64, 3, 1)], [(128, 64, 4, 1), (64, 32, 3, 1)]]


def names_and_shapes():
    keys = {"last_conv.weight": [1, 64, 3, 3], "last_conv.bias": [1]}
    for half, blocks in (("down", DOWN), ("up", UP)):
        for i, convs in enumerate(blocks):
            for j, (inputs, outputs, kernel, _) in enumerate(convs):
                at = 4 * j + (half == "up")
                path = f"{half}block_{i + 1}.{at + 1}"
                keys[path + ".weight"], keys[path + ".bias"] = [outputs, inputs, kernel, kernel], [outputs]
                for name in ("weight", "bias", "running_mean", "running_var"):
                    keys[f"{half}block_{i + 1}.{at + 2}.{name}"] = [outputs]
    return [[name, keys[name]] for name in sorted(keys)]


def weights(keys):
    sd = {}
    for n, (name, shape) in enumerate(keys):
        is_norm = name.rsplit(".", 1)[0] + ".running_var" in dict(keys)
        values = 2 * unit(n + 1, int(np.prod(shape))) - 1
        values *= np.sqrt(3 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        sd[name] = torch.from_numpy(values.astype(np.float32)).reshape(shape)
        if is_norm and name.endswith(".weight"):
            sd[name] = sd[name] + 1
        if name.endswith(".running_var"):
            sd[name] = 1 + sd[name].abs()
    sd["last_conv.bias"] *= 0
    return sd


def forward(sd, x):
    def layer(x, path, at, kernel, stride, pads):
        x = F.conv2d(F.pad(x, pads, mode="reflect"), sd[f"{path}.{at}.weight"], sd[f"{path}.{at}.bias"], stride=stride)
        norm = f"{path}.{at + 1}."
        x = F.batch_norm(x, sd[norm + "running_mean"], sd[norm + "running_var"], sd[norm + "weight"], sd[norm + "bias"],
                         eps=1e-3)
        return F.relu(x)

    skips = []
    for i, convs in enumerate(DOWN):
        for j, (_, _, kernel, stride) in enumerate(convs):
            x = layer(x, f"downblock_{i + 1}", 4 * j + 1, kernel, stride, (1, 1, 1, 1))
        skips.append(x)
    x = skips.pop()
    for i, convs in enumerate(UP):
        x = F.interpolate(torch.cat((skips.pop(), x), 1), scale_factor=2, mode="bicubic")
        for j, (_, _, kernel, _) in enumerate(convs):
            x = layer(x, f"upblock_{i + 1}", 4 * j + 2, kernel, 1, (1, 2, 1, 2) if j == 0 else (1, 1, 1, 1))
    x = torch.cat((skips.pop(), x), 1)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), sd["last_conv.weight"], sd["last_conv.bias"])


def contrast(picture):
    """What the network reads: [3, 1, h, w]."""
    blurred = cv2.GaussianBlur(picture, (0, 0), 3)
    x = (picture.astype(int) - blurred.astype(int)).astype(np.float32) / 127.5
    x /= x.max()
    return torch.from_numpy(x).permute(2, 0, 1)[:, None]


def lines(prediction):
    """Light lines on black in 0..1, before the map to -1..1."""
    light = prediction.amax(0)[0]
    return torch.where(light < 0.1, 0.0, light)


def picture(stream, height, width):
    """Blocks of 8 pixels in colors of their own."""
    colors = (256 * unit(1000000 + stream, 3 * (height // 8) * (width // 8))).astype(np.uint8)
    return colors.reshape(height // 8, width // 8, 3).repeat(8, 0).repeat(8, 1).copy()


def main():
    torch.set_num_threads(1)
    keys = names_and_shapes()
    sd = weights(keys)
    sizes = ((1, 128, 128), (2, 64, 128))
    raw = forward(sd, contrast(picture(*sizes[0])))
    # Lines of random weights leave any range. This factor of the last layer brings three in four into 0..1.
    gain = float(1 / raw.amax(0).flatten().sort()[0][int(.75 * raw.shape[2] * raw.shape[3])])
    sd["last_conv.weight"] *= gain
    cases = []
    for stream, height, width in sizes:
        light = lines(forward(sd, contrast(picture(stream, height, width))))
        shades = (255 - 255 * light.clamp(0, 1)).round().to(torch.uint8)
        cases.append({"stream": stream, "height": height, "width": width,
                      "rows": {str(y): shades[y].tolist() for y in (0, height // 2, height - 1)},
                      "mean": float(shades.to(torch.float64).mean())})
    json.dump({"keys": keys, "gain": gain, "cases": cases}, open(sys.argv[1], "w"), separators=(",", ":"))


if __name__ == "__main__":
    main()
