"""Balanced labels against Sinkhorn's rounds in float64 loops, and their state."""

import copy
import math

import pytest
import torch

from speechbrain_birq.models.labels import selector as selectors
from speechbrain_birq.models.labels.selector import (
    BalancedSelector,
    GumbelSoftmaxSelector,
)

M, G, N, TAU = 12, 2, 5, 0.7


def distances_of(seed=0, frames=M):
    """Far more frames lie near the first codes than near the last ones."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(frames, G, N, generator=generator) + torch.linspace(0, 2, N)


def balanced(rounds=3, momentum=1.0, **options):
    sizes = dict(num_codebooks=G, num_codes=N, rounds=rounds, momentum=momentum)
    return BalancedSelector(**sizes, **dict(temperature=TAU, noise=False) | options)


def softmax(scores):
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


def normalized(row):
    return [value / sum(row) for value in row]


def mean_of(rows):
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


class Loops:
    """The equation of the class: a label at a time, in float64."""

    def __init__(self, rounds, momentum):
        self.momentum, self.batches = momentum, 0
        self.usage = [[None] * rounds for _ in range(G)]

    def __call__(self, distances):
        self.batches += 1
        weight = max(self.momentum, 1 / self.batches)
        labels = [
            self.book(distances[:, g].double().tolist(), g, weight) for g in (0, 1)
        ]
        return torch.tensor(labels, dtype=torch.double).transpose(0, 1)

    def book(self, frames, g, weight):
        labels = [softmax([-d / TAU for d in frame]) for frame in frames]
        for number, old in enumerate(self.usage[g]):
            new = mean_of(labels)
            if old is not None:
                pairs = zip(old, new, strict=True)
                new = [(1 - weight) * a + weight * b for a, b in pairs]
            self.usage[g][number] = new
            labels = [
                normalized([y / u for y, u in zip(label, new, strict=True)])
                for label in labels
            ]
        return labels


@pytest.mark.parametrize("momentum", [1.0, 0.4])
@pytest.mark.parametrize("rounds", [1, 3])
def test_each_round_divides_by_the_running_usage(rounds, momentum):
    selector, loops = balanced(rounds, momentum), Loops(rounds, momentum)
    for seed in range(4):
        found = selector(distances_of(seed)).double()
        torch.testing.assert_close(
            found, loops(distances_of(seed)), rtol=1e-4, atol=1e-6
        )


def test_without_rounds_labels_are_those_of_the_softmax():
    plain = GumbelSoftmaxSelector(temperature=TAU, noise=False)
    assert torch.equal(balanced(0)(distances_of()), plain(distances_of()))


def test_many_rounds_use_all_codes_alike():
    labels = balanced(50)(distances_of())
    torch.testing.assert_close(labels.mean(0), torch.full((G, N), 1 / N))
    plain = GumbelSoftmaxSelector(temperature=TAU, noise=False)(distances_of())
    assert plain.mean(0).max() > 2 / N


def test_noise_is_balanced_with_the_distances():
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    noise = selectors.gumbel_noise(distances_of(), generators[0])
    expected = balanced()(distances_of() + noise)
    found = balanced(noise=True)(distances_of(), generators[1])
    torch.testing.assert_close(found, expected)


def test_no_gradient_flows_through_the_usage():
    selector, distances = balanced(), distances_of().requires_grad_()
    selector(distances)[3, 1, 2].backward()
    y = selector.eval()(distances_of())[3, 1]
    expected = torch.zeros(M, G, N)
    expected[3, 1] = -y[2] * (torch.eye(N)[2] - y) / TAU
    torch.testing.assert_close(distances.grad, expected)


def test_evaluation_keeps_the_usage_and_a_label_ignores_its_batch():
    selector = balanced()
    selector(distances_of())
    before = copy.deepcopy(selector.state_dict())
    labels = selector.eval()(distances_of(1))
    torch.testing.assert_close(selector(distances_of(1)[:1]), labels[:1])
    for name, value in selector.state_dict().items():
        assert torch.equal(value, before[name])


def test_usage_counts_the_frames_of_all_ranks(monkeypatch):
    """The other rank has the last frames of the joined batch."""
    joined, expected = distances_of(), balanced()
    expected(joined)
    rest, logits = joined[5:], None

    def total(value):
        nonlocal logits
        if value.shape == (2,):  # frames, and those that are finite
            logits = rest / -TAU
            return value + len(rest)
        theirs = logits.softmax(-1).sum(0)
        summed = value + theirs
        logits = logits - (summed / M).log()
        return summed

    monkeypatch.setattr(selectors, "total", total)
    found = balanced()
    found(joined[:5])
    torch.testing.assert_close(found.usage, expected.usage)


def test_a_state_that_is_loaded_goes_on_exactly():
    first, second = balanced(momentum=0.3), balanced(momentum=0.3)
    for seed in range(3):
        first(distances_of(seed))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for seed in range(3, 6):
        assert torch.equal(first(distances_of(seed)), second(distances_of(seed)))


@pytest.mark.parametrize("frames", [0, 1])
def test_fewer_than_two_frames_leave_the_usage_alone(frames):
    selector = balanced()
    selector(distances_of())
    before = selector.usage.clone()
    labels = selector(distances_of(1, frames))
    assert labels.shape == (frames, G, N)
    assert torch.equal(selector.usage, before)
    assert selector.num_batches == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_batch_that_is_not_finite_leaves_the_usage_alone(value):
    selector = balanced()
    selector(distances_of())
    before = selector.usage.clone()
    selector(distances_of(1).index_fill(0, torch.tensor(3), value))
    assert torch.equal(selector.usage, before)
    assert selector.num_batches == 1


def test_a_code_that_no_frame_is_near_has_finite_labels():
    distances = distances_of()
    distances[..., -1] = 1e4
    labels = balanced()(distances.requires_grad_())
    labels[..., 0].sum().backward()
    assert labels.isfinite().all() and distances.grad.isfinite().all()


def test_codes_are_the_most_probable_ones_without_noise():
    selector = balanced(noise=True, momentum=0.5)
    selector(distances_of())
    distances = distances_of(1, frames=40).reshape(4, 10, G, N)
    selector.noise = False
    expected = selector.eval()(distances).argmax(-1)
    selector.noise = True
    assert torch.equal(selector.codes(distances), expected)
    assert not torch.equal(expected, distances.argmin(-1))


@pytest.mark.parametrize("rounds", [0, 3])
def test_hard_labels_are_one_code_and_have_the_gradient_of_soft_ones(rounds):
    soft, hard = distances_of().requires_grad_(), distances_of().requires_grad_()
    weights = torch.rand(M, G, N, generator=torch.Generator().manual_seed(5))
    soft_labels, hard_labels = balanced(rounds)(soft), balanced(rounds, hard=True)(hard)
    assert torch.equal(hard_labels, torch.eye(N)[soft_labels.argmax(-1)])
    for labels in (soft_labels, hard_labels):
        (labels * weights).sum().backward()
    torch.testing.assert_close(hard.grad, soft.grad)


def test_labels_are_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert balanced()(distances_of().bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    "make, word",
    [
        (lambda: balanced(rounds=-1), "rounds"),
        (lambda: balanced(momentum=0.0), "momentum"),
        (lambda: balanced(momentum=1.1), "momentum"),
        (lambda: balanced(temperature=0.0), "temperature"),
    ],
)
def test_values_out_of_range_are_refused_by_name(make, word):
    with pytest.raises(ValueError, match=word):
        make()
