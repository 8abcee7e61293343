"""Learning rates and weights as functions of the training's progress."""

import inspect
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from speechbrain_birq.config.keys import ABOVE_0, FROM_0


class Ramp:
    """Weight that changes linearly from ``start`` to ``value``, or is constant.

    Arguments
    ---------
    value : float
        Weight at the end.
    steps : int
        Optimizer steps of the ramp; 0: constant.
    start : float
        Weight at step 0; above ``value`` it decays.

    Raises
    ------
    ValueError
        If one of the three is no finite number from 0.

    Example
    -------
    >>> [Ramp(value=2.0, steps=4)(step) for step in (0, 1, 4, 9)]
    [0.0, 0.5, 2.0, 2.0]
    >>> [Ramp(value=0.5, steps=4, start=1.5)(step) for step in (0, 1, 4, 9)]
    [1.5, 1.25, 0.5, 0.5]
    """

    def __init__(self, *, value: float, steps: int = 0, start: float = 0.0) -> None:
        FROM_0.check("a Ramp", value=value, steps=steps, start=start)
        self.value, self.steps, self.start = value, steps, start

    def __call__(self, step: int) -> float:
        """Return the weight at an optimizer step."""
        if step >= self.steps:
            return self.value
        return self.start + (self.value - self.start) * step / self.steps


class WarmupDecay:
    """Linear warm-up, then a half cosine down to 0; the paper states no schedule.

    Arguments
    ---------
    warmup_steps : int
        Optimizer steps until the full rate.
    total_steps : int
        Optimizer steps until 0.

    Raises
    ------
    ValueError
        If one of the two is no finite number from 0.

    Example
    -------
    >>> schedule = WarmupDecay(warmup_steps=2, total_steps=6)
    >>> [round(schedule(step, epochs=0.0), 3) for step in range(7)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """

    def __init__(self, *, warmup_steps: int, total_steps: int) -> None:
        FROM_0.check("WarmupDecay", warmup_steps=warmup_steps, total_steps=total_steps)
        self.warmup_steps, self.total_steps = warmup_steps, total_steps

    def __call__(self, step: int, epochs: float) -> float:
        """Return the factor of the learning rate."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        rest = max(1, self.total_steps - self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / rest)
        return 0.5 * (1 + math.cos(math.pi * progress))


class WarmupHoldAnneal:
    """Linear warm-up, hold, annealing by √2 an epoch: the paper's fine-tuning.

    Arguments
    ---------
    warmup_epochs, hold_epochs : float
        Lengths of the first two phases.
    decay : float
        Divisor of the rate for each epoch after warm-up and hold.

    Raises
    ------
    ValueError
        If an epoch is no finite number from 0, or the divisor none above 0.

    Example
    -------
    >>> schedule = WarmupHoldAnneal(warmup_epochs=2, hold_epochs=1)
    >>> [round(schedule(0, epochs), 3) for epochs in (0.5, 2.0, 3.0, 5.0)]
    [0.25, 1.0, 1.0, 0.5]
    """

    def __init__(
        self,
        *,
        warmup_epochs: float = 10,
        hold_epochs: float = 10,
        decay: float = 2**0.5,
    ) -> None:
        epochs = dict(warmup_epochs=warmup_epochs, hold_epochs=hold_epochs)
        FROM_0.check("WarmupHoldAnneal", **epochs)
        ABOVE_0.check("WarmupHoldAnneal", decay=decay)
        self.warmup_epochs, self.hold_epochs = warmup_epochs, hold_epochs
        self.decay = decay

    def __call__(self, step: int, epochs: float) -> float:
        """Return the factor of the learning rate after so many epochs."""
        if epochs < self.warmup_epochs:
            return epochs / self.warmup_epochs
        annealed = max(0.0, epochs - self.warmup_epochs - self.hold_epochs)
        return self.decay**-annealed


class SpeechBrainSchedule:
    """One of SpeechBrain's schedulers of steps, as a factor of the learning rate.

    SpeechBrain's schedulers write one rate into every parameter group. Here each group
    keeps its own rate, and the scheduler's rate over ``lr`` is their common factor.
    Some change the rate they find, so it is kept: where a checkpoint has it, too.

    Arguments
    ---------
    scheduler : callable
        Takes ``(opt)`` or ``(opt, num_updates)``.
    lr : float
        Rate of the optimizer, which the scheduler should have got, too.
    group : dict, optional
        Parameter group of the optimizer, in which the scheduler's rate is kept as
        ``schedule_lr``.

    Example
    -------
    >>> from speechbrain.nnet.schedulers import NoamScheduler
    >>> schedule = SpeechBrainSchedule(NoamScheduler(0.1, 4), lr=0.1)
    >>> [round(schedule(step, epochs=0.0), 3) for step in range(6)]
    [0.25, 0.5, 0.75, 1.0, 0.894, 0.816]
    """

    def __init__(
        self,
        scheduler: Callable[..., Any],
        lr: float,
        group: dict[str, Any] | None = None,
    ) -> None:
        self.scheduler, self.lr = scheduler, lr
        self.group = {} if group is None else group
        self.counts = "num_updates" in inspect.signature(scheduler).parameters

    def __call__(self, step: int, epochs: float) -> float:
        """Return the factor; a scheduler that counts its calls counts this one."""
        seen = {"lr": self.group.get("schedule_lr", self.lr)}
        optimizer = SimpleNamespace(param_groups=[seen])
        self.scheduler(optimizer, *([step + 1] if self.counts else []))
        self.group["schedule_lr"] = seen["lr"]
        return seen["lr"] / self.lr


def is_speechbrains(schedule: Callable[..., Any]) -> bool:
    """Say whether a schedule is called with the optimizer, as SpeechBrain's are.

    Raises
    ------
    ValueError
        If it is called with anything but ``(opt)``, ``(opt, num_updates)`` or
        ``(step, epochs)``.

    Example
    -------
    >>> from speechbrain.nnet.schedulers import NewBobScheduler, NoamScheduler
    >>> is_speechbrains(NoamScheduler(0.1, 4))
    True
    >>> is_speechbrains(WarmupDecay(warmup_steps=1, total_steps=2))
    False
    >>> is_speechbrains(NewBobScheduler(0.1))
    Traceback (most recent call last):
    ValueError: lr_schedule: NewBobScheduler takes (metric_value): take a schedule of \
steps, called with (opt), (opt, num_updates) or (step, epochs)
    """
    parameters = inspect.signature(schedule).parameters
    names = [*parameters]
    if names in (["opt"], ["opt", "num_updates"]):
        return True
    try:
        inspect.signature(schedule).bind(0, 0.0)
    except TypeError as error:
        raise ValueError(
            f"lr_schedule: {type(schedule).__name__} takes ({', '.join(names)}): take "
            f"a schedule of steps, called with (opt), (opt, num_updates) or (step, "
            f"epochs)"
        ) from error
    return False
