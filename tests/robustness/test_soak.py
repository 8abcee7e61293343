"""The soak in its short form: kills and corrupt files leave no trace in the weights."""

import os
import subprocess
import sys

import pytest
from small_runs import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def test_half_a_minute_of_kills_leaves_the_weights_of_a_calm_run():
    done = subprocess.run(
        [
            sys.executable,
            "tests/robustness/soak.py",
            *("--minutes", "0.4", "--longest", "20"),
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    table = dict(
        line.split("  ", 1) for line in done.stdout.splitlines() if "  " in line
    )
    table = {name: value.strip() for name, value in table.items()}
    assert table["hashes equal"] == table["same batches"] == "yes"
    assert table["utterances lost"] == "0 (calm run 0)"
    assert int(table["starts again"]) >= 2
    assert int(table["batches skipped"].split()[0]) >= 1
