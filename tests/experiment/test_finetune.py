"""Fine-tuning: from a pretrained encoder, from scratch, beside a frozen one."""

import json

import pytest
import torch
from ruamel.yaml import YAML
from small_runs import (
    FINETUNE,
    assert_equal,
    encoder_weights,
    finetune,
    log,
    run,
)

from speechbrain_birq import experiment
from speechbrain_birq.checkpoints.run_folder import best_checkpoint
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import Recogniser
from speechbrain_birq.metrics.curves import read_metrics


def test_fine_tuning_starts_from_the_pretrained_encoder(
    _corpus_template, pretrained, tmp_path
):
    output = tmp_path / "ctc"
    run_folder, _ = pretrained
    rates = finetune(_corpus_template, output, pretrained=run_folder, freeze_steps=1000)
    assert_equal(encoder_weights(output), encoder_weights(run_folder))
    # The front end is the pretrained one too: 40 mel channels against the YAML's 80.
    copied, own = (
        YAML().load((folder / "architecture.yaml").read_text())
        for folder in (output, run_folder)
    )
    assert copied == own
    assert copied["frontend"]["n_mels"] == 40

    assert rates.keys() == {"test"}
    assert rates["test"]["utterances"] == 3
    results = json.loads((output / "results.json").read_text())
    assert results["test"] == rates["test"]
    assert results["steps"] == 3
    for name in ("wer_test.txt", "errors_test.csv", "characters.json", "metrics.jsonl"):
        assert (output / name).stat().st_size > 0
    assert all(f"{s}-1-0000" in (output / "wer_test.txt").read_text() for s in (31, 33))
    (valid,) = read_metrics(output, "valid")
    assert valid["step"] == 3 and valid["cer"] >= 0
    assert f"from {run_folder}" in log(output)


def test_a_probe_is_trained_beside_an_encoder_that_does_not_move(
    _corpus_template, pretrained, tmp_path
):
    output = tmp_path / "probe"
    folders = dict(data_folder=_corpus_template, output_folder=output)
    run(
        experiment.finetune,
        "probe_tiny.yaml",
        FINETUNE,
        **folders,
        pretrained=pretrained[0],
        lr=0.1,
    )
    assert_equal(encoder_weights(output), encoder_weights(pretrained[0]))
    results = json.loads((output / "results.json").read_text())
    assert len(results["layer_weights"]) == 2 + 1  # input projection, two layers
    assert len(set(results["layer_weights"])) > 1  # they have moved apart
    assert (output / "layers.png").stat().st_size > 0
    # A probe is no recogniser: its linear layer hears a mixture of layers.
    with pytest.raises(BadInput, match="another architecture"):
        Recogniser(output)


@pytest.mark.parametrize(
    "key, value", [("lr_encoder", 0.5), ("freeze_steps", 2), ("dropout", 0.1)]
)
def test_a_probe_refuses_what_its_encoder_cannot_use(
    _corpus_template, pretrained, tmp_path, fails, key, value
):
    folders = dict(data_folder=_corpus_template, output_folder=tmp_path / "probe")
    settings = FINETUNE | folders | dict(pretrained=pretrained[0])
    fails(
        lambda: run(experiment.finetune, "probe_tiny.yaml", settings, **{key: value}),
        f"{key} {value}: the encoder of a probe never learns",
    )


def test_fine_tuning_moves_an_encoder_that_is_not_frozen(
    _corpus_template, pretrained, tmp_path
):
    finetune(_corpus_template, tmp_path / "ctc", pretrained=pretrained[0])
    before, after = encoder_weights(pretrained[0]), encoder_weights(tmp_path / "ctc")
    assert before.keys() == after.keys()
    name = "encoder.input.linear.weight"
    assert not torch.equal(before[name], after[name])
    # Three small steps, not another start.
    assert (before[name] - after[name]).abs().max() < 0.01


def test_fresh_layers_start_at_random_and_the_others_pretrained(
    _corpus_template, pretrained, tmp_path
):
    settings = dict(pretrained=pretrained[0], lr_encoder=0, fresh_layers=1)
    finetune(_corpus_template, tmp_path / "ctc", **settings)
    before, after = encoder_weights(pretrained[0]), encoder_weights(tmp_path / "ctc")
    fresh = ("encoder.layers.1.", "encoder.norm.")  # of two layers
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(name.startswith(fresh) for name in changed)
    matrices = {n for n in before if n.startswith(fresh) and before[n].dim() > 1}
    assert matrices <= changed
    name = "encoder.layers.1.mha_layer.out_proj.weight"
    assert (before[name] - after[name]).abs().max() > 0.01  # more than three steps


def test_more_fresh_layers_than_there_are_is_refused(
    _corpus_template, pretrained, tmp_path, fails
):
    settings = dict(pretrained=pretrained[0], fresh_layers=3)
    fails(
        lambda: finetune(_corpus_template, tmp_path / "ctc", **settings),
        "fresh_layers 3",
        "2 layers",
    )


def test_fresh_layers_are_not_to_be_frozen(
    _corpus_template, pretrained, tmp_path, fails
):
    settings = dict(pretrained=pretrained[0], fresh_layers=1, freeze_steps=2)
    fails(
        lambda: finetune(_corpus_template, tmp_path / "ctc", **settings),
        "freeze_steps",
        "fresh_layers",
    )


def test_recognition_can_be_trained_from_scratch(_corpus_template, tmp_path):
    rates = finetune(
        _corpus_template, tmp_path / "ctc", n_mels=40, test_splits="[dev, test]"
    )
    assert rates.keys() == {"dev", "test"}
    assert "n_mels: 40" in (tmp_path / "ctc" / "architecture.yaml").read_text()
    assert (tmp_path / "ctc" / "wer_dev.txt").is_file()


@pytest.mark.parametrize("part", ["augment", "chunking"])
def test_fine_tuning_needs_neither_augmentation_nor_chunks(corpus, tmp_path, part):
    scores = finetune(corpus, tmp_path / "ctc", n_mels=40, **{part: "null"})
    assert scores["test"]["utterances"] == 3


def test_from_scratch_nothing_is_frozen_and_one_rate_holds(corpus, tmp_path):
    finetune(corpus, tmp_path / "run", freeze_steps=100, lr_encoder=1e-9, lr=1e-3)
    weights = best_checkpoint(tmp_path / "run") / "model.ckpt"
    trained = torch.load(weights, weights_only=True)[
        "encoder.layers.0.norm1.norm.weight"
    ]
    assert (trained != 1).any()
