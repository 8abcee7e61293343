"""The demo's kept seeds and the page that shows them."""

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments/demo/table.py"


def test_the_page_is_what_the_command_prints(capsys):
    runpy.run_path(str(SCRIPT), run_name="__main__")
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() in page


def test_every_seed_has_the_settings_of_the_others():
    records = [json.loads(p.read_text()) for p in SCRIPT.parent.glob("*.json")]
    assert sorted(record["seed"] for record in records) == [0, 1, 2, 3, 4]
    settings = {(r["hours"], r["steps"], r["epochs"]) for r in records}
    assert len(settings) == 1


def test_gains_are_relative_to_the_first_arm():
    script = runpy.run_path(str(SCRIPT))
    rows = [{"arm": "scratch", "cer": 50.0}, {"arm": "BiRQ", "cer": 40.0}]
    text = script["table"]([{"seed": 0, "rows": rows}])
    assert "| 0 | 50.0 | 40.0 | -20.0 % |" in text
