"""`birq shard`, and training from what it made."""

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import speechbrain as sb
import torch
from small_runs import finetune, pretrain, weights

from speechbrain_birq.brains.base import SumBrain
from speechbrain_birq.brains.progress import Progress
from speechbrain_birq.checkpoints.run_lock import locked
from speechbrain_birq.cli.main import main
from speechbrain_birq.data import same_data
from speechbrain_birq.data.corpora import forms
from speechbrain_birq.data.corpora.librispeech import (
    find_utterances,
    prepare_librispeech,
)
from speechbrain_birq.data.formats import AUDIO_SUFFIXES
from speechbrain_birq.data.pipeline import AudioReader, make_dataset
from speechbrain_birq.data.shards import batches as shard_batches
from speechbrain_birq.data.shards import convert as module
from speechbrain_birq.data.shards import writer
from speechbrain_birq.data.shards.dataset import make_shard_dataset
from speechbrain_birq.data.shards.reader import find_shards


def items(dataset):
    """name -> (samples, text)"""
    dataset.set_output_keys(["id", "sig", "text"])
    return {item["id"]: (item["sig"].numpy(), item["text"]) for item in dataset}


def from_shards(folder, split):
    options = dict(reader=AudioReader(16000), min_seconds=0, max_seconds=100)
    return items(make_shard_dataset(find_shards(folder, split), **options))


def from_files(corpus, split, folder):
    (manifest,) = prepare_librispeech(corpus, [split], folder).values()
    options = dict(reader=AudioReader(16000), min_seconds=0, max_seconds=100)
    return items(make_dataset(manifest, **options))


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, (samples, text) in first.items():
        assert text == second[name][1]
        assert np.array_equal(samples, second[name][0]), name


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_shards_of_a_folder_hold_what_its_files_hold(
    corpus, tmp_path, capsys, split
):  # also of stereo and of 8 kHz: they are resampled to the same numbers
    main(["shard", str(corpus), str(tmp_path / "shards")])
    assert f"{split}: 1 shards" in capsys.readouterr().out
    expected = from_files(corpus, split, tmp_path)
    assert_same(from_shards(tmp_path / "shards", split), expected)


def test_shards_of_a_manifest_have_its_name(corpus, tmp_path):
    (manifest,) = prepare_librispeech(corpus, ["dev"], tmp_path).values()
    main(["shard", str(manifest), str(tmp_path / "shards")])
    expected = from_files(corpus, "dev", tmp_path)
    assert_same(from_shards(tmp_path / "shards", "dev"), expected)


def test_shards_of_names_that_are_paths_hold_what_their_files_hold(corpus, tmp_path):
    for folder in ("a", "b"):  # "b/21/1/21-1-0000" and so on
        shutil.copytree(corpus / "dev", tmp_path / "two" / "both" / folder)
    main(["shard", str(tmp_path / "two"), str(tmp_path / "shards")])
    expected = from_files(tmp_path / "two", "both", tmp_path)
    assert len(expected) == 6 and all("/" in name for name in expected)
    assert_same(from_shards(tmp_path / "shards", "both"), expected)


@pytest.fixture
def table(corpus, tmp_path):
    """table(name): a table of dev, whose paths are relative to it."""

    def table(name):
        rows = [
            {"path": os.path.relpath(row.wav, tmp_path), "sentence": row.text}
            for row in find_utterances(corpus, "dev")
        ]
        path = tmp_path / name
        if path.suffix == ".jsonl":
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        else:
            mark = "\t" if path.suffix == ".tsv" else ";"
            lines = [rows[0].keys(), *(row.values() for row in rows)]
            path.write_text("".join(mark.join(line) + "\n" for line in lines))
        return path

    return table


@pytest.mark.parametrize("name", ["own.csv", "own.tsv", "own.jsonl"])
def test_shards_of_a_table_hold_what_a_training_reads_of_it(
    corpus, table, tmp_path, name
):
    main(["shard", str(table(name)), str(tmp_path / "shards")])
    expected = from_files(corpus, "dev", tmp_path)
    assert_same(from_shards(tmp_path / "shards", "own"), expected)


def test_a_table_may_be_a_split_of_a_folder(corpus, table, tmp_path, monkeypatch):
    """The folder stands where a training has its --data_folder."""
    table("own.csv")
    monkeypatch.chdir(corpus)
    command = ["shard", str(tmp_path), str(tmp_path / "s"), "--split", "own.csv"]
    main([*command, "corpus/test"])
    assert len(from_shards(tmp_path / "s", "own")) == 3
    assert len(from_shards(tmp_path / "s", "corpus/test")) == 3


def test_files_of_a_table_may_be_elsewhere(corpus, table, tmp_path, fails):
    elsewhere = tmp_path / "elsewhere" / "own.csv"
    elsewhere.parent.mkdir()
    shutil.move(table("own.csv"), elsewhere)
    command = ["shard", str(elsewhere), str(tmp_path / "shards")]
    fails(lambda: main(command), "none of its 3 files exists", "--data_folder")
    main([*command, "--data_folder", str(tmp_path)])
    expected = from_files(corpus, "dev", tmp_path)
    assert_same(from_shards(tmp_path / "shards", "own"), expected)


def test_shards_of_an_audiofolder_have_its_name_and_texts(corpus, tmp_path):
    rows = find_utterances(corpus, "dev")
    lines = [f"{os.path.relpath(row.wav, corpus / 'dev')},{row.text}" for row in rows]
    text = "\n".join(["file_name,transcription", *lines])
    (corpus / "dev" / "metadata.csv").write_text(text)
    for path in (corpus / "dev").rglob("*.trans.txt"):
        path.unlink()
    main(["shard", str(corpus / "dev"), str(tmp_path / "shards")])
    expected = {row.ID: row.text for row in rows}
    found = from_shards(tmp_path / "shards", "dev")
    assert {name: text for name, (_, text) in found.items()} == expected


def test_shards_of_a_dataset_have_the_name_of_its_split(
    tmp_path, monkeypatch, corpus, table
):
    asked = []

    def unpacked(source, split=None):
        asked.append(source)
        return table("metadata.csv")

    monkeypatch.setattr(forms, "unpacked", unpacked)
    main(["shard", "hf:owner/name/train.100", str(tmp_path / "shards")])
    assert asked == ["hf:owner/name/train.100"]
    assert len(from_shards(tmp_path / "shards", "train.100")) == 3


def test_folders_without_audio_are_no_splits(corpus, tmp_path, caplog):
    for name in ("annotations", "other"):
        (corpus / name).mkdir()
        (corpus / name / "a.xml").touch()
    with caplog.at_level(logging.WARNING):
        main(["shard", str(corpus), str(tmp_path / "s")])
    found = sorted(path.name for path in (tmp_path / "s").iterdir())
    assert found == ["dev", "test", "train"]
    told = [message for message in caplog.messages if "no splits" in message]
    kinds = ", ".join(AUDIO_SUFFIXES)
    assert told == [f"{corpus}: no audio ({kinds}) in annotations, other: no splits"]


def test_folders_whose_audio_is_corrupt_are_named(corpus, tmp_path, fails):
    for path in (corpus / "dev").rglob("*.*"):
        path.write_bytes(b"")
    command = ["shard", str(corpus), str(tmp_path / "s")]
    fails(lambda: main(command), "no readable audio", "dev")
    assert not (tmp_path / "s").exists()


def test_one_split_is_taken_where_it_is_named(corpus, tmp_path):
    main(["shard", str(corpus), str(tmp_path / "shards"), "--split", "dev"])
    assert [path.name for path in (tmp_path / "shards").iterdir()] == ["dev"]


def test_shards_are_as_long_as_told(corpus, tmp_path, capsys):
    arguments = ["--split", "train", "--shard_hours", "0.0007"]  # 2.5 s of 8.2
    main(["shard", str(corpus), str(tmp_path / "shards"), *arguments])
    assert "train: 3 shards, 6 utterances, 0.00 h, 0 skipped" in capsys.readouterr().out


def test_speakers_are_mixed(tmp_path):
    """Sorted by speaker, a shard would hold few of them."""
    chapter = tmp_path / "corpus" / "train" / "1" / "1"
    chapter.mkdir(parents=True)
    for number in range(20):
        soundfile.write(chapter / f"{number:02d}-1-1.wav", np.ones(1600) / 2, 16000)
    main(["shard", str(tmp_path / "corpus"), str(tmp_path / "shards")])
    names = list(from_shards(tmp_path / "shards", "train"))
    assert names != sorted(names)


def test_files_that_cannot_be_read_are_named_and_counted(
    corpus, tmp_path, capsys, caplog
):
    chapter = corpus / "train" / "11" / "1"
    good = (chapter / "11-1-0001.flac").read_bytes()
    (chapter / "11-1-0001.flac").write_bytes(good[: len(good) // 2])
    with caplog.at_level(logging.WARNING):
        main(["shard", str(corpus), str(tmp_path / "s"), "--split", "train"])
    assert "train: 1 shards, 5 utterances, 0.00 h, 1 skipped" in capsys.readouterr().out
    assert "11-1-0001.flac: unreadable" in caplog.text


def test_sharding_that_was_stopped_goes_on_without_reading_again(
    corpus, tmp_path, monkeypatch
):
    command = ["shard", str(corpus), str(tmp_path / "s"), "--split", "train"]
    command += ["--shard_hours", "0.0001"]  # each utterance a shard
    finish, read = writer._Shard.finish, []

    def finish_three(self):
        if self.name == "000003":
            raise KeyboardInterrupt
        return finish(self)

    monkeypatch.setattr(writer._Shard, "finish", finish_three)
    with pytest.raises(SystemExit, match="130"):
        main(command)
    monkeypatch.setattr(writer._Shard, "finish", finish)

    class Watched(AudioReader):
        def __call__(self, path):
            read.append(Path(path).stem)
            return super().__call__(path)

    monkeypatch.setattr(module, "AudioReader", Watched)
    main(command)
    assert len(read) == 3
    expected = from_files(corpus, "train", tmp_path)
    assert_same(from_shards(tmp_path / "s", "train"), expected)


def test_the_size_is_announced(corpus, tmp_path, capsys):
    main(["shard", str(corpus), str(tmp_path / "s"), "--split", "train"])
    assert "about 0.00 GB to write" in capsys.readouterr().err


def test_a_disk_that_is_too_small_is_refused(corpus, tmp_path, fails, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)  # 8.2 s take 164,000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    command = ["shard", str(corpus), str(tmp_path / "s"), "--split", "train"]
    fails(lambda: main(command), "needs about", "GB free")
    assert [path.name for path in (tmp_path / "s" / "train").iterdir()] == [".lock"]


@pytest.mark.faults
def test_a_split_that_another_process_writes_is_refused(corpus, tmp_path, fails):
    command = ["shard", str(corpus), str(tmp_path / "s"), "--split", "train"]
    with locked(tmp_path / "s" / "train"):
        fails(lambda: main(command), f"{tmp_path}/s/train", f"process {os.getpid()} on")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["does not exist", "CSV"]),
        (["."], ["holds no folder of audio", "table"]),
        (["hf:owner/name", "--split", "dev"], ["leave out --split"]),
        (["corpus", "--data_folder", "corpus"], ["corpus is none: leave it out"]),
        (["corpus", "--split", "dev", "./corpus/dev"], ["two splits are called 'dev'"]),
        (["corpus", "--split", "trian"], ["no split 'trian'", "train"]),
        (["corpus/a.csv", "--split", "dev"], ["leave out --split"]),
        (["corpus", "--shard_hours", "0"], ["above 0"]),
    ],
)
def test_a_mistake_is_one_sentence(
    corpus, tmp_path, fails, monkeypatch, arguments, words
):
    empty = tmp_path / "empty"
    empty.mkdir()
    (corpus / "a.csv").write_text("ID,duration,wav,speaker,text\n")
    monkeypatch.chdir(tmp_path if arguments[0] != "." else empty)
    source, *options = arguments
    fails(lambda: main(["shard", source, str(tmp_path / "s"), *options]), *words)


def test_a_folder_that_cannot_be_written_is_told(corpus, tmp_path, fails):
    (tmp_path / "file").write_text("")
    command = ["shard", str(corpus), str(tmp_path / "file"), "--split", "dev"]
    fails(lambda: main(command), "cannot write", "Not a directory")


# Training


@pytest.fixture(scope="module")
def shards(_corpus_template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    main(["shard", str(_corpus_template), str(folder)])
    return folder


def test_the_same_yaml_pretrains_from_shards_as_from_files(
    shards, _corpus_template, tmp_path
):
    """Both runs make one update on one and the same batch: all of the corpus."""
    options = dict(batch_seconds=100, optimizer_step_limit=1, normalize="global")
    first = pretrain(_corpus_template, tmp_path / "files", **options)
    second = pretrain(shards, tmp_path / "shards", **options)
    assert second["G"] == pytest.approx(first["G"], rel=1e-5)
    seen = weights(tmp_path / "files"), weights(tmp_path / "shards")
    for name in ("mean", "variance"):  # of all training audio
        values = [state[f"frontend.statistics.{name}"] for state in seen]
        torch.testing.assert_close(*values, rtol=1e-5, atol=1e-5)
    assert not (tmp_path / "shards" / "manifests").exists()


def test_the_same_yaml_fine_tunes_from_shards(shards, tmp_path):
    scores = finetune(shards, tmp_path / "run")
    assert scores["test"]["utterances"] == 3
    with open(tmp_path / "run" / "wer_test.txt", encoding="utf-8") as file:
        told = file.read()
    assert all(f"{speaker}-1-0000" in told for speaker in (31, 32, 33))


def test_fine_tuning_from_shards_without_transcripts_is_told(corpus, tmp_path, fails):
    for path in (corpus / "train").rglob("*.txt"):
        path.unlink()
    main(["shard", str(corpus), str(tmp_path / "s")])
    fails(lambda: finetune(tmp_path / "s", tmp_path / "run"), "no transcripts")


def test_copies_of_shards_are_compared_between_ranks(
    corpus, tmp_path, monkeypatch, fails
):
    module.shard_corpus(corpus, tmp_path / "shards", splits=["train", "dev"])
    seen = []

    def other_copy(value):
        seen.append(value)
        return [value, value + 1 if isinstance(value, int) else value]

    monkeypatch.setattr(same_data, "gathered", other_copy)
    fails(
        lambda: pretrain(tmp_path / "shards", tmp_path / "run"),
        "shards of 'train' differ between the ranks",
    )
    monkeypatch.setattr(same_data, "gathered", lambda value: [value, []])
    fails(lambda: pretrain(tmp_path / "shards", tmp_path / "run"), "but not on both")
    copies = [find_shards(tmp_path / "shards", "train") for _ in range(2)]
    assert copies[0].fingerprint() == copies[1].fingerprint() == seen[-1]
    copies[1].first[1] += 1
    assert copies[0].fingerprint() != copies[1].fingerprint()


def test_files_and_shards_may_stand_side_by_side(shards, corpus, tmp_path):
    """Training from shards, validation from files in the same data folder."""
    shutil.rmtree(corpus / "train")
    shutil.copytree(shards / "train", corpus / "train")
    pretrain(corpus, tmp_path / "run")
    names = [path.name for path in (tmp_path / "run" / "manifests").iterdir()]
    assert names == ["dev.csv"]


def test_a_brain_counts_the_batches_of_the_epoch_at_hand(monkeypatch):
    """Otherwise the last gradients of an epoch would wait for the next one."""
    plan = shard_batches.ShardBatches(
        samples=np.random.default_rng(0).integers(1000, 20_000, 400),
        selection=shard_batches.UsedUtterances(
            np.ones(400, bool), np.arange(0, 401, 20)
        ),
        max_samples=60_000,
        shuffle=True,
        seed=0,
    )
    monkeypatch.setattr(shard_batches, "WINDOW", 40)
    monkeypatch.setattr(sb.Brain, "_fit_train", lambda *_, **__: None)
    monkeypatch.setattr(SumBrain, "_planned_steps", lambda *_: 100)
    monkeypatch.setattr(SumBrain, "check_skipped_steps", lambda _: None)
    monkeypatch.setattr(SumBrain, "_find_place", lambda *_: None)
    brain, counted = SumBrain.__new__(SumBrain), []
    brain.optimizer_step, brain.progress = 0, Progress()
    brain.train_sampler = plan
    for epoch in range(5):
        brain._fit_train(plan, epoch, False)
        assert brain.num_batches == len(list(plan))
        counted.append(brain.num_batches)
    assert len(set(counted)) > 1
