"""Modules whose numbers stay in float32 when a model is moved to half precision."""

from collections.abc import Callable
from typing import Any

import torch

HALF = (torch.float16, torch.bfloat16)


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
