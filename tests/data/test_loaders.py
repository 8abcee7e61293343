"""Batches: padded, of similar lengths, shared out over the ranks, equal on resume."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechbrain_birq.data.corpora.librispeech import prepare_librispeech
from speechbrain_birq.data.loaders import Collate, RankBatches, make_loader
from speechbrain_birq.data.manifest import Utterance, write_manifest
from speechbrain_birq.data.pipeline import AudioReader, MaskItem, make_dataset
from speechbrain_birq.models.frontend import FrontEnd
from speechbrain_birq.models.masking import SpanMasking

RATE = 16000


@pytest.fixture
def manifest(corpus, tmp_path):
    return prepare_librispeech(corpus, ["train"], tmp_path / "manifests")["train"]


def dataset_of(manifest, **options):
    reader = AudioReader(RATE)
    return make_dataset(
        manifest, reader=reader, min_seconds=0, max_seconds=100, **options
    )


# Collation


def example(samples, name="a"):
    return {"id": name, "sig": torch.ones(samples)}


def test_a_batch_is_padded_on_the_right():
    batch = Collate(1)([example(4), example(2, "b")])
    assert batch.id == ["a", "b"]
    assert batch.sig.data.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch.sig.lengths.tolist() == [1, 0.5]


def test_unreadable_and_short_utterances_are_dropped():
    batch = Collate(3)([example(0, "a"), example(3, "b"), example(2, "c")])
    assert batch.id == ["b"]


@pytest.mark.parametrize("examples", [[], [example(0)], [example(0), example(1)]])
def test_a_batch_without_readable_utterances_is_none(examples):
    assert Collate(2)(examples) is None


def test_batches_are_pinned_where_there_is_a_gpu(manifest, monkeypatch):
    for available in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=available: found)
        loader = make_loader(
            dataset_of(manifest), batch_seconds=5, shuffle=False, seed=0, min_samples=1
        )
        assert loader.pin_memory is available


# Ranks


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9))
def test_ranks_share_all_batches_evenly(num_batches, num_ranks):
    batches = [[i] for i in range(num_batches)]
    shares = [list(RankBatches(batches, r, num_ranks)) for r in range(num_ranks)]
    lengths = {len(share) for share in shares}
    assert lengths == {len(RankBatches(batches, 0, num_ranks))}
    covered = [number for share in shares for batch in share for number in batch]
    assert sorted(covered) == list(range(num_batches))


def test_a_single_process_has_every_batch_once():
    batches = [[0], [1, 2], [3]]
    assert list(RankBatches(batches)) == batches


# Batches


def durations_dataset(folder, durations):
    """A dataset of utterances that nobody reads."""
    rows = [
        Utterance(f"u{i}", seconds, "unread.wav", "s", "T")
        for i, seconds in enumerate(durations)
    ]
    return dataset_of(write_manifest(folder / "d.csv", rows))


def batches_of(dataset, batch_seconds=20.0, *, seed=0, epoch=0, shuffle=True):
    loader = make_loader(
        dataset, batch_seconds=batch_seconds, shuffle=shuffle, seed=seed, min_samples=1
    )
    loader.batch_sampler.set_epoch(epoch)
    return list(loader.batch_sampler)


SECONDS = st.floats(0.3, 12, allow_nan=False).map(lambda s: round(s, 3))


@settings(max_examples=30, deadline=None)
@given(st.lists(SECONDS, min_size=1, max_size=60), st.booleans(), st.floats(12, 60))
def test_batches_keep_under_their_seconds_with_padding(
    tmp_path_factory, durations, shuffle, batch_seconds
):
    dataset = durations_dataset(tmp_path_factory.mktemp("d"), durations)
    batches = batches_of(dataset, batch_seconds, shuffle=shuffle)
    assert sorted(i for batch in batches for i in batch) == list(range(len(durations)))
    for batch in batches:
        padded = len(batch) * max(durations[i] for i in batch)
        assert len(batch) == 1 or padded <= batch_seconds + 1e-6


@pytest.mark.parametrize("batch_seconds", [4.0, 9.999, 10.0])
def test_an_utterance_longer_than_a_batch_is_a_batch_of_its_own(
    tmp_path, batch_seconds
):
    dataset = durations_dataset(tmp_path, [1.0, 10.0, 1.2, 10.0, 1.1])
    batches = batches_of(dataset, batch_seconds)
    assert [1] in batches
    assert [3] in batches
    assert sorted(i for batch in batches for i in batch) == [0, 1, 2, 3, 4]


@pytest.fixture
def many(tmp_path):
    rng = np.random.default_rng(0)
    return durations_dataset(tmp_path, rng.uniform(1, 9, 60).round(2).tolist())


def test_another_epoch_has_other_batches(many):
    assert batches_of(many, epoch=1) != batches_of(many, epoch=2)


def test_another_seed_has_other_batches(many):
    assert batches_of(many, seed=0) != batches_of(many, seed=50)


def test_the_same_seed_and_epoch_have_the_same_batches(many):
    """However many epochs came before: a resumed run sees the batches it would have."""
    loader = make_loader(many, batch_seconds=20, shuffle=True, seed=3, min_samples=1)
    for epoch in range(4):
        loader.batch_sampler.set_epoch(epoch)
        seen = list(loader.batch_sampler)
        assert seen == batches_of(many, seed=3, epoch=epoch)


def test_the_number_of_batches_is_the_same_in_every_epoch(many):
    assert len({len(batches_of(many, epoch=epoch)) for epoch in range(5)}) == 1


def test_without_shuffling_every_epoch_is_the_same(many):
    first = batches_of(many, shuffle=False, epoch=0)
    assert batches_of(many, shuffle=False, epoch=3) == first


def test_ranks_see_different_batches_of_the_same_order(many):
    whole = batches_of(many, epoch=2)
    shares = []
    for rank in (0, 1):
        loader = make_loader(
            many,
            batch_seconds=20,
            shuffle=True,
            seed=0,
            min_samples=1,
            ranks=(rank, 2),
        )
        loader.batch_sampler.set_epoch(2)
        shares.append(list(loader.batch_sampler))
    assert shares[0] == whole[0::2]
    assert shares[1][: len(whole) // 2] == whole[1::2]


def loaded(manifest, num_workers, epoch=1, ranks=(0, 1)):
    """id -> (samples, masked frames) of one epoch."""
    frontend = FrontEnd(n_mels=10)
    mask = MaskItem(frontend, SpanMasking(mask_prob=0.1, mask_length_ms=60))
    dataset = dataset_of(manifest, items=[(mask, ["sig", "id"], "mask")])
    loader = make_loader(
        dataset,
        batch_seconds=4,
        shuffle=True,
        seed=0,
        min_samples=RATE // 10,
        num_workers=num_workers,
        ranks=ranks,
    )
    loader.batch_sampler.set_epoch(epoch)
    mask.set_epoch(epoch)
    found = {}
    for batch in filter(None, loader):
        sizes = (batch.sig.lengths * batch.sig.data.shape[1]).round().int().tolist()
        for name, size, masked in zip(batch.id, sizes, batch.mask.data, strict=True):
            found[name] = size, masked.nonzero().flatten().tolist()
    return found


def test_a_loader_gives_every_utterance_with_its_mask(manifest):
    found = loaded(manifest, 0)
    assert len(found) == 6
    assert {name: size for name, (size, _) in found.items()}["13-1-0000"] == 27200
    assert all(masked for _, masked in found.values())


def test_a_worker_gives_the_same_batches_and_masks(manifest):
    assert loaded(manifest, 1) == loaded(manifest, 0)


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_an_utterance_has_the_same_mask_on_whichever_rank(manifest, num_ranks):
    found = {}
    for rank in range(num_ranks):
        share = loaded(manifest, 0, ranks=(rank, num_ranks))
        assert not share.keys() & found.keys()
        found |= share
    assert found == loaded(manifest, 0)


def test_masks_of_a_worker_follow_the_epoch(manifest):
    assert loaded(manifest, 1, epoch=2) != loaded(manifest, 0, epoch=1)
