"""One folder, one run: a second process is refused, a dead one holds nothing."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from speechbrain_birq.checkpoints import run_lock
from speechbrain_birq.checkpoints.run_lock import locked
from speechbrain_birq.errors import BadInput

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
HOLD = """
import os, sys, time
from speechbrain_birq.checkpoints.run_lock import locked
with locked(sys.argv[1]):
    if os.fork():
        print("held", flush=True)
    time.sleep(60)  # the child, too: it stands for a loader's worker
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder, and has a child of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_the_second_process_names_the_holder(holder, tmp_path):
    with pytest.raises(BadInput) as caught, locked(tmp_path / "run"):
        pass
    message = str(caught.value)
    assert str(tmp_path / "run") in message
    assert f"process {holder.pid} on {socket.gethostname()}" in message
    since = re.search(r"since (\S+ \S+):", message)[1]
    age = time.time() - time.mktime(time.strptime(since, "%Y-%m-%d %H:%M:%S"))
    assert -1 < age < 60


def test_a_killed_process_releases_the_folder_though_its_workers_live(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with locked(tmp_path / "run"):
        pass


def test_a_folder_is_free_again_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        _ = 1 / 0
    with locked(tmp_path):
        pass


def test_only_the_first_rank_locks(tmp_path, monkeypatch):
    with locked(tmp_path):
        monkeypatch.setattr(run_lock, "if_main_process", lambda: False)
        with locked(tmp_path):
            pass


def test_every_rank_is_refused_with_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "if_main_process", lambda: False)
    monkeypatch.setattr(run_lock, "gathered", lambda mine: ["used by 7", mine])
    with pytest.raises(BadInput, match="used by 7"), locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "run"
    with pytest.raises(BadInput, match="Not a directory") as caught, locked(folder):
        pass
    assert str(folder) in str(caught.value)


def test_a_file_system_without_locks_is_used_with_a_warning(
    tmp_path, monkeypatch, caplog
):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(run_lock.fcntl, "flock", unsupported)
    with locked(tmp_path):
        pass
    assert "Operation not supported" in caplog.text
