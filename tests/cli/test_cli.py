"""The command birq."""

import csv
import subprocess
import sys

import pytest

from speechbrain_birq import __version__
from speechbrain_birq.cli import corpora
from speechbrain_birq.cli.main import main


@pytest.fixture
def audio(corpus):
    return sorted(map(str, (corpus / "test").rglob("*.flac")))


def test_export_says_what_it_wrote(run_folder, tmp_path, capsys):
    target = tmp_path / "exported"
    main(["export", str(run_folder), str(target), "--format", "speechbrain"])
    told = capsys.readouterr().out
    written = [path.name for path in target.iterdir()]
    assert {"encoder.ckpt", "hyperparams.yaml"} < set(written)
    assert all(name in told for name in written)


@pytest.mark.faults
def test_a_bad_file_is_named_and_the_others_are_done(run_folder, audio, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["transcribe", str(run_folder), "none.wav", *audio])
    told = capsys.readouterr()
    assert caught.value.code == 1
    assert len(told.out.splitlines()) == len(audio)
    assert "error: no audio file none.wav" in told.err
    assert told.err.splitlines()[-1].startswith("error: 1 of ")


def test_no_run_folder_is_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["transcribe", str(tmp_path), "a.wav"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_minispeech_makes_a_corpus(tmp_path, capsys):
    main(["minispeech", str(tmp_path / "mini"), "--hours", "0.02"])
    printed = capsys.readouterr().out
    assert printed.startswith("pretrain")
    command = f"next: birq pretrain birq_tiny --data_folder {tmp_path / 'mini'}"
    assert printed.splitlines()[-1] == command
    assert list((tmp_path / "mini" / "test").rglob("*.flac"))


def test_minispeech_refuses_a_strangers_folder(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(SystemExit):
        main(["minispeech", str(tmp_path), "--hours", "0.02"])
    assert capsys.readouterr().err.startswith("error: ")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def write_errors(folder, character_errors):
    folder.mkdir()
    with open(folder / "errors_test.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["id", "word_errors", "words", "character_errors", "characters"]
        )
        writer.writerows([i, 1, 2, e, 10] for i, e in enumerate(character_errors))


def test_compare_prints_difference_and_interval(tmp_path, capsys):
    write_errors(tmp_path / "a", [1, 1, 1, 1])
    write_errors(tmp_path / "b", [2, 2, 2, 2])
    main(["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert capsys.readouterr().out == (
        "CER on test: 10.00 % against 20.00 %, difference -10.00 "
        "(95 % interval -10.0 to -10.0)\n"
    )


@pytest.mark.parametrize(
    ("run", "words"),
    [("a", "it has test): name a split"), ("b", "it has none"), ("c", "no folder")],
)
def test_compare_names_the_splits_that_were_scored(tmp_path, capsys, run, words):
    write_errors(tmp_path / "a", [1])
    (tmp_path / "b").mkdir()
    with pytest.raises(SystemExit, match="2"):
        main(["compare", *[str(tmp_path / run)] * 2, "--split", "dev"])
    assert words in capsys.readouterr().err


def test_compare_of_an_empty_file_is_one_sentence(tmp_path, capsys):
    write_errors(tmp_path / "a", [1])
    path = tmp_path / "a" / "errors_test.csv"
    path.write_text("")
    with pytest.raises(SystemExit) as caught:
        main(["compare", str(tmp_path / "a"), str(tmp_path / "a")])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {path} ")


def test_help_does_not_load_torch():
    code = (
        "import sys; from speechbrain_birq.cli.main import make_parser;"
        "make_parser().format_help();"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_ctrl_c_ends_with_a_sentence(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(corpora, "minispeech", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["minispeech", "corpus"])
    assert ended.value.code == 130
    assert "stopped by Ctrl-C" in capsys.readouterr().err


def test_the_module_is_the_command_and_knows_its_version():
    command = [sys.executable, "-m", "speechbrain_birq", "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == f"birq {__version__}\n"


def test_an_output_that_nobody_reads_ends_the_command_quietly(tmp_path):
    command = f"{sys.executable} -m speechbrain_birq compare {tmp_path}/a {tmp_path}/b"
    run = f"{command} | true; exit ${{PIPESTATUS[0]}}"
    write_errors(tmp_path / "a", [1, 2])
    write_errors(tmp_path / "b", [2, 2])
    done = subprocess.run(["bash", "-c", run], capture_output=True, text=True)
    assert done.returncode == 141
    assert done.stderr == ""
