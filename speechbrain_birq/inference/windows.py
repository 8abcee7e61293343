"""Encode a long recording in overlapping windows: memory grows with its length only."""

from collections.abc import Callable

import torch

from speechbrain_birq.models.frontend import Frames

Encode = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

LONGEST = 120.0  # seconds that are encoded at once: attention needs their square
WINDOW = 60.0  # seconds of a window of a longer recording
CONTEXT = 10.0  # seconds at each end of a window whose output is dropped


def encode_in_windows(
    encode: Encode,
    frames: Frames,
    frame_ms: float,
) -> torch.Tensor:
    """Encode the frames of one recording, in windows if it is long.

    Near the ends of a window an encoder sees less of what is around. Every frame
    therefore comes from a window in which it has 10 s on both sides, where the
    recording has them.

    Arguments
    ---------
    encode : callable
        (1, T, D) frames, (1,) lengths -> (1, T, H)
    frames : Frames
        Frames of one recording without padding.
    frame_ms : float
        Milliseconds from a frame to the next.

    Returns
    -------
    torch.Tensor
        (1, T, H)

    Example
    -------
    >>> frames = Frames(torch.randn(1, 10_000, 4), torch.tensor([10_000]))
    >>> states = encode_in_windows(lambda x, lengths: 2 * x, frames, frame_ms=40)
    >>> torch.equal(states, 2 * frames.frames)
    True
    """
    total = frames.frames.shape[1]
    longest, window, context = (
        round(1000 * seconds / frame_ms) for seconds in (LONGEST, WINDOW, CONTEXT)
    )
    if total <= longest:
        return encode(*frames)
    step, pieces = window - 2 * context, []
    for start in range(0, total, step):
        begin, end = max(0, start - context), min(total, start + step + context)
        part = frames.frames[:, begin:end]
        states = encode(part, frames.lengths.new_tensor([end - begin]))
        pieces.append(states[:, start - begin :][:, :step])
    return torch.cat(pieces, 1)
