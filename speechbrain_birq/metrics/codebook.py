"""Measure how a set of labels uses its codes, and what two sets have in common."""

from typing import NamedTuple

import torch

from speechbrain_birq.models.objectives import code_counts


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
    counts = code_counts(codes, num_codes).double()
    shares = counts / counts.sum(1, keepdim=True)
    entropy = torch.special.entr(shares).sum(1)
    return CodeUsage(
        (counts > 0).double().sum(1).mean().item(),
        entropy.exp().mean().item(),
        shares.amax(1).mean().item(),
    )


def agreement(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the share of frames with the same code in both sets (M, G)."""
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
    values = [
        _entropy(a) + _entropy(b) - _entropy(torch.stack((a, b), 1)) for a, b in pairs
    ]
    return sum(values) / len(values)


def _entropy(symbols):
    counts = torch.unique(symbols, dim=0, return_counts=True)[1].double()
    return torch.special.entr(counts / counts.sum()).sum().item()
