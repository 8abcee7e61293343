"""Turn log probabilities into texts: tokens, decoders, language models."""

from speechbrain_birq.decoding.decoders import (
    BeamDecoder,
    ErrorCounter,
    GreedyDecoder,
    Hypothesis,
    make_decoder,
)
from speechbrain_birq.decoding.ngram import estimate, write_arpa
from speechbrain_birq.decoding.tokens import (
    CharacterTokens,
    SentencePieceTokens,
    Tokens,
    load_tokens,
    make_tokens,
)
from speechbrain_birq.decoding.words import Word

__all__ = [
    "BeamDecoder",
    "CharacterTokens",
    "ErrorCounter",
    "GreedyDecoder",
    "Hypothesis",
    "SentencePieceTokens",
    "Tokens",
    "Word",
    "estimate",
    "load_tokens",
    "make_decoder",
    "make_tokens",
    "write_arpa",
]
