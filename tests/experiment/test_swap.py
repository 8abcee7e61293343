"""Every shipped encoder goes the whole way; one line of the YAML says which."""

import math
import shutil
from pathlib import Path

import pytest
import torch
from small_runs import FINETUNE, PRETRAIN, encoder_weights, run

from speechbrain_birq import experiment
from speechbrain_birq.checkpoints.run_folder import load_architecture
from speechbrain_birq.inference import SpeechEncoder
from speechbrain_birq.models.encoders.layers import ATTENTION

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=ATTENTION)
def yaml(request, tmp_path):
    """birq_tiny.yaml with another encoder and nothing else changed."""
    hparams = shutil.copytree(ROOT / "hparams", tmp_path / "hparams")
    path = hparams / "birq_tiny.yaml"
    before = path.read_text(encoding="utf-8").splitlines()
    line = f"encoder_kind: {request.param}"
    after = [line if old.startswith("encoder_kind:") else old for old in before]
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
    path.write_text("\n".join(after) + "\n", encoding="utf-8")
    return path


def test_an_encoder_is_swapped_by_one_line(_corpus_template, tmp_path, yaml):
    folders = dict(data_folder=_corpus_template, output_folder=tmp_path / "run")
    figures = run(experiment.pretrain, yaml, PRETRAIN | folders)
    assert figures["step"] == 3
    assert all(math.isfinite(figures[name]) for name in ("G", "F", "loss"))

    audio = next((_corpus_template / "test").rglob("*.flac"))
    pretrained = SpeechEncoder(tmp_path / "run")
    encoder = pretrained.encoder
    frames = pretrained.frontend(pretrained.read(audio), torch.ones(1))
    with torch.no_grad():
        states = encoder.hidden_states(*frames)
        for k in range(1, encoder.num_layers + 1):
            assert torch.equal(encoder(*frames, num_layers=k), states[k])
            assert torch.equal(pretrained.features(audio, k), states[k][0])

    folders |= dict(output_folder=tmp_path / "ctc", pretrained=tmp_path / "run")
    settings = FINETUNE | dict(optimizer_step_limit=None)
    rates = run(experiment.finetune, "ctc_tiny.yaml", settings | folders)
    assert rates["test"]["utterances"] == 3
    before, after = (encoder_weights(tmp_path / name) for name in ("run", "ctc"))
    assert before.keys() == after.keys()
    learned = [f"encoder.{name}" for name, _ in encoder.named_parameters()]
    moved = max((before[name] - after[name]).abs().max() for name in learned)
    assert 0 < moved < 0.05
    tuned = load_architecture(tmp_path / "ctc")["encoder"]
    assert str(tuned.layers) == str(encoder.layers)
