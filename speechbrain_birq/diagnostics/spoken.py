"""Find what is spoken in each frame: exact phones, or tokens by forced alignment."""

import logging
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from speechbrain_birq.checkpoints.published import find_run
from speechbrain_birq.checkpoints.recovery import read_checkpoint
from speechbrain_birq.checkpoints.run_folder import best_checkpoint, read_stored
from speechbrain_birq.data.manifest import Utterance
from speechbrain_birq.data.texts import TextCleaning
from speechbrain_birq.decoding.words import aligned_path
from speechbrain_birq.diagnostics.phones import (
    Interval,
    phones_of_frames,
    read_phones,
)
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import Recogniser
from speechbrain_birq.models.frontend import FrontEnd

logger = logging.getLogger(__name__)


class Truth(NamedTuple):
    """What is spoken in each frame."""

    numbers: list[torch.Tensor]  # (T,) int64 of each utterance
    names: list[str]  # of the numbers


class ExactPhones:
    """Exact times of the phones of a minispeech split.

    Arguments
    ---------
    folder : str or Path
        The split.

    Raises
    ------
    BadInput
        If it holds no phones.
    """

    unit = "phone"
    cer = None  # nothing was recognized

    def __init__(self, folder: str | Path) -> None:
        try:
            times = read_phones(folder)
        except BadInput as error:
            raise BadInput(
                f"no phones in {folder}: give a fine-tuned run with --alignment, whose "
                f"tokens are aligned with the audio, or a corpus of `birq minispeech`"
            ) from error
        self.times = {path.stem: intervals for path, intervals in times.items()}

    def __call__(self, utterance: Utterance) -> list[Interval] | None:
        """Return the times of an utterance's phones; None if they are unknown."""
        return self.times.get(utterance.ID)


class AlignedTokens:
    """Times of the transcript's tokens, aligned by a fine-tuned run.

    Arguments
    ---------
    run_folder : str or Path
        Run folder of a fine-tuning.
    trust : iterable
        Further packages whose classes the run may build.

    Raises
    ------
    BadInput
        If the run cannot be used.
    """

    def __init__(self, run_folder: str | Path, *, trust: Iterable[str] = ()) -> None:
        self.recogniser = Recogniser(run_folder, trust=trust)
        path = find_run(run_folder) / "hyperparams.yaml"
        settings = read_stored(path).scalars() if path.is_file() else {}
        self.cleaning = TextCleaning.of(settings)
        meta = read_checkpoint(best_checkpoint(run_folder)).meta
        self.cer = meta.get("cer")  # on the validation split of that run
        one = (len(token) == 1 for token in self.recogniser.tokens.vocabulary[1:])
        self.unit = "character" if all(one) else "subword"

    def __call__(self, utterance: Utterance) -> list[Interval] | None:
        """Return the times of the tokens; None without a path, or of other letters."""
        tokens = self.recogniser.tokens
        text = self.cleaning(utterance.text)
        unknown = tokens.unknown(text)
        if 2 * sum(letter in unknown for letter in text) > len(text.replace(" ", "")):
            return None  # of another alphabet
        targets = tokens.encode(text)
        try:
            found = self.recogniser.log_probs(utterance.wav)
        except BadInput as error:
            logger.warning("left out: %s", error)
            return None
        path = aligned_path(found.log_probs[0], targets)
        if path is None or not len(targets):
            return None
        return token_times(path.tolist(), tokens.vocabulary, self.recogniser.frontend)


def token_times(
    path: Sequence[int], vocabulary: Sequence[str], frontend: FrontEnd
) -> list[Interval]:
    """Return an interval for each frame from the first token to the last one.

    CTC gives a token few frames. A blank between two tokens therefore counts as the
    nearer of them, or as the earlier one if both are equally near.

    Arguments
    ---------
    path : sequence
        Token number of each frame; 0 is the blank.
    vocabulary : sequence
        Tokens by their numbers.
    frontend : FrontEnd
        The front end of the run that aligned.
    """
    named = [index for index, token in enumerate(path) if token]
    seconds = frontend.frame_ms / 1000
    shift = seconds / frontend.stack / 2  # the first frame is centered on sample 0
    found = []
    for index in range(named[0], named[-1] + 1):
        times = index * seconds - shift, (index + 1) * seconds - shift
        after = bisect_left(named, index)
        around = named[max(0, after - 1) : after + 1]
        nearest = min(around, key=lambda other: (abs(other - index), other))
        found.append(Interval(*times, vocabulary[path[nearest]]))
    return found


def frames_of(
    spoken: Mapping[str, Sequence[Interval]],
    utterances: Sequence[str],
    num_frames: Sequence[int],
    frontend: FrontEnd,
) -> Truth:
    """Number what is spoken in each frame; 0 is silence.

    Arguments
    ---------
    spoken : mapping
        utterance -> intervals
    utterances : sequence
        The utterances in the order of the result.
    num_frames : sequence
        T of each of them.
    frontend : FrontEnd
        The front end of the run that labels.
    """
    symbols = {i.phone for name in utterances for i in spoken[name]}
    names = ["silence", *sorted(symbols)]
    numbers = {name: number for number, name in enumerate(names[1:], 1)}
    hop_ms = frontend.frame_ms / frontend.stack
    found = []
    for utterance, length in zip(utterances, num_frames, strict=True):
        phones = phones_of_frames(spoken[utterance], length, frontend.frame_ms, hop_ms)
        found.append(torch.tensor([numbers[p] if p else 0 for p in phones]))
    return Truth(found, names)


def make_spoken(
    data_folder: str | Path,
    split: str,
    alignment: str | Path | None = None,
    trust: Iterable[str] = (),
) -> ExactPhones | AlignedTokens:
    """Return exact phones, or the tokens that a fine-tuned run aligns.

    Arguments
    ---------
    data_folder : str or Path
    split : str
    alignment : str or Path, optional
        Run folder of the fine-tuning.
    trust : iterable
        Further packages whose classes that run may build.

    Raises
    ------
    BadInput
        If the run cannot be used, or the split has no phones.
    """
    if alignment is not None:
        return AlignedTokens(alignment, trust=trust)
    return ExactPhones(Path(data_folder) / split)
