"""Quantizers whose projection and codes are fitted to speech instead of drawn."""

import copy

import torch
from torch.nn.functional import normalize

from speechbrain_birq.models.labels.quantizer import RandomProjectionQuantizer

PROJECTIONS = ("random", "pca", "whitened_pca")
CODES = ("random", "centroids")
POINTS_AT_ONCE = 4096  # 4 codebooks of 8,192 codes: half a gigabyte of distances


class FittedQuantizer(RandomProjectionQuantizer):
    """A quantizer whose projection, codes or both are fitted to a sample of frames.

    Until ``fit`` is called it is the random one that it derives from, and what a fit
    finds lies in the same two buffers, so that a checkpoint holds it. With both kinds
    ``random`` there is nothing to fit: it is the paper's.

    ``pca`` projects onto the directions of the sample's largest variance,
    ``whitened_pca`` divides by the standard deviations too: random codes, which are
    alike in all directions, need that. Every codebook sees the same directions.
    ``centroids`` are found by Lloyd's rounds of k-means among the projected frames (of
    unit length where the codebook's are), from other frames for each codebook. A later
    fit begins with the frames that each code has collected so far: codes keep what they
    stand for while the encoder below them learns.

    Arguments
    ---------
    input_dim : int
        D
    codebook : Codebook
        Where the codes are fitted, a copy is: another quantizer's stay as they are.
    seed : int
        Of the random projection and of the frames that k-means begins with.
    projection : str
        ``random``, ``pca`` or ``whitened_pca``.
    codes : str
        ``random`` or ``centroids``.
    rounds : int
        Of k-means.

    Raises
    ------
    ValueError
        If a kind is unknown, or PCA is to find more directions than there are.

    Example
    -------
    >>> from speechbrain_birq.models.labels.quantizer import Codebook
    >>> codebook = Codebook(num_codebooks=1, num_codes=2, code_dim=1)
    >>> kinds = dict(projection="pca", codes="centroids")
    >>> quantizer = FittedQuantizer(input_dim=2, codebook=codebook, seed=0, **kinds)
    >>> frames = torch.tensor([[0.0, -3.0], [0.1, -3.1], [0.0, 3.0], [0.1, 3.1]])
    >>> quantizer.fit(frames)
    >>> first, second, third, fourth = quantizer(frames).flatten().tolist()
    >>> first == second, second == third, third == fourth
    (True, False, True)
    """

    def __init__(
        self,
        *,
        input_dim,
        codebook,
        seed,
        projection="random",
        codes="random",
        rounds=15,
    ):
        for kind, kinds in ((projection, PROJECTIONS), (codes, CODES)):
            if kind not in kinds:
                raise ValueError(f"{kind!r} is none of {', '.join(kinds)}")
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

    @property
    def fittable(self) -> bool:
        """Whether anything is to be fitted."""
        return self.kinds != ("random", "random")

    @torch.no_grad()
    def fit(self, frames: torch.Tensor) -> None:
        """Fit what is to be fitted.

        Arguments
        ---------
        frames : torch.Tensor
            (M, D), the more the better: a few hundred for each code.

        Raises
        ------
        ValueError
            If there are fewer frames than codes.
        """
        projection, codes = self.kinds
        num_codes = self.codebook.shape[1]
        if len(frames) < num_codes:
            raise ValueError(f"{len(frames)} frames cannot fit {num_codes} codes")
        collected = self._collected(frames)
        if projection != "random":
            found = principal_directions(
                frames, self.codebook.shape[2], projection == "whitened_pca"
            )
            self.projection.copy_(found.expand_as(self.projection))
        if codes == "centroids":
            for group, members in enumerate(collected):
                self._fit_codes(group, self.points(frames)[:, group], members)
        self.num_fits += 1

    def _collected(self, frames):
        """(G, M) the code of each frame so far; at first a few frames lead."""
        if self.num_fits:
            parts = frames.split(POINTS_AT_ONCE)
            return torch.cat([self(part) for part in parts]).T
        generator = torch.Generator().manual_seed(self.seed)
        groups, num_codes, _ = self.codebook.shape
        nobody = torch.full((groups, len(frames)), -1, device=frames.device)
        for members in nobody:
            leaders = torch.randperm(len(frames), generator=generator)[:num_codes]
            members[leaders.to(frames.device)] = torch.arange(
                num_codes, device=frames.device
            )
        return nobody

    def _fit_codes(self, group, points, members):
        codes = self.codebook.codes[group]
        for _ in range(self.rounds + 1):
            codes.copy_(centroids(points, members, codes))
            if self.codebook.l2_normalize:
                codes.copy_(normalize(codes, dim=-1))
            members = nearest(points, codes)


def principal_directions(frames, count, whitened) -> torch.Tensor:
    """Directions of largest variance, as columns.

    Arguments
    ---------
    frames : torch.Tensor
        (M, D)
    count : int
        C
    whitened : bool
        Whether each is divided by the standard deviation along it.

    Returns
    -------
    torch.Tensor
        (D, C) float32, largest variance first. Of each direction and its opposite, the
        one whose largest coordinate is positive.

    Example
    -------
    >>> frames = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> principal_directions(frames, 1, whitened=False)
    tensor([[1.],
            [0.]])
    """
    covariance = frames.double().T.cov(correction=0)
    variances, directions = torch.linalg.eigh(covariance)
    variances, directions = variances.flip(0)[:count], directions.flip(1)[:, :count]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    directions = directions * largest.sign()
    if whitened:
        # Directions in which nothing varies stay what they are: small, not infinite.
        directions = directions / variances.clamp_min(1e-6 * variances[0]).sqrt()
    return directions.float()


def centroids(points, members, codes) -> torch.Tensor:
    """Means of the points of each code; a code that has none stays where it is.

    Arguments
    ---------
    points : torch.Tensor
        (M, C)
    members : torch.Tensor
        (M,) int64 the code of each point, -1: of none.
    codes : torch.Tensor
        (N, C)

    Returns
    -------
    torch.Tensor
        (N, C)

    Example
    -------
    >>> points, codes = torch.tensor([[1.0], [3.0]]), torch.tensor([[7.0], [0.0]])
    >>> centroids(points, torch.tensor([1, 1]), codes)
    tensor([[7.],
            [2.]])
    """
    points, members = points[members >= 0], members[members >= 0]
    sums = torch.zeros_like(codes, dtype=torch.float64)
    sums.index_add_(0, members, points.double())
    counts = torch.bincount(members, minlength=len(codes)).unsqueeze(1)
    return torch.where(counts > 0, (sums / counts.clamp_min(1)).to(codes), codes)


def nearest(points, codes) -> torch.Tensor:
    """(M, C) points and (N, C) codes -> (M,) int64"""
    parts = points.split(POINTS_AT_ONCE)
    return torch.cat([torch.cdist(part, codes).argmin(1) for part in parts])
