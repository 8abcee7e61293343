"""Skip a step whose gradient is not finite, without synchronizing with the device."""

import math
from typing import NamedTuple

import torch

from speechbrain_birq.brains.muon import Muon
from speechbrain_birq.distributed import gathered
from speechbrain_birq.errors import BadInput


class SkippedStep(NamedTuple):
    """Step that was skipped, and the utterances of all ranks in it."""

    step: int
    ids: list[str]


class SkippedSteps:
    """Remembers on the device which steps were skipped, until it is read.

    The reduced gradient is the same on every rank, so all ranks skip the same steps.

    Example
    -------
    >>> skipped = SkippedSteps()
    >>> for step, norm in enumerate((1.0, torch.inf, 2.0)):
    ...     skipped.add(step, [f"utterance-{step}"], torch.tensor(norm).isfinite())
    >>> skipped.read()
    [SkippedStep(step=1, ids=['utterance-1'])]
    >>> skipped.read()
    []
    """

    def __init__(self) -> None:
        self.total = 0  # skipped in the whole run, as far as read
        self._steps: list[SkippedStep] = []
        self._finite: list[torch.Tensor] = []

    def add(self, step: int, ids: list[str], finite: torch.Tensor) -> None:
        """Add a step.

        Arguments
        ---------
        step : int
        ids : list
            Utterances of this rank.
        finite : torch.Tensor
            () bool on the device: whether the gradient is finite.
        """
        self._steps.append(SkippedStep(step, ids))
        self._finite.append(finite)

    def read(self) -> list[SkippedStep]:
        """Return those skipped since the last call, in one synchronization.

        All ranks call it together.
        """
        if not self._steps:
            return []
        finite = torch.stack(self._finite).tolist()
        skipped = [
            SkippedStep(step, [name for names in gathered(ids) for name in names])
            for (step, ids), is_finite in zip(self._steps, finite, strict=True)
            if not is_finite
        ]
        self._steps, self._finite = [], []
        self.total += len(skipped)
        return skipped

    def refuse_all(self, steps: int) -> None:
        """Refuse a run whose weights never moved, at its end.

        Arguments
        ---------
        steps : int
            Optimizer steps of the run.

        Raises
        ------
        BadInput
            If all of them were skipped.
        """
        if 0 < steps <= self.total:
            raise BadInput(
                f"all {steps} steps were skipped, because no gradient was finite, and "
                f"nothing was learned: look at the recordings that log.txt names, then "
                f"give another --output_folder"
            )


def step_if_finite(optimizer: torch.optim.Optimizer, finite: torch.Tensor) -> None:
    """Step, or leave weights, moments and step counts as they are.

    Fused Adam, AdamW and Muon decide on the device. For any other optimizer the host
    reads ``finite``, which synchronizes with the device in every step.

    Arguments
    ---------
    optimizer : torch.optim.Optimizer
    finite : torch.Tensor
        () bool on the device.

    Example
    -------
    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> weight.grad = torch.tensor([1.0, torch.nan])
    >>> optimizer = torch.optim.Adam([weight], fused=True)
    >>> step_if_finite(optimizer, weight.grad.norm().isfinite())
    >>> weight.data, optimizer.state[weight]["step"]
    (tensor([1., 1.]), tensor(0.))
    """
    if not skips_on_device(optimizer):
        if finite:
            optimizer.step()
        return
    # GradScaler's own protocol: the kernels change nothing where this is 1.
    optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
    optimizer.step()
    del optimizer.found_inf  # type: ignore[attr-defined]


def skips_on_device(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether an optimizer obeys ``found_inf``.

    Fused SGD does, too, but torch 2.11 leaves its momentum uninitialized if the first
    step is skipped. A recovered state may switch ``fused`` off again.
    """
    fused = all(group.get("fused") for group in optimizer.param_groups)
    return fused and isinstance(optimizer, (torch.optim.Adam, Muon))


def refuse_divergence(model: torch.nn.Module, loss: float, step: int) -> None:
    """End a run that has diverged, before a checkpoint of it is saved.

    Arguments
    ---------
    model : torch.nn.Module
    loss : float
        Validation loss.
    step : int
        Optimizer steps so far.

    Raises
    ------
    BadInput
        If the loss or a weight is not finite.
    """
    broken = [
        name
        for name, weight in model.named_parameters()
        if not torch.isfinite(weight).all()
    ]
    if broken or not math.isfinite(loss):
        what = f"the weights {broken[0]}" if broken else f"the loss {loss}"
        raise BadInput(
            f"validation after step {step}: {what} of the model is not finite: lower "
            f"the learning rate; the checkpoints before are kept"
        )
