"""What tests of BiRQ share: weights, noise, gradients, a relative comparison."""

import torch

from speechbrain_birq.models.objectives import penalty_sum

WEIGHTS = 0.3, 1.7  # of F and G
TOLERANCE = 1e-4


def seeded(number=7):
    return torch.Generator().manual_seed(number)


def assert_close(ours, expected, tolerance=TOLERANCE):
    """The largest difference is small beside the largest value."""
    ours, expected = ours.double(), expected.double()
    scale = expected.abs().max().clamp_min(1e-6)
    assert (ours - expected).abs().max() <= tolerance * scale


def gradients(model, batch, weights):
    model.zero_grad()
    penalty_sum(model(*batch, generator=seeded()), *weights).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}
