"""Corrupt files of stored labels are named in one sentence."""

import pytest
import torch

from speechbrain_birq.data.stored_labels import StoredLabels, write_labels
from speechbrain_birq.errors import BadInput

pytestmark = pytest.mark.faults

SHAPE = {"num_codebooks": 2, "num_codes": 8}


@pytest.fixture
def folder(tmp_path):
    utterances = [(name, torch.ones(3, 2, dtype=torch.long)) for name in "ab"]
    write_labels(tmp_path, "train", utterances, SHAPE)
    return tmp_path


def test_the_last_of_65536_codes_is_kept_and_more_are_refused(tmp_path):
    codes = [("a", torch.tensor([[65535, 0]]))]
    shape = SHAPE | {"num_codes": 65536}
    write_labels(tmp_path / "most", "train", codes, shape)
    found = StoredLabels(tmp_path / "most").split("train", "a")
    assert found("a", torch.ones(1)).tolist() == [[65535, 0]]
    with pytest.raises(BadInput, match=r"num_codes 65537: .* 65536 codes at most"):
        write_labels(tmp_path / "more", "train", codes, SHAPE | {"num_codes": 65537})
    assert not (tmp_path / "more").exists()


def test_an_utterance_whose_audio_cannot_be_read_has_no_labels(folder):
    labels = StoredLabels(folder).split("train", "ab")
    assert labels("a", torch.ones(0)).shape == (0, 2)
    assert labels("a", torch.ones(3)).shape == (3, 2)
    with pytest.raises(BadInput, match="a has 2 frames and 3 stored labels"):
        labels("a", torch.ones(2))


def sentence(folder, path):
    with pytest.raises(BadInput) as caught:
        StoredLabels(folder).split("train", "ab")
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and "label again" in text


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"{", b"[]", b"{}", b'{"num_codebooks": "x"}', b"[" * 100_000],
)
def test_a_corrupt_description_is_named(folder, content):
    (folder / "labels.json").write_bytes(content)
    sentence(folder, folder / "labels.json")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b'{"a": 3, "b"',
        b'["a", "b"]',
        b'{"a": 3, "b": "3"}',
        b'{"a": 7, "b": -1}',
        b'{"a": 3, "b": [3]}',
        b'{"a": 3.0, "b": 3}',
        b'{"a": 3, "b": 99999999999999999999}',
        b"[" * 100_000,
    ],
)
def test_a_corrupt_index_is_named(folder, content):
    (folder / "train" / "index.json").write_bytes(content)
    sentence(folder, folder / "train" / "index.json")


@pytest.mark.parametrize("content", [None, b"", b"123"])
def test_codes_that_are_not_all_there_are_named(folder, content):
    path = folder / "train" / "codes.u16"
    path.unlink() if content is None else path.write_bytes(content)
    sentence(folder, path)
