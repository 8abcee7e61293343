"""Is one recogniser better than another? Paired bootstrap over utterances."""

import csv
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speechbrain_birq.errors import BadInput

UNITS = {"cer": ("character_errors", "characters"), "wer": ("word_errors", "words")}


class Difference(NamedTuple):
    """Error rates in percent and the interval of their difference."""

    first: float
    second: float
    low: float  # 95 % interval of first − second
    high: float


def compare_runs(first, second, split, unit="cer", samples=10000, seed=0) -> Difference:
    """Compare two runs on a split that both have scored.

    Arguments
    ---------
    first, second : str or Path
        Run folders of fine-tunings.
    split : str
    unit : str
        ``cer`` or ``wer``.
    samples : int
        Bootstrap samples of the utterances, the same ones for both runs.
    seed : int

    Returns
    -------
    Difference

    Raises
    ------
    BadInput
        If a run has no scores of the split, or damaged ones, or they are of other
        utterances.
    """
    ours, theirs = (_errors(Path(run), split, unit) for run in (first, second))
    if ours.keys() != theirs.keys():
        raise BadInput(f"{first} and {second} scored different utterances of {split!r}")
    rows = [(ours[u][0], theirs[u][0], ours[u][1]) for u in sorted(ours)]
    return bootstrap(np.array(rows), samples, seed)


def bootstrap(table: np.ndarray, samples: int, seed: int) -> Difference:
    """Percentile interval of the difference of two error rates.

    Arguments
    ---------
    table : np.ndarray
        (U, 3): errors of the first, errors of the second, length of the reference.
    samples, seed : int

    Example
    -------
    >>> table = np.array([[1.0, 2.0, 10.0]] * 20)
    >>> bootstrap(table, samples=100, seed=0)
    Difference(first=10.0, second=20.0, low=-10.0, high=-10.0)
    """
    draws = np.random.default_rng(seed).integers(len(table), size=(samples, len(table)))
    sums = table[draws].sum(1)
    differences = 100 * (sums[:, 0] - sums[:, 1]) / sums[:, 2]
    low, high = np.percentile(differences, (2.5, 97.5))
    first, second = 100 * table[:, :2].sum(0) / table[:, 2].sum()
    return Difference(*(round(float(x), 4) for x in (first, second, low, high)))


def interval(errors, lengths, samples=1000, seed=0) -> tuple[float, float]:
    """95 % bootstrap interval of an error rate over utterances.

    Arguments
    ---------
    errors, lengths : list
        (U,) errors, and words or characters of the reference, of each utterance.
    samples, seed : int

    Returns
    -------
    tuple
        Low and high, in percent.

    Example
    -------
    >>> interval([1] * 20, [10] * 20)
    (10.0, 10.0)
    """
    table = np.array([errors, lengths], dtype=float).T
    rng = np.random.default_rng(seed)
    rates = []
    for _ in range(samples):
        wrong, total = table[rng.integers(len(table), size=len(table))].sum(0)
        rates.append(100 * wrong / max(1.0, total))
    low, high = np.percentile(rates, (2.5, 97.5))
    return round(float(low), 3), round(float(high), 3)


def _errors(run, split, unit):
    """id -> (errors, length of the reference)"""
    path = run / f"errors_{split}.csv"
    if not path.is_file():
        raise BadInput(f"{run} has no scores of the split {split!r} ({path.name})")
    errors, length = UNITS[unit]
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            found = {r["id"]: (_count(r[errors]), _count(r[length])) for r in rows}
    except (KeyError, TypeError, ValueError, OSError, csv.Error) as error:
        reason = f"{type(error).__name__}: {error}"
        raise BadInput(
            f"{path} is damaged ({reason}): score the split again"
        ) from error
    if not any(length for _, length in found.values()):
        raise BadInput(f"{path} counts no {length}: score the split again")
    return found


def _count(text):
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError(f"{text} is no count")
    return number
