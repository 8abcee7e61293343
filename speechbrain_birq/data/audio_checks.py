"""Whether a recording can be used, and what is unusual about it; logged once."""

import math
import multiprocessing
import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch

RATES = (1000, 768_000)  # Hz that audio has
LONGEST = 100 * 3600  # seconds; a header that promises more is wrong
KERNEL = 3e7  # numbers in a resampling filter, 120 MB; 44.1 to 16 kHz needs 70,000
FULL_SCALE = 1 - 1 / 32768
CLIPPED = 0.01  # of all samples at full scale
# What libsndfile reports for a FLAC whose encoder could not go back to its header.
UNKNOWN_LENGTH = 2**63 - 1


def check_header(rate: int, num_samples: int) -> None:
    """Refuse what no recording can be.

    Raises
    ------
    ValueError

    Example
    -------
    >>> check_header(16000, 2**36)
    Traceback (most recent call last):
    ValueError: its header promises 1193 hours
    """
    if num_samples <= 0:
        raise ValueError("no samples")
    if not RATES[0] <= rate <= RATES[1]:
        raise ValueError(f"its header says {rate} Hz")
    if num_samples == UNKNOWN_LENGTH:
        raise ValueError("length missing in the header: re-encode it")
    if num_samples > LONGEST * rate:
        raise ValueError(f"its header promises {num_samples / rate / 3600:.0f} hours")


def check_rates(old: int, new: int) -> None:
    """Refuse a pair of rates whose resampling filter would fill the memory.

    Raises
    ------
    ValueError

    Example
    -------
    >>> check_rates(44100, 16000)
    >>> check_rates(44101, 16000)
    Traceback (most recent call last):
    ValueError: 44101 Hz cannot be resampled to 16000 Hz
    """
    divisor = math.gcd(old, new)
    if (old // divisor) * (new // divisor) > KERNEL:
        raise ValueError(f"{old} Hz cannot be resampled to {new} Hz")


def check_samples(signal: torch.Tensor) -> None:
    """Refuse numbers that would spoil whatever they touch.

    Raises
    ------
    ValueError
    """
    if not signal.is_floating_point():
        return
    # NaN if there is one: this takes a quarter of isfinite's time.
    low, high = signal.aminmax()
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int((~torch.isfinite(signal)).sum())
        raise ValueError(f"{bad} of its samples are not finite")


def unusual(signal: torch.Tensor) -> str | None:
    """Name what a listener would wonder at, if anything.

    Example
    -------
    >>> unusual(torch.zeros(9)), unusual(torch.full((9,), 0.5)), unusual(torch.rand(9))
    ('silent', 'constant', None)
    """
    if len(signal) == 0:
        return None
    low, high = signal.aminmax()
    if low == high:
        return "constant" if low else "silent"
    if max(-low, high) < FULL_SCALE:
        return None
    share = (signal.abs() >= FULL_SCALE).float().mean().item()
    return f"clipped ({share:.0%} of it)" if share >= CLIPPED else None


def printable(path: str | Path) -> str:
    """Write a path in one line that any encoding can hold.

    Example
    -------
    >>> print(printable("two\\nlines.wav"))
    two\\nlines.wav
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class LoggedOnce:
    """Remembers what this process, or one that it started, has logged.

    Reading processes are started anew in every epoch, so the memory is shared.

    Arguments
    ---------
    capacity : int
        Texts that are remembered; once it is full, nothing more is logged.

    Example
    -------
    >>> logged = LoggedOnce()
    >>> [logged.number(name) for name in ("a.wav", "b.wav", "a.wav")]
    [1, 2, 0]
    >>> len(logged)
    2
    """

    def __init__(self, capacity: int = 10_000):
        # The first number counts the others.
        self.shared: Any = multiprocessing.Array("q", 1 + capacity)

    def __len__(self):
        return int(np.frombuffer(self.shared.get_obj(), np.int64)[0])

    def number(self, text: str) -> int:
        """Return its number, from 1; 0 if it was logged or the memory is full."""
        data = os.fsencode(text)
        (digest,) = np.frombuffer(blake2b(data, digest_size=8).digest(), np.int64)
        with self.shared.get_lock():
            memory = np.frombuffer(self.shared.get_obj(), np.int64)
            count = int(memory[0]) + 1
            if count == len(memory) or digest in memory[1:count]:
                return 0
            memory[0], memory[count] = count, digest
            return count
