"""What a wheel holds, and an installed package at work, far from a checkout."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from small_runs import PRETRAIN, ROOT

SOURCES = ("setup.py", "README.md", "speechbrain_birq", "hparams", "recipes", "weights")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The files of a wheel: built of a copy, because the build writes beside it."""
    pytest.importorskip("setuptools")
    copy = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "results")
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "setup.py", "-q", "build", "--build-lib", "installed"]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    return copy / "installed"


def files(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    kept = (path for path in paths if "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)) for path in kept}


@pytest.mark.parametrize("name", ["hparams", "recipes", "weights"])
def test_a_wheel_holds_every_file_of(installed, name):
    inside = files(installed / "speechbrain_birq" / name)
    assert inside == files(ROOT / name)
    assert len(inside) > 5


def test_a_wheel_holds_every_module(installed):
    inside = files(installed / "speechbrain_birq")
    assert files(ROOT / "speechbrain_birq") <= inside


@pytest.fixture
def python(installed, tmp_path):
    """python(words...): the output of the interpreter, in another folder."""
    environment = os.environ | {"PYTHONPATH": str(installed)}

    def python(*words):
        command = [sys.executable, *map(str, words)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return python


def test_an_installed_package_has_the_files_in_it(python, installed):
    code = (
        "from speechbrain_birq.config.shipped import carried_folder as folder; "
        "print(folder('hparams'))"
    )
    assert python("-c", code).strip() == str(installed / "speechbrain_birq/hparams")


@pytest.mark.slow
def test_an_installed_package_trains_by_names(python, corpus, tmp_path):
    settings = dict(data_folder=corpus) | PRETRAIN
    words = ["best_rq_tiny", *(f"--{key}={value}" for key, value in settings.items())]
    flat = python("-m", "speechbrain_birq", "config", *words)
    assert "enhanced_weight_value: 0.0" in flat and "num_layers: 2" in flat
    python("-m", "speechbrain_birq", "pretrain", *words, "--noprogressbar")
    run = tmp_path / "results/best_rq_tiny"
    assert json.loads((run / "results.json").read_text())["steps"] == 3
    assert (run / "hyperparams.yaml").read_text() == flat
