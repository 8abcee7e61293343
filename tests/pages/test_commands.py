"""The commands on the pages: their files exist, their options and keys are known."""

import re
import shlex
from pathlib import Path

import pytest

from speechbrain_birq.cli.main import make_parser
from speechbrain_birq.config import configure, parse_arguments

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [*sorted((ROOT / "recipes").rglob("*.md")), ROOT / "benchmarks/NOTES.md"]
# What the reader fills in; docs/encoders.md has a copy of birq_tiny.yaml.
FILLED_IN = {"hparams/birq_lstm.yaml": "hparams/birq_tiny.yaml", "RATE": "0.001"}


def commands(page):
    """Return the commands in blocks without a language, as lists of words."""
    found = []
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```\n(.*?)^```", text, re.M | re.S):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            if re.match(r"(python|birq|torchrun|srun torchrun) ", line):
                words = shlex.split(re.sub(r"[\[\]]", "", line), comments=True)
                found.append([FILLED_IN.get(word, word) for word in words])
    return found


COMMANDS = [
    pytest.param(words, id=f"{page.relative_to(ROOT)}: {' '.join(words)[:60]}")
    for page in PAGES
    for words in commands(page)
]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_names_files_options_and_keys_that_exist(words):
    if "speechbrain_birq" in words:  # torchrun -m speechbrain_birq pretrain ...
        words = ["birq", *words[words.index("speechbrain_birq") + 1 :]]
    if words[0] == "birq":
        make_parser().parse_args(words[1:])
        if words[1] in ("pretrain", "finetune") and not words[2].startswith("results/"):
            path, _, keys = parse_arguments(words[2:])
            configure(path, keys, words[1])
        return
    scripts = [word for word in words if word.endswith(".py")]
    assert len(scripts) == 1 and (ROOT / scripts[0]).is_file()
    following = words[words.index(scripts[0]) + 1 :]
    if following and following[0].startswith("hparams/"):
        path, _, keys = parse_arguments(following)
        configure(ROOT / path, keys, Path(scripts[0]).stem)


def test_commands_are_found_on_the_pages():
    assert len(COMMANDS) > 80
