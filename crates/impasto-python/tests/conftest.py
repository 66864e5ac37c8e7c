"""What the tests share."""

import pytest

import impasto

# Small pictures of few steps: the tests look at the interface, and those of the library at the pictures.
SMALL = {"size": "64x64", "seed": 7, "steps": 3}


@pytest.fixture(scope="session")
def pipeline():
    return impasto.Pipeline()


@pytest.fixture(scope="session")
def plain(pipeline):
    """A small picture without hooks."""
    return pipeline.paint("1girl, red hair", **SMALL).image.tobytes()
