"""docs/data.md: the commands for own data run as they stand."""

import csv
import importlib.util
import json
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from small_runs import ROOT, process_wide_settings_restored

from speechbrain_birq.data.corpora.librispeech import find_utterances

PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
(BLOCK,) = re.findall(r"<!-- forms -->\n```\n(.*?)```", PAGE, re.S)
COMMANDS = BLOCK.splitlines()
SMALL = dict(
    num_layers=2,
    d_model=16,
    nhead=2,
    d_ffn=32,
    kernel_size=5,
    batch_seconds=4,
    optimizer_step_limit=1,
    tensorboard=False,
    device="cpu",
)
HAS_DATASETS = importlib.util.find_spec("datasets") is not None


def write_table(path, rows):
    """Write rows of path and text in the form that the suffix says."""
    with open(path, "w", newline="") as file:
        if path.endswith(".jsonl"):
            for row in rows:
                print(json.dumps({"path": row.wav, "text": row.text}), file=file)
        else:
            table = csv.writer(file, "excel-tab" if "tsv" in path else "excel")
            table.writerow(["path", "text"])
            table.writerows((row.wav, row.text) for row in rows)


@pytest.fixture
def own(corpus, tmp_path, monkeypatch):
    """A folder with every file that the commands name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("recipes", "hparams"):
        Path(name).symlink_to(ROOT / name)
    rows = {split: find_utterances(corpus, split) for split in ("train", "dev", "test")}
    for path in ("corpus.csv", "corpus.tsv"):
        write_table(path, rows["train"])
    write_table("dev.jsonl", rows["dev"])
    write_table("test.jsonl", rows["test"])
    Path("recordings").mkdir()
    for row in rows["test"]:
        shutil.copy(row.wav, "recordings")
    shutil.copytree(corpus / "dev", "LibriSpeech/dev-clean")
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line[-40:])
def test_a_command_runs_as_it_stands(own, monkeypatch, line):
    words = shlex.split(line, comments=True)
    if "saved_dataset" in words:
        if not HAS_DATASETS:
            pytest.skip("the package datasets is not installed")
        import datasets

        columns = {"audio": [row.wav for row in own["train"]]}
        made = datasets.Dataset.from_dict(columns)
        made.cast_column("audio", datasets.Audio()).save_to_disk("saved_dataset")
    more = SMALL | ({} if "finetune.py" in line else {"label_layer": 1})
    if "finetune.py" in line:
        more["fresh_layers"] = 0
    argv = [*words[1:], "--noprogressbar", *(f"--{k}={v}" for k, v in more.items())]
    with process_wide_settings_restored():
        monkeypatch.setattr(sys, "argv", argv)
        runpy.run_path(words[1], run_name="__main__")
    (results,) = Path("results").glob("*/results.json")
    assert json.loads(results.read_text())["steps"] == 1
    assert "test.jsonl" in results.read_text() or "pretrain.py" in line


def test_every_form_has_a_command():
    splits = set(re.findall(r"--train_split (\S+)", BLOCK))
    suffixes = {Path(split).suffix for split in re.findall(r"\S+\.\w+", BLOCK)}
    assert {".csv", ".tsv", ".jsonl"} <= suffixes
    assert {"recordings", "saved_dataset", "corpus.csv+recordings"} <= splits
