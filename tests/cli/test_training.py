"""``birq pretrain`` and ``birq finetune`` are the scripts of recipes/LibriSpeech."""

import os
import runpy
import subprocess
import sys

import pytest
from small_runs import ROOT

from speechbrain_birq import experiment
from speechbrain_birq.cli.main import main

WORDS = ["--data_folder", "corpus", "--seed=3", "--noprogressbar"]


@pytest.fixture
def calls(monkeypatch):
    """Arguments of every call of pretrain and finetune, which do nothing else."""
    found = []

    def record(name):
        def called(prepare, argv=None):
            found.append((name, prepare, list(argv or sys.argv[1:])))

        return called

    for name in ("pretrain", "finetune"):
        monkeypatch.setattr(experiment, name, record(name))
    return found


@pytest.mark.parametrize(
    ("script", "file"), [("pretrain", "birq_tiny"), ("finetune", "ctc_tiny")]
)
def test_a_command_calls_what_the_script_calls(calls, monkeypatch, script, file):
    main([script, file, *WORDS])
    path = ROOT / "recipes" / "LibriSpeech" / f"{script}.py"
    monkeypatch.setattr(sys, "argv", [str(path), file, *WORDS])
    runpy.run_path(str(path), run_name="__main__")
    by_command, by_script = calls
    assert by_command == by_script
    assert by_command[0] == script
    assert by_command[2] == [file, *WORDS]


def test_config_takes_a_name(capsys):
    main(["config", "birq_tiny", "--data_folder", "x"])
    named = capsys.readouterr().out
    main(["config", str(ROOT / "hparams/birq_tiny.yaml"), "--data_folder", "x"])
    assert capsys.readouterr().out == named
    assert "num_layers: 4 " in named


@pytest.mark.parametrize("command", ["config", "pretrain", "finetune"])
def test_a_misspelled_name_is_one_sentence(fails, command):
    fails(lambda: main([command, "birq_tinny"]), "birq_tinny", "birq_tiny,")


@pytest.mark.parametrize(
    ("words", "rank", "said"),
    [
        (["pretrain", "birq_tiny"], "0", ["loading PyTorch and SpeechBrain ..."]),
        (["finetune", "ctc_tiny"], "0", ["loading PyTorch and SpeechBrain ..."]),
        (["demo"], "0", ["loading PyTorch and SpeechBrain ..."]),
        (["pretrain", "birq_tiny"], "1", []),
        (["config", "birq_tiny"], "0", []),
    ],
)
def test_a_training_says_that_it_loads_before_it_does(words, rank, said, tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch is imported')")
    done = subprocess.run(
        [sys.executable, "-m", "speechbrain_birq", *words],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "RANK": rank},
        capture_output=True,
        text=True,
    )
    assert done.stderr.splitlines() == [*said, "torch is imported"]
    assert done.stdout == ""


def test_nothing_is_said_if_torch_is_loaded(calls, capsys):
    main(["pretrain", "birq_tiny"])
    assert calls and capsys.readouterr().err == ""
