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


SETTINGS = """seed: 77
number_of_epochs: 24
batch_seconds: 30
dropout: 0.2
warmup_epochs: 4
hold_epochs: 13
lr: 0.002
pretrained: %s
fresh_layers: 2
lr_encoder: %s
"""


def keep(folder, name, settings):
    """Keep the figures of a run with such settings; return them."""
    (folder / "hyperparams.yaml").write_text(settings)
    score = {"cer": 9.0, "wer": 8.0, "loss": 1.0}
    row = {"stage": "valid", "step": 5, **score}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    results = {"steps": 5, "seconds": 2.0, "test": score}
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "errors_test.csv").write_text("id,character_errors,characters\na,1,9\n")
    function = runpy.run_path(str(SCRIPT))["keep"]
    function.__globals__["FOLDER"] = folder
    function(folder, name)
    return json.loads((folder / f"{name}.json").read_text())


def test_the_kept_seed_is_the_run_s(tmp_path):
    assert keep(tmp_path, "birq_tiny", SETTINGS % ("birq_tiny", 0.001))["seed"] == 77
    assert keep(tmp_path, "scratch", SETTINGS % ("null", 0.0002))["seed"] == 77


@pytest.mark.parametrize(
    ("name", "pretrained", "rate", "said"),
    [
        ("birq_tiny", "birq_tiny", 0.0002, "lr_encoder: 0.0002"),
        ("birq_tiny", "best_rq_tiny", 0.001, "pretrained: best_rq_tiny"),
        ("scratch", "birq_tiny", 0.001, "pretrained: birq_tiny"),
    ],
)
def test_a_run_of_another_command_is_not_kept(tmp_path, name, pretrained, rate, said):
    with pytest.raises(SystemExit, match=said):
        keep(tmp_path, name, SETTINGS % (pretrained, rate))
    assert not (tmp_path / f"{name}.json").exists()


def test_weights_without_a_kept_run_say_so():
    section = runpy.run_path(str(SCRIPT))["section"]
    assert "No recogniser was trained" in section("other")
