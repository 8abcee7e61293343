"""Label quality against phones: every figure against counting in plain Python."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from speechbrain_birq.metrics.units import (
    cluster_purity,
    joint_counts,
    phone_purity,
    pnmi,
    run_length,
    silent_share,
    unit_quality,
)

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=2)


def table(pairs):
    codes, phones = (torch.tensor(column) for column in zip(*pairs, strict=True))
    return joint_counts(codes, phones, 5, 4)


def entropy(symbols):
    return -sum(
        n / len(symbols) * math.log(n / len(symbols)) for n in Counter(symbols).values()
    )


@example([(0, 0), (1, 0), (1, 0), (1, 0), (1, 0), (2, 0)])  # shares add up to under 1
@given(PAIRS)
def test_pnmi_is_the_share_of_the_phones_entropy_that_codes_explain(pairs):
    codes, phones = zip(*pairs, strict=True)
    whole = entropy(phones)
    given_codes = sum(
        n / len(pairs) * entropy([p for c, p in pairs if c == code])
        for code, n in Counter(codes).items()
    )
    expected = (whole - given_codes) / whole if whole else 0.0
    assert pnmi(table(pairs)) == pytest.approx(expected, abs=1e-12)


@given(PAIRS)
def test_purities_are_shares_of_frames_that_the_best_table_names(pairs):
    right = sum(
        max(Counter(p for c, p in pairs if c == code).values())
        for code in {c for c, _ in pairs}
    )
    assert phone_purity(table(pairs)) == pytest.approx(right / len(pairs))
    turned = [(phone, code) for code, phone in pairs]
    codes, phones = (torch.tensor(column) for column in zip(*turned, strict=True))
    assert cluster_purity(joint_counts(codes, phones, 4, 5)) == pytest.approx(
        right / len(pairs)
    )


@given(PAIRS)
def test_silent_codes_are_those_where_silence_is_most_frequent(pairs):
    silent = 0
    for code in {c for c, _ in pairs}:
        phones = Counter(p for c, p in pairs if c == code)
        if phones[0] == max(phones.values()):
            silent += sum(phones.values())
    assert silent_share(table(pairs), silence=0) == pytest.approx(silent / len(pairs))


def test_runs_end_with_the_utterance():
    same = torch.zeros(3, 1, dtype=torch.long)
    assert run_length([same, same]) == 3


def test_runs_of_several_codebooks_are_counted_apart():
    codes = torch.tensor([[0, 0], [0, 1], [0, 2], [0, 3]])
    assert run_length([codes]) == pytest.approx(8 / 5)


def test_codes_that_are_the_phones_are_perfect():
    phones = [torch.tensor([0, 1, 1, 2]), torch.tensor([2, 0])]
    codes = [p.unsqueeze(1) for p in phones]
    quality = unit_quality(codes, phones, num_codes=3, num_phones=3, silence=0)
    assert quality[:3] == pytest.approx((1, 1, 1))
    assert quality.silent_share == pytest.approx(2 / 6)
    assert quality.run_length == pytest.approx(6 / 5)


def test_constant_codes_say_nothing():
    phones = [torch.tensor([0, 1, 1, 2])]
    codes = [torch.zeros(4, 2, dtype=torch.long)]
    quality = unit_quality(codes, phones, num_codes=3, num_phones=3, silence=0)
    assert quality.pnmi == pytest.approx(0, abs=1e-12)
    assert quality.phone_purity == pytest.approx(0.5)
    assert quality.cluster_purity == pytest.approx(1)


def test_figures_are_means_over_the_codebooks():
    phones = [torch.tensor([0, 1, 0, 1])]
    codes = [torch.tensor([[0, 1], [1, 1], [0, 1], [1, 1]])]
    quality = unit_quality(codes, phones, num_codes=2, num_phones=2, silence=0)
    assert quality.pnmi == pytest.approx(0.5)
