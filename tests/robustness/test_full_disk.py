"""A full disk: training continues, and the log says what could not be written."""

import json
import resource
from types import SimpleNamespace

import pytest
from small_runs import log, pretrain

from speechbrain_birq.brains.run_log import RunLog
from speechbrain_birq.checkpoints.checkpointer import AtomicCheckpointer
from speechbrain_birq.metrics.curves import read_metrics

pytestmark = pytest.mark.faults


def full_disk_for_figures(corpus, output, patch):
    output.mkdir()
    (output / "metrics.jsonl").symlink_to("/dev/full")


def full_disk_for_checkpoints(corpus, output, patch):
    save, limit = AtomicCheckpointer.save_checkpoint, resource.RLIMIT_FSIZE

    def with_little_room(self, *arguments, **keywords):
        before = resource.getrlimit(limit)
        resource.setrlimit(limit, (1000, before[1]))
        try:
            return save(self, *arguments, **keywords)
        finally:
            resource.setrlimit(limit, before)

    patch.setattr(AtomicCheckpointer, "save_checkpoint", with_little_room)


@pytest.mark.parametrize(
    "arrange, words",
    [
        (full_disk_for_figures, "No space left on device; the line is written with"),
        (full_disk_for_checkpoints, "/save (File too large)"),
    ],
)
def test_a_full_disk_does_not_end_a_training_but_it_is_not_finished(
    corpus, tmp_path, monkeypatch, arrange, words
):
    arrange(corpus, tmp_path / "run", monkeypatch)
    with pytest.raises(SystemExit) as ended:
        pretrain(corpus, tmp_path / "run")
    assert ended.value.code == 2
    assert "the last checkpoint could not be saved" in log(tmp_path / "run")
    assert words in log(tmp_path / "run")
    assert "step 3/3  validation" in log(tmp_path / "run")
    assert not (tmp_path / "run/results.json").exists()


def test_a_disk_that_has_room_again_at_the_end_is_no_fault(
    corpus, tmp_path, monkeypatch
):
    full_disk_for_checkpoints(corpus, tmp_path / "run", monkeypatch)
    in_full, saves = AtomicCheckpointer.save_checkpoint, []
    monkeypatch.undo()
    save = AtomicCheckpointer.save_checkpoint

    def once_full(self, *arguments, **keywords):
        saves.append(self)
        return (save if saves[1:] else in_full)(self, *arguments, **keywords)

    monkeypatch.setattr(AtomicCheckpointer, "save_checkpoint", once_full)
    pretrain(corpus, tmp_path / "run", ckpt_interval_minutes=0, ckpt_interval_steps=2)
    assert "no checkpoint saved" in log(tmp_path / "run") and saves[1:]
    assert json.loads((tmp_path / "run/results.json").read_text())["steps"] == 3


def test_without_a_tensorboard_folder_training_continues(corpus, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/tensorboard").write_text("no folder")
    pretrain(corpus, tmp_path / "run", tensorboard=True)
    assert "no TensorBoard: cannot write" in log(tmp_path / "run")
    assert read_metrics(tmp_path / "run", "valid")


def test_a_disk_too_full_for_tensorboard_does_not_stop_the_figures(tmp_path, caplog):
    def add_scalar(*arguments):
        raise OSError(28, "No space left on device")

    run_log = RunLog(tmp_path, tensorboard=False)
    run_log.writer = SimpleNamespace(add_scalar=add_scalar)
    for step in range(3):
        run_log.report("train", step, {"G": 1.0})
    assert caplog.text.count("no TensorBoard from now on") == 1
    assert len(read_metrics(tmp_path, "train")) == 3
