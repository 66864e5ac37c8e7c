#!/usr/bin/env python3
"""Combinations of two branches by the guiders of diffusers 0.42.1, and steps of CFG++, as guiders.json.

    pip install torch==2.11.0 diffusers==0.42.1 kornia==0.9.0
    python tests/golden/specs/gen_guiders.py > tests/golden/specs/guiders.json

Three steps of random outputs of a network, [2, 4, 3, 3], for both branches, and the guided outputs of each guider. The
outputs for the prompt are correlated with those for the negative prompt, as a network's are. Cases of frequencies need
larger outputs, [1, 4, 8, 8]. The case apg_clean takes the outputs for clean pictures, and guides them by the scale minus
1, as the paper does. The steps of CFG++ are the paper's algorithm 2 on latents that keep their variance.
"""
import json
import math

import torch
from diffusers.guiders import AdaptiveProjectedGuidance, ClassifierFreeZeroStarGuidance, FrequencyDecoupledGuidance

STEPS = 3
CASES = {
    "apg": (AdaptiveProjectedGuidance, dict(guidance_scale=7.5, adaptive_projected_guidance_rescale=2.5, eta=0.3)),
    "apg_momentum": (AdaptiveProjectedGuidance, dict(
        guidance_scale=5.0, adaptive_projected_guidance_momentum=-0.5, adaptive_projected_guidance_rescale=15.0, eta=0.0)),
    "apg_unlimited": (AdaptiveProjectedGuidance, dict(guidance_scale=7.5, adaptive_projected_guidance_rescale=0.0, eta=1.0)),
    "apg_clean": (AdaptiveProjectedGuidance, dict(
        guidance_scale=6.5, adaptive_projected_guidance_rescale=2.5, eta=0.3, use_original_formulation=True)),
    "zero_star": (ClassifierFreeZeroStarGuidance, dict(guidance_scale=7.5, zero_init_steps=0)),
    "zero_star_zeros": (ClassifierFreeZeroStarGuidance, dict(guidance_scale=4.0, zero_init_steps=1)),
}
WIDE = {
    "frequency": (FrequencyDecoupledGuidance, dict(guidance_scales=[10.0, 5.0])),
    "frequency_3": (FrequencyDecoupledGuidance, dict(guidance_scales=[9.0, 4.0, 1.5])),
    "frequency_1": (FrequencyDecoupledGuidance, dict(guidance_scales=[7.5])),
}


def guided(guider, settings, cond, uncond):
    guide, outputs = guider(**settings), []
    for step in range(STEPS):
        guide.set_state(step=step, num_inference_steps=STEPS, timestep=torch.tensor(500))
        guide.prepare_inputs({})
        outputs.append(guide.forward(cond[step], uncond[step]).pred.tolist())
    return outputs


def cfg_plus_plus(scale, levels, begin, eta):
    """Means of DDIM steps of CFG++ (without draws), as latents x0 + sigma*noise."""
    found, x = [], torch.tensor(begin, dtype=torch.float64)
    for s, t in zip(levels, levels[1:]):
        alpha, after = 1 / (1 + s * s), 1 / (1 + t * t)
        cond = torch.tanh(x / (1 + s))
        epsilon = [(x - x0) / s for x0 in (0.5 * cond - 0.1, cond)]
        z = x * math.sqrt(alpha)
        guided = epsilon[0] + scale * (epsilon[1] - epsilon[0])
        clean = (z - math.sqrt(1 - alpha) * guided) / math.sqrt(alpha)
        fresh = eta * math.sqrt((1 - after) / (1 - alpha) * (1 - alpha / after))
        z = math.sqrt(after) * clean + math.sqrt(max(1 - after - fresh**2, 0)) * epsilon[0]
        x = z / math.sqrt(after)
        found.append(x.tolist())
    return found


def main():
    torch.manual_seed(5)
    uncond = torch.randn(STEPS, 2, 4, 3, 3, dtype=torch.float64)
    cond = uncond + 0.4 * torch.randn_like(uncond)
    found = {"uncond": uncond.tolist(), "cond": cond.tolist(), "cases": {}}
    for name, (guider, settings) in CASES.items():
        outputs = guided(guider, settings, cond, uncond)
        is_clean = settings.get("use_original_formulation", False)
        found["cases"][name] = {"settings": settings, "outputs": outputs} | ({"is_clean": True} if is_clean else {})
    uncond = torch.randn(STEPS, 1, 4, 8, 8, dtype=torch.float64)
    cond = uncond + 0.4 * torch.randn_like(uncond)
    found["wide"] = {"uncond": uncond.tolist(), "cond": cond.tolist()}
    for name, (guider, settings) in WIDE.items():
        outputs = guided(guider, settings, cond, uncond)
        found["cases"][name] = {"settings": settings, "is_wide": True, "outputs": outputs}
    told = {"scale": 0.7, "levels": [14.6, 6.0, 2.5, 0.9, 0.2, 0.0], "begin": [9.0, -4.0, 17.0, 0.3]}
    for name, eta in (("euler", 0.0), ("euler_a", 1.0)):
        told[name] = cfg_plus_plus(told["scale"], told["levels"], told["begin"], eta)
    found["cfg_plus_plus"] = told
    print(json.dumps(found))


if __name__ == "__main__":
    main()
