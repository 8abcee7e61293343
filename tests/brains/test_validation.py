"""Validation: the same masks and noise every time, weighted by frames."""

import pytest
import speechbrain as sb
import torch
from small_brains import (
    UNEQUAL,
    Nowhere,
    batch_of,
    feed,
    moved,
    parameters,
    validate,
)

NOISE = dict(noise=True, mask_noise_std=0.1)


@pytest.fixture
def two_batches():
    return batch_of(*UNEQUAL[:2]), batch_of(UNEQUAL[2])


def test_validation_repeats_itself_whatever_random_numbers_are_drawn(
    make_brain, two_batches
):
    brain = make_brain(NOISE, checkpointer=Nowhere())
    first = validate(brain, *two_batches)
    torch.rand(7)
    torch.rand(7, generator=brain.generator)
    assert validate(brain, *two_batches) == first


def test_validation_changes_neither_weights_nor_the_generator(make_brain, two_batches):
    brain = make_brain(NOISE, checkpointer=Nowhere())
    state, weights = brain.generator.get_state(), parameters(brain)
    statistics = {n: b.clone() for n, b in brain.model.named_buffers()}
    validate(brain, *two_batches)
    assert torch.equal(brain.generator.get_state(), state)
    assert not moved(weights, parameters(brain))
    assert not moved(statistics, dict(brain.model.named_buffers()))


def seeds(brain, *batches):
    """Utterances of each batch of a validation -> seed of its noise."""
    found = {}
    model = brain.model
    hook = model.register_forward_pre_hook(
        lambda _, inputs, named: found.update(
            {len(inputs[0]): named["generator"].initial_seed()}
        ),
        with_kwargs=True,
    )
    validate(brain, *batches)
    hook.remove()
    return found


def test_noise_of_validation_follows_the_batch_not_its_place(make_brain, two_batches):
    brain = make_brain(NOISE, checkpointer=Nowhere())
    first, second = two_batches
    found = seeds(brain, first, second)
    assert found[2] != found[1]
    assert seeds(brain, second, first) == found
    assert seeds(brain, second) == {1: found[1]}


def test_a_batch_loses_the_same_wherever_it_stands(make_brain, two_batches):
    brain = make_brain(NOISE, checkpointer=Nowhere())
    first, second = two_batches
    alone = validate(brain, second)
    validate(brain, first)
    assert validate(brain, second) == alone


def test_validation_weighs_frames_not_batches(make_brain, two_batches):
    brain = make_brain({"num_codebooks": 2}, checkpointer=Nowhere())
    row = validate(brain, *two_batches)
    brain.modules.eval()
    with torch.no_grad():
        parts = [brain.compute_forward(b, sb.Stage.VALID) for b in two_batches]
    frames = sum(p.num_frames.item() for p in parts)
    assert len({p.num_frames.item() for p in parts}) == 2
    for name, field in (
        ("G", "anchor_loss"),
        ("F", "enhanced_loss"),
        ("anchor_accuracy", "anchor_correct"),
        ("enhanced_accuracy", "enhanced_correct"),
    ):
        total = sum(getattr(p, field).double().mean().item() for p in parts)
        assert row[name] == pytest.approx(total / frames, rel=1e-6)
    assert row["loss"] == pytest.approx(0.7 * row["F"] + 1.3 * row["G"], rel=1e-6)
    assert brain.checkpointer.saved[-1]["meta"]["loss"] == row["loss"]


def test_validation_leaves_the_training_figures_alone(make_brain):
    brains = [make_brain(checkpointer=Nowhere(), log_interval=2) for _ in range(2)]
    for brain in brains:
        feed(brain, batch_of(UNEQUAL[0]), batch_of(UNEQUAL[1]), batch_of(UNEQUAL[0]))
    validate(brains[0], batch_of(*UNEQUAL))
    for brain in brains:
        brain.modules.train()
        brain.step = 3
        feed(brain, batch_of(UNEQUAL[2]))
    rows, expected = (brain.hparams.run_log.stage("train") for brain in brains)
    assert [row["step"] for row in rows] == [1, 2, 4]
    for row in (*rows, *expected):
        del row["frames_per_second"]
    assert rows == expected
