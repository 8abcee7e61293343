"""The kept fine-tunings of the published weights, and the pages that show them."""

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments/weights/finetuned.py"
NAMES = "best_rq_tiny", "birq_tiny"


def kept(name):
    return json.loads((SCRIPT.parent / "finetuned" / f"{name}.json").read_text())


def test_the_page_has_the_table_that_the_command_prints(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", [str(SCRIPT)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() in page


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_what_the_kept_figures_make(name):
    folder = ROOT / "weights" / name
    publish = runpy.run_path(str(SCRIPT.with_name("publish.py")))
    text = publish["card"](folder, name)
    assert text == (folder / "README.md").read_text(encoding="utf-8")
    assert f"{kept(name)['test']['cer']:.1f}" in text.split("## Fine-tuning")[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_difference_is_that_of_the_error_rates(name):
    found = runpy.run_path(str(SCRIPT))["against_scratch"](name)
    assert found.first == pytest.approx(kept(name)["test"]["cer"], abs=0.01)
    assert found.second == pytest.approx(kept("scratch")["test"]["cer"], abs=0.01)
    assert found.low < found.first - found.second < found.high


@pytest.mark.parametrize("name", NAMES)
def test_the_runs_differ_in_what_they_start_from_only(name):
    ours, scratch = kept(name), kept("scratch")
    assert ours["command"].startswith(scratch["command"])
    assert f"--pretrained {name} " in ours["command"]
    assert (ours["seed"], ours["steps"]) == (scratch["seed"], scratch["steps"])
    assert ours["errors"].keys() == scratch["errors"].keys()


def test_weights_without_a_kept_run_say_so():
    section = runpy.run_path(str(SCRIPT))["section"]
    assert "No recogniser was trained" in section("other")
