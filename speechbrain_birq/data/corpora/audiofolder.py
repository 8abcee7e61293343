"""Audiofolders, as Hugging Face calls them: audio and a table ``metadata`` of it."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from speechbrain_birq.data.audio_checks import printable
from speechbrain_birq.data.corpora.manifests import within
from speechbrain_birq.data.corpora.tables import Row, read_table
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
    rows: Sequence[Row] | None = None  # of the table, if it has been read


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
        rows = read_table(table)
        _refuse_splits(table, rows)
        return Listed(table, rows=rows)
    above = metadata_table(folder.parent)
    if above:
        rows, is_below = read_table(above), within(folder)
        names = (os.path.join(above.parent, name) for name in _files(rows))
        if any(map(is_below, names)):
            return Listed(above, below=folder, rows=rows)
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


def _refuse_splits(table, rows):
    parts = {name.partition("/")[0] for name in _files(rows) if "/" in name[1:]}
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


def _files(rows: Sequence[Row]) -> Iterator[str]:
    names = (row.cells.get(COLUMN, "") for row in rows)
    return (os.path.normpath(name) for name in names if name)
