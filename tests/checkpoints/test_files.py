"""Damaged, foreign and unwritable checkpoints; figures that go on without a gap."""

import json
import logging
import os
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from speechbrain_birq.brains.run_log import RunLog
from speechbrain_birq.checkpoints import files
from speechbrain_birq.checkpoints.checkpointer import AtomicCheckpointer
from speechbrain_birq.checkpoints.files import save_tensors
from speechbrain_birq.checkpoints.rank_states import RankStates
from speechbrain_birq.checkpoints.run_folder import best_checkpoint
from speechbrain_birq.errors import BadInput
from speechbrain_birq.metrics.curves import read_metrics


def checkpointer_of(folder, value=0.0):
    """A checkpointer of a model that holds one value, 800 kB of it."""
    model = torch.nn.Linear(1, 200_000, bias=False)
    torch.nn.init.constant_(model.weight, value)
    return AtomicCheckpointer(folder, {"model": model}), model


def saved(folder, *values, **more):
    """Checkpoints with these values."""
    paths = []
    for value in values:
        checkpointer, _ = checkpointer_of(folder, value)
        paths.append(checkpointer.save_checkpoint(**more).path)
    return paths


def recovered(folder):
    checkpointer, model = checkpointer_of(folder)
    checkpointer.recover_if_possible()
    return model.weight[0].item()


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "a bit": lambda folder: flip(folder / "model.ckpt"),
    "the end": lambda folder: os.truncate(folder / "model.ckpt", 400_000),
    "a file": lambda folder: (folder / "model.ckpt").unlink(),
    "a file too many": lambda folder: (folder / "more.ckpt").write_text("1"),
    "the sums": lambda folder: (folder / "SHA256SUMS").unlink(),
    "the sums' text": lambda folder: (folder / "SHA256SUMS").write_bytes(b"\xff"),
    "the description": lambda folder: (folder / "CKPT.yaml").write_text("{"),
    "no description": lambda folder: (folder / "CKPT.yaml").unlink(),
}


@pytest.mark.faults
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, caplog, damage):
    _, newest = saved(tmp_path, 1.0, 2.0)
    damage(newest)
    assert recovered(tmp_path) == 1.0
    assert any(
        record.levelno == logging.WARNING and newest.name in record.getMessage()
        for record in caplog.records
    )


@pytest.mark.faults
def test_if_none_is_whole_nothing_begins_from_scratch(tmp_path):
    for path in saved(tmp_path, 1.0, 2.0):
        flip(path / "model.ckpt")
    with pytest.raises(BadInput, match=r"no checkpoint in .* can be used") as caught:
        recovered(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.faults
def test_inference_passes_over_a_damaged_checkpoint_too(tmp_path):
    older, newest = saved(tmp_path / "save", 1.0, 2.0)
    flip(newest / "model.ckpt")
    assert best_checkpoint(tmp_path) == older


def test_sha256sum_itself_agrees(tmp_path):
    (path,) = saved(tmp_path, 1.0)
    done = os.spawnlp(
        os.P_WAIT, "sh", "sh", "-c", f"cd '{path}' && sha256sum -c --quiet SHA256SUMS"
    )
    assert done == 0


class Evil:
    """Makes a file where it is loaded."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return open, (str(self.victim), "w")


@pytest.mark.parametrize("name", ["model", "ranks"])
def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, name):
    """Its checksum is right: its author has written that, too."""
    checkpointer, _ = checkpointer_of(tmp_path / "save")
    states = RankStates(get=dict, set=lambda *_: None)
    checkpointer.add_recoverable("ranks", states)
    path = checkpointer.save_checkpoint().path
    torch.save({"weight": Evil(tmp_path / "victim")}, path / f"{name}.ckpt")
    files.seal(path)
    with pytest.raises(BadInput, match=f"{name}.ckpt"):
        checkpointer.recover_if_possible()
    assert not (tmp_path / "victim").exists()


def test_another_number_of_processes_goes_on_with_a_warning(tmp_path, caplog):
    save_tensors([{"rank": 0}, {"rank": 1}], tmp_path / "ranks.ckpt")
    got = []
    states = RankStates(get=dict, set=lambda state, _: got.append(state))
    states.load(tmp_path / "ranks.ckpt", end_of_epoch=True)
    assert got == [{"rank": 0}]
    assert "of 2 processes, this run has 1" in caplog.text


@contextmanager
def full_disk(size):
    """No file grows beyond so many bytes; Python ignores SIGXFSZ."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_the_old_checkpoint_and_says_so(tmp_path, caplog):
    (old,) = saved(tmp_path, 1.0)
    checkpointer, _ = checkpointer_of(tmp_path, 2.0)
    with full_disk(400_000):
        checkpointer.save_and_keep_only(num_to_keep=1)
    assert "no checkpoint saved" in caplog.text and "make room" in caplog.text
    assert list(tmp_path.iterdir()) == [old]
    assert recovered(tmp_path) == 1.0
    checkpointer.save_and_keep_only(num_to_keep=1)  # there is room again
    assert recovered(tmp_path) == 2.0


@pytest.mark.parametrize("keep", [1, 2, 3])
@pytest.mark.parametrize("keys", [[], ["cer"]])
def test_never_more_than_one_checkpoint_above_those_to_keep(
    tmp_path, monkeypatch, keep, keys
):
    most, seal = [], files.seal

    def counted(folder):
        most.append(len(list(tmp_path.iterdir())))
        seal(folder)

    monkeypatch.setattr(files, "seal", counted)
    for cer in (5, 1, 4, 3, 2, 6, 7):
        checkpointer, _ = checkpointer_of(tmp_path, cer)
        checkpointer.save_and_keep_only(
            meta={"cer": cer}, num_to_keep=keep, min_keys=keys
        )
        most.append(len(list(tmp_path.iterdir())))
    assert max(most) == keep + 1
    kept = {c.meta["cer"] for c in checkpointer.list_checkpoints()}
    assert kept == set([2, 6, 7][-keep:]) | ({1} if keys else set())


def steps(folder):
    return [row["step"] for row in read_metrics(folder)]


def report(log, *numbers):
    for number in numbers:
        log.report("train", number, {"loss": float(number)})


def test_figures_that_no_checkpoint_knows_are_written_once(tmp_path):
    log = RunLog(tmp_path, tensorboard=False)
    report(log, 1, 2)
    log.save(tmp_path / "state")
    report(log, 3)
    again = RunLog(tmp_path, tensorboard=False)
    again.load(tmp_path / "state", end_of_epoch=True)
    assert steps(tmp_path) == [1, 2, 3]  # a run that is refused leaves them alone
    again.resume()
    assert steps(tmp_path) == [1, 2]
    report(again, 3, 4)
    assert steps(tmp_path) == [1, 2, 3, 4]


def test_without_a_checkpoint_figures_begin_anew(tmp_path):
    report(RunLog(tmp_path, tensorboard=False), 1, 2)
    RunLog(tmp_path, tensorboard=False).resume()
    assert steps(tmp_path) == []


def test_seconds_add_up_over_starts(tmp_path):
    log = RunLog(tmp_path, tensorboard=False)
    log.started -= 100
    log.save(tmp_path / "state")
    again = RunLog(tmp_path, tensorboard=False)
    again.load(tmp_path / "state", end_of_epoch=True)
    assert 100 <= again.seconds < 110


def test_figures_without_room_are_written_later(tmp_path, caplog):
    log = RunLog(tmp_path, tensorboard=False)
    report(log, 1)
    size = (tmp_path / "metrics.jsonl").stat().st_size
    with full_disk(size + 10):
        report(log, 2)
    assert "metrics.jsonl" in caplog.text
    assert steps(tmp_path) == [1]  # whole lines only
    report(log, 3)
    assert steps(tmp_path) == [1, 2, 3]


def test_tensorboard_shows_every_step_once(tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    log = RunLog(tmp_path)
    report(log, 1, 2)
    log.save(tmp_path / "state")
    report(log, 3)
    log.writer.close()
    again = RunLog(tmp_path)
    again.load(tmp_path / "state", end_of_epoch=True)
    again.resume()
    report(again, 3, 4)
    again.writer.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = [event.step for event in events.Scalars("train/loss")]
    assert shown == [1, 2, 3, 4]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "results.json"
    files.write(path, json.dumps([1]))
    with full_disk(100), pytest.raises(OSError):
        files.write(path, "x" * 200)
    assert json.loads(path.read_text()) == [1]
    assert list(Path(tmp_path).iterdir()) == [path]


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    path = tmp_path / "labels"
    with pytest.raises(KeyboardInterrupt), files.new_folder(path) as partial:
        (partial / "a").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".labels.partial").mkdir()  # of a killed process
    (tmp_path / ".labels.partial" / "old").touch()
    with files.new_folder(path) as partial:
        (partial / "b").touch()
        assert not path.exists()
    assert list(tmp_path.rglob("*")) == [path, path / "b"]


def test_a_folder_that_is_there_is_not_replaced(tmp_path):
    (tmp_path / "kept").touch()
    with pytest.raises(OSError), files.new_folder(tmp_path):
        pass
    assert (tmp_path / "kept").exists()


def test_a_disk_with_too_little_room_is_refused(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_500_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    folder = tmp_path / "not" / "yet"
    assert files.check_free_space(folder, 1_500_000_000) == 1_500_000_000
    with pytest.raises(BadInput, match=r"1\.6 GB.*1\.5 GB.*less data") as caught:
        files.check_free_space(folder, 1_600_000_000, advice="take less data")
    assert str(folder) in str(caught.value)
    assert not folder.parent.exists()


def test_two_processes_may_write_a_file_at_the_same_time(tmp_path, monkeypatch):
    path, flush = tmp_path / "characters.json", files.flush

    def meanwhile(partial):
        monkeypatch.setattr(files, "flush", flush)
        files.write(path, "theirs")
        flush(partial)

    monkeypatch.setattr(files, "flush", meanwhile)
    files.write(path, "ours")
    assert path.read_text() == "ours"
    assert list(tmp_path.iterdir()) == [path]
