"""YODAS: a seeded subset of its English speech, downloaded and kept as shards."""

from speechbrain_birq.data.corpora.yodas.prepare import find_yodas, prepare_yodas

__all__ = [
    "find_yodas",
    "prepare_yodas",
]
