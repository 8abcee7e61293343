"""Channel statistics: values, state, and what there is before there are any."""

import math

import pytest
import torch

from speechbrain_birq.models.channel_statistics import ChannelStatistics


def parts(seed=0):
    generator = torch.Generator().manual_seed(seed)
    scale, shift = torch.tensor([1.0, 9.0, 0.1]), torch.tensor([-80.0, 3.0, 0.0])
    return [
        shift + scale * torch.randn(length, 3, generator=generator)
        for length in (1, 30, 7)
    ]


def loops(frames):
    """Mean and variance of each channel, in Python's own float64."""
    rows = [row.tolist() for part in frames for row in part]
    means, variances = [], []
    for channel in zip(*rows, strict=True):
        mean = math.fsum(channel) / len(channel)
        means.append(mean)
        variances.append(math.fsum((v - mean) ** 2 for v in channel) / len(channel))
    return means, variances, len(rows)


def estimated(frames):
    statistics = ChannelStatistics(num_channels=3)
    statistics.estimate(frames)
    return statistics


def test_mean_and_variance_are_those_of_loops():
    statistics = estimated(iter(parts()))
    means, variances, count = loops(parts())
    torch.testing.assert_close(statistics.mean, torch.tensor(means))
    torch.testing.assert_close(statistics.variance, torch.tensor(variances))
    assert statistics.num_frames == count


def test_a_large_offset_costs_no_precision():
    """Sums of squares in float32 would leave nothing of a variance of 1 here."""
    frames = [1e4 + part for part in parts()]
    _, variances, _ = loops(frames)
    torch.testing.assert_close(
        estimated(frames).variance, torch.tensor(variances), rtol=1e-4, atol=1e-6
    )


def test_normalized_frames_have_mean_zero_and_variance_one():
    frames = torch.cat(parts())
    result = estimated(parts())(frames).double()
    assert result.mean(0).abs().max() < 1e-4
    assert (result.var(0, unbiased=False) - 1).abs().max() < 2e-3  # the floor


def test_a_constant_channel_stays_finite():
    statistics = ChannelStatistics(num_channels=1)
    statistics.estimate([torch.full((5, 1), -100.0)])
    assert statistics(torch.tensor([[-100.0]])).abs().max() < 1e-3


def test_nothing_estimated_is_a_clear_error():
    with pytest.raises(RuntimeError, match="normalize: global has no statistics yet"):
        ChannelStatistics(num_channels=3)(torch.zeros(1, 2, 3))


@pytest.mark.parametrize("frames", [[], [torch.zeros(0, 3)]])
def test_no_frame_at_all_is_refused(frames):
    with pytest.raises(ValueError, match="no frame"):
        estimated(frames)


def test_the_state_carries_the_statistics():
    first, second = estimated(parts()), ChannelStatistics(num_channels=3)
    assert not second.estimated
    second.load_state_dict(first.state_dict())
    assert second.estimated
    frames = torch.cat(parts(seed=1))
    assert torch.equal(first(frames), second(frames))


def test_nothing_is_trainable():
    assert not list(estimated(parts()).parameters())
