"""Data that is not as it should be is used, left out by name, or refused."""

import json
import shutil

import pytest
import soundfile
from small_runs import (
    finetune,
    log,
    manifest,
    pretrain,
)

from speechbrain_birq.metrics.curves import read_metrics


def chapter(corpus, split="train", speaker=11):
    return corpus / split / str(speaker) / "1"


def test_stereo_and_8_khz_are_trained_on(corpus, tmp_path):
    for path in corpus.glob("train/*/*/*.*"):
        if path.stem not in ("12-1-0001", "13-1-0000") and path.suffix != ".txt":
            path.unlink()
    pretrain(corpus, tmp_path / "run", number_of_epochs=2)
    assert manifest(tmp_path / "run", "train").keys() == {"12-1-0001", "13-1-0000"}
    assert json.loads((tmp_path / "run/results.json").read_text())["steps"] == 3
    assert "skipped" not in log(tmp_path / "run")


def test_unreadable_files_are_named_and_left_out(corpus, tmp_path):
    good = chapter(corpus) / "11-1-0000.flac"
    (chapter(corpus) / "11-1-0007.flac").write_bytes(b"no audio at all")
    (chapter(corpus) / "11-1-0008.wav").write_bytes(b"")
    truncated = chapter(corpus) / "11-1-0009.flac"
    truncated.write_bytes(good.read_bytes()[:3000])
    pretrain(corpus, tmp_path / "run", optimizer_step_limit=None)
    text = log(tmp_path / "run")
    for name in ("11-1-0007.flac", "11-1-0008.wav"):
        assert f"{name}: " in text
    assert "skipped 2 of" in text
    used = manifest(tmp_path / "run", "train")
    assert "11-1-0000" in used and "11-1-0007" not in used and "11-1-0008" not in used
    assert json.loads((tmp_path / "run/results.json").read_text())["steps"] >= 2


@pytest.mark.parametrize("start", [pretrain, finetune])
def test_a_split_of_truncated_files_is_named(corpus, tmp_path, fails, start):
    """The headers are good, so only validation finds out."""
    for path in corpus.glob("dev/*/*/*.flac"):
        path.write_bytes(path.read_bytes()[:400])
    for path in corpus.glob("dev/*/*/*.wav"):
        path.unlink()
    fails(
        lambda: start(corpus, tmp_path / "run", n_mels=40),
        "validation split",
    )
    assert "21-1-0000.flac: unreadable" in log(tmp_path / "run")


def test_transcripts_and_audio_that_do_not_match_are_named(corpus, tmp_path):
    transcripts = chapter(corpus) / "11-1.trans.txt"
    first, *_ = transcripts.read_text().splitlines()
    transcripts.write_text(f"{first}\n11-1-0099 NO AUDIO HERE\n")
    finetune(corpus, tmp_path / "ctc", n_mels=40)
    text = log(tmp_path / "ctc")
    assert "1 transcripts without audio: 11-1-0099" in text
    assert "1 recordings without a transcript: 11-1-0001" in text
    assert "left out 1 of 6 utterances" in text
    assert "H" in json.loads((tmp_path / "ctc/characters.json").read_text())


def test_an_utterance_shorter_than_one_span_is_trained_on(corpus, tmp_path):
    shutil.rmtree(corpus / "train")
    folder = chapter(corpus)
    folder.mkdir(parents=True)
    signal, rate = soundfile.read(chapter(corpus, "dev", 21) / "21-1-0000.flac")
    soundfile.write(folder / "11-1-0000.flac", signal[: rate // 4], rate)
    pretrain(corpus, tmp_path / "run", min_seconds=0.1, optimizer_step_limit=1)
    (row,) = read_metrics(tmp_path / "run", "train")
    assert row["G"] > 0 and row["anchor_used_codes"] >= 1


def test_a_missing_data_folder_is_named(tmp_path, fails):
    fails(
        lambda: pretrain(tmp_path / "nowhere", tmp_path / "run"),
        str(tmp_path / "nowhere"),
        "--data_folder",
    )


def test_no_data_folder_is_named(tmp_path, fails):
    fails(lambda: pretrain(None, tmp_path / "run"), "data_folder")


def test_an_empty_data_folder_is_named(tmp_path, fails):
    (tmp_path / "empty").mkdir()
    fails(lambda: pretrain(tmp_path / "empty", tmp_path / "run"), "no split 'train'")


def test_a_missing_split_is_named_with_those_that_exist(corpus, tmp_path, fails):
    fails(
        lambda: pretrain(corpus, tmp_path / "run", train_split="train-clean-100"),
        "no split 'train-clean-100'",
        "dev, test, train",
    )


def test_a_split_without_audio_is_named(corpus, tmp_path, fails):
    for path in corpus.glob("train/*/*/*"):
        if path.suffix != ".txt":
            path.unlink()
    fails(lambda: pretrain(corpus, tmp_path / "run"), "no readable audio", "train")


def test_a_split_of_nothing_readable_is_named(corpus, tmp_path, fails):
    for path in corpus.glob("train/*/*/*"):
        if path.suffix != ".txt":
            path.write_bytes(b"")
    fails(lambda: pretrain(corpus, tmp_path / "run"), "no readable audio", "train")


def test_utterances_all_too_short_are_named(corpus, tmp_path, fails):
    fails(lambda: pretrain(corpus, tmp_path / "run", min_seconds=10), "10 s")


def test_fine_tuning_without_transcripts_is_named(corpus, tmp_path, fails):
    for path in corpus.glob("train/*/*/*.txt"):
        path.unlink()
    fails(lambda: finetune(corpus, tmp_path / "ctc"), "no transcripts", "'train'")
