"""The first command of docs/distributed.md trains past a corrupt recording."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from small_runs import ROOT, TINY

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs/distributed.md"


def command_for_one_machine():
    """Return the torchrun command of the first block, and its environment."""
    block = re.search(r"```\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)[1]
    export, command = block.replace("\\\n", " ").strip().splitlines()
    name, value = export.removeprefix("export ").split("=")
    return shlex.split(command), {name: value}


def corrupt_body(path):
    """Clear the audio of a FLAC file; its header stays valid."""
    data = path.read_bytes()
    path.write_bytes(data[:200] + bytes(len(data) - 200))
    assert soundfile.info(path).frames > 0
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.read(path)


def test_one_machine_trains_past_a_corrupt_recording(corpus, tmp_path):
    corrupt = sorted((corpus / "train").rglob("*.flac"))[0]
    corrupt_body(corrupt)
    (program, *words), environment = command_for_one_machine()
    assert program == "torchrun"
    words[words.index("--nproc-per-node") + 1] = "2"
    words[words.index("--data_folder") + 1] = str(corpus)
    words[words.index("--precision") + 1] = "fp32"
    settings = TINY | dict(
        output_folder=tmp_path / "run",
        train_split="train",
        valid_split="dev",
        label_layer=1,
        num_workers=1,
        number_of_epochs=9,
        optimizer_step_limit=6,
        max_seconds=20,
        batch_seconds=2,
        distributed_backend="gloo",
        noprogressbar=None,
    )
    for key, value in settings.items():
        words += [f"--{key}"] + ([] if value is None else [str(value)])
    launcher = [sys.executable, "-m", "torch.distributed.run"]
    done = subprocess.run(
        [*launcher, *words],
        cwd=ROOT,
        env=os.environ | environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "run/results.json").read_text())["steps"] == 6
    log = (tmp_path / "run/log.txt").read_text() + done.stderr
    assert re.search(f"skipped.*{re.escape(str(corrupt))}", log)
    assert Path(tmp_path / "run/curves.png").exists()
