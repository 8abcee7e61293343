"""Runs of a tiny model on the tiny corpus, in this process, in seconds."""

import contextlib
import csv
import logging
import sys
from pathlib import Path

import torch

from speechbrain_birq import experiment
from speechbrain_birq.checkpoints.run_folder import best_checkpoint
from speechbrain_birq.data.corpora.librispeech import prepare_librispeech

ROOT = Path(__file__).parents[1]
TINY = dict(
    n_mels=40,
    num_layers=2,
    d_model=16,
    nhead=2,
    d_ffn=32,
    kernel_size=5,
    number_of_epochs=1,
    optimizer_step_limit=3,
    batch_seconds=4,
    tensorboard=False,
    device="cpu",
)
PRETRAIN = TINY | dict(train_split="train", label_layer=1, num_codes=16)
FINETUNE = {k: v for k, v in TINY.items() if k != "n_mels"} | dict(
    batch_seconds=5, fresh_layers=0
)


@contextlib.contextmanager
def process_wide_settings_restored():
    """Restore log handlers, exception hook and random state after an experiment."""
    root, hook = logging.getLogger(), sys.excepthook
    handlers, level = root.handlers[:], root.level
    state = torch.get_rng_state()
    try:
        yield
    finally:
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:], sys.excepthook = handlers, hook
        root.setLevel(level)
        torch.set_rng_state(state)


def run(main, yaml, settings, **more):
    """Call pretrain or finetune in this process; None removes a setting."""
    settings = settings | more
    argv = [str(ROOT / "hparams" / yaml), "--noprogressbar"]
    for key, value in settings.items():
        if value is not None:
            argv += [f"--{key}={value}"]
    with process_wide_settings_restored():
        return main(prepare_librispeech, argv)


def pretrain(corpus, output, yaml="birq_tiny.yaml", **more):
    folders = dict(data_folder=corpus, output_folder=output)
    return run(experiment.pretrain, yaml, PRETRAIN, **folders | more)


def finetune(corpus, output, **more):
    folders = dict(data_folder=corpus, output_folder=output)
    return run(experiment.finetune, "ctc_tiny.yaml", FINETUNE, **folders | more)


def log(folder):
    return (folder / "log.txt").read_text()


def manifest(folder, split):
    with open(folder / "manifests" / f"{split}.csv", newline="") as file:
        return {row["ID"]: row for row in csv.DictReader(file)}


def weights(folder):
    path = best_checkpoint(folder) / "model.ckpt"
    return torch.load(path, weights_only=True)


def encoder_weights(folder):
    return {k: v for k, v in weights(folder).items() if k.startswith("encoder.")}


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
