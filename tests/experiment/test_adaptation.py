"""Fine-tuning that starts from a fine-tuned run: its tokens, its output layer."""

import json
import shutil

import pytest
import torch
from small_runs import assert_equal, encoder_weights, finetune, log, weights

STILL = dict(lr=1e-30, lr_encoder=0)


@pytest.fixture
def other_letters(corpus):
    """The corpus with a letter in the training texts that it did not have."""
    (path, *_) = sorted((corpus / "train").rglob("*.trans.txt"))
    first, newline, others = path.read_text().partition("\n")
    path.write_text(f"{first}Q{newline}{others}")
    return corpus


def head(folder):
    return {k: v for k, v in weights(folder).items() if k.startswith("head.")}


def kept(folder):
    return json.loads((folder / "pretrained.json").read_text())["kept"]


def test_texts_that_it_can_spell_keep_tokens_and_output_layer(
    _corpus_template, finetuned, tmp_path
):
    output = tmp_path / "adapted"
    finetune(_corpus_template, output, pretrained=finetuned, **STILL)
    assert_equal(weights(output), weights(finetuned))
    name = "characters.json"
    assert (output / name).read_text() == (finetuned / name).read_text()
    assert kept(output) == "front end, encoder, tokens and output layer"
    assert f"tokens of {finetuned}: they spell all training texts" in log(output)


def test_other_letters_make_new_tokens_and_a_new_output_layer(
    other_letters, finetuned, tmp_path
):
    output = tmp_path / "adapted"
    finetune(other_letters, output, pretrained=finetuned, **STILL)
    assert_equal(encoder_weights(output), encoder_weights(finetuned))
    assert len(head(output)["head.bias"]) == len(head(finetuned)["head.bias"]) + 1
    assert f"not the tokens of {finetuned}" in log(output) and "'Q'" in log(output)
    assert kept(output) == "front end and encoder"


@pytest.mark.parametrize(
    "settings", [dict(new_tokens=True), dict(tokens="sentencepiece", num_tokens=20)]
)
def test_other_tokens_that_are_asked_for_come_with_a_new_output_layer(
    _corpus_template, finetuned, tmp_path, settings
):
    output = tmp_path / "adapted"
    finetune(_corpus_template, output, pretrained=finetuned, **STILL, **settings)
    assert_equal(encoder_weights(output), encoder_weights(finetuned))
    old, new = head(finetuned)["head.weight"], head(output)["head.weight"]
    assert old.shape != new.shape or not torch.equal(old, new)
    assert f"not the tokens of {finetuned}" in log(output)


def test_random_layers_below_a_kept_output_layer_are_refused(
    _corpus_template, finetuned, tmp_path, fails
):
    more = dict(pretrained=finetuned, fresh_layers=1)
    fails(
        lambda: finetune(_corpus_template, tmp_path / "adapted", **more),
        "fresh_layers 1",
        "--fresh_layers 0",
        "--new_tokens True",
    )


@pytest.mark.parametrize("source", ["pretrained", "finetuned"])
def test_it_resumes_exactly_without_the_run(
    _corpus_template, tmp_path, request, source
):
    found = request.getfixturevalue(source)
    folder = found[0] if source == "pretrained" else found
    copy = shutil.copytree(folder, tmp_path / "source")
    more = dict(pretrained=copy, optimizer_step_limit=None, dropout=0.1)
    more["fresh_layers"] = 1 if source == "pretrained" else 0
    finetune(_corpus_template, tmp_path / "straight", number_of_epochs=2, **more)
    finetune(_corpus_template, tmp_path / "resumed", number_of_epochs=1, **more)
    architecture = (tmp_path / "resumed/architecture.yaml").read_text()
    shutil.rmtree(copy)
    more["pretrained"] = f"{copy}/"
    finetune(_corpus_template, tmp_path / "resumed", number_of_epochs=2, **more)
    assert_equal(weights(tmp_path / "straight"), weights(tmp_path / "resumed"))
    assert (tmp_path / "resumed/architecture.yaml").read_text() == architecture
