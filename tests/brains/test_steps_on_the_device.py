"""Skipped steps and losses stay on the device until the log interval is over."""

import copy
import logging
import math

import pytest
import torch
from small_brains import (
    SPOKEN,
    UNEQUAL,
    Batches,
    Nowhere,
    batch_of,
    broken,
    feed,
    moved,
    muon,
    parameters,
)
from speechbrain import Stage

from speechbrain_birq.brains.skipped_steps import skips_on_device, step_if_finite
from speechbrain_birq.errors import BadInput

OPTIMIZERS = {
    "AdamW, fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "Adam, fused": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "Muon, fused": lambda p: muon(p, lr=0.01, weight_decay=0.1, fused=True),
    "Muon": lambda p: muon(p, lr=0.01, weight_decay=0.1),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01),
    "SGD, fused": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, fused=True),
}
FUSED = OPTIMIZERS["AdamW, fused"]
GOOD = UNEQUAL[:2]


@pytest.mark.parametrize("first", ["skipped", "made"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_skipped_step_leaves_no_trace_in_the_optimizer(make_brain, name, first):
    """Weights, moments and step counts: the next step is what it would have been."""
    bad, good = batch_of(broken(8)), batch_of(*GOOD)
    brain, straight = (make_brain(opt_class=OPTIMIZERS[name]) for _ in range(2))
    feed(brain, *([bad, good, good] if first == "skipped" else [good, bad, good]))
    feed(straight, good, good)
    assert not moved(parameters(straight), parameters(brain))
    state, expected = (b.optimizer.state_dict()["state"] for b in (brain, straight))
    for number, moments in expected.items():
        for kind, value in moments.items():
            assert torch.equal(state[number][kind], value), (number, kind)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fused_adam_and_muon_alone_skip_on_the_device(name):
    optimizer = OPTIMIZERS[name]([torch.nn.Parameter(torch.ones(2, 2))])
    names = ("AdamW, fused", "Adam, fused", "Muon, fused")
    assert skips_on_device(optimizer) == (name in names)


def test_a_recovered_state_that_is_not_fused_is_skipped_by_the_host():
    weight = torch.nn.Parameter(torch.ones(1))
    fused, plain = FUSED([weight]), OPTIMIZERS["AdamW"]([weight])
    fused.load_state_dict(plain.state_dict())
    weight.grad = torch.full((1,), math.nan)
    step_if_finite(fused, torch.tensor(False))
    assert weight == 1


def test_skipped_steps_are_named_and_counted_at_the_log_interval(make_brain, caplog):
    brain = make_brain(opt_class=FUSED, log_interval=4, nonfinite_patience=2)
    good = batch_of(*GOOD)
    feed(brain, good)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        feed(brain, batch_of(broken(5)), batch_of(broken(6)))
        assert brain.nonfinite_count == 0
        assert not caplog.records
        feed(brain, good)
    assert brain.nonfinite_count == 2
    told = [record.getMessage() for record in caplog.records]
    assert ["step 1, 1 now" in told[0], "step 2, 2 now" in told[1]] == [True, True]
    assert ["utterance-5" in told[0], "utterance-6" in told[1]] == [True, True]
    assert "utterance-6" not in told[0]
    assert len(told) == 2


def test_patience_ends_at_the_first_step_too_many(make_brain):
    brain = make_brain(opt_class=FUSED, log_interval=4, nonfinite_patience=1)
    feed(brain, batch_of(*GOOD), *(batch_of(broken(n)) for n in (5, 6)))
    with pytest.raises(BadInput, match=r"2 steps .*nonfinite_patience 1.*utterance-6"):
        feed(brain, batch_of(broken(7)))


def test_patience_is_checked_at_the_end_of_an_epoch(make_brain):
    brain = make_brain(opt_class=FUSED, log_interval=100, nonfinite_patience=1)
    batches = [batch_of(one) for one in (GOOD[0], broken(5), broken(6))]
    brain._fit_train(Batches(batches[:2]), 1, False)
    assert brain.nonfinite_count == 1
    with pytest.raises(BadInput, match="2 steps"):
        brain._fit_train(Batches(batches), 2, False)


def test_patience_is_checked_before_a_checkpoint(make_brain):
    brain = make_brain(
        checkpointer=Nowhere(), opt_class=FUSED, log_interval=100, nonfinite_patience=1
    )
    feed(brain, batch_of(*GOOD), batch_of(broken(5)))
    brain.save({}, end_of_epoch=False)
    assert brain.rank_state()["nonfinite"] == 1
    feed(brain, batch_of(broken(6)))
    with pytest.raises(BadInput, match="2 steps"):
        brain.save({}, end_of_epoch=False)
    assert len(brain.checkpointer.saved) == 1


def test_ctc_skips_on_the_device(make_ctc):
    brain = make_ctc(opt_class=FUSED, log_interval=3)
    feed(brain, batch_of(*SPOKEN))
    start, bad = parameters(brain), copy.deepcopy(SPOKEN[0])
    bad["sig"][50] = math.inf
    feed(brain, batch_of(bad))
    assert not moved(start, parameters(brain))
    feed(brain, batch_of(*SPOKEN))
    assert brain.nonfinite_count == 1
    assert moved(start, parameters(brain))


@pytest.mark.parametrize("name", ["AdamW, fused", "Muon, fused", "Muon"])
def test_fp16_keeps_its_own_count_of_overflows(make_brain, name):
    brain = make_brain(opt_class=OPTIMIZERS[name])
    brain.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    feed(brain, batch_of(*GOOD))
    start = parameters(brain)
    feed(brain, batch_of(broken(5)))
    assert not moved(start, parameters(brain))
    assert brain.nonfinite_count == 0
    assert brain.scaler.get_scale() == 512
    feed(brain, batch_of(*GOOD))
    assert moved(start, parameters(brain))


def test_fp16_without_a_finite_gradient_is_refused(make_brain):
    brain = make_brain(opt_class=FUSED, log_interval=10)
    brain.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-10)
    feed(brain, *[batch_of(broken(5))] * 4)
    brain.check_skipped_steps()
    feed(brain, batch_of(broken(5)))
    with pytest.raises(BadInput, match="fp16 finds no scale"):
        brain.check_skipped_steps()


@pytest.fixture
def averages(make_brain, monkeypatch):
    """averages(log_interval): those shown, that of the epoch, and the losses."""

    def train(log_interval, **more):
        brain = make_brain(opt_class=FUSED, log_interval=log_interval, **more)
        losses, shown, ended = [], [], []
        fit_batch, update = brain.fit_batch, brain.update_average
        monkeypatch.setattr(
            brain, "fit_batch", lambda b: losses.append(fit_batch(b)) or losses[-1]
        )
        monkeypatch.setattr(
            brain, "update_average", lambda *a: shown.append(update(*a)) or shown[-1]
        )
        monkeypatch.setattr(
            brain, "on_stage_end", lambda stage, loss, epoch: ended.append(loss)
        )
        batches = [*UNEQUAL, broken(5), *UNEQUAL]
        brain._fit_train(Batches([batch_of(one) for one in batches]), 1, False)
        return shown, ended, losses

    return train


def running(losses):
    """SpeechBrain's average, which leaves out what is not finite."""
    average, found = 0.0, []
    for step, loss in enumerate(losses, 1):
        if math.isfinite(loss):
            average -= average / step
            average += float(loss) / step
        found.append(average)
    return found


def test_the_average_loss_is_speechbrains(averages):
    shown, (ended,), losses = averages(1)
    assert shown == running(losses)
    assert ended == shown[-1]


def test_the_average_is_read_at_the_log_interval_and_at_the_end(averages):
    shown, (ended,), losses = averages(3)
    exact = running(losses)
    assert shown == [exact[n] for n in (0, 0, 2, 2, 2, 5, 6)]
    assert ended == exact[-1]


def test_an_epoch_that_a_limit_ends_has_its_exact_average(averages):
    shown, (ended,), losses = averages(100, optimizer_step_limit=5)
    assert len(losses) == 5
    assert ended == shown[-1] == running(losses)[-1]


def test_a_checkpoint_holds_the_exact_average(make_brain):
    brain = make_brain(checkpointer=Nowhere(), opt_class=FUSED, log_interval=100)
    losses = []
    for one in UNEQUAL:
        losses += feed(brain, batch_of(one))
        brain.avg_train_loss = brain.update_average(losses[-1], brain.avg_train_loss)
    assert brain.avg_train_loss == running(losses)[0]
    brain.save({}, end_of_epoch=False)
    assert brain.avg_train_loss == running(losses)[-1]


def test_validation_averages_as_speechbrain_does(make_brain):
    brain = make_brain()
    brain.modules.eval()
    brain.on_stage_start(Stage.VALID, 1)
    brain.step = 2
    assert brain.update_average(torch.tensor(3.0), 1.0) == 2.0
    assert brain.average_loss is None
