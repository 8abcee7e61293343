"""The bar counts the steps of all epochs, after a resume from where the run was."""

import math
from typing import ClassVar

import pytest
from small_brains import UNEQUAL, Batches, Nowhere, batch_of
from speechbrain.utils.epoch_loop import EpochCounter

from speechbrain_birq.brains import progress
from speechbrain_birq.brains.progress import planned_steps


class Bar:
    """Instead of tqdm: remembers what was shown."""

    made: ClassVar[list["Bar"]] = []

    def __init__(self, **options):
        self.n, self.total, self.open = options["initial"], options["total"], True
        self.began = self.n
        Bar.made.append(self)

    def update(self, steps):
        self.n += steps

    def set_description(self, text):
        self.text = text

    def close(self):
        self.open = False


@pytest.fixture
def bars(monkeypatch):
    monkeypatch.setattr(progress, "tqdm", Bar)
    monkeypatch.setattr(Bar, "made", [])
    return Bar.made


def fit(make_brain, *, done=0, shown=True, **more):
    """Train three epochs of four batches, or what is left of them."""
    brain = make_brain(checkpointer=Nowhere(), run_opts=more, log_interval=100)
    brain.hparams.epoch_counter = EpochCounter(limit=3)
    brain.hparams.epoch_counter.current = done // 4
    brain.optimizer_step, brain.step = done, done % 4
    batches = Batches([batch_of(UNEQUAL[1])] * 4)
    brain.fit(brain.hparams.epoch_counter, batches, progressbar=shown)
    return brain


def test_one_bar_counts_the_steps_of_all_epochs(make_brain, bars):
    fit(make_brain)
    (bar,) = bars
    assert (bar.began, bar.n, bar.total, bar.open) == (0, 12, 12, False)


def test_a_resumed_run_goes_on_where_it_was(make_brain, bars):
    fit(make_brain, done=4)
    (bar,) = bars
    assert (bar.began, bar.n, bar.total) == (4, 12, 12)


def test_a_limit_of_steps_is_the_end_of_the_bar(make_brain, bars):
    fit(make_brain, optimizer_step_limit=5)
    assert (bars[0].n, bars[0].total) == (5, 5)


def test_without_a_bar_there_is_none(make_brain, bars):
    fit(make_brain, shown=False)
    assert bars == []


def test_a_bar_is_closed_when_the_training_fails(make_brain, bars, monkeypatch):
    def fails(brain, batch):
        raise KeyboardInterrupt

    brain = make_brain(checkpointer=Nowhere())
    monkeypatch.setattr(type(brain), "fit_batch", fails)
    with pytest.raises(KeyboardInterrupt):
        brain.fit([1], Batches([batch_of(UNEQUAL[1])]), progressbar=True)
    assert not bars[0].open


@pytest.mark.parametrize("accumulation", [1, 2, 3, 20])
@pytest.mark.parametrize("begun", [0, 3, 6, 9])
def test_planned_steps_are_those_that_a_loop_makes(accumulation, begun):
    """Batches left over at the end of an epoch make a step of their own."""
    batches, epochs, made = 9, 3, 0
    if begun % accumulation and begun != batches:
        pytest.skip("a resumed epoch begins between two steps")
    for epoch in range(epochs):
        for batch in range(1 + begun * (epoch == 0), batches + 1):
            made += batch % accumulation == 0 or batch == batches
    left = dict(batches_left=batches - begun, batches=batches, epochs_left=epochs - 1)
    planned = planned_steps(0, **left, accumulation=accumulation, limit=None)
    assert planned == made


def test_no_rate_is_known_after_one_step(make_brain):
    counted = progress.Progress()
    counted.begin(done=7, total=9, shown=False)
    counted.advance(8)
    assert counted.seconds_left() is None
    counted.advance(9)
    assert counted.seconds_left() is None  # nothing is left


def test_the_rate_leaves_the_first_step_out(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    counted = progress.Progress()
    counted.begin(done=10, total=30, shown=False)
    for seconds in (100.0, 102.0, 104.0):  # the first one compiled
        now[0] = seconds
        counted.advance(counted.done + 1)
    assert math.isclose(counted.seconds_left(), 17 * 2.0)
