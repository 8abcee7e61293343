"""Schedules: values at their corners, continuity, degenerate lengths."""

import itertools
import math

import pytest

from speechbrain_birq.brains.schedules import Ramp, WarmupDecay, WarmupHoldAnneal


def test_a_ramp_is_linear_then_constant():
    ramp = Ramp(value=2.4, steps=10)
    values = [ramp(step) for step in (0, 1, 5, 9, 10, 11, 1000)]
    assert values == pytest.approx([0, 0.24, 1.2, 2.16, 2.4, 2.4, 2.4])


def test_a_ramp_without_steps_is_constant():
    assert [Ramp(value=0.1)(step) for step in (0, 1, 99)] == [0.1, 0.1, 0.1]


def test_a_ramp_to_zero_is_zero():
    assert [Ramp(value=0.0, steps=5)(step) for step in range(8)] == [0] * 8


@pytest.mark.parametrize("name", ["value", "steps", "start"])
@pytest.mark.parametrize("number", [-1, math.nan, math.inf, "abc"])
def test_a_ramp_of_what_is_no_finite_number_from_0_is_refused(name, number):
    with pytest.raises(ValueError, match=f"{name} of a Ramp .* from 0, got {number!r}"):
        Ramp(**{"value": 1.0, name: number})


@pytest.mark.parametrize("name", ["warmup_steps", "total_steps"])
@pytest.mark.parametrize("number", [-1, math.inf, "x"])
def test_a_decay_of_what_is_no_finite_number_from_0_is_refused(name, number):
    with pytest.raises(ValueError, match=f"{name} of WarmupDecay .*, got {number!r}"):
        WarmupDecay(**{"warmup_steps": 1, "total_steps": 2, name: number})


@pytest.mark.parametrize(
    "name, number", [("warmup_epochs", -1), ("hold_epochs", "x"), ("decay", 0)]
)
def test_an_annealing_of_other_values_is_refused(name, number):
    with pytest.raises(ValueError, match=f"{name} of WarmupHoldAnneal .* {number!r}"):
        WarmupHoldAnneal(**{name: number})


def test_warm_up_is_linear_and_never_zero():
    schedule = WarmupDecay(warmup_steps=4, total_steps=100)
    values = [schedule(step, 0.0) for step in range(5)]
    assert values == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_the_decay_is_a_half_cosine_down_to_zero():
    schedule = WarmupDecay(warmup_steps=10, total_steps=110)
    for step in range(10, 111):
        expected = 0.5 * (1 + math.cos(math.pi * (step - 10) / 100))
        assert schedule(step, 0.0) == pytest.approx(expected)
    assert schedule(110, 0.0) == pytest.approx(0)


def test_after_the_last_step_the_rate_stays_zero():
    schedule = WarmupDecay(warmup_steps=1, total_steps=5)
    assert [schedule(step, 0.0) for step in (5, 6, 10_000)] == pytest.approx([0, 0, 0])


def test_without_warm_up_the_decay_starts_at_one():
    assert WarmupDecay(warmup_steps=0, total_steps=5)(0, 0.0) == 1


@pytest.mark.parametrize(("warmup", "total"), [(5, 5), (9, 5), (0, 0)])
def test_a_decay_without_room_stays_between_zero_and_one(warmup, total):
    schedule = WarmupDecay(warmup_steps=warmup, total_steps=total)
    assert all(0 <= schedule(step, 0.0) <= 1 for step in range(20))


def test_the_papers_fine_tuning_warms_up_holds_and_anneals():
    schedule = WarmupHoldAnneal()
    epochs = (0, 2.5, 5, 10, 15, 20, 21, 22, 24, 30)
    expected = (0, 0.25, 0.5, 1, 1, 1, 2**-0.5, 0.5, 0.25, 2**-5)
    assert [schedule(0, e) for e in epochs] == pytest.approx(expected)


def test_annealing_has_no_jumps():
    schedule = WarmupHoldAnneal(warmup_epochs=2, hold_epochs=1)
    values = [schedule(0, i / 100) for i in range(800)]
    steps = [abs(b - a) for a, b in itertools.pairwise(values)]
    assert max(steps) < 0.0051


def test_without_warm_up_fine_tuning_starts_at_the_full_rate():
    assert WarmupHoldAnneal(warmup_epochs=0, hold_epochs=0)(0, 0.0) == 1


def test_the_divisor_of_annealing_is_an_option():
    schedule = WarmupHoldAnneal(warmup_epochs=0, hold_epochs=0, decay=3.0)
    assert schedule(0, 2.0) == pytest.approx(1 / 9)


@pytest.mark.parametrize("step", [0, 7, 1000])
def test_the_annealing_depends_on_epochs_alone(step):
    assert WarmupHoldAnneal()(step, 5.0) == 0.5
