"""K-means: Lloyd's algorithm on one device, in pieces that fit into memory."""

import torch
from torch.nn.functional import normalize

from speechbrain_birq.models.full_precision import full_precision

POINTS_AT_ONCE = 4096  # 4 codebooks of 8,192 codes: half a gigabyte of distances


def k_means(
    points: torch.Tensor,
    codes: torch.Tensor,
    members: torch.Tensor,
    *,
    rounds: int,
    l2_normalize: bool = False,
) -> torch.Tensor:
    """Move codes to the centroids of their members, then reassign; repeat.

    Arguments
    ---------
    points : torch.Tensor
        (M, C)
    codes : torch.Tensor
        (N, C); a code that has no member stays where it is.
    members : torch.Tensor
        (M,) int64, code of each point at the start, -1 for none: see ``one_each``.
    rounds : int
        Number of reassignments.
    l2_normalize : bool
        Whether codes are scaled to unit length after each round.

    Returns
    -------
    torch.Tensor
        (N, C)

    Example
    -------
    >>> points = torch.tensor([[0.0], [1.0], [8.0], [9.0]])
    >>> members = torch.tensor([0, 1, -1, -1])
    >>> k_means(points, torch.zeros(2, 1), members, rounds=2)
    tensor([[0.5000],
            [8.5000]])
    """
    for iteration in range(rounds + 1):
        if iteration:
            members = nearest(points, codes)
        codes = centroids(points, members, codes)
        if l2_normalize:
            codes = normalize(codes, dim=-1)
    return codes


def one_each(
    num_points: int, num_codes: int, generator: torch.Generator
) -> torch.Tensor:
    """Draw one point for every code; all others belong to none.

    Returns
    -------
    torch.Tensor
        (M,) int64, -1 for none.

    Example
    -------
    >>> members = one_each(5, 2, torch.Generator().manual_seed(0))
    >>> sorted(members.tolist())
    [-1, -1, -1, 0, 1]
    """
    members = torch.full((num_points,), -1)
    drawn = torch.randperm(num_points, generator=generator)[:num_codes]
    members[drawn] = torch.arange(num_codes)
    return members


def centroids(
    points: torch.Tensor, members: torch.Tensor, codes: torch.Tensor
) -> torch.Tensor:
    """Return the mean of each code's points, summed up in float64.

    Arguments
    ---------
    points : torch.Tensor
        (M, C)
    members : torch.Tensor
        (M,) int64, code of each point, -1 for none.
    codes : torch.Tensor
        (N, C); a code that has no point stays where it is.

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
    # Not indexed with a boolean mask, nor by `bincount`: both synchronize with the GPU.
    assigned, place = (members >= 0).double(), members.clamp_min(0)
    sums = torch.zeros_like(codes, dtype=torch.float64)
    sums.index_add_(0, place, points * assigned.unsqueeze(1))
    counts = torch.zeros_like(sums[:, 0]).index_add_(0, place, assigned).unsqueeze(1)
    return torch.where(counts > 0, (sums / counts.clamp_min(1)).to(codes), codes)


def nearest(points: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Return the nearest code of each point: (M, C), (N, C) -> (M,) int64.

    Example
    -------
    >>> nearest(torch.tensor([[0.9], [0.2]]), codes=torch.tensor([[0.0], [1.0]]))
    tensor([1, 0])
    """
    parts = points.split(POINTS_AT_ONCE)
    with full_precision(points.device):
        return torch.cat([torch.cdist(part, codes).argmin(1) for part in parts])
