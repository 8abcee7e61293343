"""Measure how a set of labels uses its codes, and what two sets have in common."""

import math
from typing import NamedTuple

import torch

from speechbrain_birq.metrics.units import joint_counts, shared_information
from speechbrain_birq.models.objectives import code_counts

# Counting millions of frames is hundreds of times faster than sorting them; it needs 8
# bytes for each pair of codes.
MOST_COUNTED = 2**24


class CodeUsage(NamedTuple):
    """Usage of the codes in one set of labels, averaged over its codebooks."""

    used_codes: float  # codes that occur at all
    perplexity: float  # exp of the entropy of the code distribution
    top_share: float  # share of the most frequent code


def code_usage(codes: torch.Tensor, num_codes: int) -> CodeUsage:
    """Measure how codes (M, G) are used.

    Example
    -------
    >>> code_usage(torch.tensor([[0], [0], [1], [1]]), num_codes=8)
    CodeUsage(used_codes=2.0, perplexity=2.0, top_share=0.5)
    """
    return usage_of_shares(code_shares(codes, num_codes))


def code_shares(codes: torch.Tensor, num_codes: int) -> torch.Tensor:
    """Return the share of each code in each codebook: (M, G) -> (G, N) float64."""
    return shares_of_counts(code_counts(codes, num_codes))


def shares_of_counts(counts: torch.Tensor) -> torch.Tensor:
    """Return the share of each code from counts: (G, N) -> (G, N) float64."""
    return counts.double() / counts.sum(1, keepdim=True)


def usage_of_shares(shares: torch.Tensor) -> CodeUsage:
    """Measure how codes are used whose shares are known: (G, N)."""
    entropy = torch.special.entr(shares).sum(1)
    return CodeUsage(
        (shares > 0).double().sum(1).mean().item(),
        entropy.exp().mean().item(),
        shares.amax(1).mean().item(),
    )


def agreement(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the share of frames with the same code in both sets (M, G).

    Example
    -------
    >>> agreement(torch.tensor([[0], [1], [2]]), torch.tensor([[0], [1], [0]]))
    0.6666666666666666
    """
    return (first == second).double().mean().item()


def mutual_information(first: torch.Tensor, second: torch.Tensor) -> float:
    """Estimate I(first; second) in nats from two sets (M, G), averaged over codebooks.

    A finite sample biases the estimate upwards: independent labels with N₁ and N₂ used
    codes have about (N₁ - 1)(N₂ - 1) / 2M nats.

    Example
    -------
    >>> codes = torch.tensor([[0], [1]])
    >>> round(mutual_information(codes, codes), 4)
    0.6931
    """
    pairs = zip(first.unbind(1), second.unbind(1), strict=True)
    values = [_entropy(a) + _entropy(b) - _entropy(_pairs(a, b)) for a, b in pairs]
    return sum(values) / len(values)


def joint_code_counts(
    first: torch.Tensor, second: torch.Tensor, num_codes: int
) -> torch.Tensor:
    """Count how often each code of one set meets each code of the other.

    Arguments
    ---------
    first, second : torch.Tensor
        (M, G) int64, codes of the same frames.
    num_codes : int
        N

    Returns
    -------
    torch.Tensor
        (G, N, N) int64

    Example
    -------
    >>> codes = torch.tensor([[0], [1], [1]])
    >>> joint_code_counts(codes, codes, 2).tolist()
    [[[1, 0], [0, 2]]]
    """
    pairs = zip(first.unbind(1), second.unbind(1), strict=True)
    return torch.stack([joint_counts(a, b, num_codes, num_codes) for a, b in pairs])


def agreement_of_counts(counts: torch.Tensor) -> float:
    """Return ``agreement`` of two sets with these joint counts (G, N, N).

    Example
    -------
    >>> agreement_of_counts(torch.tensor([[[2, 1], [0, 1]]]))
    0.75
    """
    return (counts.diagonal(dim1=1, dim2=2).sum().double() / counts.sum()).item()


def information_of_counts(counts: torch.Tensor) -> float:
    """Return ``mutual_information`` of two sets with these joint counts (G, N, N).

    Example
    -------
    >>> round(information_of_counts(torch.tensor([[[1, 0], [0, 1]]])), 4)
    0.6931
    """
    values = [shared_information(table).item() for table in counts]
    return sum(values) / len(values)


def entropy_bits(shares: torch.Tensor) -> float:
    """Return the entropy of the shares of codes (G, N) in bits, averaged over G.

    Example
    -------
    >>> entropy_bits(code_shares(torch.tensor([[0], [1], [2], [3]]), num_codes=8))
    2.0
    """
    return torch.special.entr(shares).sum(1).mean().item() / math.log(2)


def bits_about(codes: torch.Tensor, classes: torch.Tensor, num_codes: int) -> float:
    """Estimate I(code; class) in bits, less what shuffled classes share with the codes.

    Shuffling takes away most of the bias of a finite sample. The order is drawn from a
    fixed seed, so the same frames give the same figure.

    Arguments
    ---------
    codes : torch.Tensor
        (M, G) int64
    classes : torch.Tensor
        (M,) int64 from 0, such as numbers of speakers.
    num_codes : int
        N

    Returns
    -------
    float
        Mean over the codebooks; about 0 if codes tell nothing of the classes.

    Example
    -------
    >>> codes = torch.arange(1000).remainder(2).unsqueeze(1)
    >>> round(bits_about(codes, codes[:, 0], num_codes=2), 2)
    1.0
    """
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(0))
    values = [
        _shared_bits(column, classes, num_codes)
        - _shared_bits(column, classes[order], num_codes)
        for column in codes.unbind(1)
    ]
    return sum(values) / len(values)


def _shared_bits(codes, classes, num_codes):
    num_classes = int(classes.max()) + 1
    counts = joint_counts(codes, classes, num_codes, num_classes)
    return shared_information(counts).item() / math.log(2)


def _pairs(first, second):
    """A number for each pair of codes."""
    return first * (second.max() + 1) + second if len(second) else second


def _entropy(symbols):
    if len(symbols) and symbols.max() < MOST_COUNTED:
        counts = torch.bincount(symbols).double()
    else:
        counts = torch.unique(symbols, return_counts=True)[1].double()
    return torch.special.entr(counts / counts.sum()).sum().item()
