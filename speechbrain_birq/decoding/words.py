"""Times and confidences of words, from a CTC alignment."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torchaudio.functional import forced_align

from speechbrain_birq.decoding.tokens import Tokens

SPACE = "▁"  # with which sentencepiece begins a word


class Word(NamedTuple):
    """A word, when it was spoken, and how sure the model is."""

    word: str
    start: float  # seconds
    end: float  # seconds
    confidence: float  # 0 to 1


class Emission(NamedTuple):
    """Neighboring frames that are aligned with one token."""

    token: int
    first: int  # frame
    last: int  # frame
    log_peak: float  # highest log probability of the token in these frames


def best_path(log_probs: torch.Tensor) -> torch.Tensor:
    """Return the most probable token of each frame: (T, V) -> (T,)."""
    return log_probs.argmax(-1)


def aligned_path(log_probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | None:
    """Return the most probable alignment of given tokens with the frames.

    Arguments
    ---------
    log_probs : torch.Tensor
        (T, V)
    targets : torch.Tensor
        (U,) tokens, none of them the blank.

    Returns
    -------
    torch.Tensor or None
        (T,) token of each frame, 0 is the blank; None if there are too few frames.
    """
    if frames_needed(targets) > len(log_probs):
        return None
    if not len(targets):
        return torch.zeros(len(log_probs), dtype=torch.long)
    return forced_align(log_probs[None], targets[None].int(), blank=0)[0][0]


def frames_needed(tokens: torch.Tensor) -> int:
    """Return the frames of the shortest alignment; a blank separates equal tokens.

    Example
    -------
    >>> frames_needed(torch.tensor([3, 3, 4]))
    4
    """
    return len(tokens) + int((tokens[1:] == tokens[:-1]).sum())


def emissions(log_probs: torch.Tensor, path: torch.Tensor) -> list[Emission]:
    """Return the tokens of an alignment, without blanks.

    Arguments
    ---------
    log_probs : torch.Tensor
        (T, V)
    path : torch.Tensor
        (T,) token of each frame; 0 is the blank.

    Example
    -------
    >>> log_probs = torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3]]).log()
    >>> (found,) = emissions(log_probs, torch.tensor([1, 1, 0]))
    >>> found.token, found.first, found.last
    (1, 0, 1)
    """
    scores = log_probs.gather(1, path.long().unsqueeze(1)).squeeze(1).tolist()
    found = []
    for token, run in groupby(enumerate(path.tolist()), key=lambda pair: pair[1]):
        if token:
            frames = [frame for frame, _ in run]
            peak = max(scores[frames[0] : frames[-1] + 1])
            found.append(Emission(token, frames[0], frames[-1], peak))
    return found


def words_of(
    found: Sequence[Emission], tokens: Tokens, *, frame_seconds: float, shift: float
) -> list[Word]:
    """Join tokens to words.

    A word begins with the first frame of its first token and ends with the last frame
    of its last token. Its confidence is the geometric mean over its U tokens,
    exp(1/U Σ_u max_t log p_t(u)), where t runs over the frames aligned with token u.
    A space between words belongs to none.

    Arguments
    ---------
    found : sequence of Emission
    tokens : CharacterTokens or SentencePieceTokens
    frame_seconds : float
        From a frame to the next.
    shift : float
        Seconds by which a frame begins before its place: the first one is centered on
        the first sample.

    Example
    -------
    >>> from speechbrain_birq.decoding.tokens import CharacterTokens
    >>> tokens = CharacterTokens(["<blank>", " ", "A"])
    >>> found = [Emission(2, 1, 2, -0.5), Emission(1, 4, 4, 0), Emission(2, 5, 5, 0)]
    >>> for word in words_of(found, tokens, frame_seconds=0.1, shift=0.0):
    ...     print(f"{word.word} {word.start:.1f} {word.end:.1f} {word.confidence:.2f}")
    A 0.1 0.3 0.61
    A 0.5 0.6 1.00
    """
    groups: list[list[tuple[str, Emission]]] = [[]]
    for emission in found:
        text = tokens.vocabulary[emission.token].replace(SPACE, " ")
        if text.startswith(" "):
            groups.append([])
        if text.strip():
            groups[-1].append((text.strip(), emission))
    return [
        Word(
            "".join(text for text, _ in group),
            max(0.0, group[0][1].first * frame_seconds - shift),
            (group[-1][1].last + 1) * frame_seconds - shift,
            confidence([emission for _, emission in group]),
        )
        for group in groups
        if group
    ]


def confidence(found: Sequence[Emission]) -> float:
    """Return the geometric mean of the tokens' highest probabilities; 0 of no token.

    Example
    -------
    >>> round(confidence([Emission(1, 0, 0, math.log(0.5)), Emission(1, 2, 2, 0.0)]), 4)
    0.7071
    """
    if not found:
        return 0.0
    return math.exp(sum(emission.log_peak for emission in found) / len(found))
