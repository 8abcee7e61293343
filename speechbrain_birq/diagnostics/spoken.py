"""What is spoken in each frame: exact phones, or characters by forced alignment."""

from bisect import bisect_left
from pathlib import Path

import torch
from torchaudio.functional import forced_align

from speechbrain_birq.diagnostics.phones import (
    Interval,
    phones_of_frames,
    read_phones,
)
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import Recogniser


class ExactPhones:
    """The phones of a minispeech split.

    Arguments
    ---------
    folder : str or Path
        The split.

    Raises
    ------
    BadInput
        If no phones lie there.
    """

    unit = "phone"

    def __init__(self, folder):
        try:
            times = read_phones(folder)
        except BadInput as error:
            raise BadInput(
                f"no phones in {folder}: give a fine-tuned run with --alignment, whose "
                f"tokens are aligned with the audio, or a corpus of `birq minispeech`"
            ) from error
        self.times = {path.stem: intervals for path, intervals in times.items()}

    def __call__(self, utterance) -> list[Interval] | None:
        """Times of an ``Utterance``'s phones; None if they are unknown."""
        return self.times.get(utterance.ID)


class AlignedTokens:
    """The transcript's tokens, where a fine-tuned run would best have them.

    Arguments
    ---------
    run_folder : str or Path
        Of a fine-tuning.
    trust : tuple

    Raises
    ------
    BadInput
        If the run cannot be used.
    """

    def __init__(self, run_folder, trust=()):
        self.recogniser = Recogniser(run_folder, trust=trust)
        one = (len(token) == 1 for token in self.recogniser.tokens.vocabulary[1:])
        self.unit = "character" if all(one) else "subword"

    def __call__(self, utterance) -> list[Interval] | None:
        """Times of an ``Utterance``'s tokens; None if it has no text or too much."""
        tokens = self.recogniser.tokens
        targets = tokens.encode(utterance.text)
        log_probs = self.recogniser.log_probs(utterance.wav).log_probs
        repeats = (targets[1:] == targets[:-1]).sum()
        if not 0 < len(targets) <= log_probs.shape[1] - repeats:
            return None
        path = forced_align(log_probs, targets[None].int(), blank=0)[0][0]
        return token_times(path.tolist(), tokens.vocabulary, self.recogniser.frontend)


def token_times(path, vocabulary, frontend) -> list[Interval]:
    """An interval for each frame between the first token and the last one.

    CTC names a token in few of its frames: a blank between two tokens counts as the
    nearer of them, the earlier one if both are as near.

    Arguments
    ---------
    path : list
        Token of each frame, 0 = blank.
    vocabulary : list
    frontend : FrontEnd
        Of the run that aligned.
    """
    named = [index for index, token in enumerate(path) if token]
    seconds = frontend.frame_ms / 1000
    shift = seconds / frontend.stack / 2  # the first frame is centred on sample 0
    found = []
    for index in range(named[0], named[-1] + 1):
        times = index * seconds - shift, (index + 1) * seconds - shift
        after = bisect_left(named, index)
        around = named[max(0, after - 1) : after + 1]
        nearest = min(around, key=lambda other: (abs(other - index), other))
        found.append(Interval(*times, vocabulary[path[nearest]]))
    return found


def frames_of(spoken, utterances, num_frames, frontend):
    """Numbers of what is spoken, 0 being silence, and their names.

    Arguments
    ---------
    spoken : dict
        utterance -> list of ``Interval``
    utterances : list
        In the wanted order.
    num_frames : list
        Of each.
    frontend : FrontEnd
        Of the run that labels.

    Returns
    -------
    list, list
        (T,) int64 for each utterance; names.
    """
    symbols = {i.phone for name in utterances for i in spoken[name]}
    names = ["silence", *sorted(symbols)]
    numbers = {name: number for number, name in enumerate(names[1:], 1)}
    hop_ms = frontend.frame_ms / frontend.stack
    found = []
    for utterance, length in zip(utterances, num_frames, strict=True):
        phones = phones_of_frames(spoken[utterance], length, frontend.frame_ms, hop_ms)
        found.append(torch.tensor([numbers.get(phone, 0) for phone in phones]))
    return found, names


def make_spoken(data_folder, split, alignment=None, trust=()):
    """Exact phones, or what ``alignment`` (a fine-tuned run) finds."""
    if alignment is not None:
        return AlignedTokens(alignment, trust)
    return ExactPhones(Path(data_folder) / split)
