#!/usr/bin/env python3
"""Combinations of two branches by the guiders of diffusers 0.42.1, as guiders.json.

    python tests/golden/specs/gen_guiders.py > tests/golden/specs/guiders.json

Three steps of random outputs of a network, [2, 4, 3, 3], for both branches, and the guided outputs of each guider. The
outputs for the prompt are correlated with those for the negative prompt, as a network's are.
"""
import json

import torch
from diffusers.guiders import AdaptiveProjectedGuidance, ClassifierFreeZeroStarGuidance

STEPS = 3
CASES = {
    "apg": (AdaptiveProjectedGuidance, dict(guidance_scale=7.5, adaptive_projected_guidance_rescale=2.5, eta=0.3)),
    "apg_momentum": (AdaptiveProjectedGuidance, dict(
        guidance_scale=5.0, adaptive_projected_guidance_momentum=-0.5, adaptive_projected_guidance_rescale=15.0, eta=0.0)),
    "apg_unlimited": (AdaptiveProjectedGuidance, dict(guidance_scale=7.5, adaptive_projected_guidance_rescale=0.0, eta=1.0)),
    "zero_star": (ClassifierFreeZeroStarGuidance, dict(guidance_scale=7.5, zero_init_steps=0)),
    "zero_star_zeros": (ClassifierFreeZeroStarGuidance, dict(guidance_scale=4.0, zero_init_steps=1)),
}


def main():
    torch.manual_seed(5)
    uncond = torch.randn(STEPS, 2, 4, 3, 3, dtype=torch.float64)
    cond = uncond + 0.4 * torch.randn_like(uncond)
    found = {"uncond": uncond.tolist(), "cond": cond.tolist(), "cases": {}}
    for name, (guider, settings) in CASES.items():
        guide, outputs = guider(**settings), []
        for step in range(STEPS):
            guide.set_state(step=step, num_inference_steps=STEPS, timestep=torch.tensor(500))
            guide.prepare_inputs({})
            outputs.append(guide.forward(cond[step], uncond[step]).pred.tolist())
        found["cases"][name] = {"settings": settings, "outputs": outputs}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
