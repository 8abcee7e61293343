"""The command line: to the letter, or refused in a sentence."""

from pathlib import Path

import pytest

from speechbrain_birq.config import load_configuration, parse_arguments
from speechbrain_birq.errors import BadInput


@pytest.fixture
def parse(hparams):
    """parse(words...): the loaded keys of a command line."""

    def parse(*words, file="ctc_tiny.yaml"):
        argv = [str(hparams / file), "--data_folder=x", *words]
        path, _, overrides = parse_arguments(argv)
        return load_configuration(path, overrides).hparams

    return parse


def test_options_and_keys_are_told_apart():
    argv = ["x.yaml", "--precision", "bf16", "--num_layers", "3", "--trust=[a]"]
    path, options, overrides = parse_arguments(argv)
    assert path == "x.yaml"
    assert options.precision == "bf16"
    assert overrides == {"num_layers": "3", "trust": "[a]", "precision": "bf16"}


@pytest.mark.parametrize(
    "text", ["c #2", "001", "1e3", "null", "2024-01-01", "a: b", "a=b", "[x", "-1", "é"]
)
@pytest.mark.parametrize("form", ["--output_folder={}", "--output_folder {}"])
def test_a_path_is_taken_to_the_letter(parse, tmp_path, text, form):
    words = form.format(text).split(" ", 1) if " {}" in form else [form.format(text)]
    loaded = parse(*words)
    assert loaded["output_folder"] == text
    assert (tmp_path / text / "save").is_dir()


@pytest.mark.parametrize("text", ["001", "1e3", "yes", "a #b", "5"])
def test_a_text_is_taken_to_the_letter(parse, text):
    assert parse(f"--train_split={text}")["train_split"] == text


def test_a_home_folder_is_expanded(parse, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert parse("--lm_path=~/4-gram.arpa")["lm_path"] == "/home/me/4-gram.arpa"
    assert parse("--lm_path=a/~x")["lm_path"] == "a/~x"
    assert parse("--lm_path=~no one/x")["lm_path"] == "~no one/x"


def test_a_home_folder_in_the_file_is_expanded(parse, edit, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    edit("ctc_tiny.yaml", "\nlm_path: null", "\nlm_path: ~/4-gram.arpa")
    assert parse()["lm_path"] == "/home/me/4-gram.arpa"


def test_null_is_null_where_the_key_allows_it(parse):
    assert parse("--lm_path", "null")["lm_path"] is None


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("--num_layers=3", "num_layers", 3),
        ("--lr=1e-3", "lr", 0.001),
        ("--tensorboard=false", "tensorboard", False),
        ("--test_splits=[a, b]", "test_splits", ["a", "b"]),
        ("--test_splits=a", "test_splits", ["a"]),
        ("--lm_alpha=0", "lm_alpha", 0),
    ],
)
def test_other_values_are_yaml(parse, word, key, value):
    assert parse(word)[key] == value


def test_a_key_of_ones_own_that_is_a_text_is_taken_to_the_letter(parse, edit):
    edit("ctc_tiny.yaml", "\nseed:", "\nmy_name: a\nmy_number: 1\nseed:")
    loaded = parse("--my_name=007", "--my_number=2.5")
    assert (loaded["my_name"], loaded["my_number"]) == ("007", 2.5)


def test_an_argument_of_a_part_can_be_given(parse):
    loaded = parse("--encoder", "{attention_type: RelPosMHAXL}")
    assert loaded["encoder"].attention_type == "RelPosMHAXL"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--lr=!new:os.system"], "lr may not hold a tag"),
        (["--test_splits=[!apply:os.getcwd []]"], "may not hold a tag"),
        (["--encoder=!new:my.Encoder"], "may not hold a tag"),
        (["--encoder=conformer"], "encoder is a part"),
        (["--lr", "[1"], "lr is not valid YAML"),
        (["--output_folder=a<seed>b"], "output_folder may not hold <seed>"),
        (["--output_folder=!ref <seed>"], "output_folder may not hold <seed>"),
        (["--nothing=1"], "nothing reads the key 'nothing'"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(parse, words, told):
    with pytest.raises(BadInput, match=told):
        parse(*words)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["x.yaml", "--lr", "1", "--lr", "2"], "command line.*'lr' is given twice"),
        (["x.yaml", "--lr"], "--lr needs a value"),
        (["x.yaml", "--lr", "--seed", "1"], "--lr needs a value"),
        (["x.yaml", "0.1"], "'0.1' follows no --key"),
        (["--lr", "1"], "give a YAML file"),
        (
            ["x.yaml", "--grad_accumulation_factor", "0"],
            "whole number above 0, got 0",
        ),
        (["x.yaml", "--nonfinite_patience=-1"], "a whole number from 0, got -1"),
        (
            ["x.yaml", "--optimizer_step_limit=-1"],
            "a whole number from 0, got -1",
        ),
        (["x.yaml", "--optimizer_step_limit=many"], "takes a whole number"),
        (["x.yaml", "--max_grad_norm=.inf"], "max_grad_norm takes a number"),
        (["x.yaml", "--jit"], "--jit does not work here"),
        (["x.yaml", "--jit_module_keys", "a", "b"], "--jit_module_keys does not work"),
        (["x.yaml", "--compile_module_keys=a"], "--compile compiles the encoder"),
        (["x.yaml", "--data_parallel_backend"], "torchrun"),
    ],
)
def test_a_command_line_that_cannot_be_meant_is_refused(argv, told):
    with pytest.raises(BadInput, match=told):
        parse_arguments(argv)


@pytest.mark.parametrize("form", [["--optimizer_step_limit", "1000"], None])
def test_the_step_limit_is_a_number(form):
    argv = ["x.yaml", *(form or ["--optimizer_step_limit=1000"])]
    _, options, _ = parse_arguments(argv)
    assert options.optimizer_step_limit == 1000
    assert isinstance(options.optimizer_step_limit, int)


def test_a_number_that_is_an_option_too_is_taken_as_in_the_file():
    """argparse takes whole minutes only."""
    _, options, overrides = parse_arguments(["x.yaml", "--ckpt_interval_minutes=0.5"])
    assert options.ckpt_interval_minutes == 0.5
    assert overrides == {"ckpt_interval_minutes": 0.5}


def test_options_that_nobody_gave_are_not_overridden():
    """SpeechBrain writes its defaults over the YAML's precision and accumulation."""
    _, options, _ = parse_arguments(["x.yaml", "--max_grad_norm", "3", "--debug"])
    assert set(options.overridden_args) == {"max_grad_norm", "debug"}


def test_a_key_that_begins_like_an_option_is_a_key():
    """argparse would take --log for --log_config."""
    _, options, overrides = parse_arguments(["x.yaml", "--log", "5"])
    assert options.log_config is None
    assert overrides == {"log": "5"}


def test_the_file_may_stand_anywhere():
    for argv in (["--seed", "1", "x.yaml"], ["--debug", "x.yaml", "--seed=1"]):
        path, _, overrides = parse_arguments(argv)
        assert (path, overrides) == ("x.yaml", {"seed": "1"})
    assert Path(path).suffix == ".yaml"
