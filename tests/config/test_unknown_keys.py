"""Keys that nothing reads: own ones are allowed, misspelled ones are named."""

import logging
import re
from pathlib import Path

import pytest

import speechbrain_birq
from speechbrain_birq.config import configure
from speechbrain_birq.config.keys import KEYS, READ
from speechbrain_birq.config.loader import plain_value
from speechbrain_birq.errors import BadInput


def test_a_key_of_ones_own_is_reached_and_may_be_given(load, edit, caplog):
    edit("birq_tiny.yaml", "\nseed:", "\nmy_weight: 0.5\nseed:")
    assert load(script="pretrain").hparams["my_weight"] == 0.5
    assert load(my_weight=0.25).hparams["my_weight"] == 0.25
    assert "my_weight" not in caplog.text


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("birq_tiny.yaml", "log_interval", "log_intervall"),
        ("birq_tiny.yaml", "keep_checkpoints", "keep_checkpoint"),
        ("ctc_tiny.yaml", "lr_encoder", "lr_encode"),
    ],
)
def test_a_misspelled_key_of_a_complete_file_is_named(
    load, edit, caplog, file, right, wrong
):
    edit(file, f"\n{right}:", f"\n{wrong}:")
    with caplog.at_level(logging.WARNING):
        load(file)
    assert f"{wrong!r}" in caplog.text and f"{right!r} misspelled" in caplog.text
    script = "pretrain" if "birq" in file else "finetune"
    with pytest.raises(BadInput, match=f"needs the key '{right}' \\('{wrong}' looks"):
        load(file, script=script)


@pytest.mark.parametrize(
    ("file", "old", "wrong", "right"),
    [
        ("birq_tiny.yaml", "    num_layers: !ref", "num_layer", "num_layers"),
        ("birq_tiny.yaml", "    label_layer: !ref", "lable_layer", "label_layer"),
        ("birq_tiny.yaml", "{mask_prob: !ref", "mask_pob", "mask_prob"),
        ("birq_tiny.yaml", " weight_decay: !ref", "weight_decays", "weight_decay"),
        ("ctc_tiny.yaml", "    dropout: !ref <head", "dropuot", "dropout"),
    ],
)
def test_a_misspelled_argument_of_a_part_is_refused(
    load, edit, file, old, wrong, right
):
    edit(file, old, old.replace(right, wrong))
    with pytest.raises(BadInput, match=f"key '{wrong}': did you mean '{right}'"):
        load(file)


@pytest.mark.parametrize(
    ("other", "ours"), [("learning_rate", "lr"), ("batch_size", "batch_seconds")]
)
def test_a_key_of_another_toolkit_is_refused_with_ours(load, other, ours):
    with pytest.raises(BadInput, match=f"'{other}': did you mean '{ours}'"):
        load(**{other: 8})


def test_a_misspelled_key_of_the_command_line_is_refused(load):
    with pytest.raises(BadInput, match=r"command line.*'temprature'.*'temperature'"):
        load(temprature=1.0)


def test_a_known_key_that_the_file_lacks_is_refused_on_the_command_line(load):
    with pytest.raises(BadInput, match="nothing reads the key 'anchor_codes'"):
        load(anchor_codes="random")


def test_an_own_key_of_a_delta_is_refused_though_a_reference_reads_it(load, delta):
    name = delta("my_rate: 0.5\nlr: !ref <my_rate>\n")
    with pytest.raises(BadInput, match="'my_rate'"):
        load(name)


def test_a_misspelled_key_of_a_delta_is_refused(load, delta):
    with pytest.raises(BadInput, match=r"delta\.yaml.*'num_laeyrs'.*'num_layers'"):
        load(delta("num_laeyrs: 3\n"))


def test_a_class_that_does_not_exist_is_refused_by_name(load, edit):
    edit("birq_tiny.yaml", "models.SpanMasking", "models.SpamMasking")
    with pytest.raises(BadInput, match=r"this version .* no .*\.SpamMasking: name "):
        load()


def test_a_reference_to_nothing_is_refused_by_name(load, edit):
    edit("birq_tiny.yaml", "input_dim: !ref <n_mels>", "input_dim: !ref <n_meels>")
    with pytest.raises(BadInput, match="n_meels"):
        load()


@pytest.mark.parametrize("value", ["!ref <sed>/a", "!ref <output_folder>/a"])
def test_a_folder_that_refers_to_nothing_or_itself_is_refused(hparams, edit, value):
    old = "output_folder: results/birq_tiny"
    edit("birq_tiny.yaml", old, f"output_folder: {value}")
    tree = configure(hparams / "birq_tiny.yaml", {"data_folder": "nowhere"})
    with pytest.raises(BadInput, match=r"^output_folder: "):
        plain_value(tree, "output_folder")


@pytest.mark.parametrize(
    ("file", "script", "right"),
    [
        ("ctc_tiny.yaml", "pretrain", "finetune.py"),
        ("birq_tiny.yaml", "finetune", "pretrain.py"),
    ],
)
def test_a_file_of_the_other_script_is_refused(load, hparams, file, script, right):
    with pytest.raises(BadInput, match=f"{file} is a YAML for {right}"):
        load(file, script=script)
    assert not (hparams.parent / "results").exists()


@pytest.mark.parametrize("key", sorted(READ))
def test_a_key_that_scripts_read_is_read_by_the_code(key):
    folder = Path(speechbrain_birq.__file__).parent
    sources = [
        path.read_text(encoding="utf-8")
        for path in folder.rglob("*.py")
        if path.parent.name != "config"
    ]
    patterns = (rf"[\"']{key}[\"']", rf"hparams\.{key}\b")
    if key in ("train_split", "valid_split"):
        patterns = (*patterns, r"_split[\"']")
    assert any(re.search(p, text) for p in patterns for text in sources)


def test_there_is_one_table():
    root = Path(speechbrain_birq.__file__).parent
    found = [
        path.name
        for path in root.rglob("*.py")
        if re.search(
            r"^(KEYS|READ_BY_CODE|TAKES|MAY_CHANGE|PER_MACHINE) = ",
            path.read_text(encoding="utf-8"),
            re.M,
        )
    ]
    assert found == ["keys.py"]
    assert len(KEYS) > 90
