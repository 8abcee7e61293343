"""A deadline for calls of libraries that have none."""

import os
import queue
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 8.0  # seconds for a call
CALLS = 64  # that a process may wait for, those that were given up among them


def in_time(name: str, call: Callable[[], T]) -> T:
    """Return what a call returns, unless it takes longer than ``PATIENCE``.

    The call runs in a thread of its own. Nothing can end a thread from outside, so a
    late one is left behind; if ``CALLS`` of them wait, further calls are refused.

    Raises
    ------
    OSError
        If the call, named ``name``, is late.
    Exception
        What the call raises.

    Example
    -------
    >>> in_time("s3://bucket/index.json", lambda: b"{}")
    b'{}'
    """
    calls = _calls(os.getpid())
    if not calls.acquire(timeout=PATIENCE):
        raise OSError(f"{name}: {CALLS} earlier reads have not ended")
    ended: queue.SimpleQueue = queue.SimpleQueue()

    def work():
        try:
            ended.put((call(), None))
        except BaseException as error:
            ended.put((None, error))
        finally:
            calls.release()

    threading.Thread(target=work, daemon=True).start()
    try:
        value, error = ended.get(timeout=PATIENCE)
    except queue.Empty:
        raise OSError(f"{name} does not come in {PATIENCE:g} s") from None
    if error is not None:
        raise error
    return value


# Threads do not survive a fork, so the process id is part of the key.
@lru_cache(maxsize=1)
def _calls(pid):
    return threading.BoundedSemaphore(CALLS)
