"""Batches of shards for every rank: a function of the seed, the epoch and the index.

SpeechBrain's ``DynamicBatchSampler`` holds every batch of the epoch in Python lists and
takes minutes for millions of utterances; lhotse's samplers, reading whole shards one
after the other, give each rank and worker as much as its shards happen to hold. Here
the shards of an epoch are shuffled and cut into windows; within a window utterances of
similar lengths become batches. One window at a time is in memory.
"""

import itertools

import numpy as np
import torch

WINDOW = 16384  # utterances, about: 20 to 60 hours, many times a batch
JITTER = 0.1  # of a length, so that an utterance has other neighbours in every epoch


class ShardBatches(torch.utils.data.Sampler):
    """One rank's batches: every utterance once an epoch, as many batches as the others.

    Where the ranks would get different numbers of batches, the largest are split in
    two. (Only if there are batches of one utterance alone, some come twice.)

    Arguments
    ---------
    samples : np.ndarray
        (U,) length of every utterance in the shards.
    kept : np.ndarray
        (K,) ascending numbers of those that are used. Batches hold positions in it.
    first : np.ndarray
        (shards + 1,) number of each shard's first utterance, then U.
    max_samples : float
        In a batch, padding included; a longer utterance is a batch of its own.
    shuffle : bool
    seed : int
    ranks : tuple
        (rank, number of ranks)

    Example
    -------
    >>> samples, first = np.array([5, 5, 3, 3, 3]), np.array([0, 2, 5])
    >>> for rank in (0, 1):
    ...     list(ShardBatches(samples=samples, kept=np.arange(5), first=first,
    ...         max_samples=10, shuffle=False, seed=0, ranks=(rank, 2)))
    [[2, 3, 4]]
    [[0, 1]]
    """

    def __init__(
        self, *, samples, kept, first, max_samples, shuffle, seed, ranks=(0, 1)
    ):
        self.samples, self.kept = samples, kept
        self.bounds = np.searchsorted(kept, first)
        self.max_samples, self.shuffle, self.seed = max_samples, shuffle, seed
        self.rank, self.num_ranks = ranks
        self.epoch, self._counted = 0, (None, 0)

    def set_epoch(self, epoch):
        """Other shards together, in another order, for every epoch."""
        self.epoch = epoch

    def __len__(self):
        return -(-self._total() // self.num_ranks)

    def __iter__(self):
        return itertools.islice(self._even(), self.rank, None, self.num_ranks)

    def _even(self):
        """The batches of all ranks in turn, a multiple of their number."""
        missing, spare = -self._total() % self.num_ranks, []
        for batches in map(self._batches, self._windows()):
            whole = len(batches)
            batches = split_largest(batches, missing)
            missing -= len(batches) - whole
            spare += batches[: self.num_ranks - len(spare)]
            yield from batches
        yield from itertools.islice(itertools.cycle(spare), missing)

    def _total(self):
        """Batches of all ranks, before the split."""
        if self._counted[0] != self.epoch:
            count = sum(len(self._cut(*window)[1]) for window in self._windows())
            self._counted = self.epoch, count
        return self._counted[1]

    def _windows(self):
        """(random generator, shards) of every window."""
        order = np.arange(len(self.bounds) - 1)
        if self.shuffle:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        count = max(1, min(len(order), round(len(self.kept) / WINDOW)))
        for number, shards in enumerate(np.array_split(order, count)):
            yield np.random.default_rng([self.seed, self.epoch, number]), shards

    def _cut(self, rng, shards):
        """Positions of a window, sorted by length, and where each batch starts."""
        ranges = [np.arange(*self.bounds[[shard, shard + 1]]) for shard in shards]
        positions = np.concatenate(ranges)
        lengths = self.samples[self.kept[positions]]
        keys = lengths
        if self.shuffle:
            keys = lengths * rng.uniform(1 - JITTER, 1 + JITTER, len(lengths))
        order = np.argsort(keys, kind="stable")
        return positions[order], cut(lengths[order].tolist(), self.max_samples)

    def _batches(self, window):
        rng, shards = window
        positions, starts = self._cut(rng, shards)
        ends = [*starts[1:], len(positions)]
        batches = [positions[a:b].tolist() for a, b in zip(starts, ends, strict=True)]
        if self.shuffle:
            order = rng.permutation(len(batches))
            batches = [batches[number] for number in order]
        return batches


def cut(lengths, limit) -> list[int]:
    """Where batches start, each as large as its padded size allows.

    Arguments
    ---------
    lengths : list of int
    limit : float
        On the number of items times the longest.

    Example
    -------
    >>> cut([2, 3, 3, 9, 1], limit=9)
    [0, 3, 4]
    """
    starts, longest, size = [], 0, 0
    for number, length in enumerate(lengths):
        longest = max(longest, length)
        size += 1
        if size * longest > limit or not starts:
            starts.append(number)
            longest, size = length, 1
    return starts


def split_largest(batches, times) -> list:
    """Halve the batch with the most items so many times, if there are such.

    Example
    -------
    >>> split_largest([[1], [2, 3, 4]], 1)
    [[1], [2], [3, 4]]
    >>> split_largest([[1], [2]], 1)
    [[1], [2]]
    """
    batches = list(batches)
    for _ in range(times):
        number = max(range(len(batches)), key=lambda n: len(batches[n]), default=0)
        if not batches or len(batches[number]) < 2:
            break
        batch = batches[number]
        half = len(batch) // 2
        batches[number : number + 1] = [batch[:half], batch[half:]]
    return batches
