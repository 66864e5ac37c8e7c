#!/usr/bin/env python3
"""Golden vectors for the Canny edge map that the color ControlNet reads.

`canny_ref` below implements the algorithm of src/hint/canny.rs independently. Every case written to canny.json is
first checked to be identical to cv2.Canny. With --fuzz N, `canny_ref` and cv2.Canny are also compared on N random
images.

usage: gen_canny.py [--fuzz N] OUT.json
"""
import argparse, json
import numpy as np

TG22 = 13573            # round(tan(22.5 deg) * 2^15)


def sobel3(ch):
    p = np.pad(ch.astype(np.int64), 1, mode="edge")
    dx = (p[:-2, 2:] - p[:-2, :-2]) + 2 * (p[1:-1, 2:] - p[1:-1, :-2]) + (p[2:, 2:] - p[2:, :-2])
    dy = (p[2:, :-2] - p[:-2, :-2]) + 2 * (p[2:, 1:-1] - p[:-2, 1:-1]) + (p[2:, 2:] - p[:-2, 2:])
    return dx, dy


def canny_ref(img, t1, t2, l2=False):
    lo, hi = (t1, t2) if t1 <= t2 else (t2, t1)
    if l2:
        lo, hi = min(32767.0, lo), min(32767.0, hi)
        lo = lo * lo if lo > 0 else lo
        hi = hi * hi if hi > 0 else hi
    lo, hi = int(np.floor(lo)), int(np.floor(hi))
    planes = [img] if img.ndim == 2 else [img[..., c] for c in range(img.shape[2])]
    best = None
    for pl in planes:                                   # channel of greatest magnitude, first wins ties
        dx, dy = sobel3(pl)
        m = dx * dx + dy * dy if l2 else np.abs(dx) + np.abs(dy)
        if best is None:
            best = [m, dx, dy]
        else:
            k = m > best[0]
            best = [np.where(k, n, o) for n, o in zip((m, dx, dy), best)]
    m, dx, dy = best
    h, w = m.shape
    q = np.zeros((h + 2, w + 2), np.int64)              # magnitude outside the image is 0
    q[1:-1, 1:-1] = m
    state = np.zeros((h, w), np.uint8)                  # 0 none, 1 weak, 2 strong
    for y in range(h):
        for x in range(w):
            v = q[y + 1, x + 1]
            if v <= lo:
                continue
            gx, gy = int(dx[y, x]), int(dy[y, x])
            ax, ay = abs(gx), abs(gy) << 15
            t22 = ax * TG22
            if ay < t22:                                # gradient is horizontal: compare left / right
                ok = v > q[y + 1, x] and v >= q[y + 1, x + 2]
            elif ay > t22 + (ax << 16):                 # vertical: compare up / down
                ok = v > q[y, x + 1] and v >= q[y + 2, x + 1]
            else:                                       # diagonal, strict on both sides
                s = -1 if (gx ^ gy) < 0 else 1
                ok = v > q[y, x + 1 - s] and v > q[y + 2, x + 1 + s]
            if ok:
                state[y, x] = 2 if v > hi else 1
    stack = [tuple(p) for p in np.argwhere(state == 2)]
    while stack:                                        # 8-connected hysteresis
        y, x = stack.pop()
        for j in (y - 1, y, y + 1):
            for i in (x - 1, x, x + 1):
                if 0 <= j < h and 0 <= i < w and state[j, i] == 1:
                    state[j, i] = 2
                    stack.append((j, i))
    return np.where(state == 2, 255, 0).astype(np.uint8)


def rand_image(rng, h, w, c, kind):
    shp = (h, w) if c == 1 else (h, w, c)
    if kind == 0:
        return rng.integers(0, 256, shp).astype(np.uint8)
    if kind == 1:                                       # flat blocks
        k = rng.integers(0, 256, ((h + 3) // 4, (w + 3) // 4) + shp[2:])
        return np.repeat(np.repeat(k, 4, 0), 4, 1)[:h, :w].astype(np.uint8)
    a = rng.normal(128, 60, shp)                        # smooth-ish
    for _ in range(2):
        p = np.pad(a, [(1, 1), (1, 1)] + [(0, 0)] * (a.ndim - 2), mode="edge")
        a = sum(p[j:j + h, i:i + w] for j in range(3) for i in range(3)) / 9
    a = (a - a.min()) / max(1e-9, a.max() - a.min()) * 255
    return a.astype(np.uint8)


def rows(e):
    return ["".join("#" if v else "." for v in r) for r in e]


def main():
    import cv2
    ap = argparse.ArgumentParser()
    ap.add_argument("out")
    ap.add_argument("--fuzz", type=int, default=0)
    a = ap.parse_args()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(20240216)
    bad = 0
    for i in range(a.fuzz):
        h, w = rng.integers(1, 40, 2)
        c = int(rng.choice([1, 3]))
        img = rand_image(rng, int(h), int(w), c, i % 3)
        t1, t2 = (float(v) for v in rng.uniform(0, 600, 2))
        if i % 5 == 0:
            t1, t2 = 100.0, 200.0
        l2 = bool(i % 2)
        if not np.array_equal(canny_ref(img, t1, t2, l2), cv2.Canny(img, t1, t2, L2gradient=l2)):
            bad += 1
            print("differs", i, img.shape, t1, t2, l2)
    print("cv2", cv2.__version__, "fuzz", a.fuzz, "differing", bad)

    yy, xx = np.mgrid[0:24, 0:32]
    disc = np.where((yy - 11.5) ** 2 + (xx - 15.5) ** 2 < 64, 220, 30).astype(np.uint8)
    ramp = np.clip((xx * 8 + yy * 3), 0, 255).astype(np.uint8)
    step = np.where(xx[:12, :12] < 6, 10, 200).astype(np.uint8)
    diag = np.where(xx[:16, :16] + yy[:16, :16] < 15, 0, 255).astype(np.uint8)
    rgb = np.stack([disc, np.where(xx < 8, 200, 60), np.where(yy < 12, 90, 90 + 40 * (xx > 20))], -1).astype(np.uint8)
    noise = rand_image(np.random.default_rng(7), 20, 28, 1, 2)
    noise3 = rand_image(np.random.default_rng(8), 18, 22, 3, 2)
    one = np.array([[7]], np.uint8)
    line = rand_image(np.random.default_rng(9), 1, 16, 1, 0)
    imgs = {"disc": disc, "ramp": ramp, "step": step, "diag": diag, "rgb": rgb, "noise": noise,
            "noise_rgb": noise3, "one_pixel": one, "one_row": line}
    cases = []
    for name, img in imgs.items():
        for t1, t2 in ((100, 200), (50, 150), (200, 100), (20.7, 60.2)):
            for l2 in (False, True):
                e = cv2.Canny(img, t1, t2, L2gradient=l2)
                assert np.array_equal(e, canny_ref(img, t1, t2, l2)), (name, t1, t2, l2)
                cases.append({"image": name, "low": t1, "high": t2, "l2": l2, "rows": rows(e)})
    assert any(np.any([("#" in r) for r in c["rows"]]) for c in cases)
    out = {"about": "images: height, width, channels (1 or 3, interleaved RGB), data row-major u8; rows: '#' = 255, '.' = 0",
           "images": {k: {"h": v.shape[0], "w": v.shape[1], "c": 1 if v.ndim == 2 else v.shape[2],
                          "data": v.reshape(-1).tolist()} for k, v in imgs.items()},
           "cases": cases}
    with open(a.out, "w") as f:
        json.dump(out, f, separators=(",", ":"))


if __name__ == "__main__":
    main()
