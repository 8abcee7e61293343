"""Where a split lies: below the data folder, at a path of its own, or on the hub."""

import os
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from speechbrain_birq.data.audio_checks import printable
from speechbrain_birq.data.corpora.tables import TABLES
from speechbrain_birq.errors import BadInput

HUB = "hf:"  # hf:owner/name, hf:owner/name/split, hf:owner/name/config/split
URL = "://"
HELD_OUT = "5%"  # of the training split, for validation, if there is nothing else


class Place(NamedTuple):
    """A part of a split."""

    folder: str  # folder or URL above it; "" for the hub
    name: str


def places(data_folder: str | Path | None, split: str) -> list[Place]:
    """Find the parts of a split, which "+" joins.

    A part that begins with ``/``, ``./``, ``../`` or ``~``, is a URL, or has the suffix
    of a table is a path; so is every part if there is no data folder. Any other is a
    name below the data folder.

    Raises
    ------
    BadInput
        If a path does not exist, or a name leaves the data folder.

    Example
    -------
    >>> places("/data", "clean+other/100h")
    [Place(folder='/data', name='clean'), Place(folder='/data', name='other/100h')]
    >>> places(None, "hf://datasets/a/b/train")  # shards; hf:a/b/train is a dataset
    [Place(folder='hf://datasets/a/b', name='train')]
    """
    whole = "+" in split and any(map(os.path.exists, _paths(data_folder, split)))
    return [_place(data_folder, p) for p in ([split] if whole else split.split("+"))]


def is_path(part: str) -> bool:
    """Return whether a part of a split is a path whatever the data folder is.

    Example
    -------
    >>> is_path("corpus.csv"), is_path("./recordings"), is_path("dev-clean")
    (True, True, False)
    """
    marks = ("/", "./", "../", "~", HUB)
    return part.startswith(marks) or URL in part or part.lower().endswith(TABLES)


def is_elsewhere(split: str) -> bool:
    """Return whether all parts of a split are paths, which no data folder holds."""
    return all(map(is_path, split.split("+")))


def manifest_path(folder: str | Path, split: str) -> Path:
    """Return the file of a split's manifest."""
    return Path(folder) / f"{split_name(split)}.csv"


def split_name(split: str) -> str:
    """Return what a split is called in folders of its own.

    Example
    -------
    >>> split_name("dev-clean"), split_name("/data/mine/corpus.csv")
    ('dev-clean', 'corpus-3053d073')
    """
    if not any(map(is_path, split.split("+"))):
        return split
    # Two paths may end alike, and a path may be longer than a name of a file.
    digest = sha256(os.fsencode(split)).hexdigest()
    return f"{Path(split).stem[:100]}-{digest[:8]}"


def held_out_share(split: str) -> float | None:
    """Return the share that "5%" stands for, None for any other split.

    Raises
    ------
    BadInput
        If the share is none.

    Example
    -------
    >>> held_out_share("5%"), held_out_share("dev")
    (0.05, None)
    """
    if not split.endswith("%"):
        return None
    try:
        share = float(split[:-1]) / 100
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise BadInput(f"the split {split!r} is no share of training: give 5% or so")
    return share


def stand_ins(settings: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """Return what replaces splits of a file that there cannot be.

    If the command line names the training split, but neither data folder nor
    validation split, ``HELD_OUT`` of it validates; without test splits none is scored.

    Arguments
    ---------
    settings : mapping
        ``data_folder``, ``valid_split`` and, in fine-tuning, ``test_splits``.
    given : collection
        Keys of the command line.

    Example
    -------
    >>> file = {"data_folder": None, "valid_split": "dev"}
    >>> stand_ins(file, {"train_split"})
    {'valid_split': '5%'}
    >>> stand_ins(file, {"train_split", "valid_split"})
    {}
    """
    found: dict[str, Any] = {}
    if settings.get("data_folder") is not None or "train_split" not in given:
        return found
    for key, other in (("valid_split", HELD_OUT), ("test_splits", [])):
        value = settings.get(key)
        splits = [value] if isinstance(value, str) else value or []
        if splits and key not in given and not any(map(os.path.exists, splits)):
            found[key] = other
    return found


def has_parquet(folder: Path) -> bool:
    """Return whether a folder holds parquet files, as a clone from the hub does."""
    patterns = ("*.parquet", "*/*.parquet")
    return any(True for pattern in patterns for _ in folder.glob(pattern))


def _paths(data_folder: str | Path | None, part: str) -> list[Path]:
    """Where a part may be, the best place first."""
    path = Path(os.path.expanduser(part))
    if data_folder is None:
        return [path]
    below = Path(data_folder, part)
    if not is_path(part):
        return [below]
    return [path, below] if part.lower().endswith(TABLES) else [path]


def _place(data_folder, part):
    if URL in part:  # hf:// too
        folder, _, name = part.rstrip("/").rpartition("/")
        return Place(folder, name)
    if part.startswith(HUB):
        return Place("", part)
    if data_folder is not None and not is_path(part):
        if not part or ".." in Path(part).parts:
            raise BadInput(
                f"the split {part!r} must name a folder below {data_folder}, or begin "
                f"with / or ./ as a path"
            )
        return Place(str(data_folder), part)
    tried = _paths(data_folder, part)
    for path in map(Path.absolute, tried):
        path = path if path.name not in ("", "..") else path.resolve()
        if part and (os.path.exists(path) or has_parquet(path.parent)):
            return Place(str(path.parent), path.name)
    if not is_path(part):
        raise BadInput(
            f"no file or folder {part!r} here: give the folder that holds it as "
            f"--data_folder, or the path of a table or folder as split"
        )
    where = " or ".join(dict.fromkeys(printable(path) for path in tried))
    raise BadInput(f"no file or folder {where}: give the split's right path")
