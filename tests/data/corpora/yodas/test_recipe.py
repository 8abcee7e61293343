"""The recipes of YODAS: prepare, then pretrain."""

import json
import runpy
import sys

import pytest
from small_runs import process_wide_settings_restored
from small_yodas import ROOT, Killed, killing

from speechbrain_birq.config import flatten
from speechbrain_birq.data.corpora.yodas import archives as yodas_archives
from speechbrain_birq.data.corpora.yodas.archives import decode
from speechbrain_birq.data.corpora.yodas.prepare import find_yodas
from speechbrain_birq.data.corpora.yodas.utterance_list import UtteranceList
from speechbrain_birq.errors import BadInput


def test_the_recipe_takes_what_the_function_takes(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys,
        "argv",
        [
            *("prepare.py", "--output_folder", str(tmp_path / "shards")),
            *("--hours", "0.005", "--dev_hours", "0.001", "--seed", "3"),
            *("--languages", "en001", "en000", "--endpoint", hub.endpoint),
            *("--min_seconds", "0.6", "--max_seconds", "10", "--revision", "main"),
        ],
    )
    runpy.run_path(str(ROOT / "recipes" / "YODAS" / "prepare.py"), run_name="__main__")
    settings = json.loads((tmp_path / "shards" / "selection.json").read_text())
    assert settings["settings"] == {
        "hours": 0.005,
        "dev_hours": 0.001,
        "seed": 3,
        "languages": ["en000", "en001"],
        "min_seconds": 0.6,
        "max_seconds": 10.0,
        "revision": "main",
    }
    assert "written" in capsys.readouterr().out


def pretrain(shards, output_folder, monkeypatch):
    """recipes/YODAS/pretrain.py with the tiniest of models."""
    yaml = str(ROOT / "hparams" / "birq_tiny.yaml")
    tiny = "--num_layers=2 --d_model=16 --nhead=2 --d_ffn=32 --label_layer=1"
    short = "--train_split=train --batch_seconds=6 --number_of_epochs=1 --device=cpu"
    folders = [f"--data_folder={shards}", f"--output_folder={output_folder}"]
    logs = ["--tensorboard=False", "--noprogressbar"]
    argv = ["pretrain.py", yaml, *tiny.split(), *short.split(), *folders, *logs]
    monkeypatch.setattr(sys, "argv", argv)
    recipe = ROOT / "recipes" / "YODAS" / "pretrain.py"
    with process_wide_settings_restored():
        runpy.run_path(str(recipe), run_name="__main__")


@pytest.mark.slow
def test_pretraining_reads_the_shards(prepare, tmp_path, monkeypatch):
    prepare()
    pretrain(tmp_path / "shards", tmp_path / "run", monkeypatch)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert 7 <= results["steps"] <= 12  # 36 s in batches of at most 6 s
    assert 0 < results["valid"]["G"] < 9


@pytest.mark.slow
def test_a_preparation_killed_in_its_train_part_is_refused_by_pretraining(
    prepare, hub, tmp_path, monkeypatch, fails
):
    with monkeypatch.context() as patch:
        patch.setattr(yodas_archives, "decode", killing(decode, 25))
        with pytest.raises(Killed):
            prepare()
    fails(
        lambda: pretrain(tmp_path / "shards", tmp_path / "run", monkeypatch),
        str(tmp_path / "shards" / "train"),
        "not finished",
    )


@pytest.mark.parametrize("begun", [False, True])
def test_pretraining_on_shards_that_are_not_there_is_refused(tmp_path, begun):
    if begun:
        UtteranceList(tmp_path).save({}, "c0ffee", [], [])
    words = "not finished: give again" if begun else "prepare them with"
    with pytest.raises(BadInput, match=rf"no shards train and dev.* {words} python"):
        find_yodas(tmp_path, ["train", "dev"], tmp_path)


@pytest.mark.parametrize("kind", ["birq", "birq_paper", "best_rq"])
def test_the_papers_model_takes_the_splits_that_are_written(kind):
    keys = flatten(ROOT / "hparams" / f"{kind}_large_yodas.yaml")
    assert (keys["train_split"], keys["valid_split"]) == ("train", "dev")


def test_the_recipe_ends_with_one_sentence(tmp_path, monkeypatch, fails):
    monkeypatch.setattr(
        sys, "argv", ["prepare.py", "--output_folder", str(tmp_path), "--hours", "-1"]
    )
    recipe = str(ROOT / "recipes" / "YODAS" / "prepare.py")
    fails(lambda: runpy.run_path(recipe, run_name="__main__"), "--hours")
