"""Durations: what is measured, what is skipped, what is remembered."""

import json
import logging
import math
import os
import threading
import time

import numpy as np
import pytest
import soundfile

from speechbrain_birq.data import headers
from speechbrain_birq.data.headers import measure, measure_all

pytestmark = pytest.mark.faults

FORMATS = [
    ("flac", {}),
    ("wav", {}),
    ("opus", {"format": "OGG", "subtype": "OPUS"}),
    ("ogg", {"format": "OGG", "subtype": "VORBIS"}),
]


def write_audio(path, seconds=0.5, rate=16000, **options):
    samples = 0.1 * np.sin(np.arange(round(seconds * rate)) / 9)
    soundfile.write(path, samples, rate, **options)
    return path


@pytest.mark.parametrize(("suffix", "options"), FORMATS)
@pytest.mark.parametrize("seconds", [0.3, 1.25])
def test_a_duration_is_that_of_the_audio(tmp_path, suffix, options, seconds):
    path = write_audio(tmp_path / f"a.{suffix}", seconds, **options)
    assert measure(path) == pytest.approx(seconds, abs=1e-3)


def test_a_duration_is_in_seconds_at_any_rate(tmp_path):
    path = write_audio(tmp_path / "a.wav", 0.5, rate=8000)
    assert measure(path) == pytest.approx(0.5)


def broken(folder):
    """Files that are no audio, by what is wrong with them."""
    (folder / "empty.flac").touch()
    (folder / "text.flac").write_text("this is no audio")
    write_audio(folder / "none.wav", 0.0)
    return {
        "empty.flac": "empty file",
        "text.flac": "unreadable",
        "none.wav": "no samples",
    }


@pytest.mark.parametrize("name", ["empty.flac", "text.flac", "none.wav"])
def test_a_file_without_audio_is_refused_with_its_reason(tmp_path, name):
    reasons = broken(tmp_path)
    with pytest.raises(ValueError, match=reasons[name]):
        measure(tmp_path / name)


def test_broken_files_are_left_out_named_and_counted(tmp_path, caplog):
    reasons = broken(tmp_path)
    good = write_audio(tmp_path / "good.flac")
    paths = [good, *(tmp_path / name for name in reasons), tmp_path / "gone.wav"]
    with caplog.at_level(logging.WARNING):
        durations = measure_all(paths)
    assert list(durations) == [good]
    for name in (*reasons, "gone.wav"):
        assert name in caplog.text
    assert "skipped 4 of 5 audio files" in caplog.text


def test_good_files_are_not_mentioned(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        measure_all([write_audio(tmp_path / "good.flac")])
    assert caplog.text == ""


def test_files_keep_their_order(tmp_path):
    paths = [write_audio(tmp_path / f"{i}.wav", 0.1 * (9 - i)) for i in range(9)]
    assert list(measure_all(paths, num_threads=2)) == paths


@pytest.mark.parametrize("waits", ["none", "all", "later"])
def test_threads_help_from_the_first_wait_on(tmp_path, monkeypatch, waits):
    """In turns as long as a header is only work: threads would make that slower."""
    threads = set()

    def measured(path, status):
        threads.add(threading.get_ident())
        if waits == "all" or (waits == "later" and path.stem >= "06"):
            time.sleep(0.05)
        return 1.0

    monkeypatch.setattr(headers, "CHUNK", 2)
    # A busy machine's pauses are no waits here: 0.02 s are for each file.
    monkeypatch.setattr(headers, "WAIT", 0.02 if waits != "none" else math.inf)
    monkeypatch.setattr(headers, "_measured", measured)
    paths = [tmp_path / f"{number:02d}.flac" for number in range(16)]
    for path in paths:
        path.write_bytes(b"fLaC")
    assert list(measure_all(paths, num_threads=4)) == paths
    assert (len(threads) > 1) == (waits != "none")


def test_no_files_have_no_durations():
    assert measure_all([]) == {}


# What is remembered


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Names of the files whose headers were read; 3 files are enough to remember."""
    found = []

    def counted(path, status):
        found.append(path.name)
        return measured(path, status)

    measured = headers._measured

    monkeypatch.setattr(headers, "REMEMBERED", 3)
    monkeypatch.setattr(headers, "_measured", counted)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return found


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "audio").mkdir()
    return [write_audio(tmp_path / "audio" / f"{n}.flac", 0.1 + n) for n in range(3)]


def memory(tmp_path):
    (path,) = (tmp_path / "cache").rglob("*.json")
    return path


def test_headers_are_read_once(read, paths):
    first = measure_all(paths)
    assert sorted(read) == ["0.flac", "1.flac", "2.flac"]
    assert measure_all(paths) == first
    assert list(first.values()) == pytest.approx([0.1, 1.1, 2.1])
    assert len(read) == 3


def test_two_tables_of_one_folder_are_both_remembered(read, paths):
    tables = [paths, [write_audio(paths[0].with_name(f"b{n}.flac")) for n in range(3)]]
    for table in tables:
        measure_all([table[0], *table[:0:-1]])  # a table has its own order
    read.clear()
    for table in tables:
        measure_all(table)
    assert read == []


def test_others_are_forgotten_where_there_are_too_many(read, paths, monkeypatch):
    monkeypatch.setattr(headers, "MOST", 3)
    others = [write_audio(paths[0].with_name(f"b{n}.flac")) for n in range(3)]
    measure_all(paths)
    measure_all(others)
    read.clear()
    measure_all(others)
    assert read == []
    measure_all(paths)
    assert len(read) == 3


def test_another_file_of_equal_size_and_time_is_read_again(read, paths):
    measure_all(paths)
    status, content = paths[1].stat(), paths[1].read_bytes()
    read.clear()
    paths[1].write_bytes(content)
    os.utime(paths[1], ns=(status.st_atime_ns, status.st_mtime_ns))
    measure_all(paths)
    assert read == ["1.flac"]


@pytest.mark.parametrize("change", ["size", "time", "name"])
def test_a_file_that_has_changed_is_read_again(read, paths, change):
    measure_all(paths)
    read.clear()
    status = paths[1].stat()
    if change == "size":
        write_audio(paths[1], 3.0)
        os.utime(paths[1], ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(paths[1], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    else:
        paths[1] = paths[1].rename(paths[1].with_name("3.flac"))
    found = measure_all(paths)
    assert read == [paths[1].name]
    assert found[paths[1]] == pytest.approx(3.0 if change == "size" else 1.1)
    assert measure_all(paths) == found
    assert len(read) == 1


def test_a_broken_file_is_named_every_time(read, paths, caplog):
    paths[1].write_bytes(b"no audio")
    for _ in range(2):
        assert list(measure_all(paths)) == [paths[0], paths[2]]
    assert caplog.text.count("1.flac: unreadable") == 2


def test_a_file_that_is_gone_is_forgotten(read, paths, tmp_path):
    measure_all(paths)
    paths[1].unlink()
    assert list(measure_all(paths)) == [paths[0], paths[2]]
    assert len(json.loads(memory(tmp_path).read_text())) == 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"a": 1}',
        '{"a": [1, 2, "x"]}',
        '{"a": [1, 2]}',
        '{"a": [1, 2, NaN]}',
        "[" * 10_000,
    ],
)
def test_a_corrupt_memory_is_written_anew(read, paths, tmp_path, content):
    first = measure_all(paths)
    memory(tmp_path).write_text(content)
    assert measure_all(paths) == first
    assert len(json.loads(memory(tmp_path).read_text())) == 3


def test_nothing_is_remembered_of_few_files(read, paths, tmp_path):
    measure_all(paths[:2])
    assert not (tmp_path / "cache").exists()


def test_a_cache_folder_that_cannot_be_written_does_no_harm(read, paths, tmp_path):
    (tmp_path / "cache").touch()
    assert len(measure_all(paths)) == 3
