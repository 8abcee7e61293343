"""Batch normalization counts valid frames, as torch's layer does on these alone."""

import pytest
import torch

from speechbrain_birq.models.encoders.valid_batch_norm import ValidBatchNorm


@pytest.fixture
def both_norms():
    """Ours on padded utterances, torch's on the valid frames alone."""
    torch.manual_seed(2)
    states = torch.randn(3, 7, 4, dtype=torch.double) * 5 + 3
    valid = torch.arange(7) < torch.tensor([[7], [2], [5]])
    ours, theirs = ValidBatchNorm(4).double(), torch.nn.BatchNorm1d(4).double()
    padded = states.clone().requires_grad_()
    packed = states[valid].clone().requires_grad_()
    return ours, theirs, ours(padded, valid)[valid], theirs(packed), padded, packed


def test_statistics_are_those_of_valid_frames(both_norms):
    ours, theirs, found, expected, *_ = both_norms
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_the_gradient_flows_through_the_statistics(both_norms):
    *_, found, expected, padded, packed = both_norms
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    gradient = padded.grad[padded.grad.abs().sum(-1) > 0]
    torch.testing.assert_close(gradient, packed.grad, atol=1e-10, rtol=0)


@torch.no_grad()
def test_in_evaluation_the_running_statistics_normalise():
    norm = ValidBatchNorm(2).eval()
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(4.0)
    states = torch.tensor([[[3.0, 5.0]]])
    found = norm(states, torch.tensor([[True]]))
    torch.testing.assert_close(found, torch.tensor([[[1.0, 2.0]]]), atol=1e-4, rtol=0)
    assert norm.num_batches_tracked == 0
