"""The flat file: runs like the file that it came from; a file is parsed once."""

from collections import Counter

import pytest
import torch

from speechbrain_birq.config import load_configuration
from speechbrain_birq.config import tree as trees


def weights(hparams):
    model = hparams["model"]
    return torch.cat([p.flatten() for p in model.parameters()])


@pytest.mark.parametrize("name", ["birq_tiny.yaml", "birq_plus_tiny.yaml"])
def test_the_flat_file_builds_the_same_model(load, hparams, name):
    first = load(name, num_layers=2, seed=9, temperature=0.7)
    (hparams / "flat.yaml").write_text(first.text, encoding="utf-8")
    again = load_configuration(hparams / "flat.yaml", script="pretrain")
    assert again.text == first.text and again.resolved == first.resolved
    assert weights(first.hparams).equal(weights(again.hparams))
    assert again.hparams["model"].selector.temperature == 0.7


def test_a_key_given_to_the_flat_file_reaches_the_parts(load, hparams):
    (hparams / "flat.yaml").write_text(load().text, encoding="utf-8")
    assert load("flat.yaml", num_layers=3).hparams["encoder"].num_layers == 3


def test_the_resolved_text_has_no_references(load):
    resolved = load(num_layers=3).resolved
    assert not {"!ref", "!include", "!PLACEHOLDER"} & set(resolved.split())
    assert "num_layers: 3" in resolved


@pytest.mark.parametrize("name", ["birq_tiny.yaml", "birq_plus_tiny.yaml"])
def test_each_file_is_parsed_once(load, monkeypatch, name):
    """And the text that results three times, by HyperPyYAML."""
    from ruamel.yaml import composer

    files, texts = Counter(), Counter()
    parse, compose = trees.parse, composer.Composer.get_single_node
    monkeypatch.setattr(
        trees, "parse", lambda t, where: files.update([where]) or parse(t, where)
    )
    monkeypatch.setattr(
        composer.Composer,
        "get_single_node",
        lambda self: texts.update(["all"]) or compose(self),
    )
    load(name)
    assert set(files.values()) == {1}
    assert len(files) == (2 if "plus" in name else 1)
    assert texts["all"] <= len(files) + 3


def test_the_comment_of_a_placeholder_stays_behind_the_value_given_for_it():
    tree = trees.parse("a: !PLACEHOLDER # a folder\nseed: 1 # any\n", "x.yaml")
    tree["a"] = "/x"
    assert trees.dump(tree) == "a: /x # a folder\nseed: 1 # any\n"
