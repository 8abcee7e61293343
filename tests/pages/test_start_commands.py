"""Commands of docs/data.md and docs/training.md that start from names and from runs."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from small_runs import FINETUNE, PRETRAIN, ROOT, process_wide_settings_restored

from speechbrain_birq.cli.main import main

SIZES = ("n_mels", "num_layers", "d_model", "nhead", "d_ffn", "kernel_size")


def commands(page, heading):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    for block in re.findall(r"^```\n(birq .*?)^```", section, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"birq (pretrain|finetune) ", line):
                yield shlex.split(line, comments=True)[1:]


FROM_NAMES = list(commands("data.md", "Your own data"))
FROM_RUNS = list(commands("training.md", "Go on from a run"))


def small(words):
    """The command with the sizes of a tiny model and two steps."""
    settings = PRETRAIN if words[0] == "pretrain" else FINETUNE
    settings = settings | dict(optimizer_step_limit=2)
    given = {word.removeprefix("--") for word in words}
    from_run = "--pretrained" in words
    kept = {
        key: value
        for key, value in settings.items()
        if key not in given and not (from_run and key in SIZES)
    }
    if "hyperparams.yaml" in words[1]:  # has them all
        kept = {key: kept[key] for key in ("optimizer_step_limit", "device")}
    return [*words, *(f"--{key}={value}" for key, value in kept.items())]


@pytest.mark.slow
def test_every_command_trains_as_it_stands(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split, source in (("mine", "train"), ("held-out", "dev")):
        shutil.copytree(corpus / source, corpus / split)
    assert [words[:2] for words in FROM_NAMES] == [
        ["pretrain", "birq_tiny"],
        ["finetune", "ctc_tiny"],
    ]
    assert len(FROM_RUNS) == 2
    for words in [*FROM_NAMES, *FROM_RUNS]:
        words = [word.replace("/data/mine", str(corpus)) for word in words]
        with process_wide_settings_restored():
            main([*small(words), "--noprogressbar"])
    folders = "birq_tiny ctc_tiny birq_mine ctc_mine".split()
    for name in folders:
        results = json.loads(Path(f"results/{name}/results.json").read_text())
        assert results["steps"] == 2, name
    record = json.loads(Path("results/ctc_mine/pretrained.json").read_text())
    assert record["kept"].endswith("tokens and output layer")
