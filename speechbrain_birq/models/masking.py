"""Span masks of single utterances, and the noise that fills them."""

import hashlib

import torch

from speechbrain_birq.config.keys import ABOVE_0, PART_OF_1


class SpanMasking(torch.nn.Module):
    """Draws which frames of an utterance are masked.

    Every frame starts a span with probability ``mask_prob``. Spans may overlap and are
    cut at the utterance's end, so 1 − (1 − p)^n of the frames are masked: 33 % for the
    paper's p = 2 % and n = 20. An utterance of at least one frame gets at least one
    span.

    A mask depends on seed, epoch and utterance only. Therefore it is the same for any
    number of workers and ranks, and validation (epoch 0) always sees the same masks.

    Arguments
    ---------
    mask_prob : float
        Probability that a frame starts a span.
    mask_length_ms : float
        Length of a span in ms; rounded to frames, at least one.
    frame_ms : float
        Length of a frame in ms.
    seed : int
        Seed of all masks.

    Raises
    ------
    ValueError
        If ``mask_prob`` is no number in (0, 1], or a length is no finite number above
        0.

    Example
    -------
    >>> masking = SpanMasking(mask_prob=0.02, mask_length_ms=400, frame_ms=20)
    >>> masking.span, masking(50, "utterance-1", epoch=3).shape
    (20, torch.Size([50]))
    """

    def __init__(
        self,
        *,
        mask_prob: float = 0.02,
        mask_length_ms: float = 400,
        frame_ms: float = 20,
        seed: int = 0,
    ) -> None:
        super().__init__()
        PART_OF_1.check("SpanMasking", mask_prob=mask_prob)
        lengths = {"mask_length_ms": mask_length_ms, "frame_ms": frame_ms}
        ABOVE_0.check("SpanMasking", **lengths)
        self.mask_prob, self.seed, self.frame_ms = mask_prob, seed, frame_ms
        self.span = max(1, round(mask_length_ms / frame_ms))

    def check(self, frame_ms: float) -> None:
        """Refuse another length of a frame than the front end's, in ms.

        Spans would have another length than ``mask_length_ms``.

        Raises
        ------
        ValueError
        """
        # A shift of 10 ms is 9.98 ms at 22,050 Hz.
        if abs(self.frame_ms - frame_ms) > 0.05 * frame_ms:
            raise ValueError(
                f"frame_ms of SpanMasking is {self.frame_ms:g}, but a frame of the "
                f"front end has {frame_ms:g} ms: set frame_ms to that in the line "
                f"masking"
            )

    def forward(self, num_frames: int, utterance: str, epoch: int) -> torch.Tensor:
        """Draw a mask, (T,) bool, True = masked.

        Arguments
        ---------
        num_frames : int
            T
        utterance : str
            Identifier.
        epoch : int
            Number of the epoch; 0 for validation.
        """
        if num_frames == 0:
            return torch.zeros(0, dtype=torch.bool)
        generator = torch.Generator().manual_seed(self._seed_of(utterance, epoch))
        starts = torch.rand(num_frames, generator=generator) < self.mask_prob
        if not starts.any():
            starts[torch.randint(num_frames, (1,), generator=generator)] = True
        # A frame is masked if any of the last `span` frames started a span.
        begun = torch.cumsum(starts, 0)
        span = min(self.span, num_frames)
        return begun > torch.cat((begun.new_zeros(span), begun))[:num_frames]

    def _seed_of(self, utterance, epoch):
        key = f"{self.seed}/{epoch}/{utterance}".encode()
        return int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "big")


def fill_masked(
    frames: torch.Tensor,
    mask: torch.Tensor,
    std: float = 0.1,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Replace masked frames by Gaussian noise of mean 0.

    Arguments
    ---------
    frames : torch.Tensor
        (B, T, D)
    mask : torch.Tensor
        (B, T) bool, True = masked.
    std : float
        Standard deviation of the noise (the paper: 0.1).
    generator : torch.Generator, optional
        Draws the noise, on the frames' device.

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


def masked_rows(mask: torch.Tensor, num_masked: int | None = None) -> torch.Tensor:
    """Return the indices (M,) of the masked frames in the flattened batch.

    Counting the masked frames synchronizes with the GPU. Do it once, here: indexing
    with the boolean mask would synchronize on every use, forward and backward.

    Arguments
    ---------
    mask : torch.Tensor
        (B, T) bool, True = masked.
    num_masked : int, optional
        M, if it is known; then nothing synchronizes.

    Example
    -------
    >>> masked_rows(torch.tensor([[False, True], [True, False]])).tolist()
    [1, 2]
    """
    if num_masked is None:
        return mask.flatten().nonzero().squeeze(1)
    return mask.flatten().nonzero_static(size=num_masked).squeeze(1)


def take(states: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return the frames at ``rows``: (B, T, ...), (M,) -> (M, ...)."""
    return states.flatten(0, 1).index_select(0, rows)
