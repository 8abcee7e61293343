"""Tables of recordings: the rows of CSV, TSV and JSONL files."""

import codecs
import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from speechbrain_birq.data.audio_checks import printable
from speechbrain_birq.errors import BadInput

TABLES = (".csv", ".tsv", ".jsonl", ".json")
DELIMITERS = ",;\t|"  # of a .csv: the first of them that its first line has
WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # UTF-32's begin alike


class Row(NamedTuple):
    """One recording of a table."""

    line: int  # where it ends in the file, from 1
    cells: dict[str, str]  # column in lower case -> text without spaces around it


def read_table(path: str | Path) -> list[Row]:
    """Read all rows; blank ones are skipped.

    A CSV is read with its quotes, and "," may be ";", a tab or "|". In a TSV each line
    is a row, and only a cell that is quoted as in a CSV loses its quotes. A JSONL has
    one object a line; so has a ``.json``, as NeMo calls it, or it is one object of
    objects, as SpeechBrain's are: ``{id: {column: text}}``.

    Raises
    ------
    BadInput
        Naming file and line, if it is no table of UTF-8 text, or has no rows.

    Example
    -------
    >>> path = Path(getfixture("tmp_path")) / "corpus.csv"
    >>> _ = path.write_text("Path,text\\na.wav,ONE\\n")
    >>> read_table(path)
    [Row(line=2, cells={'path': 'a.wav', 'text': 'ONE'})]
    """
    path = Path(path)
    text = _text(path)
    kind = path.suffix.lower()
    lines = _objects(path, text) if kind in (".jsonl", ".json") else _cells(path, text)
    rows = [Row(line, cells) for line, cells in lines if any(cells.values())]
    if not rows:
        raise BadInput(f"{printable(path)} has no rows: give a table of recordings")
    return rows


def as_number(cell: str) -> float:
    """Read a cell; NaN if it is no number."""
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _text(path):
    try:
        # A pipe would never end.
        data = path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise BadInput(f"cannot read {printable(path)}: {error.strerror}") from error
    if data is None:
        raise BadInput(f"no file {printable(path)}: give the path of a table")
    try:
        if data.startswith(WIDE):
            raise UnicodeDecodeError("utf-8", data, 0, 1, "UTF-16")
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(
            f"{printable(path)} line {line} is not UTF-8 ({error.reason}): save the "
            f"table as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise BadInput(
            f"{printable(path)} line {line} has a NUL byte: save the table again, it "
            f"is corrupt"
        )
    return text


def _cells(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cells) of each row"""
    rows = _tab_rows(text) if path.suffix.lower() == ".tsv" else _csv_rows(path, text)
    names: list[str] = []
    for line, cells in rows:
        if not any(cell.strip() for cell in cells):
            continue
        if not names:
            names = _names(path, cells)
        elif len(cells) != len(names):
            raise BadInput(
                f"{printable(path)} line {line}: {len(cells)} cells in {len(names)} "
                f"columns: put texts with delimiters or quotes in quotes"
            )
        else:
            yield line, dict(zip(names, map(str.strip, cells), strict=True))


def _names(path, cells):
    names = [cell.strip().lower() for cell in cells]
    twice = {name for name in names if name and names.count(name) > 1}
    if twice:
        raise BadInput(
            f"{printable(path)} has two columns {min(twice)!r}: rename one of them"
        )
    return names


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, Sequence[str]]]:
    head = text.lstrip().partition("\n")[0]
    delimiter = next((mark for mark in DELIMITERS if mark in head), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise BadInput(
            f"{printable(path)} line {reader.line_num} is no CSV: {error}"
        ) from error


def _tab_rows(text: str) -> Iterator[tuple[int, Sequence[str]]]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        yield number, [_unquoted(cell) for cell in line.split("\t")]


def _unquoted(cell):
    # A quotation mark that only begins a text belongs to it, as in Common Voice.
    inner = cell[1:-1]
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"'
    if not quoted or '"' in inner.replace('""', ""):
        return cell
    return inner.replace('""', '"')


def _objects(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cells) of each object"""
    rows = _rows_by_id(text) if path.suffix.lower() == ".json" else None
    if rows:
        lines = _lines_of(text, rows)
        for number, (name, found) in zip(lines, rows.items(), strict=True):
            where = f"{printable(path)} line {number}"
            yield number, _columns(where, {**found, "id": name})
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{printable(path)} line {number}"
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{where} is no JSON: put one object on a line") from error
        if not isinstance(found, dict):
            raise BadInput(f"{where} is no JSON object: put one object on a line")
        yield number, _columns(where, found)


def _rows_by_id(text):
    """id -> row of a JSON as SpeechBrain writes it, None if it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    rows = found.values()
    return found if all(row and isinstance(row, dict) for row in rows) else None


def _lines_of(text, names):
    """The lines in which names stand, one after the other."""
    place, line = 0, 1
    for name in names:
        found = text.find(json.dumps(name, ensure_ascii=text.isascii()), place)
        found = len(text) if found < 0 else found  # written otherwise: stop counting
        line, place = line + text.count("\n", place, found), found
        yield line


def _columns(where, found):
    return {k.strip().lower(): _plain(where, k, v) for k, v in found.items()}


def _plain(where: str, key: str, value: Any) -> str:
    """A value as a cell: "" for null and for what no column of ours can be."""
    text = "" if value is None or isinstance(value, (list, dict)) else str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(
            f"{where}: {key!r} has half of a character (\\u{ord(text[error.start]):x}):"
            f" write the text anew"
        ) from error
    if "\0" in text:
        raise BadInput(f"{where}: {key!r} has a NUL character: remove it")
    return text.strip()
