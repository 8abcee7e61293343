"""Shards of a manifest, or of a folder in LibriSpeech's layout."""

import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from speechbrain_birq.checkpoints.files import check_free_space
from speechbrain_birq.checkpoints.run_lock import locked
from speechbrain_birq.data.corpora.librispeech import find_utterances
from speechbrain_birq.data.manifest import Utterance, read_manifest
from speechbrain_birq.data.pipeline import AudioReader
from speechbrain_birq.data.shards.writer import (
    Recording,
    ShardSummary,
    find_lhotse,
    write_shards,
    written_names,
)
from speechbrain_birq.errors import BadInput

SAMPLE_RATE = 16000
BYTES_PER_SECOND = 20_000  # of FLAC at 16 kHz; LibriSpeech takes 17,500


def shard_corpus(
    source: str | Path,
    folder: str | Path,
    *,
    splits: Sequence[str] | None = None,
    shard_hours: float = 1.0,
) -> dict[str, ShardSummary]:
    """Make ``<folder>/<split>`` of every split, at 16 kHz.

    Utterances are shuffled (always in the same way), so that every shard is a sample of
    the corpus. Called again after a kill, it resumes. Files that cannot be read are
    named in the log, counted and left out.

    Arguments
    ---------
    source : str or Path
        A manifest (CSV) or the folder above the splits.
    folder : str or Path
        Where the shards go.
    splits : sequence of str, optional
        Folders below the source; default: all that are in it.
    shard_hours : float
        Hours of audio in a shard.

    Returns
    -------
    dict
        split -> ``ShardSummary``

    Raises
    ------
    BadInput
        If there is no such source or split, lhotse is missing, the disk is too small,
        or another process writes the same split.
    """
    find_lhotse()
    summaries = {}
    for split, rows in _rows(Path(source), splits).items():
        with locked(Path(folder) / split):
            summaries[split] = _shard_split(
                split, rows, Path(folder) / split, shard_hours
            )
    return summaries


def _rows(source: Path, splits: Sequence[str] | None) -> dict[str, list[Utterance]]:
    """split -> utterances"""
    if source.is_file():
        if splits:
            raise BadInput(f"{source} is one split: leave out --split")
        return {source.stem: read_manifest(source)}
    if not source.is_dir():
        raise BadInput(f"{source} does not exist: give a manifest (CSV) or a folder")
    folders = [path.name for path in source.iterdir() if path.is_dir()]
    splits = splits or sorted(name for name in folders if not name.startswith("."))
    if not splits:
        raise BadInput(f"{source} holds no folder: give the folder above the splits")
    return {split: find_utterances(source, split) for split in splits}


def _shard_split(
    split: str, rows: list[Utterance], folder: Path, shard_hours: float
) -> ShardSummary:
    random.Random(0).shuffle(rows)
    names = written_names(folder, SAMPLE_RATE)
    rows = [row for row in rows if row.ID not in names]
    seconds = sum(row.duration for row in rows)
    size = seconds * BYTES_PER_SECOND
    print(f"{folder}: about {size / 1e9:.2f} GB to write", file=sys.stderr)
    check_free_space(folder, size)
    reader = AudioReader(SAMPLE_RATE)
    summary = write_shards(
        _recordings(rows, reader, split), folder, shard_hours=shard_hours
    )
    return summary._replace(skipped=summary.skipped + len(reader.unreadable))


def _recordings(
    rows: list[Utterance], reader: AudioReader, split: str
) -> Iterator[Recording]:
    for row in tqdm(rows, desc=split, unit=" utterances"):
        signal = reader(row.wav)
        if len(signal):
            yield row, signal
