"""Whatever is wrong with a plain file is one sentence, soon."""

import json
import os

import pytest
from bounds import bounded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speechbrain_birq.checkpoints import plain_files
from speechbrain_birq.checkpoints.plain_files import (
    read_json,
    read_json_entries,
    read_json_lines,
    read_text,
    read_yaml,
)
from speechbrain_birq.errors import BadInput

pytestmark = pytest.mark.faults

READERS = [read_text, read_json, read_yaml]


def sentence(read, path):
    """The sentence, in which the file and the advice stand; it comes in time."""
    with bounded(), pytest.raises(BadInput) as caught:
        read(path, "do this")
    text = str(caught.value)
    assert str(path) in text and text.endswith("do this") and "\n" not in text
    assert len(text) < len(str(path)) + 300
    assert caught.value.__cause__ is not None
    return text


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_text_is_named(read, tmp_path):
    assert "utf-8" in sentence(read, written(tmp_path / "a", b"\xff\xfe\x00"))


@pytest.mark.parametrize("read", [*READERS, read_json_entries, read_json_lines])
def test_what_is_no_regular_file_is_named(read, tmp_path):
    assert "No such file" in sentence(read, tmp_path / "missing")
    assert "not a regular file" in sentence(read, tmp_path)
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for ever
    assert "not a regular file" in sentence(read, tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert "not a regular file" in sentence(read, tmp_path / "zero")


@pytest.mark.parametrize("read", [*READERS, read_json_entries])
def test_a_file_that_is_too_long_is_not_read(read, tmp_path):
    path = written(tmp_path / "long", "")
    os.truncate(path, 2**40)  # sparse
    assert f"{2**40} bytes" in sentence(read, path)


@pytest.mark.parametrize("content", ["", "{", "nul", '{"a": 1} x', "[" * 100_000])
def test_what_is_no_json_is_named(tmp_path, content):
    sentence(read_json, written(tmp_path / "a.json", content))


@pytest.mark.parametrize("content", ["null", "[]", "1", '"text"'])
@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_another_kind_of_content_is_named(tmp_path, read, content):
    assert "not a dict" in sentence(read, written(tmp_path / "a", content))


NO_YAML = {
    "cut": "a: [1, ",
    "tabs": "a:\n\t- b",
    "key twice": "a: 1\na: 2",
    "no alias": "a: *b",
    "two documents": "a: 1\n--- \nb: 2",
    "lists": "[" * 100_000,
    "deep blocks": "- " * 50_000,
    "deep mappings": "{a: " * 3000,
    "deep keys": "? " * 3000,
    "directive": "%TAG ! !\n%TAG ! !\n---\na: 1",
    "control characters": "a: \x01",
}


@pytest.mark.parametrize("content", NO_YAML.values(), ids=NO_YAML)
def test_what_is_no_yaml_is_named(tmp_path, content):
    sentence(read_yaml, written(tmp_path / "a.yaml", content))


def test_plain_yaml_refuses_tags(tmp_path):
    content = "a: !!python/object/apply:os.system [ls]"
    assert "python/object" in sentence(read_yaml, written(tmp_path / "a", content))


def test_wherever_lines_are_cut_the_complete_ones_are_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    text = "".join(json.dumps({"step": i, "text": "ä"}) + "\n" for i in range(3))
    for length in range(len(text) + 1):
        rows = read_json_lines(written(path, text[:length]), "do this")
        complete = text[: length + 1].count("\n")  # the last one may lack its end
        assert [row["step"] for row in rows] == list(range(complete))


@pytest.mark.parametrize("bound, steps", [(24, 2), (25, 2), (35, 2), (36, 3), (99, 5)])
def test_of_too_many_lines_the_last_are_read(tmp_path, monkeypatch, bound, steps):
    """A run that reports every step must resume, and end with its figures."""
    monkeypatch.setattr(plain_files, "JSON_LINES_BYTES", bound)
    lines = [json.dumps({"step": step}) + "\n" for step in range(5)]  # 12 bytes each
    rows = read_json_lines(written(tmp_path / "a", "".join(lines)), "do this")
    assert [row["step"] for row in rows] == [*range(5)][-steps:]


def test_of_a_file_without_an_end_of_line_no_more_than_the_bound_is_read(
    tmp_path, caplog
):
    path = written(tmp_path / "long", "")
    os.truncate(path, 2**40)  # sparse
    assert read_json_lines(path, "do this") == []
    assert f"{path} has {2**20} MB: only the last 64 MB are read" in caplog.messages


@pytest.mark.parametrize(
    "line", ["", "[1]", "{", '{"a": 1}{"b": 2}', "\0\0", b"\xff", "[" * 100_000]
)
def test_bad_lines_are_skipped_and_counted(tmp_path, line, caplog):
    line = line if isinstance(line, bytes) else line.encode()
    content = b"\n".join([b'{"step": 0}', line, b'{"step": 1}', line, b""])
    path = written(tmp_path / "metrics.jsonl", content)
    assert read_json_lines(path, "do this") == [{"step": 0}, {"step": 1}]
    (record,) = caplog.records
    assert f"{path}: skipped 2 lines" in record.message
    assert record.message.endswith("line 2")


RESULTS = {"dev": {"wer": 3.5, "é": [1]}, "seconds": 7.5, "test": {"wer": 4.0}}


def test_wherever_results_are_cut_the_complete_entries_are_read(tmp_path):
    text, most = json.dumps(RESULTS, indent=2), []
    for length in range(len(text)):
        found = read_json_entries(written(tmp_path / "a", text[:length]), "do this")
        assert found == {key: RESULTS[key] for key in found}
        most.append(len(found))
    assert most == sorted(most) and most[-1] == 3


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{" * 100_000])
def test_results_that_are_none_count_as_empty(tmp_path, content, caplog):
    path = written(tmp_path / "results.json", content)
    assert read_json_entries(path, "do this") == {}
    assert f"{path} is corrupt" in caplog.text


@pytest.mark.parametrize("read", [read_json, read_yaml])
@given(
    content=st.binary(max_size=60) | st.text("[]{}:-,&*!?|>%@'\"#\n a1", max_size=40)
)
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_content_is_a_mapping_or_one_sentence(tmp_path, read, content):
    path = written(tmp_path / "a", content)
    try:
        assert isinstance(read(path, "do this"), dict)
    except BadInput as error:
        assert str(path) in str(error)
