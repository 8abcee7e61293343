"""Quantizers whose projection and codes are fitted to speech instead of drawn."""

import copy

import torch

from speechbrain_birq.config.keys import COUNT_OR_0
from speechbrain_birq.models.labels.k_means import (
    POINTS_AT_ONCE,
    k_means,
    one_each,
)
from speechbrain_birq.models.labels.quantizer import Codebook, RandomProjectionQuantizer

PROJECTIONS = ("random", "pca", "whitened_pca")
CODES = ("random", "centroids")


class FittedQuantizer(RandomProjectionQuantizer):
    """Quantizer whose projection, codes or both are fitted to a sample of frames.

    Until ``fit`` is called it equals the random quantizer that it derives from. A fit
    writes to the same two buffers, so a checkpoint holds the result.

    ``pca`` projects onto the directions of the sample's largest variance.
    ``whitened_pca`` also divides by the standard deviations, which random codes need
    because they spread alike in all directions. Every codebook sees the same
    directions. ``centroids`` come from k-means among the projected frames (of unit
    length if the codebook's are), started from other frames for each codebook. A later
    fit starts from the frames that each code has collected so far, so codes keep their
    meaning while the encoder below them learns.

    Arguments
    ---------
    input_dim : int
        D
    codebook : Codebook
        If the codes are fitted, the quantizer works on its own copy; quantizers that
        share the original are unaffected.
    seed : int
        Seed of the random projection and of the frames that k-means starts from.
    projection : str
        ``random``, ``pca`` or ``whitened_pca``.
    codes : str
        ``random`` or ``centroids``.
    rounds : int
        Rounds of k-means.

    Raises
    ------
    ValueError
        If a kind is unknown, the rounds are no whole number from 0, or PCA is asked for
        more than D directions.

    Example
    -------
    >>> codebook = Codebook(num_codebooks=1, num_codes=2, code_dim=1)
    >>> kinds = dict(projection="pca", codes="centroids")
    >>> quantizer = FittedQuantizer(input_dim=2, codebook=codebook, seed=0, **kinds)
    >>> frames = torch.tensor([[0.0, -3.0], [0.1, -3.1], [0.0, 3.0], [0.1, 3.1]])
    >>> quantizer.fit(frames)
    >>> first, second, third, fourth = quantizer(frames).flatten().tolist()
    >>> first == second, second == third, third == fourth
    (True, False, True)
    """

    num_fits: torch.Tensor

    def __init__(
        self,
        *,
        input_dim: int,
        codebook: Codebook,
        seed: int,
        projection: str = "random",
        codes: str = "random",
        rounds: int = 15,
    ) -> None:
        for kind, kinds in ((projection, PROJECTIONS), (codes, CODES)):
            if kind not in kinds:
                raise ValueError(f"{kind!r} is none of {', '.join(kinds)}")
        COUNT_OR_0.check("FittedQuantizer", rounds=rounds)
        if codes == "centroids":
            codebook = copy.deepcopy(codebook)
        if projection != "random" and codebook.shape[2] > input_dim:
            raise ValueError(
                f"PCA finds {input_dim} directions at most, code_dim is "
                f"{codebook.shape[2]}"
            )
        super().__init__(input_dim=input_dim, codebook=codebook, seed=seed)
        self.kinds, self.rounds, self.seed = (projection, codes), rounds, seed
        if self.fittable:
            self.register_buffer("num_fits", torch.zeros((), dtype=torch.long))
        # The same number on the host: reading the buffer synchronizes with the device.
        self.times_fitted = 0

    @property
    def fittable(self) -> bool:
        """Whether anything is to be fitted; not if both kinds are ``random``."""
        return self.kinds != ("random", "random")

    @torch.no_grad()
    def fit(self, frames: torch.Tensor) -> None:
        """Fit what is to be fitted.

        Arguments
        ---------
        frames : torch.Tensor
            (M, D); a few hundred frames a code are a good sample.

        Raises
        ------
        ValueError
            If there are fewer frames than codes.
        """
        projection, codes = self.kinds
        num_codes = self.codebook.shape[1]
        if len(frames) < num_codes:
            raise ValueError(f"{len(frames)} frames cannot fit {num_codes} codes")
        # Before the projection moves: codes shall keep the frames that they stand for.
        members = self._members(frames)
        if projection != "random":
            found = principal_directions(
                frames, self.codebook.shape[2], whitened=projection == "whitened_pca"
            )
            self.projection.copy_(found.expand_as(self.projection))
        if codes == "centroids":
            points = self.points(frames)
            for group, codes_of_group in enumerate(self.codebook.codes):
                found = k_means(
                    points[:, group],
                    codes_of_group,
                    members[group],
                    rounds=self.rounds,
                    l2_normalize=self.codebook.l2_normalize,
                )
                codes_of_group.copy_(found)
        self.num_fits += 1
        self.times_fitted += 1

    def count_one_fit(self) -> None:
        """Count all fits so far as one, because a run that starts from here refits."""
        if self.fittable and self.times_fitted:
            self.num_fits.fill_(1)
            self.times_fitted = 1

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self.times_fitted = int(state_dict.get(f"{prefix}num_fits", self.times_fitted))

    def _members(self, frames):
        """Return the current code of each frame, (G, M).

        Before the first fit, N random frames are the initial centroids and all others
        are unassigned (-1).
        """
        if self.times_fitted:
            parts = frames.split(POINTS_AT_ONCE)
            return torch.cat([self(part) for part in parts]).T
        generator = torch.Generator().manual_seed(self.seed)
        groups, num_codes, _ = self.codebook.shape
        drawn = [one_each(len(frames), num_codes, generator) for _ in range(groups)]
        return torch.stack(drawn).to(frames.device)


def principal_directions(
    frames: torch.Tensor, count: int, *, whitened: bool
) -> torch.Tensor:
    """Return the directions of largest variance, as columns.

    Arguments
    ---------
    frames : torch.Tensor
        (M, D)
    count : int
        C
    whitened : bool
        Whether each direction is divided by the standard deviation along it.

    Returns
    -------
    torch.Tensor
        (D, C) float32, largest variance first. A direction and its opposite are
        equally good: the largest coordinate of the one returned is positive.

    Example
    -------
    >>> frames = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> principal_directions(frames, 1, whitened=False)
    tensor([[1.],
            [0.]])
    """
    centered = frames.double() - frames.double().mean(0)
    variances, directions = torch.linalg.eigh(centered.T @ centered / len(frames))
    variances, directions = variances.flip(0)[:count], directions.flip(1)[:, :count]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    directions = directions * largest.sign()
    if whitened:
        # The bound keeps directions without any variance finite.
        directions = directions / variances.clamp_min(1e-6 * variances[0]).sqrt()
    return directions.float()
