"""Batches of shards for every rank: a function of the seed, the epoch and the index.

SpeechBrain's ``DynamicBatchSampler`` holds every batch of the epoch in Python lists and
takes minutes for millions of utterances. lhotse's samplers read one shard after the
other and give each rank and worker as much as its shards happen to hold. Here the
shards of an epoch are shuffled and cut into windows, and within a window utterances of
similar lengths become batches. One window at a time is in memory.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch

WINDOW = 16384  # utterances, about: 20 to 60 hours, many times a batch
JITTER = 0.1  # of a length, so that an utterance has other neighbors in every epoch


class UsedUtterances:
    """The utterances that are used, in one byte for each utterance.

    Arguments
    ---------
    keep : np.ndarray
        (U,) bool.
    first : np.ndarray
        (shards + 1,) number of each shard's first utterance, then U.

    Example
    -------
    >>> keep = np.array([True, False, False, True, True])
    >>> selection = UsedUtterances(keep, first=np.array([0, 2, 5]))
    >>> len(selection), [selection.number(position) for position in range(3)]
    (3, [0, 3, 4])
    """

    def __init__(self, keep: np.ndarray, first: np.ndarray):
        self.keep, self.first = keep, first
        counts = [np.count_nonzero(keep[a:b]) for a, b in itertools.pairwise(first)]
        self.bounds = np.cumsum([0, *counts])  # position of each shard's first

    def __len__(self):
        return int(self.bounds[-1])

    def shard(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and numbers of a shard's used utterances."""
        numbers = np.flatnonzero(self.keep[slice(*self.first[[shard, shard + 1]])])
        return np.arange(*self.bounds[[shard, shard + 1]]), numbers + self.first[shard]

    def number(self, position: int) -> int:
        """Return the number of the utterance at a position of the selection."""
        shard = int(np.searchsorted(self.bounds, position, "right")) - 1
        _, numbers = self.shard(shard)
        return int(numbers[position - self.bounds[shard]])


class ShardBatches(torch.utils.data.Sampler):
    """One rank's batches: every utterance once an epoch, as many batches as the others.

    If the ranks would get different numbers of batches, the largest are split in two.
    (If all batches have one utterance, some ranks get an empty one.)

    Arguments
    ---------
    samples : np.ndarray
        (U,) length of every utterance in the shards.
    selection : UsedUtterances
        Batches hold positions in it.
    max_samples : float
        In a batch, padding included; a longer utterance is a batch of its own.
    shuffle : bool
        Draw other batches in another order for every epoch.
    seed : int
        Decides the order, together with the epoch.
    ranks : tuple
        (rank, number of ranks)

    Example
    -------
    >>> samples = np.array([5, 5, 3, 3, 3])
    >>> selection = UsedUtterances(samples > 0, first=np.array([0, 2, 5]))
    >>> for rank in (0, 1):
    ...     list(ShardBatches(samples=samples, selection=selection, max_samples=10,
    ...         shuffle=False, seed=0, ranks=(rank, 2)))
    [[2, 3, 4]]
    [[0, 1]]
    """

    def __init__(
        self,
        *,
        samples: np.ndarray,
        selection: UsedUtterances,
        max_samples: float,
        shuffle: bool,
        seed: int,
        ranks: tuple[int, int] = (0, 1),
    ):
        self.samples, self.selection = samples, selection
        self.max_samples, self.shuffle, self.seed = max_samples, shuffle, seed
        self.rank, self.num_ranks = ranks
        self.epoch = 0
        self._counted: tuple[int | None, int] = (None, 0)  # epoch, batches

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch: each has other shards together, in another order."""
        self.epoch = epoch

    def __len__(self):
        return -(-self._total() // self.num_ranks)

    def __iter__(self) -> Iterator[list[int]]:
        return itertools.islice(self._even(), self.rank, None, self.num_ranks)

    def _even(self):
        """The batches of all ranks in turn, a multiple of their number."""
        missing = -self._total() % self.num_ranks
        for batches in map(self._batches, self._windows()):
            before = len(batches)
            batches = split_largest(batches, missing)
            missing -= len(batches) - before
            yield from batches
        yield from [[]] * missing  # fewer utterances than ranks

    def _total(self):
        """Batches of all ranks, before the split."""
        if self._counted[0] != self.epoch:
            count = sum(len(self._cut(*window)[1]) for window in self._windows())
            self._counted = self.epoch, count
        return self._counted[1]

    def _windows(self):
        """(random generator, shards) of every window."""
        order = np.arange(len(self.selection.first) - 1)
        if self.shuffle:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        count = max(1, min(len(order), round(len(self.selection) / WINDOW)))
        for number, shards in enumerate(np.array_split(order, count)):
            yield np.random.default_rng([self.seed, self.epoch, number]), shards

    def _cut(self, rng, shards):
        """Positions of a window, sorted by length, and where each batch starts."""
        parts = [self.selection.shard(shard) for shard in shards]
        positions, numbers = (np.concatenate(part) for part in zip(*parts, strict=True))
        lengths = self.samples[numbers]
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


def cut(lengths: Sequence[int], limit: float) -> list[int]:
    """Find where batches start, each as large as its padded size allows.

    Arguments
    ---------
    lengths : sequence of int
        Lengths of the items, in the order of the batches.
    limit : float
        On the number of items times the longest.

    Example
    -------
    >>> cut([2, 3, 3, 9, 1], limit=9)
    [0, 3, 4]
    """
    starts: list[int] = []
    longest = size = 0
    for number, length in enumerate(lengths):
        longest = max(longest, length)
        size += 1
        if size * longest > limit or not starts:
            starts.append(number)
            longest, size = length, 1
    return starts


def split_largest(batches: Sequence[list[int]], times: int) -> list[list[int]]:
    """Halve the batch with the most items so many times, as long as it has two.

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
