"""Faulty recordings among good ones: training names them and uses the others."""

import math
import re
import shutil
from typing import NamedTuple

import pytest
import soundfile
from broken_files import (
    FLAC,
    GOOD,
    IGNORED,
    LEFT_OUT,
    ODD,
    REFUSED,
    SPEECH,
    UNUSABLE,
    damaged,
    half,
    hour,
    noise_inside,
)
from small_runs import finetune, log, pretrain

from speechbrain_birq.brains import BiRQBrain
from speechbrain_birq.data.audio_checks import printable
from speechbrain_birq.metrics.curves import read_metrics

pytestmark = pytest.mark.faults

# What happens to a good file between the first and the second epoch, and what is told.
CHANGES = {
    "vanishes": (lambda path: path.unlink(), ": unreadable"),
    "turns to noise": (
        lambda path: path.write_bytes(noise_inside(bytearray(path.read_bytes()))),
        ": unreadable",
    ),
    "is emptied": (lambda path: path.write_bytes(b""), ": unreadable"),
    "becomes a folder": (lambda path: [path.unlink(), path.mkdir()], ": unreadable"),
    "grows": (lambda path: soundfile.write(path, [*SPEECH] * 3, 16000), None),
    "shrinks": (lambda path: soundfile.write(path, SPEECH[:8000], 16000), None),
}
KINDS = REFUSED | UNUSABLE | LEFT_OUT | ODD | GOOD | IGNORED
NUMBER = {kind: number for number, kind in enumerate([*KINDS, *CHANGES])}


def utterance(kind):
    return f"14-1-{NUMBER[kind]:04d}"


class Trained(NamedTuple):
    paths: dict  # kind -> file
    lines: list  # of log.txt
    used: dict  # epoch -> names of the utterances trained on
    output: object

    def naming(self, kind):
        return [line for line in self.lines if printable(self.paths[kind]) in line]


@pytest.fixture(scope="module")
def trained(_corpus_template, tmp_path_factory):
    """Two epochs over a corpus in which all the faults lie side by side."""
    folder = tmp_path_factory.mktemp("faults")
    corpus = shutil.copytree(_corpus_template, folder / "corpus")
    chapter = corpus / "train/14/1"
    chapter.mkdir(parents=True)
    paths = {k: f.make(chapter / utterance(k)) for k, f in KINDS.items()}
    paths |= {kind: FLAC(chapter / utterance(kind)) for kind in CHANGES}
    for make in (hour, damaged(FLAC, half)):
        make(corpus / "dev/21/1" / f"21-1-{len(paths):04d}")
        paths[f"{make} in dev"] = None
    used = {1: [], 2: []}
    inner_step, stage_end = BiRQBrain.inner_step, BiRQBrain.on_stage_end

    def spied(brain, batch):
        used[brain.hparams.epoch_counter.current] += batch.id
        return inner_step(brain, batch)

    def between_epochs(brain, stage, loss, epoch):
        stage_end(brain, stage, loss, epoch)
        if (stage.name, epoch) == ("VALID", 1):
            for kind, (change, _) in CHANGES.items():
                change(paths[kind])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BiRQBrain, "inner_step", spied)
        patch.setattr(BiRQBrain, "on_stage_end", between_epochs)
        pretrain(
            corpus,
            folder / "run",
            number_of_epochs=2,
            optimizer_step_limit=None,
            cache_audio_gb=0,
            log_interval=1,
        )
    return Trained(paths, log(folder / "run").splitlines(), used, folder / "run")


@pytest.mark.parametrize("kind", REFUSED | UNUSABLE | ODD)
def test_a_faulty_recording_is_named_once_with_its_fault(trained, kind):
    (line,) = trained.naming(kind)
    name = re.escape(printable(trained.paths[kind]))
    assert re.search(name + KINDS[kind].told, line), line


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_what_is_too_short_or_too_long_is_counted_and_named_once(trained, kind):
    (line,) = (line for line in trained.lines if utterance(kind) in line)
    assert f"left out {len(LEFT_OUT)} of" in line


@pytest.mark.parametrize("kind", GOOD)
def test_an_unusual_but_good_recording_is_used_and_not_mentioned(trained, kind):
    assert trained.naming(kind) == []
    assert trained.paths[kind].stem in trained.used[1]


@pytest.mark.parametrize("kind", IGNORED)
def test_what_is_no_recording_is_neither_used_nor_mentioned(trained, kind):
    assert trained.naming(kind) == []
    assert trained.paths[kind].stem not in trained.used[1]


@pytest.mark.parametrize("kind", CHANGES)
def test_a_file_that_changes_between_epochs_does_not_stop_the_training(trained, kind):
    _, told = CHANGES[kind]
    assert utterance(kind) in trained.used[1]
    assert (utterance(kind) in trained.used[2]) == (told is None)
    lines = trained.naming(kind)
    assert len(lines) == (told is not None)
    assert all(re.search(told, line) for line in lines)


def test_every_good_utterance_is_used_once_an_epoch_and_no_other(trained, corpus):
    tones = {p.stem for p in corpus.glob("train/*/*/*") if p.suffix != ".txt"}
    good = {trained.paths[kind].stem for kind in ODD | GOOD} | tones
    good.add(utterance("same name"))  # the first of the two
    assert sorted(trained.used[1]) == sorted(good | {*map(utterance, CHANGES)})
    staying = {utterance(k) for k, (_, told) in CHANGES.items() if told is None}
    assert sorted(trained.used[2]) == sorted(good | staying)


def test_faulty_recordings_are_counted(trained):
    told = "\n".join(trained.lines)
    refused = len(REFUSED) - 1  # two files of one name are no unreadable ones
    assert f"skipped {refused} of" in told
    vanished = sum(told is not None for _, told in CHANGES.values())
    assert f"); {len(UNUSABLE) + vanished} now" in told
    assert f"; {sum('but used' in f.told or 'clip' in f.told for f in ODD.values())} "
    assert "skipped step" not in told


def test_faults_of_the_validation_split_are_named_and_the_others_scored(trained):
    told = "\n".join(trained.lines)
    assert "left out 1 of 5 utterances" in told
    assert len(read_metrics(trained.output, "valid")) == 2


def test_all_figures_are_finite(trained):
    for row in read_metrics(trained.output):
        assert all(math.isfinite(v) for v in row.values() if isinstance(v, float)), row


def test_processes_that_read_name_a_file_once_together(corpus, tmp_path):
    path = damaged(FLAC, half)(corpus / "train/11/1/11-1-0099")
    more = dict(num_workers=2, number_of_epochs=2, optimizer_step_limit=None)
    pretrain(corpus, tmp_path / "run", **more)
    assert log(tmp_path / "run").count(f"skipped {path}: unreadable") == 1


@pytest.mark.parametrize("limit", [300, 4000])
def test_an_hour_in_a_test_split_is_refused_before_training_unless_allowed(
    corpus, tmp_path, fails, monkeypatch, limit
):
    hour(corpus / "test/31/1/31-1-0099")

    class Reached(Exception):
        pass

    def reached(*arguments):
        raise Reached

    monkeypatch.setattr("speechbrain_birq.experiment.run_tokens", reached)
    more = dict(n_mels=40, max_eval_seconds=limit)
    if limit > 3600:
        with pytest.raises(Reached):
            finetune(corpus, tmp_path / "run", **more)
        return
    fails(
        lambda: finetune(corpus, tmp_path / "run", **more),
        "31-1-0099 of the test split 'test' is 3600 s long, max_eval_seconds is 300",
    )
