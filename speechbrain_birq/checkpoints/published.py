"""Weights that come with the package, found by their names."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from speechbrain_birq.config.shipped import carried_folder
from speechbrain_birq.errors import BadInput

WEIGHTS = "model.safetensors"
INSTALL_AGAIN = "install the package again, or take another run folder"


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
    files = carried_folder("weights").glob(f"*/{WEIGHTS}")
    published = {file.parent.name: file.parent for file in files}
    here = Path(name)
    return here if here.exists() else published.get(str(name), here)


def load_safetensors(path: str | Path, advice: str) -> dict[str, torch.Tensor]:
    """Load a file of safetensors, which cannot hold code, to the CPU.

    Arguments
    ---------
    path : str or Path
    advice : str
        What to do if the file is corrupt.

    Raises
    ------
    BadInput
        If the file is corrupt.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise BadInput(f"{path} is corrupt ({reason}): {advice}") from error
