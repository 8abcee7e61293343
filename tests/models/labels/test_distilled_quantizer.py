"""Distilled codes against a computation in float64, written out with loops."""

import math

import pytest
import torch

from speechbrain_birq.models.labels.distilled_quantizer import (
    DistilledQuantizer,
    distillation_loss,
)
from speechbrain_birq.models.labels.fitted_quantizer import FittedQuantizer
from speechbrain_birq.models.labels.quantizer import Codebook


def normal(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


def make_quantizer(**options):
    codebook = Codebook(num_codebooks=3, num_codes=8, code_dim=4, l2_normalize=True)
    options = dict(input_dim=6, seed=0, steps=50, compared=64) | options
    return DistilledQuantizer(codebook=codebook, **options)


@pytest.fixture
def frames():
    return normal(200, 6)


@pytest.fixture
def states():
    return normal(200, 5, seed=1)


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def loop(codes, points, states, closeness):
    chosen = []
    for point in points:
        distances = [
            sum((x - y) ** 2 for x, y in zip(point, code, strict=True))
            for code in codes
        ]
        chosen.append(codes[distances.index(min(distances))])
    number, similarity, distance = len(points), 0.0, 0.0
    for i in range(number):
        for j in range(number):
            wanted = cosine(states[i], states[j])
            similarity += abs(cosine(chosen[i], chosen[j]) - wanted)
        pairs = zip(chosen[i], points[i], strict=True)
        distance += math.sqrt(sum((x - y) ** 2 for x, y in pairs))
    return similarity / number**2 + closeness * distance / number


def test_the_loss_is_the_mean_over_all_pairs():
    parts = [
        normal(n, dim, seed=seed, dtype=torch.float64)
        for seed, (n, dim) in enumerate([(4, 3), (7, 3), (7, 5)])
    ]
    expected = loop(*(part.tolist() for part in parts), closeness=0.3)
    assert distillation_loss(*parts, 0.3).item() == pytest.approx(expected, rel=1e-12)


def test_the_gradient_reaches_the_codes_and_not_the_encoder():
    codes, states = normal(4, 3).requires_grad_(), normal(7, 5).requires_grad_()
    distillation_loss(codes, normal(7, 3), states, 1.0).backward()
    assert codes.grad.abs().sum() > 0
    assert states.grad is None


def test_the_first_fit_is_that_of_k_means(frames, states):
    quantizer = make_quantizer()
    fitted = FittedQuantizer(
        input_dim=6,
        codebook=Codebook(num_codebooks=3, num_codes=8, code_dim=4, l2_normalize=True),
        seed=0,
        projection="pca",
        codes="centroids",
    )
    quantizer.fit(frames, states)
    fitted.fit(frames)
    assert torch.equal(quantizer.codebook.codes, fitted.codebook.codes)


def test_a_later_fit_moves_the_last_codebooks_only(frames, states):
    quantizer = make_quantizer(distilled=2)
    quantizer.fit(frames)
    before = quantizer.codebook.codes.clone()
    quantizer.fit(frames, states)
    moved = (quantizer.codebook.codes != before).flatten(1).any(1)
    assert moved.tolist() == [False, True, True]
    assert quantizer.num_fits == quantizer.times_fitted == 2


def test_distilled_codes_compare_frames_as_the_encoder_does(frames):
    """The encoder tells frames apart by the sign of their first number alone."""
    quantizer = make_quantizer(steps=300, compared=200, closeness=0.0)
    quantizer.fit(frames)
    states = frames[:, :1].sign()

    def loss():
        codes, points = quantizer.codebook.codes[-1], quantizer.points(frames)[:, -1]
        return distillation_loss(codes, points, states, 0.0).item()

    before = loss()
    quantizer.fit(frames, states)
    assert loss() < 0.9 * before


def test_codes_keep_unit_length(frames, states):
    quantizer = make_quantizer()
    quantizer.fit(frames)
    quantizer.fit(frames, states)
    lengths = quantizer.codebook.codes.norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_a_fit_uses_up_no_random_number(frames, states):
    quantizer = make_quantizer()
    before = torch.get_rng_state()
    quantizer.fit(frames)
    quantizer.fit(frames, states)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_later_fit_without_states_is_refused(frames):
    quantizer = make_quantizer()
    quantizer.fit(frames)
    with pytest.raises(ValueError, match="from an encoder's outputs"):
        quantizer.fit(frames)


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(distilled=0), "distilled is 0, there are 3 codebooks"),
        (dict(distilled=4), "distilled is 4, there are 3 codebooks"),
        (dict(closeness=-0.1), "closeness is -0.1, it must not be negative"),
    ],
)
def test_a_bad_value_is_named(options, words):
    with pytest.raises(ValueError, match=words):
        make_quantizer(**options)
