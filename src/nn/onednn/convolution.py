"""Writes convolution.pt, a TorchScript module that calls oneDNN's convolution with a packed kernel:

    python convolution.py

libtorch has this operator, but `tch` has no function for it. The module holds no weights.
"""

import io
import zipfile
from typing import Optional

import torch


class Convolution(torch.nn.Module):
    def forward(self, x: torch.Tensor, kernel: torch.Tensor, bias: Optional[torch.Tensor], padding: int) -> torch.Tensor:
        return torch.ops.mkldnn._convolution_pointwise(
            x, kernel, bias, [padding, padding], [1, 1], [1, 1], 1, "none", [], "none"
        )


def write(path: str) -> None:
    """Saves the module without its debugging records, which name the folder of this file."""
    saved = io.BytesIO()
    torch.jit.save(torch.jit.script(Convolution()), saved)
    with zipfile.ZipFile(saved) as whole, zipfile.ZipFile(path, "w") as kept:
        for record in whole.infolist():
            if not record.filename.endswith(".debug_pkl"):
                kept.writestr(record, whole.read(record))


if __name__ == "__main__":
    write("convolution.pt")
