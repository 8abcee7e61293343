"""Is one recogniser better than another? Paired bootstrap over utterances."""

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from speechbrain_birq.errors import BadInput

UNITS = {"cer": ("character_errors", "characters"), "wer": ("word_errors", "words")}
RESAMPLES = 10_000
BATCH_ELEMENTS = 2**22  # drawn at once: about 100 MB for three columns


class Difference(NamedTuple):
    """Error rates in percent and the 95 % interval of their difference."""

    first: float
    second: float
    low: float  # of first - second
    high: float


def compare_runs(
    first: str | Path, second: str | Path, split: str, unit: str = "cer"
) -> Difference:
    """Compare two runs on a split that both have scored.

    Arguments
    ---------
    first, second : str or Path
        Run folders of fine-tunings.
    split : str
    unit : str
        ``cer`` or ``wer``.

    Raises
    ------
    BadInput
        If a run has no scores of the split, if they are corrupt, or if the two runs
        scored different utterances or different texts of them.
    """
    ours, theirs = (_errors(Path(run), split, unit) for run in (first, second))
    if ours.keys() != theirs.keys():
        raise BadInput(f"{first} and {second} scored different utterances of {split!r}")
    other = next((u for u in sorted(ours) if ours[u][1] != theirs[u][1]), None)
    if other is not None:
        raise BadInput(
            f"{first} and {second} scored different texts of {split!r}, for example of "
            f"{other}: score both with the same text_case, drop_characters and texts"
        )
    rows = [(ours[u][0], theirs[u][0], ours[u][1]) for u in sorted(ours)]
    return difference(*np.array(rows).T)


def difference(
    first: Sequence[float], second: Sequence[float], lengths: Sequence[float]
) -> Difference:
    """Compare two error rates; each resample has the same utterances for both.

    Arguments
    ---------
    first, second : sequence
        (U,) errors of two systems in each utterance.
    lengths : sequence
        (U,) words or characters of each reference.

    Example
    -------
    >>> difference([1] * 20, [2] * 20, [10] * 20)
    Difference(first=10.0, second=20.0, low=-10.0, high=-10.0)
    """
    low, high = _interval(_rate_difference, first, second, lengths)
    ours, theirs, total = (np.sum(column) for column in (first, second, lengths))
    per_cent = 100 / max(1, total)
    return Difference(float(ours * per_cent), float(theirs * per_cent), low, high)


def interval(errors: Sequence[float], lengths: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of an error rate, in percent.

    Arguments
    ---------
    errors : sequence
        (U,) errors in each utterance.
    lengths : sequence
        (U,) words or characters of each reference.

    Example
    -------
    >>> interval([1] * 20, [10] * 20)
    (10.0, 10.0)
    """
    return _interval(_rate, errors, lengths)


def interval_text(low: float, high: float, sign: str = "") -> str:
    """Format an interval in percent.

    One decimal, because another seed moves the bounds of 10,000 resamples by about
    0.7 % of the interval's width: 0.07 where it is 10 % wide.

    Example
    -------
    >>> interval_text(-0.72, 0.64, sign="+")
    '-0.7 to +0.6'
    """
    return f"{low:{sign}.1f} to {high:{sign}.1f}"


def _interval(
    statistic: Callable[..., np.ndarray], *columns: Sequence[float]
) -> tuple[float, float]:
    """Percentile interval of a statistic of (U,) columns, over utterances."""
    data = [np.asarray(column, dtype=float) for column in columns]
    if len(data[0]) < 2:  # SciPy refuses one utterance: every resample equals it
        low = high = statistic(*data)
    else:
        low, high = stats.bootstrap(
            data,
            statistic,
            n_resamples=RESAMPLES,
            batch=max(1, BATCH_ELEMENTS // len(data[0])),
            vectorized=True,
            paired=True,
            method="percentile",
            random_state=np.random.default_rng(0),
        ).confidence_interval
    return round(float(low), 2), round(float(high), 2)


def file_name(split: str) -> str:
    """Return what a split is called in the names of its score files.

    Example
    -------
    >>> file_name("en/test")
    'en_test'
    """
    return split.replace("/", "_")


def _rate(errors, lengths, axis=-1):
    return 100 * errors.sum(axis) / np.maximum(1, lengths.sum(axis))


def _rate_difference(first, second, lengths, axis=-1):
    return _rate(first - second, lengths, axis)


def _errors(run, split, unit):
    """id -> (errors, length of the reference)"""
    path = run / f"errors_{file_name(split)}.csv"
    if not path.is_file():
        raise BadInput(_why_no_scores(run, split, path.name))
    errors, length = UNITS[unit]
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            found = {r["id"]: (_count(r[errors]), _count(r[length])) for r in rows}
    except (KeyError, TypeError, ValueError, OSError, csv.Error) as error:
        reason = f"{type(error).__name__}: {error}"
        raise BadInput(
            f"{path} is corrupt ({reason}): score the split again"
        ) from error
    if not any(length for _, length in found.values()):
        raise BadInput(f"{path} counts no {length}: score the split again")
    return found


def _why_no_scores(run, split, name):
    if not run.is_dir():
        return f"no folder {run}: give the output_folder of a fine-tuning"
    scored = sorted(
        path.stem.removeprefix("errors_") for path in run.glob("errors_*.csv")
    )
    return (
        f"{run} has no scores of the split {split!r} ({name}; it has "
        f"{', '.join(scored) or 'none'}): name a split that it has scored, with "
        f"--split, or give the folder of a fine-tuning"
    )


def _count(text):
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError(f"{text} is no count")
    return number
