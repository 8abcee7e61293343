"""What a user's own class raises is shown as Python shows it, with file and line."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from small_runs import PRETRAIN, ROOT, log, pretrain

from speechbrain_birq.config.loader import load_configuration
from speechbrain_birq.errors import BadInput

STOCK = "!new:speechbrain_birq.models.SpeechBrainEncoder"
OWN = """
import torch
import speechbrain_birq.data.loaders
from speechbrain_birq.brains import BiRQBrain
from speechbrain_birq.models import SpeechBrainEncoder

# A process that reads must not keep a failed training from ending.
speechbrain_birq.data.loaders.GRACE = 1000

class Plain(SpeechBrainEncoder):
    pass

class FailsWhenBuilt(SpeechBrainEncoder):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        {statement}

class FailsInForward(SpeechBrainEncoder):
    def forward(self, *arguments, **keywords):
        {statement}

class Brain(BiRQBrain):
    def __init__(self, *arguments, **keywords):
        {statement}
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """own(statement, encoder=STOCK): birq_tiny.yaml with classes of own_parts.py."""

    def make(statement, encoder=STOCK):
        path = tmp_path / "own_parts.py"
        path.write_text(OWN.format(statement=statement), encoding="utf-8")
        hparams = shutil.copytree(ROOT / "hparams", tmp_path / "hparams")
        yaml = hparams / "birq_tiny.yaml"
        text = yaml.read_text(encoding="utf-8")
        assert STOCK in text
        yaml.write_text(text.replace(STOCK, encoder), encoding="utf-8")
        return yaml

    monkeypatch.syspath_prepend(tmp_path)
    yield make
    sys.modules.pop("own_parts", None)


def assert_shown(yaml, corpus, error):
    """The recipe, in a process of its own, ends with a traceback and status 1."""
    settings = PRETRAIN | dict(data_folder=corpus, output_folder="run", num_workers=1)
    recipe = ROOT / "recipes/LibriSpeech/pretrain.py"
    argv = [f"--{key}={value}" for key, value in settings.items()]
    folder = yaml.parents[1]
    done = subprocess.run(
        [sys.executable, str(recipe), str(yaml), "--noprogressbar", *argv],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 1, told
    assert f'File "{folder / "own_parts.py"}", line ' in told
    assert error in told
    assert not re.search("^error: ", told, re.MULTILINE)


def test_an_encoder_that_cannot_be_built_is_shown(own, _corpus_template):
    """The innermost line is torch's, the user's line is above it."""
    yaml = own("torch.nn.Linear(-1, 3)", "!new:own_parts.FailsWhenBuilt")
    assert_shown(yaml, _corpus_template, "negative dimension -1")


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ('raise RuntimeError("my own mistake")', "RuntimeError: my own mistake"),
        ("raise FileNotFoundError", "FileNotFoundError\n"),
    ],
)
def test_an_encoder_that_fails_is_shown(own, _corpus_template, statement, error):
    yaml = own(statement, "!new:own_parts.FailsInForward")
    assert_shown(yaml, _corpus_template, error)
    assert "own_parts.py" in log(yaml.parents[1] / "run")


@pytest.mark.parametrize(
    "error", [AttributeError, ImportError, OSError, RuntimeError, TypeError, ValueError]
)
def test_no_kind_of_error_of_an_encoder_becomes_a_sentence(own, tmp_path, error):
    """These are the kinds by which our own classes refuse arguments."""
    yaml = own(f"raise {error.__name__}('mine')", "!new:own_parts.FailsWhenBuilt")
    with pytest.raises(error, match="mine"):
        pretrain(tmp_path, tmp_path / "run", yaml)


def test_a_module_that_cannot_be_imported_is_no_sentence(own, tmp_path):
    """The error is the module's, not pydoc's, which names no line."""
    yaml = own("pass)", "!new:own_parts.Plain")
    with pytest.raises(SyntaxError) as caught:
        pretrain(tmp_path, tmp_path / "run", yaml)
    assert caught.value.filename == str(tmp_path / "own_parts.py")


def test_an_own_brain_that_cannot_be_built_is_no_sentence(own, _corpus_template):
    yaml = own("raise ValueError('mine')")
    brain = yaml.read_text(encoding="utf-8")
    stock = "!name:speechbrain_birq.brains.BiRQBrain"
    assert stock in brain
    yaml.write_text(brain.replace(stock, "!name:own_parts.Brain"), encoding="utf-8")
    with pytest.raises(ValueError, match="mine"):
        pretrain(_corpus_template, yaml.parents[1] / "run", yaml)


def test_an_argument_that_our_constructor_refuses_is_one_sentence(own, tmp_path):
    """The user's class adds no line of its own, so the YAML file is to blame."""
    yaml = own("pass", "!new:own_parts.Plain")
    overrides = {"data_folder": "x", "output_folder": str(tmp_path / "run")}
    with pytest.raises(BadInput, match="nhead"):
        load_configuration(yaml, overrides | {"nhead": 7})
