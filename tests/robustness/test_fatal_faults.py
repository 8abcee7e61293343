"""What training cannot survive: exit status 2 and one sentence."""

import math
import re
import shutil

import pytest
import torch
from small_runs import log, pretrain
from test_faulty_recordings import CHANGES, KINDS
from test_faulty_transcripts import TEXTS

from speechbrain_birq.brains import BiRQBrain
from speechbrain_birq.metrics.curves import read_metrics
from speechbrain_birq.models.birq import BiRQ

pytestmark = pytest.mark.faults


def no_folder(corpus, output, patch):
    shutil.rmtree(corpus)


def file_for_a_folder(corpus, output, patch):
    shutil.rmtree(corpus)
    corpus.write_text("no folder")


def file_for_a_split(corpus, output, patch):
    shutil.rmtree(corpus / "train")
    (corpus / "train").write_text("no folder")


def nothing(corpus, output, patch):
    pass


def manifests_a_file(corpus, output, patch):
    output.mkdir()
    (output / "manifests").write_text("no folder")


def raising(error, training):
    def make(corpus, output, patch):
        for number in (2, 3):  # three of one length make a batch
            name = f"train/12/1/12-1-000{number}.flac"
            shutil.copy(corpus / "train/12/1/12-1-0001.flac", corpus / name)
        forward = BiRQ.forward

        def failing(self, *arguments, **keywords):
            if self.training == training:
                if error is None:
                    return torch.empty(2**50)  # 4 PB: the CPU's own error
                raise error
            return forward(self, *arguments, **keywords)

        patch.setattr(BiRQ, "forward", failing)

    return make


def not_finite(corpus, output, patch):
    """A batch with utterance 12-1-0000 has a loss that is not a number."""
    forward = BiRQBrain.compute_forward

    def spoiled(self, batch, stage):
        objective = forward(self, batch, stage)
        if "12-1-0000" not in batch.id:
            return objective
        return objective._replace(anchor_loss=objective.anchor_loss * math.nan)

    patch.setattr(BiRQBrain, "compute_forward", spoiled)


def diverged(corpus, output, patch):
    forward = BiRQBrain.compute_forward

    def spoiled(self, batch, stage):
        objective = forward(self, batch, stage)
        return objective._replace(anchor_loss=objective.anchor_loss * math.inf)

    patch.setattr(BiRQBrain, "compute_forward", spoiled)


def never_finite(corpus, output, patch):
    forward = BiRQBrain.compute_forward

    def spoiled(self, batch, stage):
        objective = forward(self, batch, stage)
        if stage.name == "VALID":
            return objective
        return objective._replace(anchor_loss=objective.anchor_loss * math.nan)

    patch.setattr(BiRQBrain, "compute_forward", spoiled)


GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
MEMORY = "out of memory in a batch of "
ONE = dict(batch_seconds=0.1)  # every utterance is a batch of its own
MANY = dict(batch_seconds=5, min_seconds=1.4, max_seconds=1.6)  # three in a batch
FATAL = {
    "no data folder": (no_folder, {}, "does not exist: give --data_folder"),
    "a file for a data folder": (file_for_a_folder, {}, "does not exist"),
    "a file for a split": (file_for_a_split, {}, "neither a folder nor"),
    "a split above": (nothing, dict(train_split="../corpus/dev"), "no file or folder"),
    "an absolute split": (
        nothing,
        dict(train_split="/corpus/dev"),
        "no file or folder",
    ),
    "half a join": (nothing, dict(train_split="train+"), "below"),
    "a file for the manifests": (manifests_a_file, {}, "manifests (File exists)"),
    "GPU memory": (raising(GPU, True), MANY, MEMORY, "lower batch_seconds and raise"),
    "GPU memory, alone": (raising(GPU, True), ONE, MEMORY, "lower max_seconds"),
    "GPU memory, validation": (raising(GPU, False), ONE, "lower max_eval_seconds"),
    "CPU memory": (raising(None, True), MANY, MEMORY, "lower batch_seconds"),
    "NumPy's memory": (raising(MemoryError(), True), {}, MEMORY),
    "not finite, no patience": (
        not_finite,
        dict(nonfinite_patience=0, optimizer_step_limit=None),
        "1 steps of this epoch",
        "12-1-0000",
    ),
    "diverged": (
        diverged,
        dict(batch_seconds=1, nonfinite_patience=3, optimizer_step_limit=None),
        "4 steps of this epoch",
        "-1-000",
    ),
    "every step skipped": (never_finite, {}, "all 3 steps were skipped"),
}


@pytest.mark.parametrize("kind", FATAL)
def test_what_stops_a_training_is_one_sentence(
    corpus, tmp_path, fails, monkeypatch, kind
):
    arrange, settings, *words = FATAL[kind]
    arrange(corpus, tmp_path / "run", monkeypatch)
    fails(lambda: pretrain(corpus, tmp_path / "run", **settings), *words)


def test_the_sentence_about_memory_has_the_duration_of_the_batch(
    corpus, tmp_path, fails, monkeypatch
):
    for path in corpus.glob("train/*/*/*"):
        if path.stem != "12-1-0001":  # 1.5 s
            path.unlink()
    raising(GPU, True)(corpus, tmp_path, monkeypatch)
    told = fails(lambda: pretrain(corpus, tmp_path / "run", batch_seconds=5))
    assert "a batch of 4.5 s (3 x 1.5 s with padding; 12-1-000" in told


def test_a_batch_that_is_not_finite_is_skipped_counted_and_named(
    corpus, tmp_path, monkeypatch
):
    not_finite(corpus, tmp_path, monkeypatch)
    more = dict(nonfinite_patience=1, optimizer_step_limit=None, number_of_epochs=2)
    pretrain(corpus, tmp_path / "run", batch_seconds=3, log_interval=100, **more)
    skipped = re.findall("skipped step .*", log(tmp_path / "run"))
    assert len(skipped) == 2  # once an epoch
    assert all("1 now in this epoch" in s and "12-1-0000" in s for s in skipped)
    figures = read_metrics(tmp_path / "run", "valid")
    assert [math.isfinite(row["loss"]) for row in figures] == [True, True]


def test_a_skipped_batch_enters_no_mean(corpus, tmp_path, monkeypatch):
    not_finite(corpus, tmp_path, monkeypatch)
    more = dict(optimizer_step_limit=None, batch_seconds=0.1, number_of_epochs=2)
    pretrain(corpus, tmp_path / "run", log_interval=6, **more)
    *_, last = read_metrics(tmp_path / "run", "train")
    assert last["step"] >= 5 and math.isfinite(last["G"]) and last["G"] > 0


def test_there_are_at_least_fifty_kinds_of_faults():
    assert len(KINDS) + len(CHANGES) + len(TEXTS) + len(FATAL) >= 50


@pytest.mark.parametrize(
    "value", ["!apply:os.system [touch {}]", "!!python/object/apply:os.system [x]"]
)
def test_the_command_line_runs_nothing(corpus, tmp_path, fails, value):
    target = tmp_path / "owned"
    value = value.format(target)
    fails(lambda: pretrain(corpus, tmp_path / "run", lr=value), "may not hold a tag")
    assert not target.exists()
