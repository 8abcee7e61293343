"""How layer k's output is normalized before its projection (z^(k) of the paper)."""

from collections.abc import Callable

import torch
from torch.nn.functional import avg_pool1d, layer_norm

from speechbrain_birq.distributed import unchanged


class LabelNorm(torch.nn.Module):
    """Normalizes layer k's output, without trainable parameters.

    The paper does not say how. ``layer`` normalizes every frame over its channels.
    ``channel`` normalizes every channel over the valid frames of the batch, which is
    the batch of all ranks; running statistics are buffers, saved in the checkpoint and
    used in evaluation. ``utterance`` normalizes every channel over the valid frames of
    its own utterance, in training and in evaluation, which takes away what is constant
    in it: speaker and channel. ``high_pass`` subtracts the mean over the ``SPAN`` valid
    frames around each one before that, which takes away what is slow. With ``layer``, channels that are always large decide
    the label of every frame: in small trials the labels collapsed to one code within
    50 steps.

    Arguments
    ---------
    kind : str
        ``layer``, ``channel``, ``utterance`` or ``high_pass``.
    dim : int
        H
    momentum : float
        Weight of a new batch in the running statistics. The first 1 / momentum batches
        have equal weights.

    Raises
    ------
    ValueError
        If ``kind`` is none of the four, or the momentum not in (0, 1].

    Example
    -------
    >>> z, valid = torch.randn(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)
    >>> LabelNorm(kind="channel", dim=4)(z, valid).mean((0, 1)).abs().max() < 1e-6
    tensor(True)
    """

    EPS = 1e-5
    SPAN = 25  # frames: 1 s at 25 Hz
    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches: torch.Tensor

    def __init__(self, *, kind: str, dim: int, momentum: float = 0.01) -> None:
        super().__init__()
        if kind not in ("layer", "channel", "utterance", "high_pass"):
            raise ValueError(
                "label_norm must be 'layer', 'channel', 'utterance' or 'high_pass', "
                f"got {kind!r}"
            )
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must be in (0, 1], got {momentum}")
        self.kind, self.input_dim, self.momentum = kind, dim, momentum
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.long))

    @property
    def estimated(self) -> bool:
        """Whether evaluation uses statistics that training has estimated."""
        return self.kind == "channel"

    def forward(
        self,
        states: torch.Tensor,
        valid: torch.Tensor,
        total: Callable[[torch.Tensor], torch.Tensor] = unchanged,
    ) -> torch.Tensor:
        """Normalize.

        Arguments
        ---------
        states : torch.Tensor
            (B, T, H)
        valid : torch.Tensor
            (B, T) bool, frames that enter the statistics.
        total : callable
            Sums a tensor over all ranks, with its gradient (``distributed.total``).

        Returns
        -------
        torch.Tensor
            (B, T, H) float32
        """
        states = states.float()
        if self.kind == "layer":
            return layer_norm(states, states.shape[-1:], eps=self.EPS)
        valid = valid.unsqueeze(-1)
        if self.kind == "high_pass":
            states = states - _around(states, valid, self.SPAN)
        if self.kind in ("utterance", "high_pass"):
            mean, var = _over_time(states, valid)
        else:
            mean, var = self._statistics(states, valid, total)
        return (states - mean) * torch.rsqrt(var + self.EPS)

    def _statistics(self, states, valid, total):
        if not self.training:
            return self.running_mean, self.running_var
        count = total(valid.sum())
        frames = count.clamp_min(1)  # it may be that no rank has any
        mean = total((states * valid).sum((0, 1))) / frames
        var = total(((states - mean) * valid).square().sum((0, 1))) / frames
        self._update(mean.detach(), var.detach(), count > 0)
        return mean, var

    @torch.no_grad()
    def _update(self, mean, var, any_frames):
        # The step of a batch that is not finite is skipped; skip it here, too.
        finite = torch.isfinite(mean).all() & torch.isfinite(var).all() & any_frames
        self.num_batches += finite
        weight = (1 / self.num_batches.clamp_min(1)).clamp_min(self.momentum)
        self.running_mean.lerp_(torch.where(finite, mean, self.running_mean), weight)
        self.running_var.lerp_(torch.where(finite, var, self.running_var), weight)


def _around(states, valid, span):
    """(B, T, H) mean of the valid frames in the span around each frame."""
    both = torch.cat((states * valid, valid.float()), -1).transpose(1, 2)
    means = avg_pool1d(both, span, stride=1, padding=span // 2).transpose(1, 2)
    return means[..., :-1] / means[..., -1:].clamp_min(1 / (2 * span))


def _over_time(states, valid):
    """(B, 1, H) mean and variance of each utterance."""
    frames = valid.sum(1, keepdim=True).clamp_min(1)
    mean = (states * valid).sum(1, keepdim=True) / frames
    deviations = (states - mean) * valid
    return mean, deviations.square().sum(1, keepdim=True) / frames
