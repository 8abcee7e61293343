"""The demo, in its shortest form, and what it says of its figures."""

import json

import pytest

from speechbrain_birq.cli.demo import format_table, run_demo, verdict


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Folder of a demo of a few steps, and its rows."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, run_demo(folder, hours=0.1, steps=4, epochs=1, seed=0)


@pytest.mark.slow
def test_the_demo_keeps_the_rows_of_its_table(demo):
    folder, rows = demo
    kept = json.loads((folder / "demo.json").read_text())
    assert kept["rows"] == rows
    assert [row["arm"] for row in rows] == ["scratch", "BEST-RQ", "BiRQ"]
    assert all(row["cpu_seconds"] > 0 for row in rows)
    assert (folder / "demo.png").is_file()


@pytest.mark.slow
def test_the_arms_differ_in_the_pretraining_only(demo):
    folder, _ = demo
    pretrained = folder / "best_rq_pretrained", folder / "birq_pretrained"
    last = [
        json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
        for run in pretrained
    ]
    assert ["F" in row for row in last] == [False, True]
    for run in ("scratch", "best_rq", "birq"):
        text = (folder / run / "hyperparams.yaml").read_text()
        assert "\nseed: 0" in text, run
        assert "\nfresh_layers: 2" in text, run


def arm(name, cer):
    return dict(arm=name, wer=50.0, cer=cer, G=None, cpu_seconds=1)


def test_the_verdict_has_a_line_for_each_pretrained_arm():
    rows = [arm("scratch", 30.0), arm("BEST-RQ", 29.0), arm("BiRQ", 31.0)]
    first, second = verdict(rows).splitlines()
    assert first.startswith("BEST-RQ beat") and "29.0 against 30.0" in first
    assert second.startswith("BiRQ did not beat") and "31.0 against 30.0" in second


def test_the_table_has_a_line_an_arm():
    assert len(format_table([arm("a", 1.0), arm("b", 2.0)]).splitlines()) == 3
