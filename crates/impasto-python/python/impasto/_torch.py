"""The check of the torch that impasto computes with."""

WANTED = "2.11"


def check(found):
    """Checks a version of torch.

    Raises ImportError for another version than 2.11, with the way to install it.
    """
    if found.split("+")[0].split(".")[:2] != WANTED.split("."):
        raise ImportError(
            f"torch is version {found}, but this impasto is built for torch {WANTED}, because libtorch's functions "
            f"differ between versions; run `pip install torch=={WANTED}.0`"
        )


def load():
    """Imports torch, so that its libtorch is in the process before impasto's native part.

    Raises ImportError if torch is missing, or has another version.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError(
            f"impasto computes with torch, which is not installed; run `pip install torch=={WANTED}.0`"
        ) from error
    check(torch.__version__)
