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
    straight_through : bool
        Labels are the most probable codes; the gradient is that of the softmax.
    usage_shape : tuple, optional
        (G, N): divide the labels by a running mean of the codes' usage, so that all
        codes come to be used alike.

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

    def __init__(
        self,
        *,
        temperature=0.5,
        noise=True,
        gradient=True,
        straight_through=False,
        usage_shape=None,
    ):
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.temperature, self.noise, self.gradient = temperature, noise, gradient
        self.straight_through = straight_through
        usage = None
        if usage_shape is not None:
            usage = torch.full(tuple(usage_shape), 1 / usage_shape[1])
        self.register_buffer("usage", usage)

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
        scores = scores / -self.temperature
        if self.usage is not None:
            scores = scores - self.usage.log()
        labels = torch.softmax(scores, dim=-1)
        if self.usage is not None and self.training and len(labels):
            self.usage.lerp_(labels.detach().mean(0), 0.01).clamp_min_(1e-6)
        if self.straight_through:
            hard = torch.nn.functional.one_hot(labels.argmax(-1), labels.shape[-1])
            labels = hard + (labels - labels.detach())
        return labels


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
