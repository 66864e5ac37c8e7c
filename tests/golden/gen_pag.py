"""Writes the case tiny_txt2img_pag: diffusers samples the pinned tiny model with perturbed-attention guidance in the
middle block.

    pip install torch==2.11.0 diffusers==0.42.1 transformers==5.23.0
    python tests/golden/gen_pag.py
"""

import json
from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPAGPipeline
from safetensors.torch import save_file

ROOT = Path(__file__).parent
STEPS, SEED, SCALE = 8, 61, 3.0


def sample(pipeline, case, dtype):
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
        pag_scale=SCALE,
        height=params["height"],
        width=params["width"],
        output_type="latent",
    ).images


case = json.loads((ROOT / "tiny_txt2img_euler" / "case.json").read_text())
case |= {
    "name": "tiny_txt2img_pag",
    "description": "Trained tiny model (weights stored in half precision, run in fp32), with perturbed-attention guidance.",
    "needs": ["family:sd15", "guidance:pag", "solver:euler", "spacing:leading", "task:txt2img"],
}
case["params"] |= {"pipeline": "StableDiffusionPAGPipeline", "pag_scale": SCALE, "seed": SEED, "num_inference_steps": STEPS}
for recorded in ("record_steps", "record_image"):
    case["params"].pop(recorded)

scheduler = EulerDiscreteScheduler(**case["params"]["scheduler"]["config"])
pipeline = StableDiffusionPAGPipeline.from_pretrained(
    ROOT / "models" / "tiny_pinned",
    scheduler=scheduler,
    safety_checker=None,
    image_encoder=None,
    requires_safety_checker=False,
    torch_dtype=torch.float32,
    pag_applied_layers=["mid"],
)
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
folder = ROOT / "tiny_txt2img_pag"
folder.mkdir(exist_ok=True)
(folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")
save_file({"out.latents": latents.contiguous()}, folder / "tensors.safetensors")
print(case["outputs"])
