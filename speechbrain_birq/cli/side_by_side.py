"""Several ``birq`` commands at a time, each in a process of one thread."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from speechbrain_birq.checkpoints import files
from speechbrain_birq.cli.commands import LOADING
from speechbrain_birq.errors import BadInput

POLL_SECONDS = 0.5


class Job(NamedTuple):
    """A training: a command, and where it leaves its figures."""

    name: str
    words: Sequence[str]  # of the command `birq`
    folder: Path  # its output folder
    stage: str  # the rows of metrics.jsonl that show its progress
    total: int  # rows, or steps of the last row, at its end
    unit: str  # step or epoch
    after: str | None = None  # name of the job whose folder it needs


class _Running:
    """A job that has been started, and its progress bar."""

    def __init__(self, job, position):
        self.job, self.position = job, position
        job.folder.mkdir(parents=True, exist_ok=True)
        self.output = job.folder / "output.txt"
        command = [sys.executable, "-m", "speechbrain_birq", *job.words]
        with open(self.output, "a", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        self.bar = tqdm(
            desc=job.name, total=job.total, unit=job.unit, position=position
        )

    def poll(self):
        """Show the progress; return the CPU seconds if the process has ended."""
        self.bar.update(_progress(self.job) - self.bar.n)
        process, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if not process:
            return None
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.bar.close()
        seconds = self._used(usage)
        if self.process.returncode:
            raise BadInput(f"{self.job.name}: {_last_line(self.output)}")
        return seconds

    def stop(self):
        """End the process, if it runs; the signal makes it save a checkpoint."""
        self.bar.close()
        if self.process.returncode is None:
            # Popen.terminate would reap a process that has just ended, before wait4.
            os.kill(self.process.pid, signal.SIGTERM)
            _, status, usage = os.wait4(self.process.pid, 0)
            self.process.returncode = os.waitstatus_to_exitcode(status)
            self._used(usage)

    def _used(self, usage):
        seconds = usage.ru_utime + usage.ru_stime
        return add_seconds(self.job.folder / "cpu_seconds.txt", seconds)


def run_jobs(jobs: Sequence[Job], at_once: int = 2) -> dict[str, float]:
    """Run jobs, so many at once, in their order; a job waits for the one it needs.

    A job that is finished ends at once, and one that was stopped is resumed: the
    commands see to that. The output of each goes to ``output.txt`` in its folder.

    Arguments
    ---------
    jobs : sequence of Job
    at_once : int
        Processes at a time; each has one thread.

    Returns
    -------
    dict
        Name of the job -> CPU seconds of all its starts.

    Raises
    ------
    BadInput
        If a job fails, with its last line; the others are stopped.
    """
    waiting = list(jobs)
    running: list[_Running] = []
    seconds: dict[str, float] = {}
    try:
        while waiting or running:
            for job in _ready(waiting, seconds)[: at_once - len(running)]:
                waiting.remove(job)
                taken = {other.position for other in running}
                position = min(set(range(at_once)) - taken)
                running.append(_Running(job, position))
            time.sleep(POLL_SECONDS)
            for one in list(running):
                used = one.poll()
                if used is not None:
                    running.remove(one)
                    seconds[one.job.name] = used
    finally:
        for one in running:
            one.stop()
    return seconds


def add_seconds(path: Path, seconds: float) -> float:
    """Add to the CPU seconds of all starts of a run, which a file holds.

    Example
    -------
    >>> path = getfixture("tmp_path") / "cpu_seconds.txt"
    >>> add_seconds(path, 1.5), add_seconds(path, 0.25)
    (1.5, 1.75)
    """
    with contextlib.suppress(OSError, ValueError):  # none yet, or cut off
        seconds += float(path.read_text())
    files.write(path, f"{seconds:.2f}\n")
    return seconds


def _ready(waiting, finished):
    return [job for job in waiting if job.after is None or job.after in finished]


def _progress(job):
    """Return the rows, or the steps of the last row, that a job has written."""
    try:
        lines = (job.folder / "metrics.jsonl").read_text().splitlines()
    except OSError:
        return 0
    mark = f'"stage": "{job.stage}"'
    rows = [line for line in lines if mark in line and line.endswith("}")]
    if job.unit == "epoch" or not rows:
        return len(rows)
    return json.loads(rows[-1])["step"]


def _last_line(path):
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    words = [line.split("\r")[-1].strip() for line in lines]
    said = [line for line in words if line and line != LOADING]
    last = said[-1] if said else "no output"
    return f"{last.removeprefix('error: ')} (its output: {path})"
