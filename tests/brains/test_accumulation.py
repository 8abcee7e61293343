"""Any split of a batch gives the same step: sums, one division, one clipping."""

import math

import pytest
import torch
from small_brains import (
    SPOKEN,
    UNEQUAL,
    Batches,
    assert_same,
    batch_of,
    example,
    feed,
    moved,
    parameters,
)


def joined_and_split(make, examples):
    joined, split = make(), make(grad_accumulation_factor=2)
    before = parameters(joined)
    feed(joined, batch_of(*examples))
    feed(split, batch_of(*examples[:2]), batch_of(*examples[2:]))
    assert joined.optimizer_step == split.optimizer_step == 1
    assert moved(before, parameters(joined))
    return joined, split


@pytest.mark.parametrize("num_codebooks", [1, 4])
@pytest.mark.parametrize("gradient", [True, False])
def test_unequal_micro_batches_step_like_their_joined_batch(
    make_brain, num_codebooks, gradient
):
    joined, split = joined_and_split(
        lambda **more: make_brain(
            {"num_codebooks": num_codebooks, "gradient": gradient}, **more
        ),
        UNEQUAL,
    )
    assert_same(parameters(joined), parameters(split))
    assert torch.allclose(joined.grad_norm, split.grad_norm, rtol=1e-4)


def test_unequal_micro_batches_of_ctc_step_like_their_joined_batch(make_ctc):
    joined, split = joined_and_split(make_ctc, SPOKEN)
    assert_same(parameters(joined), parameters(split))


def test_gradient_is_the_mean_over_masked_frames_not_over_batches(make_brain):
    """Two batches of 1 and 9 masked frames weigh 1 to 9."""
    few, many = example(1, 0.3), example(2, 0.3)
    few["mask"][:], many["mask"][:] = False, False
    few["mask"][3], many["mask"][2:11] = True, True
    gradients = []
    for examples in ([few], [many]):
        brain = make_brain(max_grad_norm=-1.0)
        start = parameters(brain)
        feed(brain, batch_of(*examples))
        gradients.append({n: start[n] - p for n, p in parameters(brain).items()})
    brain = make_brain(max_grad_norm=-1.0, grad_accumulation_factor=2)
    start = parameters(brain)
    feed(brain, batch_of(few), batch_of(many))
    for name, value in parameters(brain).items():
        expected = 0.1 * gradients[0][name] + 0.9 * gradients[1][name]
        assert torch.allclose(start[name] - value, expected, atol=1e-6), name


@pytest.mark.parametrize("kind", ["birq", "ctc"])
def test_a_micro_batch_left_over_makes_its_own_step(make_brain, make_ctc, kind):
    make, examples = (make_brain, UNEQUAL) if kind == "birq" else (make_ctc, SPOKEN)
    batches = [batch_of(e) for e in examples]
    left_over = make(grad_accumulation_factor=2)
    left_over.num_batches = 3
    feed(left_over, *batches)
    assert left_over.optimizer_step == 2

    expected = make(grad_accumulation_factor=2)
    feed(expected, *batches[:2])
    expected.grad_accumulation_factor = 1
    feed(expected, batches[2])
    assert_same(parameters(left_over), parameters(expected))


def test_left_over_micro_batches_do_not_leak_into_the_next_epoch(make_brain):
    brain = make_brain(grad_accumulation_factor=2)
    brain._fit_train(Batches([batch_of(e) for e in UNEQUAL]), 1, False)
    assert brain.optimizer_step == 2
    assert brain.num_items == 0 and brain.pending_ids == []
    assert all(p.grad is None for p in brain.model.parameters())


@pytest.mark.parametrize("kind", ["birq", "ctc"])
def test_all_parameter_groups_are_clipped_together(make_brain, make_ctc, kind):
    limit = 1e-3
    if kind == "birq":
        brain = make_brain(max_grad_norm=limit)
        rates = {name: 0.05 for name in parameters(brain)}
        batch = batch_of(*UNEQUAL)
    else:
        brain = make_ctc(max_grad_norm=limit)
        assert [g["lr"] for g in brain.optimizer.param_groups] == [0.02, 0.05]
        rates = {
            name: 0.02 if name.startswith("encoder") else 0.05
            for name in parameters(brain)
        }
        batch = batch_of(*SPOKEN)
    start = parameters(brain)
    feed(brain, batch)
    assert brain.grad_norm > 10 * limit
    clipped = [(start[n] - p) / rates[n] for n, p in parameters(brain).items()]
    norms = torch.stack([g.double().norm() for g in clipped])
    assert math.isclose(norms.norm().item(), limit, rel_tol=1e-2)
    assert (norms > 0).sum() > len(norms) / 2


def test_no_clipping_below_the_limit_or_when_switched_off(make_brain):
    free, wide = make_brain(max_grad_norm=-1.0), make_brain(max_grad_norm=1e6)
    for brain in (free, wide):
        feed(brain, batch_of(*UNEQUAL))
    assert_same(parameters(free), parameters(wide), 0.0)
