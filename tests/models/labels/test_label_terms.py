"""Terms of the labels against float64 loops, and what each one pays for."""

import math

import pytest
import torch

from speechbrain_birq.models.labels import label_terms
from speechbrain_birq.models.labels.label_terms import Reconstruction, UsageEntropy

G, N, D, M = 2, 4, 3, 12


def labels_of(seed=0, frames=M):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, G, N, generator=generator).mul(2).softmax(-1)


def inputs_of(frames=M):
    generator = torch.Generator().manual_seed(9)
    return torch.randn(frames, D, generator=generator)


def mean_label(labels):
    """[g][n] by loops."""
    rows = labels.double().tolist()
    return [
        [sum(row[g][n] for row in rows) / len(rows) for n in range(N)] for g in range(G)
    ]


def entropy(shares):
    return -sum(share * math.log(share) for share in shares if share)


def usage(weight=1.5, momentum=1.0):
    sizes = dict(num_codebooks=G, num_codes=N)
    return UsageEntropy(weight=weight, momentum=momentum, **sizes)


def test_usage_of_a_batch_costs_minus_its_frames_times_the_entropy():
    found = usage()(labels_of(), inputs_of())
    expected = [-1.5 * M * entropy(mean) for mean in mean_label(labels_of())]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_of_usage_is_that_of_the_entropy():
    scores = torch.randn(M, G, N, dtype=torch.double, requires_grad=True)
    usage()(scores.softmax(-1).float(), inputs_of()).sum().backward()
    mean = scores.softmax(-1).mean(0)
    cost = 1.5 * M * (mean * mean.log()).sum()
    (expected,) = torch.autograd.grad(cost, scores)
    torch.testing.assert_close(scores.grad, expected, rtol=1e-4, atol=1e-6)


def test_usage_averages_the_first_batches_evenly_then_with_the_momentum():
    term, mean = usage(momentum=0.4), None
    for number in range(5):
        labels = labels_of(number)
        found = term(labels, inputs_of())
        weight, new = max(0.4, 1 / (number + 1)), mean_label(labels)
        mean = new if mean is None else mixed(mean, new, weight)
        sums = [[v * M for v in row] for row in new]
        expected = [
            1.5 * sum(s * math.log(m) for s, m in zip(*pair, strict=True))
            for pair in zip(sums, mean, strict=True)
        ]
        assert found.tolist() == pytest.approx(expected, rel=1e-5)


def mixed(old, new, weight):
    return [
        [(1 - weight) * a + weight * b for a, b in zip(*pair, strict=True)]
        for pair in zip(old, new, strict=True)
    ]


def test_usage_sums_over_all_ranks(monkeypatch):
    other = labels_of(1, frames=5)
    sums = iter([torch.tensor(5.0), other.sum(0)])
    monkeypatch.setattr(label_terms, "total", lambda value: value + next(sums))
    term = usage()
    term(labels_of(), inputs_of())
    expected = torch.tensor(mean_label(torch.cat((labels_of(), other))))
    torch.testing.assert_close(term.mean, expected)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_labels_that_are_not_finite_leave_the_mean_alone(value):
    term = usage()
    term(labels_of(), inputs_of())
    before = term.mean.clone()
    term(labels_of(1).index_fill(0, torch.tensor(3), value), inputs_of())
    assert torch.equal(term.mean, before)
    assert term.num_batches == 1


def test_evaluation_leaves_the_mean_alone():
    term = usage()
    term(labels_of(), inputs_of())
    before = term.mean.clone()
    term.eval()(labels_of(1), inputs_of())
    assert torch.equal(term.mean, before)


def test_a_code_that_is_never_used_costs_a_finite_amount():
    constant = torch.tensor([1.0, 0, 0, 0]).expand(M, G, N)
    term = usage()
    term(constant, inputs_of())
    assert term.eval()(labels_of(), inputs_of()).isfinite().all()


def test_reconstruction_costs_the_squared_error_of_the_frames():
    torch.manual_seed(0)
    sizes = dict(num_codebooks=G, num_codes=N, output_dim=D)
    term, labels = Reconstruction(weight=5.0, **sizes), labels_of()
    weight, bias = (p.double().tolist() for p in term.decoder.parameters())
    expected = 0.0
    rows = zip(labels.flatten(1).tolist(), inputs_of().tolist(), strict=True)
    for label, frame in rows:
        for d in range(D):
            told = bias[d] + sum(w * y for w, y in zip(weight[d], label, strict=True))
            expected += 5.0 * (told - frame[d]) ** 2 / D
    assert term(labels, inputs_of()).tolist() == pytest.approx([expected] * G, rel=1e-5)


def test_a_reconstruction_refuses_frames_of_another_width():
    term = TERMS["reconstruction"]()
    term.check(D)
    with pytest.raises(ValueError, match=f"output_dim of {D}, .* {4 * D} features"):
        term.check(4 * D)


TERMS = {
    "usage": usage,
    "reconstruction": lambda: Reconstruction(
        weight=1.0, num_codebooks=G, num_codes=N, output_dim=D
    ),
}


@pytest.mark.parametrize("name", TERMS)
def test_a_batch_without_masked_frames_costs_nothing(name):
    labels = labels_of(frames=0).requires_grad_()
    cost = TERMS[name]()(labels, inputs_of(0))
    cost.sum().backward()
    assert cost.tolist() == [0] * G


@pytest.mark.parametrize("name", TERMS)
def test_labels_of_one_code_have_a_finite_gradient(name):
    labels = torch.eye(N)[torch.arange(12) % 2].unsqueeze(1).repeat(1, G, 1)
    term = TERMS[name]()
    term(labels.requires_grad_(), inputs_of()).sum().backward()
    assert labels.grad.isfinite().all()


@pytest.mark.parametrize("name", TERMS)
def test_the_gradient_is_that_of_finite_differences(name):
    scores = torch.randn(M, G, N, generator=torch.Generator().manual_seed(3))
    term = TERMS[name]().eval()  # usage: the mean is a constant
    if name == "usage":
        term.mean.copy_(labels_of(4).mean(0))

    def cost(scores):
        return term(scores.softmax(-1), inputs_of()).sum()

    scores.requires_grad_()
    cost(scores).backward()
    for index in [(0, 0, 0), (5, 1, 2), (11, 0, 3)]:
        shift = torch.zeros_like(scores)
        shift[index] = 1e-2
        with torch.no_grad():
            slope = (cost(scores + shift) - cost(scores - shift)) / 2e-2
        assert scores.grad[index].item() == pytest.approx(slope.item(), abs=5e-3)


@pytest.mark.parametrize(
    "make, word",
    [
        (lambda: usage(weight=math.nan), "weight of UsageEntropy .* got nan"),
        (lambda: usage(weight=math.inf), "weight of UsageEntropy .* got inf"),
        (lambda: usage(weight=-0.1), "UsageEntropy"),
        (lambda: usage(weight=True), "weight of UsageEntropy .* got True"),
        (lambda: usage(weight="x"), "weight of UsageEntropy .* got 'x'"),
        (lambda: usage(momentum=0.0), "momentum"),
        (lambda: usage(momentum="x"), "momentum of UsageEntropy .* got 'x'"),
    ],
)
def test_values_out_of_range_are_refused_by_name(make, word):
    with pytest.raises(ValueError, match=word):
        make()
