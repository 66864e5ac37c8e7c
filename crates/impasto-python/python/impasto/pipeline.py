"""Pipelines, and the pictures that they paint."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from PIL import Image

from . import _impasto
from .fields import to_json

if TYPE_CHECKING:
    import torch

Path = str | os.PathLike[str]


class Pipeline:
    """A model that paints.

    One picture is painted at a time. Other threads of Python run meanwhile.
    """

    def __init__(
        self,
        model: Path | None = None,
        *,
        precision: str | torch.dtype | None = None,
        device: str | torch.device | None = None,
        vae: Path | None = None,
        text_encoder: Path | None = None,
        text_encoder_2: Path | None = None,
        text_encoder_3: Path | None = None,
        ip_adapter: Path | None = None,
        image_encoder: Path | None = None,
        shift: float | None = None,
        offload: bool = False,
        lora_folders: Iterable[Path] = (),
        embedding_folders: Iterable[Path] = (),
    ):
        """Loads a model.

        model: "embedded" (the default), "embedded-fast", "embedded-flow", "embedded-colorizer", a folder in the layout
            of diffusers, a .safetensors or .ckpt file, or "OWNER/NAME" on the Hugging Face hub.
        precision: "reproducible" (the default: f16 on a GPU, f32 elsewhere), "fastest", "f32", "bf16" or "f16".
        device: "cpu" (the default), "cuda", "cuda:1" or "mps".
        vae: another VAE, a folder or a file.
        text_encoder, text_encoder_2, text_encoder_3: text encoders that the model's file lacks, each a folder or a file.
        ip_adapter, image_encoder: the file of an IP-Adapter, and its image encoder, a folder or a file. With them,
            paint() draws like pictures: ip_adapter_pictures=[picture], ip_adapter_strength=0.6.
        shift: shift of the noise levels to higher noise, 0.01 to 100, for a model with flow matching. The default is
            the model's own, which is usually 3; 1 shifts nothing.
        offload: leaves the weights in their files, so that a model may be larger than memory.
        lora_folders: folders in which prompts find LoRAs by their names, such as <lora:ink:0.8>.
        embedding_folders: folders in which prompts find learned words by their names.
        """
        if (ip_adapter is None) != (image_encoder is None):
            raise _impasto.ImpastoError("ip_adapter and image_encoder belong together; give both")
        encoders = {
            "text_encoder": text_encoder,
            "text_encoder_2": text_encoder_2,
            "text_encoder_3": text_encoder_3,
        }
        self._native = _impasto.Pipeline(
            _text(model),
            {name: _text(part) for name, part in {"vae": vae, **encoders}.items()},
            None if ip_adapter is None else (os.fspath(ip_adapter), os.fspath(image_encoder)),
            None if device is None else str(device),
            None if precision is None else str(precision),
            shift,
            offload,
            [os.fspath(folder) for folder in lora_folders],
            [os.fspath(folder) for folder in embedding_folders],
        )

    def paint(
        self,
        prompt: str = "",
        *,
        hooks: Sequence[Any] = (),
        on_step: Callable[[_impasto.Progress], object] | None = None,
        **fields: Any,
    ) -> Output:
        """Paints a picture, or several.

        prompt: the description. A color before a word is painted exactly: "1girl, #ffd700 eyes".
        hooks: objects with some of the methods of a hook; docs/python.md lists the methods.
        on_step: is called with a Progress after every step. An exception ends the run.
        fields: the fields of a job, such as seed=7, steps=14, size="256x256", forces=["eyes=gold"], images=2, start,
            mask, controls. A picture is one of Pillow, or a path.

        Raises ImpastoError, or the exception that a hook or on_step raised.
        """
        job = to_json({"prompt": prompt, **fields})
        return Output(self._native.paint(job, list(hooks), on_step))

    def repaint(self, picture: Image.Image | Path, prompt: str = "", **arguments: Any) -> Output:
        """Paints over a picture: paint() with start=picture.

        mask=... names the part to repaint by a picture, white where it is repainted, and mask_where="hair" by a word.
        strength=0.6 is the share of the run that changes the picture.
        """
        return self.paint(prompt, start=picture, **arguments)

    @property
    def sites(self) -> list[_impasto.Site]:
        """The attention sites of the model."""
        return self._native.sites()

    def find(self, prompt: str, phrase: str) -> list[slice]:
        """Returns the tokens of a phrase in a prompt: a slice of the last axis of scores and probs for each place."""
        return [slice(start, end) for start, end in self._native.find(prompt, phrase)]


@dataclass(frozen=True)
class Map:
    """A picture of a report, such as the mask of a color."""

    report: str
    caption: str
    index: int | None
    step: int | None
    image: Image.Image


class Output:
    """The pictures of a run."""

    def __init__(self, native: _impasto.Output):
        self._native = native

    @cached_property
    def images(self) -> list[Image.Image]:
        """The pictures, in the order of their seeds."""
        return [_image(pixels) for pixels in self._native.pictures()]

    @property
    def image(self) -> Image.Image:
        """The first picture."""
        if not self.images:
            raise _impasto.ImpastoError("a run that ends early (until=...) makes latents and no picture; see latents")
        return self.images[0]

    @cached_property
    def report(self) -> dict[str, Any]:
        """The report of the run.

        seed: the seed of the first picture.
        colors: for each color of each picture label, image, asked, painted, and delta_e, their CIEDE2000 difference.
        reports: numbers, curves and strips of each guidance method.
        notes: remarks of the model and the methods.
        timing, seconds: times of the parts in milliseconds, and of the whole run in seconds.
        """
        return json.loads(self._native.report())

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The settings that repeat the run, as save() writes them into the picture's file."""
        return json.loads(self._native.recipe())

    @cached_property
    def maps(self) -> list[Map]:
        """The pictures of the report, such as the masks of exact colors."""
        return [Map(*about, _image(pixels)) for *about, pixels in self._native.maps()]

    @property
    def latents(self) -> torch.Tensor:
        """The finished latents, [n, c, h, w], in the memory of the run."""
        return self._native.latents()

    def save(self, path: Path, index: int = 0) -> None:
        """Saves a picture as PNG, with the recipe of its run. `impasto again` and the studio read the recipe."""
        self._native.save(os.fspath(path), index)

    def _repr_png_(self) -> bytes | None:
        """Shows the first picture in a notebook."""
        return self.images[0]._repr_png_() if self.images else None


def _text(path: Path | None) -> str | None:
    return None if path is None else os.fspath(path)


def _image(pixels: tuple[int, int, bytes]) -> Image.Image:
    width, height, data = pixels
    return Image.frombytes("RGB", (width, height), data)
