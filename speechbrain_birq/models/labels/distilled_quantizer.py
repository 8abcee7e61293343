"""Codes of the input that are as similar to each other as the encoder's outputs are."""

import torch
from torch.nn.functional import normalize

from speechbrain_birq.models.labels.fitted_quantizer import FittedQuantizer
from speechbrain_birq.models.labels.k_means import nearest
from speechbrain_birq.models.labels.quantizer import Codebook


class DistilledQuantizer(FittedQuantizer):
    """Fitted quantizer, some of whose codebooks follow the encoder (arXiv 2606.30671).

    The first fit is k-means, because the encoder has learnt nothing yet. Each later one
    moves the codes of the last ``distilled`` codebooks, by Adam on
    ``distillation_loss``, and leaves the others alone. Labels stay those of the input,
    so no label pass is run in training.

    The original compares frames of one utterance in every step; this one compares
    frames of all utterances, at each fit.

    Arguments
    ---------
    input_dim, codebook, seed, projection, rounds
        As for ``FittedQuantizer``.
    distilled : int
        Number of codebooks that follow the encoder.
    closeness : float
        Weight of the distance between frames and their codes.
    steps : int
        Steps of Adam in a fit.
    lr : float
        Their rate.
    compared : int
        Frames that are compared with each other in a step.

    Raises
    ------
    ValueError
        If there are fewer codebooks than ``distilled``, or ``closeness`` is negative.

    Example
    -------
    >>> codebook = Codebook(num_codes=4, code_dim=2, l2_normalize=True)
    >>> quantizer = DistilledQuantizer(input_dim=3, codebook=codebook, seed=0, steps=9)
    >>> frames, states = torch.randn(20, 3), torch.randn(20, 5)
    >>> quantizer.fit(frames)
    >>> before = quantizer.codebook.codes.clone()
    >>> quantizer.fit(frames, states)
    >>> torch.equal(quantizer.codebook.codes, before)
    False
    """

    follows_encoder = True

    def __init__(
        self,
        *,
        input_dim: int,
        codebook: Codebook,
        seed: int,
        projection: str = "pca",
        rounds: int = 15,
        distilled: int = 1,
        closeness: float = 1.0,
        steps: int = 300,
        lr: float = 0.01,
        compared: int = 512,
    ) -> None:
        if not 1 <= distilled <= codebook.shape[0]:
            raise ValueError(
                f"distilled is {distilled}, there are {codebook.shape[0]} codebooks"
            )
        if closeness < 0:
            raise ValueError(f"closeness is {closeness}, it must not be negative")
        super().__init__(
            input_dim=input_dim,
            codebook=codebook,
            seed=seed,
            projection=projection,
            codes="centroids",
            rounds=rounds,
        )
        self.distilled, self.closeness = distilled, closeness
        self.steps, self.lr, self.compared = steps, lr, compared

    def fit(self, frames: torch.Tensor, states: torch.Tensor | None = None) -> None:
        """Fit by k-means the first time, by distillation from then on.

        Arguments
        ---------
        frames : torch.Tensor
            (M, D)
        states : torch.Tensor, optional
            (M, H), outputs of an encoder layer at these frames. The first fit does not
            need them.

        Raises
        ------
        ValueError
            If there are fewer frames than codes, or a later fit has no states.
        """
        if not self.times_fitted:
            super().fit(frames)
            return
        if states is None:
            raise ValueError("codes are distilled from an encoder's outputs: pass them")
        points = self.points(frames)
        generator = torch.Generator().manual_seed(self.seed + self.times_fitted)
        for group in range(self.codebook.shape[0])[-self.distilled :]:
            codes = self.codebook.codes[group]
            codes.copy_(self._distil(codes, points[:, group], states, generator))
        self.num_fits += 1
        self.times_fitted += 1

    def _distil(self, codes, points, states, generator):
        codes = codes.clone().requires_grad_()
        optimizer = torch.optim.Adam([codes], lr=self.lr)
        for _ in range(self.steps):
            drawn = torch.randperm(len(points), generator=generator)[: self.compared]
            drawn = drawn.to(points.device)
            loss = distillation_loss(
                self._scaled(codes), points[drawn], states[drawn], self.closeness
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return self._scaled(codes).detach()

    def _scaled(self, codes):
        return normalize(codes, dim=-1) if self.codebook.l2_normalize else codes


def distillation_loss(
    codes: torch.Tensor, points: torch.Tensor, states: torch.Tensor, closeness: float
) -> torch.Tensor:
    """Compare the similarities of codes with those of an encoder's outputs.

    With c_i the code that is nearest to point p_i, and h_i the output at frame i:
    mean_ij |cos(c_i, c_j) − cos(h_i, h_j)| + closeness · mean_i ‖c_i − p_i‖

    Arguments
    ---------
    codes : torch.Tensor
        (N, C)
    points : torch.Tensor
        (M, C), frames in the space of the codes.
    states : torch.Tensor
        (M, H)
    closeness : float
        Weight of the distance.

    Returns
    -------
    torch.Tensor
        Scalar; its gradient reaches the codes.

    Example
    -------
    >>> codes = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> states = torch.tensor([[2.0], [-3.0]])
    >>> distillation_loss(codes, codes, states, closeness=1.0)  # 0 instead of -1, twice
    tensor(0.5000)
    """
    chosen = codes[nearest(points, codes.detach())]
    difference = _similarities(chosen) - _similarities(states.detach())
    distance = torch.linalg.vector_norm(chosen - points, dim=-1)
    return difference.abs().mean() + closeness * distance.mean()


def _similarities(vectors):
    directions = normalize(vectors, dim=-1)
    return directions @ directions.T
