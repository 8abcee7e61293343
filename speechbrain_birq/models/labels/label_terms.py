"""Terms that are added to F so that labels with a live gradient stay informative.

F alone has a minimum where every label is one constant code. A term pays for what the
labels should be. Its gradient always reaches layers 1..k, whatever ``label_gradient``
says, which only decides about F's own: so the gradient is switched term by term.
"""

import torch

from speechbrain_birq.config.keys import FROM_0, PART_OF_1
from speechbrain_birq.distributed import total

TINY = torch.finfo(torch.float32).tiny


class LabelTerm(torch.nn.Module):
    """Base of the terms: a weight, and a cost of the labels.

    Arguments
    ---------
    weight : float
        Factor of the cost, within w₁ (F + terms).

    Raises
    ------
    ValueError
        If the weight is no finite number from 0.
    """

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        FROM_0.check(type(self).__name__, weight=weight)
        self.weight = weight

    def forward(self, labels: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """Return the weighted cost, summed over the masked frames.

        Arguments
        ---------
        labels : torch.Tensor
            (M, G, N) soft labels, with their gradient.
        frames : torch.Tensor
            (M, D) clean stacked frames, those of the labels.

        Returns
        -------
        torch.Tensor
            (G,) float32
        """
        return self.weight * self.cost(labels, frames)

    def cost(self, labels: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """Return the cost without its weight: (G,)."""
        raise NotImplementedError


class UsageEntropy(LabelTerm):
    """Pays for codes that are used alike: −M H(ȳ), ȳ the mean label.

    With weight 1 and F it bounds minus the mutual information of label and context
    (McAllester, arXiv 1802.07572). ȳ is a running mean over the batches of all ranks,
    because M frames alone bias H by about N / 2M nats. The cost of a batch is
    Σ_t y_tᵀ log ȳ with ȳ detached, whose gradient is that of −M H(ȳ) where ȳ is the
    mean of the batch.

    Arguments
    ---------
    weight : float
        β
    num_codebooks, num_codes : int
        G, N
    momentum : float
        Weight of a new batch in ȳ; 1: the batch alone. The first 1 / momentum batches
        have equal weights.

    Raises
    ------
    ValueError
        If the weight is no finite number from 0, or the momentum no number in
        (0, 1].

    Example
    -------
    >>> term = UsageEntropy(weight=1.0, num_codebooks=1, num_codes=4)
    >>> term(torch.full((2, 1, 4), 0.25), torch.zeros(2, 3))
    tensor([-2.7726])
    """

    mean: torch.Tensor
    num_batches: torch.Tensor

    def __init__(
        self,
        *,
        weight: float,
        num_codebooks: int,
        num_codes: int,
        momentum: float = 0.1,
    ) -> None:
        super().__init__(weight=weight)
        PART_OF_1.check("UsageEntropy", momentum=momentum)
        self.momentum, self.shape = momentum, (num_codebooks, num_codes)
        uniform = torch.full((num_codebooks, num_codes), 1 / num_codes)
        self.register_buffer("mean", uniform)
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.long))

    def cost(self, labels: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """Return Σ_t y_tᵀ log ȳ: (G,)."""
        if self.training:
            self._update(labels.detach())
        return (labels.sum(0) * self.mean.clamp_min(TINY).log()).sum(-1)

    @torch.no_grad()
    def _update(self, labels):
        frames = total(torch.full((), float(len(labels)), device=labels.device))
        mean = total(labels.sum(0)) / frames.clamp_min(1)
        # The step of a batch that is not finite is skipped; skip it here, too.
        used = torch.isfinite(mean).all() & (frames > 0)
        self.num_batches += used
        weight = (1 / self.num_batches.clamp_min(1)).clamp_min(self.momentum)
        self.mean.lerp_(torch.where(used, mean, self.mean), weight)


class Reconstruction(LabelTerm):
    """Pays for labels that say something of the sound: Σ_t ‖D y_t − x_t‖² / D.

    D is one trained linear layer from the labels of all codebooks to the clean stacked
    frame x. The squared error is a mean over the features, so that a weight means the
    same for any number of mel channels.

    Arguments
    ---------
    weight : float
        λ
    num_codebooks, num_codes : int
        G, N
    output_dim : int
        D, features of a stacked frame.

    Example
    -------
    >>> sizes = dict(num_codebooks=2, num_codes=4, output_dim=3)
    >>> term = Reconstruction(weight=5.0, **sizes)
    >>> term(torch.full((2, 2, 4), 0.25), torch.zeros(2, 3)).shape
    torch.Size([2])
    """

    def __init__(
        self, *, weight: float, num_codebooks: int, num_codes: int, output_dim: int
    ) -> None:
        super().__init__(weight=weight)
        self.shape = (num_codebooks, num_codes)
        self.decoder = torch.nn.Linear(num_codebooks * num_codes, output_dim)

    def check(self, num_features: int) -> None:
        """Refuse a front end whose frames have another number of features.

        Raises
        ------
        ValueError
            Naming both numbers.
        """
        if self.decoder.out_features != num_features:
            raise ValueError(
                f"Reconstruction has an output_dim of {self.decoder.out_features}, the "
                f"frames of the front end have {num_features} features"
            )

    def cost(self, labels: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """Return the squared error of the frames, for each codebook the same: (G,)."""
        error = self.decoder(labels.flatten(1)).float() - frames.float()
        # Codebooks enter the loss with their mean, so each one gets the whole cost.
        return error.square().mean(-1).sum().expand(labels.shape[1])
