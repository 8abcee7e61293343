"""Computations and modules that stay in float32 beside a model in lower precision."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

HALF = (torch.float16, torch.bfloat16)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute with all 24 bits of float32, whatever the training's precision.

    Autocast rounds operands to bfloat16 or float16. Without autocast a GPU rounds those
    of matrix products to TF32's 11 bits, because SpeechBrain switches that on when it
    is imported. In either precision some frames get other labels than on a CPU.

    Arguments
    ---------
    device : torch.device
        Device of the operands.

    Example
    -------
    >>> ones = torch.ones(1, 1)
    >>> with torch.autocast("cpu", torch.bfloat16), full_precision(ones.device):
    ...     (ones @ ones).dtype
    torch.float32
    """
    matmul = torch.backends.cuda.matmul
    new = hasattr(matmul, "fp32_precision")  # from torch 2.9 on; the two do not mix
    name = "fp32_precision" if new else "allow_tf32"
    before = getattr(matmul, name)
    setattr(matmul, name, "ieee" if new else False)
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        setattr(matmul, name, before)


class FullPrecision(torch.nn.Module):
    """A module that ``.half()`` and ``.bfloat16()`` leave in float32; it still moves.

    Rounded filters change every frame, and rounded codes change labels. The numbers
    are few, so float32 costs nothing.

    Example
    -------
    >>> class Table(FullPrecision):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.register_buffer("codes", torch.ones(2))
    >>> torch.nn.Sequential(Table()).half()[0].codes.dtype
    torch.float32
    """

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        """Apply what ``.to``, ``.half`` and ``.cuda`` apply, except the rounding."""

        def unrounded(tensor):
            result = fn(tensor)
            rounded = result.dtype in HALF and tensor.dtype not in HALF
            return tensor.to(result.device) if rounded else result

        return super()._apply(unrounded, recurse)
