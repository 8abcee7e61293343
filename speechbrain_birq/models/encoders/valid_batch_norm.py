"""Batch normalization of padded utterances: valid frames count, and each batch once."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import NamedTuple

import torch

from speechbrain_birq.distributed import total, unchanged


class Statistics(NamedTuple):
    """How a pass in training takes the statistics of its batch."""

    counted: bool = True  # frames of this rank are among them
    summed: bool = True  # over all ranks, which wait for each other
    followed: bool = True  # by the running statistics


AS_A_RULE = Statistics()

# A context, because no layer between the loop and this one should have to know of it.
_STATISTICS: ContextVar[Statistics] = ContextVar("statistics", default=AS_A_RULE)


class ValidBatchNorm(torch.nn.Module):
    """Batch normalization whose statistics are those of valid frames, of all ranks.

    Names of parameters and buffers are those of ``torch.nn.BatchNorm1d``. It is no
    subclass, because SpeechBrain turns these into SyncBatchNorm, which needs a GPU and
    counts padding.

    Arguments
    ---------
    num_features : int
        Number of channels.
    eps : float
        Added to the variance.
    momentum : float
        Weight of a batch in the running statistics.

    Example
    -------
    >>> norm = ValidBatchNorm(1)
    >>> states = torch.tensor([[[1.0], [3.0], [99.0]]])
    >>> valid = torch.tensor([[True, True, False]])
    >>> norm(states, valid)[0, :2, 0].round(decimals=3).tolist()
    [-1.0, 1.0]
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = torch.nn.Parameter(torch.ones(num_features))
        self.bias = torch.nn.Parameter(torch.zeros(num_features))
        self.running_mean: torch.Tensor
        self.running_var: torch.Tensor
        self.num_batches_tracked: torch.Tensor
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))

    def forward(self, states: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Normalize each channel: (B, T, C) and (B, T) bool -> (B, T, C)."""
        mean, variance = self.running_mean, self.running_var
        if self.training:
            mean, variance = self._statistics(states.to(self.running_mean.dtype), valid)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return ((states - mean) * scale + self.bias).to(states.dtype)

    def _statistics(self, states, valid):
        """Mean and variance of this batch; the running ones follow."""
        how = _STATISTICS.get()
        add_up = total if how.summed else unchanged
        weight = (valid.unsqueeze(-1) & how.counted).to(states.dtype)
        sums = torch.cat([weight.sum()[None], (states * weight).sum((0, 1))])
        count, channels = add_up(sums).split([1, self.num_features])
        mean = channels / count.clamp_min(1)
        # A second pass over the data: a difference of large sums would lose digits.
        squares = ((states - mean).square() * weight).sum((0, 1))
        variance = add_up(squares) / count.clamp_min(1)
        if how.followed:
            self._follow(mean, variance, count)
        return mean, variance

    @torch.no_grad()
    def _follow(self, mean, variance, count):
        # The step of a batch that is not finite is skipped; skip it here, too.
        finite = torch.isfinite(mean).all() & torch.isfinite(variance).all()
        taken = finite & (count > 0).squeeze()  # it may be that no rank has any frame
        unbiased = variance * (count / (count - 1).clamp_min(1))
        mean = torch.where(taken, mean, self.running_mean)
        self.running_mean.lerp_(mean, self.momentum)
        unbiased = torch.where(taken, unbiased, self.running_var)
        self.running_var.lerp_(unbiased, self.momentum)
        self.num_batches_tracked += taken


def has_batch_norm(module: torch.nn.Module) -> bool:
    """Return whether a module, such as a layer, holds a ``ValidBatchNorm``."""
    return any(isinstance(part, ValidBatchNorm) for part in module.modules())


def checkpoint_contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
    """Return contexts of two passes: a ``context_fn`` of ``torch.utils.checkpoint``.

    The second pass computes a layer again for the same batch, which must not enter the
    running statistics twice.
    """
    return nullcontext(), statistics(_STATISTICS.get()._replace(followed=False))


@contextmanager
def statistics(how: Statistics) -> Iterator[None]:
    """Let batch normalization take its statistics so, in this context.

    Example
    -------
    >>> norm = ValidBatchNorm(1)
    >>> with statistics(Statistics(followed=False)):
    ...     _ = norm(torch.ones(1, 2, 1), torch.ones(1, 2, dtype=torch.bool))
    >>> norm.num_batches_tracked
    tensor(0)
    """
    token = _STATISTICS.set(how)
    try:
        yield
    finally:
        _STATISTICS.reset(token)
