"""Shards of 12 utterances of noise, their loaders, and checks of what is read."""

import logging

import numpy as np

from speechbrain_birq.data.loaders import make_loader
from speechbrain_birq.data.manifest import Utterance
from speechbrain_birq.data.pipeline import AudioReader
from speechbrain_birq.data.shards.dataset import make_shard_dataset
from speechbrain_birq.data.shards.reader import find_shards
from speechbrain_birq.data.shards.writer import write_shards

RATE = 16000
COUNT = 12


def recording(number):
    """Return (name, samples of 16 bits) of a recording of 0.3 to 0.85 s."""
    rng = np.random.default_rng(number)
    samples = rng.integers(-9000, 9000, 4800 + 800 * number).astype(np.float32)
    return f"s-1-{number:04d}", samples / 32768


def write(folder, numbers=range(COUNT), rate=RATE):
    pairs = (
        (Utterance(name, 0, "", f"s{n % 2}", f"T {n}" if n % 3 else ""), samples)
        for n in numbers
        for name, samples in [recording(n)]
    )
    write_shards(pairs, folder, sample_rate=rate, shard_hours=1.2 / 3600)


def dataset_of(data_folder, split="train", low=0.0, high=100.0, cache_gb=0, **options):
    return make_shard_dataset(
        find_shards(data_folder, split),
        reader=AudioReader(RATE, cache_gb=cache_gb),
        min_seconds=low,
        max_seconds=high,
        **options,
    )


def loader_of(dataset, num_workers=0, batch_seconds=2.0, ranks=(0, 1), epoch=1):
    loader = make_loader(
        dataset,
        batch_seconds=batch_seconds,
        shuffle=True,
        seed=0,
        min_samples=100,
        num_workers=num_workers,
        ranks=ranks,
    )
    loader.batch_sampler.set_epoch(epoch)
    return loader


def heard(loader):
    """Read a loader; return [(name, samples)] without padding."""
    found = []
    for batch in loader:
        sizes = (batch.sig.lengths * batch.sig.data.shape[1]).round().int().tolist()
        signals = zip(batch.sig.data, sizes, strict=True)
        found += zip(batch.id, (s[:size].numpy() for s, size in signals), strict=True)
    return found


def assert_complete(found, numbers=range(COUNT)):
    """Check that every utterance was read once, with the samples that were written."""
    assert sorted(name for name, _ in found) == [recording(n)[0] for n in numbers]
    samples = dict(found)
    for number in numbers:
        name, expected = recording(number)
        assert np.array_equal(samples[name], expected)


def tar(folder, number):
    return folder / "train" / "shar" / f"recording.{number:06d}.tar"


def survivors(data_folder, caplog):
    with caplog.at_level(logging.WARNING):
        found = heard(loader_of(dataset_of(data_folder)))
    return sorted(name for name, _ in found)
