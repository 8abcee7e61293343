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


SMALL = dict(num_layers=2, label_layer=1, d_model=16, nhead=2, d_ffn=32)


@pytest.mark.parametrize("size", ["tiny", "base", "wide", "large", "large_yodas"])
@pytest.mark.parametrize("kind", ["birq", "birq_paper"])
def test_the_paper_files_have_the_papers_form_and_the_others_stop_it(
    tmp_path, kind, size
):
    loaded = load_configuration(
        ROOT / "hparams" / f"{kind}_{size}.yaml",
        {"data_folder": "x", "output_folder": str(tmp_path), **SMALL},
    ).hparams
    model, paper = loaded["model"], kind == "birq_paper"
    assert model.heads.shared == paper
    assert model.selector.gradient == paper
    assert model.selector.noise == paper
    assert model.selector.temperature == (0.5 if paper else 0.05)
    assert model.label_norm.kind == ("layer" if paper else "channel")
    assert model.anchor_quantizer.codebook.l2_normalize != paper
    weights = loaded["enhanced_weight"].value, loaded["anchor_weight"].value
    assert weights == ((0.1, 2.4) if paper else (0.3, 1.0))
