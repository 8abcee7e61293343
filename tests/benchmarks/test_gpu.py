"""gpu.sh: it runs as a whole on a CPU; a failing section does not end the others."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import gpu
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
OPTIONS = Namespace(device="cuda", tiny=False)


def test_all_sections_together_end_within_20_minutes():
    assert sum(gpu.LIMITS.values()) <= 20 * 60


def test_a_section_that_fails_leaves_its_error(monkeypatch):
    code = "import sys; sys.exit('no such device')"
    monkeypatch.setattr(gpu, "command", lambda *_: ["-c", code])
    assert "no such device" in gpu.run("waits", OPTIONS)["error"]


def test_a_section_that_hangs_is_stopped(monkeypatch):
    monkeypatch.setattr(
        gpu, "command", lambda *_: ["-c", "import time; time.sleep(60)"]
    )
    monkeypatch.setitem(gpu.LIMITS, "waits", 1)
    assert gpu.run("waits", OPTIONS)["error"] == "stopped after 1 s"


@pytest.mark.parametrize("name", gpu.LIMITS)
def test_a_section_is_a_script_with_a_file_for_its_figures(name):
    words = gpu.command(name, OPTIONS, Path("figures.json"))
    assert Path(words[0]).is_file()
    assert words[words.index("--json") + 1] == "figures.json"
    assert words[words.index("--device") + 1] == "cuda"


@pytest.mark.slow
def test_the_tiny_form_runs_on_a_cpu(tmp_path):
    path = tmp_path / "gpu.json"
    command = ["bash", FOLDER / "gpu.sh", "--device", "cpu", "--tiny", "--json", path]
    where = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": f"{where}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [*map(str, command)], env=environment, capture_output=True, text=True
    )
    found = json.loads(path.read_text())
    errors = [section.get("error") for section in found["sections"].values()]
    assert done.returncode == 0, errors
    assert list(found["sections"]) == list(gpu.LIMITS)
    figures = {name: one["figures"] for name, one in found["sections"].items()}
    for form in ("printed", "shipped"):
        assert figures["one_rank"][form]["module"] == "DistributedDataParallel"
    assert figures["labels"] == {"frames": 2048, "different": 0.0}
    assert set(figures["waits"]["losses"]) == {"printed", "shipped"}
    assert set(figures["precisions"]) == {"fp32", "bf16"}
    assert [row["model"] for row in figures["full_size"]] == [
        f"{kind}_{size}"
        for size in ("wide", "base", "large")
        for kind in ("birq", "best_rq", "birq_paper")
    ]
    # BiRQ's rows have a label pass, so F is measured.
    assert all(
        (row["F"] is None) == ("best_rq" in row["model"]) and row["F"] != 0
        for row in figures["full_size"]
    )
