"""Move a module to the device that a user names."""

from typing import TypeVar

import torch

from speechbrain_birq.errors import BadInput

Module = TypeVar("Module", bound=torch.nn.Module)


def moved(module: Module, device: str) -> Module:
    """Move a module, in place.

    Arguments
    ---------
    module : torch.nn.Module
    device : str
        Such as ``cpu``, ``cuda`` or ``cuda:1``.

    Raises
    ------
    BadInput
        If there is no such device.

    Example
    -------
    >>> moved(torch.nn.Linear(1, 1), "nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    speechbrain_birq.errors.BadInput: no device 'nowhere' ...
    """
    try:
        return module.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"no device {device!r} ({reason}): give another") from error
