"""Writes the cases tiny_differential and tiny_differential_white: differential diffusion on the pinned tiny model.

    pip install torch==2.11.0 diffusers==0.42.1 transformers==5.24.0
    python tests/golden/gen_differential.py

Differential diffusion (Levin and Fried, arXiv 2306.00950) has no pipeline in the diffusers package; the loop below is
that of its community pipelines, over the package's UNet, VAE, text encoder and scheduler, at strength 1. The map is
1 - gray. Before step i of n, the picture at that step's noise level is put back into all cells whose map is above i/n.

The community pipelines begin with the noised picture, and the inpainting pipelines with noise alone. A cell of the
map's value 1/n or more is put back before step 1, so that both beginnings give the same result. In
tiny_differential all cells are of this kind. In tiny_differential_white some cells have the map's value 0, and the run
begins with noise alone.
"""

import json
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from safetensors.torch import save_file

ROOT = Path(__file__).parent
STEPS, SEED = 8, 61


def sample(pipeline, case, image, gray, dtype):
    params, pipeline = case["params"], pipeline.to(dtype)
    generator = torch.Generator().manual_seed(SEED)
    prompt, negative = pipeline.encode_prompt(params["prompt"], "cpu", 1, True, "")
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(STEPS)
    posterior = pipeline.vae.encode((image * 2 - 1).to(dtype)).latent_dist
    shape = posterior.mean.shape
    # The noise is drawn in f32, so that a run in f64 starts from equal noise.
    drawn = torch.randn(shape, generator=generator).to(dtype)
    original = (posterior.mean + posterior.std * drawn) * pipeline.vae.config.scaling_factor
    noise = torch.randn(shape, generator=generator).to(dtype)
    change = 1 - gray[:, :, ::8, ::8]
    latents = noise * scheduler.init_noise_sigma
    for i, t in enumerate(scheduler.timesteps):
        if i > 0:
            known = scheduler.add_noise(original, noise, t.reshape(1))
            latents = torch.where(change > i / STEPS, known, latents)
        both = scheduler.scale_model_input(torch.cat([latents] * 2), t)
        uncond, cond = pipeline.unet(both, t, encoder_hidden_states=torch.cat([negative, prompt])).sample.chunk(2)
        latents = scheduler.step(uncond + params["guidance_scale"] * (cond - uncond), t, latents).prev_sample
    return latents


@torch.no_grad()
def write(name, description, grays):
    case = json.loads((ROOT / "tiny_txt2img_euler" / "case.json").read_text())
    case |= {
        "name": name,
        "description": description,
        "versions": {lib.__name__: lib.__version__.split("+")[0] for lib in (torch, diffusers, transformers)},
        "needs": ["family:sd15", "inpaint:differential", "solver:euler", "spacing:leading", "strength", "task:inpaint"],
    }
    case["params"] |= {"pipeline": "StableDiffusionDifferentialImg2ImgPipeline", "seed": SEED, "num_inference_steps": STEPS,
                       "strength": 1.0}
    for recorded in ("record_steps", "record_image"):
        case["params"].pop(recorded)
    height, width = case["params"]["height"], case["params"]["width"]
    pipeline = StableDiffusionPipeline.from_pretrained(
        ROOT / "models" / "tiny_pinned",
        scheduler=EulerDiscreteScheduler(**case["params"]["scheduler"]["config"]),
        safety_checker=None,
        image_encoder=None,
        requires_safety_checker=False,
        torch_dtype=torch.float32,
    )
    x, y = torch.meshgrid(torch.linspace(0, 1, width), torch.linspace(0, 1, height), indexing="xy")
    image = torch.stack([x, y, (x * y * 7) % 1])[None]
    columns = torch.tensor(grays).repeat_interleave(-(-width // 8 // len(grays)))[: width // 8]
    gray = columns.repeat_interleave(8).expand(1, 1, height, width).contiguous()
    latents = sample(pipeline, case, image, gray, torch.float32)
    noise = (sample(pipeline, case, image, gray, torch.float64).float() - latents).abs().max().item()
    case["outputs"] = {"latents": {"atol": 2e-4, "rtol": 1e-4, "max_abs": round(latents.abs().max().item(), 5),
                                   "reference_noise": float(f"{noise:.3g}")}}
    folder = ROOT / name
    folder.mkdir(exist_ok=True)
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")
    save_file({"in.image": image, "in.mask_image": gray, "out.latents": latents.contiguous()},
              folder / "tensors.safetensors")
    print(name, case["outputs"])


write("tiny_differential", "Differential diffusion: gray cells take part in the last steps.", [0.06, 0.2, 0.4, 0.55, 0.7, 0.85])
write("tiny_differential_white", "Differential diffusion with white cells, from noise alone.", [1.0, 0.9, 0.5, 0.3, 1.0])
