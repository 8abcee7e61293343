"""Formats of audio: libsndfile reads all that are listed, and training takes them."""

import numpy as np
import pytest
import soundfile

from speechbrain_birq.data.corpora.librispeech import find_utterances
from speechbrain_birq.data.formats import AUDIO_SUFFIXES
from speechbrain_birq.data.pipeline import AudioReader
from speechbrain_birq.inference.audio_files import audio_files

FORMATS = {
    ".flac": "FLAC",
    ".wav": "WAV",
    ".aiff": "AIFF",
    ".aif": "AIFF",
    ".au": "AU",
    ".opus": "OGG",
    ".ogg": "OGG",
    ".mp3": "MP3",
}


@pytest.fixture
def folder(tmp_path):
    """A recording of a second in each format."""
    for suffix, kind in FORMATS.items():
        path = tmp_path / "split" / f"a{suffix[1:]}{suffix}"
        path.parent.mkdir(exist_ok=True)
        subtype = "OPUS" if suffix == ".opus" else None
        soundfile.write(path, np.full(16000, 0.1), 16000, subtype, format=kind)
    return tmp_path


def test_training_and_inference_take_the_same_formats(folder):
    assert set(FORMATS) == set(AUDIO_SUFFIXES)
    found = find_utterances(folder, "split")
    assert len(found) == len(FORMATS)
    assert {u.wav for u in found} == set(audio_files([str(folder / "split")]))


def test_headers_promise_the_samples_that_are_read(folder):
    for row in find_utterances(folder, "split"):
        assert len(AudioReader(16000)(row.wav)) == round(16000 * row.duration), row.wav


def test_inference_counts_what_it_cannot_read(folder, caplog):
    (folder / "split" / "x.m4a").touch()
    assert len(audio_files([str(folder / "split")])) == len(FORMATS)
    assert "skipped 1 files in formats that libsndfile does not read" in caplog.text
