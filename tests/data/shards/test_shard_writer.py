"""Shards: what was written is there, whole, in lhotse's format, after a kill too."""

import json
import logging
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_birq.data.manifest import Utterance
from speechbrain_birq.data.shards import writer as shards
from speechbrain_birq.data.shards.writer import write_shards, written_names
from speechbrain_birq.errors import BadInput

ROOT = Path(__file__).parents[3]
RATE = 16000


def recordings(count=5, seconds=0.5, first=0):
    """Noise of 16 bits, from its number alone; the last has no text."""
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        samples = rng.integers(-9000, 9000, int(RATE * seconds) + 10 * number)
        text = "" if number == first + count - 1 else f"TEXT {number}"
        utterance = Utterance(f"s-1-{number:04d}", 0.0, "", f"s{number % 2}", text)
        yield utterance, samples.astype(np.float32) / 32768


def hours(seconds):
    return seconds / 3600


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_summary_and_the_index_count_what_was_written(tmp_path):
    summary = write_shards(recordings(5), tmp_path, shard_hours=hours(1))
    seconds = [1.0 + 0.000625, 1.0 + 0.003125, 0.5 + 0.0025]  # 2 + 2 + 1 utterances
    assert summary[:2] == (3, 5)
    assert summary.seconds == pytest.approx(sum(seconds))
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["sample_rate"] == RATE
    assert [s["name"] for s in index["shards"]] == ["000000", "000001", "000002"]
    assert [s["utterances"] for s in index["shards"]] == [2, 2, 1]
    assert [s["seconds"] for s in index["shards"]] == pytest.approx(seconds)


def test_lengths_and_transcripts_of_all_utterances_lie_beside_the_index(tmp_path):
    write_shards(recordings(3), tmp_path, shard_hours=hours(1))
    assert np.load(tmp_path / "samples.npy").tolist() == [8000, 8010, 8020]
    assert np.load(tmp_path / "texts.npy").tolist() == [True, True, False]


def test_a_table_says_where_each_utterance_lies_in_the_tar_file(tmp_path):
    write_shards(recordings(3), tmp_path)
    data = (tmp_path / "shar" / "recording.000000.tar").read_bytes()
    table = np.load(tmp_path / "tables" / "000000.npy")
    for row, (_, samples) in zip(table, recordings(3), strict=True):
        path = tmp_path / "one.flac"
        path.write_bytes(data[row["start"] : row["start"] + row["size"]])
        read, rate = soundfile.read(path, dtype="float32")
        assert rate == RATE
        assert np.array_equal(read, samples)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # lhotse's own
def test_lhotse_reads_audio_texts_and_speakers(tmp_path):
    from lhotse import CutSet

    write_shards(recordings(5), tmp_path, shard_hours=hours(1))
    cuts = list(CutSet.from_shar(in_dir=tmp_path / "shar"))
    for cut, (utterance, samples) in zip(cuts, recordings(5), strict=True):
        (supervision,) = cut.supervisions
        assert cut.id == utterance.ID
        assert supervision.speaker == utterance.speaker
        assert (supervision.text or "") == utterance.text
        assert np.array_equal(cut.load_audio()[0], samples)


def test_tensors_are_taken_and_loud_samples_clipped(tmp_path):
    samples = torch.tensor([0.0, 2.0, -2.0, 0.5])
    write_shards([(Utterance("a", 0, "", "", ""), samples)], tmp_path)
    with tarfile.open(tmp_path / "shar" / "recording.000000.tar") as tar:
        read, _ = soundfile.read(tar.extractfile("a.flac"), dtype="int16")
    assert read.tolist() == [0, 32767, -32768, 16384]


@pytest.mark.parametrize("bad", [[], [0.0, np.nan], [np.inf]])
def test_a_recording_without_finite_samples_is_named_counted_and_skipped(
    tmp_path, caplog, bad
):
    broken = Utterance("broken", 0, "", "", ""), np.array(bad, np.float32)
    with caplog.at_level(logging.WARNING):
        summary = write_shards([*recordings(2), broken], tmp_path)
    assert (summary.utterances, summary.skipped) == (2, 1)
    assert "skipped broken" in caplog.text


def test_of_two_recordings_with_one_name_the_first_is_kept(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        summary = write_shards([*recordings(2), *recordings(1)], tmp_path)
    assert (summary.utterances, summary.skipped) == (2, 1)
    assert "skipped s-1-0000: its name was there before" in caplog.text


def test_nothing_to_write_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no recording"):
        write_shards([], tmp_path)


def test_another_rate_in_the_same_folder_is_refused(tmp_path):
    write_shards(recordings(1), tmp_path)
    with pytest.raises(BadInput, match="holds shards at 16000 Hz, not 8000 Hz"):
        write_shards(recordings(1), tmp_path, sample_rate=8000)


def test_without_lhotse_the_command_that_installs_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lhotse", None)
    with pytest.raises(BadInput, match=r"pip install .*\[large\]"):
        write_shards(recordings(1), tmp_path)


def test_what_is_lazy_is_not_read_ahead(tmp_path):
    """A shard is finished before the next recording is asked for."""
    there = []

    def watched():
        for pair in recordings(4):
            there.append(len(list((tmp_path / "tables").glob("*.npy"))))
            yield pair

    write_shards(watched(), tmp_path, shard_hours=hours(0.1))
    assert there == [0, 1, 2, 3]


def interrupted(pairs, after):
    for number, pair in enumerate(pairs):
        if number == after:
            raise KeyboardInterrupt
        yield pair


@pytest.mark.parametrize("after", [1, 2, 3, 4, 5])
def test_writing_that_was_interrupted_continues_to_the_same_files(tmp_path, after):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    write_shards(recordings(6), whole, shard_hours=hours(1))
    with pytest.raises(KeyboardInterrupt):
        write_shards(interrupted(recordings(6), after), parts, shard_hours=hours(1))
    assert len(written_names(parts)) == after // 2 * 2
    write_shards(recordings(6), parts, shard_hours=hours(1))
    np.testing.assert_equal(_contents(parts), _contents(whole))


def _contents(folder):
    """Files without the times that gzip and tar store."""
    kept = files(folder)
    return {
        name: len(data) if ".gz" in name or ".tar" in name else data
        for name, data in kept.items()
    }


def test_finished_shards_are_not_touched(tmp_path):
    write_shards(recordings(4), tmp_path, shard_hours=hours(1))
    before = files(tmp_path)
    assert write_shards(recordings(4), tmp_path, shard_hours=hours(1))[:2] == (2, 4)
    assert files(tmp_path) == before


def test_more_recordings_become_further_shards(tmp_path):
    write_shards(recordings(2), tmp_path)
    assert write_shards(recordings(5), tmp_path)[:2] == (2, 5)
    assert len(written_names(tmp_path)) == 5


KILLED = """
import sys, time
from test_shard_writer import hours, recordings
from speechbrain_birq.data.shards.writer import write_shards

def slow():
    for number, pair in enumerate(recordings(40)):
        if number == 7:
            print("killed here", flush=True)
            time.sleep(600)
        yield pair

write_shards(slow(), sys.argv[1], shard_hours=hours(1))
"""


def test_a_process_killed_amid_a_shard_leaves_whole_shards_only(tmp_path):
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"
    }
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        env=environment,
        cwd=ROOT,
    ) as process:
        assert process.stdout.readline() == b"killed here\n"
        process.send_signal(signal.SIGKILL)
    assert written_names(tmp_path) == {f"s-1-{n:04d}" for n in range(6)}
    names = {path.name for path in (tmp_path / "shar").iterdir()}
    assert names == {
        f"{kind}.00000{n}.{suffix}"
        for n in range(3)
        for kind, suffix in (("cuts", "jsonl.gz"), ("recording", "tar"))
    }
    assert not (tmp_path / "index.json").exists()
    assert write_shards(recordings(40), tmp_path)[:2] == (4, 40)


def test_a_table_that_was_not_written_makes_no_shard(tmp_path, monkeypatch):
    """The table comes last: killed just before it, the shard is written anew."""
    whole = shards._save
    monkeypatch.setattr(shards, "_save", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_shards(recordings(2), tmp_path)
    monkeypatch.setattr(shards, "_save", whole)
    assert written_names(tmp_path) == set()
    assert write_shards(recordings(2), tmp_path)[:2] == (1, 2)
