"""Texts that a language model is estimated from."""

from collections.abc import Iterable
from pathlib import Path

from speechbrain_birq.data.corpora.forms import table_of
from speechbrain_birq.data.corpora.librispeech import TRANSCRIPTS, spoken_lines
from speechbrain_birq.data.corpora.manifests import table_texts
from speechbrain_birq.data.corpora.tables import TABLES
from speechbrain_birq.data.files_below import files_below
from speechbrain_birq.data.split_places import Place
from speechbrain_birq.errors import BadInput


def read_sentences(paths: Iterable[str | Path]) -> list[str]:
    """Read the texts of tables, folders in any form of a split, and text files.

    They are taken as they are: no case changes and no character is dropped.

    Raises
    ------
    BadInput
        If a path does not exist or holds no text or several splits, or a table has no
        column of texts.
    """
    sentences: list[str] = []
    for path in map(Path, paths):
        texts = [" ".join(text.split()) for text in _texts(path)]
        if not any(texts):
            raise BadInput(
                f"no texts in {path}: give a table (CSV, TSV, JSONL), a folder with "
                f"*{TRANSCRIPTS} files, or a text file with a sentence a line"
            )
        sentences += filter(None, texts)
    return sentences


def _texts(path):
    if path.is_dir():
        table = table_of(Place(str(path.parent), path.name))
        return _of_table(table) if table else _transcripts(path)
    if not path.is_file():
        raise BadInput(f"no texts {path}: it does not exist")
    if path.suffix.lower() in TABLES:
        return table_texts(path)
    if path.name.lower().endswith(TRANSCRIPTS):
        return _without_names(path)
    return _lines(path)


def _of_table(table):
    return table_texts(table.table, below=table.below, rows=table.rows)


def _transcripts(folder):
    paths = files_below(folder, TRANSCRIPTS)
    return [text for path in paths for text in _without_names(path)]


def _without_names(path):
    return [text for _, text in spoken_lines(path)]


def _lines(path):
    try:
        # A byte order mark would be a part of the first word.
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no text in UTF-8") from error
