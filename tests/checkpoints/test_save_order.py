"""Checkpoints are ordered by what was saved last, whatever the clock says."""

import time

import pytest
import ruamel.yaml
import torch

from speechbrain_birq.checkpoints.checkpointer import AtomicCheckpointer
from speechbrain_birq.checkpoints.run_folder import best_checkpoint

pytestmark = pytest.mark.faults

DAY = 24 * 3600


@pytest.fixture
def set_back(monkeypatch):
    """A function that sets the clock back by a day."""
    clock = time.time

    def set_back():
        nonlocal clock
        before, clock = clock, lambda: before() - DAY
        monkeypatch.setattr(time, "time", clock)

    return set_back


def checkpointer_of(folder):
    return AtomicCheckpointer(folder / "save", {"model": torch.nn.Linear(1, 1)})


def kept(folder):
    return sorted(c.meta["step"] for c in checkpointer_of(folder).list_checkpoints())


@pytest.mark.parametrize("keep", [1, 2])
def test_a_clock_that_is_set_back_deletes_no_newer_checkpoint(tmp_path, set_back, keep):
    for step in range(1, 6):
        checkpointer_of(tmp_path).save_and_keep_only(
            meta={"step": step}, num_to_keep=keep
        )
        set_back()
    assert kept(tmp_path) == [4, 5][-keep:]


def test_the_last_save_is_recovered_after_the_clock_was_set_back(tmp_path, set_back):
    for step in (1, 2):
        checkpointer_of(tmp_path).save_checkpoint(meta={"step": step})
        set_back()
    assert checkpointer_of(tmp_path).recover_if_possible().meta["step"] == 2
    assert checkpointer_of(tmp_path).find_checkpoint().meta["step"] == 2


def test_the_best_of_equals_is_the_last_one_saved(tmp_path, set_back):
    for step, cer in enumerate((30, 9.5, 9.5, 20)):
        checkpointer_of(tmp_path).save_and_keep_only(
            meta={"step": step, "cer": cer}, num_to_keep=1, min_keys=["cer"]
        )
        set_back()
    assert kept(tmp_path) == [2, 3]
    best = checkpointer_of(tmp_path).recover_if_possible(min_key="cer")
    assert best.meta["step"] == 2
    assert best_checkpoint(tmp_path) == best.path


def test_a_run_that_resumes_from_an_older_checkpoint_goes_on_from_its_own(tmp_path):
    """The newest one is corrupt, so that its steps come again."""
    for step in (50, 100):
        saved = checkpointer_of(tmp_path).save_checkpoint(meta={"step": step})
    (saved.path / "model.ckpt").write_bytes(b"")
    checkpointer = checkpointer_of(tmp_path)
    assert checkpointer.recover_if_possible().meta["step"] == 50
    checkpointer.save_and_keep_only(meta={"step": 60}, num_to_keep=1)
    assert kept(tmp_path) == [60]


def without_number(checkpoint, **more):
    """A description as earlier versions have written it."""
    path, yaml = checkpoint.path / "CKPT.yaml", ruamel.yaml.YAML(typ="safe")
    meta = yaml.load(path)
    del meta["save-number"]
    yaml.dump(meta | more, path)


def test_checkpoints_of_earlier_versions_are_ordered_by_step_then_time(tmp_path):
    checkpointer = checkpointer_of(tmp_path)
    for step, unixtime in ((3, 100.0), (2, 300.0), (3, 200.0)):
        saved = checkpointer.save_checkpoint(meta={"step": step})
        without_number(saved, unixtime=unixtime)
    checkpointer.save_checkpoint(meta={"step": 1})
    found = [
        (c.meta["step"], c.meta["unixtime"]) for c in checkpointer.find_checkpoints()
    ]
    assert found[0][0] == 1
    assert found[1:] == [(3, 200.0), (3, 100.0), (2, 300.0)]


@pytest.mark.parametrize("value", ["x", "[1]", ".nan"])
def test_a_score_that_is_no_number_is_never_the_best(tmp_path, value):
    checkpointer = checkpointer_of(tmp_path)
    good = checkpointer.save_checkpoint(meta={"cer": 5.0})
    meta = ruamel.yaml.YAML(typ="safe").load(f"cer: {value}")
    checkpointer.save_checkpoint(meta=meta)
    assert checkpointer.find_checkpoints(min_key="cer") == [good]
    assert checkpointer.find_checkpoints(max_key="cer") == [good]
    assert best_checkpoint(tmp_path) == good.path


@pytest.mark.parametrize(
    "metas, expected",
    [
        ([{"cer": 30}, {"cer": 9.5}, {"cer": 20}], 1),
        ([{"cer": 30}, {"cer": 9.5}, {"cer": 9.5}], 2),
        ([{"cer": 30}, {"cer": 9.5}, {}], 1),
        ([{"loss": 3}, {"loss": 1}, {"loss": 2}], 2),
    ],
    ids=["smallest", "newest of equals", "of those with one", "newest"],
)
def test_the_best_checkpoint_has_the_smallest_cer_or_is_the_newest(
    tmp_path, metas, expected
):
    checkpointer = checkpointer_of(tmp_path)
    saved = [checkpointer.save_checkpoint(meta=meta).path for meta in metas]
    assert best_checkpoint(tmp_path) == saved[expected]
