"""Tables: rows of CSV, TSV and JSONL, and what is refused with its line."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechbrain_birq.data.corpora.tables import Row, read_table
from speechbrain_birq.errors import BadInput

OBJECT = '{"path": "a.wav", "text": "ONE"}'


@pytest.fixture
def table(tmp_path):
    """table(name, content): the path of a file of that content."""

    def table(name, content):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return table


def cells(path):
    return [row.cells for row in read_table(path)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "path,text\na.wav,ONE\n"),
        ("A.CSV", "path,text\na.wav,ONE\n"),
        ("a.csv", "\ufeffpath,text\r\na.wav,ONE\r\n"),
        ("a.csv", "path;text\na.wav;ONE\n"),
        ("a.csv", "path|text\na.wav|ONE"),
        ("a.csv", '"path","text"\n"a.wav","ONE"\n\n,\n'),
        ("a.csv", " Path , TEXT\n a.wav , ONE \n"),
        ("a.tsv", "path\ttext\na.wav\tONE\n"),
        ("a.tsv", '"path"\t"text"\r\n"a.wav"\t"ONE"\r\n'),
        ("a.jsonl", OBJECT),
        ("a.json", f"\ufeff{OBJECT}\r\n\r\n"),
        ("a.jsonl", '{"PATH": "a.wav", "text": " ONE "}\n'),
    ],
)
def test_every_way_to_write_a_row_is_read(table, name, content):
    assert cells(table(name, content)) == [{"path": "a.wav", "text": "ONE"}]


def test_rows_know_their_lines(table):
    path = table("a.csv", 'path,text\n\na,"TWO\nLINES"\nb,ONE\n')
    assert [row.line for row in read_table(path)] == [4, 5]
    path = table("a.jsonl", f"\n{OBJECT}\n\n{OBJECT}\n")
    assert [row.line for row in read_table(path)] == [2, 4]


def test_a_comma_in_a_text_needs_quotes_and_a_semicolon_does_not(table):
    path = table("a.csv", 'path,text\na,"YES, NO; MAYBE"\n')
    assert cells(path) == [{"path": "a", "text": "YES, NO; MAYBE"}]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ('"He said ""no"""', 'He said "no"'),
        ('"He said', '"He said'),
        ('"No" she said "yes"', '"No" she said "yes"'),
        ('"', '"'),
        ('""', ""),
    ],
)
def test_quotation_marks_of_a_tsv(table, cell, text):
    path = table("a.tsv", f"path\ttext\na\t{cell}\nb\tNEXT\n")
    assert [row["text"] for row in cells(path)] == [text, "NEXT"]


def test_values_of_json_become_texts(table):
    values = {"a": 1, "b": None, "c": 0.5, "d": [1], "e": {"x": 1}, "f": "text"}
    texts = {"a": "1", "b": "", "c": "0.5", "d": "", "e": "", "f": "text"}
    assert cells(table("a.jsonl", json.dumps(values))) == [texts]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "", "no rows"),
        ("a.csv", "path,text\n", "no rows"),
        ("a.jsonl", "\n\n", "no rows"),
        ("a.csv", "path,text\na,b\nc\n", "line 3: 1 cells in 2 columns"),
        ("a.tsv", "path\ttext\na\tb\tc\n", "line 2: 3 cells in 2 columns"),
        ("a.csv", "path,path\na,b\n", "two columns 'path'"),
        ("a.csv", 'path,text\na,"b"c\n', "line 2 is no CSV"),
        ("a.csv", 'path,text\na,"b\n', "line 2 is no CSV"),
        ("a.csv", "path,text\nä,b\n".encode("latin-1"), "line 2 is not UTF-8"),
        ("a.csv", "path,text\na,b\n".encode("utf-16"), "line 1 is not UTF-8"),
        ("a.csv", "path,text\na,b\0\n", "line 2 has a NUL byte"),
        ("a.jsonl", f"{OBJECT}\n[1, 2]\n", "line 2 is no JSON object"),
        ("a.jsonl", f'{OBJECT}\n"text"\n', "line 2 is no JSON object"),
        ("a.jsonl", f"{OBJECT}\n{{'a': 1}}\n", "line 2 is no JSON"),
        ("a.json", '{\n "a": {}\n}\n', "line 1 is no JSON"),
        ("a.jsonl", "[" * 100_000, "line 1 is no JSON"),
        ("a.jsonl", '{"text": "\\ud800"}', "'text' has half of a character"),
        ("a.jsonl", '{"text": "a\\u0000"}', "'text' has a NUL character"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(table, name, content, words):
    path = table(name, content)
    with pytest.raises(BadInput, match=words) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "no.csv"):
        with pytest.raises(BadInput, match="no file"):
            read_table(path)


LETTERS = st.characters(codec="utf-8", exclude_characters="\0\r\n\x85\u2028\u2029")
NAMES = ("wav", "text", "id")


@settings(max_examples=80, deadline=None)
@given(rows=st.lists(st.tuples(*3 * [st.text(LETTERS, max_size=9)]), max_size=4))
@pytest.mark.parametrize("kind", ["jsonl", "tsv", "csv"])
def test_what_is_written_is_read(tmp_path_factory, kind, rows):
    import csv

    path = tmp_path_factory.mktemp("table") / f"a.{kind}"
    if kind == "tsv":
        rows = [tuple(cell.replace("\t", " ") for cell in row) for row in rows]
    with open(path, "w", newline="", encoding="utf-8") as file:
        if kind == "jsonl":
            for row in rows:
                print(json.dumps(dict(zip(NAMES, row, strict=True))), file=file)
        else:
            dialect = "excel" if kind == "csv" else "excel-tab"
            csv.writer(file, dialect).writerows([NAMES, *rows])
    expected = [tuple(cell.strip() for cell in row) for row in rows]
    expected = [row for row in expected if any(row)]
    try:
        found = read_table(path)
    except BadInput:
        assert not expected
        return
    assert [tuple(row.cells[name] for name in NAMES) for row in found] == expected
    assert all(isinstance(row, Row) for row in found)
