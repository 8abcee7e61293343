"""Runs on own data: tables, folders, texts that are cleaned, a share held out."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import soundfile
from small_corpus import tone
from small_runs import finetune, log, pretrain, process_wide_settings_restored

from speechbrain_birq.data import same_data
from speechbrain_birq.data.corpora.librispeech import find_utterances
from speechbrain_birq.data.held_out import hold_out
from speechbrain_birq.data.manifest import read_manifest, write_manifest
from speechbrain_birq.data.split_places import manifest_path
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference.relabel import relabel


@pytest.fixture
def own(corpus, tmp_path, monkeypatch):
    """The working folder, with train.csv, dev.jsonl and a flat folder of audio."""
    monkeypatch.chdir(tmp_path)
    with open("train.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "sentence"])
        for row in find_utterances(corpus, "train"):
            name = Path(row.wav).relative_to(tmp_path)
            table.writerow([name, f"{row.text.capitalize()}, sir!"])
    with open("dev.jsonl", "w") as file:
        for row in find_utterances(corpus, "dev"):
            print(json.dumps({"audio": row.wav, "text": row.text}), file=file)
    Path("flat").mkdir()
    texts = []
    for row in find_utterances(corpus, "test"):
        shutil.copy(row.wav, "flat")
        texts.append(f"{row.ID} {row.text}\n")
    Path("flat/all.trans.txt").write_text("".join(texts))
    return tmp_path


def names(run, split):
    return [row.ID for row in read_manifest(manifest_path(run / "manifests", split))]


def test_a_table_is_pretrained_on_without_a_data_folder(own):
    pretrain(None, own / "run", train_split="train.csv", valid_split="dev.jsonl")
    assert len(names(own / "run", "train.csv")) == 6
    assert len(names(own / "run", "dev.jsonl")) == 3
    assert json.loads((own / "run/results.json").read_text())["steps"] == 3


def test_files_at_another_place_on_another_machine_are_refused(own, monkeypatch, fails):
    elsewhere = "/scratch/other"

    def two_machines(value):
        return [value, elsewhere if isinstance(value, str) else value]

    monkeypatch.setattr(same_data, "gathered", two_machines)
    paths = dict(train_split="./corpus/train", valid_split="./corpus/dev")
    pretrain(own / "corpus", own / "paths", **paths)  # they need no data folder
    fails(
        lambda: pretrain(own / "corpus", own / "run"),
        str(own / "corpus"),
        f"{elsewhere} on another",
    )


@pytest.mark.parametrize("data_folder", [None, "."])
def test_a_split_below_another_folder_may_come_first(own, data_folder):
    both = dict(train_split="corpus/train", valid_split="corpus/dev")
    pretrain(data_folder, own / "run", **both)
    assert len(names(own / "run", both["train_split"])) == 6
    assert len(names(own / "run", both["valid_split"])) == 3


def test_a_share_that_is_named_twice_is_held_out_once(own):
    both = dict(train_split="./corpus/train", valid_split="20%")
    finetune(None, own / "run", n_mels=40, test_splits="[20%]", **both)
    train, held = (names(own / "run", split) for split in both.values())
    assert len(train) + len(held) == 6 and not {*train} & {*held}


def test_splits_of_all_forms_are_mixed_and_joined(own):
    soundfile.write("flat/44.wav", tone(0.9, 44100, seed=1), 44100)
    pretrain(
        own / "corpus",
        own / "run",
        train_split="train.csv+dev+./flat",
        valid_split="dev",
    )
    found = names(own / "run", "train.csv+dev+./flat")
    assert len(found) == 6 + 3 + 4 and "44" in found
    assert "44100 Hz, resampled" in log(own / "run")


def test_without_other_splits_a_share_is_held_out(own):
    pretrain(None, own / "run", train_split="train.csv")
    held, rest = names(own / "run", "5%"), names(own / "run", "train.csv")
    assert len(held) == 1 and len(rest) == 5 and held[0] not in rest
    assert "validation takes 1 of the 6" in log(own / "run")
    assert "valid_split: 5%" in (own / "run/hyperparams.yaml").read_text()


@pytest.mark.slow
def test_a_table_resumes_where_it_stopped(own):
    settings = dict(train_split="train.csv", optimizer_step_limit=100)
    pretrain(None, own / "whole", **settings, number_of_epochs=2)
    pretrain(None, own / "run", **settings, number_of_epochs=1)
    pretrain(None, own / "run", **settings, number_of_epochs=2)
    whole, run = (
        json.loads((own / name / "results.json").read_text())["valid"]
        for name in ("whole", "run")
    )
    assert run == whole
    assert "has changed since" not in log(own / "run")


def test_a_row_that_was_added_is_named_when_a_run_resumes(own):
    settings = dict(train_split="train.csv", valid_split="dev.jsonl")
    pretrain(None, own / "run", **settings)
    wav = own / "corpus/test/31/1/31-1-0000.flac"
    with open("train.csv", "a") as file:
        file.write(f"{wav},NEW\n")
    pretrain(None, own / "run", **settings, optimizer_step_limit=4)
    assert "'train.csv' has changed since the checkpoint: 1 added" in log(own / "run")


def test_texts_are_cleaned_alike_in_all_splits_and_counted(own):
    finetune(
        None,
        own / "ctc",
        train_split="train.csv",
        valid_split="dev.jsonl",
        test_splits="./flat",
        n_mels=40,
        text_case="lower",
        drop_characters=",!",
    )
    for split in ("train.csv", "dev.jsonl", "./flat"):
        for row in read_manifest(manifest_path(own / "ctc/manifests", split)):
            assert row.text and row.text == row.text.lower().strip(",!")
    text = log(own / "ctc")
    assert "'train.csv': 6 of 6 texts changed (case: lower; dropped" in text
    assert "',' 6, '!' 6" in text
    assert "'dev.jsonl': 3 of 3 texts changed" in text
    assert "," not in json.loads((own / "ctc/characters.json").read_text())
    assert "./flat" in json.loads((own / "ctc/results.json").read_text())


def test_other_clean_up_of_the_same_run_is_refused(own, fails):
    settings = dict(train_split="train.csv", valid_split="dev.jsonl", n_mels=40)
    finetune(None, own / "ctc", **settings, test_splits="./flat")
    more = settings | dict(test_splits="./flat", text_case="lower")
    fails(lambda: finetune(None, own / "ctc", **more), "text_case", "keep", "lower")


def test_a_case_that_there_is_not_is_refused(own, fails):
    fails(
        lambda: finetune(None, own / "ctc", text_case="title", train_split="train.csv"),
        "text_case takes upper, lower or keep",
    )


def test_fine_tuning_needs_texts(own, fails):
    rows = [line.split(",")[0] for line in Path("train.csv").read_text().splitlines()]
    Path("train.csv").write_text("\n".join(rows))
    fails(
        lambda: finetune(
            None, own / "ctc", train_split="train.csv", valid_split="dev.jsonl"
        ),
        "no transcripts in the split 'train.csv'",
        "column text",
    )


@pytest.fixture
def one_name(own):
    """A folder whose four speakers have recordings of the same three names."""
    for speaker in "abcd":
        Path("names", speaker).mkdir(parents=True)
        for number in range(3):
            signal = tone(1, 16000, seed=ord(speaker) + number)
            soundfile.write(f"names/{speaker}/{number}.wav", signal, 16000)
            with open(f"names/{speaker}/all.trans.txt", "a") as file:
                file.write(f"{number} ONE {speaker}\n")
    return own


def test_names_that_are_paths_are_held_out_resumed_and_relabelled(one_name):
    splits = dict(train_split="./names", valid_split="20%")
    best_rq = dict(enhanced_weight_value=0.0, anchor_weight_value=1.0)
    settings = splits | best_rq
    pretrain(None, "run", **settings)
    train, held = (names(Path("run"), split) for split in splits.values())
    assert len(train) == 10 and sorted(train + held) == [
        f"{speaker}/{number}" for speaker in "abcd" for number in range(3)
    ]
    pretrain(None, "run", **settings, optimizer_step_limit=4)
    assert "has changed since" not in log(Path("run"))
    with process_wide_settings_restored():
        relabel(["run", "--layer=2", "--output_folder=labels"])
    pretrain(None, "again", **settings, stored_labels="labels")
    assert json.loads(Path("again/results.json").read_text())["steps"] == 3


def test_errors_of_names_that_are_paths_are_counted_one_by_one(one_name):
    splits = dict(train_split="./names", valid_split="dev.jsonl")
    finetune(None, "ctc", **splits, test_splits="./names", n_mels=40)
    (path,) = Path("ctc").glob("errors_*.csv")
    with open(path, newline="") as file:
        assert len({row["id"] for row in csv.DictReader(file)}) == 12


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("pretrain", ["'pretrain'", "--data_folder"]),
        ("no.csv", ["no.csv", "right path"]),
        ("./nowhere", ["nowhere", "right path"]),
        ("notes.xlsx", ["notes.xlsx", "neither a folder nor a table"]),
        ("./flat+flat.csv", ["two recordings of one id", "31-1-0000"]),
        ("hf:name", ["hf:name", "hf:owner/name/split"]),
    ],
)
def test_a_split_that_cannot_be_read_is_named(own, fails, split, words):
    Path("notes.xlsx").touch()
    shutil.copy("flat/31-1-0000.flac", "other.flac")
    Path("flat.csv").write_text("wav,id\nother.flac,31-1-0000\n")
    settings = dict(train_split=split, valid_split="dev.jsonl")
    fails(lambda: pretrain(None, own / "run", **settings), *words)


def test_a_share_of_a_single_utterance_cannot_be_held_out(tmp_path):
    path = write_manifest(tmp_path / "a.csv", [("a", 1.0, "a.wav", "", "")])
    with pytest.raises(BadInput, match="of one utterance"):
        hold_out(path, tmp_path / "b.csv", "5%")


def test_what_is_held_out_depends_on_names_and_has_texts(tmp_path):
    rows = [(str(n), 1.0, "a.wav", "", "X" if n % 2 else "") for n in range(200)]
    held = []
    for order in (rows, rows[::-1]):
        path = write_manifest(tmp_path / "a.csv", order)
        hold_out(path, tmp_path / "b.csv", "10%")
        held.append({row.ID for row in read_manifest(tmp_path / "b.csv")})
        assert len(read_manifest(path)) == 190
        assert all(row.text for row in read_manifest(tmp_path / "b.csv"))
    assert held[0] == held[1] and len(held[0]) == 10
