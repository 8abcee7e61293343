"""espeak-ng through its C API: a text to samples and to the time of every phone.

The library and its data come with the package espeakng-loader, of the extra "demo".
espeak-ng keeps one state per process and carries it from one voice to the next: for
repeatable sound, give every voice a fresh process.
"""

import ctypes
import importlib
import itertools
import math
import os
from collections.abc import Sequence
from types import ModuleType

import numpy as np

SILENCE = "SIL"
STOPS = tuple("pbtdk\u0261\u0294")

_INT, _UINT = ctypes.c_int, ctypes.c_uint
_TEXT, _ANY = ctypes.c_char_p, ctypes.c_void_p

# From espeak-ng's speak_lib.h.
_EVENT_PHONEME = 7
_SYNCHRONOUS = 2
_OPTIONS = 0x0001 | 0x0002 | 0x8000  # phone events, in IPA, no exit on errors
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_FLAGS = 0x0001 | 0x1000  # text in UTF-8, a pause at the end


class _EventId(ctypes.Union):
    _fields_ = [("number", _INT), ("name", _TEXT), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        *[("type", _INT), ("unique_identifier", _UINT), ("text_position", _INT)],
        *[("length", _INT), ("audio_position", _INT), ("sample", _INT)],
        *[("user_data", _ANY), ("id", _EventId)],
    ]


_Samples, _Events = ctypes.POINTER(ctypes.c_short), ctypes.POINTER(_Event)
_Callback = ctypes.CFUNCTYPE(_INT, _Samples, _INT, _Events)
_SIGNATURES = {
    "espeak_Initialize": [_INT, _INT, _TEXT, _INT],
    "espeak_ng_SetRandSeed": [ctypes.c_long],
    "espeak_SetSynthCallback": [_Callback],
    "espeak_SetVoiceByName": [_TEXT],
    "espeak_SetParameter": [_INT, _INT, _INT],
    "espeak_Synth": [_TEXT, ctypes.c_size_t, _UINT, _INT, _UINT, _UINT, _ANY, _ANY],
}


def find_espeak() -> ModuleType:
    """Import the package that carries the espeak-ng library and its data.

    Returns
    -------
    loader : module
        Has ``get_library_path`` and ``get_data_path``.

    Raises
    ------
    ImportError
        If the package espeakng-loader is missing.
    """
    try:
        return importlib.import_module("espeakng_loader")
    except ImportError as error:
        raise ImportError(
            "minispeech needs the package espeakng-loader: "
            'pip install "speechbrain_birq[demo]"'
        ) from error


def _open_library():
    """Load and initialize espeak-ng; return it and its sampling rate."""
    loader = find_espeak()
    data = os.fsencode(loader.get_data_path())
    library = ctypes.CDLL(loader.get_library_path())
    for name, argtypes in _SIGNATURES.items():
        getattr(library, name).argtypes = argtypes
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _OPTIONS)
    if rate <= 0:
        raise RuntimeError(f"espeak-ng cannot read its data in {data!r}")
    return library, rate


class Espeak:
    """espeak-ng, set to one voice.

    Arguments
    ---------
    voice : str
        Name of a language and a variant, such as "en-us+f2".
    speed : int
        Words per minute.
    pitch, pitch_range : int
        From 0 to 100.
    seed : int
        Seed of the noise in the voice, 32 bits.
    sample_rate : int
        Hz of what is returned.

    Raises
    ------
    ImportError
        If the package espeakng-loader is missing.
    RuntimeError
        If espeak-ng does not know the voice.
    """

    def __init__(
        self,
        voice: str,
        speed: int = 175,
        pitch: int = 50,
        pitch_range: int = 50,
        seed: int = 0,
        sample_rate: int = 16000,
    ):
        self._library, self._native_rate = _open_library()
        self._sample_rate = sample_rate
        # espeak-ng starts its breath and flutter noise from the clock.
        self._call("espeak_ng_SetRandSeed", seed)
        # The library keeps a bare pointer to the callback: it must outlive this call.
        self._callback = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)
        self._call("espeak_SetVoiceByName", voice.encode())
        # At the full volume of 100 the loudest voices reach the limits of 16 bits.
        settings = {_VOLUME: 60, _RATE: speed, _PITCH: pitch}
        for parameter, value in {**settings, _RANGE: pitch_range}.items():
            self._call("espeak_SetParameter", parameter, value, 0)

    def _call(self, name, *arguments):
        """Calls a function of the library and raises if it reports an error."""
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name}{arguments} failed with status {status}")

    def _receive(self, samples, count, events):
        """Collect what espeak-ng hands over; 0 asks it to continue."""
        if count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        every = (events[index] for index in itertools.count())
        for event in itertools.takewhile(lambda event: event.type, every):
            if event.type == _EVENT_PHONEME:
                self._marks.append((event.sample, _phone(event.id.string)))
        return 0

    def say(self, text: str) -> tuple[np.ndarray, list[tuple[int, str]]]:
        """Speak one text.

        Returns
        -------
        samples : np.ndarray
            (S,) float64 in [-1, 1].
        marks : list of tuple
            (sample at which it starts, name) of every phone.
        """
        self._chunks: list[np.ndarray] = []
        self._marks: list[tuple[int, str]] = []
        data = text.encode()
        self._call("espeak_Synth", data, len(data) + 1, 0, 1, 0, _FLAGS, None, None)
        samples = np.concatenate(self._chunks) / 32768
        marks = _without_glides(samples, self._marks)
        marks = _with_closures(samples, marks, self._native_rate)
        ratio = self._sample_rate / self._native_rate
        marks = [(round(start * ratio), phone) for start, phone in marks]
        return _resample(samples, self._native_rate, self._sample_rate), marks


def phone_intervals(
    marks: Sequence[tuple[int, str]], total: int
) -> list[tuple[int, int, str]]:
    """Turn the starts of phones into intervals that leave no gap.

    Arguments
    ---------
    marks : list of tuple
        (start, phone), in order of time.
    total : int
        Where the last interval ends.

    Returns
    -------
    intervals : list of tuple
        (start, end, phone) from 0 to the total, neighboring silences joined.
    """
    intervals: list[tuple[int, int, str]] = []
    bounds = [(0, SILENCE), *marks, (total, SILENCE)]
    for (start, phone), (end, _) in itertools.pairwise(bounds):
        if intervals and intervals[-1][2] == phone == SILENCE:
            start = intervals.pop()[0]
        if end > start:
            intervals.append((start, end, phone))
    return intervals


def _phone(name):
    """Read espeak-ng's name of a phone, without its stress mark."""
    # The name is cut at 8 bytes, which may fall inside a character.
    text = name.decode(errors="ignore").strip("ˈˌ").replace(":", "\u02d0")
    return text or SILENCE


def _without_glides(samples, marks):
    """Drops the nameless marks that are heard: linking sounds of the phone before."""
    # Pauses lie 18 dB or more below the utterance, echo included; glides 12 at most.
    loud = samples.std() * 10 ** (-15 / 20)
    kept = []
    for (start, phone), (end, _) in itertools.pairwise([*marks, (len(samples), "")]):
        if phone != SILENCE or (end > start and samples[start:end].std() < loud):
            kept.append((start, phone))
    return kept


def _with_closures(samples, marks, rate):
    """Moves the start of each stop from its release back to its closure."""
    previous, moved = 0, []
    for start, phone in marks:
        if phone.startswith(STOPS):
            closed = _closure(samples[previous:start], hop=rate // 200)
            start -= min(closed, (start - previous) // 2)
        moved.append((start, phone))
        previous = start
    return moved


def _closure(samples, hop, most=12):
    """Counts the samples in the quiet hops at the end."""
    # espeak-ng counts up to 60 ms of a closed mouth to the phone before the stop.
    level = np.abs(samples)
    quiet = (level < 0.1 * level.max(initial=0))[::-1]
    hops = 0
    while hops < most and quiet[hops * hop : (hops + 1) * hop].all():
        hops += 1
    return hops * hop


def _resample(samples, old_rate, new_rate):
    """Band-limited change of rate in the frequency domain, aligned in time."""
    divisor = math.gcd(new_rate, old_rate)
    old, new = old_rate // divisor, new_rate // divisor
    blocks = -(-len(samples) // old)
    spectrum = np.fft.rfft(samples, blocks * old)[: blocks * new // 2 + 1]
    # A soft edge over the top 400 Hz keeps the filter from ringing.
    edge = np.clip((1 - np.linspace(0, 1, len(spectrum))) * 20, 0, 1)
    spectrum *= np.sin(edge * np.pi / 2) ** 2
    return np.fft.irfft(spectrum, blocks * new) * (new / old)
