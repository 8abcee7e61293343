"""Label selectors: from distances to soft labels, as they are or balanced."""

import math

import torch

from speechbrain_birq.distributed import total

TINY = torch.finfo(torch.float32).tiny


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
    hard : bool
        Whether a label is its most probable code alone, with the gradient of y
        (straight-through).

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
        hard: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(
                f"temperature must be a finite number above 0, got {temperature}"
            )
        self.temperature, self.noise, self.gradient = temperature, noise, gradient
        self.hard = hard

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
        labels = torch.softmax(self.logits(distances, generator), dim=-1)
        if not self.hard:
            return labels
        chosen = torch.zeros_like(labels).scatter_(-1, labels.argmax(-1, True), 1.0)
        return chosen + (labels - labels.detach())

    def logits(
        self, distances: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Return the labels' logits: (..., N) float32; arguments as for ``forward``."""
        scores = distances.float()
        if self.noise:
            scores = scores + gumbel_noise(scores, generator)
        return scores / -self.temperature

    @torch.no_grad()
    def codes(self, distances: torch.Tensor) -> torch.Tensor:
        """Return the most probable codes without noise: (..., N) -> (...) int64."""
        return distances.argmin(-1)


class BalancedSelector(GumbelSoftmaxSelector):
    """Selector whose labels use all codes alike: Sinkhorn over running means.

    y⁰ = softmax(−(d + v) / τ), and each round divides by the usage of the codes:
    yʳ ∝ yʳ⁻¹ / uʳ, where uʳ is the running mean of yʳ⁻¹ over the batches of all ranks.
    With momentum 1 these are Sinkhorn's rounds over the frames of the batch; one round
    is logit adjustment, −log u. The usage has no gradient. In evaluation it stays as it
    is, so the label of a frame does not depend on its batch. A batch of a single masked
    frame leaves it alone, too, because alone every frame is spread over all codes.

    Arguments
    ---------
    num_codebooks, num_codes : int
        G, N
    rounds : int
        R; with 0 the labels are not balanced.
    momentum : float
        Weight of a new batch in uʳ; 1: the batch alone, which needs many more masked
        frames than codes. The first 1 / momentum batches have equal weights. If
        gradients are accumulated, each micro-batch counts as a batch.
    temperature, noise, gradient, hard : float, bool, bool, bool
        As for ``GumbelSoftmaxSelector``.

    Raises
    ------
    ValueError
        If the rounds are negative, or the momentum is not in (0, 1].

    Example
    -------
    >>> sizes = dict(num_codebooks=1, num_codes=2)
    >>> selector = BalancedSelector(**sizes, temperature=1.0, noise=False, momentum=1.0)
    >>> selector(torch.tensor([[[0.0, 9.0]], [[0.0, 7.0]]])).round(decimals=2)
    tensor([[[0.7300, 0.2700]],
    <BLANKLINE>
            [[0.2700, 0.7300]]])
    """

    usage: torch.Tensor
    num_batches: torch.Tensor

    def __init__(
        self,
        *,
        num_codebooks: int,
        num_codes: int,
        rounds: int = 3,
        momentum: float = 0.1,
        temperature: float = 0.5,
        noise: bool = True,
        gradient: bool = True,
        hard: bool = False,
    ) -> None:
        super().__init__(
            temperature=temperature, noise=noise, gradient=gradient, hard=hard
        )
        if rounds < 0:
            raise ValueError(f"rounds must not be negative, got {rounds}")
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must be in (0, 1], got {momentum}")
        self.momentum = momentum
        self.shape = (num_codebooks, num_codes)
        uniform = torch.full((rounds, num_codebooks, num_codes), 1 / num_codes)
        self.register_buffer("usage", uniform)
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.long))

    def logits(
        self, distances: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Return the balanced labels' logits: (M, G, N) -> (M, G, N) float32."""
        logits = super().logits(distances, generator)
        if self.training:
            self._update(logits.detach())
        return logits - self._log_usage().sum(0)

    @torch.no_grad()
    def codes(self, distances: torch.Tensor) -> torch.Tensor:
        """Return the most probable codes, without noise: (..., G, N) -> (..., G)."""
        logits = distances.float() / -self.temperature
        return (logits - self._log_usage().sum(0)).argmax(-1)

    def _log_usage(self):
        return self.usage.clamp_min(TINY).log()

    @torch.no_grad()
    def _update(self, logits):
        finite = logits.isfinite().flatten(1).all(1)
        counts = torch.stack((torch.ones_like(finite), finite)).float().sum(1)
        frames, unspoilt = total(counts)
        # The step of a batch that is not finite is skipped; skip it here, too.
        used = (frames > 1) & (frames == unspoilt)
        self.num_batches += used
        weight = (1 / self.num_batches.clamp_min(1)).clamp_min(self.momentum)
        for usage in self.usage:
            mean = total(logits.softmax(-1).sum(0)) / frames.clamp_min(1)
            usage.lerp_(torch.where(used, mean, usage), weight)
            logits = logits - usage.clamp_min(TINY).log()


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
