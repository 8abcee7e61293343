"""Span masks of single utterances, and the noise that fills them."""

import hashlib

import torch


class SpanMasking(torch.nn.Module):
    """Draws which frames of an utterance are hidden.

    Every frame starts a span with probability ``mask_prob``; spans may overlap and are
    cut at the utterance's end, so 1 − (1 − p)^n of the frames are hidden: 33 % for the
    paper's p = 2 % and n = 20. At least one span is drawn where a frame exists.

    A mask depends on seed, epoch and utterance only: it is the same on any number of
    workers and processes, and validation (epoch 0) always sees the same masks.

    Arguments
    ---------
    mask_prob : float
        Probability that a frame starts a span.
    mask_length_ms : float
        Length of a span in ms; rounded to whole frames, at least one.
    frame_ms : float
        Length of a frame in ms.
    seed : int
        Of all masks.

    Raises
    ------
    ValueError
        If ``mask_prob`` is not in (0, 1] or the span is not longer than 0 ms.

    Example
    -------
    >>> masking = SpanMasking(mask_prob=0.02, mask_length_ms=400, frame_ms=20)
    >>> masking.span, masking(50, "utterance-1", epoch=3).shape
    (20, torch.Size([50]))
    """

    def __init__(self, *, mask_prob=0.02, mask_length_ms=400, frame_ms=20, seed=0):
        super().__init__()
        if not 0 < mask_prob <= 1:
            raise ValueError(f"mask_prob must be in (0, 1], got {mask_prob}")
        if mask_length_ms <= 0:
            raise ValueError(f"mask_length_ms must be positive, got {mask_length_ms}")
        self.mask_prob, self.seed = mask_prob, seed
        self.span = max(1, round(mask_length_ms / frame_ms))

    def forward(self, num_frames: int, utterance: str, epoch: int) -> torch.Tensor:
        """A mask (T,) bool, True = hidden."""
        if num_frames == 0:
            return torch.zeros(0, dtype=torch.bool)
        generator = torch.Generator().manual_seed(self._seed_of(utterance, epoch))
        starts = torch.rand(num_frames, generator=generator) < self.mask_prob
        if not starts.any():
            starts[torch.randint(num_frames, (1,), generator=generator)] = True
        # A frame is hidden if any of the last `span` frames started a span.
        begun = torch.cumsum(starts, 0)
        return begun > torch.cat((begun.new_zeros(self.span), begun))[:num_frames]

    def _seed_of(self, utterance, epoch):
        key = f"{self.seed}/{epoch}/{utterance}".encode()
        return int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "big")


def fill_masked(frames, mask, std=0.1, generator=None):
    """Replace hidden frames by Gaussian noise of mean 0.

    Arguments
    ---------
    frames : torch.Tensor
        (B, T, D)
    mask : torch.Tensor
        (B, T) bool
    std : float
        Standard deviation of the noise (the paper: 0.1).
    generator : torch.Generator, optional
        On the frames' device.

    Returns
    -------
    torch.Tensor
        (B, T, D), x̃ of the paper.

    Example
    -------
    >>> x = torch.ones(1, 3, 2)
    >>> fill_masked(x, torch.tensor([[False, True, False]]), std=0.0)[0, :, 0].tolist()
    [1.0, 0.0, 1.0]
    """
    noise = torch.empty_like(frames).normal_(0.0, std, generator=generator)
    return torch.where(mask.unsqueeze(-1), noise, frames)


def hidden_rows(mask: torch.Tensor) -> torch.Tensor:
    """Numbers (M,) of the hidden frames, counted through the batch.

    A GPU must be waited for to know how many there are; whoever indexes with the mask
    itself waits each time, forward and backward.

    Example
    -------
    >>> hidden_rows(torch.tensor([[False, True], [True, False]])).tolist()
    [1, 2]
    """
    return mask.flatten().nonzero().squeeze(1)


def take(states: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Those frames: (B, T, ...) -> (M, ...)."""
    return states.flatten(0, 1).index_select(0, rows)
