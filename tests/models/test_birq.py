"""The method against an independent float64 reference, and what it must not do.

The model itself cannot run in float64 (distances, labels and cross entropy are float32
by design), so it is compared with the reference at a relative tolerance of 1e-4.
"""

import copy
import itertools

import pytest
import torch

from speechbrain_birq.models.masking import masked_rows
from speechbrain_birq.models.objectives import penalty_sum

WEIGHTS = 0.3, 1.7  # of F and G
TOLERANCE = 1e-4


@pytest.fixture
def batch():
    """Two waveforms, the second shorter; a mask that also covers padding."""
    generator = torch.Generator().manual_seed(5)
    wavs = 0.1 * torch.randn(2, 3200, generator=generator)
    wavs[1, 2240:] = 0
    mask = torch.zeros(2, 10, dtype=torch.bool)
    mask[0, 2:6] = mask[1, 1:3] = mask[1, 5:] = True
    return wavs, torch.tensor([1.0, 0.7]), mask


def seeded(number=7):
    return torch.Generator().manual_seed(number)


# The reference: float64, loops over frames, codebooks and codes.


def reference(model, wavs, wav_lens, mask, generator):
    """G and F per codebook, the labels, and the parameters they depend on."""
    frames, lengths = model.frontend(wavs, wav_lens)
    inside = [
        (b, t)
        for b, length in enumerate(lengths.tolist())
        for t in range(length)
        if mask[b, t]
    ]
    groups, codes, _ = model.anchor_quantizer.codebook.shape
    encoder, heads = (copy.deepcopy(m).double() for m in (model.encoder, model.heads))
    x = frames.double()

    gumbel = torch.zeros(len(inside), groups, codes)
    if model.selector.noise:
        gumbel = -gumbel.exponential_(generator=generator).log()
    fill = torch.empty_like(frames).normal_(
        0.0, model.mask_noise_std, generator=generator
    )

    with torch.set_grad_enabled(model.selector.gradient):
        z = normalised(model, encoder(x, lengths, model.label_layer), lengths)
        soft = [
            [
                soft_label(distances(model.enhanced_quantizer, z[b][t], g), v[g], model)
                for g in range(groups)
            ]
            for (b, t), v in zip(inside, gumbel.double(), strict=True)
        ]
    hard = [
        [argmin(distances(model.anchor_quantizer, x[b, t], g)) for g in range(groups)]
        for b, t in inside
    ]
    nearest = [
        [argmin(distances(model.enhanced_quantizer, z[b][t], g)) for g in range(groups)]
        for b, t in inside
    ]
    hidden = x.clone()
    for b, t in inside:
        hidden[b, t] = fill[b, t].double()
    output = encoder(hidden, lengths)

    lower, upper = [0.0] * groups, [0.0] * groups
    for (b, t), y, y_k in zip(inside, hard, soft, strict=True):
        for g in range(groups):
            lower[g] = lower[g] - log_probs(heads.anchor, output[b, t], g, codes)[y[g]]
            head = heads.anchor if heads.shared else heads.enhanced
            for n, log_prob in enumerate(log_probs(head, output[b, t], g, codes)):
                upper[g] = upper[g] - y_k[g][n] * log_prob
    parameters = {f"encoder.{n}": p for n, p in encoder.named_parameters()}
    parameters |= {f"heads.{n}": p for n, p in heads.named_parameters()}
    return lower, upper, hard, nearest, soft, parameters


def normalised(model, states, lengths):
    """z^(k) as nested lists of frames."""
    valid = [[states[b, t] for t in range(n)] for b, n in enumerate(lengths.tolist())]
    if model.label_norm.kind == "layer":
        return [
            [standard(frame, frame.mean(), len(frame)) for frame in u] for u in valid
        ]
    every = [frame for utterance in valid for frame in utterance]
    mean = sum(every) / len(every)
    var = sum((frame - mean) ** 2 for frame in every) / len(every)
    return [[(f - mean) / (var + 1e-5).sqrt() for f in u] for u in valid]


def standard(frame, mean, size):
    var = sum((value - mean) ** 2 for value in frame) / size
    return (frame - mean) / (var + 1e-5).sqrt()


def distances(quantizer, vector, g):
    point = vector @ quantizer.projection[g].double()
    if quantizer.codebook.l2_normalize:
        point = point / point.square().sum().sqrt()
    return [((point - c) ** 2).sum() for c in quantizer.codebook.codes[g].double()]


def soft_label(distance, noise, model):
    pairs = zip(distance, noise, strict=True)
    scores = [(-(d + v) / model.selector.temperature).exp() for d, v in pairs]
    return [score / sum(scores) for score in scores]


def argmin(values):
    return min(range(len(values)), key=lambda n: values[n].item())


def log_probs(linear, vector, g, codes):
    rows = range(g * codes, (g + 1) * codes)
    logits = [linear.weight[row] @ vector + linear.bias[row] for row in rows]
    total = sum(logit.exp() for logit in logits).log()
    return [logit - total for logit in logits]


def assert_close(ours, expected, tolerance=TOLERANCE):
    """The largest difference is small beside the largest value."""
    ours, expected = ours.double(), expected.double()
    scale = expected.abs().max().clamp_min(1e-6)
    assert (ours - expected).abs().max() <= tolerance * scale


VARIANTS = list(itertools.product((1, 4), (True, False), (True, False)))
FORMS = [(False, "layer"), (False, "channel"), (True, "layer"), (True, "channel")]


@pytest.mark.parametrize("l2_normalize, label_norm", FORMS)
@pytest.mark.parametrize("num_codebooks, gradient, shared", VARIANTS)
def test_labels_losses_and_every_gradient_equal_the_reference(
    make_model, batch, num_codebooks, gradient, shared, l2_normalize, label_norm
):
    model = make_model(
        num_codebooks=num_codebooks,
        num_codes=6,
        code_dim=4,
        gradient=gradient,
        shared_head=shared,
        l2_normalize=l2_normalize,
        label_norm=label_norm,
    )
    lower, upper, hard, nearest, _, parameters = reference(model, *batch, seeded())
    objective = model(*batch, generator=seeded())

    assert objective.num_frames == len(hard) == 8
    assert objective.anchor_codes.tolist() == hard
    assert objective.enhanced_codes.tolist() == nearest
    assert_close(objective.anchor_loss, torch.stack(lower))
    assert_close(objective.enhanced_loss, torch.stack(upper))

    loss = penalty_sum(objective, *WEIGHTS)
    expected = sum(
        WEIGHTS[0] * f + WEIGHTS[1] * g for f, g in zip(upper, lower, strict=True)
    )
    expected = expected / num_codebooks
    assert_close(loss, expected)
    loss.backward()
    expected.backward()
    ours = dict(model.named_parameters())
    assert ours.keys() == parameters.keys()
    largest = max(p.grad.abs().max() for p in parameters.values() if p.grad is not None)
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        difference = (ours[name].grad - parameter.grad).abs().max()
        bound = TOLERANCE * max(parameter.grad.abs().max(), 1e-2 * largest)
        assert difference <= bound, name


@pytest.mark.parametrize("label_norm", ["layer", "channel"])
def test_soft_labels_equal_the_reference(make_model, batch, label_norm):
    model = make_model(
        num_codebooks=2, num_codes=6, label_norm=label_norm, gradient=False
    )
    _, _, _, _, soft, _ = reference(model, *batch, seeded())
    clean = model.frontend(*batch[:2])
    rows = masked_rows(batch[2] & clean.valid)
    labels, _ = model.select_labels(clean, rows, generator=seeded())
    assert labels.dtype == torch.float32
    assert_close(labels, torch.tensor(soft))


# The gradient through the labels.


def gradients(model, batch, weights):
    model.zero_grad()
    penalty_sum(model(*batch, generator=seeded()), *weights).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


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
        labels, _ = model.select_labels(clean, masked_rows(batch[2] & clean.valid))
    assert torch.equal(half.anchor_codes, full.anchor_codes)
    assert clean.frames.dtype == labels.dtype == torch.float32
    assert (labels.sum(-1) - 1).abs().max() < 1e-6


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
    filled, targets, hidden = frames.clone(), [], []
    noise = torch.empty_like(frames).normal_(0.0, 0.1, generator=seeded())
    for b in range(2):
        for t in range(int(lengths[b])):
            if not mask[b, t]:
                continue
            hidden.append((b, t))
            filled[b, t] = noise[b, t]
            nearest = []
            for matrix, codes in zip(projection, codebook, strict=True):
                point = frames[b, t] @ matrix
                squares = [float((point - code).square().sum()) for code in codes]
                nearest.append(squares.index(min(squares)))
            targets.append(nearest)
    output = twin.encoder(filled, lengths)
    logits = torch.stack([twin.heads.anchor(output[b, t]) for b, t in hidden])
    logits = logits.reshape(len(hidden), num_codebooks, -1)
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


def test_what_is_hidden_does_not_reach_the_encoder(make_model, batch):
    """The logits depend on hidden frames through the labels alone."""
    wavs, wav_lens, mask = batch
    model = make_model()
    clean = model.frontend(wavs, wav_lens)
    other = clean._replace(frames=torch.where(mask.unsqueeze(-1), 9.0, clean.frames))
    outputs = []
    for frames in (clean, other):
        outputs.append(model.encode_masked(frames, mask, seeded()))
    assert torch.equal(*outputs)


# Label layer, stored codes, labels().


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
