"""A resume with another number of ranks: no utterance of the epoch is lost."""

from types import SimpleNamespace

import pytest
import torch
from small_brains import UNEQUAL, batch_of, feed

from speechbrain_birq.brains import base
from speechbrain_birq.data.loaders import RankBatches

BATCHES = [[number] for number in range(41)]


def numbers(ranks, part):
    """What all ranks hear in a part of the epoch."""
    shares = [list(RankBatches(BATCHES, rank, ranks))[part] for rank in range(ranks)]
    return {number for share in shares for batch in share for number in batch}


@pytest.fixture
def resumed(make_brain, monkeypatch):
    """resumed(step, before, ranks, accumulation): the step that the epoch is at."""
    brain = make_brain()

    def resume(step, before, ranks, accumulation=1):
        monkeypatch.setattr(base.dist, "is_initialized", lambda: True)
        monkeypatch.setattr(base.dist, "get_world_size", lambda: ranks)
        brain.step, brain.rank_states.ranks_before = step, before
        brain.grad_accumulation_factor = accumulation
        brain.num_batches = len(RankBatches(BATCHES, 0, ranks))
        loader = SimpleNamespace(_speechbrain_recovery_skip_to=step)
        brain._find_place(loader)
        monkeypatch.undo()
        assert (loader._speechbrain_recovery_skip_to or 0) == brain.step
        return brain.step

    return resume


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("ranks", [1, 2, 4, 16])
@pytest.mark.parametrize("before", [1, 4, 8])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_each_batch_of_the_epoch_is_heard(resumed, share, before, ranks, accumulation):
    steps = len(RankBatches(BATCHES, 0, before))
    step = round(share * steps)
    if step < steps:
        step -= step % accumulation
    heard = numbers(before, slice(step))
    place = resumed(step, before, ranks, accumulation)
    left = numbers(ranks, slice(place, None))
    assert heard | left == set(range(41))
    if before == ranks:
        assert place == step
    assert len(heard & left) < ranks * accumulation


def test_the_place_is_sought_once(resumed):
    assert resumed(4, before=2, ranks=4) == 2
    assert resumed(4, before=None, ranks=4) == 4


def test_an_epoch_begins_at_its_place(make_brain, monkeypatch):
    """Eight batches of each of two ranks were heard; one process goes on at 16."""

    class Loader(list):
        _speechbrain_recovery_skip_to = 8

    brain, begun = make_brain(), []
    monkeypatch.setattr(
        base.sb.Brain, "_fit_train", lambda self, *_, **__: begun.append(self.step)
    )
    monkeypatch.setattr(base.SumBrain, "_planned_steps", lambda *_: 41)
    brain.step, brain.rank_states.ranks_before = 8, 2
    loader = Loader(BATCHES)
    brain._fit_train(loader, 1, False)
    assert begun == [16] and loader._speechbrain_recovery_skip_to == 16


def test_a_checkpoint_tells_of_how_many_ranks_it_is(make_brain, tmp_path):
    brain = make_brain()
    feed(brain, batch_of(*UNEQUAL))
    state = brain.rank_state()
    torch.save([state, state], tmp_path / "ranks.ckpt")
    brain.rank_states.load(tmp_path / "ranks.ckpt", end_of_epoch=False)
    assert brain.rank_states.ranks_before == 2
