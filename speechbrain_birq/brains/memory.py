"""One sentence for a lack of memory, which names the batch."""

import errno
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

from speechbrain_birq.errors import BadInput


def memory_told(long_key: str) -> Callable[[Callable], Callable]:
    """Decorate a Brain's ``fit_batch`` or ``evaluate_batch``.

    A lack of memory becomes a ``BadInput`` that names the batch and what to lower.

    Arguments
    ---------
    long_key : str
        The key to lower if a single recording does not fit into memory.
    """

    def decorate(method: Callable) -> Callable:
        @wraps(method)
        def wrapped(brain: Any, batch: Any, *args: Any, **keywords: Any) -> Any:
            try:
                return method(brain, batch, *args, **keywords)
            except (MemoryError, OSError, RuntimeError) as error:
                if batch is None or not _is_of_memory(error):
                    raise
                rate = brain.model.frontend.sample_rate
                raise BadInput(_out_of_memory(batch, rate, long_key)) from error

        return wrapped

    return decorate


def _is_of_memory(error):
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # torch has a class for the memory of a GPU only. The CPU's allocator raises a plain
    # RuntimeError; its own name, a word of the code, is all that tells it from others.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        "DefaultCPUAllocator" in str(error)
    )


def _out_of_memory(batch, rate, long_key):
    count, samples = batch.sig.data.shape
    longest = samples / rate
    remedy = f"lower {long_key}: it leaves out such recordings"
    if count > 1:
        remedy = "lower batch_seconds and raise grad_accumulation_factor"
    return (
        f"out of memory in a batch of {count * longest:.1f} s ({count} x {longest:.1f} "
        f"s with padding; {', '.join(batch.id[:3])}{' ...' * (count > 3)}): {remedy}"
    )
