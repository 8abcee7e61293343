"""Manifests of splits in any form: tables, Hugging Face datasets, a corpus's layout."""

import logging
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from speechbrain_birq.data.audio_checks import printable
from speechbrain_birq.data.corpora.audiofolder import Listed, listed, refuse_parts
from speechbrain_birq.data.corpora.hugging_face import is_dataset, unpacked
from speechbrain_birq.data.corpora.manifests import table_utterances
from speechbrain_birq.data.corpora.tables import TABLES
from speechbrain_birq.data.manifest import Utterance, some_of, write_manifest
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
        If a part is missing or cannot be read, or two parts have one id, which a table
        gives, for different recordings.
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

    Recordings of two parts whose names are equal are called by their parts
    (``train/001``), unless the names are ids of a table.

    Arguments and errors are those of ``write_manifests``.
    """
    parts = places(data_folder, split)
    found: dict[tuple[str, str], _Found] = {}
    for place, tail in zip(parts, _tails(parts), strict=True):
        table = table_of(place)
        if table is None:
            part = find(Path(place.folder), place.name)
        else:
            part = table_utterances(
                table.table, data_folder, below=table.below, rows=table.rows
            )
        for utterance in part:
            key = (utterance.ID, utterance.wav)
            first = found.setdefault(key, _Found(utterance, tail)).utterance
            if first is not utterance:
                log_same_name(utterance.wav, first.wav)
    return _told_apart(split, list(found.values()))


class _Found(NamedTuple):
    utterance: Utterance
    part: str  # what its part of the split is called in names


def _tails(parts: list[Place]) -> list[str]:
    """The shortest ends of the parts' paths that differ."""
    paths = [Path(place.folder, place.name) for place in parts]
    for count in range(1, max(len(path.parts) for path in paths)):
        tails = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(tails)) == len(set(paths)):
            return tails
    return [str(path) for path in paths]


def _told_apart(split: str, found: list[_Found]) -> list[Utterance]:
    """Call recordings of one name by their parts; ids of tables are refused."""
    count = Counter(one.utterance.ID for one in found)
    several = {name for name, number in count.items() if number > 1}
    if not several:
        return [one.utterance for one in found]
    first: dict[str, _Found] = {}
    given = {one.utterance.ID for one in found if not _is_from_path(one.utterance)}
    named = [_named(o) if o.utterance.ID in several - given else o for o in found]
    for one in named:
        other = first.setdefault(one.utterance.ID, one)
        if other is not one:
            raise BadInput(
                f"the split {split!r} joins two recordings of one id, "
                f"{printable(one.utterance.ID)}: {printable(other.utterance.wav)} of "
                f"{other.part} and {printable(one.utterance.wav)} of {one.part}: "
                f"rename one, or list them in a table with a column id"
            )
    logger.info(
        "%s: %d names are those of several recordings, which are called by their "
        "parts: %s",
        *(split, len(several), some_of(sorted(several))),
    )
    return [one.utterance for one in named]


def _is_from_path(utterance):
    """Whether the id is the end of the path, so that no table has given it."""
    return f"/{os.path.splitext(utterance.wav)[0]}".endswith(f"/{utterance.ID}")


def _named(one):
    """The recording with its part in its id.

    So is a speaker that the name begins with: in two corpora it is two.
    """
    utterance, part = one
    own = utterance.speaker and utterance.ID.startswith(utterance.speaker)
    utterance = utterance._replace(
        ID=f"{part}/{utterance.ID}",
        speaker=f"{part}/{utterance.speaker}" if own else utterance.speaker,
    )
    return one._replace(utterance=utterance)


def log_same_name(path: str | Path, first: str | Path) -> None:
    """Log that a file is not used because another has its name."""
    logger.warning(
        "skipped %s: %s has the same name", printable(path), printable(first)
    )
