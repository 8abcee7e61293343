"""Commands that run at the same time: their order, their errors, their progress."""

import json
import time

import pytest

from speechbrain_birq.cli import side_by_side
from speechbrain_birq.cli.commands import LOADING
from speechbrain_birq.cli.side_by_side import Job, run_jobs
from speechbrain_birq.errors import BadInput


def job(folder, name, words, after=None, unit="step"):
    return Job(name, words, folder / name, "train", 10, unit, after)


VERSION = ["--version"]


def test_every_job_is_run_and_its_output_kept(tmp_path):
    jobs = [job(tmp_path, name, VERSION) for name in "abc"]
    seconds = run_jobs(jobs)
    assert sorted(seconds) == ["a", "b", "c"]
    assert all(used > 0 for used in seconds.values())
    assert "birq" in (tmp_path / "c" / "output.txt").read_text()


def test_a_job_s_seconds_are_those_of_all_its_starts(tmp_path):
    one = job(tmp_path, "a", VERSION)
    first, second = (run_jobs([one])["a"] for _ in range(2))
    assert second > first > 0
    failing = one._replace(words=["config", str(tmp_path / "absent.yaml")])
    with pytest.raises(BadInput):
        run_jobs([failing])
    assert float((one.folder / "cpu_seconds.txt").read_text()) > second


def test_a_job_waits_for_the_one_it_needs(tmp_path, monkeypatch):
    started = []

    class Recorded(side_by_side._Running):
        def __init__(self, job, position):
            started.append(job.name)
            super().__init__(job, position)

    monkeypatch.setattr(side_by_side, "_Running", Recorded)
    jobs = [
        job(tmp_path, "second", VERSION, after="first"),
        job(tmp_path, "first", VERSION),
    ]
    run_jobs(jobs)
    assert started == ["first", "second"]


def test_a_failed_job_ends_all_with_its_sentence(tmp_path):
    failing = job(tmp_path, "broken", ["config", str(tmp_path / "absent.yaml")])
    dependent = job(tmp_path, "never", VERSION, after="broken")
    with pytest.raises(BadInput, match=r"broken: .*absent\.yaml"):
        run_jobs([failing, dependent])
    assert not (tmp_path / "never").exists()


def test_two_jobs_that_fail_together_end_with_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(side_by_side, "POLL_SECONDS", 8)  # both have ended by then
    words = ["config", str(tmp_path / "absent.yaml")]
    with pytest.raises(BadInput, match=r"absent\.yaml"):
        run_jobs([job(tmp_path, name, words) for name in "ab"])


def test_a_failed_job_stops_the_one_beside_it(tmp_path, monkeypatch):
    waits = ["-c", "import time; time.sleep(60)"]
    words = {"broken": ["-c", "raise SystemExit('error: no disk')"], "long": waits}
    popen = side_by_side.subprocess.Popen
    monkeypatch.setattr(
        side_by_side.subprocess,
        "Popen",
        lambda command, **more: popen([command[0], *command[3:]], **more),
    )
    started = time.monotonic()
    with pytest.raises(BadInput, match="no disk"):
        run_jobs([job(tmp_path, name, words[name]) for name in ("long", "broken")])
    assert time.monotonic() - started < 30


def test_a_job_killed_while_it_loads_is_not_said_to_load(tmp_path):
    output = tmp_path / "output.txt"
    output.write_text("error: the one before\n" + LOADING + "\n")
    assert side_by_side._last_line(output).startswith("the one before")
    output.write_text(LOADING + "\n")
    assert side_by_side._last_line(output).startswith("no output")


@pytest.mark.parametrize("unit, expected", [("step", 7), ("epoch", 2)])
def test_progress_is_that_of_the_rows_that_are_whole(tmp_path, unit, expected):
    one = job(tmp_path, "a", VERSION, unit=unit)
    one.folder.mkdir()
    rows = [("train", 3), ("valid", 9), ("train", 7)]
    lines = [json.dumps({"stage": stage, "step": step}) for stage, step in rows]
    text = "\n".join(lines) + '\n{"stage": "train", "st'
    (one.folder / "metrics.jsonl").write_text(text)
    assert side_by_side._progress(one) == expected


def test_progress_is_0_before_there_are_figures(tmp_path):
    assert side_by_side._progress(job(tmp_path, "a", VERSION)) == 0
