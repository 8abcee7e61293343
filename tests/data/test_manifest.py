"""Manifests: what survives a round trip, what is refused."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechbrain_birq.data.manifest import (
    FIELDS,
    Utterance,
    read_manifest,
    write_manifest,
)
from speechbrain_birq.errors import BadInput

ENCODABLE = st.characters(codec="utf-8", exclude_characters="\0")
CELL = st.text(ENCODABLE, max_size=15)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(CELL, st.floats(0, 1e5), CELL, CELL, CELL), max_size=4))
def test_a_manifest_survives_a_round_trip(tmp_path_factory, rows):
    utterances = [Utterance(*row) for row in rows]
    path = tmp_path_factory.mktemp("round") / "a.csv"
    assert read_manifest(write_manifest(path, utterances)) == utterances


@pytest.mark.parametrize(
    "text", ['HE SAID "NO", TWICE', "A,B,,C", "'QUOTED'", "", " SPACES ", "TWO\nLINES"]
)
def test_commas_and_quotes_in_texts_survive(tmp_path, text):
    row = Utterance("a-1", 1.5, "/x/a, b.flac", "a", text)
    assert read_manifest(write_manifest(tmp_path / "a.csv", [row])) == [row]


def test_a_manifest_is_a_csv_that_speechbrain_reads(tmp_path):
    from speechbrain.dataio.dataset import DynamicItemDataset

    row = Utterance("a-1", 1.5, "/x/a.flac", "a", "ONE, TWO")
    path = write_manifest(tmp_path / "a.csv", [row])
    data = DynamicItemDataset.from_csv(path, output_keys=["id", "duration", "text"])
    assert data[0] == {"id": "a-1", "duration": 1.5, "text": "ONE, TWO"}


def test_a_manifest_is_written_whole_or_not_at_all(tmp_path):
    path = write_manifest(tmp_path / "a.csv", [Utterance("a", 1.0, "w", "s", "T")])
    before = path.read_text()

    def failing():
        yield Utterance("b", 2.0, "w", "s", "T")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        write_manifest(path, failing())
    assert path.read_text() == before


def test_folders_of_a_manifest_are_made(tmp_path):
    path = write_manifest(tmp_path / "deep" / "er" / "a.csv", [])
    assert read_manifest(path) == []


@pytest.mark.parametrize("missing", FIELDS)
def test_a_manifest_without_a_column_is_refused_by_name(tmp_path, missing):
    path = Path(tmp_path / "a.csv")
    path.write_text(",".join(f for f in FIELDS if f != missing) + "\n")
    with pytest.raises(BadInput, match=f"lacks the columns {missing}"):
        read_manifest(path)


def test_an_empty_manifest_is_refused(tmp_path):
    (tmp_path / "a.csv").touch()
    with pytest.raises(BadInput, match="lacks the columns"):
        read_manifest(tmp_path / "a.csv")


@pytest.mark.parametrize("duration", ["long", ""])
def test_a_duration_that_is_no_number_is_refused_with_its_line(tmp_path, duration):
    rows = [Utterance("a", 1.0, "w", "s", "T"), Utterance("b", duration, "w", "s", "T")]
    path = write_manifest(tmp_path / "a.csv", rows)
    with pytest.raises(BadInput, match=f"line 3: duration '{duration}'"):
        read_manifest(path)
