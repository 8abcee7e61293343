"""Mean and variance of each mel channel over training speech, estimated once."""

import torch

# Square decibels: only digital silence has less variance than that.
FLOOR = 1e-5


class ChannelStatistics(torch.nn.Module):
    """Frozen mean and variance of each channel; buffers, so a checkpoint has them.

    Arguments
    ---------
    num_channels : int

    Example
    -------
    >>> statistics = ChannelStatistics(num_channels=1)
    >>> statistics.estimate([torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0]])])
    >>> statistics.mean, statistics.num_frames
    (tensor([3.]), tensor(3))
    >>> statistics(torch.tensor([[[3.0]]]))
    tensor([[[0.]]])
    """

    def __init__(self, *, num_channels):
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_channels))
        self.register_buffer("variance", torch.ones(num_channels))
        self.register_buffer("num_frames", torch.zeros((), dtype=torch.long))
        self._estimated = False

    @property
    def estimated(self) -> bool:
        """Whether there is anything to normalise with."""
        # A device is asked until it says yes, not once a batch.
        self._estimated = self._estimated or self.num_frames.item() > 0
        return self._estimated

    @torch.no_grad()
    def estimate(self, frames) -> None:
        """Set the statistics to those of frames, summed up in float64.

        Arguments
        ---------
        frames : iterable
            Of (T, C) tensors, read once.

        Raises
        ------
        ValueError
            If there is no frame.
        """
        count, total, squares = 0, 0.0, 0.0
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
            (..., C)

        Returns
        -------
        torch.Tensor
            (..., C)

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
