"""The examples of the README, and the notebook."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks(name):
    text = (ROOT / name).read_text()
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("name", ["README.md", "../../docs/python.md"])
def test_examples_of_a_document_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples, names = blocks(name), {}
    assert examples
    for example in examples:
        exec(compile(example, name, "exec"), names)


def test_notebook_runs_and_has_its_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook, names, pictures = json.loads((ROOT / "examples/paint.ipynb").read_text()), {}, 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "paint.ipynb", "exec"), names)
            pictures += sum("image/png" in output.get("data", {}) for output in cell["outputs"])
    assert pictures >= 4
