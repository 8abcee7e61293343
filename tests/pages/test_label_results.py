"""Label experiments: stored pieces are not run again, and the table is right."""

import argparse
import json
import math
import re
import shutil
import sys
from pathlib import Path

import pytest
import ruamel.yaml
from small_runs import TINY

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "experiments" / "labels"))

import chosen as chosen_labels  # noqa: E402
import compare as labels  # noqa: E402
import table as label_table  # noqa: E402

PLAN = {"seeds": [1, 2], "baseline": "base", "arms": {"base": {}, "new": {}}}


def record(arm, seed, errors, seconds=10.0):
    cer = 100 * sum(e for e, _ in errors.values()) / sum(n for _, n in errors.values())
    pretraining = {"G": 2.0 + seed, "anchor_used_codes": 7.0, "anchor_perplexity": 5.0}
    return {
        "arm": arm,
        "seed": seed,
        "cpu_seconds": seconds,
        "pretraining": pretraining,
        "scores": [{"cer": cer}],
        "errors": errors,
    }


@pytest.fixture(autouse=True)
def _this_tree(monkeypatch):
    """Let started processes import this package, installed or not."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def records():
    return [
        record("base", 1, {"a": [4, 10], "b": [6, 30]}),
        record("base", 2, {"a": [2, 10], "b": [8, 30]}),
        record("new", 1, {"a": [1, 10], "b": [3, 30]}, 15.0),
        record("new", 2, {"a": [1, 10], "b": [5, 30]}, 15.0),
    ]


def cells(records, arm):
    for line in label_table.table(PLAN, records).splitlines():
        found = [cell.strip() for cell in line.strip("|").split("|")]
        if found[0] == arm:
            return found
    raise AssertionError(f"no row for {arm}")


def test_a_row_has_each_seed_the_mean_and_the_standard_deviation(records):
    assert cells(records, "new")[1:6] == ["2", "2", "10.0 15.0", "12.50", "3.54"]


def test_a_row_has_the_cost_and_the_figures_of_the_labels(records):
    assert cells(records, "new")[7:] == ["1.50", "3.50", "7, 5", ""]


def test_an_arm_is_compared_with_the_same_seeds_of_the_baseline(records):
    """Without seed 2, the new arm's 10 % are compared with the 25 % of seed 1."""
    assert cells(records[:3], "new")[6].startswith("-15.00 ")


def test_the_bootstrap_draws_utterances_with_all_their_seeds(records):
    """Two utterances: a bootstrap sample is one of the three that are listed here."""
    rates = sorted([(2 - 6) / 20, (8 - 14) / 60, (10 - 20) / 80])
    bootstrap = cells(records, "new")[6].split("(")[1].split(";")[0]
    low, high = bootstrap.split(" to ")
    assert low == f"{100 * rates[0]:+.1f}" and high == f"{100 * rates[2]:+.1f}"


def test_the_second_interval_is_that_of_t_over_the_seeds(records):
    """Differences -15 and -10: mean -12.5, standard error 2.5, 1 degree of freedom."""
    over_seeds = cells(records, "new")[6].split("; ")[1].strip(")")
    half = 12.7062 * 2.5
    assert over_seeds == f"{-12.5 - half:+.1f} to {-12.5 + half:+.1f}"
    assert ";" not in cells(records[:3], "new")[6]


def test_two_fine_tunings_enter_with_their_mean(records):
    """The new arm's second fine-tunings make 3 and 6 errors more."""
    for piece, more in zip(records[2:], (3, 6), strict=True):
        piece["errors"] = {
            n: [2 * e + more, 2 * c] for n, (e, c) in piece["errors"].items()
        }
        piece["scores"].append({"cer": piece["scores"][0]["cer"] + 100 * 2 * more / 40})
    row = cells(records, "new")
    assert row[2:4] == ["4", "17.5 30.0"]
    assert row[6].startswith("-1.25 ")  # 19 against 20 errors of 80 characters


def with_labels(piece, **figures):
    piece["pretraining"] |= figures
    return piece


def test_labels_have_a_table_of_means_over_seeds_of_both_kinds(records):
    anchors = {"anchor_accuracy": 0.25, "anchor_bits": 1.0, "anchor_time_bits": 0.5}
    more = {"enhanced_bits": -0.5, "enhanced_time_bits": 0.25}
    with_labels(records[0], **anchors)
    with_labels(records[2], **anchors, **more, mutual_information=math.log(4))
    with_labels(records[3], anchor_bits=2.0)
    head, _, base, new = label_table.label_table(PLAN, records).splitlines()
    assert head.count("|") == base.count("|") == new.count("|")
    assert base == "| base | 0.25 | 1.00 |  | 0.50 |  |"
    assert new == "| new | 0.25 | 1.50, -0.50 |  | 0.50, 0.25 | 2.00 |"


def test_pieces_without_these_figures_have_no_table_of_labels(records):
    assert label_table.label_table(PLAN, records) == ""


def test_the_picture_has_seeds_and_the_interval_around_the_baseline(
    records, tmp_path, monkeypatch
):
    from matplotlib.axes import Axes

    drawn, plot = [], Axes.plot

    def watch(self, x, y, *style, **options):
        drawn.append((list(x), list(y), options["color"]))
        return plot(self, x, y, *style, **options)

    monkeypatch.setattr(Axes, "plot", watch)
    label_table.picture(PLAN, records, tmp_path / "plan.png")
    assert (tmp_path / "plan.png").stat().st_size > 5000
    seeds = [x for x, _, color in drawn if color == "C0" and len(x) == 2]
    assert seeds == [[25.0, 25.0], [10.0, 15.0]]
    ((interval, rows, _),) = [line for line in drawn if line[2] == "C1"]
    found = label_table.difference([2, 8], [6, 14], [20, 60])
    assert interval == pytest.approx([25 + found.low, 25 + found.high])
    assert rows == [1, 1]


def test_an_arm_without_a_record_has_no_row(records):
    assert "new" not in label_table.table(PLAN, records[:2])


@pytest.mark.parametrize(
    "name",
    sorted(path.stem for path in (ROOT / "experiments/labels").glob("*.yaml")),
)
def test_the_page_is_what_the_command_prints(name, monkeypatch, capsys, tmp_path):
    """The command runs on a copy, because it draws the picture again."""
    folder = ROOT / "experiments/labels"
    shutil.copytree(folder / name, tmp_path / name)
    plan = shutil.copy(folder / f"{name}.yaml", tmp_path)
    monkeypatch.setattr(sys, "argv", ["labels.py", str(plan), "--table"])
    labels.main()
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() in page


@pytest.mark.parametrize(
    "plans",
    ["live_kept live_kept_5e4 live_kept_2e4", "live_4000 live_4000_5e4"],
)
def test_the_page_has_the_table_of_the_rates_that_dev_chooses(
    plans, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["chosen.py", *plans.split()])
    chosen_labels.main()
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() in page
    assert f"chosen.py {plans}" in page


def test_dev_chooses_for_each_arm_and_seed_and_test_does_not():
    """Seed 2 is left out, because one plan lacks it."""
    high = {("a", 1): {"dev_cer": [50.0], "scores": [{"cer": 60.0}]}}
    low = {("a", 1): {"dev_cer": [49.0, 50.5], "scores": [{"cer": 70.0}]}}
    high["b", 1], low["b", 1] = {"dev_cer": [40.0]}, {"dev_cer": [41.0]}
    high["a", 2] = {"dev_cer": [1.0]}
    chosen = chosen_labels.choose({"high": high, "low": low})
    assert chosen == {("a", 1): "low", ("b", 1): "high"}


def test_a_plan_that_does_not_exist_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["chosen.py", "live_kept", "live_kpet"])
    with pytest.raises(SystemExit):
        chosen_labels.main()
    assert "no plan live_kpet in " in capsys.readouterr().err


@pytest.mark.slow
def test_pieces_are_run_stored_and_not_run_again(corpus, tmp_path, monkeypatch, capsys):
    small = {k: v for k, v in TINY.items() if k not in ("tensorboard", "device")}
    plan = {
        "pretrain": small | dict(train_split="train", num_codes=16, label_layer=1),
        "finetune": {"number_of_epochs": 1, "batch_seconds": 5, "fresh_layers": 0},
        "finetunings": 2,
        "test_split": "test",
        "seeds": [7],
        "baseline": "best_rq",
        "arms": {"scratch": None, "best_rq": {"yaml": "best_rq_tiny.yaml"}},
    }
    plan["finetune"] |= {k: v for k, v in small.items() if k not in ("n_mels",)}
    path = tmp_path / "plan.yaml"
    ruamel.yaml.YAML().dump(plan, path)
    argv = ["labels.py", str(path), "--data_folder", str(corpus), "--jobs", "2"]
    monkeypatch.setattr(sys, "argv", [*argv, "--output_folder", str(tmp_path / "runs")])
    labels.main()
    kept = {p.name: json.loads(p.read_text()) for p in (tmp_path / "plan").iterdir()}
    assert kept.keys() == {"scratch-7.json", "best_rq-7.json"}
    assert kept["scratch-7.json"]["pretraining"] is None
    assert kept["best_rq-7.json"]["pretraining"]["step"] == 3
    assert kept["best_rq-7.json"]["cpu_seconds"] > 1
    for name, recipes in (
        ("scratch-7.json", ["finetune", "finetune"]),
        ("best_rq-7.json", ["pretrain", "finetune", "finetune"]),
    ):
        assert kept[name]["pretrain"] == plan["pretrain"]
        assert kept[name]["finetune"] == plan["finetune"]
        commands = kept[name]["commands"]
        begun = [f"python recipes/LibriSpeech/{recipe}.py" for recipe in recipes]
        assert [c.partition(" hparams/")[0] for c in commands] == begun
        assert str(tmp_path) not in " ".join(commands)
    assert "--number_of_epochs 1 " in commands[0] and "--seed 10007" in commands[2]
    first, second = kept["best_rq-7.json"]["scores"]
    assert len(kept["best_rq-7.json"]["dev_cer"]) == 2
    seeds = [
        re.search(r"^seed: (\d+)", (run / "hyperparams.yaml").read_text(), re.M)[1]
        for run in sorted((tmp_path / "runs/plan/best_rq-7").glob("finetune*"))
    ]
    assert seeds == ["7", "10007"] and first["utterances"] == second["utterances"]
    assert (tmp_path / "plan.png").stat().st_size > 5000
    assert "| scratch | 1 |" in capsys.readouterr().out

    monkeypatch.setattr(labels, "run_piece", lambda *_: pytest.fail("run again"))
    labels.main()


def test_the_yaml_of_an_arm_may_lie_beside_its_pieces(tmp_path, monkeypatch):
    def train(recipe, run, settings, common):
        started.append(settings["yaml"])
        run.mkdir(parents=True)
        (run / "command.txt").write_text(f"{recipe} lr 1.0")
        (run / "results.json").write_text('{"valid": {}, "test": {"cer": 1.0}}')
        rows = [{"stage": "valid", "step": n, "cer": c} for n, c in ((1, 3.5), (2, 4))]
        (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
        (run / "errors_test.csv").write_text("id,character_errors,characters\na,1,9\n")
        return 1.0

    started, kept = [], tmp_path / "plan"
    kept.mkdir()
    (kept / "mine.yaml").write_text("")
    options = argparse.Namespace(
        plan=tmp_path / "plan.yaml", output_folder=tmp_path, data_folder="", device=""
    )
    arms = {"own": {"yaml": "mine.yaml"}, "shipped": {"yaml": "birq_tiny.yaml"}}
    plan = {"arms": arms, "pretrain": {"lr": 1.0}, "finetune": {"dropout": 0.5}}
    plan["test_split"] = "test"
    monkeypatch.setattr(labels, "train", train)
    for arm in arms:
        labels.run_piece(arm, 1, plan, kept / f"{arm}-1.json", options)
    own, _, shipped, _ = started
    assert own == kept / "mine.yaml" and shipped == "birq_tiny.yaml"
    piece = json.loads((kept / "own-1.json").read_text())
    assert piece["settings"] == {"yaml": "mine.yaml"}
    assert (piece["pretrain"], piece["finetune"]) == ({"lr": 1.0}, {"dropout": 0.5})
    commands = [f"{recipe} lr 1.0" for recipe in ("pretrain", "finetune")]
    assert piece["commands"] == commands
    assert piece["dev_cer"] == [3.5]  # the lowest, not the last
    assert piece["commit"] and "cores" in piece["machine"]


def test_a_stored_command_has_no_folder_of_the_machine(tmp_path):
    yaml, data = str(ROOT / "hparams/birq_tiny.yaml"), str(tmp_path / "my corpus")
    words = [sys.executable, yaml, "--data_folder", data, "--output_folder", "runs/a"]
    expected = "python hparams/birq_tiny.yaml --data_folder 'my corpus'"
    assert labels.command_text(words) == f"{expected} --output_folder runs/a"
    assert labels.stored_command(tmp_path) == ""  # of a run of an earlier version


def test_a_piece_with_too_few_fine_tunings_is_missing(tmp_path):
    path = tmp_path / "base-1.json"
    path.write_text(json.dumps({"scores": [{}]}))
    assert [labels.missing(path, {"finetunings": n}) for n in (1, 2)] == [False, True]
    assert labels.missing(tmp_path / "base-2.json", {})


@pytest.mark.slow
def test_a_failed_run_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"failed: see .*output.txt"):
        labels.train(
            "pretrain", tmp_path, {"yaml": "best_rq_tiny.yaml"}, {"data_folder": "none"}
        )
    assert "none" in (tmp_path / "output.txt").read_text()


def test_an_unknown_arm_is_named(tmp_path, monkeypatch):
    path = tmp_path / "plan.yaml"
    ruamel.yaml.YAML().dump(PLAN, path)
    monkeypatch.setattr(
        sys, "argv", ["labels.py", str(path), "--data_folder", "x", "--arms", "nwe"]
    )
    with pytest.raises(SystemExit, match=r"no arm 'nwe'.*base, new"):
        labels.main()
