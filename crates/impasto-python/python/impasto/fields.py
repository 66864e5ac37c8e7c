"""The fields of a job as JSON."""

import base64
import io
import json
import os

from PIL import Image


def to_json(fields):
    """Returns the JSON of a job's fields. Pictures of Pillow become PNG, and paths become texts."""
    return json.dumps(fields, default=_value, allow_nan=False)


def _value(value):
    if isinstance(value, Image.Image):
        file = io.BytesIO()
        value.save(file, "PNG")
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):
        return value.item()  # a number of NumPy or torch
    raise TypeError(
        f"a field has a value of type {type(value).__name__}; expected a text, a number, a list, a dict, a path or a "
        "picture of Pillow"
    )
