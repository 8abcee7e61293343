"""Paired bootstrap of two error rates."""

import numpy as np
import pytest

from speechbrain_birq.errors import BadInput
from speechbrain_birq.metrics.significance import bootstrap, compare_runs, interval


def test_rates_are_errors_over_lengths_not_means_of_utterances():
    table = np.array([[1.0, 0.0, 1.0], [0.0, 3.0, 9.0]])
    found = bootstrap(table, samples=10, seed=0)
    assert (found.first, found.second) == (10.0, 30.0)


def test_interval_of_equal_systems_holds_zero():
    rng = np.random.default_rng(0)
    errors = rng.integers(0, 5, (80, 2))
    table = np.concatenate((errors, np.full((80, 1), 20)), 1).astype(float)
    found = bootstrap(table, samples=2000, seed=0)
    assert found.low < 0 < found.high


def test_interval_agrees_with_the_normal_approximation():
    rng = np.random.default_rng(1)
    difference = rng.normal(-0.5, 1.0, 400)
    table = np.stack((difference + 5, np.full(400, 5.0), np.full(400, 10.0)), 1)
    found = bootstrap(table, samples=5000, seed=0)
    mean, half = 10 * difference.mean(), 10 * 1.96 * difference.std() / 20
    assert found.low == pytest.approx(mean - half, abs=0.1)
    assert found.high == pytest.approx(mean + half, abs=0.1)


def test_pairing_makes_the_interval_narrow():
    rng = np.random.default_rng(2)
    hard = rng.integers(0, 10, 100).astype(float)
    paired = np.stack((hard, hard + 1, np.full(100, 10.0)), 1)
    found = bootstrap(paired, samples=1000, seed=0)
    assert found.high - found.low < 1e-9


def test_a_run_without_scores_is_named(tmp_path):
    with pytest.raises(BadInput, match="no scores of the split 'test'"):
        compare_runs(tmp_path, tmp_path, "test")


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
def test_damaged_scores_are_named(tmp_path, damage):
    path = tmp_path / "errors_test.csv"
    path.write_bytes(damage)
    with pytest.raises(BadInput) as caught:
        compare_runs(tmp_path, tmp_path, "test")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_interval_of_a_rate_agrees_with_the_normal_approximation():
    rng = np.random.default_rng(3)
    errors = rng.binomial(10, 0.2, 400)
    low, high = interval(errors, [10] * 400, samples=4000)
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
