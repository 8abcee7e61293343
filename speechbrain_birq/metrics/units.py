"""Measure what labels say about phones, frame by frame: PNMI, purities, run length."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import torch


class UnitQuality(NamedTuple):
    """Labels against phones; each figure is a mean over the codebooks."""

    pnmi: float  # I(phone; code) / H(phone)
    phone_purity: float  # frames whose phone is the most frequent one of their code
    cluster_purity: float  # frames whose code is the most frequent one of their phone
    silent_share: float  # frames in codes that mostly stand for silence
    run_length: float  # frames that a code lasts


def joint_counts(
    codes: torch.Tensor, phones: torch.Tensor, num_codes: int, num_phones: int
) -> torch.Tensor:
    """Count how often each code meets each phone.

    Arguments
    ---------
    codes, phones : torch.Tensor
        (M,) int64
    num_codes, num_phones : int

    Returns
    -------
    torch.Tensor
        (num_codes, num_phones) int64

    Example
    -------
    >>> joint_counts(torch.tensor([0, 0, 1]), torch.tensor([1, 1, 0]), 2, 2).tolist()
    [[0, 2], [1, 0]]
    """
    cells = torch.bincount(
        codes * num_phones + phones, minlength=num_codes * num_phones
    )
    return cells.view(num_codes, num_phones)


def pnmi(counts: torch.Tensor) -> float:
    """Return the phone-normalized mutual information, I(phone; code) / H(phone).

    A finite sample of M frames biases it upwards, by about (used codes) x (phones) /
    2M H(phone): compare only labels with equally many codes on the same frames.

    Arguments
    ---------
    counts : torch.Tensor
        (num_codes, num_phones) joint counts

    Example
    -------
    >>> pnmi(torch.tensor([[5, 0], [0, 5]]))
    1.0
    """
    phones = _entropy(counts.sum(0))
    return (shared_information(counts) / phones).item() if phones > 0 else 0.0


def shared_information(counts: torch.Tensor) -> torch.Tensor:
    """Return the mutual information in nats of what rows and columns count: ().

    Arguments
    ---------
    counts : torch.Tensor
        (A, B) joint counts of two labels of the same frames.

    Example
    -------
    >>> shared_information(torch.tensor([[5, 0], [0, 5]])).exp().item()
    2.0
    """
    # Sum counts, not shares, because rounded shares may add up to less than 1.
    return _entropy(counts.sum(0)) + _entropy(counts.sum(1)) - _entropy(counts)


def _entropy(counts):
    return torch.special.entr(counts.double() / counts.sum()).sum()


def phone_purity(counts: torch.Tensor) -> float:
    """Return the share of frames whose phone is the most frequent one of their code.

    Example
    -------
    >>> phone_purity(torch.tensor([[3, 1], [0, 4]]))
    0.875
    """
    return (counts.amax(1).sum().double() / counts.sum()).item()


def cluster_purity(counts: torch.Tensor) -> float:
    """Return the share of frames whose code is the most frequent one of their phone.

    Example
    -------
    >>> cluster_purity(torch.tensor([[3, 1], [0, 4]]))
    0.875
    """
    return (counts.amax(0).sum().double() / counts.sum()).item()


def silent_share(counts: torch.Tensor, silence: int) -> float:
    """Return the share of frames in codes whose most frequent phone is silence.

    Example
    -------
    >>> silent_share(torch.tensor([[3, 1], [0, 4]]), silence=0)
    0.5
    """
    silent = counts.argmax(1) == silence
    return (counts[silent].sum().double() / counts.sum()).item()


def run_length(utterances: Sequence[torch.Tensor]) -> float:
    """Return the mean number of frames that a code lasts.

    Arguments
    ---------
    utterances : sequence of torch.Tensor
        (T, G) codes of each utterance.

    Example
    -------
    >>> run_length([torch.tensor([[4], [4], [4], [7]])])
    2.0
    """
    frames = sum(codes.numel() for codes in utterances)
    changes = sum((codes[1:] != codes[:-1]).sum().item() for codes in utterances)
    starts = sum(codes.shape[1] for codes in utterances if len(codes))
    return frames / (changes + starts)


def unit_quality(
    utterances: Sequence[torch.Tensor],
    phones: Sequence[torch.Tensor],
    num_codes: int,
    num_phones: int,
    silence: int,
) -> UnitQuality:
    """Measure one set of labels.

    Arguments
    ---------
    utterances : sequence of torch.Tensor
        (T, G) codes of each utterance.
    phones : sequence of torch.Tensor
        (T,) phones of each utterance, silence included.
    num_codes, num_phones : int
    silence : int
        Number of the phone that stands for silence.
    """
    codes, spoken = torch.cat(list(utterances)), torch.cat(list(phones))
    tables = [
        joint_counts(column, spoken, num_codes, num_phones)
        for column in codes.unbind(1)
    ]
    return UnitQuality(
        pnmi=fmean(map(pnmi, tables)),
        phone_purity=fmean(map(phone_purity, tables)),
        cluster_purity=fmean(map(cluster_purity, tables)),
        silent_share=fmean(silent_share(table, silence) for table in tables),
        run_length=run_length(utterances),
    )
