"""One sentence for a lack of memory, which names the batch."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from speechbrain_birq.errors import BadInput, out_of_memory


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
                if batch is None or not out_of_memory(error):
                    raise
                rate = brain.model.frontend.sample_rate
                raise BadInput(_sentence(batch, rate, long_key)) from error

        return wrapped

    return decorate


def _sentence(batch, rate, long_key):
    count, samples = batch.sig.data.shape
    longest = samples / rate
    remedy = f"lower {long_key}: it leaves out such recordings"
    if count > 1:
        remedy = "lower batch_seconds and raise grad_accumulation_factor"
    return (
        f"out of memory in a batch of {count * longest:.1f} s ({count} x {longest:.1f} "
        f"s with padding; {', '.join(batch.id[:3])}{' ...' * (count > 3)}): {remedy}"
    )
