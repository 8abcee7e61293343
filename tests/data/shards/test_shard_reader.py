"""Reading shards: what was written comes back, once, wherever it lies."""

import logging

import fsspec
import numpy as np
import pytest
import torch
from small_shards import (
    COUNT,
    assert_complete,
    dataset_of,
    heard,
    loader_of,
    recording,
    write,
)

from speechbrain_birq.data.pipeline import MaskItem
from speechbrain_birq.data.shards.reader import Shards, find_shards
from speechbrain_birq.data.texts import TextCleaning
from speechbrain_birq.errors import BadInput
from speechbrain_birq.models.frontend import FrontEnd
from speechbrain_birq.models.masking import SpanMasking

# The same from everywhere


def test_a_folder_of_shards_is_found_and_one_of_files_is_not(shards, tmp_path):
    assert len(find_shards(shards, "train")) == COUNT
    (tmp_path / "data" / "files").mkdir()
    assert find_shards(shards, "files") is None


def test_items_are_what_was_written(shards):
    dataset = dataset_of(shards)
    dataset.set_output_keys(["id", "sig", "speaker", "text"])
    assert len(dataset) == COUNT
    for number in range(COUNT):
        item, (name, samples) = dataset[number], recording(number)
        assert (item["id"], item["speaker"]) == (name, f"s{number % 2}")
        assert item["text"] == (f"T {number}" if number % 3 else "")
        assert np.array_equal(item["sig"].numpy(), samples)


def test_joined_splits_are_read_one_after_the_other(shards):
    write(shards / "more", range(20, 23))
    dataset = dataset_of(shards, "train+more")
    names = [dataset[number]["id"] for number in range(len(dataset))]
    assert names == [recording(n)[0] for n in [*range(COUNT), 20, 21, 22]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_gives_every_utterance_once(shards, num_workers):
    assert_complete(heard(loader_of(dataset_of(shards), num_workers)))


def test_two_ranks_with_two_workers_give_every_utterance_once(shards):
    found = []
    for rank in (0, 1):
        found += heard(loader_of(dataset_of(shards), 2, ranks=(rank, 2)))
    assert_complete(found)


def test_shards_are_read_from_an_object_store(shards):
    """fsspec's store in memory stands for s3:// and the like."""
    store = fsspec.filesystem("memory")
    store.put(str(shards), "/bucket", recursive=True)
    assert_complete(heard(loader_of(dataset_of("memory://bucket"))))
    store.rm("/bucket", recursive=True)


def test_a_store_that_needs_a_package_is_told_in_one_sentence():
    with pytest.raises(BadInput, match="nostore:// cannot be read: Protocol not known"):
        find_shards("nostore://bucket", "train")


def test_the_cache_keeps_decoded_audio(shards):
    dataset = dataset_of(shards, cache_gb=1)
    first = heard(loader_of(dataset))
    for path in (shards / "train" / "shar").glob("*.tar"):
        path.unlink()
    again = heard(loader_of(dataset))
    assert_complete(first)
    assert_complete(again)


def test_masks_are_those_of_the_same_utterance_in_a_file(shards):
    masking = SpanMasking(mask_prob=0.1, mask_length_ms=60)
    frontend = FrontEnd()
    item = MaskItem(frontend, masking)
    dataset = dataset_of(shards, items=[(item, ["sig", "id"], "mask")])
    for number in range(COUNT):
        name, samples = recording(number)
        expected = masking(frontend.num_frames(len(samples)), name, 0)
        assert torch.equal(dataset[number]["mask"], expected)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_rank_too_many_gets_nothing_instead_of_a_batch(shards, num_workers):
    dataset = dataset_of(shards)
    ranks = (COUNT, COUNT + 1)
    loader = loader_of(dataset, num_workers, batch_seconds=0.1, ranks=ranks)
    assert list(loader) == [None]


# What is left out


def test_short_and_long_utterances_are_left_out_and_counted(shards, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = dataset_of(shards, low=0.4, high=0.6)  # 4800 + 800 n samples
    numbers = [n for n in range(COUNT) if 6400 <= 4800 + 800 * n <= 9600]
    assert f"left out {COUNT - len(numbers)} of {COUNT} utterances" in caplog.text
    assert_complete(heard(loader_of(dataset)), numbers)


def test_utterances_without_text_are_left_out_where_text_is_needed(shards):
    dataset = dataset_of(shards, needs_text=True)
    assert_complete(heard(loader_of(dataset)), [n for n in range(COUNT) if n % 3])


def test_a_text_that_cleaning_empties_is_left_out_where_text_is_needed(shards):
    dataset = dataset_of(shards, needs_text=True)
    dataset.shards.cleaning = TextCleaning("keep", "T 1")
    numbers = {n for n in range(COUNT) if n % 3} - {1, 11}
    with dataset.output_keys_as(["id", "sig"]):
        found = {item["id"] for item in dataset if len(item["sig"])}
    assert found == {f"s-1-{n:04d}" for n in numbers}


def test_nothing_left_is_refused(shards):
    with pytest.raises(BadInput, match=r"no utterance of .* is left: all 12"):
        dataset_of(shards, low=50)


def test_all_transcripts_can_be_listed(shards):
    texts = list(Shards([f"{shards}/train"]).texts())
    assert texts == [f"T {n}" for n in range(COUNT) if n % 3]


# Exact resume


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("seen", [1, 3])
def test_a_loader_continues_where_it_was_saved(shards, tmp_path, seen, num_workers):
    whole = [batch.id for batch in loader_of(dataset_of(shards))]
    first = loader_of(dataset_of(shards), num_workers)
    iterator = iter(first)
    for _ in range(seen):
        next(iterator)
    first._speechbrain_save(tmp_path / "loader.ckpt")
    second = loader_of(dataset_of(shards), num_workers)
    second._speechbrain_load(tmp_path / "loader.ckpt", end_of_epoch=False)
    assert [batch.id for batch in second] == whole[seen:]
    assert len(whole) > seen
