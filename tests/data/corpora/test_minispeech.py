"""minispeech: layout, disjoint splits, exact phone times, same seed = same bytes."""

import collections
import csv
import hashlib
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from speechbrain_birq.checkpoints.run_lock import locked
from speechbrain_birq.data.corpora.minispeech import corpus as minispeech
from speechbrain_birq.data.corpora.minispeech.corpus import (
    SPLITS,
    make_minispeech,
    plan_speakers,
)
from speechbrain_birq.data.corpora.minispeech.grammar import (
    MAX_WORDS,
    MIN_WORDS,
    sentence,
    transcript,
    vocabulary,
)
from speechbrain_birq.errors import BadInput

pytest.importorskip("espeakng_loader")
HOURS = 0.02
VOWELS = tuple("aeiou\u0251\u0252\u0254\u0259\u025b\u025c\u026a\u028a\u028c\u00e6")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("minispeech") / "corpus"
    seconds = make_minispeech(folder, hours=HOURS, num_workers=1)
    return folder, seconds


def digest(folder):
    """Hash of every file below a folder, by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def transcripts(folder, split="*"):
    """Words of every utterance."""
    lines = []
    for path in folder.glob(f"{split}/*/*/*.trans.txt"):
        lines += path.read_text("utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines)


def phones(folder):
    """(start, end, phone) of every utterance, in the order of the file."""
    intervals = collections.defaultdict(list)
    for path in folder.glob("*/*/*/*.phones.tsv"):
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                times = float(row["start_seconds"]), float(row["end_seconds"])
                intervals[row["utterance"]].append((*times, row["phone"]))
    return intervals


def recordings(folder):
    """Samples of every utterance."""
    paths = folder.glob("*/*/*/*.flac")
    return {path.stem: soundfile.read(path)[0] for path in paths}


def test_same_seed_gives_same_bytes_on_any_number_of_workers(corpus, tmp_path):
    make_minispeech(tmp_path / "again", hours=HOURS, num_workers=3)
    assert digest(tmp_path / "again") == digest(corpus[0])


def test_another_seed_gives_another_corpus(corpus, tmp_path):
    make_minispeech(tmp_path / "other", hours=0.01, seed=1)
    ours, other = recordings(corpus[0]), recordings(tmp_path / "other")
    assert set(digest(tmp_path / "other").values()).isdisjoint(
        digest(corpus[0]).values()
    )
    assert len(ours) > len(other) >= len(SPLITS)


def test_a_second_call_leaves_the_corpus_alone(corpus):
    folder, seconds = corpus
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert make_minispeech(folder, hours=HOURS) == seconds
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    beside = {path.name for path in folder.parent.iterdir()}
    assert beside == {folder.name, f".{folder.name}.lock"}


def test_layout_is_that_of_librispeech(corpus):
    folder, _ = corpus
    words = transcripts(folder)
    paths = list(folder.glob("*/*/*/*.flac"))
    assert (
        sorted(words) == sorted(path.stem for path in paths) == sorted(phones(folder))
    )
    for path in paths:
        split, speaker, chapter, name = path.relative_to(folder).parts
        assert split in SPLITS
        assert name.startswith(f"{speaker}-{chapter}-")
        assert len(path.stem.split("-")[2]) == 4
    assert {path.name for path in folder.iterdir()} == {*SPLITS, "minispeech.json"}


def test_transcripts_are_capitals_and_apostrophes(corpus):
    for text in transcripts(corpus[0]).values():
        assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ' ")
        assert set(text.split()) <= vocabulary()


def test_splits_share_neither_speakers_nor_evaluation_sentences(corpus):
    folder, _ = corpus
    speakers = [path.name for split in SPLITS for path in (folder / split).iterdir()]
    assert len(speakers) == len(set(speakers))
    said = {split: set(transcripts(folder, split).values()) for split in SPLITS}
    assert (said["dev"] | said["test"]).isdisjoint(said["pretrain"] | said["train"])
    assert said["dev"].isdisjoint(said["test"])


def test_hours_are_those_asked_for(corpus):
    folder, seconds = corpus
    assert list(seconds) == list(SPLITS)
    assert sum(seconds.values()) == pytest.approx(3600 * HOURS, rel=0.15)
    for split in SPLITS:
        infos = [soundfile.info(path) for path in (folder / split).rglob("*.flac")]
        assert sum(info.frames for info in infos) / 16000 == pytest.approx(
            seconds[split]
        )


def test_audio_is_16_khz_mono_audible_and_unclipped(corpus):
    for path in corpus[0].rglob("*.flac"):
        info = soundfile.info(path)
        found = info.samplerate, info.channels, info.subtype, info.format
        assert found == (16000, 1, "PCM_16", "FLAC")
    for audio in recordings(corpus[0]).values():
        assert 1 <= len(audio) / 16000 <= 8
        assert 0.02 < np.abs(audio).max() < 0.99
        assert audio[:800].std() > 1e-5


def test_phones_follow_each_other_from_start_to_end(corpus):
    audio = recordings(corpus[0])
    for name, intervals in phones(corpus[0]).items():
        starts, ends, labels = zip(*intervals, strict=True)
        assert (starts[0], ends[-1]) == (0, len(audio[name]) / 16000)
        assert starts[1:] == ends[:-1]
        assert all(start < end for start, end, _ in intervals)
        assert labels[0] == labels[-1] == "SIL"
        assert all(label.strip() == label != "" for label in labels)


def test_phone_times_fit_the_sound(corpus):
    audio = recordings(corpus[0])
    for name, intervals in phones(corpus[0]).items():
        power = {"vowel": [], "SIL": []}
        for start, end, phone in intervals:
            samples = audio[name][round(start * 16000) : round(end * 16000)]
            kind = "vowel" if phone.startswith(VOWELS) else phone
            power.get(kind, []).append(np.mean(samples**2))
        # 20 dB: the noise floor lies 25 dB or more below the speech.
        assert np.median(power["vowel"]) > 100 * power["SIL"][0]
        assert np.mean(power["vowel"]) > 10 * np.mean(power["SIL"])


def test_phones_come_at_the_pace_of_speech(corpus):
    spans = [span for spans in phones(corpus[0]).values() for span in spans]
    durations = [end - start for start, end, phone in spans if phone != "SIL"]
    assert 9 < len(durations) / sum(durations) < 16
    assert len({phone for _, _, phone in spans}) > 40


def test_half_an_hour_has_enough_voices():
    speakers = plan_speakers(0.5, seed=0)
    counts = collections.Counter(speaker.split for speaker in speakers)
    least = {"pretrain": 8, "train": 4, "dev": 3, "test": 3}
    assert all(counts[split] >= number for split, number in least.items())
    assert len({speaker.voice for speaker in speakers}) == len(speakers)
    assert len(plan_speakers(2, seed=0)) > len(speakers)


def test_espeak_has_every_voice():
    # A fresh process: espeak-ng keeps state, and this one stays free of it.
    code = (
        "from speechbrain_birq.data.corpora.minispeech.corpus import *\n"
        "from speechbrain_birq.data.corpora.minispeech.espeak import Espeak\n"
        "for voice in (f'{a}+{v}' for a in ACCENTS for v in VARIANTS):\n"
        "    Espeak(voice)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_import_needs_no_torch():
    code = f"import sys, {minispeech.__name__}; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert {"torch", "speechbrain", "scipy"}.isdisjoint(loaded.split())


def test_sentences_keep_to_their_length_and_vary():
    rng = random.Random(0)
    texts = [sentence(rng) for _ in range(2000)]
    assert all(MIN_WORDS <= len(text.split()) <= MAX_WORDS for text in texts)
    assert len(set(texts)) > 1900
    assert {word for text in texts for word in transcript(text).split()} <= vocabulary()


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        make_minispeech(tmp_path, hours=HOURS)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_another_minispeech_is_refused(corpus):
    with pytest.raises(ValueError, match=r"'seed': 0.*not.*'seed': 5"):
        make_minispeech(corpus[0], hours=HOURS, seed=5)


@pytest.mark.parametrize("hours", [0, -1, 0.009, float("nan"), float("inf")])
def test_impossible_hours_are_refused(hours, tmp_path):
    with pytest.raises(ValueError, match="hours"):
        make_minispeech(tmp_path / "corpus", hours=hours)
    assert not any(tmp_path.iterdir())


def test_missing_espeak_names_its_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match=r"pip install .*\[demo\]"):
        make_minispeech(tmp_path / "corpus", hours=HOURS)


def test_a_failing_speaker_leaves_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(minispeech, "ACCENTS", ("no-such-language",))
    with pytest.raises(RuntimeError, match="SetVoiceByName"):
        make_minispeech(tmp_path / "corpus", hours=0.01)
    assert [path.name for path in tmp_path.iterdir()] == [".corpus.lock"]


def test_the_summary_describes_every_speaker(corpus):
    folder, seconds = corpus
    summary = json.loads((folder / "minispeech.json").read_text("utf-8"))
    assert summary["seconds"] == seconds
    assert set(summary["speakers"]) == {path.name for path in folder.glob("*/*")}


@pytest.mark.faults
def test_a_folder_that_another_process_makes_is_refused(tmp_path):
    folder = tmp_path / "corpus"
    refused = pytest.raises(BadInput, match=f"process {os.getpid()} on")
    with locked(folder, tmp_path / ".corpus.lock"), refused as told:
        make_minispeech(folder, hours=HOURS)
    assert str(folder) in str(told.value) and not folder.exists()


@pytest.mark.faults
def test_a_folder_that_was_made_while_it_was_asked_for_is_used(corpus, monkeypatch):
    folder, seconds = corpus
    calls, existing = [], minispeech._existing

    def at_first_nothing(*arguments):
        calls.append(arguments)
        return existing(*arguments) if len(calls) > 1 else None

    monkeypatch.setattr(minispeech, "_existing", at_first_nothing)
    assert make_minispeech(folder, hours=HOURS) == seconds
