"""The import: which torch is taken, and what is said about another."""

import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

import pytest

import impasto
from impasto import _torch


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("version", ["2.11.0", "2.11.0+cpu", "2.11.1+cu130"])
def test_torch_of_the_wanted_version_is_taken(version):
    _torch.check(version)


@pytest.mark.parametrize("version", ["2.10.0", "2.12.0+cu130", "1.11.0", "2.1.1"])
def test_torch_of_another_version_is_refused(version):
    with pytest.raises(ImportError, match="is built for torch 2.11") as raised:
        _torch.check(version)
    assert f"torch is version {version}" in str(raised.value) and "pip install torch==2.11.0" in str(raised.value)


def test_import_checks_the_version_before_the_native_part():
    ended = run("import sys, torch; torch.__version__ = '2.10.0'\ntry: import impasto\nfinally: print(sorted(sys.modules))")
    assert "ImportError: torch is version 2.10.0" in ended.stderr, ended.stderr
    assert "impasto._torch" in ended.stdout and "impasto._impasto" not in ended.stdout


def test_missing_torch_is_named():
    ended = run("import sys; sys.modules['torch'] = None; import impasto")
    assert "ImportError: impasto computes with torch, which is not installed; run `pip" in ended.stderr, ended.stderr


def test_package_carries_no_libtorch():
    carried = [file for file in files("impasto") or [] if ".so" in file.name or ".dylib" in file.name]
    assert [file.name.split(".")[0] for file in carried] == ["_impasto"], carried
    maps = Path("/proc/self/maps")
    if maps.exists():
        loaded = {line.split()[-1] for line in maps.read_text().splitlines() if "libtorch_cpu" in line}
        assert len(loaded) == 1, f"one libtorch in the process: {loaded}"


def test_version_is_that_of_the_package():
    from importlib.metadata import version

    assert impasto.__version__ == version("impasto")
