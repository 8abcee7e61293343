"""A run's tokens as SpeechBrain's tokenizers, and the files that these load."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
from speechbrain.dataio.encoder import CTCTextEncoder

from speechbrain_birq.checkpoints import files
from speechbrain_birq.decoding.tokens import BLANK, SentencePieceTokens, Tokens

CONTROL = 3  # sentencepiece's type of a piece that stands for no text


class CharacterTokenizer(CTCTextEncoder):
    """SpeechBrain's encoder of characters, with single spaces between words.

    Example
    -------
    >>> tokenizer = CharacterTokenizer()
    >>> for label in " AB":
    ...     _ = tokenizer.add_label(label)
    >>> "".join(tokenizer.decode_ndim([0, 1, 0, 0, 2]))
    'A B'
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ignore_len()  # otherwise a warning asks for the number of tokens

    def decode_ndim(self, x: Any) -> Any:
        """Return the characters of token numbers."""
        decoded = super().decode_ndim(x)
        if isinstance(decoded, list) and all(isinstance(c, str) for c in decoded):
            return list(_single_spaced("".join(decoded)))
        return decoded


class SentencePieceTokenizer(sentencepiece.SentencePieceProcessor):
    """A sentencepiece model, with single spaces between words."""

    def decode_ids(self, input: Sequence[int]) -> str:  # type: ignore[override]
        """Return the text of token numbers."""
        return _single_spaced(super().decode_ids([int(n) for n in input]))


def _single_spaced(text):
    return " ".join(text.split())


def tokenizer_class(tokens: Tokens) -> type:
    """Return the class that loads what ``save_tokenizer`` writes."""
    pieces = isinstance(tokens, SentencePieceTokens)
    return SentencePieceTokenizer if pieces else CharacterTokenizer


def save_tokenizer(tokens: Tokens, path: str | Path) -> None:
    """Write tokens for SpeechBrain; the numbers are those of the output layer.

    Arguments
    ---------
    tokens : CharacterTokens or SentencePieceTokens
    path : str or Path
        A file that the tokenizer's class, or the class of SpeechBrain or sentencepiece
        below it, loads.
    """
    if isinstance(tokens, SentencePieceTokens):
        files.write(path, with_blank(tokens.model.serialized_model_proto()))
        return
    encoder = CTCTextEncoder()
    encoder.insert_blank(BLANK, index=0)
    for token in tokens.vocabulary[1:]:
        encoder.add_label(token)
    encoder.save(str(path))


def with_blank(model: bytes) -> bytes:
    """Insert a piece ``<blank>`` before all others of a sentencepiece model.

    Piece n of the run becomes number n + 1, as in its output layer. A model is a
    protocol buffer, in which the pieces are the repeated field 1: what is written first
    comes first.

    Arguments
    ---------
    model : bytes
        A serialized model.
    """
    text = BLANK.encode()
    piece = b"\x0a" + bytes([len(text)]) + text + b"\x18" + bytes([CONTROL])
    return b"\x0a" + bytes([len(piece)]) + piece + model
