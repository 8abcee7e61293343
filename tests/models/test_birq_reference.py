"""The method against an independent reference: float64, loops over frames and codes.

The model itself cannot run in float64 (distances, labels and cross entropy are float32
by design), so it is compared with the reference at a relative tolerance of 1e-4.
"""

import copy
import itertools

import pytest
import torch
from small_birq import TOLERANCE, WEIGHTS, assert_close, seeded

from speechbrain_birq.models.masking import masked_rows
from speechbrain_birq.models.objectives import penalty_sum


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
        z = normalized(model, encoder(x, lengths, model.label_layer), lengths)
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
    masked = x.clone()
    for b, t in inside:
        masked[b, t] = fill[b, t].double()
    output = encoder(masked, lengths)

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


def normalized(model, states, lengths):
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
    labels = model.select_labels(clean, rows, generator=seeded()).labels
    assert labels.dtype == torch.float32
    assert_close(labels, torch.tensor(soft))
