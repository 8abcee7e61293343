"""SpeechBrain's schedulers: the rates that they give, groups, resuming."""

import json

import pytest
import torch
from small_runs import assert_equal, finetune, pretrain, weights
from speechbrain.nnet.schedulers import (
    CyclicLRScheduler,
    IntervalScheduler,
    LinearNoamScheduler,
    NewBobScheduler,
    NoamScheduler,
    WarmCoolDecayLRSchedule,
)

from speechbrain_birq.brains.schedules import SpeechBrainSchedule, is_speechbrains

LR = 0.02
SCHEDULERS = {
    "noam": lambda: NoamScheduler(LR, 4),
    "linear": lambda: LinearNoamScheduler(LR, 3, 5),
    "cool": lambda: WarmCoolDecayLRSchedule(LR, 3, 4, 12),
    # It leaves the rate as it finds it, except at these steps.
    "interval": lambda: IntervalScheduler(
        [{"steps": 1 + 2 * n, "lr": LR / 2**n} for n in range(6)]
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_rates_are_those_of_speechbrain(name):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=LR)
    expected = []
    scheduler = SCHEDULERS[name]()
    for step in range(12):
        count = [step + 1] if name == "cool" else []
        scheduler(optimizer, *count)
        expected.append(optimizer.param_groups[0]["lr"])
    schedule = SpeechBrainSchedule(SCHEDULERS[name](), LR)
    assert [LR * schedule(step, 0.0) for step in range(12)] == pytest.approx(expected)
    assert len(set(expected)) > 5


def test_a_rate_that_is_kept_between_steps_survives_a_resume(tmp_path):
    straight, first, second = (SCHEDULERS["interval"]() for _ in range(3))
    schedule, group = SpeechBrainSchedule(straight, LR), {}
    expected = [schedule(step, 0.0) for step in range(8)]
    schedule = SpeechBrainSchedule(first, LR, group)
    found = [schedule(step, 0.0) for step in range(4)]
    first.save(tmp_path / "schedule.ckpt")
    second.load(tmp_path / "schedule.ckpt")
    schedule = SpeechBrainSchedule(second, LR, dict(group))
    assert found + [schedule(step, 0.0) for step in range(4, 8)] == expected


def test_the_optimizer_keeps_the_rate_of_the_schedule(make_ctc):
    brain = make_ctc(
        opt_class=lambda groups: torch.optim.SGD(groups, lr=LR),
        lr_schedule=NoamScheduler(LR, 4),
    )
    brain._set_learning_rates(brain.optimizer)
    kept = brain.optimizer.state_dict()["param_groups"][0]["schedule_lr"]
    assert kept == pytest.approx(LR / 4)


def test_each_group_keeps_its_own_rate(make_ctc):
    brain = make_ctc(
        opt_class=lambda groups: torch.optim.SGD(groups, lr=LR),
        lr_schedule=NoamScheduler(LR, 4),
    )
    brain._set_learning_rates(brain.optimizer)
    for group in brain.optimizer.param_groups:
        assert group["lr"] == pytest.approx(group["initial_lr"] / 4)


@pytest.mark.parametrize("scheduler", [NewBobScheduler(LR), CyclicLRScheduler()])
def test_schedulers_of_epochs_are_refused_by_name(scheduler):
    with pytest.raises(ValueError, match=type(scheduler).__name__):
        is_speechbrains(scheduler)


NOAM = """!include:birq_tiny.yaml
lr_schedule: !new:speechbrain.nnet.schedulers.NoamScheduler
    lr_initial: !ref <lr>
    n_warmup_steps: 3
"""


def test_a_resumed_run_has_the_rates_of_the_uninterrupted_one(
    corpus, tmp_path, hparams
):
    yaml = hparams / "noam.yaml"
    yaml.write_text(NOAM)
    more = dict(optimizer_step_limit=12)
    pretrain(corpus, tmp_path / "straight", yaml, number_of_epochs=3, **more)
    pretrain(corpus, tmp_path / "resumed", yaml, number_of_epochs=1, **more)
    steps = json.loads((tmp_path / "resumed" / "results.json").read_text())["steps"]
    assert 0 < steps < 12
    pretrain(corpus, tmp_path / "resumed", yaml, number_of_epochs=3, **more)
    assert_equal(weights(tmp_path / "straight"), weights(tmp_path / "resumed"))


def test_a_run_that_has_diverged_ends_with_an_error(_corpus_template, tmp_path, fails):
    wild = dict(lr=1e38, warmup_steps=0, max_grad_norm=-1, nonfinite_patience=99)
    fails(
        lambda: pretrain(_corpus_template, tmp_path / "run", **wild),
        "validation after step 3",
        "is not finite",
        "lower the learning rate",
    )
    assert not list((tmp_path / "run" / "save").glob("CKPT*"))


def test_a_fine_tuning_that_has_diverged_ends_with_an_error(
    _corpus_template, tmp_path, fails
):
    wild = dict(lr=1e38, warmup_epochs=0, max_grad_norm=-1, nonfinite_patience=99)
    fails(lambda: finetune(_corpus_template, tmp_path / "run", **wild), "is not finite")
