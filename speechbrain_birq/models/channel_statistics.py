"""Mean and variance of each mel channel over training speech, estimated once."""

from collections.abc import Iterable

import torch

# Square decibels; only digital silence has a smaller variance.
FLOOR = 1e-5


class ChannelStatistics(torch.nn.Module):
    """Frozen mean and variance of each channel; buffers, so a checkpoint has them.

    Arguments
    ---------
    num_channels : int
        Number of mel channels.

    Example
    -------
    >>> statistics = ChannelStatistics(num_channels=1)
    >>> statistics.estimate([torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0]])])
    >>> statistics.mean, statistics.num_frames
    (tensor([3.]), tensor(3))
    >>> statistics(torch.tensor([[[3.0]]]))
    tensor([[[0.]]])
    """

    mean: torch.Tensor
    variance: torch.Tensor
    num_frames: torch.Tensor

    def __init__(self, *, num_channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_channels))
        self.register_buffer("variance", torch.ones(num_channels))
        self.register_buffer("num_frames", torch.zeros((), dtype=torch.long))
        self._estimated = False

    @property
    def estimated(self) -> bool:
        """Whether statistics have been estimated or loaded."""
        # Remembered, because reading a number synchronizes with the GPU.
        self._estimated = self._estimated or self.num_frames.item() > 0
        return self._estimated

    @torch.no_grad()
    def estimate(self, frames: Iterable[torch.Tensor]) -> None:
        """Set the statistics to those of frames, summed up in float64.

        Arguments
        ---------
        frames : iterable
            Tensors (T, channels), read once.

        Raises
        ------
        ValueError
            If there is no frame.
        """
        count = 0
        total = torch.zeros_like(self.mean, dtype=torch.float64)
        squares = torch.zeros_like(total)
        for part in frames:
            part = part.double()
            count += len(part)
            total = total + part.sum(0)
            squares = squares + part.square().sum(0)
        if not count:
            raise ValueError("no frame to estimate mean and variance of")
        mean = total / count
        self.mean.copy_(mean)
        self.variance.copy_((squares / count - mean.square()).clamp_min(0))
        self.num_frames.fill_(count)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Subtract the mean, divide by the standard deviation.

        Arguments
        ---------
        frames : torch.Tensor
            (..., channels)

        Raises
        ------
        RuntimeError
            If no statistics have been estimated or loaded.
        """
        if not self.estimated:
            raise RuntimeError(
                "normalize: global has no statistics yet: estimate them "
                "(FrontEnd.estimate) or load a checkpoint that has them"
            )
        return (frames - self.mean) * torch.rsqrt(self.variance + FLOOR)
