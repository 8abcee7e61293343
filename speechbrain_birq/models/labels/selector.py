"""Distances to a soft choice among the codes: the Gumbel-softmax label selector."""

import torch


class GumbelSoftmaxSelector(torch.nn.Module):
    """y = softmax(−(d + v) / τ) over the codes, v = −ln(−ln q), q ~ U(0, 1).

    Arguments
    ---------
    temperature : float
        τ, in units of squared distance.
    noise : bool
        Whether v is drawn; without it y = softmax(−d / τ).
    gradient : bool
        Whether a gradient flows through the labels (the paper: yes). Without it the
        layers that make the labels get none from them.

    Raises
    ------
    ValueError
        If the temperature is not positive.

    Example
    -------
    >>> selector = GumbelSoftmaxSelector(temperature=0.5, noise=False)
    >>> selector(torch.tensor([0.0, 1.0]))
    tensor([0.8808, 0.1192])
    """

    def __init__(self, *, temperature=0.5, noise=True, gradient=True):
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.temperature, self.noise, self.gradient = temperature, noise, gradient

    def forward(self, distances: torch.Tensor, generator=None) -> torch.Tensor:
        """Soft labels.

        Arguments
        ---------
        distances : torch.Tensor
            (..., N)
        generator : torch.Generator, optional
            Of the noise, on the distances' device.

        Returns
        -------
        torch.Tensor
            (..., N) float32, sums to 1.
        """
        scores = distances.float()
        if self.noise:
            scores = scores + gumbel_noise(scores, generator)
        return torch.softmax(scores / -self.temperature, dim=-1)


def gumbel_noise(like: torch.Tensor, generator=None) -> torch.Tensor:
    """−ln(−ln q) for q ~ U(0, 1), shaped like ``like``.

    Drawn as −ln(Exponential(1)): a uniform draw returns 0 now and then, and
    −ln(−ln 0) is not a finite number.
    """
    # In one order, whatever the layout of `like`: the same seed gives the same noise.
    exponential = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    # The smallest normal number keeps the logarithm finite should 0 ever be drawn.
    tiny = torch.finfo(like.dtype).tiny
    exponential.exponential_(generator=generator).clamp_min_(tiny)
    return exponential.log_().neg_()  # in place: (M, G, N) numbers are many
