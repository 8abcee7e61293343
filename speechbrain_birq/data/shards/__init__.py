"""Shards: a few large files, in lhotse's Shar format, for millions of small ones."""

from speechbrain_birq.data.shards.batches import ShardBatches
from speechbrain_birq.data.shards.convert import shard_corpus
from speechbrain_birq.data.shards.dataset import ShardDataset
from speechbrain_birq.data.shards.reader import Shards, find_shards
from speechbrain_birq.data.shards.writer import write_shards

__all__ = [
    "ShardBatches",
    "ShardDataset",
    "Shards",
    "find_shards",
    "shard_corpus",
    "write_shards",
]
