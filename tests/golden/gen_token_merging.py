"""Writes the case tiny_txt2img_token_merging: diffusers samples the pinned tiny model, patched by tomesd, which merges half
of the tokens. Also writes specs/token_merging.json, cells that tomesd merges and restores.

    pip install torch==2.11.0 diffusers==0.42.1 transformers==5.23.0 numpy tomesd==0.1.3
    python tests/golden/gen_token_merging.py

tomesd draws destinations from a generator, in the order of calls. Here torch.randint gives the destinations that impasto
draws: they depend on the seed, the step and the site.
"""

import json
from pathlib import Path
from unittest import mock

import numpy as np
import tomesd
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from safetensors.torch import save_file
from tomesd.merge import bipartite_soft_matching_random2d

torch.set_num_threads(1)
ROOT = Path(__file__).parent
STEPS, SEED, SHARE = 8, 61, 0.5
BITS = 2**64 - 1


def mix(number):
    """The random generator SplitMix64."""
    bits = (number + 0x9E3779B97F4A7C15) & BITS
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & BITS
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & BITS
    return bits ^ (bits >> 31)


class Draws:
    """Takes the place of torch.randint. Each step calls it once for each site, in their order."""

    def __init__(self, sites):
        # NumPy's generator of this seed begins with the same bits as torch's.
        self.seed = int(np.random.RandomState(SEED).randint(0, 2**32, dtype=np.uint32))
        self.sites, self.calls = sites, 0

    def __call__(self, high, size, **_):
        step, site = divmod(self.calls, len(self.sites))
        self.calls += 1
        key = self.seed
        for number in (step, 0, self.sites[site]):
            key = mix(key ^ number)
        rows, columns, _ = size
        return torch.tensor([mix(key ^ block) % high for block in range(rows * columns)]).reshape(size)


def sites_of(unet):
    """Returns the indexes of the self-attention sites on the largest grid, among all attention sites in their order."""
    names = [name for name, module in unet.named_modules() if type(module).__name__ in ("BasicTransformerBlock", "ToMeBlock")]
    order = sorted(names, key=lambda name: ["down_blocks", "mid_block", "up_blocks"].index(name.split(".")[0]))
    last = len(unet.config.block_out_channels) - 1
    largest = ("down_blocks.0.", f"up_blocks.{last}.")
    return [2 * i for i, name in enumerate(order) if name.startswith(largest)]


def sample(pipeline, case, dtype):
    params = case["params"]
    pipeline = pipeline.to(dtype)
    generator = torch.Generator().manual_seed(SEED)
    # The noise is drawn in f32, so that a run in f64 starts from equal noise.
    noise = torch.randn((1, 4, params["height"] // 8, params["width"] // 8), generator=generator).to(dtype)
    draws = Draws(sites_of(pipeline.unet))
    with mock.patch.object(torch, "randint", draws):
        latents = pipeline(
            params["prompt"],
            latents=noise,
            num_inference_steps=STEPS,
            guidance_scale=params["guidance_scale"],
            height=params["height"],
            width=params["width"],
            output_type="latent",
        ).images
    assert draws.calls == STEPS * len(draws.sites), draws.calls
    return latents


torch.manual_seed(3)
cells = []
for rows, (h, w), share in ((1, (4, 4), 0.5), (2, (4, 6), 0.75), (2, (5, 7), 0.3), (1, (6, 5), 0.9)):
    for fixed in (True, False):
        x, values = torch.randn(rows, h * w, 3), torch.randn(rows, h * w, 2)
        drawn = torch.zeros(h // 2, w // 2, 1, dtype=torch.int64) if fixed else torch.randint(4, (h // 2, w // 2, 1))
        count = int(h * w * share)
        with mock.patch.object(torch, "randint", lambda *_, **__: drawn):
            merge, unmerge = bipartite_soft_matching_random2d(
                x, w, h, 2, 2, count, no_rand=fixed, generator=torch.Generator()
            )
        merged = merge(values)
        cells.append(
            {"rows": rows, "height": h, "width": w, "merged": h * w - merged.shape[1], "drawn": drawn.flatten().tolist()}
            | {"x": x.flatten().tolist(), "values": values.flatten().tolist(), "restored": unmerge(merged).flatten().tolist()}
        )
(ROOT / "specs" / "token_merging.json").write_text(json.dumps(cells) + "\n")

case = json.loads((ROOT / "tiny_txt2img_euler" / "case.json").read_text())
case |= {
    "name": "tiny_txt2img_token_merging",
    "description": "Trained tiny model (weights stored in half precision, run in fp32), with half of the tokens of "
    "self-attention merged by tomesd.",
    "needs": ["family:sd15", "solver:euler", "spacing:leading", "task:txt2img", "token_merging"],
}
case["params"] |= {"merge_tokens": SHARE, "seed": SEED, "num_inference_steps": STEPS}
for recorded in ("record_steps", "record_image"):
    case["params"].pop(recorded)
case["versions"] |= {"tomesd": "0.1.3"}
pipeline = StableDiffusionPipeline.from_pretrained(
    ROOT / "models" / "tiny_pinned",
    scheduler=EulerDiscreteScheduler(**case["params"]["scheduler"]["config"]),
    safety_checker=None,
    image_encoder=None,
    requires_safety_checker=False,
    torch_dtype=torch.float32,
)
tomesd.apply_patch(pipeline, ratio=SHARE)
latents = sample(pipeline, case, torch.float32)
noise = (sample(pipeline, case, torch.float64).float() - latents).abs().max().item()
case["outputs"] = {
    "latents": {
        "atol": 2e-4,
        "rtol": 1e-4,
        "max_abs": round(latents.abs().max().item(), 5),
        "reference_noise": float(f"{noise:.3g}"),
    }
}
folder = ROOT / "tiny_txt2img_token_merging"
folder.mkdir(exist_ok=True)
(folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")
save_file({"out.latents": latents.contiguous()}, folder / "tensors.safetensors")
print(case["outputs"])
