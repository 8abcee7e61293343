"""Deltas and includes: which value wins, and what a replaced part keeps."""

import sys

import pytest
import torch

from speechbrain_birq.config import flatten
from speechbrain_birq.config.tree import dump
from speechbrain_birq.errors import BadInput


def test_a_delta_changes_its_keys_only(load, delta):
    base = load().hparams
    loaded = load(delta("num_layers: 3\nlr: 0.5\n")).hparams
    assert (loaded["encoder"].num_layers, loaded["lr"]) == (3, 0.5)
    assert loaded["d_model"] == base["d_model"]


def test_the_command_line_has_the_last_word(load, delta):
    assert load(delta("lr: 0.5\n"), lr=0.125).hparams["lr"] == 0.125


def test_a_delta_of_a_delta_is_refused(load, delta, hparams):
    delta("num_layers: 3\n")
    (hparams / "second.yaml").write_text("!include:delta.yaml\nlr: 0.25\n")
    with pytest.raises(BadInput, match=r"second\.yaml is a delta to .*delta\.yaml"):
        load("second.yaml")


def test_another_class_replaces_the_part(load, delta):
    text = "lr_schedule: !new:torch.nn.Linear\n    in_features: !ref <stack>\n"
    layer = load(delta(text + "    out_features: 2\n"), stack=3).hparams["lr_schedule"]
    assert isinstance(layer, torch.nn.Linear)
    assert (layer.in_features, layer.out_features) == (3, 2)


def test_a_replaced_part_keeps_the_arguments_that_the_new_class_takes(load, delta):
    """SGD takes lr and weight_decay and fused, RMSprop takes no fused."""
    sgd = load(delta("opt_class: !name:torch.optim.SGD\n")).hparams["opt_class"]
    assert sgd.func is torch.optim.SGD
    assert sgd.keywords == dict(lr=0.01, weight_decay=0.01, fused=True)
    text = "opt_class: !name:torch.optim.RMSprop\n    weight_decay: 0.5\n"
    rmsprop = load(delta(text)).hparams["opt_class"]
    assert rmsprop.keywords == dict(lr=0.01, weight_decay=0.5)


def test_a_class_with_any_keywords_gets_all_arguments(load, delta, hparams):
    (hparams / "my_parts.py").write_text(
        "class Any:\n    def __init__(self, **all):\n        self.all = all\n"
    )
    sys.path.insert(0, str(hparams))
    try:
        loaded = load(delta("lr_schedule: !new:my_parts.Any\n")).hparams
    finally:
        sys.path.remove(str(hparams))
        sys.modules.pop("my_parts", None)
    assert loaded["lr_schedule"].all == dict(warmup_steps=250, total_steps=4000)


@pytest.mark.parametrize("name", ["ReLU", "Flatten", "Softplus"])
def test_a_module_gets_no_argument_that_it_does_not_take(load, delta, name):
    loaded = load(delta(f"lr_schedule: !new:torch.nn.{name}\n")).hparams
    assert type(loaded["lr_schedule"]).__name__ == name


def test_a_module_without_a_constructor_of_its_own_gets_no_arguments(load, delta):
    loaded = load(delta("lr_schedule: !new:torch.nn.Identity\n"), lr=1).hparams
    assert isinstance(loaded["lr_schedule"], torch.nn.Identity)
    loaded = load(delta("lr_schedule: !new:torch.nn.Module\n")).hparams
    assert type(loaded["lr_schedule"]) is torch.nn.Module


def test_a_mapping_without_a_tag_changes_arguments(load, delta):
    loaded = load(delta("encoder:\n    attention_type: RelPosMHAXL\n")).hparams
    assert loaded["encoder"].attention_type == "RelPosMHAXL"
    assert loaded["encoder"].num_layers == 4


def test_a_delta_may_add_a_known_key_that_something_reads(load, delta):
    text = "anchor_codes: centroids\nanchor_quantizer: "
    text += "!new:speechbrain_birq.models.FittedQuantizer\n    codes: !ref <anchor_c"
    loaded = load(delta(text + "odes>\n"), anchor_codes="random").hparams
    assert loaded["model"].anchor_quantizer.kinds == ("random", "random")


def test_a_delta_may_not_add_a_key_of_ones_own(load, delta):
    with pytest.raises(BadInput, match=r"delta\.yaml: nothing reads the key 'my_own'"):
        load(delta("my_own: 0.5\n"))


def test_a_key_of_the_table_that_nothing_reads_here_is_refused(load, delta):
    with pytest.raises(BadInput, match="nothing reads the key 'anchor_codes'"):
        load(delta("anchor_codes: centroids\n"))


PART = """!new:speechbrain_birq.models.SpeechBrainEncoder
kind: transformer
width: !PLACEHOLDER
input_dim: !PLACEHOLDER
num_layers: 1
d_model: !ref <width>
nhead: 2
d_ffn: !ref <width> * 2
"""


def with_part(hparams, text):
    """A part in a folder of its own, and a delta beside it that includes it."""
    folder = hparams.parent / "mine"
    folder.mkdir()
    part = PART.replace("width: !PLACEHOLDER\n", "").replace("<width>", "<d_model>", 1)
    part = part.replace("d_model: !ref <d_model>", "d_model: !PLACEHOLDER")
    (folder / "part.yaml").write_text(part.replace("<width>", "<d_model>"))
    path = folder / "delta.yaml"
    path.write_text(f"!include:{hparams}/birq_tiny.yaml\n{text}")
    return path


INCLUDED = """encoder: !include:part.yaml
    input_dim: !ref <n_mels> * <stack>
    d_model: !ref <d_model>
"""


def test_an_include_beside_ones_own_delta_is_found_and_becomes_part(load, hparams):
    path = with_part(hparams, INCLUDED)
    encoder = load(path, d_model=24, label_layer=1).hparams["encoder"]
    assert (encoder.kind, encoder.output_dim) == ("transformer", 24)
    assert encoder.layers[0].pos_ffn.ffn[0].out_features == 48
    text = dump(flatten(path))
    assert "!include" not in text
    assert "d_ffn: !ref <encoder[d_model]> * 2" in text


def test_an_unknown_argument_of_an_include_is_refused(load, hparams):
    path = with_part(hparams, INCLUDED + "    d_modle: 3\n")
    with pytest.raises(BadInput, match="'d_modle': did you mean 'd_model'"):
        load(path)


def test_an_include_that_is_not_there_is_refused(load, delta):
    with pytest.raises(BadInput, match=r"no YAML file .*nowhere\.yaml"):
        load(delta("encoder: !include:nowhere.yaml\n"))


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_is_not_there_is_refused(load, name):
    with pytest.raises(BadInput, match="no YAML file"):
        load(name)


@pytest.mark.parametrize("text", ["", "just words\n", "- a\n- b\n"])
def test_a_file_without_keys_is_refused(load, hparams, text):
    (hparams / "x.yaml").write_text(text)
    with pytest.raises(BadInput, match="holds no keys"):
        load("x.yaml")


def test_a_file_in_another_encoding_is_refused_in_a_sentence(load, hparams):
    (hparams / "x.yaml").write_bytes("# dépôt\nlr: 1\n".encode("latin-1"))
    with pytest.raises(BadInput, match=r"x\.yaml cannot be read as UTF-8 text: "):
        load("x.yaml")


@pytest.mark.parametrize("text", ["a: [1\n", "a: 1\na: 2\n", "a: b: c\n"])
def test_broken_yaml_is_refused_in_a_sentence(load, hparams, text):
    (hparams / "x.yaml").write_text(text)
    with pytest.raises(BadInput, match="not valid YAML") as caught:
        load("x.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, words",
    [
        ("lr: {{ lr }}\n", "not valid YAML"),
        ("a: !include:own.yaml\n", "own.yaml includes .*own.yaml"),
        ("a: &x {b: *x}\n", "holds itself"),
    ],
)
def test_yaml_that_cannot_be_followed_is_refused_in_a_sentence(
    load, hparams, text, words
):
    (hparams / "own.yaml").write_text(text)
    with pytest.raises(BadInput, match=words):
        load("own.yaml")


def test_a_key_given_twice_is_refused_by_name(load, hparams):
    with (hparams / "birq_tiny.yaml").open("a", encoding="utf-8") as yaml:
        yaml.write("dropout: 0.5\ndropout: 0.5\n")
    with pytest.raises(BadInput, match=r"'dropout' is given twice \(again in line \d+"):
        load()


def test_a_key_given_twice_inside_a_part_is_refused_by_name(load, edit):
    edit("birq_tiny.yaml", "    d_model: !ref", "    nhead: 1\n    d_model: !ref")
    with pytest.raises(BadInput, match="'nhead' is given twice"):
        load()


def test_the_flat_file_has_the_delta_s_head_and_comments(hparams, delta):
    name = delta("lr: 0.5 # my rate\n")
    text = dump(flatten(hparams / name))
    assert text.startswith("# A delta.\n\n# Data\ndata_folder: null # ")
    assert "\nlr: 0.5 # my rate\nwarmup_steps: 250 # " in text
