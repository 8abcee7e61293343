"""Steps that are not finite, and batches without anything to learn from."""

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
    assert_same,
    batch_of,
    broken,
    example,
    feed,
    moved,
    parameters,
    validate,
)

from speechbrain_birq.errors import BadInput


@pytest.mark.parametrize("label_norm", ["layer", "channel"])
def test_a_step_that_is_not_finite_is_skipped_whole(make_brain, caplog, label_norm):
    brain = make_brain(
        {"label_norm": label_norm}, opt_class=lambda p: torch.optim.AdamW(p, lr=0.01)
    )
    feed(brain, batch_of(*UNEQUAL))
    start, statistics = parameters(brain), copy.deepcopy(brain.model.state_dict())
    with caplog.at_level(logging.WARNING):
        (loss,) = feed(brain, batch_of(UNEQUAL[0], broken(8)))
    assert not torch.isfinite(loss)
    assert not moved(start, parameters(brain))
    assert brain.nonfinite_count == 1
    assert "utterance-1, utterance-8" in caplog.text
    for name, value in brain.model.state_dict().items():
        assert torch.equal(value, statistics[name]), name
    feed(brain, batch_of(*UNEQUAL))
    assert moved(start, parameters(brain))
    assert all(torch.isfinite(p).all() for p in brain.model.parameters())


def test_a_bad_micro_batch_skips_the_good_ones_of_its_step_only(make_brain):
    brain, good = make_brain(grad_accumulation_factor=2), make_brain()
    feed(brain, batch_of(UNEQUAL[0]), batch_of(broken(8)))
    feed(brain, batch_of(*UNEQUAL[:2]), batch_of(*UNEQUAL[2:]))
    feed(good, batch_of(*UNEQUAL))
    assert_same(parameters(brain), parameters(good))


@pytest.mark.parametrize("end_of_epoch", [False, True])
def test_steps_skipped_before_a_recovery_count_in_the_same_epoch_only(
    make_brain, end_of_epoch
):
    first, resumed = (
        make_brain(nonfinite_patience=2, checkpointer=Nowhere()) for _ in range(2)
    )
    feed(first, batch_of(broken(5)), batch_of(broken(6)))
    resumed.set_rank_state(first.rank_state(), end_of_epoch)
    if end_of_epoch:
        feed(resumed, batch_of(broken(7)))
    else:
        with pytest.raises(BadInput, match="3 steps"):
            feed(resumed, batch_of(broken(7)))


def test_ctc_skips_a_step_that_is_not_finite(make_ctc):
    brain = make_ctc()
    start = parameters(brain)
    bad = example(8, 0.4, "AB")
    bad["sig"][50] = math.inf
    feed(brain, batch_of(SPOKEN[0], bad))
    assert brain.nonfinite_count == 1
    assert not moved(start, parameters(brain))


def test_training_stops_after_too_many_skipped_steps(make_brain):
    brain = make_brain(nonfinite_patience=2)
    feed(brain, batch_of(broken(5)), batch_of(broken(6)))
    with pytest.raises(BadInput, match=r"3 steps .*nonfinite_patience 2.*utterance-7"):
        feed(brain, batch_of(broken(7)))


def test_patience_is_counted_anew_in_every_epoch(make_brain):
    brain = make_brain(nonfinite_patience=1)
    for epoch in (1, 2, 3):
        brain._fit_train(Batches([batch_of(broken(5)), batch_of(UNEQUAL[0])]), epoch, 0)
    assert brain.optimizer_step == 6


@pytest.mark.parametrize("kind", ["birq", "ctc"])
def test_batches_without_anything_readable_are_survived(make_brain, make_ctc, kind):
    make, examples = (make_brain, UNEQUAL) if kind == "birq" else (make_ctc, SPOKEN)
    brain = make(checkpointer=Nowhere(), grad_accumulation_factor=2)
    start = parameters(brain)
    losses = feed(brain, None, None)
    assert all(torch.isnan(loss) for loss in losses)
    assert brain.optimizer_step == 0
    assert not moved(start, parameters(brain))
    feed(brain, batch_of(*examples), None)
    assert brain.optimizer_step == 1
    assert moved(start, parameters(brain))
    whole, split = (
        validate(brain, *batches)
        for batches in ([batch_of(*examples)], [None, batch_of(*examples), None])
    )
    assert whole == split


@pytest.mark.parametrize("kind", ["birq", "ctc"])
def test_a_validation_of_nothing_readable_ends_the_run(make_brain, make_ctc, kind):
    brain = (make_brain if kind == "birq" else make_ctc)(checkpointer=Nowhere())
    with pytest.raises(BadInput, match="validation split"):
        validate(brain, None, None)
    assert brain.checkpointer.saved == []


def test_a_batch_without_masked_frames_moves_nothing(make_brain):
    brain = make_brain(opt_class=lambda p: torch.optim.SGD(p, lr=1.0))
    bare = example(1)
    bare["mask"][:] = False
    start = parameters(brain)
    feed(brain, batch_of(bare))
    assert brain.nonfinite_count == 0
    assert not moved(start, parameters(brain))


@pytest.mark.faults
def test_a_run_of_skipped_steps_alone_is_refused_also_in_a_resume(make_brain):
    first, resumed = (
        make_brain(nonfinite_patience=9, checkpointer=Nowhere()) for _ in range(2)
    )
    feed(first, batch_of(broken(5)), batch_of(broken(6)))
    resumed.set_rank_state(first.rank_state(), end_of_epoch=True)
    for brain in (first, resumed):
        with pytest.raises(BadInput, match="all 2 steps were skipped"):
            brain.skipped_steps.refuse_all(2)
    feed(resumed, batch_of(*UNEQUAL))
    resumed.skipped_steps.refuse_all(3)
