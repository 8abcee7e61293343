"""Corpus of gliding tones in LibriSpeech's layout."""

import shutil

import numpy as np
import soundfile

WORDS = ("ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")

# split -> (speaker, number, seconds, suffix, rate, channels)
TONES = {
    "train": [
        (11, 0, 0.8, "flac", 16000, 1),
        (11, 1, 1.0, "flac", 16000, 1),
        (12, 0, 1.2, "wav", 16000, 1),
        (12, 1, 1.5, "flac", 16000, 2),
        (13, 0, 1.7, "flac", 8000, 1),
        (13, 1, 2.0, "flac", 16000, 1),
    ],
    "dev": [
        (21, 0, 0.9, "flac", 16000, 1),
        (22, 0, 1.3, "flac", 16000, 1),
        (23, 0, 1.6, "wav", 16000, 1),
    ],
    "test": [
        (31, 0, 0.8, "flac", 16000, 1),
        (32, 0, 1.1, "wav", 16000, 1),
        (33, 0, 1.9, "flac", 16000, 1),
    ],
}


def tone(seconds, rate, seed, channels=1):
    """Return gliding harmonics with some noise, (samples,) or (samples, channels)."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = rng.uniform(90, 220) * (1 + 0.2 * np.sin(2 * np.pi * 2 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    signal = sum(np.sin(n * phase) / n for n in range(1, 9))
    signal *= 0.1 * (1.2 + np.sin(2 * np.pi * rng.uniform(2, 5) * time))
    signal += 0.005 * rng.standard_normal(len(time))
    if channels == 1:
        return signal
    return np.stack([signal * (c + 1) / channels for c in range(channels)], 1)


def write_corpus(folder):
    """Write <split>/<speaker>/1/<speaker>-1-<number>.<suffix> with transcripts."""
    for split, files in TONES.items():
        for seed, (speaker, number, seconds, suffix, rate, channels) in enumerate(
            files
        ):
            chapter = folder / split / str(speaker) / "1"
            chapter.mkdir(parents=True, exist_ok=True)
            name = f"{speaker}-1-{number:04d}"
            signal = tone(seconds, rate, speaker * 10 + number, channels)
            soundfile.write(chapter / f"{name}.{suffix}", signal, rate)
            words = " ".join(WORDS[(seed + i) % len(WORDS)] for i in range(3))
            with open(
                chapter / f"{speaker}-1.trans.txt", "a", encoding="utf-8"
            ) as file:
                file.write(f"{name} {words}\n")
    return folder


def copy_split(source, target, prefix):
    """Copy a split of the corpus; its recordings get names that no other copy has."""
    shutil.copytree(source, target)
    for path in target.rglob("*.*"):
        renamed = path.rename(path.with_name(f"{prefix}{path.name}"))
        if path.suffix == ".txt":
            lines = renamed.read_text(encoding="utf-8").splitlines()
            text = "".join(f"{prefix}{line}\n" for line in lines)
            renamed.write_text(text, encoding="utf-8")


def piped(path):
    """Clear the length in a FLAC's header, as encoders do that write to a pipe.

    The length is the last 36 bits of bytes 18 to 25.
    """
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)
