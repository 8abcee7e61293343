"""minispeech, variety "high": each condition does what it says."""

import json

import numpy as np
import pytest
import soundfile

from speechbrain_birq.data.corpora.minispeech.conditions import (
    SNR_DB,
    Conditions,
    draw_conditions,
    record,
    warp,
)
from speechbrain_birq.data.corpora.minispeech.corpus import (
    make_minispeech,
    plan_speakers,
)

RATE = 16000
PLAIN = dict(
    warp=1.0, reverberation=0.1, direct_db=200, snr_db=200, noise_color=0, tilt_db=0
)


def tone(frequency, seconds=1.0):
    return np.sin(2 * np.pi * frequency * np.arange(int(seconds * RATE)) / RATE)


def peak(samples):
    """Strongest frequency, Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return spectrum.argmax() * RATE / len(samples)


def recorded(samples, **changed):
    rng = np.random.default_rng(0)
    return record(samples, Conditions(**PLAIN | changed), rng, RATE)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_warp_multiplies_frequencies_and_divides_time(factor):
    warped = warp(tone(1000), factor)
    assert len(warped) == round(RATE / factor)
    assert peak(warped) == pytest.approx(1000 * factor, abs=2)
    assert warped.std() == pytest.approx(tone(1000).std(), rel=0.02)


def test_a_warp_by_1_keeps_every_frequency():
    speech = np.random.default_rng(1).standard_normal(RATE)
    assert warp(speech, 1.0) == pytest.approx(speech, abs=1e-9)


def test_without_echo_noise_and_tilt_the_recording_is_the_speech():
    speech = np.random.default_rng(1).standard_normal(RATE)
    assert recorded(speech) == pytest.approx(speech, abs=1e-6)


def test_the_direct_sound_keeps_its_time():
    click = np.zeros(RATE)
    click[4000] = 1.0
    heard = recorded(click, direct_db=3, reverberation=0.3)
    assert np.abs(heard).argmax() == 4000
    assert np.abs(heard[:4000]).max() < 1e-6 * np.abs(heard).max()


@pytest.mark.parametrize("direct_db", [0, 10])
def test_echoes_have_the_energy_and_the_decay_that_are_asked_for(direct_db):
    click = np.zeros(RATE)
    click[0] = 1.0
    heard = recorded(click, direct_db=direct_db, reverberation=0.4)
    energy = heard**2
    ratio = 10 * np.log10(energy[0] / energy[1:].sum())
    assert ratio == pytest.approx(direct_db, abs=0.1)
    first, later = energy[1:801].mean(), energy[3201:4001].mean()  # 0.2 s apart
    assert 10 * np.log10(first / later) == pytest.approx(30, abs=2)


def test_an_echo_is_a_convolution():
    speech = np.random.default_rng(2).standard_normal(50)
    rng = np.random.default_rng(0)
    heard = recorded(speech, reverberation=0.001, direct_db=0)
    length = int(0.001 * RATE)
    tail = rng.standard_normal(length)
    for i in range(length):
        tail[i] *= 10 ** (-3 * (i + 1) / length)
    response = [1.0, *(tail / np.sqrt(sum(x * x for x in tail)))]
    expected = np.zeros(50)
    for t in range(50):
        for lag in range(min(t + 1, len(response))):
            expected[t] += response[lag] * speech[t - lag]
    expected *= speech.std() / expected.std()
    assert heard == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("snr_db", SNR_DB)
def test_noise_has_the_level_that_is_asked_for(snr_db):
    speech = tone(1000)
    heard = recorded(speech, snr_db=snr_db)
    speech_power = np.abs(np.fft.rfft(heard)[1000]) ** 2
    rest = (np.abs(np.fft.rfft(heard)) ** 2).sum() - speech_power
    assert 10 * np.log10(speech_power / rest) == pytest.approx(snr_db, abs=0.3)


@pytest.mark.parametrize("color", [0.0, 1.0, 2.0])
def test_the_color_of_noise_is_the_slope_of_its_power(color):
    heard = recorded(tone(100, 20), snr_db=-60, noise_color=color)
    power = np.abs(np.fft.rfft(heard)) ** 2
    low, high = power[20 * 480 : 20 * 520].mean(), power[20 * 3900 : 20 * 4100].mean()
    assert np.log2(low / high) / 3 == pytest.approx(color, abs=0.1)


def test_the_microphone_tilts_by_decibels_an_octave():
    heard = recorded(tone(500) + tone(2000), tilt_db=3)
    spectrum = np.abs(np.fft.rfft(heard))
    difference = 20 * np.log10(spectrum[2000] / spectrum[500])
    assert difference == pytest.approx(6, abs=0.1)


def test_conditions_differ_from_utterance_to_utterance():
    rng = np.random.default_rng(0)
    drawn = [draw_conditions(rng, vocal_tract=1.1) for _ in range(50)]
    assert len(set(drawn)) == 50
    assert all(1.1 * 0.94 <= c.warp <= 1.1 * 1.06 for c in drawn)


def test_vocal_tracts_differ_and_nothing_else_of_the_cast():
    low, high = plan_speakers(0.5, 0), plan_speakers(0.5, 0, "high")
    assert {speaker.vocal_tract for speaker in low} == {None}
    assert len({speaker.vocal_tract for speaker in high}) > 10
    assert [s.voice for s in low] == [s.voice for s in high]


def test_shares_change_hours_and_number_of_speakers_of_their_split_only():
    plain, changed = plan_speakers(4, 0), plan_speakers(4, 0, shares={"train": 0.03125})
    for split in ("pretrain", "dev", "test"):
        assert _of(plain, split) == _of(changed, split)
    assert _of(plain, "train")[0] == 2 * _of(changed, "train")[0]
    assert _of(plain, "train")[1] == pytest.approx(4 * _of(changed, "train")[1])


def _of(speakers, split):
    mine = [speaker.seconds for speaker in speakers if speaker.split == split]
    return len(mine), sum(mine)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """The same sentences, clean and with variety."""
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("variety")
    for variety in ("low", "high"):
        make_minispeech(folder / variety, hours=0.01, variety=variety)
    return folder


def test_the_phones_of_the_first_utterance_only_move(corpora):
    clean, varied = (_phones(corpora / variety) for variety in ("low", "high"))
    assert [phone for _, phone in clean] == [phone for _, phone in varied]
    ratios = [a / b for (a, _), (b, _) in zip(clean[1:], varied[1:], strict=True)]
    assert max(ratios) - min(ratios) < 0.01
    assert abs(ratios[0] - 1) > 0.01


def _phones(corpus):
    path = sorted(corpus.glob("pretrain/*/*/*.phones.tsv"))[0]
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()[1:]]
    return [(float(start), phone) for name, start, _, phone in rows if "-0000" in name]


def test_intervals_end_with_the_recording(corpora):
    for path in corpora.glob("high/*/*/*/*.phones.tsv"):
        ends = {}
        for line in path.read_text("utf-8").splitlines()[1:]:
            name, _, end, _ = line.split("\t")
            ends[name] = float(end)
        for name, end in ends.items():
            assert soundfile.info(path.with_name(f"{name}.flac")).duration == end


def test_nothing_is_clipped(corpora):
    for path in corpora.glob("high/*/*/*/*.flac"):
        assert np.abs(soundfile.read(path)[0]).max() < 1.0


def test_the_same_seed_gives_the_same_bytes(corpora, tmp_path):
    make_minispeech(tmp_path / "again", hours=0.01, variety="high", num_workers=1)
    first = sorted((corpora / "high").glob("*/*/*/*.flac"))
    again = sorted((tmp_path / "again").glob("*/*/*/*.flac"))
    assert [a.read_bytes() for a in first] == [b.read_bytes() for b in again]


def test_the_summary_tells_the_variety_and_another_is_refused(corpora):
    summary = json.loads((corpora / "high/minispeech.json").read_text("utf-8"))
    assert summary["variety"] == "high"
    assert "variety" not in json.loads((corpora / "low/minispeech.json").read_text())
    with pytest.raises(ValueError, match="variety"):
        make_minispeech(corpora / "high", hours=0.01)
    with pytest.raises(ValueError, match="variety"):
        make_minispeech(corpora / "low", hours=0.01, variety="high")


@pytest.mark.parametrize(
    "wrong, named",
    [
        (dict(variety="medium"), "medium"),
        (dict(shares={"valid": 0.1}), "valid"),
        (dict(shares={"test": 0}), "test is 0"),
        (dict(shares={"test": float("nan")}), "test is nan"),
    ],
)
def test_what_cannot_be_made_is_refused(tmp_path, wrong, named):
    with pytest.raises(ValueError, match=named):
        make_minispeech(tmp_path / "corpus", hours=0.01, **wrong)
    assert not (tmp_path / "corpus").exists()
