"""A copy of hparams/ to edit, and a file to write beside it."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def hparams(tmp_path, monkeypatch):
    """A copy of hparams/; runs write to the test's own folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(ROOT / "hparams", tmp_path / "hparams"))


@pytest.fixture
def load(hparams):
    """load(file, key=value, ...): the configuration of a file in the copy."""
    # pytest loads this file before the package may be imported.
    from speechbrain_birq.config import load_configuration

    def load(name="birq_tiny.yaml", script=None, **overrides):
        return load_configuration(
            hparams / name, {"data_folder": "nowhere"} | overrides, script
        )

    return load


@pytest.fixture
def edit(hparams):
    """edit(file, old, new): replace the first ``old`` in a file of the copy."""

    def edit(name, old, new):
        text = (hparams / name).read_text(encoding="utf-8")
        assert old in text
        (hparams / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return edit


@pytest.fixture
def delta(hparams):
    """delta(text, base): a delta beside the copy; returns its name."""

    def delta(text, base="birq_tiny.yaml"):
        (hparams / "delta.yaml").write_text(
            f"# A delta.\n!include:{base}\n{text}", encoding="utf-8"
        )
        return "delta.yaml"

    return delta
