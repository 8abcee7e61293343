"""How errors reach the user: the terminal, log.txt, the exit status."""

import errno
import os
import subprocess
import sys

import pytest
import torch
from small_runs import ROOT, process_wide_settings_restored
from speechbrain import create_experiment_directory

from speechbrain_birq.checkpoints.files import save_tensors
from speechbrain_birq.errors import (
    BadInput,
    from_user_code,
    one_sentence,
    out_of_memory,
)


@one_sentence
def mistaken():
    """A mistake whose cause is an error of Python's own."""
    try:
        int("seven")
    except ValueError as error:
        raise BadInput("no number in seven.txt: write one") from error


@pytest.fixture
def run_log(tmp_path):
    """log.txt of an experiment that has just begun."""
    with process_wide_settings_restored():
        create_experiment_directory(tmp_path / "run", save_env_desc=False)
        yield tmp_path / "run" / "log.txt"


def test_the_terminal_gets_one_sentence_and_the_log_its_cause(run_log, capfd):
    with pytest.raises(SystemExit) as ended:
        mistaken()
    assert ended.value.code == 2
    out, err = capfd.readouterr()
    assert err == "error: no number in seven.txt: write one\n"
    assert "seven" not in out
    text = run_log.read_text()
    assert "ValueError: invalid literal for int" in text
    assert f'File "{__file__}"' in text
    assert "BadInput: no number in seven.txt" in text


def test_with_birq_traceback_the_terminal_gets_the_cause_too(monkeypatch, capsys):
    monkeypatch.setenv("BIRQ_TRACEBACK", "1")
    with pytest.raises(SystemExit):
        mistaken()
    told = capsys.readouterr().err
    assert "ValueError: invalid literal for int" in told
    assert f'File "{__file__}"' in told
    assert told.splitlines()[-1] == "error: no number in seven.txt: write one"


HEAD = "from speechbrain_birq.errors import BadInput, one_sentence\n"


def shell(code, redirection="", **variables):
    """Status and error output of a command in a process of its own."""
    command = f'"{sys.executable}" -c "$CODE" {redirection}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command],
        env=os.environ | {"CODE": HEAD + code, "PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr


PRINTING = """
@one_sentence
def main():
    for number in range({lines}):
        print(number)

main()
"""


@pytest.mark.faults
@pytest.mark.parametrize("unbuffered", ["1", ""])
@pytest.mark.parametrize("lines", [1, 100_000])  # at the end, and in between
@pytest.mark.parametrize(
    ("redirection", "status", "told"),
    [
        ("| true", 141, ""),
        (">/dev/full", 2, "error: cannot use the output (No space left on device)"),
        (">&-", 0, ""),
    ],
)
def test_an_output_that_nobody_takes(lines, redirection, status, told, unbuffered):
    code = f"import time; time.sleep(0.2)\n{PRINTING.format(lines=lines)}"
    got, error = shell(code, redirection, PYTHONUNBUFFERED=unbuffered)
    assert got == status
    assert error.partition(": solve")[0] == told


@pytest.mark.faults
def test_a_terminal_of_ascii_shows_other_letters_by_their_codes():
    code = """
@one_sentence
def main():
    print("GRÖSSE")
    raise BadInput("no folder Größe")

main()
"""
    got, error = shell(code, ">&2", PYTHONIOENCODING="ascii")
    assert got == 2
    assert error == "GR\\xd6SSE\nerror: no folder Gr\\xf6\\xdfe\n"


def test_a_pipe_that_breaks_elsewhere_is_left_to_python():
    with pytest.raises(BrokenPipeError):
        raised(BrokenPipeError(32, "Broken pipe"))()


def test_help_that_nobody_reads_has_no_traceback():
    code = """
import argparse

@one_sentence
def main():
    argparse.ArgumentParser().parse_args(["--help"])

import time; time.sleep(0.2)
main()
"""
    assert shell(code, "| true", PYTHONUNBUFFERED="") == (141, "")


def test_a_log_that_cannot_be_written_adds_nothing_to_the_sentence():
    code = """
import logging
logging.basicConfig(filename="/dev/full", level=logging.DEBUG)

@one_sentence
def main():
    logging.info("a line")
    raise BadInput("a mistake")

main()
"""
    assert shell(code) == (2, "error: a mistake\n")


def raised(error):
    """A command that raises it."""

    @one_sentence
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (errno.ENOSPC, None),
        (errno.EDQUOT, None),
        (errno.EROFS, "/data/run/log.txt"),
        (errno.EACCES, "/data/run/log.txt"),
    ],
)
def test_a_disk_that_cannot_be_written_is_one_sentence(fails, number, name):
    error = OSError(number, os.strerror(number), name)
    fails(raised(error), name or "the output", os.strerror(number), "resumes")


def test_a_copy_that_fills_the_disk_names_the_new_file(fails):
    error = OSError(errno.ENOSPC, "No space left", "/old/a", None, "/new/a")
    assert "/old/a" not in fails(raised(error), "/new/a")


def test_a_library_of_a_library_is_not_the_users_code(fails):
    """Pillow writes matplotlib's pictures."""
    image = pytest.importorskip("PIL.Image").new("L", (4, 4))

    @one_sentence
    def main():
        image.save("/dev/full", "png")

    fails(main, "No space left on device")


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(),
        FileNotFoundError(2, "No such file or directory"),
        ConnectionRefusedError(111, "Connection refused"),
        OSError("no errno: nobody knows"),
        RuntimeError("[enforce fail at inline_container.cc] PytorchStreamWriter"),
        EOFError(),
    ],
    ids=repr,
)
def test_what_nobody_knows_is_left_to_python(error):
    with pytest.raises(type(error)) as caught:
        raised(error)()
    assert caught.value is error


def test_a_mistake_found_by_a_process_that_reads_is_one_sentence(fails):
    class Data(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, number):
            raise BadInput("utterance 7: no such thing")

    @one_sentence
    def main():
        list(torch.utils.data.DataLoader(Data(), num_workers=1))

    assert fails(main) == "error: utterance 7: no such thing"


def test_ctrl_c_has_the_shells_status_and_its_place_in_the_log(run_log, capfd):
    with pytest.raises(SystemExit) as ended:
        raised(KeyboardInterrupt())()
    assert ended.value.code == 130
    told = capfd.readouterr().err
    assert "Ctrl-C" in told and "Traceback" not in told
    assert "KeyboardInterrupt" in run_log.read_text()


def test_a_checkpoint_that_cannot_be_written_says_why(tmp_path):
    (tmp_path / "model.ckpt").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        save_tensors({"weight": [1.0]}, tmp_path / "model.ckpt")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "model.ckpt")


def test_the_place_of_an_error_counts_from_where_it_is_caught():
    def own_code():
        int("x")

    def caught(function, *arguments):
        try:
            function(*arguments)
        except ValueError as error:
            return from_user_code(error)

    assert caught(own_code)
    assert not caught(int, "x")  # called by the function that catches it


def test_a_lack_of_memory_is_recognized():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)  # 4 PB
    assert out_of_memory(caught.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA"))
    assert out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert not out_of_memory(OSError(errno.ENOENT, "No such file"))
    assert not out_of_memory(RuntimeError("out of memory"))
