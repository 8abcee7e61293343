"""A run folder from a stranger: nothing of it runs, and one sentence says why."""

import shutil
import sys
from pathlib import Path

import pytest
from bounds import bounded
from hostile_forms import HEADS, LINES, VALUES
from test_old_layout import OLD

from speechbrain_birq import experiment
from speechbrain_birq.checkpoints.run_folder import load_architecture, read_architecture
from speechbrain_birq.cli.main import main
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import load_labeller

pytestmark = pytest.mark.faults

NOTE = LINES["note"]
SIZE = "  d_ffn: 32\n"


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(OLD / "pretrained", tmp_path / "run")


def armed(text, run):
    """The text, with a command that makes the file ``victim``."""
    victim = str(run.parent / "victim")
    return text.replace("TOUCH", f"touch {victim}").replace("VICTIM", victim)


def with_value(run, name, form):
    path = run / name
    before, size, after = path.read_text().partition(SIZE)
    assert size
    path.write_text(f"{before}  d_ffn: {armed(form, run)}\n{after}")


def refuses(load, run, name):
    with bounded(), pytest.raises(BadInput) as caught:
        load(run)
    text = str(caught.value)
    assert str(run / name) in text
    assert "\n" not in text and len(text) < 600
    assert text.endswith((", or take another run folder", "with --trust")), text
    assert not (run.parent / "victim").exists()


def labeller(run):
    return load_labeller(run, 1)


@pytest.mark.parametrize("form", VALUES.values(), ids=VALUES)
def test_a_value_of_the_architecture(run, form):
    with_value(run, "architecture.yaml", form)
    refuses(load_architecture, run, "architecture.yaml")
    refuses(read_architecture, run, "architecture.yaml")


@pytest.mark.parametrize("form", VALUES.values(), ids=VALUES)
def test_a_value_of_the_hyperparameters(run, form):
    """The first ``d_ffn`` of this indentation is the encoder's."""
    with_value(run, "hyperparams.yaml", form)
    refuses(labeller, run, "hyperparams.yaml")


def with_line(run, line, more):
    path = run / "hyperparams.yaml"
    before, old, after = path.read_text().partition(line)
    assert old
    path.write_text(before + more + after)


def test_a_number_of_rounds(run):
    line = "    projection: random\n"
    with_line(run, line, f"{line}    rounds: 10001\n")
    refuses(labeller, run, "hyperparams.yaml")


@pytest.mark.parametrize("name", ["models.BalancedSelector", "selection.Removed"])
@pytest.mark.parametrize("trust", [(), ["speechbrain_birq"]])
def test_a_class_of_another_version(run, name, trust):
    with_line(run, "selection.GumbelSoftmaxSelector", name)
    refuses(lambda run: load_labeller(run, 1, trust), run, "hyperparams.yaml")


def test_a_class_of_another_version_is_no_question_of_trust(run):
    with_line(run, "selection.GumbelSoftmaxSelector", "models.BalancedSelector")
    with pytest.raises(BadInput, match=r"use the version that trained the run, ") as e:
        labeller(run)
    assert "--trust" not in str(e.value)


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_line_below_the_architecture(run, line):
    with (run / "architecture.yaml").open("a") as file:
        file.write(armed(line, run) + "\n")
    refuses(load_architecture, run, "architecture.yaml")


@pytest.mark.parametrize("line", ["note", "apply", "tuple as key"])
def test_what_nobody_reads_of_the_hyperparameters_is_not_run(run, line):
    with (run / "hyperparams.yaml").open("a") as file:
        file.write(armed(LINES[line], run) + "\n")
    labeller(run)
    assert not (run.parent / "victim").exists()


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("name", ["architecture.yaml", "hyperparams.yaml"])
def test_bytes_before_a_file(run, head, name):
    (run / name).write_bytes(head + (run / name).read_bytes())
    refuses(load_architecture if name[0] == "a" else labeller, run, name)


def test_another_encoding(run):
    path = run / "architecture.yaml"
    path.write_bytes(path.read_text().encode("utf-16"))
    refuses(load_architecture, run, "architecture.yaml")


def test_a_byte_order_mark_is_no_fault(run):
    path = run / "architecture.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_architecture(run)["encoder"].num_layers == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("num_layers: 2", "num_layers: 129"),
        ("d_model: 16", "d_model: 32768"),
        ("sample_rate: 16000", "sample_rate: 1"),
        ("sample_rate: 16000", "sample_rate: 1000000000"),
        ("hop_length: 10", "hop_length: 0"),
        ("win_length: 25", "win_length: 1000000"),
        ("stack: 4", "stack: 0"),
        ("stack: 4", "stack:"),
        ("num_layers: 2", "num_layers:"),
        ("kind: conformer", "kind:"),
        ("dropout: 0.0", "dropout:"),
        ("n_mels: 20", "n_mels: 100000"),
        ("input_dim: 80", "input_dim: 81"),
        ("dropout: 0.0", "dropout: 7"),
        ("kind: conformer", "kind: [conformer]"),
    ],
)
def test_a_size_out_of_bounds(run, old, new):
    path = run / "architecture.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    refuses(load_architecture, run, "architecture.yaml")
    refuses(read_architecture, run, "architecture.yaml")


def commands(run, corpus, tmp_path):
    audio = str(next((corpus / "test").rglob("*.flac")))
    run, new = str(run), str(tmp_path / "new")
    yield "transcribe", lambda: main(["transcribe", run, audio])
    yield "features", lambda: main(["features", run, audio, "--output_folder", new])
    yield "export", lambda: main(["export", run, new])
    tiny = str(Path(__file__).parents[2] / "hparams" / "ctc_tiny.yaml")
    argv = [tiny, "--data_folder", str(corpus), "--output_folder", new]
    argv += ["--pretrained", run]
    diagnosis = ["diagnose", run, "--data_folder", str(corpus), "--output_folder", new]
    yield "diagnose", lambda: main([*diagnosis, "--alignment", run])
    yield "finetune", lambda: experiment.finetune(None, argv)


def test_every_command_refuses_the_folder(run, corpus, tmp_path, fails):
    shutil.copy(OLD / "finetuned" / "characters.json", run)
    with (run / "architecture.yaml").open("a") as file:
        file.write(armed(NOTE, run) + "\n")
    for name, command in commands(run, corpus, tmp_path):
        assert "architecture.yaml" in fails(command, "'note'"), name
    assert not (tmp_path / "victim").exists()


def test_an_export_says_anew_what_was_read(run, tmp_path):
    path = run / "architecture.yaml"
    path.write_text(f"# a comment\n{path.read_text()}# another\n")
    main(["export", str(run), str(tmp_path / "new")])
    text = (tmp_path / "new" / "hyperparams.yaml").read_text()
    assert "comment" not in text and "another of" not in text
    assert "!new:speechbrain_birq.models.SpeechBrainEncoder" in text


PACKAGE = """
import os
import subprocess
import torch
from subprocess import Popen
from speechbrain_birq.models import SpeechBrainEncoder

class Encoder(SpeechBrainEncoder):
    pass

class _Hidden(Encoder):
    pass

def run(*arguments):
    return Encoder()
"""
FOREIGN = [
    "my_package.os.system",
    "my_package.subprocess.Popen",
    "my_package.Popen",
    "my_package.torch.nn.Linear",
    "my_package.torch.hub",
    "my_package._Hidden",
    "my_package.__main__.Encoder",
    "my_package.Encoder.__class__",
    "my_package.run",
    "my_package.Nothing",
    "my_package.nothing.Encoder",
    "my_package",
    "my_package_of_others.Encoder",
    "other.my_package.Encoder",
]


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "my_package.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_package", None)


def as_encoder(run, name):
    path = run / "architecture.yaml"
    old = "speechbrain_birq.encoder.SpeechBrainEncoder"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, name))


@pytest.mark.parametrize("name", FOREIGN)
def test_what_a_trusted_package_only_imports(run, package, name):
    as_encoder(run, name)
    reasons = "not trusted|no class of|cannot import"
    with pytest.raises(BadInput, match=reasons) as caught:
        load_architecture(run, ["my_package"])
    assert str(run / "architecture.yaml") in str(caught.value)


def test_a_class_of_a_trusted_package(run, package):
    as_encoder(run, "my_package.Encoder")
    with pytest.raises(BadInput, match=r"my_package\.Encoder, which is not trusted"):
        load_architecture(run)
    built = load_architecture(run, ["my_package"])["encoder"]
    assert type(built).__name__ == "Encoder"


@pytest.mark.parametrize("form", [f for f in VALUES.values() if "(!!python" in f])
def test_a_text_for_a_class_of_a_trusted_package(run, package, form):
    """Fine-tuning writes it into a file that HyperPyYAML loads."""
    as_encoder(run, "my_package.Encoder")
    path = run / "architecture.yaml"
    text = path.read_text()
    assert "  kind: conformer" in text
    path.write_text(text.replace("  kind: conformer", f"  kind: {armed(form, run)}"))
    with pytest.raises(BadInput, match=r"no plain text|no tuple of numbers"):
        read_architecture(run, ["my_package"])


@pytest.mark.parametrize(
    "part",
    ["!new:torch.nn.Linear [80, 16]", "!new:speechbrain_birq.models.FrontEnd", "1"],
)
def test_an_encoder_that_is_none(run, part):
    path = run / "architecture.yaml"
    head, _, _ = path.read_text().partition("encoder:")
    path.write_text(f"{head}encoder: {part}\n")
    with pytest.raises(BadInput, match=r"not of class SpeechBrainEncoder|no !new:"):
        load_architecture(run)


@pytest.mark.parametrize("old", ["stack: 4", "seed: 1236"])
def test_a_number_that_is_no_whole_one(run, old):
    path = run / "hyperparams.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, f"{old}.5"))
    with pytest.raises(BadInput, match=r"\.5, no whole number"):
        labeller(run)


def test_without_trust_the_package_is_not_imported(run, package):
    as_encoder(run, "my_package.Encoder")
    with pytest.raises(BadInput):
        load_architecture(run)
    assert "my_package" not in sys.modules
