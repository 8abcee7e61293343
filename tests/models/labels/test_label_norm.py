"""Label normalization: both kinds against loops, padding, running statistics."""

import math

import pytest
import torch

from speechbrain_birq.models.labels.label_norm import LabelNorm

EPS = LabelNorm.EPS


def batch(lengths=(5, 3, 1), dim=4, seed=0):
    """States (B, T, H) with junk on padding, and the valid mask."""
    generator = torch.Generator().manual_seed(seed)
    states = 2 + 3 * torch.randn(len(lengths), max(lengths), dim, generator=generator)
    valid = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    states[~valid] = 1e4
    return states, valid


def moments(states, valid):
    """Mean and variance of each channel over the valid frames, by loops."""
    rows = [
        frame
        for one, kept in zip(states.double().tolist(), valid.tolist(), strict=True)
        for frame, keep in zip(one, kept, strict=True)
        if keep
    ]
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    variances = [
        sum((v - mean) ** 2 for v in column) / len(rows)
        for column, mean in zip(zip(*rows, strict=True), means, strict=True)
    ]
    return means, variances


def test_layer_normalizes_each_frame_over_its_channels():
    states, valid = batch()
    result = LabelNorm(kind="layer", dim=4)(states, valid)
    for frame, out in zip(states[valid].double().tolist(), result[valid], strict=True):
        mean = sum(frame) / 4
        variance = sum((v - mean) ** 2 for v in frame) / 4
        expected = torch.tensor([(v - mean) / math.sqrt(variance + EPS) for v in frame])
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


def test_channel_normalizes_each_channel_over_the_valid_frames():
    states, valid = batch()
    result = LabelNorm(kind="channel", dim=4)(states, valid)
    means, variances = (torch.tensor(m) for m in moments(states, valid))
    expected = (states - means) / (variances + EPS).sqrt()
    torch.testing.assert_close(result[valid], expected[valid], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["layer", "channel", "utterance", "high_pass"])
def test_padding_enters_no_statistic(kind):
    states, valid = batch()
    other = states.clone()
    other[~valid] = -777.0
    first, second = LabelNorm(kind=kind, dim=4), LabelNorm(kind=kind, dim=4)
    assert torch.equal(first(states, valid)[valid], second(other, valid)[valid])
    assert torch.equal(first.running_mean, second.running_mean)
    assert torch.equal(first.running_var, second.running_var)


def test_the_first_batches_are_averaged_evenly():
    norm = LabelNorm(kind="channel", dim=4, momentum=0.01)
    parts = [batch(seed=seed) for seed in range(5)]
    for states, valid in parts:
        norm(states, valid)
    all_moments = [moments(*part) for part in parts]
    for index, running in enumerate((norm.running_mean, norm.running_var)):
        columns = zip(*(m[index] for m in all_moments), strict=True)
        expected = torch.tensor([sum(column) / 5 for column in columns])
        torch.testing.assert_close(running, expected, rtol=1e-4, atol=1e-4)


def test_later_batches_enter_with_the_momentum():
    norm = LabelNorm(kind="channel", dim=4, momentum=0.5)
    mean, variance = torch.zeros(4), torch.ones(4)
    for seed in range(6):
        states, valid = batch(seed=seed)
        norm(states, valid)
        weight = max(0.5, 1 / (seed + 1))
        new_mean, new_variance = (torch.tensor(m) for m in moments(states, valid))
        mean = (1 - weight) * mean + weight * new_mean
        variance = (1 - weight) * variance + weight * new_variance
    torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.running_var, variance, rtol=1e-4, atol=1e-4)


def test_evaluation_uses_the_running_statistics():
    norm = LabelNorm(kind="channel", dim=4)
    norm(*batch())
    states, valid = batch(seed=1)
    expected = (states - norm.running_mean) / (norm.running_var + EPS).sqrt()
    torch.testing.assert_close(norm.eval()(states, valid), expected)


def test_evaluation_does_not_move_the_statistics():
    norm = LabelNorm(kind="channel", dim=4)
    norm(*batch())
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    norm.eval()(*batch(seed=1))
    assert all(torch.equal(before[n], v) for n, v in norm.state_dict().items())


def test_evaluation_of_an_utterance_does_not_depend_on_its_batch():
    norm = LabelNorm(kind="channel", dim=4)
    norm(*batch())
    states, valid = batch(seed=2)
    whole = norm.eval()(states, valid)
    assert torch.equal(norm(states[1:2], valid[1:2]), whole[1:2])


def test_running_statistics_travel_with_the_state():
    norm, other = LabelNorm(kind="channel", dim=4), LabelNorm(kind="channel", dim=4)
    norm(*batch())
    other.load_state_dict(norm.state_dict())
    states, valid = batch(seed=1)
    assert torch.equal(norm.eval()(states, valid), other.eval()(states, valid))
    assert other.num_batches.item() == 1


@pytest.mark.parametrize("kind", ["layer", "channel", "utterance", "high_pass"])
def test_nothing_is_trainable(kind):
    assert list(LabelNorm(kind=kind, dim=4).parameters()) == []


def test_layer_keeps_no_statistics():
    norm = LabelNorm(kind="layer", dim=4)
    norm(*batch())
    assert norm.num_batches.item() == 0


@pytest.mark.parametrize("kind", ["layer", "channel", "utterance", "high_pass"])
def test_the_gradient_is_that_of_finite_differences(kind):
    states, valid = batch((3, 2), dim=3)
    weight = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))

    def loss(x):
        return (LabelNorm(kind=kind, dim=3)(x, valid) * weight)[valid].sum()

    states = states.masked_fill(~valid.unsqueeze(-1), 0.0).requires_grad_()
    loss(states).backward()
    step = 1e-2
    for index in [(0, 0, 0), (0, 2, 1), (1, 1, 2)]:
        shift = torch.zeros_like(states)
        shift[index] = step
        with torch.no_grad():
            slope = (loss(states + shift) - loss(states - shift)) / (2 * step)
        assert states.grad[index].item() == pytest.approx(slope.item(), abs=2e-3)


def test_channel_passes_no_gradient_to_padding():
    states, valid = batch()
    states.requires_grad_()
    LabelNorm(kind="channel", dim=4)(states, valid)[valid].square().sum().backward()
    assert states.grad[~valid].abs().max() == 0


@pytest.mark.parametrize("kind", ["layer", "channel", "utterance", "high_pass"])
def test_a_constant_input_stays_finite(kind):
    norm = LabelNorm(kind=kind, dim=4)
    result = norm(torch.full((2, 3, 4), 5.0), torch.ones(2, 3, dtype=torch.bool))
    assert result.abs().max() < 1e-3


def test_a_single_frame_becomes_zero_by_channel():
    states, valid = batch((1,))
    assert LabelNorm(kind="channel", dim=4)(states, valid).abs().max() == 0


@pytest.mark.parametrize("kind", ["layer", "channel", "utterance", "high_pass"])
def test_the_result_is_float32(kind):
    states, valid = batch()
    norm = LabelNorm(kind=kind, dim=4)
    assert norm(states.bfloat16(), valid).dtype == torch.float32


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(ValueError, match="got 'batch'"):
        LabelNorm(kind="batch", dim=4)


@pytest.mark.parametrize("momentum", [0.0, -0.1, 1.5, float("nan")])
def test_a_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match=r"momentum must be in \(0, 1\]"):
        LabelNorm(kind="channel", dim=4, momentum=momentum)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_batch_that_is_not_finite_leaves_the_statistics_alone(value):
    norm = LabelNorm(kind="channel", dim=4)
    norm(*batch())
    before = {name: buffer.clone() for name, buffer in norm.state_dict().items()}
    states, valid = batch(seed=1)
    states[0, 0, 2] = value
    norm(states, valid)
    for name, buffer in norm.state_dict().items():
        assert torch.equal(buffer, before[name]), name


def test_a_batch_without_valid_frames_leaves_the_statistics_alone():
    norm = LabelNorm(kind="channel", dim=4)
    states, valid = batch()
    assert norm(states, valid & False).isfinite().all()
    assert norm.running_mean.tolist() == [0] * 4
    assert norm.running_var.tolist() == [1] * 4
    assert norm.num_batches == 0


def test_the_first_batch_counts_alone_after_one_that_was_skipped():
    norm, fresh = LabelNorm(kind="channel", dim=4), LabelNorm(kind="channel", dim=4)
    states, valid = batch()
    norm(states * float("nan"), valid)
    norm(states, valid)
    fresh(states, valid)
    assert torch.equal(norm.running_mean, fresh.running_mean)
    assert torch.equal(norm.running_var, fresh.running_var)


def test_utterance_normalizes_each_channel_over_its_own_valid_frames():
    states, valid = batch()
    result = LabelNorm(kind="utterance", dim=4)(states, valid)
    for number, length in enumerate((5, 3, 1)):
        own = states[number : number + 1, :length], valid[number : number + 1, :length]
        means, variances = (torch.tensor(m) for m in moments(*own))
        expected = (own[0][0] - means) / (variances + EPS).sqrt()
        torch.testing.assert_close(
            result[number, :length], expected.float(), rtol=1e-4, atol=1e-4
        )


def test_utterance_is_the_same_in_evaluation_and_keeps_nothing():
    norm, (states, valid) = LabelNorm(kind="utterance", dim=4), batch()
    trained = norm(states, valid)
    assert torch.equal(norm.eval()(states, valid), trained)
    assert norm.num_batches == 0


def test_high_pass_subtracts_the_mean_of_a_second_then_normalizes_over_time():
    states, valid = batch((40, 31, 3), dim=2)
    result = LabelNorm(kind="high_pass", dim=2)(states, valid)
    for utterance, kept, out in zip(states, valid, result, strict=True):
        rows = utterance[kept].double().tolist()
        expected = []
        for channel in range(2):
            column = [row[channel] for row in rows]
            passed = []
            for place, value in enumerate(column):
                near = column[max(0, place - 12) : place + 13]
                passed.append(value - sum(near) / len(near))
            mean = sum(passed) / len(passed)
            variance = sum((v - mean) ** 2 for v in passed) / len(passed)
            expected.append([(v - mean) / math.sqrt(variance + EPS) for v in passed])
        wanted = torch.tensor(expected, dtype=torch.float32).T
        torch.testing.assert_close(out[kept], wanted, rtol=1e-3, atol=1e-3)
