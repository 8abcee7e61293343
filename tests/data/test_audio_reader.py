"""Reading audio: any rate and number of channels, what is unreadable, the cache."""

import io
import logging

import numpy as np
import pytest
import soundfile
import torch
from small_corpus import piped

from speechbrain_birq.data.pipeline import AudioReader

RATE = 16000


def write(path, samples, rate=RATE, subtype="PCM_16"):
    soundfile.write(path, samples, rate, subtype=subtype)
    return str(path)


def wave(num_samples, rate=RATE, frequency=440):
    return 0.3 * np.sin(2 * np.pi * frequency * np.arange(num_samples) / rate)


@pytest.mark.parametrize("suffix", ["flac", "wav"])
def test_a_file_is_read_as_it_was_written(tmp_path, suffix):
    samples = wave(4000)
    signal = AudioReader(RATE)(write(tmp_path / f"a.{suffix}", samples))
    assert signal.dtype == torch.float32
    torch.testing.assert_close(
        signal, torch.from_numpy(samples).float(), rtol=0, atol=1 / 32768
    )


def test_stereo_becomes_the_mean_of_its_channels(tmp_path):
    left, right = wave(4000), wave(4000, frequency=700)
    path = write(tmp_path / "a.wav", np.stack([left, right], 1))
    expected = torch.from_numpy((left + right) / 2).float()
    torch.testing.assert_close(AudioReader(RATE)(path), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_another_rate_is_resampled(tmp_path, rate):
    path = write(tmp_path / "a.wav", wave(rate // 2, rate), rate)
    signal = AudioReader(RATE)(path)
    assert len(signal) == RATE // 2
    middle = slice(1000, -1000)
    expected = torch.from_numpy(wave(RATE // 2)).float()
    torch.testing.assert_close(signal[middle], expected[middle], rtol=0, atol=0.01)


@pytest.mark.parametrize("content", [None, b"", b"this is no audio"])
def test_an_unreadable_file_is_empty_and_named_once(tmp_path, caplog, content):
    path = tmp_path / "bad.flac"
    if content is not None:
        path.write_bytes(content)
    reader = AudioReader(RATE)
    with caplog.at_level(logging.WARNING):
        signals = [reader(str(path)) for _ in range(3)]
    assert [s.shape for s in signals] == [(0,)] * 3
    assert caplog.text.count("bad.flac: unreadable") == 1


def test_the_cache_returns_the_same_values(tmp_path):
    for name, rate, subtype in (("a", RATE, "PCM_16"), ("b", 8000, "FLOAT")):
        reader = AudioReader(RATE, cache_gb=0.01)
        path = write(tmp_path / f"{name}.wav", wave(4000, rate), rate, subtype)
        first, again = reader(path), reader(path)
        assert len(reader.cache) == 1
        assert again.dtype == first.dtype
        torch.testing.assert_close(again, first, rtol=0, atol=1 / 32768)


def test_sixteen_bit_audio_comes_from_the_cache_unchanged(tmp_path):
    path = write(tmp_path / "a.flac", wave(4000))
    reader = AudioReader(RATE, cache_gb=0.01)
    assert torch.equal(reader(path), reader(path))


def test_the_cache_does_not_read_again(tmp_path):
    path = write(tmp_path / "a.wav", wave(4000))
    reader = AudioReader(RATE, cache_gb=0.01)
    reader(path)
    (tmp_path / "a.wav").unlink()
    assert len(reader(path)) == 4000


def test_what_the_cache_returns_may_be_changed(tmp_path):
    path = write(tmp_path / "a.wav", wave(4000))
    reader = AudioReader(RATE, cache_gb=0.01)
    expected = reader(path).clone()
    reader(path).zero_()
    assert torch.equal(reader(path), expected)


def test_the_cache_keeps_to_its_budget(tmp_path):
    paths = [write(tmp_path / f"{i}.wav", wave(4000)) for i in range(5)]
    reader = AudioReader(RATE, cache_gb=20_000 / 2**30)  # 2.5 files of 8,000 bytes
    for path in paths:
        reader(path)
    assert set(reader.cache) == set(paths[:2])
    assert sum(stored.nbytes for stored in reader.cache.values()) <= 20_000


def test_without_a_budget_nothing_is_kept(tmp_path):
    reader = AudioReader(RATE)
    reader(write(tmp_path / "a.wav", wave(4000)))
    assert reader.cache == {}


@pytest.mark.faults
@pytest.mark.parametrize("shard", [False, True])
def test_a_flac_without_a_length_in_its_header_is_named(tmp_path, caplog, shard):
    path = tmp_path / "a.flac"
    write(path, wave(4000))
    piped(path)
    source = io.BytesIO(path.read_bytes()) if shard else None
    with caplog.at_level(logging.WARNING):
        assert len(AudioReader(RATE)(str(path), source)) == 0
    assert "a.flac: unreadable (length missing in the header: re-encode" in caplog.text


def test_what_could_not_be_read_is_read_once_it_is_there(tmp_path):
    reader = AudioReader(RATE, cache_gb=0.01)
    path = str(tmp_path / "a.wav")
    assert len(reader(path)) == 0
    write(path, wave(4000))
    assert len(reader(path)) == 4000
