"""The native part of impasto."""

import os
from collections.abc import Callable
from typing import Any

import torch

__version__: str

Pixels = tuple[int, int, bytes]

class ImpastoError(RuntimeError):
    """A picture that cannot be painted, or a model that cannot be loaded."""

class Pipeline:
    def __new__(
        cls,
        model: str | None,
        parts: dict[str, str | None],
        ip_adapter: tuple[str, str] | None,
        device: str | None,
        precision: str | None,
        shift: float | None,
        offload: bool,
        lora_folders: list[str],
        embedding_folders: list[str],
    ) -> Pipeline: ...
    def paint(self, job: str, hooks: list[Any], on_step: Callable[[Progress], object] | None) -> Output: ...
    def sites(self) -> list[Site]: ...
    def find(self, prompt: str, phrase: str) -> list[tuple[int, int]]: ...

class Output:
    def pictures(self) -> list[Pixels]: ...
    def maps(self) -> list[tuple[str, str, int | None, int | None, Pixels]]: ...
    def latents(self) -> torch.Tensor: ...
    def report(self) -> str: ...
    def recipe(self) -> str: ...
    def save(self, path: str | os.PathLike[str], index: int) -> None: ...

class Site:
    """A place in the network where attention happens."""

    @property
    def index(self) -> int:
        """Position in the list of the model's sites."""
    @property
    def name(self) -> str:
        """Path in the checkpoint."""
    @property
    def is_cross(self) -> bool:
        """True at cross-attention sites, whose context is the prompt."""
    @property
    def place(self) -> str:
        """Part of the network: "down", "mid", "up" or "layer"."""
    @property
    def halvings(self) -> int:
        """Number of halvings of the latent grid before this site."""
    @property
    def heads(self) -> int:
        """Number of attention heads."""
    @property
    def control(self) -> int | None:
        """ControlNet that the site is in, counted from 0; None in the UNet."""

class Step:
    """One step of a run and, within it, one evaluation of the network."""

    @property
    def index(self) -> int:
        """Index of the step, from 0."""
    @property
    def count(self) -> int:
        """Number of steps in the run."""
    @property
    def eval(self) -> int:
        """Index of this evaluation within the step, from 0."""
    @property
    def sigma(self) -> float:
        """Noise level of this evaluation."""
    @property
    def next_sigma(self) -> float:
        """Noise level that the step ends at; 0 for the last."""
    @property
    def timestep(self) -> float:
        """Training timestep of this evaluation."""
    @property
    def sd_timestep(self) -> float:
        """Timestep of Stable Diffusion with the noise level of this evaluation, for a model with flow matching.

        Otherwise `timestep`. Equal numbers mean equal noise levels in models of both kinds.
        """

class At:
    """The attention call that a hook sees."""

    @property
    def site(self) -> Site:
        """Site of the call."""
    @property
    def step(self) -> Step:
        """Step and evaluation of the call."""
    @property
    def branch(self) -> str:
        """Branch whose rows the hook sees: "cond", "uncond", "extra0" and so on."""
    @property
    def images(self) -> tuple[int, int]:
        """First image of the run that the rows belong to, and the image after the last."""
    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the cells that the queries belong to."""
    @property
    def query(self) -> torch.Tensor:
        """Queries, [n, heads, queries, head_dim]."""
    @property
    def values(self) -> torch.Tensor | None:
        """Values, [n, heads, tokens, head_dim]; None in the phase `context`."""

class Progress:
    """Progress of a run after a step."""

    @property
    def done(self) -> int:
        """Steps taken so far, including those of a first pass."""
    @property
    def total(self) -> int:
        """Steps of all passes together."""
    @property
    def pass_index(self) -> int:
        """Index of the pass, from 0. Only the last pass makes the picture."""
    @property
    def passes(self) -> int:
        """Number of passes, 1 or 2."""
    @property
    def stage(self) -> int:
        """Index of the run, from 0, if the request has several."""
    @property
    def sigma(self) -> float:
        """Noise level that the step ended at."""
    @property
    def seconds(self) -> float:
        """Seconds that the step took."""
