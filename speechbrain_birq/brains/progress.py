"""How far a run is: a bar that counts the steps of all its epochs, the time left."""

import math
import time

from tqdm import tqdm


class Progress:
    """Counts the optimizer steps of a run.

    The rate is that of this start of the run, its first step left out, validation and
    checkpoints included.

    Example
    -------
    >>> progress = Progress()
    >>> progress.begin(done=40, total=60, shown=False)
    >>> progress.advance(41)
    >>> progress.seconds_left() is None  # one step gives no rate
    True
    >>> progress.advance(42)
    >>> 0 < progress.seconds_left() < 5
    True
    """

    def __init__(self) -> None:
        self.done = 0
        self.total: int | None = None
        self._bar: tqdm | None = None
        self._first: tuple[float, int] | None = None

    @property
    def begun(self) -> bool:
        """Whether an epoch has begun since this start of the run."""
        return self.total is not None

    def begin(self, done: int, total: int, shown: bool) -> None:
        """Begin an epoch.

        Arguments
        ---------
        done : int
            Steps so far, of all starts.
        total : int
            Steps of the whole run, as far as known.
        shown : bool
            Whether to show a bar.
        """
        self.done, self.total = done, total
        if shown and self._bar is None:
            self._bar = tqdm(initial=done, total=total, unit="step", dynamic_ncols=True)
        if self._bar is not None:
            self._bar.total = total

    def advance(self, done: int) -> None:
        """Count a step: ``done`` are made now."""
        if self._bar is not None:
            self._bar.update(done - self.done)
        self.done = done
        if self._first is None:
            self._first = (time.monotonic(), done)

    def describe(self, text: str) -> None:
        """Say before the bar what the run does just now."""
        if self._bar is not None:
            self._bar.set_description(text)

    def seconds_left(self) -> float | None:
        """Return an estimate; None at the end, or if no rate is known yet."""
        if self._first is None or self.total is None:
            return None
        began, first = self._first
        left = self.total - self.done
        if left <= 0 or self.done == first:
            return None
        return left * (time.monotonic() - began) / (self.done - first)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None


def planned_steps(
    done: int,
    *,
    batches_left: int,
    batches: int,
    epochs_left: int,
    accumulation: int,
    limit: int | None,
) -> int:
    """Return the optimizer steps of a run.

    Arguments
    ---------
    done : int
        Steps so far.
    batches_left : int
        Batches left in this epoch.
    batches : int
        Batches of an epoch.
    epochs_left : int
        Epochs after this one.
    accumulation : int
        Batches of a step; those left over at the end of an epoch make a step, too.
    limit : int or None
        ``optimizer_step_limit``

    Example
    -------
    >>> epochs = dict(batches_left=3, batches=7, epochs_left=2, accumulation=2)
    >>> planned_steps(2, **epochs, limit=None), planned_steps(2, **epochs, limit=10)
    (12, 10)
    """
    now, later = (math.ceil(b / accumulation) for b in (batches_left, batches))
    steps = done + now + epochs_left * later
    return steps if limit is None else min(limit, steps)


def duration(seconds: float) -> str:
    """Write a time in two of its units at most.

    Example
    -------
    >>> duration(8.4), duration(2900), duration(7500), duration(200_000)
    ('8 s', '48 min', '2 h 5 min', '2 d 7 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
