"""Loads a LoRA into diffusers' UNet, and compares a prediction with impasto's.

The test beside this file, diffusers.rs, calls the script:

    python diffusers_lora.py UNET_FOLDER LORA_FILE CASE_FILE

CASE_FILE has a sample, a timestep, a context, and impasto's prediction for them. The script prints one line of JSON:
the tensors that are missing or unexpected, the number of changed layers, and the largest difference of the predictions.
"""

import json
import sys

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders import peft as loader
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file

folder, lora, case = sys.argv[1:]
found = {"missing": [], "unexpected": []}


def record(keys, _adapter):
    """Records the tensors that diffusers would only warn about."""
    found["missing"] = [name for name in keys.missing_keys if "lora_" in name]
    found["unexpected"] = list(keys.unexpected_keys)


loader._maybe_warn_for_unhandled_keys = record
unet = UNet2DConditionModel.from_pretrained(folder).float().eval()
tensors, alphas = StableDiffusionPipeline.lora_state_dict(lora)
StableDiffusionPipeline.load_lora_into_unet(tensors, network_alphas=alphas, unet=unet)
case = load_file(case)
with torch.no_grad():
    out = unet(case["sample"], case["timestep"], case["context"]).sample
layers = sum(isinstance(module, LoraLayer) for module in unet.modules())
print(json.dumps({**found, "layers": layers, "apart": (out - case["prediction"]).abs().max().item()}))
