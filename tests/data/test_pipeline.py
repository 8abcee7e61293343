"""Datasets of manifests: what is left out, further items, masks."""

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechbrain_birq.data.corpora.librispeech import prepare_librispeech
from speechbrain_birq.data.manifest import Utterance, write_manifest
from speechbrain_birq.data.pipeline import AudioReader, MaskItem, make_dataset
from speechbrain_birq.errors import BadInput
from speechbrain_birq.models.frontend import FrontEnd
from speechbrain_birq.models.masking import SpanMasking

RATE = 16000


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


def test_a_mask_follows_the_epoch():
    masking = SpanMasking(mask_prob=0.1, mask_length_ms=60)
    item = MaskItem(FrontEnd(), masking)
    signal = torch.zeros(5 * RATE)
    masks = []
    for number in (0, 1, 2):
        item.set_epoch(number)
        masks.append(item(signal, "a"))
        assert torch.equal(masks[-1], masking(len(masks[-1]), "a", number))
    assert not torch.equal(masks[0], masks[1])


def test_without_an_epoch_masks_are_those_of_epoch_zero():
    masking = SpanMasking(mask_prob=0.1)
    mask = MaskItem(FrontEnd(), masking)(torch.zeros(RATE), "a")
    assert torch.equal(mask, masking(len(mask), "a", 0))
