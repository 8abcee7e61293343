"""Features of a corpus on disk: one file a recording, written atomically, resumable."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from speechbrain_birq.checkpoints import files
from speechbrain_birq.checkpoints.plain_files import read_json
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference.encoder import SpeechEncoder
from speechbrain_birq.inference.layers import Layer, layer_numbers

SETTINGS = "features.json"
DTYPES = {"float32": torch.float32, "float16": torch.float16}


def save_npy(states: torch.Tensor, path: Path) -> None:
    """Write an array that ``numpy.load`` reads."""
    with open(path, "wb") as file:
        np.save(file, states.numpy())


def save_safetensors(states: torch.Tensor, path: Path) -> None:
    """Write one tensor named ``features``.

    Raises
    ------
    BadInput
        If safetensors is not installed.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise BadInput(
            "--format safetensors needs the package: pip install safetensors"
        ) from error
    path.write_bytes(save({"features": states}))


SAVE: dict[str, Callable[[torch.Tensor, Path], None]] = {
    "pt": files.save_tensors,
    "npy": save_npy,
    "safetensors": save_safetensors,
}


def feature_settings(
    encoder: SpeechEncoder, layer: Layer, kind: str, dtype: str
) -> dict[str, Any]:
    """Describe what the files of a folder hold; kept there as ``features.json``."""
    return {
        "run": str(encoder.folder.resolve()),
        "checkpoint": encoder.checkpoint.name,
        "layer": layer_numbers(layer, encoder.encoder.num_layers),
        "format": kind,
        "dtype": dtype,
        "frame_ms": encoder.frontend.frame_ms,
        "sample_rate": encoder.frontend.sample_rate,
    }


def claim_folder(folder: str | Path, settings: Mapping[str, Any]) -> None:
    """Make the folder of features, or refuse one that holds other features.

    Raises
    ------
    BadInput
        Naming the first setting that differs, or why the folder cannot be written.
    """
    path = Path(folder) / SETTINGS
    if path.is_file():
        before = read_json(path, "give another --output_folder")
        for key, value in settings.items():
            if before.get(key) != value:
                raise BadInput(
                    f"{folder} holds features with {key} {before.get(key)}, now it is "
                    f"{value}: give another --output_folder"
                )
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, json.dumps(settings, indent=1) + "\n")
    except OSError as error:
        raise BadInput(f"cannot write {folder} ({error.strerror})") from error


def is_done(source: str | Path, target: Path) -> bool:
    """Say whether the features of a recording exist and are newer than it."""
    try:
        return target.stat().st_mtime_ns >= Path(source).stat().st_mtime_ns
    except OSError:
        return False


def write_features(states: torch.Tensor, target: Path, kind: str, dtype: str) -> None:
    """Write the features of one recording atomically.

    Arguments
    ---------
    states : torch.Tensor
        (T, H) or (L, T, H)
    target : Path
        Folders above it are made.
    kind : str
        ``pt``, ``npy`` or ``safetensors``.
    dtype : str
        ``float32`` or ``float16``.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(target) as partial:
        SAVE[kind](states.to(DTYPES[dtype]).contiguous(), partial)
