"""Learning rates and weights as pure functions of the training's progress."""

import math


class Ramp:
    """Weight that grows linearly from 0 to ``value``, or is constant.

    Arguments
    ---------
    value : float
        Weight at the end.
    steps : int
        Optimiser steps of the ramp; 0: constant.

    Example
    -------
    >>> [Ramp(value=2.0, steps=4)(step) for step in (0, 1, 4, 9)]
    [0.0, 0.5, 2.0, 2.0]
    """

    def __init__(self, *, value: float, steps: int = 0) -> None:
        self.value, self.steps = value, steps

    def __call__(self, step: int) -> float:
        """Return the weight at an optimiser step."""
        if step >= self.steps:
            return self.value
        return self.value * step / self.steps


class WarmupDecay:
    """Linear warm-up, then a half cosine down to 0; the paper states no schedule.

    Arguments
    ---------
    warmup_steps : int
        Optimiser steps until the full rate.
    total_steps : int
        Optimiser steps until 0.

    Example
    -------
    >>> schedule = WarmupDecay(warmup_steps=2, total_steps=6)
    >>> [round(schedule(step, epochs=0.0), 3) for step in range(7)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """

    def __init__(self, *, warmup_steps: int, total_steps: int) -> None:
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
        self.warmup_epochs, self.hold_epochs = warmup_epochs, hold_epochs
        self.decay = decay

    def __call__(self, step: int, epochs: float) -> float:
        """Return the factor of the learning rate after so many epochs."""
        if epochs < self.warmup_epochs:
            return epochs / self.warmup_epochs
        annealed = max(0.0, epochs - self.warmup_epochs - self.hold_epochs)
        return self.decay**-annealed
