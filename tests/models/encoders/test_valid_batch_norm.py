"""Batch normalization counts valid frames, as torch's layer does on these alone."""

import pytest
import torch

from speechbrain_birq.models.encoders.valid_batch_norm import (
    Statistics,
    ValidBatchNorm,
    statistics,
)


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
def test_in_evaluation_the_running_statistics_normalize():
    norm = ValidBatchNorm(2).eval()
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(4.0)
    states = torch.tensor([[[3.0, 5.0]]])
    found = norm(states, torch.tensor([[True]]))
    torch.testing.assert_close(found, torch.tensor([[[1.0, 2.0]]]), atol=1e-4, rtol=0)
    assert norm.num_batches_tracked == 0


STATES = torch.tensor([[[3.0, 5.0], [1.0, 2.0], [4.0, 0.0]]])
VALID = torch.tensor([[True, True, False]])


@pytest.mark.parametrize(
    "states, valid",
    [
        (STATES * float("nan"), VALID),
        (STATES * float("inf"), VALID),
        (STATES, torch.zeros_like(VALID)),
    ],
)
def test_a_batch_whose_step_is_skipped_leaves_the_running_statistics(states, valid):
    norm = ValidBatchNorm(2)
    norm(STATES, VALID)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    norm(states, valid)
    torch.testing.assert_close(norm.state_dict(), before, atol=0, rtol=0)


@pytest.mark.parametrize("how", [Statistics(counted=False), Statistics(followed=False)])
def test_in_a_context_the_running_statistics_stay(how):
    norm = ValidBatchNorm(2)
    with statistics(how):
        norm(STATES, VALID)
    assert norm.running_mean.tolist() == [0, 0] and norm.num_batches_tracked == 0
    norm(STATES, VALID)
    assert norm.num_batches_tracked == 1
