"""Writes the cases tiny_txt2img_free_u and tiny_txt2img_seg: diffusers samples the pinned tiny model with FreeU, and with
smoothed-energy guidance in the middle block. Also writes specs/free_u.json, FreeU's change of a block by diffusers, and
specs/seg.json, the blur of the queries by diffusers.

    pip install torch==2.11.0 diffusers==0.42.1 transformers==5.23.0
    python tests/golden/gen_free_u_and_seg.py

diffusers has no pipeline with smoothed-energy guidance for this network. The perturbed-attention pipeline computes the
same sum, so its attention is replaced by attention of blurred queries. diffusers' function for the blur swaps the blur
and the mean; a threshold of 0 makes it blur.
"""

import json
import math
from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPAGPipeline, StableDiffusionPipeline
from diffusers.hooks.smoothed_energy_guidance_utils import _gaussian_blur_2d
from diffusers.utils.torch_utils import apply_freeu
from safetensors.torch import save_file

torch.set_num_threads(1)
ROOT = Path(__file__).parent
STEPS, SEED, SCALE, BLUR = 8, 61, 3.0, 0.7
FACTORS = {"b1": 1.5, "b2": 1.6, "s1": 0.9, "s2": 0.2}


def blurred(query, deviation):
    size = math.ceil(6 * deviation) + 1 - math.ceil(6 * deviation) % 2
    return _gaussian_blur_2d(query.clone(), size, deviation, 0.0)


class Attention:
    """Plain self-attention; the last third of the batch has blurred queries."""

    def __init__(self, branches):
        self.branches = branches

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        x = hidden_states
        if encoder_hidden_states is not None:
            raise ValueError("expected self-attention")
        q, k, v = attn.to_q(x), attn.to_k(x), attn.to_v(x)
        rows = q.shape[0] // self.branches
        q = torch.cat([q[:-rows], blurred(q[-rows:], BLUR)])
        heads = lambda y: y.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        out = torch.nn.functional.scaled_dot_product_attention(heads(q), heads(k), heads(v))
        return attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(-2).to(x.dtype)))


def sample(pipeline, case, dtype, **settings):
    params = case["params"]
    pipeline = pipeline.to(dtype)
    generator = torch.Generator().manual_seed(SEED)
    # The noise is drawn in f32, so that a run in f64 starts from equal noise.
    noise = torch.randn((1, 4, params["height"] // 8, params["width"] // 8), generator=generator).to(dtype)
    return pipeline(
        params["prompt"],
        latents=noise,
        num_inference_steps=STEPS,
        guidance_scale=params["guidance_scale"],
        height=params["height"],
        width=params["width"],
        output_type="latent",
        **settings,
    ).images


def write(name, description, need, params, kind, extra, settings, prepare):
    case = json.loads((ROOT / "tiny_txt2img_euler" / "case.json").read_text())
    case |= {
        "name": name,
        "description": f"Trained tiny model (weights stored in half precision, run in fp32), with {description}.",
        "needs": ["family:sd15", need, "solver:euler", "spacing:leading", "task:txt2img"],
    }
    case["params"] |= {"seed": SEED, "num_inference_steps": STEPS, **params}
    for recorded in ("record_steps", "record_image"):
        case["params"].pop(recorded)
    pipeline = kind.from_pretrained(
        ROOT / "models" / "tiny_pinned",
        scheduler=EulerDiscreteScheduler(**case["params"]["scheduler"]["config"]),
        safety_checker=None,
        image_encoder=None,
        requires_safety_checker=False,
        torch_dtype=torch.float32,
        **extra,
    )
    prepare(pipeline)
    latents = sample(pipeline, case, torch.float32, **settings)
    noise = (sample(pipeline, case, torch.float64, **settings).float() - latents).abs().max().item()
    case["outputs"] = {
        "latents": {
            "atol": 2e-4,
            "rtol": 1e-4,
            "max_abs": round(latents.abs().max().item(), 5),
            "reference_noise": float(f"{noise:.3g}"),
        }
    }
    folder = ROOT / name
    folder.mkdir(exist_ok=True)
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")
    save_file({"out.latents": latents.contiguous()}, folder / "tensors.safetensors")
    print(name, case["outputs"])


torch.manual_seed(3)
cells = []
for block, shape in ((0, [2, 6, 4, 4]), (1, [1, 5, 5, 3]), (2, [1, 4, 2, 6])):
    x, skip = torch.randn(shape), torch.randn(shape)
    scaled, filtered = apply_freeu(block, x.clone(), skip.clone(), **FACTORS)
    row = {"x": x, "skip": skip, "scaled": scaled, "filtered": filtered}
    cells.append({"block": block, "shape": shape} | {name: value.flatten().tolist() for name, value in row.items()})
(ROOT / "specs" / "free_u.json").write_text(json.dumps(cells) + "\n")

cells = []
for side, deviation in ((8, 0.7), (8, 10.0), (5, 1.0), (7, 40.0), (4, 0.3)):
    query = torch.randn(1, side * side, 1, dtype=torch.float64)
    row = {"cells": query, "blurred": blurred(query, deviation)}
    cells.append({"side": side, "deviation": deviation} | {name: value.flatten().tolist() for name, value in row.items()})
(ROOT / "specs" / "seg.json").write_text(json.dumps(cells) + "\n")

write(
    "tiny_txt2img_free_u",
    "FreeU",
    "guidance:free_u",
    {"free_u": FACTORS},
    StableDiffusionPipeline,
    {},
    {},
    lambda pipeline: pipeline.enable_freeu(**FACTORS),
)
write(
    "tiny_txt2img_seg",
    "smoothed-energy guidance in the middle block",
    "guidance:seg",
    {"pipeline": "StableDiffusionPAGPipeline", "seg_scale": SCALE, "seg_blur": BLUR},
    StableDiffusionPAGPipeline,
    {"pag_applied_layers": ["mid"]},
    {"pag_scale": SCALE},
    lambda pipeline: pipeline.set_pag_applied_layers(["mid"], (Attention(3), Attention(2))),
)
