"""Pretraining that starts from another run: what it keeps, refuses and records."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from small_runs import (
    PRETRAIN,
    ROOT,
    assert_equal,
    encoder_weights,
    log,
    pretrain,
    run,
    weights,
)

from speechbrain_birq import experiment
from speechbrain_birq.checkpoints.run_folder import best_checkpoint

STILL = dict(lr=1e-30)  # float32 weights do not move
LEARNT = ("encoder.", "heads.", "anchor_quantizer.", "enhanced_quantizer.")


def part(state, names):
    return {key: value for key, value in state.items() if key.startswith(names)}


def test_model_and_labels_are_the_run_s_and_the_steps_are_new(
    _corpus_template, pretrained, tmp_path
):
    source, output = pretrained[0], tmp_path / "more"
    pretrain(_corpus_template, output, pretrained=f"{source}/", seed=99, **STILL)
    before, after = weights(source), weights(output)
    assert_equal(part(before, LEARNT), part(after, LEARNT))
    assert json.loads((output / "results.json").read_text())["steps"] == 3
    # The running statistics go on from those of the run.
    assert after["label_norm.num_batches"] == before["label_norm.num_batches"] + 3
    assert f"from {source}/, step 3: front end, encoder and labels" in log(output)

    checkpoint = best_checkpoint(source)
    digest = hashlib.sha256((checkpoint / "model.ckpt").read_bytes()).hexdigest()
    record = json.loads((output / "pretrained.json").read_text())
    assert record["run"] == str(source.resolve())
    assert (record["checkpoint"], record["step"]) == (checkpoint.name, 3)
    assert record["sha256"] == digest


def test_it_resumes_exactly_without_the_run(_corpus_template, own_pretrained, tmp_path):
    more = dict(optimizer_step_limit=None, dropout=0.1, pretrained=own_pretrained)
    pretrain(_corpus_template, tmp_path / "straight", number_of_epochs=2, **more)
    pretrain(_corpus_template, tmp_path / "resumed", number_of_epochs=1, **more)
    shutil.rmtree(own_pretrained)
    more["pretrained"] = f"{own_pretrained}/"
    pretrain(_corpus_template, tmp_path / "resumed", number_of_epochs=2, **more)
    assert_equal(weights(tmp_path / "straight"), weights(tmp_path / "resumed"))


def test_from_another_run_in_the_same_folder_is_refused(
    _corpus_template, own_pretrained, tmp_path, fails
):
    output = tmp_path / "more"
    pretrain(_corpus_template, output, pretrained=own_pretrained)
    fails(
        lambda: pretrain(_corpus_template, output, pretrained=tmp_path / "other"),
        f"pretrained: {own_pretrained}",
        f"now it is {tmp_path / 'other'}",
    )
    fails(
        lambda: pretrain(_corpus_template, own_pretrained, pretrained=own_pretrained),
        "pretrained: None",
        "another --output_folder",
    )


@pytest.mark.parametrize(
    ("key", "value", "there"),
    [("num_codes", 32, 16), ("num_layers", 3, 2), ("label_layer", 2, 1)],
)
def test_a_value_that_contradicts_the_run_is_refused(
    _corpus_template, pretrained, tmp_path, fails, key, value, there
):
    settings = dict(pretrained=pretrained[0]) | {key: value}
    message = fails(
        lambda: pretrain(_corpus_template, tmp_path / "more", **settings),
        f"{key} is {there} there and {value} here",
        f"{pretrained[0]}/hyperparams.yaml",
    )
    assert ("--new_labels True" in message) == (key != "num_layers")
    assert not (tmp_path / "more").exists()


def test_values_of_a_yaml_file_are_refused_too(
    _corpus_template, pretrained, tmp_path, fails
):
    named = dict(data_folder=_corpus_template, output_folder=tmp_path / "more")
    named |= dict(pretrained=pretrained[0])
    fails(
        lambda: run(experiment.pretrain, "birq_tiny.yaml", named),
        "n_mels is 40 there and 80 here",
        "d_model is 16 there and 144 here",
    )
    named |= PRETRAIN
    fails(
        lambda: run(experiment.pretrain, "birq_plus_tiny.yaml", named),
        "anchor_quantizer is RandomProjectionQuantizer there and FittedQuantizer here",
        "--new_labels True",
    )


@pytest.mark.parametrize("folder", ["", ROOT / "weights"])
def test_labels_of_published_weights_are_not_kept(
    _corpus_template, tmp_path, fails, folder
):
    named = dict(data_folder=_corpus_template, output_folder=tmp_path / "more")
    named |= dict(pretrained=Path(folder, "birq_tiny"))
    fails(
        lambda: run(experiment.pretrain, "birq_tiny.yaml", named),
        f"published weights {named['pretrained']} have no output layers",
        "--new_labels True",
    )
    assert not (tmp_path / "more").exists()


def test_the_run_s_own_file_fits(_corpus_template, pretrained, tmp_path):
    named = dict(output_folder=tmp_path / "more", pretrained=pretrained[0])
    path = pretrained[0] / "hyperparams.yaml"
    run(experiment.pretrain, path, named | STILL | dict(device="cpu"))
    assert_equal(encoder_weights(tmp_path / "more"), encoder_weights(pretrained[0]))


def test_new_labels_keep_front_end_and_encoder_only(
    _corpus_template, pretrained, tmp_path
):
    output = tmp_path / "more"
    new = dict(pretrained=pretrained[0], new_labels=True, num_codes=32)
    pretrain(_corpus_template, output, **new, **STILL)
    assert_equal(encoder_weights(output), encoder_weights(pretrained[0]))
    state = weights(output)
    assert state["anchor_quantizer.codebook.codes"].shape[1] == 32
    assert state["label_norm.num_batches"] == 3
    assert "front end and encoder; labels as in the YAML file" in log(output)


def test_a_fine_tuned_run_has_an_encoder_and_no_labels(
    _corpus_template, finetuned, tmp_path, fails
):
    output = tmp_path / "more"
    pretrain(_corpus_template, output, pretrained=finetuned, **STILL)
    assert_equal(encoder_weights(output), encoder_weights(finetuned))
    assert "labels as in the YAML file" in log(output)
    fails(
        lambda: pretrain(
            _corpus_template, tmp_path / "other", pretrained=finetuned, d_model=32
        ),
        "d_model is 16 there and 32 here",
    )


def test_a_missing_run_is_named(_corpus_template, tmp_path, fails):
    nowhere = tmp_path / "nowhere"
    fails(
        lambda: pretrain(_corpus_template, tmp_path / "more", pretrained=nowhere),
        str(nowhere),
        "not a run folder",
    )


def test_codes_that_were_fitted_are_kept_and_fitted_again_in_time(
    _corpus_template, tmp_path
):
    fitted = dict(yaml="birq_plus_tiny.yaml", num_codes=8, refit_steps=1)
    pretrain(_corpus_template, tmp_path / "run", **fitted)
    assert weights(tmp_path / "run")["enhanced_quantizer.num_fits"] == 3
    more = dict(pretrained=tmp_path / "run", optimizer_step_limit=1)
    pretrain(_corpus_template, tmp_path / "more", **fitted | more)
    before, after = weights(tmp_path / "run"), weights(tmp_path / "more")
    assert after["enhanced_quantizer.num_fits"] == 1
    name = "anchor_quantizer.codebook.codes"
    assert torch.equal(before[name], after[name])
