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

import numpy as np

SILENCE = "SIL"
STOPS = tuple("pbtdk\u0261\u0294")

# From espeak-ng's speak_lib.h.
_EVENT_PHONEME = 7
_SYNCHRONOUS = 2
_PHONEME_EVENTS, _PHONEME_IPA, _DONT_EXIT = 0x0001, 0x0002, 0x8000
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_CHARS_UTF8, _END_PAUSE = 0x0001, 0x1000


class _EventId(ctypes.Union):
    _fields_ = [
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    ]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Samples = ctypes.POINTER(ctypes.c_short)
_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, _Samples, ctypes.c_int, ctypes.POINTER(_Event)
)
_SIGNATURES = {
    "espeak_Initialize": [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int],
    "espeak_ng_SetRandSeed": [ctypes.c_long],
    "espeak_SetSynthCallback": [_Callback],
    "espeak_SetVoiceByName": [ctypes.c_char_p],
    "espeak_SetParameter": [ctypes.c_int, ctypes.c_int, ctypes.c_int],
    "espeak_Synth": [
        *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
        *(ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
    ],
}


def find_espeak():
    """Imports the package that carries the espeak-ng library and its data.

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
    """Loads and initialises espeak-ng; returns it and its sampling rate."""
    loader = find_espeak()
    library = ctypes.CDLL(loader.get_library_path())
    for name, argtypes in _SIGNATURES.items():
        getattr(library, name).argtypes = argtypes
    data = os.fsencode(loader.get_data_path())
    options = _PHONEME_EVENTS | _PHONEME_IPA | _DONT_EXIT
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, options)
    if rate <= 0:
        raise RuntimeError(f"espeak-ng cannot read its data in {data!r}")
    return library, rate


class Espeak:
    """espeak-ng, set to one voice.

    Arguments
    ---------
    voice : str
        Name of a language and a variant, such as "en-us+f2".
    words_per_minute : int
    pitch, pitch_range : int
        From 0 to 100.
    seed : int
        Of the noise in the voice, 32 bits.
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
        voice,
        words_per_minute=175,
        pitch=50,
        pitch_range=50,
        seed=0,
        sample_rate=16000,
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
        settings = {_VOLUME: 60, _RATE: words_per_minute, _PITCH: pitch}
        for parameter, value in {**settings, _RANGE: pitch_range}.items():
            self._call("espeak_SetParameter", parameter, value, 0)

    def _call(self, name, *arguments):
        """Calls a function of the library and raises if it reports an error."""
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name}{arguments} failed with status {status}")

    def _receive(self, samples, count, events):
        """Collects what espeak-ng hands over; 0 asks it to go on."""
        if count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        every = (events[index] for index in itertools.count())
        for event in itertools.takewhile(lambda event: event.type, every):
            if event.type == _EVENT_PHONEME:
                self._marks.append((event.sample, _phone(event.id.string)))
        return 0

    def say(self, text):
        """Speaks one text.

        Arguments
        ---------
        text : str

        Returns
        -------
        samples : np.ndarray
            (S,) float64 in [-1, 1].
        marks : list of tuple
            (sample at which it starts, name) of every phone.
        """
        self._chunks, self._marks = [], []
        data = text.encode()
        flags = _CHARS_UTF8 | _END_PAUSE
        self._call("espeak_Synth", data, len(data) + 1, 0, 1, 0, flags, None, None)
        samples = np.concatenate(self._chunks) / 32768
        marks = _without_glides(samples, self._marks)
        marks = _with_closures(samples, marks, self._native_rate)
        ratio = self._sample_rate / self._native_rate
        marks = [(round(start * ratio), phone) for start, phone in marks]
        return _resample(samples, self._native_rate, self._sample_rate), marks


def _phone(name):
    """Reads espeak-ng's name of a phone, without its stress mark."""
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
    # espeak-ng marks a stop after the silence of up to 60 ms in which the mouth is
    # closed, which would count that silence to the phone before.
    previous, moved = 0, []
    for start, phone in marks:
        if phone.startswith(STOPS):
            closed = _closure(samples[previous:start], rate // 200)
            start -= min(closed, (start - previous) // 2)
        moved.append((start, phone))
        previous = start
    return moved


def _closure(samples, hop, most=12):
    """Counts the samples of the quiet hops at the end, at most 12 of them."""
    level = np.abs(samples)
    quiet = (level < 0.1 * level.max(initial=0))[::-1]
    hops = 0
    while hops < most and quiet[hops * hop : (hops + 1) * hop].all():
        hops += 1
    return hops * hop


def _resample(samples, old_rate, new_rate):
    """Band-limited change of rate in the frequency domain, aligned in time."""
    divisor = math.gcd(new_rate, old_rate)
    block = old_rate // divisor
    length = -(-len(samples) // block) * block
    target = length // block * (new_rate // divisor)
    spectrum = np.fft.rfft(samples, length)[: target // 2 + 1]
    # A soft edge over the top 400 Hz keeps the filter from ringing.
    edge = np.clip((1 - np.linspace(0, 1, len(spectrum))) * 20, 0, 1)
    return np.fft.irfft(spectrum * np.sin(edge * np.pi / 2) ** 2, target) * (
        target / length
    )
