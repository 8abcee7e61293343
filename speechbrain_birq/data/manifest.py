"""Manifests: SpeechBrain CSV files that list the utterances of a split."""

import csv
import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from speechbrain_birq.checkpoints.files import replacing
from speechbrain_birq.data.audio_checks import printable
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)

FIELDS = ("ID", "duration", "wav", "speaker", "text")
# csv refuses texts of more than 131,072 letters otherwise.
csv.field_size_limit(2**31 - 1)


class Utterance(NamedTuple):
    """One row of a manifest."""

    ID: str
    duration: float  # seconds
    wav: str
    speaker: str
    text: str  # "" where there is no transcript


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> Path:
    """Write utterances as CSV, atomically; return the path.

    Example
    -------
    >>> from tempfile import TemporaryDirectory
    >>> rows = [Utterance("a-1", 1.5, "/data/a-1.flac", "a", "ONE, TWO")]
    >>> with TemporaryDirectory() as folder:
    ...     path = write_manifest(Path(folder, "dev.csv"), rows)
    ...     read_manifest(path) == rows
    True
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(path) as partial,
        open(partial, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(FIELDS)
        writer.writerows(utterances)
    return path


def read_manifest(path: str | Path) -> list[Utterance]:
    """Read a manifest.

    Raises
    ------
    BadInput
        If it cannot be read, a column is missing, a row has another number of cells or
        a duration is no number of seconds.

    Example
    -------
    >>> from tempfile import TemporaryDirectory
    >>> text = "ID,duration,wav,speaker,text\\na-1,1.5,/data/a-1.flac,a,ONE TWO\\n"
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "dev.csv").write_text(text)
    ...     read_manifest(Path(folder, "dev.csv"))[0].text
    'ONE TWO'
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            names = next(reader, [])
            _check_columns(path, names)
            return [
                _utterance(path, reader.line_num, names, row) for row in reader if row
            ]
    except OSError as error:
        raise BadInput(f"cannot read the manifest {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} is no CSV of UTF-8 text: {error}") from error


def _check_columns(path, names):
    missing = set(FIELDS) - set(names)
    if missing:
        raise BadInput(
            f"{path} lacks the columns {', '.join(sorted(missing))}: it must have "
            f"{','.join(FIELDS)}"
        )


def report_left_out(
    where: object,
    left: int,
    total: int,
    *,
    min_seconds: float,
    max_seconds: float,
    needs_text: bool,
    names: Sequence[str] = (),
) -> None:
    """Log how many utterances are not used, and the first of their names.

    Arguments
    ---------
    where : object
        Manifest or shards, for the message.
    left, total : int
        Utterances that are used, and all.
    min_seconds, max_seconds : float
        Limits on their lengths.
    needs_text : bool
        Whether those without a transcript are left out.
    names : sequence of str
        Utterances that are left out, if they are known.

    Raises
    ------
    BadInput
        If nothing is left.
    """
    if left < total:
        logger.warning(
            "%s: left out %d of %d utterances (shorter than %g s, longer than %g s"
            "%s)%s",
            where,
            total - left,
            total,
            min_seconds,
            max_seconds,
            " or without transcript" if needs_text else "",
            f": {some_of(names)}" if names else "",
        )
    if not left:
        raise BadInput(
            f"no utterance of {where} is left: all {total} are shorter than "
            f"{min_seconds:g} s, longer than {max_seconds:g} s"
            f"{' or without transcript' if needs_text else ''}; change min_seconds and "
            f"max_seconds"
        )


def some_of(names: Sequence[str], most: int = 5) -> str:
    """Join the first few of some names, for a message.

    Example
    -------
    >>> some_of(["a", "b", "c"], most=2)
    'a, b ...'
    """
    shown = ", ".join(printable(name) for name in names[:most])
    return shown + (" ..." if len(names) > most else "")


def _utterance(path, line, names, cells):
    if len(cells) != len(names):
        raise BadInput(
            f"{path} line {line}: {len(cells)} cells in {len(names)} columns: put "
            f"texts with commas or quotes in quotes"
        )
    row = dict(zip(names, cells, strict=True))
    try:
        seconds = float(row["duration"])
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise BadInput(
            f"{path} line {line}: duration {row['duration'][:50]!r} is no number of "
            f"seconds"
        )
    return Utterance(row["ID"], seconds, row["wav"], row["speaker"], row["text"])
