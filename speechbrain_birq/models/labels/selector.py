"""The label selector: from distances to soft labels."""

import torch

from speechbrain_birq.config.keys import ABOVE_0


class GumbelSoftmaxSelector(torch.nn.Module):
    """Selects y = softmax(−(d + v) / τ) over the codes, v = −ln(−ln q), q ~ U(0, 1).

    Arguments
    ---------
    temperature : float
        τ, in units of squared distance.
    noise : bool
        Whether v is drawn; without it y = softmax(−d / τ).
    gradient : bool
        Whether the gradient flows through the labels into layers 1..k (the paper: yes).

    Raises
    ------
    ValueError
        If the temperature is no finite number above 0.

    Example
    -------
    >>> selector = GumbelSoftmaxSelector(temperature=0.5, noise=False)
    >>> selector(torch.tensor([0.0, 1.0]))
    tensor([0.8808, 0.1192])
    """

    def __init__(
        self,
        *,
        temperature: float = 0.5,
        noise: bool = True,
        gradient: bool = True,
    ) -> None:
        super().__init__()
        ABOVE_0.check("GumbelSoftmaxSelector", temperature=temperature)
        self.temperature, self.noise, self.gradient = temperature, noise, gradient

    def forward(
        self, distances: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Compute soft labels.

        Arguments
        ---------
        distances : torch.Tensor
            (..., N)
        generator : torch.Generator, optional
            Draws the noise, on the distances' device.

        Returns
        -------
        torch.Tensor
            (..., N) float32, with sum 1.
        """
        scores = distances.float()
        if self.noise:
            scores = scores + gumbel_noise(scores, generator)
        return torch.softmax(scores / -self.temperature, dim=-1)


def gumbel_noise(
    like: torch.Tensor, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Draw −ln(−ln q) for q ~ U(0, 1), in the shape of ``like``.

    It is drawn as −ln(Exponential(1)), because a uniform draw can be 0, and −ln(−ln 0)
    is not finite.
    """
    # Not `empty_like`: the same seed gives the same noise whatever the layout.
    exponential = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    # The smallest normal number keeps the logarithm finite should 0 ever be drawn.
    tiny = torch.finfo(like.dtype).tiny
    exponential.exponential_(generator=generator).clamp_min_(tiny)
    return exponential.log_().neg_()  # in place, because (M, G, N) is large
