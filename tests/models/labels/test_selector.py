"""Selection: the Gumbel softmax against a loop, its noise, its extremes."""

import math

import pytest
import torch

from speechbrain_birq.models.labels.selector import GumbelSoftmaxSelector, gumbel_noise


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def softmax(scores):
    top = max(scores)
    powers = [math.exp(score - top) for score in scores]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("temperature", [0.05, 0.5, 3.0])
def test_without_noise_it_is_the_softmax_of_negative_distances(temperature):
    distances = 3 * torch.rand(5, 2, 7, generator=generator())
    selector = GumbelSoftmaxSelector(temperature=temperature, noise=False)
    expected = [
        [softmax([-d / temperature for d in row]) for row in frame]
        for frame in distances.double().tolist()
    ]
    torch.testing.assert_close(
        selector(distances).double(),
        torch.tensor(expected, dtype=torch.float64),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_noise_is_added_to_the_distances_as_the_paper_prints_it(temperature):
    distances = 3 * torch.rand(5, 7, generator=generator())
    draws = torch.empty(5, 7).exponential_(generator=generator(1)).double().tolist()
    expected = [
        softmax(
            [-(d - math.log(e)) / temperature for d, e in zip(row, es, strict=True)]
        )
        for row, es in zip(distances.double().tolist(), draws, strict=True)
    ]
    selector = GumbelSoftmaxSelector(temperature=temperature)
    torch.testing.assert_close(
        selector(distances, generator(1)).double(),
        torch.tensor(expected, dtype=torch.float64),
        rtol=1e-4,
        atol=1e-6,
    )


def test_noise_has_the_moments_of_a_gumbel_distribution():
    noise = gumbel_noise(torch.empty(100_000), generator()).double()
    assert abs(noise.mean().item() - 0.5772157) < 0.015
    assert abs(noise.var().item() - math.pi**2 / 6) < 0.03


def test_noise_has_the_quantiles_of_a_gumbel_distribution():
    noise = gumbel_noise(torch.empty(100_000), generator(2)).double()
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        expected = -math.log(-math.log(share))
        assert abs((noise <= expected).double().mean().item() - share) < 0.006


@pytest.mark.parametrize("draw", [0.0, 1e-45, 1e30, torch.finfo(torch.float32).max])
def test_labels_are_finite_whatever_is_drawn(monkeypatch, draw):
    monkeypatch.setattr(
        torch.Tensor, "exponential_", lambda self, generator=None: self.fill_(draw)
    )
    labels = GumbelSoftmaxSelector(temperature=0.01)(torch.rand(3, 4))
    torch.testing.assert_close(labels.sum(-1), torch.ones(3))


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e6])
def test_labels_sum_to_one(scale):
    distances = scale * torch.rand(50, 2, 64, generator=generator())
    labels = GumbelSoftmaxSelector(temperature=0.05)(distances, generator())
    torch.testing.assert_close(labels.sum(-1), torch.ones(50, 2))


def test_a_low_temperature_chooses_the_nearest_code():
    distances = torch.rand(20, 9, generator=generator())
    labels = GumbelSoftmaxSelector(temperature=1e-6, noise=False)(distances)
    assert torch.equal(labels.argmax(-1), distances.argmin(-1))
    assert labels.amax(-1).min() > 0.99


def test_a_single_code_gets_everything():
    labels = GumbelSoftmaxSelector()(torch.rand(4, 1), generator())
    assert torch.equal(labels, torch.ones(4, 1))


def test_no_frames_give_no_labels():
    assert GumbelSoftmaxSelector()(torch.zeros(0, 2, 8)).shape == (0, 2, 8)


def test_the_same_generator_gives_the_same_labels():
    distances, selector = torch.rand(4, 8), GumbelSoftmaxSelector()
    first, again = (selector(distances, generator(3)) for _ in range(2))
    other = selector(distances, generator(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_labels_are_float32_under_autocast():
    distances = torch.rand(4, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert GumbelSoftmaxSelector()(distances).dtype == torch.float32


def test_the_gradient_is_that_of_the_softmax():
    temperature = 0.7
    distances = torch.rand(6, generator=generator(), requires_grad=True)
    labels = GumbelSoftmaxSelector(temperature=temperature, noise=False)(distances)
    labels[2].backward()
    y = labels.detach()
    expected = -y[2] * (torch.eye(6)[2] - y) / temperature
    torch.testing.assert_close(distances.grad, expected)


@pytest.mark.parametrize("temperature", [0, -0.5, math.nan, math.inf, True, "x", None])
def test_a_temperature_that_is_not_positive_or_not_finite_is_refused(temperature):
    with pytest.raises(ValueError, match=r"^temperature .* a number above 0, got"):
        GumbelSoftmaxSelector(temperature=temperature)
