"""Writes the cases pipeline_sdxl_micro and pipeline_sdxl_refiner_micro. diffusers samples small random models of SDXL's
and its refiner's build, with every number of the micro-conditioning set, guidance_rescale, second prompts and a picture
that is not square.

    pip install torch==2.11.0 diffusers==0.42.1 transformers==5.23.0
    python tests/golden/gen_sdxl.py
"""

import json
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

ROOT = Path(__file__).parent
MODELS = ROOT / "models"
WIDTHS = (16, 24)
PROJECTION = 24
SCHEDULER = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def disturbed(module, seed):
    """Fills a module with random weights. No layer is zero or one, so that a forgotten bias or norm shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan = parameter[0].numel() if parameter.dim() > 1 else 1
            if parameter.dim() > 1:
                parameter.copy_(noise / fan**0.5)
            else:
                parameter.copy_((1.0 if "norm" in name and name.endswith("weight") else 0.0) + 0.1 * noise)
    return module.eval()


def unet(refiner):
    numbers = 5 if refiner else 6
    return disturbed(
        UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(2, 4),
            transformer_layers_per_block=(1, 2),
            cross_attention_dim=WIDTHS[1] if refiner else sum(WIDTHS),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=PROJECTION + 8 * numbers,
        ),
        31 + refiner,
    )


def text(second):
    tokenizer = CLIPTokenizer.from_pretrained(MODELS / "tokenizer-tiny")
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTHS[second],
        intermediate_size=32,
        projection_dim=PROJECTION,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        hidden_act="gelu" if second else "quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return disturbed((CLIPTextModelWithProjection if second else CLIPTextModel)(config), 33 + second)


def vae():
    return disturbed(
        AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=4,
            scaling_factor=0.13025,
        ),
        35,
    )


def stored(name, module):
    """Saves a module in diffusers' layout, and returns its path as a case names it."""
    folder = MODELS / name
    module.save_pretrained(folder)
    return f"../models/{name}"


PARTS = {
    "unet": unet(False),
    "refiner": unet(True),
    "vae": vae(),
    "text_encoder": text(0),
    "text_encoder_2": text(1),
}


def run(case, noisy):
    """Returns the inputs and outputs of a case; with `noisy`, the weights are disturbed by 1e-7 relative."""
    parts = PARTS
    if noisy:
        import copy

        parts = copy.deepcopy(PARTS)
        generator = torch.Generator().manual_seed(99)
        with torch.no_grad():
            for module in parts.values():
                for parameter in module.parameters():
                    parameter.mul_(1 + 1e-7 * torch.randn(parameter.shape, generator=generator))
    params = {key: tuple(value) if isinstance(value, list) else value for key, value in case["params"].items()}
    tokenizer = CLIPTokenizer.from_pretrained(MODELS / "tokenizer-tiny")
    scheduler = params.pop("scheduler")
    scheduler = {"DPMSolverMultistepScheduler": DPMSolverMultistepScheduler, "EulerAncestralDiscreteScheduler": EulerAncestralDiscreteScheduler}[
        scheduler["class"]
    ](**scheduler["config"])
    refiner = params.pop("pipeline") == "StableDiffusionXLImg2ImgPipeline"
    common = {
        "vae": parts["vae"],
        "text_encoder": None if refiner else parts["text_encoder"],
        "text_encoder_2": parts["text_encoder_2"],
        "tokenizer": None if refiner else tokenizer,
        "tokenizer_2": tokenizer,
        "unet": parts["refiner" if refiner else "unet"],
        "scheduler": scheduler,
    }
    if refiner:
        pipeline = StableDiffusionXLImg2ImgPipeline(**common, requires_aesthetics_score=params.pop("requires_aesthetics_score"))
    else:
        pipeline = StableDiffusionXLPipeline(**common)
    pipeline.set_progress_bar_config(disable=True)
    for record in ["record_image", "record_steps"]:
        params.pop(record)
    steps = []
    inputs = {}
    if refiner:
        inputs["image"] = torch.rand((1, 3, 96, 64), generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(params.pop("seed"))

    def keep(_pipeline, _step, _timestep, tensors):
        steps.append(tensors["latents"].clone())
        return {}

    with torch.no_grad():
        latents = pipeline(
            **params, **inputs, generator=generator, output_type="latent", callback_on_step_end=keep, callback_on_step_end_tensor_inputs=["latents"]
        ).images
        image = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    outputs = {"latents": latents, "step_latents": torch.stack(steps), "image": (image / 2 + 0.5).clamp(0, 1)}
    return inputs, outputs


def write(name, description, needs, models, params):
    case = {"format": 1, "name": name, "kind": "pipeline", "description": description, "needs": sorted(needs), "models": models, "params": params}
    inputs, outputs = run(case, False)
    _, noisy = run(case, True)
    case["outputs"] = {}
    for key, value in outputs.items():
        noise, largest = (value - noisy[key]).abs().max().item(), value.abs().max().item()
        case["outputs"][key] = {"atol": max(10 * noise, 1e-4 * max(largest, 1.0)), "rtol": 0.0, "max_abs": largest, "reference_noise": noise}
    case["versions"] = {"torch": torch.__version__.split("+")[0], "diffusers": diffusers.__version__, "transformers": transformers.__version__}
    folder = ROOT / name
    folder.mkdir(exist_ok=True)
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")
    tensors = {f"in.{key}": value for key, value in inputs.items()} | {f"out.{key}": value for key, value in outputs.items()}
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "tensors.safetensors")
    print(name, case["outputs"])


def main():
    unet_path, refiner_path = stored("unet-sdxl-tiny", PARTS["unet"]), stored("unet-refiner-tiny", PARTS["refiner"])
    vae_path = stored("vae-sdxl-tiny", PARTS["vae"])
    texts = [stored("clip-sdxl-tiny-1", PARTS["text_encoder"]), stored("clip-sdxl-tiny-2", PARTS["text_encoder_2"])]
    tokenizer = "../models/tokenizer-tiny"
    write(
        "pipeline_sdxl_micro",
        "SDXL with all of its micro-conditioning, two prompts of each sign, guidance_rescale and a multistep solver.",
        ["family:sdxl", "guidance_rescale", "micro_conditioning", "observe:steps", "second_prompt", "solver:dpmpp_2m", "spacing:leading", "task:txt2img", "vae:decode"],
        {"unet": unet_path, "vae": vae_path, "text_encoder": texts[0], "text_encoder_2": texts[1], "tokenizer": tokenizer, "tokenizer_2": tokenizer},
        {
            "pipeline": "StableDiffusionXLPipeline",
            "scheduler": {"class": "DPMSolverMultistepScheduler", "config": SCHEDULER | {"timestep_spacing": "leading"}},
            "prompt": "a photo of a cat with golden eyes",
            "prompt_2": "portrait of a woman, blue dress, intricate",
            "negative_prompt": "blurry, low quality",
            "negative_prompt_2": "bad",
            "seed": 41,
            "num_inference_steps": 6,
            "height": 64,
            "width": 96,
            "guidance_scale": 6.0,
            "guidance_rescale": 0.5,
            "original_size": [1024, 768],
            "crops_coords_top_left": [16, 8],
            "target_size": [64, 64],
            "negative_original_size": [512, 640],
            "negative_crops_coords_top_left": [4, 2],
            "negative_target_size": [96, 64],
            "record_steps": True,
            "record_image": True,
        },
    )
    write(
        "pipeline_sdxl_refiner_micro",
        "The refiner from a picture, with aesthetic scores and sizes of both signs and an ancestral solver.",
        ["aesthetic_score", "family:sdxl-refiner", "micro_conditioning", "observe:steps", "solver:euler_ancestral", "spacing:leading", "strength", "task:img2img", "vae:decode"],
        {"unet": refiner_path, "vae": vae_path, "text_encoder_2": texts[1], "tokenizer_2": tokenizer},
        {
            "pipeline": "StableDiffusionXLImg2ImgPipeline",
            "scheduler": {"class": "EulerAncestralDiscreteScheduler", "config": SCHEDULER | {"timestep_spacing": "leading"}},
            "prompt": "portrait of a woman, blue dress, intricate",
            "negative_prompt": "blurry, low quality",
            "seed": 42,
            "strength": 0.6,
            "num_inference_steps": 8,
            "guidance_scale": 4.0,
            "requires_aesthetics_score": True,
            "aesthetic_score": 7.5,
            "negative_aesthetic_score": 1.5,
            "original_size": [768, 512],
            "crops_coords_top_left": [8, 24],
            "negative_original_size": [320, 256],
            "negative_crops_coords_top_left": [1, 3],
            "record_steps": True,
            "record_image": True,
        },
    )


if __name__ == "__main__":
    main()
