"""Refinements on trial, each against loops in float64."""

import math

import pytest
import torch

from speechbrain_birq.model import usage_entropy
from speechbrain_birq.selection import GumbelSoftmaxSelector


def distances(seed=0, shape=(6, 2, 5)):
    return 3 * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def softmax(scores):
    powers = [math.exp(score - max(scores)) for score in scores]
    return [power / sum(powers) for power in powers]


def test_straight_through_labels_are_hard_and_their_gradient_soft():
    plain, hard = (
        GumbelSoftmaxSelector(temperature=0.5, noise=False, straight_through=through)
        for through in (False, True)
    )
    inputs = [distances().requires_grad_() for _ in range(2)]
    weights = distances(1)
    labels = [s(d) for s, d in zip((plain, hard), inputs, strict=True)]
    for label in labels:
        (label * weights).sum().backward()
    assert torch.equal(labels[1].round(decimals=5).sum(-1), torch.ones(6, 2))
    assert torch.equal(labels[1].argmax(-1), inputs[0].argmin(-1))
    assert labels[1].detach().round(decimals=5).unique().tolist() == [0, 1]
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)


def test_balanced_labels_are_divided_by_the_usage():
    selector = GumbelSoftmaxSelector(temperature=0.5, noise=False, usage_shape=(2, 5))
    usage = torch.rand(2, 5, generator=torch.Generator().manual_seed(2)) + 0.1
    selector.usage.copy_(usage)
    labels = selector(distances()).double()
    for m, frame in enumerate(distances().double().tolist()):
        for g, row in enumerate(frame):
            scores = [
                -d / 0.5 - math.log(u)
                for d, u in zip(row, usage[g].double().tolist(), strict=True)
            ]
            torch.testing.assert_close(
                labels[m, g],
                torch.tensor(softmax(scores)).double(),
                rtol=1e-5,
                atol=1e-6,
            )
    expected = 0.99 * usage.double() + 0.01 * labels.mean(0)
    torch.testing.assert_close(selector.usage.double(), expected, rtol=1e-5, atol=1e-7)
    assert "usage" in selector.state_dict()


def test_the_usage_entropy_is_that_of_the_mean_label():
    labels = distances().softmax(-1)
    for g, found in enumerate(usage_entropy(labels).tolist()):
        mean = [
            sum(frame[g][n] for frame in labels.double().tolist()) / 6 for n in range(5)
        ]
        assert found == pytest.approx(-sum(p * math.log(p) for p in mean), rel=1e-6)


def test_the_mean_of_layers_is_that_of_their_normalised_outputs(make_model):
    model = make_model(label_norm="layer", label_span=2, label_layer=2)
    wavs = 0.1 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(3))
    clean = model.frontend(wavs, torch.ones(2))
    found = model.label_states(clean)[0, 3].double()
    outputs = model.encoder.hidden_states(clean.frames, clean.lengths)[1:3]

    def normal(row):
        mean = sum(row) / len(row)
        var = sum((x - mean) ** 2 for x in row) / len(row)
        return [(x - mean) / math.sqrt(var + 1e-5) for x in row]

    rows = [normal(output[0, 3].double().tolist()) for output in outputs]
    mean = normal([sum(column) / 2 for column in zip(*rows, strict=True)])
    torch.testing.assert_close(
        found, torch.tensor(mean, dtype=torch.float64), rtol=1e-4, atol=1e-4
    )


def test_the_inner_step_is_on_layers_up_to_k_and_the_anchors(make_model):
    model = make_model(alternating=True, label_layer=1, mask_noise_std=0.0)
    wavs = 0.1 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(3))
    mask = torch.rand(2, 50, generator=torch.Generator().manual_seed(4)) < 0.4
    clean = model.frontend(wavs, torch.ones(2))
    mask = mask[:, : clean.frames.shape[1]]
    loss = model.inner_loss(wavs, torch.ones(2), mask)
    loss.backward()
    hidden = model.encoder(
        clean.frames * ~mask.unsqueeze(-1), clean.lengths, num_layers=1
    )
    logits = model.inner_head(hidden[mask]).double()
    codes = model.anchor_quantizer(clean.frames[mask])
    size = model.heads.shape[1]
    total = 0.0
    for row, frame in zip(logits.tolist(), codes.tolist(), strict=True):
        for g, code in enumerate(frame):
            total -= math.log(softmax(row[g * size : (g + 1) * size])[code])
    assert loss.item() == pytest.approx(total / codes.numel(), rel=1e-5)
    upper, lower = (
        [p.grad for p in layer.parameters()] for layer in model.encoder.layers[::-1]
    )
    assert all(gradient is None for gradient in upper)
    assert all(gradient is not None for gradient in lower)
