"""Batches of shards: everything exactly once, whatever the ranks, seeds and epochs."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from speechbrain_birq.data.shards import batches as shard_batches
from speechbrain_birq.data.shards.batches import (
    ShardBatches,
    UsedUtterances,
    cut,
    split_largest,
)

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=12)
LIMIT = 60_000


def batches(sizes, rank=0, num_ranks=1, *, epoch=0, seed=0, shuffle=True, keep=None):
    """ShardBatches over shards of so many utterances of 1,000 to 20,000 samples."""
    first = np.cumsum([0, *sizes])
    rng = np.random.default_rng(sum(sizes))
    samples = rng.integers(1000, 20_000, first[-1]).astype(np.uint32)
    plan = ShardBatches(
        samples=samples,
        selection=UsedUtterances(
            np.ones(first[-1], bool) if keep is None else keep, first
        ),
        max_samples=LIMIT,
        shuffle=shuffle,
        seed=seed,
        ranks=(rank, num_ranks),
    )
    plan.set_epoch(epoch)
    return plan


def flat(plans):
    return [number for plan in plans for batch in plan for number in batch]


@pytest.fixture
def small_windows(monkeypatch):
    """Several windows already for a few dozen utterances."""
    monkeypatch.setattr(shard_batches, "WINDOW", 40)


CASES = given(
    sizes=SIZES,
    num_ranks=st.integers(1, 5),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 50),
    shuffle=st.booleans(),
)


@pytest.mark.usefixtures("small_windows")
@settings(max_examples=150, deadline=None)
@CASES
def test_every_utterance_comes_once_an_epoch_over_all_ranks(
    sizes, num_ranks, seed, epoch, shuffle
):
    plans = [
        batches(sizes, rank, num_ranks, epoch=epoch, seed=seed, shuffle=shuffle)
        for rank in range(num_ranks)
    ]
    times = Counter(flat(plans))
    assert set(times) == set(range(sum(sizes)))
    if sum(sizes) >= len(plans[0]) * num_ranks:  # as many utterances as batches
        assert set(times.values()) == {1}


@pytest.mark.usefixtures("small_windows")
@settings(max_examples=100, deadline=None)
@CASES
def test_every_rank_has_the_number_of_batches_that_it_announces(
    sizes, num_ranks, seed, epoch, shuffle
):
    plans = [
        batches(sizes, rank, num_ranks, epoch=epoch, seed=seed, shuffle=shuffle)
        for rank in range(num_ranks)
    ]
    assert len({len(list(plan)) for plan in plans}) == 1
    assert len(list(plans[0])) == len(plans[0])


@pytest.mark.usefixtures("small_windows")
@settings(max_examples=100, deadline=None)
@example(sizes=[30] * 12, num_ranks=1, seed=0, epoch=0, shuffle=True)
@CASES
def test_a_batch_keeps_under_its_limit_with_padding(
    sizes, num_ranks, seed, epoch, shuffle
):
    plan = batches(sizes, 0, num_ranks, epoch=epoch, seed=seed, shuffle=shuffle)
    for batch in plan:
        assert len(batch) * plan.samples[batch].max() <= LIMIT


@settings(max_examples=60, deadline=None)
@given(sizes=SIZES, num_ranks=st.integers(1, 5), drop=st.integers(2, 5))
def test_what_was_left_out_never_comes(sizes, num_ranks, drop):
    keep = np.arange(sum(sizes)) % drop == 0
    plans = [batches(sizes, r, num_ranks, keep=keep) for r in range(num_ranks)]
    numbers = [plans[0].selection.number(position) for position in flat(plans)]
    assert set(numbers) == set(range(0, sum(sizes), drop))


def test_an_utterance_longer_than_a_batch_is_a_batch_of_its_own():
    plan = batches([1])
    plan.samples = np.array([LIMIT * 2])
    assert list(plan) == [[0]]


def test_with_fewer_utterances_than_ranks_some_ranks_get_an_empty_batch():
    shares = [list(batches([3], rank, 5)) for rank in range(5)]
    assert [len(share) for share in shares] == [1] * 5
    assert sorted(n for (batch,) in shares for n in batch) == [0, 1, 2]


SHARDS = [25] * 8


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("change", [{"epoch": 1}, {"seed": 1}])
def test_another_epoch_or_seed_has_other_batches(change):
    first = {frozenset(batch) for batch in batches(SHARDS)}
    other = {frozenset(batch) for batch in batches(SHARDS, **change)}
    assert len(first & other) < len(first) / 3


def test_within_one_window_batches_still_change_from_epoch_to_epoch():
    first = {frozenset(batch) for batch in batches(SHARDS)}
    other = {frozenset(batch) for batch in batches(SHARDS, epoch=1)}
    assert len(first & other) < len(first) / 3


@pytest.mark.usefixtures("small_windows")
def test_an_epoch_is_the_same_however_it_is_reached():
    plan = batches(SHARDS)
    for epoch in (0, 1, 2):
        plan.set_epoch(epoch)
        assert list(plan) == list(batches(SHARDS, epoch=epoch))


@pytest.mark.usefixtures("small_windows")
def test_without_shuffling_every_epoch_is_the_same():
    plans = [batches(SHARDS, epoch=epoch, shuffle=False) for epoch in (0, 3)]
    assert list(plans[0]) == list(plans[1])


@pytest.mark.usefixtures("small_windows")
def test_a_stretch_of_an_epoch_touches_few_shards():
    """So that tables and transcripts of few shards have to be remembered."""
    sizes = [20] * 20
    plan = batches(sizes)
    start = [batch for batch, _ in zip(plan, range(5), strict=False)]
    assert len({number // 20 for batch in start for number in batch}) <= 2


@pytest.mark.usefixtures("small_windows")
def test_windows_come_in_another_order_each_epoch():
    starts = [
        {number // 20 for number in next(iter(batches([20] * 20, epoch=epoch)))}
        for epoch in range(4)
    ]
    assert len({frozenset(start) for start in starts}) > 1


def test_padding_is_a_few_per_cent():
    rng = np.random.default_rng(0)
    samples = rng.gamma(2, 4 * 16000, 16_000).clip(16_000, 20 * 16_000)
    plan = ShardBatches(
        samples=samples.astype(np.uint32),
        selection=UsedUtterances(np.ones(16_000, bool), np.arange(0, 16_001, 800)),
        max_samples=200 * 16_000,
        shuffle=True,
        seed=0,
    )
    padded = sum(len(batch) * samples[batch].max() for batch in plan)
    assert 1 - samples.sum() / padded < 0.12


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
def test_a_cut_comes_only_where_the_next_item_does_not_fit(lengths, limit):
    starts = [*cut(lengths, limit), len(lengths)]
    assert starts[0] == 0
    for a, b in itertools.pairwise(starts):
        assert b - a == 1 or (b - a) * max(lengths[a:b]) <= limit
        if b < len(lengths):
            assert (b - a + 1) * max(lengths[a : b + 1]) > limit


@given(st.lists(st.lists(st.integers(), min_size=1)), st.integers(0, 20))
def test_splitting_keeps_every_item_and_adds_as_many_batches_as_it_can(given_, times):
    split = split_largest(given_, times)
    assert [i for batch in split for i in batch] == [i for b in given_ for i in b]
    items = sum(map(len, given_))
    assert len(split) == min(len(given_) + times, items)
    assert all(split)
