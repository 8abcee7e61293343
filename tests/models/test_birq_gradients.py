"""The gradient through the labels, their dropout, and their precision."""

import pytest
import torch
from small_birq import assert_close, gradients, seeded

from speechbrain_birq.models.labels.label_terms import Reconstruction, UsageEntropy
from speechbrain_birq.models.masking import masked_rows
from speechbrain_birq.models.objectives import penalty_sum


def label_path_only(model, batch):
    """Gradient of F where the masked pass is cut off: what the labels alone carry."""
    model.zero_grad()
    encode = model.encode_masked
    model.encode_masked = lambda *inputs: encode(*inputs).detach()
    try:
        model(*batch, generator=seeded()).enhanced_loss.mean().backward()
    finally:
        del model.encode_masked
    return {n: p.grad for n, p in model.named_parameters()}


def layer_of(name):
    return int(name.split(".")[2]) if name.startswith("encoder.layers") else None


@pytest.mark.parametrize("label_layer", [1, 2])
def test_labels_carry_a_gradient_into_layers_up_to_k_only(
    make_model, batch, label_layer
):
    model = make_model(num_layers=3, label_layer=label_layer)
    through_labels = label_path_only(model, batch)
    for name, gradient in through_labels.items():
        layer = layer_of(name)
        if layer is not None and layer < label_layer:
            assert gradient.abs().max() > 0, name
        elif layer is not None or name.startswith("encoder.norm"):
            assert gradient is None, name
    assert through_labels["encoder.input.linear.weight"].abs().max() > 0


def test_no_gradient_through_labels_when_switched_off(make_model, batch):
    through_labels = label_path_only(make_model(gradient=False), batch)
    for name, gradient in through_labels.items():
        assert (gradient is None) == name.startswith("encoder"), name


def test_gradient_switch_changes_layers_up_to_k_and_no_others(make_model, batch):
    on, off = (
        gradients(make_model(num_layers=3, gradient=g), batch, (1.0, 0.0))
        for g in (True, False)
    )
    for name in on:
        lower = layer_of(name) == 0 or name.startswith("encoder.input")
        if name.startswith("encoder"):
            assert torch.equal(on[name], off[name]) != lower, name


def test_gradient_with_and_without_labels_differ_by_the_label_path(make_model, batch):
    model = make_model()
    on, path = gradients(model, batch, (1.0, 0.0)), label_path_only(model, batch)
    off = gradients(make_model(gradient=False), batch, (1.0, 0.0))
    name = "encoder.layers.0.mha_layer.out_proj.weight"
    assert_close(on[name], off[name] + path[name])


def test_bfloat16_label_pass_without_gradient_leaves_the_masked_pass_its_own(
    make_model, batch
):
    """Autocast caches the weights it casts: not those of the pass without gradient."""
    model = make_model(gradient=False, noise=False, mask_noise_std=0.0)
    full = gradients(model, batch, (1.0, 1.0))
    with torch.autocast("cpu", torch.bfloat16):
        objective = model(*batch)
    assert objective.anchor_loss.dtype == torch.float32
    model.zero_grad()
    penalty_sum(objective, 1.0, 1.0).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        similarity = torch.cosine_similarity(
            parameter.grad.flatten(), full[name].flatten(), dim=0
        )
        assert similarity > 0.9, name


def test_labels_under_bfloat16_are_those_of_float32(make_model, batch):
    model = make_model(noise=False, num_codebooks=4)
    full = model(*batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(*batch)
        clean = model.frontend(*batch[:2])
        rows = masked_rows(batch[2] & clean.valid)
        labels = model.select_labels(clean, rows).labels
    assert torch.equal(half.anchor_codes, full.anchor_codes)
    assert clean.frames.dtype == labels.dtype == torch.float32
    assert (labels.sum(-1) - 1).abs().max() < 1e-6


# Dropout: the label pass is a training pass.


@torch.no_grad()
def test_the_label_pass_of_training_has_dropout(make_model, batch):
    model = make_model(dropout=0.5, noise=False)
    clean = model.frontend(*batch[:2])
    first, second = (model.label_states(clean) for _ in range(2))
    assert not torch.equal(first, second)
    rows = masked_rows(batch[2] & clean.valid)
    first, second = (model.select_labels(clean, rows).labels for _ in range(2))
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model.label_states(clean), model.label_states(clean))


SIZES = dict(num_codebooks=1, num_codes=16)


def with_terms(make_model, **settings):
    term = UsageEntropy(weight=0.7, **SIZES)
    return make_model(num_layers=3, **dict(label_terms=[term]) | settings)


def test_the_gradient_of_terms_is_independent_of_that_of_f(make_model, batch):
    """With F's gradient stopped the labels still learn from the terms."""
    plain, taught = (
        gradients(model, batch, (1.0, 0.0))
        for model in (
            make_model(num_layers=3, gradient=False),
            with_terms(make_model, gradient=False),
        )
    )
    for name in plain:
        lower = layer_of(name) == 0 or name.startswith("encoder.input")
        if name.startswith("encoder"):
            assert torch.equal(plain[name], taught[name]) != lower, name


def test_beside_terms_the_stopped_gradient_of_f_stays_stopped(make_model, batch):
    through_labels = label_path_only(with_terms(make_model, gradient=False), batch)
    for name, gradient in through_labels.items():
        assert (gradient is None) == name.startswith("encoder"), name


def test_terms_are_weighted_with_f(make_model, batch):
    model = with_terms(make_model)
    objective = model(*batch, generator=seeded())
    cost = objective.label_cost.mean()
    bare = objective._replace(label_cost=torch.zeros_like(objective.label_cost))
    difference = penalty_sum(objective, 0.3, 1.7) - penalty_sum(bare, 0.3, 1.7)
    assert cost < 0
    assert difference.item() == pytest.approx(0.3 * cost.item(), rel=1e-4)


def test_terms_see_the_labels_and_inputs_of_the_masked_frames(make_model, batch):
    sound = Reconstruction(weight=0.7, output_dim=40, **SIZES)
    model = with_terms(make_model, label_terms=[sound])
    wavs, wav_lens, mask = batch
    objective = model(*batch, generator=seeded())
    clean = model.frontend(wavs, wav_lens)
    rows = masked_rows(mask & clean.valid)
    labels = model.select_labels(clean, rows, None, seeded()).labels
    expected = sound(labels, clean.frames.flatten(0, 1)[rows])
    torch.testing.assert_close(objective.label_cost, expected)


def test_best_rq_has_no_terms(make_model, batch):
    objective = with_terms(make_model)(*batch, enhanced=False)
    assert objective.label_cost.tolist() == [0.0]
