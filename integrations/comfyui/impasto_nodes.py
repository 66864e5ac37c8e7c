"""Nodes of ComfyUI that paint with a studio of impasto: pictures in which named things have exact colors.

Copy this file into ComfyUI's folder `custom_nodes`, start `impasto studio`, and start ComfyUI. The nodes are in the
menu under *impasto*. They need nothing that ComfyUI does not have. A studio with a token needs the variable
IMPASTO_TOKEN in ComfyUI's environment, because workflows are shared.
"""

import base64
import io
import json
import os
import time
import urllib.error
import urllib.request

import numpy
import torch
from PIL import Image

try:
    from comfy.model_management import throw_exception_if_processing_interrupted
    from comfy.utils import ProgressBar
except ImportError:  # outside ComfyUI

    def throw_exception_if_processing_interrupted():
        pass

    class ProgressBar:
        def __init__(self, total):
            pass

        def update_absolute(self, value, total=None, preview=None):
            pass


ADDRESS = "http://127.0.0.1:7860"
# Seconds between two looks at a job, and longest wait for an answer.
LOOK, PATIENCE = 0.3, 60
# Largest seed: the studio's are exact in JavaScript.
SEED = 2**53 - 1


class StudioError(RuntimeError):
    """A message of the studio, or the reason why it does not answer."""


class Studio:
    """The API of a studio."""

    def __init__(self, address):
        self.address = address.strip().rstrip("/") or ADDRESS

    def ask(self, path, method="GET", body=None):
        """Returns the bytes of an answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"} if data else {}
        if token := os.environ.get("IMPASTO_TOKEN"):
            headers["authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                text = json.loads(text)["error"]
            except (ValueError, KeyError, TypeError):
                pass
            raise StudioError(f"impasto: {text}") from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise StudioError(f"impasto: no studio at {self.address} ({reason}); start `impasto studio`") from None

    def paint(self, job):
        """Paints a job. Returns its pictures as files, and its result."""
        number = json.loads(self.ask("/api/jobs", "POST", job))["id"]
        path, bar = f"/api/jobs/{number}", ProgressBar(100)
        begun = time.monotonic()
        try:
            while True:
                state = json.loads(self.ask(path))
                if state["state"] == "finished":
                    break
                if state["state"] in ("failed", "cancelled"):
                    raise StudioError(f"impasto: {state.get('error', 'the job was cancelled')}")
                throw_exception_if_processing_interrupted()
                # The API tells steps in a stream only; the bar shows that the job goes on.
                bar.update_absolute(min(95, int(10 * (time.monotonic() - begun))), 100)
                time.sleep(LOOK)
        except BaseException:
            try:
                self.ask(path, "DELETE")
            except StudioError:
                pass  # the first error says more
            raise
        bar.update_absolute(100, 100)
        result = state["result"]
        return [self.ask(picture["url"]) for picture in result["pictures"]], result


def read_colors(text):
    """Reads lines such as `hair = #ffd700`. Several may stand in a line, with semicolons between them."""
    colors = []
    for line in text.replace(";", "\n").splitlines():
        if not (line := line.strip()):
            continue
        phrase, equals, color = line.rpartition("=")
        if not (equals and phrase.strip() and color.strip()):
            raise StudioError(f"impasto: {line!r} is no exact color; expected PHRASE = COLOR, such as hair = #ffd700")
        colors.append({"phrase": phrase.strip(), "color": color.strip()})
    return colors


def to_url(pixels):
    """Writes pixels in 0 to 1, [h, w, 3] or [h, w], as a data URL of PNG."""
    array = (pixels.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def to_pixels(files):
    """Reads files of pictures as a batch, [n, h, w, 3] in 0 to 1."""
    arrays = [numpy.array(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    return torch.from_numpy(numpy.stack(arrays)).float() / 255


def describe(result):
    """Returns the report in lines, and the largest ΔE of an exact color; 0 without one."""
    lines = [
        f"{color['label']}: asked {color['asked']}, painted {color['painted']}, ΔE {color['delta_e']:.1f}"
        for color in result["colors"]
    ]
    lines += [f"note: {note}" for note in result["notes"]]
    return "\n".join(lines), max((float(color["delta_e"]) for color in result["colors"]), default=0.0)


class Paint:
    """Paints pictures of a prompt with exact colors."""

    CATEGORY = "impasto"
    FUNCTION = "paint"
    RETURN_TYPES = ("IMAGE", "STRING", "FLOAT")
    RETURN_NAMES = ("image", "report", "delta_e")
    DESCRIPTION = "Paints pictures in which named things have exact colors. ΔE below 1 is hardly visible."

    @classmethod
    def INPUT_TYPES(cls):
        text = {"multiline": True, "default": ""}
        colors = {**text, "placeholder": "hair = #ffd700\neyes = teal", "tooltip": "One exact color a line"}
        return {
            "required": {
                "prompt": ("STRING", {**text, "default": "1girl, eyes, hair"}),
                "exact_colors": ("STRING", colors),
                "negative": ("STRING", text),
                "seed": ("INT", {"default": 0, "min": 0, "max": SEED, "control_after_generate": True}),
                "steps": ("INT", {"default": 0, "min": 0, "max": 150, "tooltip": "0: the model's own"}),
                "cfg": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 30.0, "step": 0.1, "tooltip": "0: the model's own"}),
                "width": ("INT", {"default": 0, "min": 0, "max": 4096, "step": 8, "tooltip": "0: the model's own"}),
                "height": ("INT", {"default": 0, "min": 0, "max": 4096, "step": 8, "tooltip": "0: the model's own"}),
                "images": ("INT", {"default": 1, "min": 1, "max": 4}),
                "address": ("STRING", {"default": ADDRESS}),
            },
            "optional": {
                "start": ("IMAGE", {"tooltip": "A picture to start from"}),
                "mask": ("MASK", {"tooltip": "White is repainted"}),
                "strength": ("FLOAT", {"default": 0.6, "min": 0.05, "max": 1.0, "step": 0.05}),
                "more": ("STRING", {**text, "tooltip": "Further fields of the job as JSON, such as {\"best_of\": 4}"}),
            },
        }

    def paint(
        self, prompt, exact_colors, negative, seed, steps, cfg, width, height, images, address,
        start=None, mask=None, strength=0.6, more="",
    ):
        job = {"prompt": prompt, "negative": negative, "seed": seed, "images": images}
        job["forces"] = read_colors(exact_colors)
        job |= {name: value for name, value in [("steps", steps), ("guidance_scale", cfg)] if value}
        if bool(width) != bool(height):
            raise StudioError("impasto: width or height is 0; expected both, or neither for the model's own size")
        if width:
            job |= {"width": width, "height": height}
        if mask is not None and start is None:
            raise StudioError("impasto: mask is given without start; connect the picture to repaint to start")
        if start is not None:
            job |= {"start": to_url(start[0]), "strength": strength}
            if mask is not None:
                job["mask"] = to_url(mask[0] if mask.dim() == 3 else mask)
        if more.strip():
            try:
                job |= json.loads(more)
            except (ValueError, TypeError):
                raise StudioError("impasto: more is no JSON object; expected such as {\"best_of\": 4}") from None
        files, result = Studio(address).paint(job)
        report, delta_e = describe(result)
        return to_pixels(files), report, delta_e


NODE_CLASS_MAPPINGS = {"ImpastoPaint": Paint}
NODE_DISPLAY_NAME_MAPPINGS = {"ImpastoPaint": "Paint with exact colors (impasto)"}
