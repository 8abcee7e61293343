"""Manifests: SpeechBrain CSV files that list the utterances of a split."""

import csv
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from speechbrain.dataio import audio_io

from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)

AUDIO_SUFFIXES = (".flac", ".wav", ".opus", ".ogg")
FIELDS = ("ID", "duration", "wav", "speaker", "text")


class Utterance(NamedTuple):
    """One row of a manifest."""

    ID: str
    duration: float  # seconds
    wav: str
    speaker: str
    text: str  # "" where there is no transcript


def measure(path: Path) -> float:
    """Seconds of audio that the file's header promises.

    Raises
    ------
    ValueError
        If the file is empty or no audio.
    """
    if path.stat().st_size == 0:
        raise ValueError("empty file")
    try:
        duration = audio_io.info(str(path)).duration
    except Exception as error:  # soundfile raises many kinds
        raise ValueError(f"unreadable ({error})") from None
    if duration <= 0:
        raise ValueError("no samples")
    return duration


def measure_all(paths, num_threads=8):
    """Durations of readable files; the others are named in the log and left out.

    Arguments
    ---------
    paths : list
        Of ``pathlib.Path``.
    num_threads : int
        Headers read at once.

    Returns
    -------
    dict
        path -> seconds
    """
    durations, bad = {}, []
    with ThreadPoolExecutor(num_threads) as pool:
        for path, result in zip(paths, pool.map(_measured, paths), strict=True):
            if isinstance(result, ValueError):
                bad.append(path)
                logger.warning("skipped %s: %s", path, result)
            else:
                durations[path] = result
    if bad:
        logger.warning("skipped %d of %d audio files", len(bad), len(paths))
    return durations


def _measured(path):
    try:
        return measure(path)
    except (ValueError, OSError) as error:
        return ValueError(str(error))


def write_manifest(path: Path, utterances) -> Path:
    """Write utterances as CSV, whole or not at all.

    Returns
    -------
    pathlib.Path
        The manifest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(FIELDS)
        writer.writerows(utterances)
    partial.replace(path)
    return path


def read_manifest(path) -> list[Utterance]:
    """Read a manifest.

    Raises
    ------
    BadInput
        If a column is missing or a duration is no number.
    """
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = set(FIELDS) - set(reader.fieldnames or ())
        if missing:
            raise BadInput(
                f"{path} lacks the columns {', '.join(sorted(missing))}: it must have "
                f"{','.join(FIELDS)}"
            )
        return [_utterance(row, path, number) for number, row in enumerate(reader, 2)]


def report_left_out(where, left, total, *, min_seconds, max_seconds, needs_text):
    """Tell in the log how many utterances a training takes no account of.

    Raises
    ------
    BadInput
        If nothing is left.
    """
    if left < total:
        logger.warning(
            "%s: left out %d of %d utterances (shorter than %g s, longer than %g s%s)",
            where,
            total - left,
            total,
            min_seconds,
            max_seconds,
            " or without transcript" if needs_text else "",
        )
    if not left:
        raise BadInput(
            f"no utterance of {where} is left: all {total} are shorter than "
            f"{min_seconds:g} s, longer than {max_seconds:g} s"
            f"{' or without transcript' if needs_text else ''}; change min_seconds and "
            f"max_seconds"
        )


def _utterance(row, path, line):
    try:
        return Utterance(
            row["ID"], float(row["duration"]), row["wav"], row["speaker"], row["text"]
        )
    except (TypeError, ValueError):
        raise BadInput(
            f"{path} line {line}: duration {row['duration']!r} is no number of seconds"
        ) from None
