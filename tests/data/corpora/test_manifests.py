"""Own tables: which columns and files are used, what is skipped, what is refused."""

import json
import logging
import os

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from speechbrain_birq.data.corpora.manifests import AUDIO, TEXT, table_utterances
from speechbrain_birq.data.corpora.segments import START
from speechbrain_birq.data.manifest import read_manifest, write_manifest
from speechbrain_birq.errors import BadInput


def add_audio(path, seconds=0.5, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(round(seconds * rate), 0.1), rate)
    return path


@pytest.fixture
def table(tmp_path):
    """table(*rows): a JSONL of these rows; a.wav, b.wav and sub/a.wav exist."""
    for name, seconds in (("a.wav", 0.5), ("b.wav", 1.0), ("sub/a.wav", 1.5)):
        add_audio(tmp_path / name, seconds)

    def table(*rows):
        path = tmp_path / "corpus.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return path

    return table


@pytest.mark.parametrize("name", AUDIO)
@pytest.mark.parametrize("text", TEXT)
def test_every_name_of_a_column_is_known(table, tmp_path, name, text):
    path = table({name: "a.wav", text: "ONE", "speaker": "x", "other": 1})
    assert table_utterances(path) == [("a", 0.5, str(tmp_path / "a.wav"), "x", "ONE")]


def test_paths_are_relative_absolute_or_below_the_data_folder(table, tmp_path):
    there = add_audio(tmp_path / "clips" / "c.wav")
    path = table({"wav": "./a.wav"}, {"wav": str(tmp_path / "b.wav")}, {"wav": "c.wav"})
    found = table_utterances(path, tmp_path / "clips")
    assert [os.path.basename(u.wav) for u in found] == ["a.wav", "b.wav", "c.wav"]
    assert found[2].wav == str(there)


@pytest.mark.parametrize("root", ["{data_root}", "$data_root", "{data_folder}"])
@pytest.mark.parametrize("data_folder", [None, "."])
def test_speechbrain_s_root_is_the_data_folder_or_the_table_s(
    table, tmp_path, monkeypatch, root, data_folder
):
    monkeypatch.chdir(tmp_path)
    (found,) = table_utterances(table({"wav": f"{root}/sub/a.wav"}), data_folder)
    assert found.wav == str(tmp_path / "sub" / "a.wav")


@pytest.mark.parametrize("indent", [None, 2])
def test_a_manifest_of_speechbrain_is_a_table(table, tmp_path, indent):
    rows = {
        "ü1": {"wav": "{data_root}/a.wav", "length": 0.5, "words": "ONE TWO"},
        "2": {"wav": "{data_root}/b.wav", "length": 1.0, "words": "THREE"},
    }
    path = tmp_path / "train.json"
    path.write_text(json.dumps(rows, indent=indent))
    found = [(u.ID, u.duration, u.text) for u in table_utterances(path)]
    assert found == [("ü1", 0.5, "ONE TWO"), ("2", 1.0, "THREE")]


def test_a_segment_in_a_manifest_of_speechbrain_is_named_with_its_line(table, tmp_path):
    rows = {"1": {"wav": "a.wav"}, "2": {"wav": "b.wav", "start": 0.5}}
    path = tmp_path / "train.json"
    path.write_text(json.dumps(rows, indent=2))
    with pytest.raises(BadInput, match=r"train\.json line 5: start 0\.5 is within"):
        table_utterances(path)


def test_lines_and_spaces_in_a_text_become_single_spaces(table):
    (found,) = table_utterances(table({"wav": "a.wav", "text": " ONE\n  TWO\tTHREE "}))
    assert found.text == "ONE TWO THREE"


def test_without_ids_utterances_are_called_as_their_files(table):
    found = table_utterances(table({"wav": "a.wav"}, {"wav": "b.wav"}))
    assert [u.ID for u in found] == ["a", "b"]
    found = table_utterances(table({"wav": "a.wav"}, {"wav": "sub/a.wav"}))
    assert [u.ID for u in found] == ["a", "sub/a"]


def test_one_file_may_have_several_ids(table):
    found = table_utterances(
        table({"wav": "a.wav", "id": 1}, {"wav": "a.wav", "id": 2})
    )
    assert [u.ID for u in found] == ["1", "2"]


def test_of_two_columns_the_first_is_taken_and_the_log_says_so(table, caplog):
    path = table({"file_name": "b.wav", "path": "a.wav", "wrd": "X", "text": "Y"})
    (found,) = table_utterances(path)
    assert (found.ID, found.text) == ("a", "Y")
    assert "takes the column 'path', not 'file_name'" in caplog.text
    assert "takes the column 'text', not 'wrd'" in caplog.text


def test_missing_and_unreadable_files_are_skipped_counted_and_named(
    table, tmp_path, caplog
):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no audio")
    names = ["a.wav", "gone.wav", "empty.wav", "text.wav", "", "x" * 300]
    found = table_utterances(table(*[{"wav": n, "id": i} for i, n in enumerate(names)]))
    assert [u.ID for u in found] == ["0"]
    for words in ("skipped 3 of 6 rows", "gone.wav", "empty.wav: ", "text.wav: "):
        assert words in caplog.text


def test_any_rate_is_used(table, tmp_path):
    add_audio(tmp_path / "cd.wav", rate=44100)
    (found,) = table_utterances(table({"wav": "cd.wav"}))
    assert found.duration == 0.5


def test_a_duration_that_the_header_contradicts_is_named_and_not_used(table, caplog):
    rows = [{"wav": "a.wav", "duration": 0.5}, {"wav": "b.wav", "duration": 1000}]
    assert [u.duration for u in table_utterances(table(*rows))] == [0.5, 1.0]
    assert "'duration' of 1 of 2 rows" in caplog.text and "used: b" in caplog.text


def test_true_durations_are_not_mentioned(table, caplog):
    with caplog.at_level(logging.WARNING):
        table_utterances(table({"wav": "a.wav", "duration": "0.5"}))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"file": "a.wav", "text": "X"}], "no column wav, .*it has file, text"),
        ([{"wav": "gone.wav"}, {"wav": "no.wav"}], "none of its 2 files exists"),
        ([{"wav": "", "text": "X"}], "none of its 1 files exists"),
        ([{"wav": "sub", "id": 1}], "none of its files is readable"),
        ([{"wav": "a.wav"}, {"wav": "a.wav"}], "lines 1 and 2 have one id, a"),
        ([{"wav": "a.wav", "id": 7}, {"wav": "b.wav", "id": "7"}], "have one id, 7"),
        ([{"wav": "a.wav"}, {"wav": "b.wav", "offset": 1.5}], "line 2: offset 1.5"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(table, rows, words):
    with pytest.raises(BadInput, match=words):
        table_utterances(table(*rows))


def test_an_offset_of_zero_is_no_segment(table):
    assert len(table_utterances(table({"wav": "a.wav", "offset": 0}))) == 1


@pytest.mark.parametrize(
    "name", ["offset", "start", "start_time", "begin", "Begin_Time", "segment_start"]
)
def test_a_column_that_says_where_a_segment_begins_is_known(table, name):
    rows = [
        {"wav": "a.wav", "id": number, name: start, "end": start + 0.2, "text": text}
        for number, (start, text) in enumerate([(0, "ONE"), (0.2, "TWO")])
    ]
    with pytest.raises(BadInput, match=f"line 2: {name.lower()} 0.2 is within"):
        table_utterances(table(*rows))


@pytest.mark.parametrize("more", [{}, {"from": 0.2}, {"start": "0:00:00.2"}])
def test_two_texts_of_one_file_are_refused_with_the_columns_that_are_known(
    table, tmp_path, more
):
    rows = [
        {"wav": "b.wav", "id": 1, "text": "ZERO"},
        {"wav": "a.wav", "id": 2, "text": "ONE"},
        {"wav": "./a.wav", "id": 3, "text": "TWO", **more},
    ]
    with pytest.raises(BadInput) as caught:
        table_utterances(table(*rows))
    message = str(caught.value)
    assert f"lines 2 and 3 have different texts for one file, {tmp_path}" in message
    assert f"({', '.join(START)})" in message


def test_one_text_of_a_file_may_stand_in_several_rows(table):
    texts = ["ONE  TWO", "ONE TWO", ""]
    rows = [{"wav": "a.wav", "id": n, "text": t} for n, t in enumerate(texts)]
    assert len(table_utterances(table(*rows))) == 3


LETTERS = st.characters(codec="utf-8", exclude_characters="\0")
CELL = st.text(LETTERS, max_size=9)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=4))
def test_a_table_s_rows_are_the_manifest_s(tmp_path_factory, rows):
    """Whatever ids and texts are: in the table's order, with single spaces."""
    folder = tmp_path_factory.mktemp("table")
    rows = [(f"{number}{name}", text) for number, (name, text) in enumerate(rows)]
    wavs = [str(add_audio(folder / f"{number}.wav")) for number in range(len(rows))]
    with open(folder / "corpus.jsonl", "w") as file:
        for wav, (name, text) in zip(wavs, rows, strict=True):
            print(json.dumps({"id": name, "path": wav, "text": text}), file=file)
    utterances = table_utterances(folder / "corpus.jsonl")
    manifest = write_manifest(folder / "manifest.csv", utterances)
    expected = [
        (name.strip(), 0.5, wav, "", " ".join(text.split()))
        for wav, (name, text) in zip(wavs, rows, strict=True)
    ]
    assert read_manifest(manifest) == expected
