"""Own corpora as tables: CSV, TSV and JSONL files that list recordings."""

import logging
import os
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from speechbrain_birq.data.audio_checks import printable
from speechbrain_birq.data.corpora.segments import refuse_segments, refuse_two_texts
from speechbrain_birq.data.corpora.tables import Row, as_number, read_table
from speechbrain_birq.data.headers import measure_all
from speechbrain_birq.data.manifest import Utterance, some_of
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)

# What each column may be called, in the order in which they are taken.
AUDIO = ("wav", "path", "audio_filepath", "file_name", "audio")
TEXT = ("text", "transcription", "sentence", "wrd", "words")
SPEAKER = ("speaker", "spk_id", "speaker_id", "client_id")
# SpeechBrain's {data_root}/a.wav and $data_root/a.wav
PLACEHOLDER = re.compile(r"^(\{\w+\}|\$\w+)/")
CLOSE = 0.5  # seconds by which a duration may differ from the header's


class Columns(NamedTuple):
    """The columns of a table that are used; "" where there is none."""

    audio: str
    text: str
    speaker: str

    @classmethod
    def of(cls, path: Path, names: Collection[str]) -> "Columns":
        """Choose them, and log what was chosen.

        Raises
        ------
        BadInput
            If no column names the audio.
        """
        return cls(
            _audio(path, names),
            _column(path, TEXT, names),
            _column(path, SPEAKER, names),
        )


def _audio(path, names):
    return _named(path, AUDIO, names, "name the audio files in one")


def _named(path, kind, names, advice):
    """The column of a kind; a table without any is refused."""
    if not any(name in names for name in kind):
        raise BadInput(
            f"{printable(path)} has no column {', '.join(kind[:-1])} or {kind[-1]} "
            f"(it has {some_of(sorted(names), most=12)}): {advice}"
        )
    return _column(path, kind, names)


def _column(path, kind, names):
    """The first name of a kind that a table has, or ""; others are logged."""
    taken, *others = [name for name in kind if name in names] or [""]
    if others:
        logger.warning(
            "%s: takes the column %r, not %s",
            *(printable(path), taken, " or ".join(map(repr, others))),
        )
    return taken


def table_texts(
    path: str | Path,
    *,
    below: Path | None = None,
    rows: Sequence[Row] | None = None,
) -> list[str]:
    """Read the texts of a table, in its order; its audio may be anywhere, or nowhere.

    Arguments
    ---------
    path : str or Path
    below : Path, optional
        As for ``table_utterances``; then the table must name the audio.
    rows : sequence, optional
        As for ``table_utterances``.

    Raises
    ------
    BadInput
        If the table cannot be read, or none of the columns ``TEXT`` is in it.
    """
    rows = read_table(path) if rows is None else rows
    names = {name for row in rows for name in row.cells}
    if below is not None:
        rows = _rows_below(Path(path), rows, _audio(path, names), below)
    column = _named(path, TEXT, names, "put the texts in one")
    return [row.cells.get(column, "") for row in rows]


def table_utterances(
    path: str | Path,
    data_folder: str | Path | None = None,
    *,
    below: Path | None = None,
    rows: Sequence[Row] | None = None,
) -> list[Utterance]:
    """Find the readable utterances of a table, in its order.

    Rows whose file is missing or cannot be read are counted and named in the log.
    Lengths are those of the files' headers; a column ``duration`` is compared with
    them. Without a column ``id``, an utterance is called as its file, or, if two files
    have one name, as its path below the table.

    Arguments
    ---------
    path : str or Path
        CSV, TSV or JSONL. One of the columns ``AUDIO`` names the files, relative to the
        table's folder; ``TEXT``, ``SPEAKER``, ``duration`` and ``id`` are optional.
    data_folder : str or Path, optional
        Where files are that are not below the table's folder, and what SpeechBrain's
        ``{data_root}`` stands for.
    below : Path, optional
        A folder beside the table; rows of other files are not used.
    rows : sequence, optional
        What ``read_table`` has read there, if it has.

    Raises
    ------
    BadInput
        If the table cannot be read, lacks the column of the audio, has an id twice or
        segments of recordings, or if no file can be read.
    """
    path = Path(path).absolute()
    rows = read_table(path) if rows is None else rows
    columns = Columns.of(path, {name for row in rows for name in row.cells})
    if below is not None:
        rows = _rows_below(path, rows, columns.audio, below)
    refuse_segments(path, rows)
    files = [_file(path.parent, data_folder, row.cells, columns) for row in rows]
    refuse_two_texts(path, rows, files, columns.text)
    names = _names(path, rows, files)
    seconds = _measured(path, files)
    found = [
        (row, _utterance(row, columns, name, str(file), seconds[file]))
        for row, file, name in zip(rows, files, names, strict=True)
        if file in seconds
    ]
    _compare_durations(path, found)
    logger.info(
        "%s: %d of %d rows are used, audio from the column %r, %s",
        *(printable(path), len(found), len(rows), columns.audio),
        f"texts from {columns.text!r}" if columns.text else "no texts",
    )
    return [utterance for _, utterance in found]


def within(folder: str | Path) -> Callable[[str], bool]:
    """Return a test of whether a path is within a folder, at any depth.

    Example
    -------
    >>> is_below = within("hf/train")
    >>> is_below("hf/./train/a.flac"), is_below("hf/training")
    (True, False)
    """
    root = os.path.join(os.path.abspath(folder), "")
    return lambda path: os.path.abspath(path).startswith(root)


def _rows_below(path, rows, column, folder):
    is_below = within(folder)
    found = [
        row
        for row in rows
        if is_below(os.path.join(path.parent, row.cells.get(column, "")))
    ]
    if not found:
        raise BadInput(
            f"{printable(path)} lists nothing below {printable(folder)} in its column "
            f"{column!r}: write paths relative to the table there"
        )
    return found


def _utterance(row, columns, name, wav, seconds):
    speaker = row.cells.get(columns.speaker, "")
    text = " ".join(row.cells.get(columns.text, "").split())
    return Utterance(name, round(seconds, 4), wav, speaker, text)


def _file(folder, data_folder, cells, columns):
    """The path of a row's audio, or None if the cell is empty."""
    cell = cells.get(columns.audio, "")
    if not cell:
        return None
    path, rest = folder / os.path.expanduser(cell), PLACEHOLDER.sub("", cell)
    if (data_folder is None and rest == cell) or os.path.exists(path):
        return path
    other = folder / rest if data_folder is None else Path(data_folder, rest).absolute()
    return other if os.path.exists(other) else path


def _names(path, rows: Sequence[Row], files):
    """One name for each row; a name that two rows have is refused."""
    stems = [file.stem for file in files if file]
    unique = len(stems) == len(set(stems))
    lines: dict[str, int] = {}
    names = []
    for row, file in zip(rows, files, strict=True):
        name = row.cells.get("id", "") or (_name(path, file, unique) if file else "")
        if name and lines.setdefault(name, row.line) != row.line:
            raise BadInput(
                f"{printable(path)} lines {lines[name]} and {row.line} have one id, "
                f"{printable(name)}: give each row another in the column id"
            )
        names.append(name)
    return names


def _name(path, file, unique):
    if unique:
        return file.stem
    return os.path.relpath(file.with_suffix(""), path.parent)


def _measured(path, files):
    """file -> seconds of those that can be read"""
    given = [file for file in files if file is not None]
    there = [file for file in given if os.path.exists(file)]
    if len(there) < len(files):
        present = set(there)
        missing = [str(file) for file in given if file not in present]
        if not there:
            raise BadInput(
                f"{printable(path)}: none of its {len(files)} files exists (for "
                f"example {some_of(missing, most=1) or 'none is named'}): write paths "
                f"relative to {printable(path.parent)}, or give their folder as "
                f"--data_folder"
            )
        logger.warning(
            "%s: skipped %d of %d rows, whose files do not exist: %s",
            *(printable(path), len(files) - len(there), len(files)),
            some_of(missing) or "none is named",
        )
    seconds = measure_all(list(dict.fromkeys(there)))
    if not seconds:
        raise BadInput(f"{printable(path)}: none of its files is readable audio")
    return seconds


def _compare_durations(path, found):
    """Name the rows whose column ``duration`` the headers contradict."""
    differing = [
        utterance.ID
        for row, utterance in found
        if row.cells.get("duration")
        and not abs(as_number(row.cells["duration"]) - utterance.duration) <= CLOSE
    ]
    if differing:
        logger.warning(
            "%s: the column 'duration' of %d of %d rows is not the length of their "
            "files in seconds; the files' lengths are used: %s",
            *(printable(path), len(differing), len(found), some_of(differing)),
        )
