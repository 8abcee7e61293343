"""The saved list: comes back, same bytes for the same draw, whole or not at all."""

import gzip
import json

import pytest
from test_sampling import ARCHIVES, DURATIONS, RULES, drawn, seconds

from speechbrain_birq.data.corpora.yodas.sampling import draw
from speechbrain_birq.data.corpora.yodas.utterance_list import UtteranceList
from speechbrain_birq.errors import BadInput


@pytest.fixture
def saved(tmp_path):
    selection = UtteranceList(tmp_path)
    selection.save({"seed": 0}, "c0ffee", ARCHIVES, drawn())
    return selection


def test_a_saved_list_comes_back(saved):
    rows = drawn()
    read = [
        (name, ID, split)
        for name, splits in saved.utterances()
        for ID, split in splits.items()
    ]
    assert read == [(row.archive, row.ID, row.split) for row in rows]
    summary = saved.load()
    assert (summary["settings"], summary["commit"]) == ({"seed": 0}, "c0ffee")
    assert [a["name"] for a in summary["archives"]] == list(
        dict.fromkeys(row.archive for row in rows)
    )
    for split in ("dev", "train"):
        hours = sum(archive["hours"][split] for archive in summary["archives"])
        assert hours == pytest.approx(seconds(rows, split) / 3600)
    assert sum(a["utterances"] for a in summary["archives"]) == len(rows)
    assert summary["archives"][0]["audio"].path.endswith(".x")


def test_the_same_draw_gives_the_same_bytes(saved, tmp_path):
    again = UtteranceList(tmp_path / "again")
    again.list_file.parent.mkdir()
    again.save({"seed": 0}, "c0ffee", ARCHIVES, drawn())
    for name in ("selection.json", "selection.tsv.gz"):
        assert (tmp_path / name).read_bytes() == (
            tmp_path / "again" / name
        ).read_bytes()


def test_a_draw_that_fails_saves_no_list(tmp_path):
    selection = UtteranceList(tmp_path)
    rows = draw(ARCHIVES, lambda a: DURATIONS[a.name], **(RULES | {"hours": 7}))
    with pytest.raises(BadInput):
        selection.save({}, "c0ffee", ARCHIVES, rows)
    assert not selection.exists()


def test_the_list_is_text(saved):
    with gzip.open(saved.list_file, "rt") as file:
        first = file.readline().split("\t")
    assert first[0] in DURATIONS and first[2] in DURATIONS[first[0]]


@pytest.mark.parametrize("end", [0, 5, 100])
def test_a_list_that_was_cut_short_is_one_sentence(saved, end):
    saved.list_file.write_bytes(saved.list_file.read_bytes()[:end] + b"x")
    with pytest.raises(BadInput, match=r"selection.tsv.gz is corrupt"):
        list(saved.utterances())


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", json.dumps({"archives": [{}]})])
def test_a_damaged_list_is_one_sentence(saved, text):
    saved.summary_file.write_text(text)
    with pytest.raises(BadInput, match=r"selection.json is corrupt"):
        saved.load()
