"""Masking: spans, ratios, seeds, degenerate lengths, and the noise that fills."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechbrain_birq.models.masking import SpanMasking, fill_masked, masked_rows, take

NUM_FRAMES = st.integers(1, 300)
PROBS = st.floats(0.001, 1.0)
SPANS = st.integers(1, 60)
quick = settings(max_examples=60, deadline=None)


def masking(prob=0.02, span=20, seed=0):
    return SpanMasking(mask_prob=prob, mask_length_ms=span * 20, frame_ms=20, seed=seed)


def runs(mask):
    """(start, length) of every masked run."""
    found, start = [], None
    for t, masked in enumerate([*mask.tolist(), False]):
        if masked and start is None:
            start = t
        if not masked and start is not None:
            found.append((start, t - start))
            start = None
    return found


@quick
@given(NUM_FRAMES, PROBS, SPANS, st.integers(0, 5))
def test_a_mask_is_boolean_with_a_value_for_each_frame(num_frames, prob, span, epoch):
    mask = masking(prob, span)(num_frames, "a", epoch)
    assert mask.dtype == torch.bool
    assert mask.shape == (num_frames,)


@quick
@given(NUM_FRAMES, SPANS, st.text(max_size=8))
def test_something_is_always_masked(num_frames, span, utterance):
    assert masking(1e-9, span)(num_frames, utterance, 0).any()


@quick
@given(NUM_FRAMES, PROBS, SPANS)
def test_every_run_is_as_long_as_a_span_or_reaches_the_end(num_frames, prob, span):
    for start, length in runs(masking(prob, span)(num_frames, "a", 1)):
        assert length >= span or start + length == num_frames


@quick
@given(NUM_FRAMES, PROBS, SPANS, st.integers(0, 9))
def test_a_mask_is_the_union_of_the_spans_that_start(num_frames, prob, span, epoch):
    drawn = masking(prob, span)
    generator = torch.Generator().manual_seed(drawn._seed_of("a", epoch))
    starts = (torch.rand(num_frames, generator=generator) < drawn.mask_prob).tolist()
    if not any(starts):
        starts[int(torch.randint(num_frames, (1,), generator=generator))] = True
    expected = [False] * num_frames
    for start in range(num_frames):
        if starts[start]:
            for t in range(start, min(start + span, num_frames)):
                expected[t] = True
    assert drawn(num_frames, "a", epoch).tolist() == expected


@quick
@given(NUM_FRAMES, st.integers(0, 99), st.text(max_size=8), st.integers(0, 99))
def test_a_mask_depends_on_seed_epoch_and_utterance_alone(
    num_frames, seed, utterance, epoch
):
    first = masking(seed=seed)(num_frames, utterance, epoch)
    torch.rand(3)
    assert torch.equal(first, masking(seed=seed)(num_frames, utterance, epoch))


def test_drawing_a_mask_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    masking()(100, "a", 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "other",
    [(0, "a", 2), (0, "b", 1), (1, "a", 1), (0, "1/a", 1)],
    ids=["epoch", "utterance", "seed", "separator"],
)
def test_another_epoch_utterance_or_seed_gives_another_mask(other):
    def mask(seed, utterance, epoch):
        return masking(0.05, 5, seed)(500, utterance, epoch)

    assert not torch.equal(mask(0, "a", 1), mask(*other))


@pytest.mark.parametrize(
    ("prob", "ms", "frame_ms"),
    [(0.02, 400, 20), (0.06, 400, 40), (0.01, 400, 10), (0.1, 40, 20), (0.3, 100, 40)],
)
def test_the_share_of_masked_frames_is_one_minus_no_start_in_a_span(prob, ms, frame_ms):
    drawn = SpanMasking(mask_prob=prob, mask_length_ms=ms, frame_ms=frame_ms)
    span = round(ms / frame_ms)
    mask = torch.cat([drawn(20_000, "long", epoch) for epoch in range(5)])
    assert drawn.span == span
    assert abs(mask.double().mean().item() - (1 - (1 - prob) ** span)) < 0.015


def test_short_and_long_utterances_have_the_same_share():
    """SpeechBrain draws one mask over the shortest of the batch: 14 % of 60."""
    drawn = masking(0.04, 20)
    shares = [
        torch.cat([drawn(frames, f"{i}", 0)[20:] for i in range(number)])
        .double()
        .mean()
        for frames, number in ((100, 600), (750, 80))
    ]
    assert abs(shares[0] - shares[1]) < 0.03


def test_a_probability_times_span_over_one_does_not_mask_everything():
    mask = masking(0.1, 20)(20_000, "a", 0)
    assert 0.86 < mask.double().mean() < 0.9


def test_every_frame_can_be_the_only_start():
    drawn = masking(1e-12, 1)
    places = {int(drawn(5, f"{i}", 0).nonzero()) for i in range(200)}
    assert places == {0, 1, 2, 3, 4}


def test_probability_one_masks_everything():
    assert masking(1.0, 1)(17, "a", 0).all()


def test_no_frames_give_an_empty_mask():
    mask = masking()(0, "a", 0)
    assert mask.shape == (0,)
    assert mask.dtype == torch.bool


def test_a_span_of_more_frames_than_an_integer_holds_masks_to_the_end():
    drawn = SpanMasking(mask_prob=0.1, mask_length_ms=1e300)(50, "a", epoch=0)
    cut = SpanMasking(mask_prob=0.1, mask_length_ms=1000)(50, "a", epoch=0)
    assert torch.equal(drawn, cut) and drawn[-1]


def test_a_span_longer_than_the_utterance_is_cut():
    drawn = masking(1e-12, 50)
    assert all(drawn(3, f"{i}", 0)[-1] for i in range(20))


@pytest.mark.parametrize(
    ("ms", "frame_ms", "span"),
    [(400, 20, 20), (400, 40, 10), (5, 20, 1), (110, 40, 3), (90, 40, 2), (190, 40, 5)],
)
def test_a_span_in_milliseconds_is_rounded_to_frames(ms, frame_ms, span):
    assert SpanMasking(mask_length_ms=ms, frame_ms=frame_ms).span == span


@pytest.mark.parametrize("prob", [0, -0.1, 1.1, math.nan, True, "x", None])
def test_a_probability_outside_its_range_is_refused(prob):
    with pytest.raises(ValueError, match=r"^mask_prob .* above 0, at most 1, got"):
        SpanMasking(mask_prob=prob)


@pytest.mark.parametrize("name", ["mask_length_ms", "frame_ms"])
@pytest.mark.parametrize("length", [0, -1, math.nan, math.inf, True, "x", None])
def test_a_span_or_frame_without_a_finite_length_is_refused(name, length):
    with pytest.raises(ValueError, match=f"^{name} .* a number above 0, got"):
        SpanMasking(**{name: length})


def test_filling_leaves_other_frames_as_they_are():
    frames, mask = torch.randn(3, 40, 5), torch.rand(3, 40) < 0.4
    filled = fill_masked(frames, mask)
    assert torch.equal(filled[~mask], frames[~mask])
    assert (filled[mask] != frames[mask]).all()


@pytest.mark.parametrize("std", [0.1, 1.0])
def test_filled_frames_are_noise_of_the_given_deviation(std):
    generator = torch.Generator().manual_seed(0)
    frames = torch.full((4, 500, 10), 7.0)
    mask = torch.ones(4, 500, dtype=torch.bool)
    filled = fill_masked(frames, mask, std, generator)
    assert abs(filled.std() / std - 1) < 0.03
    assert abs(filled.mean() / std) < 0.03


def test_the_deviation_is_a_tenth_by_default():
    filled = fill_masked(torch.ones(4, 500, 10), torch.ones(4, 500, dtype=torch.bool))
    assert abs(filled.std() - 0.1) < 0.005


def test_filling_does_not_change_its_input():
    frames = torch.ones(1, 4, 2)
    fill_masked(frames, torch.ones(1, 4, dtype=torch.bool))
    assert torch.equal(frames, torch.ones(1, 4, 2))


def test_the_same_generator_fills_with_the_same_noise():
    frames, mask = torch.zeros(2, 9, 3), torch.ones(2, 9, dtype=torch.bool)
    first, again, other = (
        fill_masked(frames, mask, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_frames_are_filled_without_complaint():
    empty = fill_masked(torch.zeros(2, 0, 3), torch.zeros(2, 0, dtype=torch.bool))
    assert empty.shape == (2, 0, 3)


@pytest.mark.parametrize("given", [True, False])
def test_masked_frames_are_taken_in_order(given):
    mask = torch.tensor([[False, True, True], [True, False, False]])
    rows = masked_rows(mask, 3 if given else None)
    assert rows.tolist() == [1, 2, 3]
    frames = torch.arange(12).reshape(2, 3, 2)
    assert torch.equal(take(frames, rows), frames[mask])


def test_a_number_of_masked_frames_above_the_true_one_is_an_error():
    mask = torch.tensor([[True, False]])
    with pytest.raises(IndexError):
        take(torch.zeros(1, 2, 3), masked_rows(mask, 2))
