"""The step: its cost, BEST-RQ as its special case, padding, labels, codebooks."""

import copy
import math

import pytest
import torch
from small_birq import WEIGHTS, assert_close, gradients, seeded

from speechbrain_birq.models.objectives import penalty_sum

# Cost.


def count_layers(model):
    calls = []
    for number, layer in enumerate(model.encoder.layers, 1):
        layer.register_forward_hook(lambda *_, n=number: calls.append(n))
    return calls


def test_without_enhanced_labels_every_layer_runs_once(make_model, batch):
    model = make_model(num_layers=3, label_layer=2)
    calls = count_layers(model)
    objective = model(*batch, enhanced=False)
    assert calls == [1, 2, 3]
    assert objective.enhanced_loss.tolist() == [0.0]
    assert objective.enhanced_codes.shape == (0, 1)


def test_enhanced_labels_cost_k_more_layers(make_model, batch):
    model = make_model(num_layers=3, label_layer=2)
    calls = count_layers(model)
    model(*batch)
    assert calls == [1, 2, 1, 2, 3]


def test_only_masked_frames_meet_the_head(make_model, batch):
    model = make_model()
    rows = []
    model.heads.anchor.register_forward_hook(lambda m, i, o: rows.append(len(i[0])))
    model(*batch)
    assert rows == [8]


@pytest.mark.parametrize("shared", [True, False])
def test_chunks_change_nothing(make_model, batch, shared):
    whole, chunked = (
        make_model(shared_head=shared, num_codebooks=2, chunk=n) for n in (2048, 4)
    )
    a, b = gradients(whole, batch, WEIGHTS), gradients(chunked, batch, WEIGHTS)
    for name in a:
        assert_close(a[name], b[name], 1e-5)
    objectives = [model(*batch, generator=seeded()) for model in (whole, chunked)]
    for first, second in zip(*objectives, strict=True):
        assert torch.allclose(first, second, rtol=1e-5)


def test_the_number_of_masked_frames_may_be_given(make_model, batch):
    model = make_model(num_codebooks=2)
    counted, given = (
        model(*batch, num_masked=n, generator=seeded()) for n in (None, 8)
    )
    for first, second in zip(counted, given, strict=True):
        assert torch.equal(first, second)


# Enhanced weight 0 is BEST-RQ.


@pytest.mark.parametrize("num_codebooks", [1, 3])
def test_enhanced_weight_zero_is_a_best_rq_step(make_model, batch, num_codebooks):
    wavs, wav_lens, mask = batch
    model = make_model(num_codebooks=num_codebooks)
    twin = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    objective = model(wavs, wav_lens, mask, enhanced=False, generator=seeded())
    (penalty_sum(objective, 0.0, 1.0) / objective.num_frames).backward()
    optimizer.step()

    optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-3)
    projection = twin.anchor_quantizer.projection  # Xavier, from the module's buffers
    codebook = twin.anchor_quantizer.codebook.codes
    frames, lengths = twin.frontend(wavs, wav_lens)
    filled, targets, masked = frames.clone(), [], []
    noise = torch.empty_like(frames).normal_(0.0, 0.1, generator=seeded())
    for b in range(2):
        for t in range(int(lengths[b])):
            if not mask[b, t]:
                continue
            masked.append((b, t))
            filled[b, t] = noise[b, t]
            nearest = []
            for matrix, codes in zip(projection, codebook, strict=True):
                point = frames[b, t] @ matrix
                squares = [float((point - code).square().sum()) for code in codes]
                nearest.append(squares.index(min(squares)))
            targets.append(nearest)
    output = twin.encoder(filled, lengths)
    logits = torch.stack([twin.heads.anchor(output[b, t]) for b, t in masked])
    logits = logits.reshape(len(masked), num_codebooks, -1)
    losses = [
        torch.nn.functional.cross_entropy(logits[:, g], torch.tensor(targets)[:, g])
        for g in range(num_codebooks)
    ]
    (sum(losses) / num_codebooks).backward()
    optimizer.step()

    assert objective.anchor_codes.tolist() == targets
    for (name, ours), theirs in zip(
        model.named_parameters(), twin.parameters(), strict=True
    ):
        # Adam's first step is the gradient's sign where the gradient is rounding noise.
        certain = theirs.grad.abs() > 1e-6
        assert (ours - theirs)[certain].abs().max() < 1e-6, name
        assert certain.float().mean() > 0.5 or "in_proj" in name, name


# Padding and masks.


@pytest.mark.parametrize("kind", ["conformer", "transformer"])
def test_an_utterance_is_the_same_alone_and_in_a_padded_batch(make_model, batch, kind):
    wavs, wav_lens, mask = batch
    model = make_model(
        kind=kind, noise=False, mask_noise_std=0.0, num_codebooks=2
    ).eval()
    together = model(wavs, wav_lens, mask)
    alone = [
        model(wavs[:1], torch.ones(1), mask[:1]),
        model(wavs[1:, :2240], torch.ones(1), mask[1:, :7]),
    ]
    assert together.num_frames == sum(o.num_frames for o in alone)
    for name in ("anchor_loss", "enhanced_loss"):
        expected = sum(getattr(o, name) for o in alone)
        assert torch.allclose(getattr(together, name), expected, rtol=1e-5)
    for name in ("anchor_codes", "enhanced_codes"):
        expected = torch.cat([getattr(o, name) for o in alone])
        assert torch.equal(getattr(together, name), expected)

    padded = model.labels(wavs, wav_lens)
    assert padded.lengths.tolist() == [10, 7]
    single = model.labels(wavs[1:, :2240], torch.ones(1))
    assert torch.equal(padded.anchor[1:, :7], single.anchor)
    assert torch.equal(padded.enhanced[1:, :7], single.enhanced)


def test_padding_is_never_masked(make_model, batch):
    wavs, wav_lens, mask = batch
    model = make_model()
    objective = model(wavs, wav_lens, torch.ones_like(mask))
    assert objective.num_frames == 10 + 7
    assert len(objective.anchor_codes) == len(objective.enhanced_codes) == 17


@pytest.mark.parametrize("gradient", [True, False])
def test_a_batch_without_masked_frames_has_a_zero_loss(make_model, batch, gradient):
    wavs, wav_lens, mask = batch
    model = make_model(gradient=gradient)
    objective = model(wavs, wav_lens, torch.zeros_like(mask))
    loss = penalty_sum(objective, *WEIGHTS)
    loss.backward()
    assert objective.num_frames == 0
    assert loss == 0
    assert all(torch.isfinite(p.grad).all() for p in model.heads.parameters())


def test_what_is_masked_does_not_reach_the_encoder(make_model, batch):
    """The logits depend on masked frames through the labels alone."""
    wavs, wav_lens, mask = batch
    model = make_model()
    clean = model.frontend(wavs, wav_lens)
    other = clean._replace(frames=torch.where(mask.unsqueeze(-1), 9.0, clean.frames))
    outputs = []
    for frames in (clean, other):
        outputs.append(model.encode_masked(frames, mask, seeded()))
    assert torch.equal(*outputs)


# Label layer, stored codes, labels().


@pytest.mark.parametrize("std", [-0.1, math.nan, math.inf, True, "x", None])
def test_mask_noise_that_is_negative_or_not_finite_is_refused(make_model, std):
    with pytest.raises(ValueError, match=f"mask_noise_std .* from 0, got {std!r}"):
        make_model(mask_noise_std=std)


@pytest.mark.parametrize("label_layer", [0, 3, -1])
def test_label_layer_out_of_range_is_refused(make_model, label_layer):
    with pytest.raises(ValueError, match="the encoder has layers 1 to 2"):
        make_model(label_layer=label_layer)


def test_stored_codes_replace_the_anchor_labels(make_model, batch):
    wavs, wav_lens, mask = batch
    model = make_model(num_codebooks=2, noise=False, mask_noise_std=0.0)
    usual = model(wavs, wav_lens, mask)
    labels = model.labels(wavs, wav_lens)
    same = model(wavs, wav_lens, mask, targets=labels.anchor)
    assert torch.equal(same.anchor_codes, usual.anchor_codes)
    assert torch.equal(same.anchor_loss, usual.anchor_loss)

    stored = (labels.anchor + 1) % 16
    other = model(wavs, wav_lens, mask, targets=stored)
    valid = mask & model.frontend(wavs, wav_lens).valid
    assert torch.equal(other.anchor_codes, stored[valid])
    assert not torch.equal(other.anchor_loss, usual.anchor_loss)
    assert torch.equal(other.enhanced_loss, usual.enhanced_loss)


@pytest.mark.parametrize("label_norm", ["layer", "channel"])
def test_labels_are_those_of_the_loss_without_noise(make_model, batch, label_norm):
    wavs, wav_lens, mask = batch
    model = make_model(num_codebooks=3, noise=False, label_norm=label_norm)
    objective = model(wavs, wav_lens, mask)
    labels = model.labels(wavs, wav_lens)
    assert labels.anchor.shape == labels.enhanced.shape == (2, 10, 3)
    assert labels.anchor.dtype == labels.enhanced.dtype == torch.int64
    inside = mask & model.frontend(wavs, wav_lens).valid
    assert torch.equal(labels.anchor[inside], objective.anchor_codes)
    assert torch.equal(labels.enhanced[inside], objective.enhanced_codes)


def test_labels_have_no_noise_even_where_the_loss_has(make_model, batch):
    noisy, quiet = (make_model(noise=noise) for noise in (True, False))
    state = torch.get_rng_state()
    first, second = (model.labels(*batch[:2]) for model in (noisy, quiet))
    assert torch.equal(first.enhanced, second.enhanced)
    assert torch.equal(torch.get_rng_state(), state)


# Several codebooks, noise, precision of the state.


@pytest.mark.parametrize("shared", [True, False])
def test_identical_codebooks_average_to_the_loss_of_one(make_model, batch, shared):
    one, four = (
        make_model(num_codebooks=n, noise=False, mask_noise_std=0.0, shared_head=shared)
        for n in (1, 4)
    )
    four.encoder.load_state_dict(one.encoder.state_dict())
    for source, target in (
        (one.anchor_quantizer, four.anchor_quantizer),
        (one.enhanced_quantizer, four.enhanced_quantizer),
    ):
        target.projection.copy_(source.projection.expand_as(target.projection))
        codes = source.codebook.codes
        target.codebook.codes.copy_(codes.expand_as(target.codebook.codes))
    repeated = {
        name: value.repeat(4, *[1] * (value.dim() - 1))
        for name, value in one.heads.state_dict().items()
    }
    four.heads.load_state_dict(repeated)
    first, second = (penalty_sum(model(*batch), *WEIGHTS) for model in (one, four))
    assert torch.allclose(first, second, rtol=1e-6)
    assert four(*batch).anchor_loss.shape == (4,)


def test_noise_comes_from_the_generator_alone(make_model, batch):
    model = make_model()
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(values))
        values.append(model(*batch, generator=seeded(seed)).enhanced_loss.item())
    assert values[0] == values[1] != values[2]


def test_quantizers_are_buffers_never_parameters(make_model):
    model = make_model(num_codebooks=2)
    parameters = [name for name, _ in model.named_parameters()]
    state = model.state_dict()
    for name in (
        "anchor_quantizer.projection",
        "enhanced_quantizer.projection",
        "anchor_quantizer.codebook.codes",
    ):
        assert name in state
        assert state[name].dtype == torch.float32
    assert all(name.startswith(("encoder.", "heads.")) for name in parameters)
    assert model.anchor_quantizer.codebook is model.enhanced_quantizer.codebook


def test_noise_does_not_hide_a_collapse(make_model):
    """Usage is counted from codes without noise: constant states, one code."""
    model = make_model(noise=True, l2_normalize=True, num_codes=64).eval()
    model.enhanced_quantizer.projection.zero_()
    mask = torch.ones(2, model.frontend.num_frames(16000), dtype=torch.bool)
    objective = model.train()(torch.randn(2, 16000), torch.ones(2), mask)
    assert objective.enhanced_codes.unique().numel() == 1
