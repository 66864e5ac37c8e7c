#!/usr/bin/env python3
"""Golden vectors for the generator of color strokes and the metrics of colors and edges.

usage: gen_strokes.py OUT.json        needs numpy, scikit-image, scipy
The walk, dilation and copy follow the post "Coloring with ControlNet"; the random source, draw order,
stroke count and blur are this project's.
scikit-image is used to check the dilation and the color difference, not to produce the walk.
"""
import json, sys
import numpy as np

M = (1 << 64) - 1


class SplitMix64:
    def __init__(self, seed):
        self.s = seed & M

    def next(self):
        self.s = (self.s + 0x9E3779B97F4A7C15) & M
        z = self.s
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M
        return z ^ (z >> 31)

    def below(self, n):                 # 0 .. n-1
        return (self.next() * n) >> 64

    def unit(self):                     # [0, 1)
        return (self.next() >> 11) / float(1 << 53)


DIRS = [(-1, 0), (0, -1), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)]     # (dy, dx)


def walk(rng, h, w, lmin, lmax):
    y, x = rng.below(h), rng.below(w)
    n = lmin + rng.below(lmax - lmin + 1)
    pts, inside = [], True
    for _ in range(n):                  # every direction is drawn, even after the walk has left the image
        dy, dx = DIRS[rng.below(8)]
        y, x = y + dy, x + dx
        inside = inside and 0 <= y < h and 0 <= x < w
        if inside:
            pts.append((y, x))
    return n, pts


def dilate(mask, t):
    if t <= 1:
        return mask.copy()
    h, w = mask.shape
    lo, hi = -(t // 2), t - 1 - t // 2
    out = np.zeros_like(mask)
    for y in range(h):
        for x in range(w):
            out[y, x] = mask[max(0, y + lo):min(h, y + hi + 1), max(0, x + lo):min(w, x + hi + 1)].max(initial=0)
    return out


def generate(img, seed, p):
    h, w = img.shape[:2]
    rng = SplitMix64(seed)
    k = p["strokes"][0] + rng.below(p["strokes"][1] - p["strokes"][0] + 1)
    rgba = np.zeros((h, w, 4), np.uint8)
    log = []
    for _ in range(k):
        n, pts = walk(rng, h, w, *p["length"])
        t = p["thickness"][rng.below(len(p["thickness"]))]
        m = np.zeros((h, w), np.uint8)
        for y, x in pts:
            m[y, x] = 255
        m = dilate(m, t)
        rgba[m > 0, :3] = img[m > 0]
        rgba[m > 0, 3] = 255
        log.append({"drawn": n, "kept": len(pts), "thickness": t, "head": [list(q) for q in pts[:6]],
                    "pixels": int((m > 0).sum())})
    blur = None
    if rng.unit() < p["blur_prob"]:
        blur = p["blur_sigma"][0] + (p["blur_sigma"][1] - p["blur_sigma"][0]) * rng.unit()
    t = rgba.astype(np.float64) / 255.0
    if blur is not None:
        t = gauss(t, blur)
    return rgba, t, blur, log


def gauss(t, s):
    r = int(np.ceil(3 * s))
    k = np.exp(-0.5 * (np.arange(-r, r + 1) / s) ** 2)
    k /= k.sum()
    for ax in (0, 1):
        pad = [(0, 0)] * t.ndim
        pad[ax] = (r, r)
        q = np.pad(t, pad)              # zeros outside
        t = sum(k[i] * np.take(q, np.arange(i, i + t.shape[ax]), axis=ax) for i in range(2 * r + 1))
    return t


def main():
    from skimage.filters import rank
    from skimage.color import deltaE_ciede2000, rgb2lab
    from scipy.ndimage import gaussian_filter
    r0 = np.random.default_rng(3)
    for t in (1, 2, 3):
        for _ in range(40):
            m = ((r0.random((9, 11)) < 0.1) * 255).astype(np.uint8)
            assert np.array_equal(dilate(m, t), rank.maximum(m, np.ones((t, t), np.uint8))), t
    a = r0.random((12, 9, 4))
    g = gauss(a, 1.3)
    assert np.allclose(g, gaussian_filter(a, (1.3, 1.3, 0), mode="constant", radius=(4, 4, 0)), atol=1e-12)

    yy, xx = np.mgrid[0:24, 0:32]
    img = np.stack([xx * 8, yy * 10, 255 - xx * 4 - yy * 3], -1).astype(np.uint8)
    rng = SplitMix64(42)
    out = {"splitmix64_seed_42": [str(rng.next()) for _ in range(4)],
           "below_10_seed_7": (lambda q: [q.below(10) for _ in range(12)])(SplitMix64(7)),
           "unit_seed_7": (lambda q: [q.unit() for _ in range(3)])(SplitMix64(7)),
           "image": {"h": 24, "w": 32, "rule": "r = 8x, g = 10y, b = 255 - 4x - 3y"}, "cases": []}
    base = {"strokes": [3, 3], "length": [10, 40], "thickness": [0, 1, 2, 3], "blur_prob": 0.0, "blur_sigma": [0.5, 2.0]}
    for seed, ch in ((1, {}), (2, {"strokes": [1, 6]}), (3, {"blur_prob": 1.0}), (4, {"length": [200, 1000], "strokes": [2, 2]}),
                     (5, {"strokes": [0, 0]}), (6, {"thickness": [3], "blur_prob": 1.0, "blur_sigma": [1.0, 1.0]})):
        p = dict(base, **ch)
        rgba, t, blur, log = generate(img, seed, p)
        c = {"seed": seed, "params": p, "strokes": log, "blur_sigma": blur,
             "alpha_rows": ["".join("#" if v else "." for v in row) for row in rgba[..., 3]],
             "rgba_sum": [int(v) for v in rgba.reshape(-1, 4).astype(np.int64).sum(0)]}
        if blur is not None:
            c["blurred_first_row"] = [float(v) for v in t[0].reshape(-1)]
            c["blurred_mid_row"] = [float(v) for v in t[12].reshape(-1)]
            c["blurred_sum"] = [float(v) for v in t.reshape(-1, 4).sum(0)]
        out["cases"].append(c)

    # metric goldens: ciede2000 on sRGB pairs, edge F1 with tolerance
    prs = [((255, 215, 0), (255, 215, 0)), ((255, 215, 0), (218, 165, 32)), ((255, 0, 0), (254, 0, 0)), ((0, 0, 255), (0, 255, 0)),
           ((10, 10, 10), (20, 20, 20)), ((128, 128, 128), (130, 126, 129)), ((255, 255, 255), (0, 0, 0)), ((200, 30, 90), (90, 30, 200))]
    de = []
    for u, v in prs:
        lu, lv = (rgb2lab(np.array(q, float)[None, None] / 255.0)[0, 0] for q in (u, v))
        de.append({"a": u, "b": v, "lab_a": lu.tolist(), "lab_b": lv.tolist(), "de2000": float(deltaE_ciede2000(lu, lv))})
    out["delta_e"] = de
    A = ["........", "..####..", "..#..#..", "..####..", "........"]
    B = ["........", ".####...", ".#..#...", ".####...", ".......#"]
    out["edge_f1"] = {"pred": A, "truth": B,
                      "cases": [dict(tol=k, **edge_f1(A, B, k)) for k in (0, 1, 2)]}
    json.dump(out, open(sys.argv[1], "w"), separators=(",", ":"))
    print([c["blur_sigma"] for c in out["cases"]], out["edge_f1"]["cases"])


def edge_f1(a, b, tol):
    p = [(y, x) for y, r in enumerate(a) for x, v in enumerate(r) if v == "#"]
    t = [(y, x) for y, r in enumerate(b) for x, v in enumerate(r) if v == "#"]
    near = lambda q, s: any(max(abs(q[0] - y), abs(q[1] - x)) <= tol for y, x in s)
    pr = sum(near(q, t) for q in p) / len(p)
    rc = sum(near(q, p) for q in t) / len(t)
    return {"precision": pr, "recall": rc, "f1": 2 * pr * rc / (pr + rc)}


if __name__ == "__main__":
    main()
