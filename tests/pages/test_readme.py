"""README: its commands, paths and length; the paper's form as a file."""

import re
from pathlib import Path

import pytest

from speechbrain_birq.cli.main import make_parser
from speechbrain_birq.config import load_configuration

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["demo", "test"])
def test_each_command_that_ci_reads_is_complete(name):
    (command,) = re.findall(rf"<!-- command: {name} -->\n```\n(.*?)```", README, re.S)
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -e ")
    assert command.count("\n") == 1


def test_the_readme_has_at_most_150_lines():
    assert README.count("\n") <= 150


def test_every_path_that_is_named_exists():
    for path in re.findall(
        r"(?:hparams|recipes|docs|benchmarks)/[\w/]+\.(?:yaml|py|md)", README
    ):
        assert (ROOT / path).is_file(), path


def test_every_birq_command_exists():
    commands = set(re.findall(r"^birq (\w+)", README, re.M))
    known = make_parser().format_help()
    assert commands
    assert all(re.search(rf"^    {command}\b", known, re.M) for command in commands)


def test_birq_paper_tiny_has_the_papers_form(tmp_path):
    paper = load_configuration(
        ROOT / "hparams" / "birq_paper_tiny.yaml",
        {"data_folder": "x", "output_folder": str(tmp_path)},
    ).hparams
    model = paper["model"]
    assert model.heads.shared and model.selector.gradient and model.selector.noise
    assert model.selector.temperature == 0.5
    assert model.label_norm.kind == "layer"
    assert not model.anchor_quantizer.codebook.l2_normalize
    assert (paper["enhanced_weight"].value, paper["anchor_weight"].value) == (0.1, 2.4)
