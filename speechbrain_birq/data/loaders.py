"""Datasets to batches: similar durations together, one share for every rank."""

import signal

import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataloader import SaveableDataLoader
from speechbrain.dataio.sampler import DynamicBatchSampler

from speechbrain_birq.data.shards.dataset import ShardDataset

GRACE = 60  # seconds for the training to save


class Collate:
    """Pads the readable utterances of a batch; None if there is none.

    Arguments
    ---------
    min_samples : int
        Shorter waveforms (unreadable ones have no sample) are left out.
    """

    def __init__(self, min_samples):
        self.min_samples = min_samples

    def __call__(self, examples):
        """list of dict -> PaddedBatch or None"""
        good = [e for e in examples if len(e["sig"]) >= self.min_samples]
        return PaddedBatch(good) if good else None


class RankBatches(torch.utils.data.Sampler):
    """One rank's share of a batch sampler; the last one may be empty, to even out.

    Arguments
    ---------
    sampler : DynamicBatchSampler
        The same on every rank.
    rank, num_ranks : int

    Example
    -------
    >>> [list(RankBatches([[0], [1], [2]], rank, 2)) for rank in (0, 1)]
    [[[0], [2]], [[1], []]]
    """

    def __init__(self, sampler, rank=0, num_ranks=1):
        self.sampler, self.rank, self.num_ranks = sampler, rank, num_ranks

    def __len__(self):
        return -(-len(self.sampler) // self.num_ranks)

    def __iter__(self):
        mine = list(self.sampler)[self.rank :: self.num_ranks]
        return iter(mine + [[]] * (len(self) - len(mine)))

    def set_epoch(self, epoch):
        """Another order of the same batches for every epoch."""
        self.sampler.set_epoch(epoch)


def make_loader(
    dataset, *, batch_seconds, shuffle, seed, min_samples, num_workers=0, ranks=(0, 1)
) -> SaveableDataLoader:
    """Batches of similar durations, at most ``batch_seconds`` each with padding.

    Arguments
    ---------
    dataset : DynamicItemDataset or ShardDataset
    batch_seconds : float
        Seconds of audio in a batch; a longer utterance is a batch of its own.
    shuffle : bool
    seed : int
        Of the order, together with the epoch.
    min_samples : int
        See ``Collate``.
    num_workers : int
        Processes that read.
    ranks : tuple
        (rank, number of ranks).

    Returns
    -------
    SaveableDataLoader
        Its ``batch_sampler`` has ``set_epoch``.
    """
    return SaveableDataLoader(
        dataset,
        batch_sampler=_batches(dataset, batch_seconds, shuffle, seed, ranks),
        collate_fn=Collate(min_samples),
        num_workers=num_workers,
        worker_init_fn=outlive_signals,
        generator=torch.Generator().manual_seed(seed),
    )


def _batches(dataset, batch_seconds, shuffle, seed, ranks):
    if isinstance(dataset, ShardDataset):
        return dataset.batches(
            batch_seconds=batch_seconds, shuffle=shuffle, seed=seed, ranks=ranks
        )
    sampler = DynamicBatchSampler(
        dataset,
        max_batch_length=batch_seconds,
        num_buckets=20,
        shuffle=shuffle,
        batch_ordering="random" if shuffle else "ascending",
        seed=seed,
    )
    return RankBatches(sampler, *ranks)


def outlive_signals(worker) -> None:
    """Let Ctrl-C and SIGTERM, sent to all processes at once, not end this one first.

    The training still needs its batches to complete a step. SIGTERM is obeyed after
    ``GRACE`` seconds: nothing waits forever for a worker that does not end.

    Arguments
    ---------
    worker : int
        Its number, which the DataLoader gives.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
