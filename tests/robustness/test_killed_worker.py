"""A process that reads audio for a DataLoader is killed, or fails by itself."""

import json
import os
import signal
import threading
import time

import pytest
from small_runs import log, pretrain
from torch.utils.data import DataLoader

from speechbrain_birq.data.pipeline import MaskItem
from speechbrain_birq.errors import one_sentence

pytestmark = [pytest.mark.faults, pytest.mark.slow]


def killed_by(number, patch):
    draw = MaskItem.__call__

    def killed(self, sig, name):
        if name == "12-1-0000":
            os.kill(os.getpid(), number)
        return draw(self, sig, name)

    patch.setattr(MaskItem, "__call__", killed)


def test_after_a_reader_was_killed_the_same_command_resumes(
    corpus, tmp_path, fails, monkeypatch
):
    more = dict(num_workers=1, ckpt_interval_steps=1, batch_seconds=0.1)
    more |= dict(ckpt_interval_minutes=0, optimizer_step_limit=None)
    killed_by(signal.SIGKILL, monkeypatch)
    words = ("which reads audio", "SIGKILL", "num_workers", "resumes")
    fails(lambda: pretrain(corpus, tmp_path / "run", **more), *words)
    assert "DataLoader worker" in log(tmp_path / "run")  # torch's own words: the cause
    monkeypatch.undo()
    pretrain(corpus, tmp_path / "run", **more)
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["steps"] == 6


class Utterances:
    """Each of them is read by a process of its own, which does something first."""

    def __init__(self, read):
        self.read = read

    def __len__(self):
        return 2

    def __getitem__(self, index):
        self.read(index)
        return index


def epoch(read):
    @one_sentence
    def main():
        list(DataLoader(Utterances(read), num_workers=2))

    return main


def test_a_reader_killed_before_it_answers_is_named(fails):
    def read(index):
        if index:
            os.kill(os.getpid(), signal.SIGKILL)

    fails(epoch(read), "which reads audio", "SIGKILL")


def test_a_connection_that_breaks_before_the_reader_has_ended_is_a_killed_reader(
    fails, monkeypatch
):
    """The exit code is there a moment later than the end of the connection."""

    def get(self, timeout=None):
        for process in self._readers:
            threading.Timer(0.2, os.kill, (process.pid, signal.SIGKILL)).start()
        raise ConnectionResetError(104, "Connection reset by peer")

    @one_sentence
    def main():
        iterator = iter(
            DataLoader(Utterances(lambda index: time.sleep(9)), 1, num_workers=1)
        )
        queue = iterator._data_queue
        monkeypatch.setattr(type(queue), "_readers", iterator._workers, raising=False)
        monkeypatch.setattr(type(queue), "get", get)
        next(iterator)

    fails(main, "which reads audio", "SIGKILL")


def test_a_reader_that_ends_by_itself_was_not_killed():
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        epoch(lambda index: os._exit(1))()


def test_an_error_in_a_reader_is_shown_as_it_is():
    def read(index):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        epoch(read)()


@pytest.mark.parametrize(
    "error",
    [
        EOFError(),
        ConnectionResetError(104, "Connection reset by peer"),
        FileNotFoundError(),
        FileNotFoundError(2, "No such file or directory"),
        RuntimeError("DataLoader worker (pid(s) 17) exited unexpectedly"),
    ],
    ids=repr,
)
def test_without_a_reader_nobody_was_killed(error):
    @one_sentence
    def main():
        raise error

    with pytest.raises(type(error)):
        main()
