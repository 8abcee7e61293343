"""What labels say about phones, frame by frame: PNMI, purities, run length."""

from typing import NamedTuple

import torch


class UnitQuality(NamedTuple):
    """Labels against phones, each figure a mean over the codebooks."""

    pnmi: float  # I(phone; code) / H(phone): share of the phones that the codes tell
    phone_purity: float  # frames whose phone is the most frequent one of their code
    cluster_purity: float  # frames whose code is the most frequent one of their phone
    silent_share: float  # frames in codes that mostly stand for silence
    run_length: float  # frames that a code lasts


def joint_counts(codes, phones, num_codes, num_phones) -> torch.Tensor:
    """How often each code meets each phone.

    Arguments
    ---------
    codes : torch.Tensor
        (M,) int64
    phones : torch.Tensor
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
    """Phone-normalised mutual information I(phone; code) / H(phone).

    A finite sample gives too much, by about the number of used codes times that of
    phones over 2M H(phone): compare only labels with as many codes on the same frames.

    Arguments
    ---------
    counts : torch.Tensor
        (num_codes, num_phones) joint counts

    Example
    -------
    >>> pnmi(torch.tensor([[5, 0], [0, 5]]))
    1.0
    """
    # Marginals of counts, not of shares: these may add up to a little less than 1.
    tables = counts.sum(0), counts.sum(1), counts
    phones, codes, joint = (
        torch.special.entr(table.double() / counts.sum()).sum() for table in tables
    )
    shared = phones + codes - joint
    return (shared / phones).item() if phones > 0 else 0.0


def phone_purity(counts: torch.Tensor) -> float:
    """Frames whose phone a table from code to most frequent phone would name.

    Example
    -------
    >>> phone_purity(torch.tensor([[3, 1], [0, 4]]))
    0.875
    """
    return (counts.amax(1).sum().double() / counts.sum()).item()


def cluster_purity(counts: torch.Tensor) -> float:
    """Frames whose code a table from phone to most frequent code would name.

    Example
    -------
    >>> cluster_purity(torch.tensor([[3, 1], [0, 4]]))
    0.875
    """
    return (counts.amax(0).sum().double() / counts.sum()).item()


def silent_share(counts: torch.Tensor, silence: int) -> float:
    """Frames in codes whose most frequent phone is silence.

    Example
    -------
    >>> silent_share(torch.tensor([[3, 1], [0, 4]]), silence=0)
    0.5
    """
    silent = counts.argmax(1) == silence
    return (counts[silent].sum().double() / counts.sum()).item()


def run_length(utterances) -> float:
    """Mean number of frames that a code lasts.

    Arguments
    ---------
    utterances : list
        Of codes (T, G) int64.

    Example
    -------
    >>> run_length([torch.tensor([[4], [4], [4], [7]])])
    2.0
    """
    frames = sum(codes.numel() for codes in utterances)
    changes = sum((codes[1:] != codes[:-1]).sum().item() for codes in utterances)
    starts = sum(codes.shape[1] for codes in utterances if len(codes))
    return frames / (changes + starts)


def unit_quality(utterances, phones, num_codes, num_phones, silence) -> UnitQuality:
    """All figures of one set of labels.

    Arguments
    ---------
    utterances : list
        Of codes (T, G) int64.
    phones : list
        Of (T,) int64, silence among them.
    num_codes, num_phones : int
    silence : int
        Number of the phone that stands for silence.

    Returns
    -------
    UnitQuality
    """
    codes, spoken = torch.cat(list(utterances)), torch.cat(list(phones))
    tables = [
        joint_counts(column, spoken, num_codes, num_phones)
        for column in codes.unbind(1)
    ]
    figures = [
        (pnmi(t), phone_purity(t), cluster_purity(t), silent_share(t, silence))
        for t in tables
    ]
    means = torch.tensor(figures, dtype=torch.float64).mean(0).tolist()
    return UnitQuality(*means, run_length(utterances))
