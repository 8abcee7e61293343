"""The commands of the pages to the letter, and a run folder's file run again."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import ruamel.yaml
from small_corpus import copy_split
from small_runs import (
    FINETUNE,
    PRETRAIN,
    ROOT,
    finetune,
    pretrain,
    process_wide_settings_restored,
    run,
)

from speechbrain_birq import experiment
from speechbrain_birq.cli.main import main
from speechbrain_birq.metrics.curves import read_metrics
from speechbrain_birq.models.encoders.layers import ATTENTION

SPLITS = {
    "train": "train-clean-100 train-clean-360 train-other-500",
    "dev": "dev-clean",
    "test": "test-clean test-other",
}
SMALL = """--num_layers 2 --d_model 16 --nhead 2 --d_ffn 32 --kernel_size 5
    --label_layer 1 --n_mels 40 --num_codes 16 --batch_seconds 4 --num_workers 0
    --tensorboard False --optimizer_step_limit 2 --device cpu --noprogressbar""".split()


@pytest.fixture(scope="module")
def librispeech(_corpus_template, tmp_path_factory):
    """The tiny corpus with LibriSpeech's splits; no name is in two of them."""
    folder = tmp_path_factory.mktemp("LibriSpeech")
    for source, names in SPLITS.items():
        for number, name in enumerate(names.split(), 1):
            copy_split(_corpus_template / source, folder / name, number)
    return folder


@pytest.fixture
def start(tmp_path, monkeypatch):
    """start(command): run it in this process; returns the run folder."""
    monkeypatch.chdir(tmp_path)

    def start(script, *words):
        monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
        with process_wide_settings_restored():
            runpy.run_path(str(ROOT / script), run_name="__main__")
        (folder,) = Path("results").iterdir()
        return tmp_path / folder

    return start


def first_row(folder):
    """The first report, losses and all, without its speed."""
    row = read_metrics(folder, "train")[0]
    row.pop("frames_per_second", None)
    return row


def keys(folder):
    return ruamel.yaml.YAML().load(folder / "hyperparams.yaml")


def test_birq_large_on_librispeech(librispeech, start):
    folder = start(
        "recipes/LibriSpeech/pretrain.py",
        ROOT / "hparams/birq_large.yaml",
        *("--data_folder", librispeech, *SMALL),
    )
    assert json.loads((folder / "results.json").read_text())["steps"] == 2
    settings = keys(folder)
    assert settings["train_split"] == "+".join(SPLITS["train"].split())
    assert settings["valid_split"] == "dev-clean"


@pytest.mark.parametrize("kind", ATTENTION)
def test_birq_large_after_one_line_is_changed(librispeech, start, tmp_path, kind):
    text = (ROOT / "hparams/birq_large.yaml").read_text(encoding="utf-8")
    old = "encoder_kind: block_conformer "
    assert text.count(f"\n{old}") == 1
    path = tmp_path / "my_large.yaml"
    path.write_text(text.replace(old, f"encoder_kind: {kind} "), encoding="utf-8")
    words = ("--data_folder", librispeech, *SMALL)
    folder = start("recipes/LibriSpeech/pretrain.py", path, *words)
    assert json.loads((folder / "results.json").read_text())["steps"] == 2
    architecture = (folder / "architecture.yaml").read_text()
    assert f"kind: {kind}\n" in architecture
    assert "attention_window: 200" in architecture


def test_birq_tiny_on_librispeech(librispeech, start):
    folder = start(
        "recipes/LibriSpeech/pretrain.py",
        ROOT / "hparams/birq_tiny.yaml",
        *("--data_folder", librispeech, *SMALL),
        *("--train_split", "train-clean-100", "--valid_split", "dev-clean"),
    )
    assert json.loads((folder / "results.json").read_text())["steps"] == 2


@pytest.mark.parametrize("yaml", ["birq_tiny.yaml", "birq_plus_tiny.yaml"])
def test_a_run_folder_s_file_runs_again(_corpus_template, tmp_path, yaml):
    pretrain(_corpus_template, tmp_path / "one", yaml, max_grad_norm=0.25)
    file = tmp_path / "one" / "hyperparams.yaml"
    assert "\nmax_grad_norm: 0.25 # " in file.read_text()
    again = dict(output_folder=tmp_path / "two", device="cpu")
    run(experiment.pretrain, file, again)
    assert first_row(tmp_path / "two") == first_row(tmp_path / "one")
    expected = file.read_text().replace(f"{tmp_path}/one", f"{tmp_path}/two")
    assert (tmp_path / "two" / "hyperparams.yaml").read_text() == expected


@pytest.fixture(scope="module")
def pretrained(_corpus_template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "pretrained"
    pretrain(_corpus_template, folder, encoder_kind="transformer")
    return folder


def test_a_fine_tuning_s_file_says_what_the_model_is(
    _corpus_template, pretrained, tmp_path
):
    """The command line names no size: 40 mels, a transformer of 2 layers of 16."""
    plain = {key: FINETUNE[key] for key in FINETUNE if key not in SIZES}
    settings = plain | dict(data_folder=_corpus_template, pretrained=pretrained)
    folder = tmp_path / "ctc"
    run(experiment.finetune, "ctc_tiny.yaml", settings, output_folder=folder)
    found = keys(folder)
    true = dict(n_mels=40, num_layers=2, d_model=16, encoder_kind="transformer")
    assert {key: found[key] for key in true} == true
    assert found["encoder"]["num_layers"].value == "<num_layers>"

    again = dict(output_folder=tmp_path / "again", device="cpu")
    run(experiment.finetune, folder / "hyperparams.yaml", again)
    assert first_row(tmp_path / "again") == first_row(folder)


SIZES = ("n_mels", "num_layers", "d_model", "nhead", "d_ffn", "kernel_size")


@pytest.mark.parametrize(
    ("key", "value", "has"), [("num_layers", 6, "2"), ("n_mels", 80, "40")]
)
def test_a_size_beside_pretrained_is_refused(
    _corpus_template, pretrained, tmp_path, fails, key, value, has
):
    fails(
        lambda: finetune(
            _corpus_template, tmp_path / "ctc", pretrained=pretrained, **{key: value}
        ),
        f"{key} comes with the encoder of {pretrained}",
        f"has {has}",
    )
    assert not (tmp_path / "ctc").exists()


def test_birq_config_prints_the_file_that_a_run_writes(
    _corpus_template, tmp_path, capsys
):
    pretrain(_corpus_template, tmp_path / "run", tensorboard=True)
    words = ["config", str(ROOT / "hparams/birq_tiny.yaml")]
    settings = PRETRAIN | dict(
        data_folder=_corpus_template, output_folder=tmp_path / "run", tensorboard=True
    )
    words += [f"--{key}={value}" for key, value in settings.items()]
    capsys.readouterr()
    main(words)
    assert capsys.readouterr().out == (tmp_path / "run/hyperparams.yaml").read_text()


def test_birq_config_refuses_a_misspelled_key(fails):
    words = ["config", str(ROOT / "hparams/birq_tiny.yaml"), "--temprature", "1"]
    fails(lambda: main(words), "'temprature'", "'temperature'")
