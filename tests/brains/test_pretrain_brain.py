"""Pretraining: schedules, the reported loss, what it learns, what it waits for."""

import signal

import pytest
import speechbrain as sb
import torch
from small_brains import (
    UNEQUAL,
    Nowhere,
    batch_of,
    example,
    feed,
)
from torch.utils._python_dispatch import TorchDispatchMode

from speechbrain_birq.brains.label_fitting import LabelFitting
from speechbrain_birq.brains.run_log import RunLog
from speechbrain_birq.brains.schedules import Ramp, WarmupDecay
from speechbrain_birq.metrics.curves import read_metrics


def test_schedules_reach_the_optimizer_and_the_weights(make_brain):
    brain = make_brain(
        lr_schedule=WarmupDecay(warmup_steps=3, total_steps=5),
        enhanced_weight=Ramp(value=2.0, steps=4),
        anchor_weight=Ramp(value=1.5),
        label_fitting=LabelFitting(seconds=1, batch_seconds=1),
    )
    seen = []
    for _ in range(6):
        weights = brain.weights(brain.optimizer_step)
        feed(brain, batch_of(UNEQUAL[1]))
        seen.append((brain.optimizer.param_groups[0]["lr"], *weights))
    rates, upper, lower = zip(*seen, strict=True)
    assert rates == pytest.approx([0.05 * f for f in (1 / 3, 2 / 3, 1, 1, 0.5, 0)])
    assert upper == (0.0, 0.5, 1.0, 1.5, 2.0, 2.0)
    assert set(lower) == {1.5}
    rows = brain.hparams.run_log.rows
    assert [row["step"] for row in rows] == list(range(1, 7))
    assert [row["lr"] for row in rows] == pytest.approx(rates)


def test_a_weight_that_falls_to_0_has_enhanced_labels_until_then(make_brain):
    brain = make_brain(enhanced_weight=Ramp(value=0.0, steps=4, start=0.5))
    feed(brain, batch_of(UNEQUAL[1]))
    assert brain.hparams.run_log.rows[-1]["F"] > 0


def test_the_reported_loss_is_the_one_that_was_minimized(make_brain):
    brain = make_brain(enhanced_weight=Ramp(value=2.0, steps=2))
    for _ in range(3):
        w_enhanced, w_anchor = brain.weights(brain.optimizer_step)
        (loss,) = feed(brain, batch_of(*UNEQUAL))
        row = brain.hparams.run_log.rows[-1]
        expected = w_enhanced * row["F"] + w_anchor * row["G"]
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        assert row["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_brain_without_a_checkpointer_saves_nothing_and_ends_on_a_signal(make_brain):
    brain = make_brain()
    assert brain.checkpointer is None
    brain.save({"step": 0})
    assert not brain._should_save_intra_epoch_ckpt(0, 10**9)
    brain.interruption.signal = signal.SIGTERM
    with pytest.raises(SystemExit, match="143"):
        brain._should_save_intra_epoch_ckpt(0, 1)


def test_epochs_count_in_fractions(make_brain):
    brain = make_brain()
    brain.hparams.epoch_counter.current, brain.num_batches, brain.step = 3, 8, 2
    assert brain.epochs_done() == 2.25


def test_masks_follow_the_epoch(make_brain):
    brain = make_brain()
    for epoch in (1, 2):
        brain.on_stage_start(sb.Stage.TRAIN, epoch)
        assert brain.masks.epoch == epoch


def test_pretraining_overfits_four_utterances(make_brain):
    brain = make_brain(
        {"num_codes": 8},
        enhanced_weight=Ramp(value=0.0),
        opt_class=lambda p: torch.optim.AdamW(p, lr=5e-3),
    )
    batch = batch_of(*[example(n, 0.4) for n in range(4)])
    losses = torch.stack(feed(brain, *[batch] * 80))
    assert losses[-5:].mean() < 0.5 * losses[:5].mean()
    assert brain.hparams.run_log.rows[-1]["anchor_accuracy"] > 0.7


def test_pretraining_learns_enhanced_labels_too(make_brain):
    brain = make_brain(
        {"num_codes": 8, "label_norm": "channel", "shared_head": False},
        opt_class=lambda p: torch.optim.AdamW(p, lr=5e-3),
    )
    batch = batch_of(*[example(n, 0.4) for n in range(4)])
    feed(brain, *[batch] * 80)
    first, last = brain.hparams.run_log.rows[0], brain.hparams.run_log.rows[-1]
    assert last["G"] < 0.6 * first["G"]
    assert last["F"] < 0.8 * first["F"]
    assert last["enhanced_accuracy"] > 0.5


def test_run_log_writes_one_json_line_a_report(tmp_path, make_brain):
    brain = make_brain(run_log=RunLog(tmp_path, tensorboard=False))
    feed(brain, batch_of(*UNEQUAL), batch_of(*UNEQUAL))
    rows = read_metrics(tmp_path, "train")
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[1]["G"] != rows[0]["G"]


class Synchronizations(TorchDispatchMode):
    """Counts the operations that synchronize with a GPU."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().split("::")[1].split(".")[0]
        if name in self.NAMES:
            self.found.append(name)
        return function(*args, **kwargs or {})


def test_a_step_between_reports_synchronizes_for_its_gradient_only(make_brain):
    brain = make_brain(dict(gradient=True, noise=True), log_interval=100)
    batches = [batch_of(example(n), example(n + 1)) for n in (0, 2, 4)]
    for batch in batches[:2]:
        brain.fit_batch(batch)
    with Synchronizations() as synchronizations:
        brain.fit_batch(batches[2])
    # The first one counts the masked frames before they go to the device.
    assert synchronizations.found == ["_local_scalar_dense"] * 2


def test_a_resumed_run_reports_what_was_not_reported_yet(make_brain):
    batches = [batch_of(example) for example in UNEQUAL]
    straight, first, resumed = (
        make_brain(dict(noise=True), checkpointer=Nowhere(), log_interval=4)
        for _ in range(3)
    )
    feed(straight, batches[0], *batches)
    feed(first, batches[0], *batches[:2])
    resumed.model.load_state_dict(first.model.state_dict())
    resumed.set_rank_state(first.rank_state(), end_of_epoch=False)
    resumed.optimizer_step = resumed.step = 3
    feed(resumed, batches[2])
    expected, (row,) = straight.hparams.run_log.rows[1:], resumed.hparams.run_log.rows
    del row["frames_per_second"], expected[0]["frames_per_second"]
    assert [row] == expected


def test_a_state_of_the_layout_before_the_rooms_is_resumed(make_brain):
    brain, other = (make_brain(checkpointer=Nowhere()) for _ in range(2))
    state = brain.rank_state()
    del state["report"]
    other.set_rank_state(state, end_of_epoch=False)
    assert other.reports[sb.Stage.TRAIN].is_empty()
