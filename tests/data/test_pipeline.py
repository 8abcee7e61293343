"""Pipeline: reading, filtering, masks, collation, shares of ranks, batches."""

import logging

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechbrain_birq.data.corpora.librispeech import prepare_librispeech
from speechbrain_birq.data.loaders import Collate, RankBatches, make_loader
from speechbrain_birq.data.manifest import Utterance, write_manifest
from speechbrain_birq.data.pipeline import AudioReader, MaskItem, make_dataset
from speechbrain_birq.errors import BadInput
from speechbrain_birq.models.frontend import FrontEnd
from speechbrain_birq.models.masking import SpanMasking

RATE = 16000


def write(path, samples, rate=RATE, subtype="PCM_16"):
    soundfile.write(path, samples, rate, subtype=subtype)
    return str(path)


def wave(num_samples, rate=RATE, frequency=440):
    return 0.3 * np.sin(2 * np.pi * frequency * np.arange(num_samples) / rate)


# Reading


@pytest.mark.parametrize("suffix", ["flac", "wav"])
def test_a_file_is_read_as_it_was_written(tmp_path, suffix):
    samples = wave(4000)
    signal = AudioReader(RATE)(write(tmp_path / f"a.{suffix}", samples))
    assert signal.dtype == torch.float32
    torch.testing.assert_close(
        signal, torch.from_numpy(samples).float(), rtol=0, atol=1 / 32768
    )


def test_stereo_becomes_the_mean_of_its_channels(tmp_path):
    left, right = wave(4000), wave(4000, frequency=700)
    path = write(tmp_path / "a.wav", np.stack([left, right], 1))
    expected = torch.from_numpy((left + right) / 2).float()
    torch.testing.assert_close(AudioReader(RATE)(path), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_another_rate_is_resampled(tmp_path, rate):
    path = write(tmp_path / "a.wav", wave(rate // 2, rate), rate)
    signal = AudioReader(RATE)(path)
    assert len(signal) == RATE // 2
    middle = slice(1000, -1000)
    expected = torch.from_numpy(wave(RATE // 2)).float()
    torch.testing.assert_close(signal[middle], expected[middle], rtol=0, atol=0.01)


@pytest.mark.parametrize("content", [None, b"", b"this is no audio"])
def test_an_unreadable_file_is_empty_and_named_once(tmp_path, caplog, content):
    path = tmp_path / "bad.flac"
    if content is not None:
        path.write_bytes(content)
    reader = AudioReader(RATE)
    with caplog.at_level(logging.WARNING):
        signals = [reader(str(path)) for _ in range(3)]
    assert [s.shape for s in signals] == [(0,)] * 3
    assert caplog.text.count("bad.flac: unreadable") == 1


def test_the_cache_returns_the_same_values(tmp_path):
    for name, rate, subtype in (("a", RATE, "PCM_16"), ("b", 8000, "FLOAT")):
        reader = AudioReader(RATE, cache_gb=0.01)
        path = write(tmp_path / f"{name}.wav", wave(4000, rate), rate, subtype)
        first, again = reader(path), reader(path)
        assert len(reader.cache) == 1
        assert again.dtype == first.dtype
        torch.testing.assert_close(again, first, rtol=0, atol=1 / 32768)


def test_sixteen_bit_audio_comes_from_the_cache_unchanged(tmp_path):
    path = write(tmp_path / "a.flac", wave(4000))
    reader = AudioReader(RATE, cache_gb=0.01)
    assert torch.equal(reader(path), reader(path))


def test_the_cache_does_not_read_again(tmp_path):
    path = write(tmp_path / "a.wav", wave(4000))
    reader = AudioReader(RATE, cache_gb=0.01)
    reader(path)
    (tmp_path / "a.wav").unlink()
    assert len(reader(path)) == 4000


def test_what_the_cache_returns_may_be_changed(tmp_path):
    path = write(tmp_path / "a.wav", wave(4000))
    reader = AudioReader(RATE, cache_gb=0.01)
    expected = reader(path).clone()
    reader(path).zero_()
    assert torch.equal(reader(path), expected)


def test_the_cache_keeps_to_its_budget(tmp_path):
    paths = [write(tmp_path / f"{i}.wav", wave(4000)) for i in range(5)]
    reader = AudioReader(RATE, cache_gb=20_000 / 2**30)  # 2.5 files of 8,000 bytes
    for path in paths:
        reader(path)
    assert set(reader.cache) == set(paths[:2])
    assert sum(stored.nbytes for stored in reader.cache.values()) <= 20_000


def test_without_a_budget_nothing_is_kept(tmp_path):
    reader = AudioReader(RATE)
    reader(write(tmp_path / "a.wav", wave(4000)))
    assert reader.cache == {}


# Datasets


@pytest.fixture
def manifest(corpus, tmp_path):
    return prepare_librispeech(corpus, ["train"], tmp_path / "manifests")["train"]


def dataset_of(manifest, low=0.0, high=100.0, **options):
    return make_dataset(
        manifest,
        reader=AudioReader(RATE),
        min_seconds=low,
        max_seconds=high,
        **options,
    )


def test_a_dataset_holds_every_utterance_at_its_length(manifest):
    items = list(dataset_of(manifest))
    lengths = [round(len(item["sig"]) / RATE, 3) for item in items]
    assert lengths == [0.8, 1.0, 1.2, 1.5, 1.7, 2.0]
    assert items[0]["id"] == "11-1-0000"


def test_short_and_long_utterances_are_left_out_and_counted(manifest, caplog):
    with caplog.at_level(logging.WARNING):
        items = list(dataset_of(manifest, 1.0, 1.6))
    assert [item["id"] for item in items] == ["11-1-0001", "12-1-0000", "12-1-0001"]
    assert "left out 3 of 6 utterances" in caplog.text


@pytest.mark.parametrize(("needs_text", "ids"), [(True, ["b"]), (False, ["a", "b"])])
def test_utterances_without_text_are_left_out_where_text_is_needed(
    tmp_path, needs_text, ids
):
    rows = [
        Utterance("a", 1.0, "a.wav", "s", ""),
        Utterance("b", 1.0, "b.wav", "s", "B"),
    ]
    path = write_manifest(tmp_path / "a.csv", rows)
    assert dataset_of(path, needs_text=needs_text).data_ids == ids


@pytest.mark.parametrize(
    ("limits", "needs_text"), [((5, 9), False), ((0, 0.1), False), ((0, 9), True)]
)
def test_nothing_left_is_refused(tmp_path, limits, needs_text):
    rows = [Utterance(name, 1.0, "x.wav", "s", "") for name in "abc"]
    path = write_manifest(tmp_path / "a.csv", rows)
    with pytest.raises(BadInput, match=r"no utterance of .* is left: all 3"):
        dataset_of(path, *limits, needs_text=needs_text)


def test_an_empty_manifest_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no utterance"):
        dataset_of(write_manifest(tmp_path / "a.csv", []))


def test_further_items_are_provided(manifest):
    item = (lambda text: len(text.split()), "text", "words")
    assert next(iter(dataset_of(manifest, items=[item])))["words"] == 3


# Masks


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 5000), st.integers(1, 4))
def test_a_mask_has_a_value_for_each_frame_of_the_front_end(samples, stack):
    frontend = FrontEnd(n_mels=10, stack=stack)
    item = MaskItem(frontend, SpanMasking(frame_ms=frontend.frame_ms))
    mask = item(torch.zeros(samples), "a")
    assert mask.shape == (frontend.num_frames(samples),)


def test_a_mask_follows_the_shared_epoch():
    epoch = torch.zeros((), dtype=torch.long).share_memory_()
    masking = SpanMasking(mask_prob=0.1, mask_length_ms=60)
    item = MaskItem(FrontEnd(), masking, epoch)
    signal = torch.zeros(5 * RATE)
    masks = []
    for number in (0, 1, 2):
        epoch.fill_(number)
        masks.append(item(signal, "a"))
        assert torch.equal(masks[-1], masking(len(masks[-1]), "a", number))
    assert not torch.equal(masks[0], masks[1])


def test_without_an_epoch_masks_are_those_of_epoch_zero():
    masking = SpanMasking(mask_prob=0.1)
    mask = MaskItem(FrontEnd(), masking)(torch.zeros(RATE), "a")
    assert torch.equal(mask, masking(len(mask), "a", 0))


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
    shared = torch.zeros((), dtype=torch.long).share_memory_()
    frontend = FrontEnd(n_mels=10)
    mask = MaskItem(frontend, SpanMasking(mask_prob=0.1, mask_length_ms=60), shared)
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
    shared.fill_(epoch)
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
