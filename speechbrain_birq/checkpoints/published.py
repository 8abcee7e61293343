"""Weights that come with the package, found by their names."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from speechbrain_birq.errors import BadInput

WEIGHTS = "model.safetensors"
PACKAGE = Path(__file__).resolve().parents[1]


def weights_folder() -> Path:
    """Return the folder of the weights that come with the package."""
    # A wheel has the folder in the package, a checkout has it beside the package.
    installed = PACKAGE / "weights"
    return installed if installed.is_dir() else PACKAGE.parent / "weights"


def find_run(name: str | Path) -> Path:
    """Return the folder of a run, or of weights that come with the package.

    Arguments
    ---------
    name : str or Path
        A folder, or the name of published weights. A folder of that name comes first.

    Returns
    -------
    Path
        The folder; the name itself if nothing has it.

    Example
    -------
    >>> find_run("results/birq_tiny").as_posix()
    'results/birq_tiny'
    """
    files = weights_folder().glob(f"*/{WEIGHTS}")
    published = {file.parent.name: file.parent for file in files}
    here = Path(name)
    return here if here.exists() else published.get(str(name), here)


def load_published(path: str | Path) -> dict[str, torch.Tensor]:
    """Load a file of safetensors, which cannot hold code, to the CPU.

    Raises
    ------
    BadInput
        If the file is corrupt.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise BadInput(
            f"{path} is corrupt ({reason}): install the package again, or take another "
            f"run folder"
        ) from error
