"""Shards of a corpus in any form that a training reads: tables, folders, datasets."""

import logging
import os
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from speechbrain_birq.checkpoints.files import check_free_space
from speechbrain_birq.checkpoints.run_lock import locked
from speechbrain_birq.data.corpora import forms
from speechbrain_birq.data.corpora.audiofolder import metadata_table
from speechbrain_birq.data.corpora.hugging_face import is_dataset
from speechbrain_birq.data.corpora.librispeech import find_utterances
from speechbrain_birq.data.corpora.tables import TABLES
from speechbrain_birq.data.files_below import files_below
from speechbrain_birq.data.formats import AUDIO_SUFFIXES
from speechbrain_birq.data.manifest import Utterance, some_of
from speechbrain_birq.data.pipeline import AudioReader
from speechbrain_birq.data.shards.writer import (
    Recording,
    ShardSummary,
    find_lhotse,
    write_shards,
    written_names,
)
from speechbrain_birq.data.split_places import HUB, has_parquet, is_path
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)

SAMPLE_RATE = 16000
BYTES_PER_SECOND = 20_000  # of FLAC at 16 kHz; LibriSpeech takes 17,500


def shard_corpus(
    source: str | Path,
    folder: str | Path,
    *,
    splits: Sequence[str] | None = None,
    data_folder: str | Path | None = None,
    shard_hours: float = 1.0,
) -> dict[str, ShardSummary]:
    """Make ``<folder>/<split>`` of every split, at 16 kHz.

    Utterances are shuffled (always in the same way), so that every shard is a sample of
    the corpus. Called again after a kill, it resumes. Files that cannot be read are
    named in the log, counted and left out.

    Arguments
    ---------
    source : str or Path
        A table, a Hugging Face dataset, or the folder above the splits.
    folder : str or Path
        Where the shards go.
    splits : sequence of str, optional
        Splits of the folder, in any form; default: all folders in it that hold audio.
    data_folder : str or Path, optional
        Where files of a table are that are not below the table's folder.
    shard_hours : float
        Hours of audio in a shard.

    Returns
    -------
    dict
        split -> ``ShardSummary``

    Raises
    ------
    BadInput
        If there is no such source or split, two splits have one name, lhotse is
        missing, the disk is too small, or another process writes the same split.
    """
    find_lhotse()
    summaries = {}
    for split, rows in _rows(str(source), splits, data_folder).items():
        with locked(Path(folder) / split):
            summaries[split] = _shard_split(
                split, rows, Path(folder) / split, shard_hours
            )
    return summaries


def _rows(
    source: str, splits: Sequence[str] | None, data_folder: str | Path | None
) -> dict[str, list[Utterance]]:
    """name of a split -> utterances"""
    alone = os.path.isfile(source) or source.startswith(HUB)
    if alone and splits:
        raise BadInput(f"{source} is one split: leave out --split")
    if not splits and (alone or _is_dataset(Path(source))):
        # A path, whatever the data folder is.
        path = source if source.startswith(HUB) else os.path.abspath(source)
        return {_name(path): forms.utterances(data_folder, path, find_utterances)}
    if not os.path.isdir(source):
        raise BadInput(
            f"{source} does not exist: give a table (CSV, TSV, JSONL), a dataset, or "
            f"the folder above the splits"
        )
    if data_folder is not None:
        raise BadInput(
            f"--data_folder is for the files of a table, and {source} is none: leave "
            f"it out"
        )
    return _rows_below(source, list(splits or _folders(Path(source))))


def _rows_below(source: str, named: list[str]) -> dict[str, list[Utterance]]:
    names = [_name(split) for split in named]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise BadInput(f"two splits are called {twice[0]!r}: give them one by one")
    return {
        name: forms.utterances(source, split, find_utterances)
        for name, split in zip(names, named, strict=True)
    }


def _is_dataset(source: Path) -> bool:
    """Whether it is an audiofolder, a Hugging Face dataset or a split of one."""
    if not source.is_dir():
        return has_parquet(source.parent)
    return metadata_table(source) is not None or is_dataset(source)


def _name(split: str) -> str:
    """What a split is called below ``--data_folder`` of a training from shards."""
    name = Path(split).name if is_path(split) else split
    return Path(name).stem if name.lower().endswith(TABLES) else name


def _folders(source: Path) -> list[str]:
    """Folders of the source that hold audio, or a dataset; the others are logged."""
    folders = sorted(path for path in source.iterdir() if path.is_dir())
    folders = [path for path in folders if not path.name.startswith(".")]
    found = [
        path.name
        for path in folders
        if files_below(path, AUDIO_SUFFIXES) or _is_dataset(path)
    ]
    others = [path.name for path in folders if path.name not in found]
    if not found:
        raise BadInput(
            f"{source} holds no folder of audio: give the folder above the splits, or "
            f"a table of recordings"
        )
    if others:
        logger.warning(
            "%s: no audio (%s) in %s: no splits",
            *(source, ", ".join(AUDIO_SUFFIXES), some_of(others)),
        )
    return found


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
