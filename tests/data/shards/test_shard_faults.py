"""Corrupt or missing files of shards: what is lost is named, the rest is read."""

import gzip
import json
import os

import numpy as np
import pytest
from bounds import bounded
from small_shards import COUNT, dataset_of, heard, loader_of, survivors, tar, write

from speechbrain_birq.data.shards import index
from speechbrain_birq.data.shards.reader import Shards, find_shards
from speechbrain_birq.errors import BadInput

pytestmark = pytest.mark.faults


def test_a_missing_shard_is_named_once_and_the_others_are_read(shards, caplog):
    lost = len(np.load(shards / "train" / "tables" / "000001.npy"))
    tar(shards, 1).unlink()
    assert len(survivors(shards, caplog)) == COUNT - lost
    assert lost > 1
    assert caplog.text.count("recording.000001.tar: unreadable") == 1


def test_a_damaged_utterance_is_named_and_counted(shards, caplog):
    row = np.load(shards / "train" / "tables" / "000001.npy")[0]
    with open(tar(shards, 1), "rb+") as file:
        file.seek(int(row["start"]))
        file.write(bytes(100))
    assert len(survivors(shards, caplog)) == COUNT - 1
    assert "recording.000001.tar (utterance 0): unreadable" in caplog.text
    assert "; 1 now" in caplog.text


def test_a_shard_that_was_cut_short_loses_its_end_only(shards, caplog):
    row = np.load(shards / "train" / "tables" / "000001.npy")[-1]
    with open(tar(shards, 1), "rb+") as file:
        file.truncate(int(row["start"]) + 10)
    assert len(survivors(shards, caplog)) == COUNT - 1
    assert "ends before byte" in caplog.text


@pytest.mark.parametrize("content", [None, b"", b"no table"])
def test_a_missing_or_damaged_table_loses_its_shard_only(shards, caplog, content):
    path = shards / "train" / "tables" / "000002.npy"
    lost = len(np.load(path))
    path.unlink() if content is None else path.write_bytes(content)
    assert len(survivors(shards, caplog)) == COUNT - lost
    assert caplog.text.count("recording.000002.tar: unreadable (its table") == 1


@pytest.mark.parametrize(
    "content", [None, b"", b"no gzip", gzip.compress(b'{"id": 1}', mtime=0)]
)
def test_audio_without_its_cuts_is_still_heard(shards, caplog, content):
    path = shards / "train" / "shar" / "cuts.000000.jsonl.gz"
    count = len(np.load(shards / "train" / "tables" / "000000.npy"))
    path.unlink() if content is None else path.write_bytes(content)
    names = survivors(shards, caplog)
    assert len(names) == COUNT
    assert names[:count] == [f"000000-{row}" for row in range(count)]
    assert caplog.text.count("cuts of shard 000000") == 1


def test_audio_without_its_cuts_is_left_out_where_text_is_needed(shards, caplog):
    (shards / "train" / "shar" / "cuts.000000.jsonl.gz").unlink()
    count = len(np.load(shards / "train" / "tables" / "000000.npy"))
    texts = {f"s-1-{n:04d}" for n in range(count, COUNT) if n % 3}
    dataset = dataset_of(shards, needs_text=True)
    assert {name for name, _ in heard(loader_of(dataset))} == texts
    assert caplog.text.count("cuts of shard 000000") == 1


def test_cuts_that_unpack_to_more_than_fits_are_named(shards, caplog, monkeypatch):
    monkeypatch.setattr(index, "LARGEST_CUTS", 10_000)
    path = shards / "train" / "shar" / "cuts.000000.jsonl.gz"
    path.write_bytes(gzip.compress(bytes(1_000_000)))
    assert len(survivors(shards, caplog)) == COUNT
    assert "cuts of shard 000000" in caplog.text
    assert "more than 10000 bytes" in caplog.text


JSON = b"[" + b"{}," * 2**23 + b"0]"  # 25 MB, 600 MB once it is read
BOMBS = {
    "zeros": lambda count: gzip.compress(bytes(2**26), 1) * 40,  # 2.7 GB
    "empty lines": lambda count: gzip.compress(b"\n" * 2**26, 1),
    "one line": lambda count: gzip.compress(JSON + b"\n1" * (count - 1), 1),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_cuts_that_are_a_bomb_are_refused(shards, kind):
    path = shards / "train" / "shar" / "cuts.000000.jsonl.gz"
    count = len(np.load(shards / "train" / "tables" / "000000.npy"))
    path.write_bytes(BOMBS[kind](count))
    with bounded(), pytest.raises(BadInput, match="cuts of shard 000000 unreadable"):
        list(Shards([f"{shards}/train"]).texts())


def test_an_index_that_is_a_bomb_is_refused(shards):
    text = json.dumps({"sample_rate": 16000, "shards": [{}] * 2**22})  # 2 GB as JSON
    (shards / "train" / "index.json").write_text(text * 4)
    with bounded(), pytest.raises(BadInput, match=r"more than 16777216 bytes"):
        find_shards(shards, "train")


def test_a_table_with_an_utterance_that_does_not_fit_is_named(shards, caplog):
    path = shards / "train" / "tables" / "000001.npy"
    table = np.load(path)
    table["size"][0] = 2**32 - 1
    np.save(path, table)
    with open(tar(shards, 1), "rb+") as file:
        file.truncate(2**33)  # sparse
    with bounded():
        assert len(survivors(shards, caplog)) == COUNT - 1
    assert "recording.000001.tar (utterance 0)" in caplog.text
    assert "4294967295 bytes" in caplog.text


@pytest.mark.parametrize("name", ["samples.npy", "index.json"])
def test_a_pipe_or_a_device_is_refused(shards, name):
    path = shards / "train" / name
    path.unlink()
    if name == "samples.npy":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(BadInput, match=f"{name}|not finished"):
        find_shards(shards, "train")


def test_a_file_that_does_not_fit_is_refused(shards):
    with open(shards / "train" / "samples.npy", "rb+") as file:
        file.truncate(2**33)  # sparse
    with pytest.raises(BadInput, match=r"samples.npy .* more than \d+ bytes"):
        find_shards(shards, "train")


def test_transcripts_that_cannot_be_listed_are_refused(shards):
    (shards / "train" / "shar" / "cuts.000000.jsonl.gz").unlink()
    with pytest.raises(BadInput, match="cuts of shard 000000 unreadable"):
        list(Shards([f"{shards}/train"]).texts())


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"sample_rate": 1, "shards": [1]}']
)
def test_a_damaged_index_is_refused(shards, content):
    (shards / "train" / "index.json").write_text(content)
    with pytest.raises(BadInput, match=r"its index.json cannot be read .*birq shard"):
        find_shards(shards, "train")


def test_shards_that_are_not_finished_are_refused(shards):
    (shards / "train" / "index.json").unlink()
    with pytest.raises(BadInput, match="are not finished"):
        find_shards(shards, "train")


def test_an_index_of_other_lengths_is_refused(shards):
    np.save(shards / "train" / "samples.npy", np.ones(3, np.uint32))
    with pytest.raises(BadInput, match="do not belong together"):
        find_shards(shards, "train")


def test_missing_lengths_are_refused(shards):
    (shards / "train" / "samples.npy").unlink()
    with pytest.raises(BadInput, match=r"samples.npy of the shards in .* unreadable"):
        find_shards(shards, "train")


def test_shards_and_files_do_not_join(shards):
    (shards / "files").mkdir()
    with pytest.raises(BadInput, match="joins shards and audio files"):
        find_shards(shards, "train+files")


def test_splits_of_several_rates_do_not_join(shards):
    write(shards / "low", range(2), rate=8000)
    with pytest.raises(BadInput, match="several rates"):
        find_shards(shards, "train+low")


def test_another_rate_is_resampled(shards):
    write(shards / "low", [3], rate=8000)
    dataset = dataset_of(shards, "low", low=0.89, high=0.91)  # 7200 samples at 8 kHz
    assert len(dataset[0]["sig"]) == 2 * 7200
