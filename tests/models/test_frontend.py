"""Front end: normalization, padding, number of frames, floor, precision."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from speechbrain.lobes.features import Fbank

from speechbrain_birq.models.frontend import Frames, FrontEnd, normalize, valid_frames


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def padded(signals):
    """Batch and relative lengths, padded with zeros on the right."""
    longest = max(len(s) for s in signals)
    batch = torch.stack(
        [torch.cat((s, torch.zeros(longest - len(s)))) for s in signals]
    )
    return batch, torch.tensor([len(s) / longest for s in signals])


@pytest.fixture(scope="module")
def frontend():
    return FrontEnd(n_mels=40, stack=2)


def test_each_channel_of_an_utterance_has_mean_zero_and_variance_one(frontend):
    batch, lens = padded([noise(16000), 5 + 9 * noise(7999, seed=1)])
    frames, lengths = frontend(batch, lens)
    for one, length in zip(frames, lengths.tolist(), strict=True):
        mels = one[:length].reshape(2 * length, 40).double()
        # One frame may be dropped from the stack after normalization.
        assert mels.mean(0).abs().max() < 0.1
        assert (mels.var(0, unbiased=False) - 1).abs().max() < 0.2
    exact = FrontEnd(n_mels=40, stack=1)(batch, lens).frames[0].double()
    assert exact.mean(0).abs().max() < 1e-5
    assert (exact.var(0, unbiased=False) - 1).abs().max() < 1e-4


def test_normalization_is_that_of_a_loop():
    mels, lengths = 3 + noise(3, 6, 2), [6, 2, 1]
    expected = torch.zeros(3, 6, 2, dtype=torch.float64)
    for b, length in enumerate(lengths):
        for c in range(2):
            values = mels[b, :length, c].double().tolist()
            mean = sum(values) / length
            variance = sum((v - mean) ** 2 for v in values) / length
            for t, value in enumerate(values):
                expected[b, t, c] = (value - mean) / math.sqrt(variance + 1e-5)
    result = normalize(mels, torch.tensor(lengths)).double()
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [400, 1700, 4000, 9440, 15999])
@pytest.mark.parametrize("stack", [1, 2, 4])
def test_frames_of_an_utterance_do_not_depend_on_its_padding(length, stack):
    frontend, signal = FrontEnd(n_mels=40, stack=stack), noise(length)
    alone = frontend(signal.unsqueeze(0), torch.ones(1))
    batch, lens = padded([signal, 30 * noise(16000, seed=1)])
    together = frontend(batch, lens)
    assert together.lengths[0] == alone.lengths[0]
    mine = together.frames[0, : alone.lengths[0]]
    torch.testing.assert_close(mine, alone.frames[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("length", [1000, 4000, 4159, 4160, 4161, 4320])
@pytest.mark.parametrize("stack", [1, 2, 4])
def test_frames_on_padding_are_zero(length, stack):
    batch, lens = padded([noise(length), noise(16000, seed=1)])
    result = FrontEnd(n_mels=40, stack=stack)(batch, lens)
    assert result.frames[0, result.lengths[0] :].abs().max() == 0
    assert result.frames[1, -1].abs().max() > 0


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6000), st.integers(1, 5))
def test_the_promised_number_of_frames_is_that_of_the_result(samples, stack):
    frontend = FrontEnd(n_mels=10, stack=stack)
    frames, lengths = frontend(noise(1, samples), torch.ones(1))
    assert frames.shape[1] == frontend.num_frames(samples) == lengths.item()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6000), st.integers(1, 6000))
def test_lengths_in_a_batch_are_the_promised_ones(first, second):
    frontend = FrontEnd(n_mels=10, stack=2)
    _, lengths = frontend(*padded([noise(first), noise(second)]))
    assert lengths.tolist() == [frontend.num_frames(first), frontend.num_frames(second)]


def test_lengths_of_long_utterances_survive_relative_lengths(frontend):
    """Half a minute: 480,000 samples, frame boundaries at every 160th."""
    total = 480_000
    samples = torch.tensor([159, 160, 319, 320, 111_999, 112_000, 479_999, total])
    recovered = torch.round((samples / total) * total).long()
    assert frontend.num_frames(recovered).tolist() == [
        frontend.num_frames(int(s)) for s in samples
    ]


def test_an_incomplete_last_group_is_dropped():
    signal = noise(1, 160 * 6)  # 7 frames of 10 ms
    single = FrontEnd(n_mels=10, stack=1)(signal, torch.ones(1)).frames
    stacked = FrontEnd(n_mels=10, stack=4)(signal, torch.ones(1)).frames
    assert single.shape == (1, 7, 10)
    assert torch.equal(stacked, single[:, :4].reshape(1, 1, 40))


def test_stacking_joins_neighbors_in_order():
    signal = noise(1, 4800)
    single = FrontEnd(n_mels=10, stack=1)(signal, torch.ones(1)).frames
    stacked = FrontEnd(n_mels=10, stack=2)(signal, torch.ones(1)).frames
    for t in range(stacked.shape[1]):
        assert torch.equal(stacked[0, t, :10], single[0, 2 * t])
        assert torch.equal(stacked[0, t, 10:], single[0, 2 * t + 1])


def test_past_features_do_not_move_when_loud_audio_follows(frontend):
    quiet = 1e-4 * noise(1, 8000)
    loud = torch.cat((quiet, 100 * noise(1, 8000, seed=1)), 1)
    before = frontend.fbank(quiet)[:, :48]
    torch.testing.assert_close(frontend.fbank(loud)[:, :48], before, rtol=0, atol=1e-3)


def test_past_features_of_the_stock_filterbank_do_move():
    """The power of the test above."""
    stock = Fbank(n_mels=40)
    quiet = 1e-4 * noise(1, 8000)
    loud = torch.cat((quiet, 100 * noise(1, 8000, seed=1)), 1)
    assert (stock(loud)[:, :48] - stock(quiet)[:, :48]).abs().max() > 3


def test_louder_recordings_give_the_same_frames(frontend):
    signal = noise(1, 8000)
    quiet, loud = (frontend(gain * signal, torch.ones(1)).frames for gain in (0.1, 10))
    torch.testing.assert_close(quiet, loud, rtol=0, atol=1e-3)


def test_silence_gives_zeros(frontend):
    frames, _ = frontend(torch.zeros(1, 8000), torch.ones(1))
    assert frames.abs().max() == 0


def test_silence_beside_speech_stays_finite(frontend):
    batch, lens = padded([torch.zeros(3000), noise(8000)])
    assert frontend(batch, lens).frames.isfinite().all()


def test_a_single_sample_gives_one_finite_frame():
    frames, lengths = FrontEnd(n_mels=10, stack=1)(torch.ones(1, 1), torch.ones(1))
    assert lengths.tolist() == [1]
    assert frames.isfinite().all()


def test_too_little_audio_gives_no_frame():
    result = FrontEnd(n_mels=10, stack=4)(noise(1, 100), torch.ones(1))
    assert result.frames.shape == (1, 0, 40)
    assert result.lengths.tolist() == [0]


@pytest.mark.parametrize("normalize", ["utterance", "global"])
def test_autocast_changes_nothing(normalize):
    """Bfloat16 mels would differ by up to 0.4 dB."""
    frontend = FrontEnd(n_mels=40, stack=2, normalize=normalize)
    signal = noise(2, 8000)
    if normalize == "global":
        frontend.estimate(signal, seconds=1)
    plain = frontend(signal, torch.ones(2)).frames
    with torch.autocast("cpu", torch.bfloat16):
        cast = frontend(signal, torch.ones(2)).frames
    assert cast.dtype == torch.float32
    assert torch.equal(plain, cast)


def test_training_mode_changes_nothing():
    frontend, signal = FrontEnd(n_mels=10), noise(1, 8000)
    train = frontend.train()(signal, torch.ones(1)).frames
    assert torch.equal(frontend.eval()(signal, torch.ones(1)).frames, train)


def test_nothing_is_trainable(frontend):
    assert not [p for p in frontend.parameters() if p.requires_grad]


def test_frames_carry_no_graph(frontend):
    signal = noise(1, 4000).requires_grad_()
    assert not frontend(signal, torch.ones(1)).frames.requires_grad


@pytest.mark.parametrize(
    ("options", "frame_ms", "dim"),
    [
        (dict(stack=2), 20, 160),
        (dict(stack=4), 40, 320),
        (dict(stack=1, n_mels=40), 10, 40),
        (dict(stack=3, sample_rate=8000), 30, 240),
    ],
)
def test_sizes_follow_from_the_options(options, frame_ms, dim):
    frontend = FrontEnd(**options)
    assert frontend.frame_ms == frame_ms
    assert frontend.output_dim == dim


@pytest.mark.parametrize(
    "rate", [1000, 8000, 9000, 11025, 12345, 16000, 22050, 44100, 48000]
)
def test_as_many_frames_as_promised_at_every_rate(rate):
    frontend = FrontEnd(stack=1, n_mels=40, sample_rate=rate)
    for samples in (10 * frontend.hop_samples, 11 * frontend.hop_samples - 1):
        frames = frontend.log_mels(noise(1, samples)).shape[1]
        assert frames == frontend.num_frames(samples)


def test_a_rate_that_has_no_sample_in_a_frame_is_refused():
    with pytest.raises(ValueError, match="sample_rate 1 has no sample in a frame"):
        FrontEnd(sample_rate=1)


def test_valid_frames_are_those_before_the_end():
    frames = Frames(torch.zeros(3, 4, 1), torch.tensor([0, 2, 4]))
    expected = [[t < length for t in range(4)] for length in (0, 2, 4)]
    assert frames.valid.tolist() == expected
    assert valid_frames(frames.lengths, 4).tolist() == expected


# normalize: global


def global_frontend(seconds=10, **options):
    frontend = FrontEnd(**dict(n_mels=20, stack=2, normalize="global") | options)
    frontend.estimate([3 * noise(16000, seed=5), noise(9000, seed=6)], seconds)
    return frontend


def test_global_statistics_are_those_of_the_log_mels_of_the_speech():
    frontend, plain = global_frontend(), FrontEnd(n_mels=20)
    frames = [
        row.tolist()
        for signal in (3 * noise(16000, seed=5), noise(9000, seed=6))
        for row in plain.fbank(signal.unsqueeze(0))[0]
    ]
    assert frontend.statistics.num_frames == len(frames) == 101 + 57
    for c, channel in enumerate(zip(*frames, strict=True)):
        mean = math.fsum(channel) / len(channel)
        variance = math.fsum((v - mean) ** 2 for v in channel) / len(channel)
        assert frontend.statistics.mean[c].item() == pytest.approx(mean, abs=1e-4)
        assert frontend.statistics.variance[c].item() == pytest.approx(variance, 1e-4)


def test_global_frames_are_normalized_with_the_frozen_statistics():
    frontend, signal = global_frontend(stack=1), noise(1, 4000, seed=9)
    mels = frontend.fbank(signal)[0].double()
    statistics = frontend.statistics
    expected = (mels - statistics.mean) / (statistics.variance.double() + 1e-5).sqrt()
    frames = frontend(signal, torch.ones(1)).frames[0].double()
    torch.testing.assert_close(frames, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("seconds", "samples"), [(0.5, 8000), (1.25, 20000)])
def test_no_more_speech_is_read_than_was_asked_for(seconds, samples):
    read = []

    def signals():
        for seed in range(9):
            read.append(seed)
            yield noise(16000, seed=seed)

    frontend = FrontEnd(n_mels=20, normalize="global")
    frontend.estimate(signals(), seconds)
    assert len(read) == math.ceil(samples / 16000)
    whole, rest = divmod(samples, 16000)
    assert frontend.statistics.num_frames == whole * 101 + (rest // 160 + 1)


@pytest.mark.parametrize("cut", [4000, 8000, 8123])
def test_a_prefix_gives_the_frames_of_the_whole(cut):
    frontend, signal = global_frontend(stack=1), noise(1, 16000)
    whole = frontend(signal, torch.ones(1)).frames
    prefix = frontend(signal[:, :cut], torch.ones(1)).frames
    complete = (cut - 200) // 160 + 1  # windows that end before the cut
    torch.testing.assert_close(
        prefix[:, :complete], whole[:, :complete], rtol=0, atol=1e-5
    )


def test_a_prefix_of_an_utterance_normalized_by_itself_gives_others():
    """The power of the test above."""
    frontend, signal = FrontEnd(n_mels=20, stack=1), noise(1, 16000)
    signal[:, 8000:] *= 100
    whole = frontend(signal, torch.ones(1)).frames
    prefix = frontend(signal[:, :8000], torch.ones(1)).frames
    assert (prefix[:, :40] - whole[:, :40]).abs().max() > 0.5


@pytest.mark.parametrize("stack", [1, 2, 4])
def test_global_frames_do_not_depend_on_padding_and_are_zero_there(stack):
    frontend, signal = global_frontend(stack=stack), noise(4160)
    alone = frontend(signal.unsqueeze(0), torch.ones(1))
    batch, lens = padded([signal, 30 * noise(16000, seed=1)])
    together = frontend(batch, lens)
    mine = together.frames[0, : alone.lengths[0]]
    torch.testing.assert_close(mine, alone.frames[0], rtol=0, atol=1e-4)
    assert together.frames[0, alone.lengths[0] :].abs().max() == 0


def test_global_statistics_travel_in_the_state():
    first, second = global_frontend(), FrontEnd(n_mels=20, normalize="global")
    second.load_state_dict(first.state_dict())
    signal = noise(1, 4000)
    assert torch.equal(
        first(signal, torch.ones(1)).frames, second(signal, torch.ones(1)).frames
    )


def test_global_without_statistics_is_a_clear_error():
    with pytest.raises(RuntimeError, match="no statistics yet"):
        FrontEnd(normalize="global")(noise(1, 4000), torch.ones(1))


def test_what_normalize_does_not_know_is_refused():
    with pytest.raises(ValueError, match="'utterance' or 'global', got 'batch'"):
        FrontEnd(normalize="batch")
    with pytest.raises(ValueError, match="utterance has no statistics"):
        FrontEnd().estimate([noise(4000)], 1)
    with pytest.raises(ValueError, match="no frame"):
        FrontEnd(normalize="global").estimate([torch.zeros(0)], 1)
