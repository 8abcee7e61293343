"""Audiofolders, as Hugging Face calls them: audio and a table ``metadata`` of it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from speechbrain_birq.data.audio_checks import printable
from speechbrain_birq.data.corpora.manifests import is_below
from speechbrain_birq.data.corpora.tables import read_table
from speechbrain_birq.data.manifest import some_of
from speechbrain_birq.errors import BadInput

METADATA = ("metadata.csv", "metadata.jsonl")
COLUMN = "file_name"
# Folders that are splits, by Hugging Face's own rules.
SPLITS = """
    train training validation valid val dev test testing eval evaluation
""".split()


class Listed(NamedTuple):
    """A table of recordings."""

    table: Path
    below: Path | None = None  # if only the recordings below a folder are meant


def metadata_table(folder: Path) -> Path | None:
    """Return the table of an audiofolder: metadata with a column ``file_name``."""
    for name in METADATA:
        path = folder / name
        if path.is_file():
            with open(path, encoding="utf-8-sig", errors="replace") as file:
                if COLUMN in file.readline():
                    return path
    return None


def listed(folder: Path) -> Listed | None:
    """Find the metadata of a folder: its own, or what its parent's says of it.

    Raises
    ------
    BadInput
        If its own is of several splits, or a table cannot be read.
    """
    table = metadata_table(folder)
    if table:
        _refuse_splits(table)
        return Listed(table)
    above = metadata_table(folder.parent)
    if above and any(is_below(above.parent / name, folder) for name in _files(above)):
        return Listed(above, below=folder)
    return None


def refuse_parts(folder: Path) -> None:
    """Refuse a folder that has no metadata, but folders that have.

    A search for audio would find theirs, and no text.

    Raises
    ------
    BadInput
        Naming these folders.
    """
    places = (f"{depth}/{name}" for depth in ("*", "*/*") for name in METADATA)
    tables = (path for place in places for path in folder.glob(place))
    found = {path.parent for path in tables if metadata_table(path.parent)}
    names = sorted(os.path.relpath(part, folder) for part in found)
    names = [name for name in names if not name.startswith(".")]
    if names:
        raise BadInput(
            f"{printable(folder)} has no metadata of its own, but folders below it "
            f"have ({some_of(names)}): give {printable(folder / _first(names))} as "
            f"split (+ joins several)"
        )


def _refuse_splits(table):
    parts = {Path(name).parts[0] for name in _files(table) if len(Path(name).parts) > 1}
    splits = sorted(part for part in parts if part.lower() in SPLITS)
    if len(splits) > 1:
        raise BadInput(
            f"{printable(table)} lists the splits {', '.join(splits)}: give "
            f"{printable(table.parent / _first(splits))} as split, or the table itself "
            f"if you mean all of them"
        )


def _first(names):
    """The split that is meant for training, if there is one."""
    return next(
        (name for name in names if Path(name).name.startswith("train")), names[0]
    )


def _files(table: Path) -> Iterator[str]:
    names = (row.cells.get(COLUMN, "") for row in read_table(table))
    return (os.path.normpath(name) for name in names if name)
