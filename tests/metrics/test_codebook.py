"""Codebook diagnostics against loops over counts."""

import math
from collections import Counter

import pytest
import torch

from speechbrain_birq.metrics.codebook import (
    agreement,
    code_usage,
    mutual_information,
)


def draw(frames=200, groups=3, codes=12, seed=0):
    """Skewed codes, (M, G)."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(frames, groups, generator=generator)
    return (codes * uniform.square()).long()


def entropy(symbols):
    counts = Counter(symbols).values()
    total = sum(counts)
    return -sum(n / total * math.log(n / total) for n in counts)


def columns(codes):
    return [[row[g] for row in codes.tolist()] for g in range(codes.shape[1])]


@pytest.mark.parametrize("groups", [1, 4])
def test_usage_is_the_mean_of_a_loop_over_codebooks(groups):
    codes = draw(groups=groups)
    parts = columns(codes)
    usage = code_usage(codes, 20)
    expected = (
        sum(len(set(p)) for p in parts) / groups,
        sum(math.exp(entropy(p)) for p in parts) / groups,
        sum(max(Counter(p).values()) / len(p) for p in parts) / groups,
    )
    assert tuple(usage) == pytest.approx(expected)


def test_evenly_used_codes_have_a_perplexity_of_their_number():
    codes = torch.arange(64).repeat(5).unsqueeze(1)
    assert tuple(code_usage(codes, 100)) == pytest.approx((64, 64, 1 / 64))


def test_a_collapsed_codebook_has_perplexity_one():
    codes = torch.full((50, 2), 7)
    assert tuple(code_usage(codes, 100)) == pytest.approx((1, 1, 1))


def test_a_single_frame_uses_one_code():
    assert tuple(code_usage(torch.tensor([[3]]), 8)) == pytest.approx((1, 1, 1))


def test_agreement_is_the_share_of_equal_codes():
    first, second = draw(seed=0), draw(seed=1)
    pairs = [
        a == b
        for x, y in zip(first.tolist(), second.tolist(), strict=True)
        for a, b in zip(x, y, strict=True)
    ]
    assert agreement(first, second) == pytest.approx(sum(pairs) / len(pairs))


def test_labels_agree_with_themselves():
    assert agreement(draw(), draw()) == 1


def test_mutual_information_is_that_of_a_loop():
    first, second = draw(seed=0), draw(codes=5, seed=1)
    second[::2] = first[::2] % 5
    values = [
        entropy(a) + entropy(b) - entropy(list(zip(a, b, strict=True)))
        for a, b in zip(columns(first), columns(second), strict=True)
    ]
    expected = sum(values) / len(values)
    assert mutual_information(first, second) == pytest.approx(expected)


def test_mutual_information_of_many_codes_is_that_of_few():
    first, second = draw(seed=0), draw(seed=1)
    second[::2] = first[::2]
    assert mutual_information(1_000_003 * first, second) == pytest.approx(
        mutual_information(first, second)
    )


def test_mutual_information_with_itself_is_the_entropy():
    codes = draw(groups=1)
    assert mutual_information(codes, codes) == pytest.approx(entropy(columns(codes)[0]))


def test_mutual_information_does_not_depend_on_names():
    first, second = draw(seed=0), draw(seed=1)
    second[::2] = first[::2]
    renamed = torch.randperm(12, generator=torch.Generator().manual_seed(0))[second]
    assert mutual_information(first, renamed) == pytest.approx(
        mutual_information(first, second)
    )


def test_a_constant_label_tells_nothing():
    codes = draw()
    constant = torch.zeros_like(codes)
    assert mutual_information(codes, constant) == pytest.approx(0, abs=1e-9)


def test_every_pair_once_is_independent():
    first = torch.arange(6).repeat_interleave(4).unsqueeze(1)
    second = torch.arange(4).repeat(6).unsqueeze(1)
    assert mutual_information(first, second) == pytest.approx(0, abs=1e-9)
