"""Paired bootstrap of two error rates."""

import itertools
import time

import numpy as np
import pytest

from speechbrain_birq.errors import BadInput
from speechbrain_birq.metrics.significance import (
    compare_runs,
    difference,
    interval,
    interval_text,
)


def test_rates_are_errors_over_lengths_not_means_of_utterances():
    found = difference([1, 0], [0, 3], [1, 9])
    assert (found.first, found.second) == (10.0, 30.0)


def every_resample(errors, lengths):
    """Rates of all U^U equally probable resamples, in float64 loops."""
    utterances = range(len(errors))
    rates = []
    for drawn in itertools.product(utterances, repeat=len(errors)):
        wrong = total = 0.0
        for utterance in drawn:
            wrong += errors[utterance]
            total += lengths[utterance]
        rates.append(100 * wrong / total)
    return rates


def assert_percentile(bound, rates, share):
    below = np.mean(np.array(rates) < bound - 0.01)  # bounds are rounded
    up_to = np.mean(np.array(rates) < bound + 0.01)
    assert below - 0.005 < share < up_to + 0.005


def test_bounds_are_percentiles_of_every_possible_resample():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 9, (2, 6))
    lengths = rng.integers(10, 50, 6)
    found = difference(first, second, lengths)
    for bounds, errors in (
        ((found.low, found.high), first - second),
        (interval(first, lengths), first),
    ):
        rates = every_resample(errors, lengths)
        assert_percentile(bounds[0], rates, 0.025)
        assert_percentile(bounds[1], rates, 0.975)


def test_interval_of_equal_systems_holds_zero():
    first, second = np.random.default_rng(0).integers(0, 5, (2, 80))
    found = difference(first, second, [20] * 80)
    assert found.low < 0 < found.high


def test_interval_agrees_with_the_normal_approximation():
    errors = np.random.default_rng(1).normal(-0.5, 1.0, 400)
    found = difference(errors + 5, [5] * 400, [10] * 400)
    mean, half = 10 * errors.mean(), 10 * 1.96 * errors.std() / 20
    assert found.low == pytest.approx(mean - half, abs=0.1)
    assert found.high == pytest.approx(mean + half, abs=0.1)


def test_pairing_makes_the_interval_narrow():
    hard = np.random.default_rng(2).integers(0, 10, 100)
    found = difference(hard, hard + 1, [10] * 100)
    assert (found.low, found.high) == (-10.0, -10.0)


def test_one_utterance_has_no_spread():
    assert difference([1], [3], [10]) == (10.0, 30.0, -20.0, -20.0)
    assert interval([3], [10]) == (30.0, 30.0)


def test_a_resample_of_empty_references_counts_as_one_word():
    assert interval([1, 1, 5], [0, 0, 10])[1] == 300.0


def test_a_large_test_set_takes_seconds():
    """LibriSpeech's test-clean has 2,620 utterances."""
    errors, start = np.random.default_rng(3).poisson(1, (2, 2620)), time.monotonic()
    difference(*errors, [20] * 2620)
    assert time.monotonic() - start < 20


def test_no_more_digits_are_printed_than_another_seed_would_give(monkeypatch):
    errors = np.random.default_rng(4).poisson(1, 100)
    bounds = interval(errors, [20] * 100)
    generator = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: generator(seed + 1))
    again = interval(errors, [20] * 100)
    assert again != bounds
    assert again == pytest.approx(bounds, abs=0.1)
    assert interval_text(-1.26, 3.04) == "-1.3 to 3.0"


def test_a_run_without_scores_is_named(tmp_path):
    with pytest.raises(BadInput, match="no scores of the split 'test'"):
        compare_runs(tmp_path, tmp_path, "test")


def test_runs_with_other_texts_are_not_compared(tmp_path):
    for run, length in (("a", 100), ("b", 50)):
        (tmp_path / run).mkdir()
        rows = b"".join(b"u%d,1,9,5,%d\n" % (n, length) for n in range(9))
        (tmp_path / run / "errors_test.csv").write_bytes(HEADER + rows)
    with pytest.raises(BadInput, match=r"different texts of 'test', .* u0"):
        compare_runs(tmp_path / "a", tmp_path / "b", "test")


HEADER = b"id,word_errors,words,character_errors,characters\n"


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        HEADER,
        b"\xff\xfe\x00garbage",
        b"a,b\n1,2\n",
        HEADER + b"u1,1\n",
        HEADER + b"u1,1,2,x,10\n",
        HEADER + b"u1,1,2,nan,10\n",
        HEADER + b"u1,0,0,0,0\n",
    ],
    ids=["empty", "header", "bytes", "columns", "short", "text", "nan", "no length"],
)
def test_corrupt_scores_are_named(tmp_path, damage):
    path = tmp_path / "errors_test.csv"
    path.write_bytes(damage)
    with pytest.raises(BadInput) as caught:
        compare_runs(tmp_path, tmp_path, "test")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_interval_of_a_rate_agrees_with_the_normal_approximation():
    rng = np.random.default_rng(3)
    errors = rng.binomial(10, 0.2, 400)
    low, high = interval(errors, [10] * 400)
    mean, half = 10 * errors.mean(), 10 * 1.96 * errors.std() / 20
    assert low == pytest.approx(mean - half, abs=0.15)
    assert high == pytest.approx(mean + half, abs=0.15)


def test_interval_weighs_utterances_by_their_length():
    """One long utterance without errors, many short ones with all wrong."""
    low, high = interval([0] + [1] * 9, [991] + [1] * 9)
    assert low < 100 * 9 / 1000 < high
    assert low < 1.0


def test_interval_of_silence_is_zero():
    assert interval([0, 0], [0, 0]) == (0, 0)
