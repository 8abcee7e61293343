"""Random input to readers of files and settings: only one sentence may come out."""

import importlib.util
from pathlib import Path

import pytest

from speechbrain_birq.errors import BadInput

pytestmark = pytest.mark.faults
PATH = Path(__file__).parents[2] / "tests/robustness/fuzz.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("target", "examples"),
    [
        *(("manifest", 150), ("transcript", 100), ("shards", 50), ("archives", 150)),
        *(("overrides", 25), ("run_folder", 50)),
    ],
)
def test_nothing_but_one_sentence_comes_out(fuzz, target, examples):
    assert fuzz.fuzz(target, examples) >= examples // 2


def test_another_error_is_found(fuzz, monkeypatch):
    monkeypatch.setattr(fuzz, "read_manifest", lambda path: [][path.stat().st_size])
    with pytest.raises(IndexError):
        fuzz.fuzz("manifest", 20)


def test_what_is_run_is_found(fuzz):
    import subprocess

    with pytest.raises(fuzz.Told, match="was run"), fuzz.only_bad_input():
        subprocess.run(["true"], check=True)


@pytest.mark.parametrize("text", ["two\nlines", "long " * 100])
def test_a_sentence_that_is_none_is_found(fuzz, text):
    with pytest.raises(fuzz.Told, match="no short sentence"), fuzz.only_bad_input():
        raise BadInput(text)
