"""A start that is refused leaves no half-made folder, and takes away nothing else."""

import fcntl
from contextlib import ExitStack

import pytest
from small_runs import finetune, pretrain

from speechbrain_birq.checkpoints.refused_start import removed_if_refused
from speechbrain_birq.checkpoints.run_lock import NAME, locked_alone
from speechbrain_birq.errors import BadInput

pytestmark = pytest.mark.faults

REFUSED = {
    "no such split": (pretrain, dict(train_split="nowhere")),
    "no such split for validation": (finetune, dict(valid_split="nowhere")),
    "a name of results.json": (finetune, dict(test_splits="[valid]")),
    "a layer of no model": (pretrain, dict(label_layer=9)),
    "a value of another kind": (pretrain, dict(mask_prob=0.0)),
    "a device": (pretrain, dict(device="cuda:9")),
    "a decoder, after the tokens": (finetune, dict(n_mels=40, lm_path="x.arpa")),
    "pieces that do not fit": (
        finetune,
        dict(n_mels=40, tokens="sentencepiece", num_tokens=9999),
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refused_start_leaves_nothing(_corpus_template, tmp_path, fails, kind):
    start, settings = REFUSED[kind]
    fails(lambda: start(_corpus_template, tmp_path / "results" / "run", **settings))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_there_before_stays(_corpus_template, tmp_path, fails):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    fails(lambda: pretrain(_corpus_template, tmp_path / "run", train_split="nowhere"))
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def refuse(folder, *files):
    """A start that is refused after these files were written."""
    with pytest.raises(BadInput), removed_if_refused(folder):
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(file)
        raise BadInput("refused")


STARTED = ("log.txt", "manifests/train.csv", "characters.json")


@pytest.mark.parametrize(
    "name", ["notes.txt", "manifests/audio.wav", "save/CKPT+1/model.ckpt", "new/a.csv"]
)
def test_a_folder_with_any_other_file_stays_whole(tmp_path, name):
    refuse(tmp_path / "run", *STARTED, name)
    for file in (*STARTED, name):
        assert (tmp_path / "run" / file).read_text() == file
    refuse(tmp_path / "other", *STARTED)
    assert not (tmp_path / "other").exists()


def test_a_folder_that_another_process_took_meanwhile_stays_whole(tmp_path):
    folder = tmp_path / "run"
    with ExitStack() as other:
        with pytest.raises(BadInput), removed_if_refused(folder):
            folder.mkdir()
            other.enter_context(locked_alone(folder, folder / NAME))
            (folder / "log.txt").write_text("of the other process")
            raise BadInput("the folder is used")
        assert (folder / "log.txt").read_text() == "of the other process"


def test_a_lock_on_a_file_that_a_refused_start_removes_is_taken_anew(
    tmp_path, monkeypatch
):
    path, flock = tmp_path / NAME, fcntl.flock

    def late(file, flags):  # between opening and locking, the other start ends
        monkeypatch.undo()
        path.unlink()
        flock(file, flags)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked_alone(tmp_path, path) as first, locked_alone(tmp_path, path) as second:
        assert first is None and "is used by process" in second
