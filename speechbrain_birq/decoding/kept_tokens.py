"""Whether a fine-tuning keeps the tokens of the run that it starts from."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from speechbrain_birq.data.manifest import some_of
from speechbrain_birq.decoding.tokens import (
    SentencePieceTokens,
    Tokens,
    is_finetuned,
    load_tokens,
)

logger = logging.getLogger(__name__)


def kept_tokens(hparams: Mapping[str, Any], texts: Iterable[str]) -> Tokens | None:
    """Return the tokens of the run that ``pretrained`` names, if they spell all texts.

    The log says why they are kept or not.

    Arguments
    ---------
    hparams : mapping
        Keys of the YAML.
    texts : iterable
        Transcripts of the training split.

    Returns
    -------
    CharacterTokens or SentencePieceTokens or None
        None if the run is no fine-tuning, has tokens of another kind or number, or none
        for a letter of the texts, or if ``new_tokens`` asks for others.
    """
    run = hparams.get("pretrained")
    if run is None or not is_finetuned(run):
        return None
    tokens = load_tokens(run)
    reason = _reason(hparams, tokens, texts)
    if reason is None:
        logger.info("%d tokens of %s: they spell all training texts", len(tokens), run)
        return tokens
    logger.info("not the tokens of %s, but new ones: %s", run, reason)
    return None


def _reason(hparams, tokens, texts):
    """Why the tokens are not kept, if they are not."""
    if hparams.get("new_tokens"):
        return "new_tokens is True"
    pieces = isinstance(tokens, SentencePieceTokens)
    kind, number = "sentencepiece" if pieces else "characters", hparams["num_tokens"]
    if hparams["tokens"] != kind:
        return f"it has {kind}, and tokens is {hparams['tokens']}"
    if pieces and number != len(tokens):
        return f"it has {len(tokens)}, and num_tokens is {number}"
    unknown = set().union(*map(tokens.unknown, texts))
    if unknown:
        letters = some_of([repr(letter) for letter in sorted(unknown)], most=20)
        return f"it has none for {letters} of the training texts"
    return None
