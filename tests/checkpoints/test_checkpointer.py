"""Checkpoints: whole or not at all, random states, and nothing foreign that runs."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from speechbrain.utils.checkpoints import (
    Checkpointer,
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)

from speechbrain_birq.checkpoints import checkpointer as saving
from speechbrain_birq.checkpoints.checkpointer import AtomicCheckpointer
from speechbrain_birq.checkpoints.rank_states import (
    RankStates,
    random_states,
    set_random_states,
)
from speechbrain_birq.checkpoints.run_folder import (
    best_checkpoint,
    load_architecture,
    load_weights,
    save_architecture,
)
from speechbrain_birq.errors import BadInput


@register_checkpoint_hooks
class Counter:
    """A number that can refuse to be saved."""

    def __init__(self, value=0):
        self.value, self.broken = value, False

    @mark_as_saver
    def save(self, path):
        if self.broken:
            path.write_text("")
            raise RuntimeError("disk full")
        path.write_text(str(self.value))

    @mark_as_loader
    def load(self, path, end_of_epoch):
        self.value = int(path.read_text())


def make_checkpointer(folder, kind=AtomicCheckpointer):
    """Two recoverables; the second is the one that may break."""
    parts = {"first": Counter(), "second": Counter(), "model": Counter()}
    return kind(folder, recoverables=parts), parts


def interrupted(tmp_path, kind):
    """A good checkpoint with 1, then one that dies half-way with 2."""
    checkpointer, parts = make_checkpointer(tmp_path, kind)
    for part in parts.values():
        part.value = 1
    checkpointer.save_checkpoint(name="good")
    parts["first"].value = parts["second"].value = 2
    parts["second"].broken = True
    with pytest.raises(RuntimeError, match="disk full"):
        checkpointer.save_checkpoint()
    return make_checkpointer(tmp_path, kind)


def test_after_an_interrupted_save_the_old_checkpoint_is_recovered(tmp_path):
    checkpointer, parts = interrupted(tmp_path, AtomicCheckpointer)
    found = checkpointer.recover_if_possible()
    assert found.path.name == "CKPT+good"
    assert (parts["first"].value, parts["second"].value) == (1, 1)


def test_the_stock_checkpointer_does_not_survive_an_interrupted_save(tmp_path):
    """The power of the test above."""
    checkpointer, parts = interrupted(tmp_path, Checkpointer)
    with pytest.raises(ValueError):  # half of the newest is an empty file
        checkpointer.recover_if_possible()
    assert parts["first"].value == 2


def test_an_interrupted_save_leaves_no_checkpoint_behind(tmp_path):
    checkpointer, _ = interrupted(tmp_path, AtomicCheckpointer)
    assert [c.path.name for c in checkpointer.list_checkpoints()] == ["CKPT+good"]


def test_the_next_save_clears_away_what_an_interrupted_one_left(tmp_path):
    checkpointer, _ = interrupted(tmp_path, AtomicCheckpointer)
    assert list(tmp_path.glob("partial+*"))
    checkpointer.save_checkpoint()
    assert not list(tmp_path.glob("partial+*"))
    assert len(checkpointer.list_checkpoints()) == 2


def test_a_named_checkpoint_is_atomic_too(tmp_path):
    checkpointer, parts = make_checkpointer(tmp_path)
    parts["second"].broken = True
    with pytest.raises(RuntimeError, match="disk full"):
        checkpointer.save_checkpoint(name="best")
    assert checkpointer.find_checkpoint() is None


def test_a_saved_checkpoint_is_where_it_says(tmp_path):
    checkpointer, parts = make_checkpointer(tmp_path)
    parts["first"].value = 7
    saved = checkpointer.save_checkpoint(meta={"loss": 0.5})
    assert saved.path.is_dir()
    assert saved.path.name.startswith("CKPT+")
    assert saved.meta["loss"] == 0.5
    assert saved.paramfiles["first"].read_text() == "7"


def test_a_name_may_be_used_again(tmp_path):
    checkpointer, parts = make_checkpointer(tmp_path)
    for value in (1, 2):
        parts["first"].value = value
        checkpointer.save_checkpoint(name="best")
    fresh, loaded = make_checkpointer(tmp_path)
    fresh.recover_if_possible()
    assert len(fresh.list_checkpoints()) == 1
    assert loaded["first"].value == 2


def test_saves_within_one_second_are_all_kept(tmp_path):
    checkpointer, _ = make_checkpointer(tmp_path)
    paths = {checkpointer.save_checkpoint().path for _ in range(4)}
    assert len(paths) == len(checkpointer.list_checkpoints()) == 4


def test_the_newest_checkpoint_is_recovered(tmp_path):
    checkpointer, parts = make_checkpointer(tmp_path)
    for value in (1, 2, 3):
        parts["first"].value = value
        checkpointer.save_checkpoint()
    fresh, loaded = make_checkpointer(tmp_path)
    fresh.recover_if_possible()
    assert loaded["first"].value == 3


def test_only_as_many_checkpoints_as_wanted_are_kept(tmp_path):
    checkpointer, _ = make_checkpointer(tmp_path)
    for loss in (3.0, 1.0, 2.0):
        checkpointer.save_and_keep_only(
            meta={"loss": loss}, num_to_keep=1, min_keys=["loss"]
        )
    kept = [c.meta["loss"] for c in checkpointer.list_checkpoints()]
    assert sorted(kept) == [1.0, 2.0]  # the best, the newest


def test_a_rank_that_saves_nothing_gets_nothing(tmp_path, monkeypatch):
    """SpeechBrain returns None on all ranks but the first."""
    monkeypatch.setattr(Checkpointer, "save_checkpoint", lambda *a, **k: None)
    monkeypatch.setattr(saving, "if_main_process", lambda: False)
    assert make_checkpointer(tmp_path)[0].save_checkpoint() is None


DRAWS = {
    "python": lambda generator: random.random(),
    "python gauss": lambda generator: random.gauss(0, 1),
    "numpy": lambda generator: np.random.rand(),
    "numpy normal": lambda generator: np.random.randn(),
    "torch": lambda generator: torch.rand(()).item(),
    "generator": lambda generator: torch.rand((), generator=generator).item(),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_random_states_survive_a_round_trip(tmp_path, draw):
    generator = torch.Generator().manual_seed(3)
    states = RankStates(
        get=lambda: random_states(generator),
        set=lambda state, _: set_random_states(generator, state),
    )
    draw(generator)  # one of a pair, where normal numbers are drawn in pairs
    states.save(tmp_path / "states")
    expected = [draw(generator) for _ in range(3)]
    states.load(tmp_path / "states", end_of_epoch=True)
    assert [draw(generator) for _ in range(3)] == expected


def test_random_states_belong_into_a_checkpoint(tmp_path):
    generator = torch.Generator().manual_seed(3)
    states = RankStates(
        get=lambda: random_states(generator),
        set=lambda state, _: set_random_states(generator, state),
    )
    parts = {"ranks": states}
    AtomicCheckpointer(tmp_path, recoverables=parts).save_checkpoint()
    expected = torch.rand(4, generator=generator)
    AtomicCheckpointer(tmp_path, recoverables=parts).recover_if_possible()
    assert torch.equal(torch.rand(4, generator=generator), expected)


ARCHITECTURE = """
data_folder: /secret
frontend: !new:speechbrain_birq.models.frontend.FrontEnd
  n_mels: 20
  stack: 2
encoder: !new:speechbrain_birq.models.encoders.encoder.SpeechBrainEncoder
  kind: conformer
  input_dim: 40
  num_layers: 2
  d_model: 16
  nhead: 2
  d_ffn: 32
"""


def test_an_architecture_comes_back_from_its_run_folder(tmp_path):
    save_architecture(ARCHITECTURE, tmp_path / "architecture.yaml")
    parts = load_architecture(tmp_path)
    assert set(parts) == {"frontend", "encoder"}
    assert parts["frontend"].output_dim == 40
    assert parts["encoder"].num_layers == 2


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(BadInput, match="is not a run folder"):
        load_architecture(tmp_path / "nowhere")


@pytest.mark.parametrize("folder", ["", "save"])
def test_a_run_without_checkpoint_is_refused(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    with pytest.raises(BadInput, match="no checkpoint in"):
        best_checkpoint(tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize(
    "damage",
    [b"", b"\xff\xfe\x00", b"{", b"- 1", b"cer: 1", b"cer: x\nunixtime: 1"],
)
def test_a_damaged_description_of_a_checkpoint_is_named(tmp_path, damage):
    checkpointer, _ = make_checkpointer(tmp_path / "save")
    path = checkpointer.save_checkpoint(meta={"cer": 1}).path / "CKPT.yaml"
    path.write_bytes(damage)
    with pytest.raises(BadInput, match="is corrupt") as caught:
        best_checkpoint(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def save_weights(folder, module):
    torch.save(module.state_dict(), folder / "model.ckpt")
    return folder


def test_weights_of_a_part_are_loaded_and_others_left_alone(tmp_path):
    whole = torch.nn.ModuleDict(
        {"a": torch.nn.Linear(2, 3), "ab": torch.nn.Linear(2, 3)}
    )
    part = torch.nn.Linear(2, 3)
    load_weights({"a": part}, tmp_path, save_weights(tmp_path, whole))
    assert torch.equal(part.weight, whole["a"].weight)


@pytest.mark.parametrize(
    "other",
    [torch.nn.Linear(4, 3), torch.nn.Linear(2, 3, bias=False), torch.nn.LSTM(2, 3)],
    ids=["size", "missing", "kind"],
)
def test_weights_of_another_architecture_are_refused_in_a_sentence(tmp_path, other):
    whole = torch.nn.ModuleDict({"a": other})
    checkpoint = save_weights(tmp_path, whole)
    with pytest.raises(BadInput, match="is of another architecture") as caught:
        load_weights({"a": torch.nn.Linear(2, 3)}, tmp_path, checkpoint)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_state_of_another_optimizer_is_refused_in_a_sentence(tmp_path):
    def optimizer(*sizes):
        groups = [{"params": torch.nn.Linear(size, 1).parameters()} for size in sizes]
        return torch.optim.SGD(groups, lr=0.1)

    AtomicCheckpointer(tmp_path, {"optimizer": optimizer(2, 3)}).save_checkpoint()
    with pytest.raises(BadInput, match=r"\(optimizer: .*") as caught:
        AtomicCheckpointer(tmp_path, {"optimizer": optimizer(2)}).recover_if_possible()
    assert str(tmp_path) in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)


def test_weights_that_would_run_code_are_not_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "victim"), "w"))

    torch.save({"a.weight": Evil()}, tmp_path / "model.ckpt")
    with pytest.raises(BadInput, match=r"model\.ckpt"):
        load_weights({"a": torch.nn.Linear(2, 3)}, tmp_path, tmp_path)
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("stuck", ["content", "name"])
def test_an_old_checkpoint_that_cannot_be_deleted_ends_no_training(
    tmp_path, monkeypatch, caplog, stuck
):
    checkpointer, parts = make_checkpointer(tmp_path)
    checkpointer.save_and_keep_only(meta={"step": 1})

    def remove(folder, ignore_errors=False):
        if not ignore_errors:
            raise OSError(39, "Directory not empty", str(folder))

    def rename(path, target):
        if path.name.startswith("CKPT"):
            raise OSError(30, "Read-only file system", str(path))
        return own(path, target)

    own = Path.rename
    if stuck == "content":
        monkeypatch.setattr(saving.shutil, "rmtree", remove)
    else:
        monkeypatch.setattr(Path, "rename", rename)
    parts["model"].value = 2
    checkpointer.save_and_keep_only(meta={"step": 2})
    monkeypatch.undo()
    assert ("cannot delete" in caplog.text) == (stuck == "name")
    parts["model"].value = 0
    assert checkpointer.recover_if_possible().meta["step"] == 2
    assert parts["model"].value == 2
    assert not list(tmp_path.glob("partial*"))
