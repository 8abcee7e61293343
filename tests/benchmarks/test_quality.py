"""quality.py: when an arm is as good as the reference."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import quality
import yaml

ROOT = Path(__file__).parents[2]
compare = sys.modules[quality.train.__module__]  # its folder is no package


def record(arm, seed, seconds, losses, cer=None):
    """Return a piece with a validation every 100 steps."""
    rows = [
        {"stage": "valid", "step": 100 * n, "G": g} for n, g in enumerate(losses, 1)
    ]
    rows.insert(0, {"stage": "train", "step": 1, "G": 0.0})
    fields = dict(arm=arm, seed=seed, cpu_seconds=seconds, rows=rows, cer=cer)
    return fields


SLOW = record("slow", 1, 300.0, [6.0, 5.0, 4.0])
QUICK = record("quick", 1, 400.0, [5.0, 3.0], cer=7.5)


def test_a_level_between_two_validations_is_on_a_line():
    curve = quality.points(QUICK, "valid")
    assert curve == [(100, 5.0), (200, 3.0)]
    assert quality.steps_to(curve, 3.5) == 175
    assert quality.steps_to(curve, 5.5) == 100
    assert quality.steps_to(curve, 2.9) is None


def test_the_loss_of_the_log_intervals_can_decide():
    reference = record("slow", 1, 300.0, [6.0, 5.0, 4.0])
    quick = record("quick", 1, 400.0, [5.0, 3.0])
    reference["rows"] += [{"stage": "train", "step": 300, "G": -1.0}]
    quick["rows"] += [{"stage": "train", "step": 49, "G": -2.0}]
    assert quality.sooner(quick, reference, "train") == (25, 50.0, 6.0)


def test_an_arm_is_sooner_by_the_quotient_of_times():
    # Down to 4.0: 150 steps of 2 s, the reference 300 steps of 1 s.
    assert quality.sooner(QUICK, SLOW) == (150, 300.0, 1.0)
    assert quality.sooner(SLOW, SLOW) == (300, 300.0, 1.0)
    assert quality.sooner(SLOW, QUICK) == (None, None, None)


def cells(plan, records):
    lines = quality.table(plan, records).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    found = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:])
    return {name: rest for name, *rest in found}


def test_the_table_averages_over_the_seeds_of_the_reference():
    other = record("slow", 2, 300.0, [6.0, 4.5, 3.5]), record("quick", 2, 200.0, [3, 2])
    plan = dict(reference="slow", arms=["slow", "quick", "not run"])
    found = cells(plan, [SLOW, QUICK, *other])
    assert found.keys() == {"slow", "quick"}
    train = "0.000 (0.000-0.000)"
    slow = ["2", "3.750 (3.500-4.000)", train, "1.000", "300", "1.00 (1.00-1.00)"]
    assert found["slow"][:6] == slow and found["slow"][6:] == [
        "1.00 (1.00-1.00)",
        "",
        "",
    ]
    quick = ["2", "2.500 (2.000-3.000)", train, "1.500", "300", "2.00 (1.00-3.00)"]
    assert found["quick"][:6] == quick and found["quick"][6:] == [
        "0.75 (0.50-1.00)",
        "7.5",
        "7.50",
    ]


def test_an_arm_that_never_is_as_good_is_not_sooner():
    plan = dict(reference="quick", arms=["slow"])
    assert cells(plan, [SLOW, QUICK])["slow"][5] == ""


@pytest.mark.parametrize(
    "plan",
    sorted((ROOT / "experiments/optimizer").glob("*.yaml")),
    ids=lambda p: p.stem,
)
def test_the_page_is_what_the_command_prints(plan, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["quality.py", str(plan), "--table"])
    quality.main()
    page = (ROOT / "benchmarks/NOTES.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() in page


SEARCH = ROOT / "experiments/optimizer/search.yaml"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["none.yaml", "--table"], "error: no YAML file none.yaml"),
        ([SEARCH], "error: --data_folder is missing"),
        ([SEARCH, "--data_folder", "x", "--arms", "nwe"], "error: no arm 'nwe' in"),
    ],
)
def test_a_command_that_cannot_run_is_told_so(monkeypatch, capsys, words, sentence):
    monkeypatch.setattr(sys, "argv", ["quality.py", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        quality.main()
    assert sentence in f"{capsys.readouterr().err}{caught.value}"


# Files that have other names since pieces with Muon and AdamW were run.
RENAMED = {
    "birq_muon_tiny.yaml": "birq_tiny.yaml",
    "birq_tiny.yaml": "birq_adamw_tiny.yaml",
}


def test_every_stored_piece_is_of_its_plan_and_says_where_it_ran():
    for plan in (ROOT / "experiments/optimizer").glob("*.yaml"):
        arms = yaml.safe_load(plan.read_text())["arms"]
        for path in plan.with_suffix("").glob("*.json"):
            piece = json.loads(path.read_text())
            assert path.stem == f"{piece['arm']}-{piece['seed']}"
            arm, name = dict(arms[piece["arm"]]), piece["settings"]["yaml"]
            assert arm.pop("yaml") in (name, RENAMED.get(name))
            assert arm.items() <= piece["settings"].items()
            assert piece["commit"] and piece["machine"] and piece["command"], path


@pytest.mark.slow
def test_a_plan_is_run_once_and_fine_tuned(_corpus_template, tmp_path):
    size = dict(n_mels=40, num_layers=2, d_model=16, nhead=2, d_ffn=32, num_codes=16)
    common = dict(train_split="train", batch_seconds=4, number_of_epochs=1)
    plan = dict(
        reference="adamw",
        seeds=[1],
        test_split="test",
        pretrain=size | common | dict(total_steps=3, label_layer=1),
        finetune=common | dict(batch_seconds=5, fresh_layers=0),
        arms=dict(
            adamw=dict(yaml="birq_adamw_tiny.yaml"), muon=dict(yaml="birq_tiny.yaml")
        ),
    )
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, ROOT / "benchmarks/quality.py", tmp_path / "plan.yaml"]
    command += ["--output_folder", tmp_path / "runs", "--data_folder"]
    for data in (_corpus_template, "nowhere"):  # the second time nothing is run
        done = subprocess.run(
            [*map(str, command), str(data)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        (_, _, *rows) = done.stdout.splitlines()
        assert [row.split()[1] for row in rows] == ["adamw", "muon"]
    piece = json.loads((tmp_path / "plan" / "muon-1.json").read_text())
    assert piece["cpu_seconds"] > 0
    assert piece["cer"] > 0


@pytest.mark.parametrize("command", [quality, compare])
def test_a_piece_is_stored_complete_or_not_at_all(command, tmp_path, monkeypatch):
    plan = {"arms": {"quick": None}, "seeds": [1], "pretrain": {}, "finetune": {}}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan | {"test_split": "test"}))
    path = tmp_path / "plan" / "quick-1.json"
    monkeypatch.setattr(quality, "run_piece", lambda *arguments: QUICK)
    for name in ("train", "add_scores", "stored_command"):
        monkeypatch.setattr(compare, name, lambda *arguments: "")
    for name in ("write_text", "write_bytes"):
        monkeypatch.setattr(Path, name, written_by_half)
    words = ["", str(tmp_path / "plan.yaml"), "--data_folder", "nowhere"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(OSError, match="full"):
        command.main()
    assert not path.exists()


def written_by_half(path, content, *options):
    with open(path, "wb") as file:
        file.write(b"{")
    raise OSError("the disk is full")
