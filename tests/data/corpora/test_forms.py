"""Splits that are joined: a recording once, equal names told apart by their parts."""

import logging

import numpy as np
import pytest
import soundfile

from speechbrain_birq.data.corpora.forms import utterances
from speechbrain_birq.data.corpora.librispeech import find_utterances
from speechbrain_birq.errors import BadInput


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Folders a/train and b/train, which both have 1.wav; a/train has 2.wav, too."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/train/1", "a/train/2", "b/train/1"):
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.full(8000, 0.1), 16000)
        with open(path.parent / "all.trans.txt", "a") as file:
            file.write(f"{path.stem} {name}\n")
    return tmp_path


def ids(split, data_folder=None):
    return {u.ID: u.text for u in utterances(data_folder, split, find_utterances)}


def test_names_of_two_parts_are_told_apart_by_the_parts(two, caplog):
    parts = {"a/train/1": "a/train/1", "2": "a/train/2", "b/train/1": "b/train/1"}
    with caplog.at_level(logging.INFO):
        assert ids("a/train+b/train") == parts
    assert "1 names are those of several recordings" in caplog.text
    assert ids("a/train+b/train", data_folder=".") == parts
    (two / "b/train").rename(two / "b/dev")
    assert set(ids("a/train+b/dev")) == {"train/1", "2", "dev/1"}


def test_two_parts_have_speakers_of_their_own(two):
    found = utterances(None, "a/train+b/train", find_utterances)
    assert [u.speaker for u in found] == ["a/train/1", "2", "b/train/1"]


def test_a_recording_of_two_parts_keeps_its_name(two):
    assert ids("a+a/train") == {"1": "a/train/1", "2": "a/train/2"}


def test_files_of_two_tables_are_told_apart(two):
    for part in "ab":
        (two / part / "x.csv").write_text("path,text\ntrain/1.wav,X\n")
    assert set(ids("a/x.csv+b/x.csv")) == {"a/x.csv/1", "b/x.csv/1"}


def test_datasets_without_ids_are_joined(two, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("XDG_CACHE_HOME", str(two / "cache"))
    for split in "ab":
        made = datasets.Dataset.from_dict({"audio": [f"{split}/train/1.wav"]})
        made.cast_column("audio", datasets.Audio()).save_to_disk(f"saved/{split}")
    assert set(ids("saved/a+saved/b")) == {"a/0000000", "b/0000000"}


def test_two_ids_of_tables_are_refused(two):
    for part in "ab":
        (two / part / "x.csv").write_text("path,id\ntrain/1.wav,7\n")
    with pytest.raises(BadInput, match=r"joins two recordings of one id, 7: .*column"):
        ids("a/x.csv+b/x.csv")


def test_an_id_that_is_the_name_of_another_file_is_refused(two):
    (two / "x.csv").write_text("path,id\na/train/2.wav,1\n")
    with pytest.raises(BadInput, match="joins two recordings of one id, 1: "):
        ids("x.csv+b/train")
