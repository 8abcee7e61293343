"""Settings that cannot be used end with one sentence that names them."""

import os
import shutil
import subprocess
import sys

import pytest
from small_runs import (
    PRETRAIN,
    ROOT,
    finetune,
    pretrain,
    run,
)

from speechbrain_birq import experiment

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("layer", [0, 3])
def test_a_label_layer_out_of_range_is_named(_corpus_template, tmp_path, fails, layer):
    fails(
        lambda: pretrain(_corpus_template, tmp_path / "run", label_layer=layer),
        f"label_layer {layer}",
        "1 to 2",
    )


def test_a_misspelled_key_is_named_with_the_nearest(_corpus_template, tmp_path, fails):
    fails(
        lambda: pretrain(_corpus_template, tmp_path / "run", label_layr=1),
        "'label_layr'",
        "'label_layer'",
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "settings, words",
    [
        (dict(temperature=-1.0), ["temperature", "-1.0"]),
        (dict(nhead=3), ["nhead 3"]),
        (dict(label_norm="both"), ["label_norm", "both"]),
        (dict(mask_prob=0.0), ["mask_prob", "0.0"]),
        (dict(d_model="wide"), ["d_model", "wide"]),
        (dict(optimizer_step_limit="many"), ["optimizer_step_limit", "many"]),
    ],
)
def test_a_bad_value_is_named_with_its_key(
    _corpus_template, tmp_path, fails, settings, words
):
    fails(lambda: pretrain(_corpus_template, tmp_path / "run", **settings), *words)


def test_frames_of_another_length_than_the_masking_s_are_refused(
    _corpus_template, tmp_path, fails
):
    shutil.copytree(ROOT / "hparams", tmp_path / "hparams")
    delta = tmp_path / "hparams" / "delta.yaml"
    delta.write_text("!include:birq_tiny.yaml\nfrontend:\n    hop_length: 5\n")
    settings = PRETRAIN | dict(
        data_folder=_corpus_template, output_folder=tmp_path / "run"
    )
    fails(
        lambda: run(experiment.pretrain, delta, settings),
        "frame_ms of SpanMasking is 40, but a frame of the front end has 20 ms",
    )


@pytest.mark.parametrize("below", ["", "deeper"])
def test_an_output_folder_that_cannot_be_written_is_named(
    _corpus_template, tmp_path, fails, below
):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file in its place")
    fails(
        lambda: pretrain(_corpus_template, blocked / below),
        str(blocked),
        "--output_folder",
    )
    assert blocked.read_text() == "a file in its place"


def test_a_missing_yaml_is_named(tmp_path, fails):
    fails(
        lambda: run(experiment.pretrain, tmp_path / "none.yaml", {}),
        str(tmp_path / "none.yaml"),
    )


def test_a_recipe_names_a_bad_key_in_one_sentence(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "recipes/LibriSpeech/pretrain.py",
            ROOT / "hparams/birq_tiny.yaml",
            f"--data_folder={tmp_path}",
            "--num_layer=3",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "'num_layers'" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["cuda:9", "nonsense"])
def test_a_device_that_does_not_exist_is_one_sentence(corpus, tmp_path, fails, device):
    fails(lambda: pretrain(corpus, tmp_path / "run", device=device))


@pytest.mark.parametrize(
    "splits, words",
    [
        ("[test, valid]", ["'valid'", "results.json"]),
        ("[steps]", ["'steps'", "results.json"]),
        ("[en/test, en_test]", ["'en/test'", "'en_test'"]),
    ],
)
def test_scores_that_would_replace_other_figures_are_refused(
    _corpus_template, tmp_path, fails, splits, words
):
    fails(
        lambda: finetune(_corpus_template, tmp_path / "run", test_splits=splits),
        "test_splits",
        *words,
    )
    assert not (tmp_path / "run/manifests").exists()
