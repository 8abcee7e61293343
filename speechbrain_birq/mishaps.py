"""What the machine may do to a run, told in one sentence: disk, memory, processes."""

import re
import signal
import threading
import traceback
from contextlib import contextmanager
from functools import wraps

import torch

from speechbrain_birq.errors import BadInput

GO_ON = "the same command goes on from the last checkpoint"
KILLED = (
    "a process that reads audio was killed{}, perhaps for want of memory: lower "
    f"num_workers or cache_audio_gb; {GO_ON}"
)


@contextmanager
def mishaps_told():
    """Turn a full disk or a killed reading process into one sentence.

    Raises
    ------
    BadInput

    Example
    -------
    >>> with mishaps_told():
    ...     open("/nowhere/log.txt", "w")
    Traceback (most recent call last):
    speechbrain_birq.errors.BadInput: cannot use /nowhere/log.txt (No such file or \
directory): mend that; the same command goes on from the last checkpoint
    """
    try:
        yield
    except (OSError, EOFError, RuntimeError) as error:
        if threading.current_thread() is threading.main_thread():
            # torch raises an error, wherever we are, for each reader that ends.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        sentence = _sentence(error)
        if sentence is None:
            raise
        traceback.clear_frames(error.__traceback__)  # ends the loader
        raise BadInput(sentence) from None


def _sentence(error):
    """What happened, or None where nobody knows."""
    if isinstance(error, RuntimeError):
        return _of_a_worker(str(error)) or _of_a_checkpoint(str(error))
    if isinstance(error, (EOFError, ConnectionError)) or _of_no_file(error):
        return KILLED.format("")  # it ended while it handed a batch over
    if error.errno is None:
        return None
    where = error.filename or "the output folder"
    return f"cannot use {where} ({error.strerror}): mend that; {GO_ON}"


def _of_no_file(error):
    return isinstance(error, FileNotFoundError) and error.filename is None


def _of_a_worker(text):
    found = re.search(r"DataLoader worker \(pid\D*([\d, ]+)", text)
    return found and KILLED.format(f" (pid {found[1].strip()})")


def _of_a_checkpoint(text):
    if "PytorchStreamWriter" not in text and "unexpected pos" not in text:
        return None
    return f"cannot write a checkpoint: make room on the disk; {GO_ON}"


def memory_told(long_key):
    """Decorate a brain's ``fit_batch`` or ``evaluate_batch``: memory in one sentence.

    Arguments
    ---------
    long_key : str
        The key that keeps a recording out that is too long, even alone.
    """

    def decorate(method):
        @wraps(method)
        def wrapped(brain, batch, *args, **keywords):
            try:
                return method(brain, batch, *args, **keywords)
            except (MemoryError, RuntimeError) as error:
                if batch is None or not _is_of_memory(error):
                    raise
                rate = brain.model.frontend.sample_rate
                raise BadInput(_out_of_memory(batch, rate, long_key)) from None

        return wrapped

    return decorate


def _is_of_memory(error):
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        "DefaultCPUAllocator" in str(error)  # the CPU's is a plain RuntimeError
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
