"""The demo, in its shortest form."""

import pytest
from small_runs import process_wide_settings_restored

from speechbrain_birq.cli.demo import format_table, run_demo, verdict


@pytest.mark.slow
def test_the_demo_ends_with_a_table_and_a_verdict(tmp_path, capsys):
    with process_wide_settings_restored():
        run_demo(tmp_path, steps=4, epochs=1, seed=0)
    printed = capsys.readouterr().out
    for arm in ("scratch", "BEST-RQ", "BiRQ"):
        assert arm in printed
    assert "did not beat" in printed.splitlines()[-1]  # four steps cannot
    assert (tmp_path / "demo.png").is_file()


def arm(name, cer):
    return dict(arm=name, wer=50.0, cer=cer, anchor=None, enhanced=None, seconds=1.0)


def test_the_verdict_names_only_arms_that_lost():
    rows = [arm("scratch", 30.0), arm("BEST-RQ", 29.0), arm("BiRQ", 31.0)]
    assert verdict(rows) == (
        "BiRQ did not beat training from scratch (CER 31.0 against 30.0)."
    )


def test_the_verdict_says_when_all_won():
    rows = [arm("scratch", 30.0), arm("BEST-RQ", 29.0), arm("BiRQ", 28.0)]
    assert verdict(rows) == "Every pretrained arm beat training from scratch."


def test_the_table_has_a_line_an_arm():
    assert len(format_table([arm("a", 1.0), arm("b", 2.0)]).splitlines()) == 3
