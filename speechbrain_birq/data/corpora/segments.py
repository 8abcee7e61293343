"""Tables of segments, which are refused: a recording is trained on as a whole."""

from collections.abc import Sequence
from pathlib import Path

from speechbrain_birq.data.audio_checks import printable
from speechbrain_birq.data.corpora.tables import Row, as_number
from speechbrain_birq.errors import BadInput

# Columns that say where a segment begins, in seconds or samples.
START = (
    *("offset", "start", "start_time", "begin", "begin_time"),
    *("segment_start", "segment_begin"),
)


def refuse_segments(path: Path, rows: Sequence[Row]) -> None:
    """Refuse a row that begins within its recording.

    Raises
    ------
    BadInput
    """
    for row in rows:
        for name in START:
            if as_number(row.cells.get(name, "")) > 0:
                raise BadInput(
                    f"{printable(path)} line {row.line}: {name} "
                    f"{row.cells[name][:20]} is within a recording: cut recordings "
                    f"into one file an utterance, or rename the column if it means "
                    f"something else"
                )


def refuse_two_texts(
    path: Path, rows: Sequence[Row], files: Sequence[Path | None], column: str
) -> None:
    """Refuse two texts of one file, because each would be learned for all of it.

    Rows with the same text, and rows without a text, do no harm.

    Arguments
    ---------
    path : Path
        The table, for the message.
    rows, files : sequence
        Rows, and the file of each.
    column : str
        The column of the texts.

    Raises
    ------
    BadInput
    """
    first: dict[Path, Row] = {}
    for row, file in zip(rows, files, strict=True):
        text = row.cells.get(column, "")
        if not (file and text):
            continue
        other = first.setdefault(file, row)
        if other.cells[column].split() != text.split():
            raise BadInput(
                f"{printable(path)} lines {other.line} and {row.line} have different "
                f"texts for one file, {printable(file)}, and no column "
                f"({', '.join(START)}) says where each begins: cut recordings into one "
                f"file an utterance"
            )
