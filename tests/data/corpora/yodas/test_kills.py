"""A preparation of YODAS that is stopped, however, writes the same shards."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from small_yodas import (
    ROOT,
    SPLITS,
    Killed,
    killing,
    shard_files,
    written,
)

from speechbrain_birq.data.corpora.yodas import archives as yodas_archives
from speechbrain_birq.data.corpora.yodas import hub as hub_module
from speechbrain_birq.data.corpora.yodas.archives import decode
from speechbrain_birq.data.shards import writer as shards
from speechbrain_birq.errors import BadInput

KILLS = [
    (yodas_archives, "decode", 12),
    (shards, "_as_pcm", 12),
    (shards._Shard, "finish", 2),
    (yodas_archives, "write", 2),
    (hub_module, "_download", 4),
]


@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_again_and_again_writes_the_same_shards(
    prepare, complete, tmp_path, monkeypatch, seed
):
    """Killed while reading members, while writing shards, while fetching files."""
    rng, kills, counts = random.Random(seed), 0, None
    while counts is None:
        target, name, at_most = rng.choice(KILLS)
        with monkeypatch.context() as patch:
            killed = killing(getattr(target, name), rng.randint(1, at_most))
            patch.setattr(target, name, killed)
            try:
                counts = prepare()
            except Killed:
                kills += 1
    assert kills >= 2
    assert counts == complete.counts
    assert shard_files(tmp_path / "shards") == complete.files


def test_a_killed_run_neither_fetches_nor_decodes_again_what_is_done(
    prepare, complete, hub, monkeypatch
):
    finished = len(complete.chosen["dev"]) + 20
    with monkeypatch.context() as patch:
        patch.setattr(yodas_archives, "decode", killing(decode, finished))
        with pytest.raises(Killed):
            prepare()
    decoded = []
    monkeypatch.setattr(
        yodas_archives, "decode", lambda *a: decoded.append(1) or decode(*a)
    )
    prepare()
    total = sum(map(len, complete.chosen.values()))
    # One archive of at most 12 utterances was open.
    assert total - finished <= len(decoded) <= total - finished + 12
    assert len(decoded) < total
    archives = Counter(path for path, _, _ in hub.served if "/audio/" in path)
    assert set(archives.values()) == {1}


def test_a_continued_run_keeps_to_the_commit_of_its_list(
    prepare, complete, hub, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(yodas_archives, "decode", killing(decode, 20))
        with pytest.raises(Killed):
            prepare()
    hub.revisions.remove("main")
    assert prepare() == complete.counts


def test_a_finished_folder_asks_nobody(prepare, hub):
    counts = prepare()
    hub.server.shutdown()
    asked = len(hub.served)
    assert prepare() == counts
    assert len(hub.served) == asked


def test_a_cut_connection_and_a_wrong_hash_change_nothing(
    prepare, complete, hub, tmp_path
):
    archives = [p for p in hub.files if "/audio/" in p]
    hub.faults = {p: [("cut", 9_000), ("wrong", 5_000)] for p in archives}
    hub.faults |= {p: [("short", 9)] for p in hub.files if "/text/" in p}
    assert prepare() == complete.counts
    assert shard_files(tmp_path / "shards") == complete.files


def test_what_cannot_be_had_ends_the_run_with_a_sentence_and_it_goes_on_later(
    prepare, complete, hub, tmp_path
):
    hub.faults = {p: [("gone", 0)] * 9 for p in hub.files if "/audio/0" in p}
    with pytest.raises(
        BadInput, match=r"gave up data/en00.*give the same command again"
    ):
        prepare()
    hub.faults = {}
    assert prepare() == complete.counts
    assert shard_files(tmp_path / "shards") == complete.files


def test_a_disk_too_small_ends_it_before_the_first_byte(prepare, hub, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=399e9))
    with pytest.raises(BadInput, match=r"400\.0 GB.*399\.0 GB free: .*--hours"):
        prepare(hours=4990, dev_hours=10)
    assert hub.served == []


def test_a_disk_that_fills_up_is_one_sentence_and_it_goes_on_later(
    prepare, complete, monkeypatch, tmp_path
):
    def full(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shards._Shard, "finish", full)
        with pytest.raises(BadInput, match="no space left on the disk"):
            prepare()
    assert prepare() == complete.counts
    assert shard_files(tmp_path / "shards") == complete.files


def test_two_runs_in_one_folder_are_refused(prepare, hub):
    refused = []

    def second(path):
        hub.before = lambda path: None
        try:
            prepare()
        except BadInput as error:
            refused.append(str(error))

    hub.before = second
    prepare()
    assert len(refused) == 1 and f"process {os.getpid()}" in refused[0]


def test_a_folder_that_cannot_be_made_is_one_sentence(prepare, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"cannot write .*output folder"):
        prepare(tmp_path / "file" / "shards")


def test_what_an_earlier_version_has_begun_is_refused(prepare, tmp_path):
    prepare()
    (tmp_path / "shards" / "prepared.json").touch()
    assert prepare()["written"] > 0  # it is finished
    (tmp_path / "shards" / "train" / "index.json").unlink()
    with pytest.raises(BadInput, match=r"earlier version .*--output_folder"):
        prepare()


@pytest.mark.slow
def test_a_process_that_gets_sigkill_is_continued_by_the_next(hub, complete, tmp_path):
    folder = tmp_path / "shards"
    recipe = ROOT / "recipes" / "YODAS" / "prepare.py"
    command = [sys.executable, recipe, "--output_folder", folder]
    command += ["--endpoint", hub.endpoint]
    command += [f"--{name}={value}" for name, value in SPLITS.items()]
    paths = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start():
        return subprocess.Popen(
            [*map(str, command)],
            env=os.environ | paths,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    asked = []

    def kill_at_the_second_archive(path):
        if "/audio/" in path and path not in asked:
            asked.append(path)
            if len(asked) == 2:
                process.send_signal(signal.SIGKILL)

    hub.before = kill_at_the_second_archive
    with start() as process:
        process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    fetched = hub.times(asked[0])
    with start() as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert f"{complete.counts['written']} written" in output
    for split in ("dev", "train"):
        assert written(folder, split).keys() == complete.chosen[split]
    assert hub.times(asked[0]) == fetched  # what is finished is not asked for again
