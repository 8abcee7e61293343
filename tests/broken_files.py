"""Recordings with a fault, for the tests in ``robustness``."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

RATE = 16000
SPEECH = 0.3 * np.sin(np.arange(RATE) / 9)  # 1 s
FLAC_RATE, FLAC_TOTAL = slice(18, 21), slice(21, 26)  # bytes of the STREAMINFO block


class Fault(NamedTuple):
    """Kind of fault in a recording, and what the log says about it."""

    make: object  # function: path without suffix -> path of the file
    told: str | None  # regular expression of its log line, after the name


def audio(samples=SPEECH, suffix=".wav", rate=RATE, subtype=None, **options):
    """Return a maker of a file with these samples."""

    def make(stem):
        path = stem.with_name(stem.name + suffix)
        soundfile.write(path, samples, rate, subtype=subtype, **options)
        return path

    return make


def raw(data, suffix=".flac"):
    """Return a maker of a file with these bytes."""

    def make(stem):
        path = stem.with_name(stem.name + suffix)
        path.write_bytes(data)
        return path

    return make


def damaged(make, change):
    """Return a maker of a valid file whose bytes are then changed."""

    def made(stem):
        path = make(stem)
        path.write_bytes(change(bytearray(path.read_bytes())))
        return path

    return made


def with_sample(value, subtype):
    """Return a maker of a WAV file in which one sample has this value."""
    samples = SPEECH.copy()
    samples[5] = value
    return audio(samples, subtype=subtype)


def set_bytes(where, value):
    """Return a function that overwrites bytes at one place."""

    def change(data):
        data[where] = value
        return data

    return change


def noise_inside(data):
    """Overwrite the middle of the data with noise."""
    middle = slice(len(data) // 2, len(data) // 2 + 200)
    data[middle] = np.random.default_rng(0).bytes(200)
    return data


def half(data):
    """Return the first half of the data."""
    return data[: len(data) // 2]


def hour(stem):
    """Make a sparse file of 3600 s of silence."""
    path = audio()(stem)
    size = 3600 * RATE * 2
    data = bytearray(path.read_bytes()[:44])
    data[4:8], data[40:44] = ((n).to_bytes(4, "little") for n in (size + 36, size))
    path.write_bytes(data)
    os.truncate(path, size + 44)
    return path


def link(target):
    """Return a maker of a symbolic link; {name} in the target is its own name."""

    def make(stem):
        path = stem.with_name(stem.name + ".flac")
        path.symlink_to(target.format(name=path.name))
        return path

    return make


def folder(stem):
    """Make a folder with the name of a recording."""
    path = stem.with_name(stem.name + ".flac")
    path.mkdir()
    return path


def fifo(stem):
    """Make a named pipe: opening it would block forever."""
    path = stem.with_name(stem.name + ".flac")
    os.mkfifo(path)
    return path


def latin_1(stem):
    """Make a file whose name is not UTF-8."""
    path = Path(os.fsdecode(os.fsencode(stem) + b"-caf\xe9.flac"))
    audio(suffix=".flac")(stem).rename(path)
    return path


def twin(stem):
    """Make two files with one name; return the second. The first is valid."""
    audio(suffix=".flac")(stem)
    return audio(suffix=".wav")(stem)


FLAC, WAV = audio(suffix=".flac"), audio()
OGG = audio(suffix=".ogg", format="OGG", subtype="VORBIS")
OPUS = audio(suffix=".opus", format="OGG", subtype="OPUS")
UNREADABLE = r": unreadable \(.*\)"

# Skipped before training, and logged.
REFUSED = {
    "empty": Fault(raw(b""), ": empty file"),
    "text": Fault(raw(b"this is no audio\n" * 100), UNREADABLE),
    "picture": Fault(raw(b"\x89PNG\r\n\x1a\n" + bytes(5000), ".wav"), UNREADABLE),
    "MP3 named FLAC": Fault(raw(b"ID3\x04" + bytes(5000)), UNREADABLE),
    "gzip": Fault(raw(b"\x1f\x8b" + bytes(300), ".ogg"), UNREADABLE),
    "pipe": Fault(fifo, ": empty file"),
    "folder": Fault(folder, ": a folder"),
    "broken link": Fault(link("nowhere"), ": .*No such file"),
    "link to itself": Fault(link("{name}"), ": .*symbolic links"),
    "header only": Fault(damaged(WAV, lambda data: data[:44]), ": no samples"),
    "half a header": Fault(damaged(WAV, lambda data: data[:30]), UNREADABLE),
    "half an Ogg": Fault(damaged(OGG, half), UNREADABLE),
    "half an Opus": Fault(damaged(OPUS, half), UNREADABLE),
    "0 Hz": Fault(damaged(FLAC, set_bytes(FLAC_RATE, b"\0\0\0")), UNREADABLE),
    "1 Hz": Fault(
        damaged(WAV, set_bytes(slice(24, 28), b"\1\0\0\0")), ": its header says 1 Hz"
    ),
    "2 GHz": Fault(
        damaged(WAV, set_bytes(slice(24, 28), b"\xff\xff\xff\x7f")),
        ": its header says 2147483647 Hz",
    ),
    "60,000 channels": Fault(
        damaged(WAV, set_bytes(slice(22, 24), b"\x60\xea")), UNREADABLE
    ),
    "1,193 hours": Fault(
        damaged(FLAC, set_bytes(FLAC_TOTAL, b"\xff\xff\xff\xff\xff")),
        ": its header promises 1193 hours",
    ),
    "unknown length": Fault(
        damaged(FLAC, set_bytes(FLAC_TOTAL, b"\xf0\0\0\0\0")), ": length missing"
    ),
    "Latin-1 name": Fault(latin_1, UNREADABLE),
    "same name": Fault(twin, ": .* has the same name"),
}
# Skipped when read: the header is valid, the rest is not.
UNUSABLE = {
    "cut after the header": Fault(damaged(FLAC, lambda data: data[:100]), UNREADABLE),
    "half a FLAC": Fault(damaged(FLAC, half), UNREADABLE),
    "noise inside": Fault(damaged(FLAC, noise_inside), UNREADABLE),
    "not a number": Fault(with_sample(np.nan, "FLOAT"), r": .*1 of its samples are"),
    "infinite": Fault(with_sample(np.inf, "DOUBLE"), r": .*1 of its samples are"),
    "beyond float32": Fault(with_sample(1e308, "DOUBLE"), r": .*1 of its samples are"),
    "15,991 Hz": Fault(audio(rate=15991), ": .*15991 Hz cannot be resampled"),
}
# Skipped because of their length, and logged together.
LEFT_OUT = {
    "one sample": Fault(audio(SPEECH[:1]), None),
    "a tenth of a second": Fault(audio(SPEECH[:1600]), None),
    "one hour": Fault(hour, None),
}
# Used, and logged.
ODD = {
    "silent": Fault(audio(0 * SPEECH), " is silent but used"),
    "DC only": Fault(audio(0 * SPEECH + 0.25), " is constant but used"),
    "clipped": Fault(audio(np.clip(9 * SPEECH, -1, 1)), r" is clipped \(\d+% of it\)"),
    "16-bit numbers as floats": Fault(
        audio(20000 * SPEECH, subtype="FLOAT"), r" is clipped \(\d+% of it\)"
    ),
    "6 channels": Fault(audio(np.stack([SPEECH] * 6, 1)), ": 6 channels, averaged"),
    "22.05 kHz": Fault(audio(rate=22050), ": 22050 Hz, resampled"),
    "44.1 kHz": Fault(audio(np.tile(SPEECH, 3), rate=44100), ": 44100 Hz, resampled"),
    "96 kHz": Fault(audio(np.tile(SPEECH, 6), rate=96000), ": 96000 Hz, resampled"),
}
# Used, and not logged.
GOOD = {
    "8 bits": Fault(audio(subtype="PCM_U8"), None),
    "24 bits": Fault(audio(suffix=".flac", subtype="PCM_24"), None),
    "64 bits": Fault(audio(subtype="DOUBLE"), None),
    "mu-law": Fault(audio(subtype="ULAW"), None),
    "ADPCM": Fault(audio(subtype="IMA_ADPCM"), None),
    "header promises 2 GB": Fault(
        damaged(WAV, set_bytes(slice(40, 44), b"\xff\xff\xff\x7f")), None
    ),
    "half a WAV": Fault(damaged(audio(np.tile(SPEECH, 2)), half), None),  # 1 s is there
    "upper-case suffix": Fault(audio(suffix=".FLAC", format="FLAC"), None),
    "blanks and quotes": Fault(audio(suffix=', "it\'s" 100%.wav'), None),
    "two lines": Fault(audio(suffix="\ntwo.wav"), None),
    "unicode": Fault(audio(suffix="-ü話🎤.wav"), None),
}
# Neither used nor logged.
IGNORED = {
    "hidden": Fault(lambda stem: WAV(stem.with_name(f".{stem.name}")), None),
}
