"""The paper's three models: sizes, settings, printed form, and BEST-RQ twins."""

from pathlib import Path

import numpy as np
import pytest
import torch
from speechbrain.dataio.dataset import DynamicItemDataset

from speechbrain_birq.config import flatten
from speechbrain_birq.config.tree import dump
from speechbrain_birq.data.loaders import make_loader
from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder

HPARAMS = Path(__file__).parents[2] / "hparams"
# name -> millions of parameters, layers, width, heads, window, k, rate, utterances
PAPER = {
    "wide": (137, 5, 1024, 8, 200, 3, 2e-4, 100),
    "base": (155, 10, 768, 6, None, 7, 1e-4, 64),
    "large": (275, 10, 1024, 8, 200, 7, 1e-4, 128),
}
GPUS = {"wide": 4, "base": 4, "large": 8}
# Seconds of LibriSpeech's training utterances, about: 12.3 in the mean, 960 h.
SHARES = (0, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.99, 0.999, 1)
SECONDS = (1.0, 2.6, 4.0, 6.3, 10.6, 13.6, 15.2, 16.7, 17.5, 29.7)
SIZE = ("num_layers", "d_model", "nhead", "d_ffn", "kernel_size", "attention_window")
ENCODER = ("encoder_kind", *SIZE)
# The labels and the objective as the paper prints them.
PRINTED = dict(
    label_norm="layer",
    label_gradient=True,
    label_noise=True,
    temperature=0.5,
    num_codebooks=1,
    num_codes=256,
    code_dim=16,
    l2_normalize=False,
    shared_head=True,
    enhanced_weight_value=0.1,
    enhanced_ramp_steps=0,
    anchor_weight_value=2.4,
    anchor_ramp_steps=0,
)
YODAS = {"train_split": "train", "valid_split": "dev", "total_steps": 1125000}
SIZES = pytest.mark.parametrize("size", PAPER)
ALL_SIZES = pytest.mark.parametrize("size", [*PAPER, "large_yodas"])
FORMS = pytest.mark.parametrize("form", ["birq", "birq_paper"])


def keys(name):
    """Top-level keys of an experiment, deltas applied."""
    return flatten(HPARAMS / f"{name}.yaml")


def different(one, other):
    """Keys whose values differ between two experiments with the same keys."""
    assert one.keys() == other.keys()
    return {key for key in one if dump({key: one[key]}) != dump({key: other[key]})}


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@SIZES
@FORMS
def test_parameters_without_the_output_layer_are_the_papers(form, size):
    settings = keys(f"{form}_{size}")
    with torch.device("meta"):  # shapes without memory
        encoder = SpeechBrainEncoder(
            kind=settings["encoder_kind"],
            input_dim=settings["n_mels"] * settings["stack"],
            **{key: settings[key] for key in SIZE},
        )
    assert round(parameters(encoder) / 1e6) == PAPER[size][0]


def utterances_in_a_batch(batch_seconds):
    """The mean: less than fit, because a bucket of similar lengths has one limit."""
    seconds = np.interp(np.linspace(0, 1, 40_000), SHARES, SECONDS)
    rows = {str(n): {"duration": length} for n, length in enumerate(seconds)}
    loader = make_loader(
        DynamicItemDataset(rows),
        batch_seconds=batch_seconds,
        shuffle=False,
        seed=0,
        min_samples=1,
    )
    return len(seconds) / len(loader.batch_sampler)


@SIZES
@FORMS
def test_encoder_masks_and_schedule_are_the_papers(form, size):
    s = keys(f"{form}_{size}")
    _, layers, width, heads, window, k, rate, utterances = PAPER[size]
    assert (s["num_layers"], s["d_model"], s["nhead"]) == (layers, width, heads)
    assert s["attention_window"] == window
    assert (s["label_layer"], s["lr"], s["number_of_epochs"]) == (k, rate, 100)
    assert (s["mask_prob"], s["mask_length_ms"], s["mask_noise_std"]) == (
        0.02,
        400,
        0.1,
    )
    assert (s["sample_rate"], s["n_mels"], s["stack"]) == (16000, 80, 2)
    batch = GPUS[size] * utterances_in_a_batch(s["batch_seconds"])
    assert batch == pytest.approx(utterances, rel=0.04)


@pytest.mark.parametrize("size", [*PAPER, "large_yodas", "tiny"])
def test_labels_of_the_paper_files_are_as_printed(size):
    paper = keys(f"birq_paper_{size}")
    assert {key: paper[key] for key in PRINTED} == PRINTED


@ALL_SIZES
def test_labels_of_the_default_files_are_those_of_the_tiny_one(size):
    birq, tiny = keys(f"birq_{size}"), keys("birq_tiny")
    measured = PRINTED.keys() - {"enhanced_ramp_steps"}
    assert {key: birq[key] for key in measured} == {key: tiny[key] for key in measured}
    assert birq["enhanced_ramp_steps"] / birq["total_steps"] == pytest.approx(
        tiny["enhanced_ramp_steps"] / tiny["total_steps"], rel=0.01
    )


@ALL_SIZES
def test_the_paper_file_differs_in_its_labels_alone(size):
    """The printed keys that differ, and nothing of encoder, data or schedule."""
    birq, paper = keys(f"birq_{size}"), keys(f"birq_paper_{size}")
    same = {"code_dim", "anchor_ramp_steps"}
    assert different(birq, paper) == PRINTED.keys() - same | {"output_folder"}


@FORMS
def test_the_files_for_yodas_differ_in_the_data_alone(form):
    large, yodas = keys(f"{form}_large"), keys(f"{form}_large_yodas")
    assert {key: yodas[key] for key in YODAS} == YODAS
    ramp = {"enhanced_ramp_steps"} if form == "birq" else set()
    assert different(large, yodas) == YODAS.keys() | ramp | {"output_folder"}


@ALL_SIZES
def test_the_twin_is_best_rq_and_nothing_else(size):
    birq, best_rq = keys(f"birq_{size}"), keys(f"best_rq_{size}")
    assert best_rq["enhanced_weight_value"] == 0
    assert different(birq, best_rq) == {"enhanced_weight_value", "output_folder"}


@SIZES
def test_fine_tuning_from_scratch_has_the_same_encoder(size):
    birq, ctc = keys(f"birq_{size}"), keys(f"ctc_{size}")
    shared = [*ENCODER, "sample_rate", "n_mels", "stack"]
    assert {key: ctc[key] for key in shared} == {key: birq[key] for key in shared}


def test_every_size_has_its_four_files():
    names = {path.stem for path in HPARAMS.glob("*.yaml")}
    kinds = ("birq", "birq_paper", "best_rq", "ctc")
    expected = {f"{kind}_{size}" for kind in kinds for size in (*PAPER, "tiny")}
    expected |= {f"{kind}_large_yodas" for kind in kinds[:3]} | {"ctc_ami"}
    others = {"birq_plus", "birq_plus_tiny", "best_rq_plus_tiny", "probe_tiny"}
    others |= {"birq_live_tiny", "birq_adamw_tiny"}
    assert names == expected | others


def test_fitted_labels_are_those_of_the_tiny_comparison():
    """The paper's size, with every setting of the labels that was measured."""
    plus, tiny, base = keys("birq_plus"), keys("birq_plus_tiny"), keys("birq_base")
    assert {key: plus[key] for key in SIZE} == {key: base[key] for key in SIZE}
    measured = """label_norm label_gradient label_noise temperature num_codebooks
        num_codes l2_normalize shared_head anchor_projection anchor_codes
        enhanced_projection enhanced_codes enhanced_weight_value
        anchor_weight_value""".split()
    assert {key: plus[key] for key in measured} == {key: tiny[key] for key in measured}
