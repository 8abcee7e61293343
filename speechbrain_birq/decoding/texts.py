"""Tokens of a run, and whether they can spell its texts in the frames of the audio."""

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from speechbrain.utils.distributed import ddp_broadcast, run_on_main

from speechbrain_birq.checkpoints.run_folder import has_checkpoint
from speechbrain_birq.data.manifest import some_of
from speechbrain_birq.data.shards.reader import Shards
from speechbrain_birq.data.splits import Spoken, spoken, transcripts
from speechbrain_birq.decoding.kept_tokens import kept_tokens
from speechbrain_birq.decoding.tokens import (
    Tokens,
    load_tokens,
    make_tokens,
    store_tokens,
)
from speechbrain_birq.decoding.words import frames_needed
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)


def run_tokens(
    hparams: Mapping[str, Any],
    folder: Path,
    manifests: Mapping[str, Shards | Path],
    frontend: Any,
) -> Tokens:
    """Return the tokens of the run's checkpoint, or those that it starts with.

    These are the tokens of the run that ``pretrained`` names (see ``kept_tokens``), or
    new ones, made of the texts of the training split.

    All texts are checked against them. All ranks call it together: one makes the
    tokens, because sentencepiece writes a file, of which others would read a part.

    Arguments
    ---------
    hparams : mapping
        Keys of the YAML.
    folder : Path
        The run folder.
    manifests : mapping
        split -> ``Shards`` or path of a manifest
    frontend : FrontEnd

    Raises
    ------
    BadInput
        If a split has no transcripts, or texts that cannot be used.
    """
    arguments = [hparams, folder, manifests, frontend]
    return ddp_broadcast(run_on_main(_made_by_one_rank, args=arguments))


def _made_by_one_rank(hparams, folder, manifests, frontend):
    train = hparams["train_split"]
    stages = dict.fromkeys(hparams["test_splits"], "test")
    stages |= {hparams["valid_split"]: "valid", train: "train"}
    texts = {split: transcripts(manifests[split], split) for split in stages}
    if has_checkpoint(folder):
        tokens = load_tokens(folder)
    else:
        kind, number = hparams["tokens"], hparams["num_tokens"]
        kept = kept_tokens(hparams, texts[train])
        if kept is None:
            tokens = make_tokens(kind, texts[train], number, folder)
        else:
            tokens = store_tokens(kept, folder)
    for split, stage in stages.items():
        utterances = spoken(manifests[split], frontend.sample_rate)
        check_texts(tokens, split, utterances, frontend.num_frames, stage)
    return tokens


def check_texts(
    tokens: Tokens,
    split: str,
    utterances: Iterable[Spoken],
    num_frames: Callable[[int], int],
    stage: str,
) -> None:
    """Log which texts have unknown letters or too few frames.

    Arguments
    ---------
    tokens : CharacterTokens or SentencePieceTokens
    split : str
        For messages.
    utterances : iterable of Spoken
        Their samples are at the rate of ``num_frames``.
    num_frames : callable
        samples -> frames
    stage : str
        ``train``: unknown letters are refused. ``train``, ``valid``: it is refused if
        every text is too long or has no token, because there is no loss then.

    Raises
    ------
    BadInput
    """
    total, learnable, unspellable, too_long, letters = 0, 0, [], [], set()
    for name, samples, text in utterances:
        total += 1
        encoded = tokens.encode(text)
        if unknown := tokens.unknown(text):
            unspellable.append(name)
            letters |= unknown
        if frames_needed(encoded) > num_frames(samples):
            too_long.append(name)
        elif len(encoded):
            learnable += 1
    useless = stage != "test" and not learnable
    _unspellable(split, unspellable, letters, total, stage, useless)
    _too_long(split, too_long, total, useless)


def _unspellable(split, names, letters, total, stage, useless):
    if not names:
        return
    found = (
        f"{len(names)} of {total} texts of the split {split!r} have letters that are "
        f"no tokens ({some_of([repr(a) for a in sorted(letters)], most=20)}), for "
        f"example {some_of(names)}"
    )
    if stage == "train":
        raise BadInput(
            f"{found}: the tokens are those of the run's checkpoint; restore its "
            f"corpus, or give another --output_folder"
        )
    if useless:
        raise BadInput(
            f"{found}, and no text is left to compute a loss of: write it with the "
            f"letters of the training texts, such as capitals"
        )
    logger.warning("%s: these letters count as errors", found)


def _too_long(split, names, total, useless):
    if not names:
        return
    found = (
        f"{len(names)} of {total} texts of the split {split!r} have more tokens than "
        f"their audio has frames: {some_of(names)}"
    )
    if useless:
        raise BadInput(
            f"{found}: take sentencepiece tokens, a front end with a lower stack, or "
            f"other transcripts"
        )
    logger.warning("%s; the loss leaves them out", found)
