"""Formats of audio: which files of a folder are recordings."""

import logging
from collections.abc import Iterable
from pathlib import Path

from speechbrain_birq.data.audio_checks import printable

logger = logging.getLogger(__name__)

# What libsndfile reads. Those without loss come first, because the first is taken if a
# recording lies in several formats.
AUDIO_SUFFIXES = (".flac", ".wav", ".aiff", ".aif", ".au", ".opus", ".ogg", ".mp3")
# What it does not read, so that a folder's other files are no surprise.
OTHER_SUFFIXES = (".m4a", ".aac", ".mp4", ".wma", ".webm", ".mka", ".amr", ".ac3")


def recordings(folder: str | Path, files: Iterable[Path]) -> list[Path]:
    """Choose what libsndfile may read; count in the log what is audio, but never read.

    Arguments
    ---------
    folder : str or Path
        For the message.
    files : iterable of Path
        Its files.

    Example
    -------
    >>> [path.name for path in recordings("a", [Path("a/x.MP3"), Path("a/x.txt")])]
    ['x.MP3']
    """
    found, others = [], []
    for path in files:
        if path.suffix.lower() in AUDIO_SUFFIXES:
            found.append(path)
        elif path.suffix.lower() in OTHER_SUFFIXES:
            others.append(path)
    if others:
        logger.warning(
            "%s: skipped %d files in formats that libsndfile does not read, for "
            "example %s: convert them to flac",
            *(printable(folder), len(others), printable(others[0])),
        )
    return found
