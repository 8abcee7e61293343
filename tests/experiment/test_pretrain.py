"""Pretraining: what it leaves, from each YAML of the method."""

import json
from functools import partial

import pytest
import ruamel.yaml
import torch
from small_runs import (
    PRETRAIN,
    log,
    pretrain,
    run,
    weights,
)
from speechbrain.core import Stage

from speechbrain_birq import experiment
from speechbrain_birq.brains import BiRQBrain
from speechbrain_birq.metrics.curves import read_metrics


def test_pretraining_leaves_a_self_contained_run_folder(pretrained):
    folder, figures = pretrained
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "hyperparams.yaml",
        "architecture.yaml",
        "metrics.jsonl",
        "results.json",
        "manifests",
        "save",
        "log.txt",
    }
    assert "tensorboard" not in names
    resolved = (folder / "hyperparams.yaml").read_text()
    assert "d_model: 16" in resolved
    assert "!include" not in resolved
    architecture = ruamel.yaml.YAML().load(folder / "architecture.yaml")
    assert list(architecture) == ["frontend", "encoder"]
    results = json.loads((folder / "results.json").read_text())
    assert results["steps"] == 3 and results["seconds"] > 0
    (checkpoint,) = (folder / "save").iterdir()
    assert {path.name for path in checkpoint.iterdir()} == {
        "CKPT.yaml",
        "brain.ckpt",
        "corpus.ckpt",
        "epoch_counter.ckpt",
        "loader.ckpt",
        "model.ckpt",
        "optimizer.ckpt",
        "ranks.ckpt",
        "run_log.ckpt",
        "SHA256SUMS",
    }
    assert [row["step"] for row in read_metrics(folder, "train")] == [1]
    (valid,) = read_metrics(folder, "valid")
    assert valid["step"] == 3
    assert figures == valid


def test_the_checkpoint_holds_quantizers_and_front_end(pretrained):
    state = weights(pretrained[0])
    for name in (
        "anchor_quantizer.projection",
        "enhanced_quantizer.projection",
        "anchor_quantizer.codebook.codes",
        "label_norm.running_mean",
    ):
        assert name in state
    assert torch.isfinite(state["label_norm.running_mean"]).all()
    assert state["label_norm.num_batches"] == 3


def test_best_rq_runs_from_its_own_yaml(_corpus_template, tmp_path):
    folders = dict(data_folder=_corpus_template, output_folder=tmp_path / "run")
    figures = run(experiment.pretrain, "best_rq_tiny.yaml", PRETRAIN, **folders)
    assert "F" not in figures and figures["loss"] == figures["G"]


def test_the_papers_form_runs_from_its_own_yaml(_corpus_template, tmp_path):
    folders = dict(data_folder=_corpus_template, output_folder=tmp_path / "run")
    settings = PRETRAIN | folders | dict(precision="bf16")
    figures = run(experiment.pretrain, "birq_paper_tiny.yaml", settings)
    assert figures["loss"] == pytest.approx(0.1 * figures["F"] + 2.4 * figures["G"])
    assert "in bf16 on cpu" in log(tmp_path / "run")


@pytest.fixture
def masks_seen(monkeypatch):
    """(stage, epoch, mask, epoch -> its mask) of every utterance of every batch."""
    seen, forward = [], BiRQBrain.compute_forward

    def spied(self, batch, stage):
        epoch = self.hparams.epoch_counter.current
        masks, lengths = batch.mask
        frames = (lengths * masks.shape[1]).round().int().tolist()
        for utterance, length, mask in zip(batch.id, frames, masks, strict=True):
            masking = partial(self.hparams.masking, length, utterance)
            seen.append((stage, epoch, mask[:length].clone(), masking))
        return forward(self, batch, stage)

    monkeypatch.setattr(BiRQBrain, "compute_forward", spied)
    return seen


def test_masks_follow_the_epoch_in_training_and_are_epoch_zeros_in_validation(
    _corpus_template, tmp_path, masks_seen
):
    more = dict(number_of_epochs=2, optimizer_step_limit=None)
    pretrain(_corpus_template, tmp_path / "run", **more)
    assert {(stage, epoch) for stage, epoch, *_ in masks_seen} == {
        (stage, epoch) for stage in (Stage.TRAIN, Stage.VALID) for epoch in (1, 2)
    }
    for stage, epoch, mask, masking in masks_seen:
        expected = masking(epoch if stage == Stage.TRAIN else 0)
        assert torch.equal(mask, expected), f"{stage} in epoch {epoch}"
        assert not torch.equal(expected, masking(3))
