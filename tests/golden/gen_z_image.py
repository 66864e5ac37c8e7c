"""Writes the model z-image and the cases z_image_transformer, z_image_captions, pipeline_z_image,
pipeline_z_image_img2img and real_z-image-transformer. diffusers computes a small random transformer of Z-Image's build,
alone and in whole runs, and names the parameters of the full-size network.

    pip install torch==2.11.0 diffusers==0.42.1 transformers==5.24.0
    python tests/golden/gen_z_image.py
"""

import copy
import gzip
import json
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    ZImageImg2ImgPipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from diffusers.models.transformers import transformer_z_image
from safetensors.torch import save_file
from transformers import Qwen2Tokenizer, Qwen3Model

ROOT = Path(__file__).parent
MODELS = ROOT / "models"
# diffusers fixes the width between the layers of the time embedding at 1024, which would be most of a small model.
TIME_WIDTH = 32
CONFIG = {
    "in_channels": 16,
    "dim": 32,
    "n_layers": 2,
    "n_refiner_layers": 1,
    "n_heads": 2,
    "n_kv_heads": 2,
    "cap_feat_dim": 32,
    "axes_dims": [4, 6, 6],
    "axes_lens": [512, 64, 64],
}
# Qwen3's template for the messages of a chat, as far as messages of users need it.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def transformer():
    """Makes a transformer with random weights, which are exact in half precision. No layer is zero or one, so that a
    forgotten bias or norm shows."""
    model = ZImageTransformer2DModel(**CONFIG)
    model.t_embedder = transformer_z_image.TimestepEmbedder(CONFIG["dim"], mid_size=TIME_WIDTH)
    generator = torch.Generator().manual_seed(61)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1 and "pad_token" not in name:
                noise = noise / parameter[0].numel() ** 0.5
            elif "norm" in name or name == "cap_embedder.0.weight":
                noise = 1 + 0.1 * noise
            else:
                noise = 0.3 * noise
            parameter.copy_(noise.half().float())
    return model.eval()


def stored(name, model):
    """Saves the transformer in half precision, and returns its path as a case names it."""
    folder = MODELS / name
    folder.mkdir(exist_ok=True)
    config = dict(CONFIG) | {"_class_name": "ZImageTransformer2DModel", "all_patch_size": [2], "all_f_patch_size": [1]}
    config |= {"norm_eps": 1e-5, "qk_norm": True, "rope_theta": 256.0, "t_scale": 1000.0, "time_width": TIME_WIDTH}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file(
        {key: value.half().contiguous() for key, value in model.state_dict().items()},
        folder / "diffusion_pytorch_model.safetensors",
    )
    return f"../models/{name}"


def disturbed(module):
    """Returns a module with weights disturbed by 1e-7 relative."""
    module, generator = copy.deepcopy(module), torch.Generator().manual_seed(99)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1 + 1e-7 * torch.randn(parameter.shape, generator=generator))
    return module


class Joint:
    """Attention by hand at one layer, which keeps its probabilities and adds a bias to the scores."""

    def __init__(self, bias=None):
        self.bias, self.probs = bias, None

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, freqs_cis=None):
        def rotated(x):
            pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
            return torch.view_as_real(pairs * freqs_cis.unsqueeze(2)).flatten(3)

        heads = lambda x: x.unflatten(-1, (attn.heads, -1))
        q = rotated(attn.norm_q(heads(attn.to_q(hidden_states)))).transpose(1, 2)
        k = rotated(attn.norm_k(heads(attn.to_k(hidden_states)))).transpose(1, 2)
        v = heads(attn.to_v(hidden_states)).transpose(1, 2)
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        if attention_mask is not None:
            mask = attention_mask[:, None, None, :] if attention_mask.ndim == 2 else attention_mask
            scores = scores.masked_fill(~mask, float("-inf"))
        if self.bias is not None:
            rows, columns = self.bias.shape
            start = self.start
            scores[:, :, :rows, start : start + columns] += self.bias
        self.probs = scores.softmax(-1)
        return attn.to_out[0]((self.probs @ v).transpose(1, 2).flatten(2))


def velocities(model, inputs, biased=False):
    """Returns outputs of one batch: sample [n, 16, h, w], timestep [n], captions of some lengths. diffusers is told 1 − t
    and predicts the picture minus the noise."""
    sample, captions = inputs["sample"], [row[:length] for row, length in zip(inputs["encoder_hidden_states"], inputs["lengths"])]
    site = len(model.layers) - 1
    cells = sample.shape[2] * sample.shape[3] // 4
    joint = Joint(inputs["bias"] if biased else None)
    joint.start = cells + (-cells) % 32
    model.layers[site].attention.set_processor(joint)
    with torch.no_grad():
        out = model(list(sample.unsqueeze(2).unbind(0)), 1 - inputs["timestep"], captions, return_dict=False)[0]
    # Columns of hooks: the caption with the tokens that fill it, then the tokens that fill the picture's stream.
    own = max(length + (-length) % 32 for length in inputs["lengths"])
    columns = [*range(joint.start, joint.start + own), *range(cells, joint.start)]
    probs = joint.probs[:, :, :cells][:, :, :, columns]
    model.layers[site].attention.set_processor(transformer_z_image.ZSingleStreamAttnProcessor())
    return -torch.stack(list(out)).squeeze(2), probs


def write(case, inputs, run):
    """Writes a case, whose tolerances follow from outputs of disturbed weights. `run` returns outputs by name."""
    outputs, noisy = run(False), run(True)
    module = case["kind"] == "z_image_transformer"
    case["outputs"] = {}
    for key, value in outputs.items():
        noise, largest = (value - noisy[key]).abs().max().item(), value.abs().max().item()
        least = (1e-5 if module else 1e-4) * max(largest, 1.0)
        case["outputs"][key] = {"atol": max(10 * noise, least), "rtol": 1e-4, "max_abs": largest, "reference_noise": noise}
    case["versions"] = {"torch": torch.__version__.split("+")[0], "diffusers": diffusers.__version__, "transformers": transformers.__version__}
    folder = ROOT / case["name"]
    folder.mkdir(exist_ok=True)
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")
    tensors = {f"in.{key}": value for key, value in inputs.items()} | {f"out.{key}": value for key, value in outputs.items()}
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "tensors.safetensors")
    print(case["name"], case["outputs"])


def case(name, kind, description, needs, models, params):
    return {"format": 1, "name": name, "kind": kind, "description": description, "needs": sorted(needs), "models": models, "params": params}


def random(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def networks(model, path):
    noisy = disturbed(model)
    # 18 tokens of a picture are filled to 32, and 45 tokens of a caption to 64.
    inputs = {
        "sample": random((1, 16, 6, 12), 1),
        "timestep": torch.tensor([0.7]),
        "encoder_hidden_states": random((1, 45, 32), 2),
        "bias.layers.1.attention": 1.5 * random((18, 64 + 14), 3),
    }
    # The bias acts on the caption's columns alone.
    inputs["bias.layers.1.attention"][:, 45:] = 0

    def run(disturb):
        own = inputs | {"lengths": [45], "bias": inputs["bias.layers.1.attention"][:, :64]}
        net = noisy if disturb else model
        velocity, probs = velocities(net, own)
        biased, biased_probs = velocities(net, own, biased=True)
        site = "layers.1.attention"
        return {"velocity": velocity, f"probs.{site}": probs, "velocity_biased": biased, f"probs_biased.{site}": biased_probs}

    description = "One caption of 45 tokens; probabilities of picture rows over the columns [caption, filling of the caption, filling of the picture]."
    needs = ["attention:bias", "attention:probs", "family:z-image"]
    params = {"record_probs": ["layers.1.attention"]}
    write(case("z_image_transformer", "z_image_transformer", description, needs, {"model": path}, params), inputs, run)

    lengths = [9, 64]
    captions = random((2, 64, 32), 5)
    for row, length in zip(captions, lengths):
        row[length:] = 0
    inputs2 = {"sample": random((2, 16, 8, 16), 4), "timestep": torch.tensor([1.0, 0.3]), "encoder_hidden_states": captions}

    def run2(disturb):
        net = noisy if disturb else model
        with torch.no_grad():
            out = net(
                list(inputs2["sample"].unsqueeze(2).unbind(0)),
                1 - inputs2["timestep"],
                [row[:length] for row, length in zip(captions, lengths)],
                return_dict=False,
            )[0]
        return {"velocity": -torch.stack(list(out)).squeeze(2)}

    description = "A batch of captions of 9 and 64 tokens, with rows of zeros behind the first one, at two times."
    needs = ["family:z-image", "per_item_timestep"]
    write(case("z_image_captions", "z_image_transformer", description, needs, {"model": path}, {}), inputs2, run2)


def pipelines(model, path):
    vae = AutoencoderKL.from_pretrained(MODELS / "sd3-vae")
    qwen = Qwen3Model.from_pretrained(MODELS / "anima-qwen3").eval()
    tokenizer = Qwen2Tokenizer.from_pretrained(MODELS / "tokenizer-qwen")
    tokenizer.chat_template = TEMPLATE
    models = {
        "transformer": path,
        "vae": "../models/sd3-vae",
        "text_encoder": "../models/anima-qwen3",
        "tokenizer": "../models/tokenizer-qwen",
    }
    scheduler = {"class": "FlowMatchEulerDiscreteScheduler", "config": {"shift": 3.0, "num_train_timesteps": 1000}}
    noisy = {"transformer": disturbed(model), "vae": disturbed(vae), "text_encoder": disturbed(qwen)}

    def run(params, inputs, disturb):
        parts = noisy if disturb else {"transformer": model, "vae": vae, "text_encoder": qwen}
        given = {key: value for key, value in params.items() if key not in ("pipeline", "scheduler", "seed") and not key.startswith("record")}
        # diffusers' formula is pos + s·(pos − neg).
        given["guidance_scale"] -= 1
        kind = ZImageImg2ImgPipeline if inputs else ZImagePipeline
        pipeline = kind(scheduler=FlowMatchEulerDiscreteScheduler(**scheduler["config"]), tokenizer=tokenizer, **parts)
        pipeline.set_progress_bar_config(disable=True)
        steps = []

        def keep(_pipeline, _step, _timestep, tensors):
            steps.append(tensors["latents"].clone())
            return {}

        generator = torch.Generator().manual_seed(params["seed"])
        with torch.no_grad():
            latents = pipeline(**given, **inputs, generator=generator, output_type="latent", callback_on_step_end=keep).images
            picture = vae.decode(latents / vae.config.scaling_factor + vae.config.shift_factor).sample
            embeds, against = pipeline.encode_prompt([given["prompt"]], "cpu", True, [given["negative_prompt"]])
        outputs = {"latents": latents, "step_latents": torch.stack(steps)}
        if params.get("record_image"):
            outputs["image"] = (picture / 2 + 0.5).clamp(0, 1)
        if params.get("record_embeds"):
            outputs |= {"prompt_embeds": embeds[0][None], "negative_prompt_embeds": against[0][None]}
        return outputs

    prompt = "a photo of a cat with golden eyes, a red bow in her long hair, sitting beside a blue boat"
    params = {
        "pipeline": "ZImagePipeline",
        "scheduler": scheduler,
        "prompt": prompt,
        "negative_prompt": "blurry",
        "seed": 41,
        "num_inference_steps": 5,
        "height": 48,
        "width": 64,
        "guidance_scale": 5.0,
        "record_steps": True,
        "record_embeds": True,
        "record_image": True,
    }
    needs = ["family:z-image", "flow", "observe:embeds", "observe:steps", "solver:flow_euler", "task:txt2img", "tokenizer:qwen", "vae:decode"]
    description = "Z-Image with a prompt and a negative prompt whose filled lengths differ. guidance_scale is diffusers' plus 1."
    write(case("pipeline_z_image", "pipeline_flow", description, needs, models, params), {}, lambda disturb: run(params, {}, disturb))

    again = {key: value for key, value in params.items() if key not in ("height", "width") and not key.startswith("record")}
    again |= {"pipeline": "ZImageImg2ImgPipeline", "strength": 0.7, "seed": 43, "guidance_scale": 3.0, "record_steps": True}
    inputs = {"image": torch.rand((1, 3, 48, 32), generator=torch.Generator().manual_seed(6))}
    needs = ["family:z-image", "flow", "observe:steps", "solver:flow_euler", "strength", "task:img2img", "tokenizer:qwen"]
    description = "Z-Image from a picture of 6 patches, which 26 learned tokens fill: posterior, then noise. guidance_scale is diffusers' plus 1."
    write(case("pipeline_z_image_img2img", "pipeline_flow", description, needs, models, again), inputs, lambda disturb: run(again, inputs, disturb))


def full_size():
    """Writes the names and shapes of the published network's parameters."""
    config = {"_class_name": "ZImageTransformer2DModel", "all_patch_size": [2], "all_f_patch_size": [1], "in_channels": 16}
    config |= {"dim": 3840, "n_layers": 30, "n_refiner_layers": 2, "n_heads": 30, "n_kv_heads": 30, "norm_eps": 1e-5, "qk_norm": True}
    config |= {"cap_feat_dim": 2560, "rope_theta": 256.0, "t_scale": 1000.0, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512]}
    with torch.device("meta"):
        model = ZImageTransformer2DModel(**{key: value for key, value in config.items() if key != "_class_name"})
    tensors = model.state_dict()
    folder = ROOT / "real_z-image-transformer"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    manifest = [[name, list(tensor.shape), "F32"] for name, tensor in tensors.items()]
    (folder / "manifest.json.gz").write_bytes(gzip.compress(json.dumps(manifest).encode(), mtime=0))
    params = {"family": "z-image", "config": "config.json", "manifest": "manifest.json.gz"}
    params |= {"parameters": sum(tensor.numel() for tensor in tensors.values()), "origin": "configuration written from public facts"}
    description, needs = "Parameter names and shapes of the full-size model.", ["family:z-image", "module:flow"]
    real = case("real_z-image-transformer", "real_configs_flow", description, needs, {}, params) | {"outputs": {}}
    (folder / "case.json").write_text(json.dumps(real, indent=1) + "\n")
    print(real["name"], params["parameters"])


def main():
    model = transformer()
    path = stored("z-image", model)
    networks(model, path)
    pipelines(model, path)
    full_size()


if __name__ == "__main__":
    main()
