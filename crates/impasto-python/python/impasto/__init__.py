"""Stable Diffusion with exact colors, on the torch that you have.

>>> import impasto
>>> painted = impasto.Pipeline().paint("1girl, #ffd700 eyes", seed=7)
>>> painted.image.save("eyes.png")
"""

from . import _torch

# Before the native part, which finds libtorch in the process.
_torch.load()

from ._impasto import At, ImpastoError, Progress, Site, Step, __version__  # noqa: E402
from .pipeline import Map, Output, Pipeline  # noqa: E402

__all__ = ["At", "ImpastoError", "Map", "Output", "Pipeline", "Progress", "Site", "Step", "__version__"]
