"""A resumed run ends as if it had never stopped; another run is refused."""

import json

import pytest
from small_runs import (
    ROOT,
    assert_equal,
    finetune,
    pretrain,
    weights,
)

from speechbrain_birq.brains import BiRQBrain
from speechbrain_birq.metrics.curves import read_metrics


def test_a_run_resumed_after_an_epoch_ends_as_if_never_stopped(
    _corpus_template, tmp_path
):
    more = dict(optimizer_step_limit=None, label_noise=True, dropout=0.1)
    pretrain(_corpus_template, tmp_path / "straight", number_of_epochs=2, **more)
    pretrain(_corpus_template, tmp_path / "resumed", number_of_epochs=1, **more)
    half = json.loads((tmp_path / "resumed" / "results.json").read_text())["steps"]
    pretrain(_corpus_template, tmp_path / "resumed", number_of_epochs=2, **more)
    steps = json.loads((tmp_path / "resumed" / "results.json").read_text())["steps"]
    assert steps == 2 * half > 2
    valid = read_metrics(tmp_path / "resumed", "valid")
    assert [row["step"] for row in valid] == [half, steps]
    assert valid == read_metrics(tmp_path / "straight", "valid")
    assert_equal(weights(tmp_path / "straight"), weights(tmp_path / "resumed"))


def test_a_finished_run_is_not_trained_again(_corpus_template, own_pretrained):
    before = weights(own_pretrained)
    pretrain(_corpus_template, own_pretrained)
    assert_equal(weights(own_pretrained), before)
    assert len(read_metrics(own_pretrained, "valid")) == 1


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("yaml", "accumulation"),
    [
        ("birq_tiny.yaml", 1),
        ("birq_tiny.yaml", 2),
        ("birq_adamw_tiny.yaml", 1),
        ("birq_live_tiny.yaml", 1),
    ],
)
def test_a_run_killed_within_an_epoch_resumes_exactly(
    _corpus_template, tmp_path, monkeypatch, yaml, accumulation
):
    more = dict(
        yaml=yaml,
        optimizer_step_limit=None,
        label_noise=True,
        dropout=0.1,
        batch_seconds=2,
        ckpt_interval_minutes=0,
        ckpt_interval_steps=3,
        grad_accumulation_factor=accumulation,
    )
    pretrain(_corpus_template, tmp_path / "straight", **more)

    fit_batch = BiRQBrain.fit_batch

    def killed(self, batch):
        if self.step == 5:
            raise Killed
        return fit_batch(self, batch)

    monkeypatch.setattr(BiRQBrain, "fit_batch", killed)
    with pytest.raises(Killed):
        pretrain(_corpus_template, tmp_path / "killed", **more)
    monkeypatch.undo()
    pretrain(_corpus_template, tmp_path / "killed", **more)
    straight, resumed = (
        json.loads((tmp_path / name / "results.json").read_text())["steps"]
        for name in ("straight", "killed")
    )
    assert straight == resumed
    assert_equal(weights(tmp_path / "straight"), weights(tmp_path / "killed"))


def test_another_width_in_the_same_folder_is_refused(
    _corpus_template, own_pretrained, fails
):
    before = {p: p.read_bytes() for p in own_pretrained.glob("*.yaml")}
    fails(
        lambda: pretrain(
            _corpus_template, own_pretrained, d_model=32, optimizer_step_limit=5
        ),
        str(own_pretrained),
        "d_model: 16, now it is 32",
        "another --output_folder",
    )
    # What the folder says about its checkpoint is still true.
    assert {p: p.read_bytes() for p in own_pretrained.glob("*.yaml")} == before


PARTS = {
    "opt_class.momentum: 0.95, now it is 0.5": "opt_class: {momentum: 0.5}",
    "now it is torch.optim.SGD": "opt_class: !name:torch.optim.SGD {momentum: 0.9}",
    "lr_schedule: ": "lr_schedule: !new:speechbrain.nnet.schedulers.NoamScheduler "
    "{lr_initial: 0.1, n_warmup_steps: 2}",
    "label_terms: []": "label_terms: [!new:speechbrain_birq.models.UsageEntropy "
    "{weight: 9.0, num_codebooks: 4, num_codes: 16}]",
}


def test_other_parts_in_the_same_folder_are_refused(
    _corpus_template, own_pretrained, tmp_path, fails
):
    before = {p: p.read_bytes() for p in own_pretrained.glob("*.yaml")}
    yaml, more = tmp_path / "mine.yaml", dict(optimizer_step_limit=5)
    for words, line in PARTS.items():
        yaml.write_text(f"!include:{ROOT}/hparams/birq_tiny.yaml\n{line}\n")
        fails(
            lambda: pretrain(_corpus_template, own_pretrained, yaml=yaml, **more),
            str(own_pretrained),
            words,
            "another --output_folder",
        )
    assert {p: p.read_bytes() for p in own_pretrained.glob("*.yaml")} == before


def test_what_may_change_of_a_run_changes(_corpus_template, tmp_path):
    """Parts of one's own that follow from it, too."""
    yaml, run = tmp_path / "mine.yaml", tmp_path / "run"
    line = "enhanced_weight: {steps: !ref <total_steps> // 4}"
    yaml.write_text(f"!include:{ROOT}/hparams/birq_tiny.yaml\n{line}\n")
    pretrain(_corpus_template, run, yaml=yaml, optimizer_step_limit=3)
    more = dict(batch_seconds=3, total_steps=3000, number_of_epochs=3)
    pretrain(_corpus_template, run, yaml=yaml, optimizer_step_limit=5, **more)
    results = json.loads((run / "results.json").read_text())
    assert results["steps"] == 5


def test_a_fine_tuning_resumes_with_the_model_that_it_adopted(
    corpus, pretrained, tmp_path
):
    for limit in (2, 4):
        more = dict(pretrained=pretrained[0], number_of_epochs=limit)
        finetune(corpus, tmp_path / "run", optimizer_step_limit=limit, **more)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["steps"] == 4


def test_from_scratch_then_pretrained_in_one_folder_is_refused(
    corpus, pretrained, tmp_path, fails
):
    finetune(corpus, tmp_path / "run")
    fails(
        lambda: finetune(corpus, tmp_path / "run", pretrained=pretrained[0]),
        "pretrained: None",
        "another --output_folder",
    )
