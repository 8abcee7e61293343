"""Manifests: what is measured, what is skipped, what survives a round trip."""

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from speechbrain_birq.data.manifest import (
    FIELDS,
    Utterance,
    measure,
    measure_all,
    read_manifest,
    write_manifest,
)
from speechbrain_birq.errors import BadInput

FORMATS = [
    ("flac", {}),
    ("wav", {}),
    ("opus", {"format": "OGG", "subtype": "OPUS"}),
    ("ogg", {"format": "OGG", "subtype": "VORBIS"}),
]
ENCODABLE = st.characters(codec="utf-8", exclude_characters="\0")
CELL = st.text(ENCODABLE, max_size=15)


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


def test_no_files_have_no_durations():
    assert measure_all([]) == {}


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(CELL, st.floats(0, 1e5), CELL, CELL, CELL), max_size=4))
def test_a_manifest_survives_a_round_trip(tmp_path_factory, rows):
    utterances = [Utterance(*row) for row in rows]
    path = tmp_path_factory.mktemp("round") / "a.csv"
    assert read_manifest(write_manifest(path, utterances)) == utterances


@pytest.mark.parametrize(
    "text", ['HE SAID "NO", TWICE', "A,B,,C", "'QUOTED'", "", " SPACES ", "TWO\nLINES"]
)
def test_commas_and_quotes_in_texts_survive(tmp_path, text):
    row = Utterance("a-1", 1.5, "/x/a, b.flac", "a", text)
    assert read_manifest(write_manifest(tmp_path / "a.csv", [row])) == [row]


def test_a_manifest_is_a_csv_that_speechbrain_reads(tmp_path):
    from speechbrain.dataio.dataset import DynamicItemDataset

    row = Utterance("a-1", 1.5, "/x/a.flac", "a", "ONE, TWO")
    path = write_manifest(tmp_path / "a.csv", [row])
    data = DynamicItemDataset.from_csv(path, output_keys=["id", "duration", "text"])
    assert data[0] == {"id": "a-1", "duration": 1.5, "text": "ONE, TWO"}


def test_a_manifest_is_written_whole_or_not_at_all(tmp_path):
    path = write_manifest(tmp_path / "a.csv", [Utterance("a", 1.0, "w", "s", "T")])
    before = path.read_text()

    def failing():
        yield Utterance("b", 2.0, "w", "s", "T")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        write_manifest(path, failing())
    assert path.read_text() == before


def test_folders_of_a_manifest_are_made(tmp_path):
    path = write_manifest(tmp_path / "deep" / "er" / "a.csv", [])
    assert read_manifest(path) == []


@pytest.mark.parametrize("missing", FIELDS)
def test_a_manifest_without_a_column_is_refused_by_name(tmp_path, missing):
    path = Path(tmp_path / "a.csv")
    path.write_text(",".join(f for f in FIELDS if f != missing) + "\n")
    with pytest.raises(BadInput, match=f"lacks the columns {missing}"):
        read_manifest(path)


def test_an_empty_manifest_is_refused(tmp_path):
    (tmp_path / "a.csv").touch()
    with pytest.raises(BadInput, match="lacks the columns"):
        read_manifest(tmp_path / "a.csv")


@pytest.mark.parametrize("duration", ["long", ""])
def test_a_duration_that_is_no_number_is_refused_with_its_line(tmp_path, duration):
    rows = [Utterance("a", 1.0, "w", "s", "T"), Utterance("b", duration, "w", "s", "T")]
    path = write_manifest(tmp_path / "a.csv", rows)
    with pytest.raises(BadInput, match=f"line 3: duration '{duration}'"):
        read_manifest(path)
