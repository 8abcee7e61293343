"""Tensors in files: nothing runs when they are loaded, a full disk is an OSError."""

import pickle

import torch

from speechbrain_birq.errors import BadInput


def save_tensors(state, path) -> None:
    """Save tensors, plain values, and lists, tuples and dictionaries of them.

    Raises
    ------
    OSError
        If there is no room: torch itself raises a RuntimeError.
    """
    try:
        torch.save(state, path)
    except RuntimeError as error:
        raise OSError(f"cannot write {path} ({_first_line(error)})") from None


def load_tensors(path):
    """Load what ``save_tensors`` has saved, to the CPU, never running code.

    Raises
    ------
    BadInput
        If the file is damaged, or holds more than tensors and plain values.

    Example
    -------
    >>> path = getfixture("tmp_path") / "x.ckpt"
    >>> save_tensors({"steps": 3}, path)
    >>> load_tensors(path)
    {'steps': 3}
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error):
            raise BadInput(
                f"{path} would run code when it is loaded, which was refused: do not "
                f"trust its folder"
            ) from None
        raise BadInput(_damaged(path, error)) from None
    except (EOFError, OSError, RuntimeError) as error:
        raise BadInput(_damaged(path, error)) from None


def _damaged(path, error):
    return f"{path} is damaged ({_first_line(error)}): take another run folder"


def _first_line(error):
    return str(error).strip().partition("\n")[0][:200]
