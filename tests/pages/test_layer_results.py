"""What layers know of the phones: kept figures, and the tables of the page."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "experiments" / "diagnosis"))

import layers  # noqa: E402

PAGE = (ROOT / "docs" / "results.md").read_text()


def record(steps, pnmi):
    labels = {"anchor": {"pnmi": pnmi, "chance": 0.1, "used_codes": 5.0}}
    phones = {"frames": 0.25, "layers": [0.3, 0.45], "most_frequent": 0.1}
    return {"steps": steps, "frames": 10, "labels": labels, "phones": phones}


def test_a_row_has_the_shares_of_frames_and_layers():
    assert layers.phones_table({"one": record(1000, 0.5)}).splitlines() == [
        "| run | steps | stacked frames | input projection | layer 1 |",
        "|---|---|---|---|---|",
        "| one | 1,000 | 25.0 | 30.0 | 45.0 |",
    ]


def test_a_run_without_a_kind_of_label_has_an_empty_cell():
    last = layers.information_table({"one": record(5, 0.5)}).splitlines()[-1]
    assert last == "| one | 5 | 0.500 (0.100) |  |  |  |"


def test_the_page_is_what_the_command_prints(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["layers.py", "--table"])
    layers.main()
    first, second = capsys.readouterr().out.strip().split("\n\n")
    assert first in PAGE
    assert second in PAGE


def test_the_page_has_the_table_of_the_pretraining_split(capsys, monkeypatch):
    kept = layers.HERE / "pretrain"
    monkeypatch.setattr(sys, "argv", ["layers.py", "--table", "--kept", str(kept)])
    layers.main()
    assert capsys.readouterr().out.strip().split("\n\n")[1] in PAGE


def test_kept_figures_are_of_frames_that_were_counted():
    for path in layers.HERE.rglob("*.json"):
        kept = json.loads(path.read_text())
        assert kept["frames"] > 10_000, path.name
        assert kept["steps"] in (400, 4000), path.name
