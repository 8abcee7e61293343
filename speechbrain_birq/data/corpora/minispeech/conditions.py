"""Recording conditions: the same phones, in another throat, room, noise, microphone.

Only numpy: a speaker's process should start in a tenth of a second.
"""

from dataclasses import dataclass

import numpy as np

# Formants and pitch of a speaker, and of one utterance around these.
VOCAL_TRACT, SPEED = (0.82, 1.22), (0.94, 1.06)
REVERBERATION = (0.1, 0.6)  # seconds until an echo has lost 60 dB
DIRECT_DB = (0.0, 12.0)  # direct sound over all echoes
SNR_DB = (5.0, 20.0)
NOISE_COLOR = (0.0, 2.0)  # power falls as 1/f to this: 0 white, 1 pink, 2 brown
TILT_DB = (-4.0, 4.0)  # of the microphone, an octave
LOWEST = 60.0  # Hz: below it noise and tilt do not rise further


@dataclass(frozen=True)
class Conditions:
    """How one utterance is recorded.

    Arguments
    ---------
    warp : float
        Formants, pitch and speed are multiplied by this.
    reverberation : float
        Seconds until an echo has lost 60 dB.
    direct_db, snr_db : float
        Direct sound over echoes; speech over noise.
    noise_color : float
        Exponent of 1/f in the noise's power.
    tilt_db : float
        Slope of the microphone, dB an octave.
    """

    warp: float
    reverberation: float
    direct_db: float
    snr_db: float
    noise_color: float
    tilt_db: float


def draw_conditions(rng: np.random.Generator, vocal_tract: float) -> Conditions:
    """Draw the conditions of one utterance of a speaker."""
    spans = REVERBERATION, DIRECT_DB, SNR_DB, NOISE_COLOR, TILT_DB
    return Conditions(
        vocal_tract * rng.uniform(*SPEED), *(rng.uniform(*span) for span in spans)
    )


def warp(samples: np.ndarray, factor: float) -> np.ndarray:
    """Play faster by a factor: (S,) to (round(S / factor),), band-limited.

    Example
    -------
    >>> warp(np.sin(np.arange(1000)), 1.25).shape
    (800,)
    """
    length = max(1, round(len(samples) / factor))
    spectrum = np.fft.rfft(samples)[: length // 2 + 1]
    return np.fft.irfft(spectrum, length) * (length / len(samples))


def record(
    samples: np.ndarray,
    conditions: Conditions,
    rng: np.random.Generator,
    sample_rate: int,
) -> np.ndarray:
    """Put speech into a room with noise and hear it through a microphone.

    Time is kept: the direct sound of a sample stays where it was.

    Arguments
    ---------
    samples : np.ndarray
        (S,) clean speech, warped already.

    Returns
    -------
    np.ndarray
        (S,) of the same power as the clean speech.
    """
    level = samples.std()
    echo = _impulse_response(conditions, rng, sample_rate)
    reverberant = _filtered(samples, np.fft.rfft(echo, _size(samples, echo)))
    reverberant = reverberant[: len(samples)]
    shape = _slope(len(samples), sample_rate, -conditions.noise_color / 2)
    noise = _filtered(rng.standard_normal(len(samples)), shape)
    floor = reverberant.std() * 10 ** (-conditions.snr_db / 20)
    heard = reverberant + floor * noise / max(noise.std(), 1e-12)
    octave = 20 * np.log10(2)
    tilt = _slope(len(samples), sample_rate, conditions.tilt_db / octave)
    heard = _filtered(heard, tilt)
    return heard * (level / max(heard.std(), 1e-12))


def _impulse_response(conditions, rng, sample_rate):
    """Direct sound at sample 0, then noise that decays by 60 dB."""
    length = int(conditions.reverberation * sample_rate)
    decay = 10 ** (-3 * np.arange(1, length + 1) / length)
    tail = rng.standard_normal(length) * decay
    tail *= 10 ** (-conditions.direct_db / 20) / np.sqrt((tail**2).sum())
    return np.concatenate([[1.0], tail])


def _size(samples, response):
    """A power of two that holds the whole convolution."""
    return 1 << (len(samples) + len(response) - 1).bit_length()


def _filtered(samples, response):
    """Multiply the spectrum by a response given at (F,) frequencies."""
    size = 2 * (len(response) - 1)
    return np.fft.irfft(np.fft.rfft(samples, size) * response, size)[: len(samples)]


def _slope(length, sample_rate, exponent):
    """(F,) amplitudes that follow f to the exponent, 1 at 1 kHz."""
    size = 1 << (length - 1).bit_length()
    frequencies = np.fft.rfftfreq(size, 1 / sample_rate)
    return (np.maximum(frequencies, LOWEST) / 1000) ** exponent
