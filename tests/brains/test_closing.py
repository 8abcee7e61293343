"""The last lines of a training: figures and the next command, also when it is over."""

import json
import logging
import shlex

import pytest
from small_runs import finetune, log, pretrain

from speechbrain_birq.brains.closing import (
    finetune_command,
    known_scores,
    log_closing,
    mark_other_settings,
    transcribe_command,
    unmark,
)
from speechbrain_birq.cli.main import main


@pytest.fixture
def closing(tmp_path, caplog):
    """closing(results, trained) -> the lines"""

    def close(results, trained):
        caplog.set_level(logging.INFO)
        (tmp_path / "results.json").write_text(json.dumps(results))
        log_closing(tmp_path, "birq go", trained=trained)
        return [record.getMessage() for record in caplog.records]

    return close


PRETRAINED = {"steps": 16000, "seconds": 2880.0, "valid": {"G": 3.44, "loss": 5.0}}
SCORE = {"wer": 20.5, "cer": 7.25, "wer_low": 18.0, "wer_high": 22.0}


def test_what_was_made_and_where_and_what_to_do(closing, tmp_path):
    made, following = closing(PRETRAINED, trained=True)
    assert made == f"{tmp_path}: finished: 16,000 steps in 48 min"
    assert following == "next: birq go"


def test_a_run_that_was_finished_says_so_with_its_figures(closing):
    results = PRETRAINED | {"test": SCORE, "layer_weights": [0.5, 0.5]}
    made, valid, test, following = closing(results, trained=False)
    assert "finished already" in made
    assert valid.startswith("validation: G 3.44")
    assert test == "test: CER 7.2 %  WER 20.5 %"
    assert following == "next: birq go"


@pytest.mark.parametrize(
    ("yaml", "name"),
    [
        ("hparams/birq_tiny.yaml", "ctc_tiny"),
        ("best_rq_wide", "ctc_wide"),
        ("birq_large_yodas.yaml", "ctc_large"),
        ("birq_paper_wide.yaml", "ctc_wide"),
        ("birq_paper_large_yodas", "ctc_large"),
        ("birq_plus.yaml", "ctc_base"),
        ("stable.yaml", "ctc_base"),
    ],
)
def test_the_yaml_of_fine_tuning_has_the_size_of_the_pretraining(yaml, name):
    splits = {"data_folder": "/a b", "train_split": "train"}
    words = shlex.split(finetune_command(yaml, "r/p", **splits))
    assert words[:3] == ["birq", "finetune", name]
    assert words[3:] == ["--data_folder", "/a b", "--pretrained", "r/p"]


def test_without_a_data_folder_the_next_command_names_the_table():
    splits = {"data_folder": None, "train_split": "my corpus.csv"}
    words = shlex.split(finetune_command("birq_tiny", "r/p", **splits))
    assert words[3:] == ["--train_split", "my corpus.csv", "--pretrained", "r/p"]


def test_the_next_command_trusts_the_packages_of_the_run():
    splits = dict(data_folder="c", train_split="train")
    for trust, value in ((["a"], "a"), (["a", "b"], "[a, b]")):
        words = shlex.split(finetune_command("tiny", "r/p", **splits, trust=trust))
        assert words[-2:] == ["--trust", value]
    words = shlex.split(transcribe_command("run", [], ["a", "b"]))
    assert words[3:] == ["run_exported", "--trust", "a", "--trust", "b"]


def test_a_run_of_shards_is_exported_because_they_hold_no_recording():
    assert transcribe_command("run", [object()]) == "birq export run run_exported"


def test_the_recording_to_transcribe_is_the_first_that_a_manifest_has(tmp_path):
    empty, full = tmp_path / "test.csv", tmp_path / "dev.csv"
    empty.write_text("ID,duration,wav,speaker,text\n")
    full.write_text("ID,duration,wav,speaker,text\n1,2.0,/my audio/1.flac,a,HI\n")
    words = shlex.split(transcribe_command("run", [object(), empty, full]))
    assert words == ["birq", "transcribe", "run", "/my audio/1.flac"]


@pytest.mark.parametrize("change", ["settings", "alignments", "nothing"])
def test_scores_are_known_under_the_same_settings_if_their_files_are_there(
    tmp_path, change
):
    (tmp_path / "results.json").write_text(json.dumps({"steps": 3, "test": SCORE}))
    (tmp_path / "hyperparams.yaml").write_text("decoding: greedy\n")
    if change != "alignments":
        (tmp_path / "wer_test.txt").write_text("")
    settings = "decoding: " + ("beam\n" if change == "settings" else "greedy\n")
    expected = {"test": SCORE} if change == "nothing" else {}
    assert known_scores(tmp_path, settings) == expected


@pytest.mark.parametrize("decoding", ["greedy", "beam"])
def test_scores_of_other_settings_are_not_known_until_all_are_made_anew(
    tmp_path, decoding
):
    own = "decoding: greedy\n"
    (tmp_path / "results.json").write_text(json.dumps({"test": SCORE}))
    (tmp_path / "hyperparams.yaml").write_text(own)
    (tmp_path / "wer_test.txt").write_text("")
    mark_other_settings(tmp_path, f"decoding: {decoding}\n")
    assert bool(known_scores(tmp_path, own)) == (decoding == "greedy")
    unmark(tmp_path)
    assert known_scores(tmp_path, own) == {"test": SCORE}


@pytest.fixture(scope="module")
def finetuned(_corpus_template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "ctc"
    return folder, finetune(_corpus_template, folder)


def test_a_finished_fine_tuning_is_not_scored_again(
    _corpus_template, finetuned, monkeypatch
):
    folder, rates = finetuned
    before = (folder / "wer_test.txt").stat().st_mtime_ns
    assert finetune(_corpus_template, folder) == rates
    assert (folder / "wer_test.txt").stat().st_mtime_ns == before
    *_, last = log(folder).split("finished already")
    assert "CER" in last and f"next: birq transcribe {folder}" in last
    assert (_corpus_template / "test").as_posix() in last


def test_a_finished_fine_tuning_is_scored_again_with_other_decoding(
    _corpus_template, finetuned
):
    folder, _ = finetuned
    before = (folder / "wer_test.txt").stat().st_mtime_ns
    finetune(_corpus_template, folder, batch_seconds=4)
    assert (folder / "wer_test.txt").stat().st_mtime_ns > before


def test_a_pretraining_ends_with_the_command_of_fine_tuning(pretrained):
    folder, _ = pretrained
    *_, last = log(folder).strip().splitlines()
    assert "next: birq finetune ctc_tiny" in last and str(folder) in last


def test_a_pretraining_that_ended_by_its_epochs_is_finished(_corpus_template, tmp_path):
    more = dict(optimizer_step_limit=None, number_of_epochs=1)
    for _ in range(2):
        pretrain(_corpus_template, tmp_path / "run", **more)
    text = log(tmp_path / "run")
    assert text.count("finished already") == 1
    assert text.count("training 13.4k parameters") == 1


def test_without_a_test_split_the_next_command_names_a_recording_of_validation(
    _corpus_template, tmp_path, capsys
):
    finetune(_corpus_template, tmp_path / "ctc", test_splits=[], number_of_epochs=1)
    *_, command = log(tmp_path / "ctc").strip().split("next: birq ")
    assert (_corpus_template / "dev").as_posix() in command
    capsys.readouterr()
    main(shlex.split(command))
    assert "\t" in capsys.readouterr().out
