"""A folder is used by one run at a time: the second process says who holds it."""

import json
import os
import subprocess
import sys

import pytest
from small_runs import FINETUNE, PRETRAIN, ROOT

pytestmark = pytest.mark.faults

TRAIN = """
import sys
from speechbrain_birq import experiment
from speechbrain_birq.data.corpora.librispeech import prepare_librispeech
def prepare(**arguments):
    print("prepares", flush=True)
    sys.stdin.readline()  # until it is told to go on
    return prepare_librispeech(**arguments)
getattr(experiment, sys.argv[1])(prepare, sys.argv[2:])
"""
OLD = ROOT / "tests" / "checkpoints" / "old_layout"
KINDS = {
    "pretrain": ("birq_tiny.yaml", PRETRAIN),
    "finetune": ("ctc_tiny.yaml", FINETUNE),
    "probe": ("probe_tiny.yaml", FINETUNE | {"pretrained": OLD / "pretrained"}),
}


@pytest.fixture
def start(corpus, tmp_path):
    """A function that starts a training in a process of its own."""
    processes = []

    def start(kind):
        yaml, settings = KINDS[kind]
        settings = settings | dict(data_folder=corpus, output_folder=tmp_path / "run")
        options = [f"--{key}={value}" for key, value in settings.items()]
        main = "pretrain" if kind == "pretrain" else "finetune"
        argv = [main, str(ROOT / "hparams" / yaml), "--noprogressbar", *options]
        process = subprocess.Popen(
            [sys.executable, "-c", TRAIN, *argv],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:  # those of tests that fail
        process.kill()
        process.communicate()


def wait_until_it_prepares(process):
    for line in process.stdout:
        if "prepares" in line:
            return
    pytest.fail(process.stderr.read())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pretrain", "finetune", "probe"])
def test_a_second_training_is_refused_and_the_first_goes_on(start, kind, tmp_path):
    first = start(kind)
    wait_until_it_prepares(first)
    second = start(kind)
    _, errors = second.communicate("\n", timeout=100)
    assert second.returncode == 2
    assert f"process {first.pid} on {os.uname().nodename}" in errors
    assert str(tmp_path / "run") in errors and "prepares" not in errors
    _, errors = first.communicate("\n", timeout=200)
    assert first.returncode == 0, errors
    assert json.loads((tmp_path / "run" / "results.json").read_text())["steps"] == 3
