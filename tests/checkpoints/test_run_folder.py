"""Every corrupt file of a run folder is named in one sentence."""

import json
import pickle
import shutil
import zipfile

import pytest
import torch
from test_old_layout import OLD

from speechbrain_birq.brains.run_log import RunLog, add_result
from speechbrain_birq.checkpoints import files
from speechbrain_birq.checkpoints.checkpointer import AtomicCheckpointer
from speechbrain_birq.checkpoints.run_folder import (
    best_checkpoint,
    load_architecture,
    load_weights,
)
from speechbrain_birq.checkpoints.same_run import check_same_run
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import SpeechEncoder, load_labeller
from speechbrain_birq.inference.pretrained import pretraining_settings
from speechbrain_birq.metrics.curves import plot_training, read_metrics

pytestmark = pytest.mark.faults

YAML_FAULTS = {
    "empty": b"",
    "bytes": b"\xff\xfe\x00garbage",
    "cut": b"frontend: !new:speechbrain_birq.models.FrontEnd {n_mels: ",
    "list": b"- 1\n",
    "text": b"train",
    "keys": b"d_model: 16\n",
    "deep": b"frontend: " + b"[" * 100_000,
    "deep blocks": b"frontend:\n  " + b"- " * 20_000,
    "argument": b"encoder: 1\nfrontend: !new:speechbrain_birq.models.FrontEnd {x: 1}",
    "no alias": b"frontend: !ref <nothing>\nencoder: 1\n",
}
READERS = {
    "architecture.yaml": load_architecture,
    "hyperparams.yaml": lambda run: load_labeller(run, 1),
}


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(OLD / "pretrained", tmp_path / "run")


def sentence(path, function, *arguments):
    with pytest.raises(BadInput) as caught:
        function(*arguments)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 700
    assert path.name in text and str(path.parent) in text
    return text


@pytest.mark.parametrize("fault", YAML_FAULTS.values(), ids=YAML_FAULTS)
@pytest.mark.parametrize("name", READERS)
def test_a_corrupt_yaml_is_named(run, name, fault):
    (run / name).write_bytes(fault)
    sentence(run / name, READERS[name], run)


MODELS = ["3", "[1]", "!new:torch.nn.Linear [1, 2]", "{label_layer: 1}"]


@pytest.mark.parametrize("model", MODELS)
def test_another_model_than_that_of_a_pretraining_is_named(run, model):
    keys = "label_layer: 1\ntrain_split: a\nvalid_split: b\n"
    (run / "hyperparams.yaml").write_text(f"{keys}model: {model}\n")
    sentence(run / "hyperparams.yaml", load_labeller, run, 1)


@pytest.mark.faults
def test_one_pretrained_run_may_be_written_in_several_ways(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    with open(run / "hyperparams.yaml", "a") as file:
        file.write("\npretrained: r/p0\nmy_own: r/p0\n")
    for same in ("r/p0/", "./r/p0", f"{run.parent}/r/p0"):
        check_same_run(run, f"pretrained: {same}\n")
    for yaml, key in [("pretrained: r/p1", "pretrained"), ("my_own: r/p0/", "my_own")]:
        with pytest.raises(BadInput, match=f"{key}: r/p0, now"):
            check_same_run(run, yaml)


@pytest.mark.parametrize("fault", ["empty", "bytes", "cut", "list", "deep"])
def test_a_resume_names_corrupt_hyperparameters(run, fault):
    (run / "hyperparams.yaml").write_bytes(YAML_FAULTS[fault])
    text = sentence(run / "hyperparams.yaml", check_same_run, run, "seed: 1\n")
    assert "--output_folder" in text


def test_settings_that_are_not_of_a_pretraining_are_named(run):
    (run / "hyperparams.yaml").write_text("frontend: 1\nencoder: 1\n")
    assert "no model" in sentence(run / "hyperparams.yaml", pretraining_settings, run)


CHECKPOINTS = {
    "list": [torch.zeros(2)],
    "tensor": torch.zeros(2),
    "nothing": None,
    "number": 3,
    "keys": {0: torch.zeros(2)},
    "values": {"a.weight": 3, "a.bias": None},
}


@pytest.mark.parametrize("content", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_model_file_that_holds_no_state_is_named(tmp_path, content):
    path = tmp_path / "model.ckpt"
    files.save_tensors(content, path)
    with pytest.raises(BadInput) as caught:
        load_weights({"a": torch.nn.Linear(2, 3)}, tmp_path, tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_resume_names_a_model_file_that_holds_no_state(tmp_path, content):
    def checkpointer():
        parts = {"model": torch.nn.ModuleDict({"a": torch.nn.Linear(2, 3)})}
        return AtomicCheckpointer(tmp_path, parts)

    folder = checkpointer().save_checkpoint().path
    files.save_tensors(content, folder / "model.ckpt")
    files.seal(folder)
    with pytest.raises(BadInput) as caught:
        checkpointer().recover_if_possible()
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", pickle.dumps(print), b"\0" * 100]
)
def test_a_model_file_that_is_none_is_named(run, content):
    checkpoint = best_checkpoint(run)
    (checkpoint / "model.ckpt").write_bytes(content)
    files.seal(checkpoint)
    sentence(checkpoint / "model.ckpt", SpeechEncoder, run)


def test_an_archive_that_unpacks_to_more_than_it_is_is_not_loaded(run):
    path = best_checkpoint(run) / "model.ckpt"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("archive/data/99", bytes(2**24))
    files.seal(path.parent)
    assert path.stat().st_size < 2**20
    assert "unpack to 16" in sentence(path, SpeechEncoder, run)


def test_a_model_file_that_is_no_file_is_not_loaded(tmp_path):
    (tmp_path / "model.ckpt").symlink_to("/dev/zero")
    with pytest.raises(BadInput, match="not a regular file"):
        load_weights({}, tmp_path, tmp_path)


def test_a_cut_last_line_of_the_metrics_stops_no_resume(tmp_path):
    log, path = RunLog(tmp_path, tensorboard=False), tmp_path / "metrics.jsonl"
    for step in (1, 2, 3):
        log.report("train", step, {"loss": 0.5})
    log.save(tmp_path / "state")
    path.write_bytes(path.read_bytes()[:-5])
    again = RunLog(tmp_path, tensorboard=False)
    again.load(tmp_path / "state", end_of_epoch=True)
    again.resume()
    again.report("train", 4, {"loss": 0.5})
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 4]


@pytest.mark.parametrize("line", ["{", "7", '{"stage": "train"}', '{"step": "a"}'])
def test_lines_that_are_no_reports_stop_neither_resume_nor_drawing(tmp_path, line):
    log, path = RunLog(tmp_path, tensorboard=False), tmp_path / "metrics.jsonl"
    log.report("valid", 1, {"loss": 0.5})
    path.write_text(f"{line}\n{path.read_text()}")
    log.save(tmp_path / "state")
    log.load(tmp_path / "state", end_of_epoch=True)
    log.resume()
    assert plot_training(tmp_path) == {"stage": "valid", "step": 1, "loss": 0.5}


@pytest.mark.parametrize("content", ["[1]", "{}", "{", '{"bytes": 1}'])
def test_a_corrupt_state_of_the_log_is_named(tmp_path, content):
    (tmp_path / "run_log.ckpt").write_text(content)
    log = RunLog(tmp_path, tensorboard=False)
    sentence(tmp_path / "run_log.ckpt", log.load, tmp_path / "run_log.ckpt", True)


def test_cut_results_keep_the_other_entries(tmp_path):
    for split in ("dev", "test", "other"):
        add_result(tmp_path, split, {"wer": 1.5})
    path = tmp_path / "results.json"
    path.write_text(path.read_text()[:-15])
    add_result(tmp_path, "steps", 7)
    expected = {"dev": {"wer": 1.5}, "test": {"wer": 1.5}, "steps": 7}
    assert json.loads(path.read_text()) == expected
