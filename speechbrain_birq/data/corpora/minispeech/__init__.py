"""minispeech: a small corpus of synthetic English speech with exact phones."""

from speechbrain_birq.data.corpora.minispeech.corpus import make_minispeech

__all__ = [
    "make_minispeech",
]
