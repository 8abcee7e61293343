"""Manifests of splits in any form: tables, Hugging Face datasets, a corpus's layout."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from speechbrain_birq.data.audio_checks import printable
from speechbrain_birq.data.corpora.audiofolder import Listed, listed, refuse_parts
from speechbrain_birq.data.corpora.hugging_face import is_dataset, unpacked
from speechbrain_birq.data.corpora.manifests import table_utterances
from speechbrain_birq.data.corpora.tables import TABLES
from speechbrain_birq.data.manifest import Utterance, write_manifest
from speechbrain_birq.data.split_places import (
    HUB,
    Place,
    has_parquet,
    manifest_path,
    places,
)
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)

Find = Callable[[Path, str], list[Utterance]]


def write_manifests(
    data_folder: str | Path | None,
    splits: list[str],
    manifest_folder: str | Path,
    *,
    find: Find,
) -> dict[str, Path]:
    """Write one manifest for each split.

    Arguments
    ---------
    data_folder : str or Path, optional
        Holds the splits that are not paths.
    splits : list
        Names or paths (see ``places``), "+" joins several.
    manifest_folder : str or Path
        Where the CSV files go.
    find : callable
        (data_folder, part) -> utterances of a folder in the corpus's layout.

    Returns
    -------
    dict
        split -> manifest

    Raises
    ------
    BadInput
        If a part is missing or cannot be read, or two parts have one id for different
        recordings.
    """
    return {
        split: write_manifest(
            manifest_path(manifest_folder, split), utterances(data_folder, split, find)
        )
        for split in splits
    }


def table_of(place: Place) -> Listed | None:
    """Return the table of a part of a split; None if it is a folder of audio.

    Raises
    ------
    BadInput
        If it is another kind of file, or a dataset that cannot be read, or whose split
        is not clear.
    """
    if place.name.startswith(HUB):
        return Listed(unpacked(place.name))
    path = Path(place.folder, place.name)
    if path.is_dir():
        return _table_of_folder(path)
    if path.suffix.lower() in TABLES:
        return Listed(path)
    if os.path.exists(path):
        raise BadInput(
            f"{printable(path)} is neither a folder nor a table: tables end in "
            f"{', '.join(TABLES)}"
        )
    if has_parquet(path.parent):
        return Listed(unpacked(path.parent, path.name))
    return None


def _table_of_folder(path):
    found = listed(path)
    if found is None and is_dataset(path):
        return Listed(unpacked(path))
    if found is None:
        refuse_parts(path)
    return found


def utterances(
    data_folder: str | Path | None, split: str, find: Find
) -> list[Utterance]:
    """Join the utterances of a split's parts; a recording of two parts once.

    Arguments and errors are those of ``write_manifests``.
    """
    found: dict[str, tuple[Utterance, str]] = {}
    for place in places(data_folder, split):
        table = table_of(place)
        if table is None:
            part = find(Path(place.folder), place.name)
        else:
            part = table_utterances(table.table, data_folder, below=table.below)
        for utterance in part:
            first, name = found.setdefault(utterance.ID, (utterance, place.name))
            if first.wav != utterance.wav:
                raise BadInput(
                    f"the split {split!r} joins two recordings of one id, "
                    f"{printable(utterance.ID)}: {printable(first.wav)} of {name} and "
                    f"{printable(utterance.wav)} of {place.name}: rename one, or list "
                    f"them in a table with a column id"
                )
            if first is not utterance:
                log_same_name(utterance.wav, first.wav)
    return [utterance for utterance, _ in found.values()]


def log_same_name(path: str | Path, first: str | Path) -> None:
    """Log that a file is not used because another has its name."""
    logger.warning(
        "skipped %s: %s has the same name", printable(path), printable(first)
    )
