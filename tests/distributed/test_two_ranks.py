"""Recipes under torchrun with two gloo ranks on one machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = """
--num_layers 2 --d_model 16 --nhead 2 --d_ffn 32 --number_of_epochs 2 --batch_seconds 4
--tensorboard False --noprogressbar --device cpu --distributed_backend gloo
""".split()

pytestmark = pytest.mark.slow


def torchrun(recipe, yaml, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += [
        "--standalone",
        f"recipes/LibriSpeech/{recipe}",
        f"hparams/{yaml}",
    ]
    done = subprocess.run(
        [*command, *TINY, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_pretraining_and_frozen_fine_tuning_score_every_utterance_once(
    corpus, tmp_path
):
    data = ("--data_folder", corpus)
    torchrun(
        *("pretrain.py", "birq_tiny.yaml", *data, "--output_folder", tmp_path / "pre"),
        *("--train_split", "train", "--label_layer", "1"),
        *("--normalize", "global", "--chunk_prob", "0.5", "--chunk_max", "9"),
    )
    torchrun(
        *("finetune.py", "ctc_tiny.yaml", *data, "--output_folder", tmp_path / "ctc"),
        *(
            "--pretrained",
            tmp_path / "pre",
            "--freeze_steps",
            "2",
            "--fresh_layers",
            "0",
        ),
    )
    results = json.loads((tmp_path / "ctc" / "results.json").read_text())
    assert results["test"]["utterances"] == 3
    errors = (tmp_path / "ctc" / "errors_test.csv").read_text().splitlines()
    assert len(errors) == 1 + 3
