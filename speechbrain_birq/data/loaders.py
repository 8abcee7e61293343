"""Datasets to batches: similar durations together, one share for every rank."""

import signal
from collections.abc import Iterator
from typing import Any

import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataloader import SaveableDataLoader
from speechbrain.dataio.sampler import DynamicBatchSampler
from speechbrain.utils.data_utils import batch_pad_right

from speechbrain_birq.data.shards.dataset import ShardDataset

GRACE = 60  # seconds that the training has to save


class Collate:
    """Pads the readable utterances of a batch; None if there is none.

    Arguments
    ---------
    min_samples : int
        Shorter waveforms are left out; unreadable ones have no sample.
    """

    def __init__(self, min_samples: int):
        self.min_samples = min_samples

    def __call__(self, examples: list[dict[str, Any]]) -> PaddedBatch | None:
        """Pad examples to a batch."""
        good = [e for e in examples if len(e["sig"]) >= self.min_samples]
        return PaddedBatch(good, padding_func=pad_right) if good else None


def pad_right(
    tensors: list[torch.Tensor], **options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad as SpeechBrain does, but also if all are empty: it would divide by 0.

    Texts are empty if none of their letters is a token.

    Example
    -------
    >>> pad_right([torch.zeros(0), torch.zeros(0)])
    (tensor([[0.],
            [0.]]), tensor([0., 0.]))
    """
    if any(tensor.numel() for tensor in tensors):
        return batch_pad_right(tensors, **options)
    shape = (len(tensors), 1, *tensors[0].shape[1:])
    return tensors[0].new_zeros(shape), torch.zeros(len(tensors))


class RankBatches(torch.utils.data.Sampler):
    """One rank's share of a batch sampler.

    The last batch may be empty, so that every rank has as many.

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

    def __init__(self, sampler: Any, rank: int = 0, num_ranks: int = 1):
        self.sampler, self.rank, self.num_ranks = sampler, rank, num_ranks

    def __len__(self):
        return -(-len(self.sampler) // self.num_ranks)

    def __iter__(self) -> Iterator[list[int]]:
        mine = list(self.sampler)[self.rank :: self.num_ranks]
        return iter(mine + [[]] * (len(self) - len(mine)))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch: each has another order of the same batches."""
        self.sampler.set_epoch(epoch)


def make_loader(
    dataset: Any,
    *,
    batch_seconds: float,
    shuffle: bool,
    seed: int,
    min_samples: int,
    num_workers: int = 0,
    ranks: tuple[int, int] = (0, 1),
) -> SaveableDataLoader:
    """Load batches of similar durations, at most ``batch_seconds`` each with padding.

    Arguments
    ---------
    dataset : DynamicItemDataset or ShardDataset
    batch_seconds : float
        Seconds of audio in a batch; a longer utterance is a batch of its own.
    shuffle : bool
        Draw other batches in another order for every epoch.
    seed : int
        Decides the order, together with the epoch.
    min_samples : int
        Shorter waveforms are left out.
    num_workers : int
        Processes that read audio.
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
        # Only from pinned memory a copy to the GPU does not wait for the step before.
        pin_memory=torch.cuda.is_available(),
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


def outlive_signals(worker: int) -> None:
    """Keep this reading process alive when Ctrl-C or SIGTERM is sent to all processes.

    The training still needs its batches to complete a step. SIGTERM is obeyed after
    ``GRACE`` seconds, so that nothing waits forever for a worker that does not end.

    Arguments
    ---------
    worker : int
        Number of the process, from the DataLoader.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
