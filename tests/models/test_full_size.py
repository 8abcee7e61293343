"""The paper's three models: sizes, settings, and BEST-RQ twins."""

from pathlib import Path

import pytest
import torch

from speechbrain_birq.config import flatten
from speechbrain_birq.config.tree import dump
from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder

HPARAMS = Path(__file__).parents[2] / "hparams"
# name -> millions of parameters, layers, width, heads, window, k, rate, utterances
PAPER = {
    "wide": (137, 5, 1024, 8, 200, 3, 2e-4, 100),
    "base": (155, 10, 768, 6, None, 7, 1e-4, 64),
    "large": (275, 10, 1024, 8, 200, 7, 1e-4, 128),
}
GPUS = {"wide": 4, "base": 4, "large": 8}
SECONDS = 12.3  # of an utterance of LibriSpeech, on average
SIZE = ("num_layers", "d_model", "nhead", "d_ffn", "kernel_size", "attention_window")
ENCODER = ("encoder_kind", *SIZE)
SIZES = pytest.mark.parametrize("size", PAPER)


def keys(name):
    """Top-level keys of an experiment, deltas applied."""
    return flatten(HPARAMS / f"{name}.yaml")


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@SIZES
def test_parameters_without_the_output_layer_are_the_papers(size):
    settings = keys(f"birq_{size}")
    with torch.device("meta"):  # shapes without memory
        encoder = SpeechBrainEncoder(
            kind=settings["encoder_kind"],
            input_dim=settings["n_mels"] * settings["stack"],
            **{key: settings[key] for key in SIZE},
        )
    assert round(parameters(encoder) / 1e6) == PAPER[size][0]


@SIZES
def test_settings_are_the_papers(size):
    s = keys(f"birq_{size}")
    _, layers, width, heads, window, k, rate, utterances = PAPER[size]
    assert (s["num_layers"], s["d_model"], s["nhead"]) == (layers, width, heads)
    assert s["attention_window"] == window
    assert (s["label_layer"], s["lr"], s["number_of_epochs"]) == (k, rate, 100)
    assert (s["mask_prob"], s["mask_length_ms"], s["mask_noise_std"]) == (
        0.02,
        400,
        0.1,
    )
    assert (s["enhanced_weight_value"], s["anchor_weight_value"]) == (0.1, 2.4)
    assert s["enhanced_ramp_steps"] == s["anchor_ramp_steps"] == 0
    assert (s["temperature"], s["label_noise"], s["label_gradient"]) == (
        0.5,
        True,
        True,
    )
    assert (s["shared_head"], s["l2_normalize"], s["label_norm"]) == (
        True,
        False,
        "layer",
    )
    assert (s["sample_rate"], s["n_mels"], s["stack"]) == (16000, 80, 2)
    batch = GPUS[size] * s["batch_seconds"] / SECONDS
    assert batch == pytest.approx(utterances, rel=0.03)


@pytest.mark.parametrize("size", [*PAPER, "large_yodas"])
def test_the_twin_is_best_rq_and_nothing_else(size):
    birq, best_rq = keys(f"birq_{size}"), keys(f"best_rq_{size}")
    assert best_rq["enhanced_weight_value"] == 0
    assert birq.keys() == best_rq.keys()
    different = {
        key for key in birq if dump({key: birq[key]}) != dump({key: best_rq[key]})
    }
    expected = {"enhanced_weight_value", "anchor_weight_value", "output_folder"}
    assert different == expected


@SIZES
def test_fine_tuning_from_scratch_has_the_same_encoder(size):
    birq, ctc = keys(f"birq_{size}"), keys(f"ctc_{size}")
    shared = [*ENCODER, "sample_rate", "n_mels", "stack"]
    assert {key: ctc[key] for key in shared} == {key: birq[key] for key in shared}


def test_every_size_has_its_three_files():
    names = {path.stem for path in HPARAMS.glob("*.yaml")}
    kinds = ("birq", "best_rq", "ctc")
    expected = {f"{kind}_{size}" for kind in kinds for size in (*PAPER, "tiny")}
    others = {"birq_paper_tiny", "birq_plus", "birq_plus_tiny", "probe_tiny", "ctc_ami"}
    others |= {"birq_large_yodas", "best_rq_large_yodas", "birq_live_tiny"}
    others |= {"birq_adamw_tiny", "best_rq_plus_tiny"}
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
