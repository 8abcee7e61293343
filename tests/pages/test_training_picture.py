"""docs/training.md says what its kept figures say; its picture can be drawn again."""

import runpy
from math import log
from pathlib import Path

import pytest

from speechbrain_birq.metrics import read_metrics

ROOT = Path(__file__).parents[2]
CURVES = ROOT / "experiments" / "curves"
TEXT = " ".join((ROOT / "docs" / "training.md").read_text(encoding="utf-8").split())


@pytest.fixture
def module():
    return runpy.run_path(str(CURVES / "draw.py"), run_name="drawn")


def rows(name, stage):
    return read_metrics(CURVES / name, stage)


def test_the_picture_is_drawn_from_the_kept_figures(module, tmp_path):
    module["draw"].__globals__["PICTURE"] = tmp_path / "training.png"
    module["draw"]()
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")


def test_the_ramp_s_rise_is_that_of_the_page():
    steps = rows("good", "train")
    lowest = min(row["loss"] for row in steps if row["step"] <= 400)
    highest = max(row["loss"] for row in steps if row["step"] <= 400)
    after = [row["loss"] for row in steps if 0 < row["step"] - 100 <= 300]
    assert f"rises from {lowest:.1f} to {max(after):.1f}" in TEXT
    assert highest == steps[0]["loss"]


def test_the_good_run_ends_below_its_guides_and_the_collapsed_one_above():
    good, collapsed = rows("good", "train")[-1], rows("collapsed", "train")[-1]
    for loss, kind in (("G", "anchor"), ("F", "enhanced")):
        assert good[loss] < log(good[f"{kind}_perplexity"])
    assert collapsed["F"] > log(collapsed["enhanced_perplexity"]) + 1
    first = next(
        r for r in rows("collapsed", "train") if r["enhanced_perplexity"] < 1.01
    )
    assert f"falls to 1 in {first['step']} steps" in TEXT


def test_the_overfitted_run_is_that_of_the_page():
    dev, train = rows("overfitted", "valid"), rows("overfitted", "train")
    best = min(dev, key=lambda row: row["loss"])
    assert f"(CER {best['cer']:.0f} % there, {dev[-1]['cer']:.0f} % at the end)" in TEXT
    words = f"lowest after {best['step']} of {dev[-1]['step']} steps"
    assert words in TEXT
    rise = f"rises from {best['loss']:.1f} to {dev[-1]['loss']:.1f}"
    assert f"{rise} while that of training falls to {train[-1]['loss']:.1f}" in TEXT
