"""Faults: whatever lies among good recordings, training goes through and names it."""

import json
import math
import os
import re
import resource
import shutil
import signal
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import soundfile
import torch
from broken_files import (
    FLAC,
    GOOD,
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
from small_runs import finetune, log, manifest, pretrain

from speechbrain_birq.brains import BiRQBrain
from speechbrain_birq.brains.run_log import RunLog
from speechbrain_birq.checkpoints.checkpointer import AtomicCheckpointer
from speechbrain_birq.data.audio_checks import printable
from speechbrain_birq.data.pipeline import MaskItem
from speechbrain_birq.errors import BadInput, mishaps_told
from speechbrain_birq.metrics.curves import read_metrics
from speechbrain_birq.models.birq import BiRQ

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
KINDS = REFUSED | UNUSABLE | LEFT_OUT | ODD | GOOD
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
    backward, stage_end = BiRQBrain.backward_batch, BiRQBrain.on_stage_end

    def spied(brain, batch):
        used[brain.hparams.epoch_counter.current] += batch.id
        return backward(brain, batch)

    def between_epochs(brain, stage, loss, epoch):
        stage_end(brain, stage, loss, epoch)
        if (stage.name, epoch) == ("VALID", 1):
            for kind, (change, _) in CHANGES.items():
                change(paths[kind])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BiRQBrain, "backward_batch", spied)
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


def test_there_are_at_least_fifty_kinds_of_faults():
    assert len(KINDS) + len(CHANGES) + len(TEXTS) + len(FATAL) >= 50


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


# Transcripts: bytes of <speaker>-1.trans.txt, text of its first recording, the log.

TEXTS = {
    "none": (None, "", "recordings without a transcript"),
    "blank": (b"\n  \n\t\n", "", None),
    "name only": (b"{}-1-0000\n", "", None),
    "without audio": (b"{0}-1-0000 A B\n{0}-1-0099 C", "A B", "{}-1-0099"),
    "byte order mark": (b"\xef\xbb\xbf{}-1-0000 A B\n", "A B", None),
    "CRLF": (b"{}-1-0000 A B\r\n", "A B", None),
    "CR alone": (b"{0}-1-0099 C\r{0}-1-0000 A B\r", "A B", None),
    "tabs": (b"{}-1-0000\tA\tB\n", "A B", None),
    "Latin-1": (b"{}-1-0000 CAF\xc9", "CAF\ufffd", "{}-1.trans.txt is not UTF-8"),
    "NUL": (b"{}-1-0000 A\0B\n", "A B", "{}-1.trans.txt is not UTF-8"),
    "UTF-16": (
        "\ufeff{}-1-0000 A".encode("utf-16-le"),
        "",
        "{}-1.trans.txt is not UTF-8",
    ),
    "line separator": ("{}-1-0000 A\u2028B".encode(), "A B", None),
    "twice": (b"{}-1-0000 A B\n" * 2, "A B", None),
    "two texts": (b"{0}-1-0000 A\n{0}-1-0000 B", "A", "another text of {}-1-0000"),
    "lower case": (b"{}-1-0000 a b", "a b", None),
    "digits": (b"{}-1-0000 42", "42", None),
    "other letters": ("{}-1-0000 話す".encode(), "話す", None),
    "quotes and commas": (b'{}-1-0000 "A", B', '"A", B', None),
    "too long for its audio": (b"{}-1-0000 " + b"A" * 300_000, "A" * 300_000, None),
    "a folder": (NotADirectoryError, "", "skipped .*{}-1.trans.txt: Is a directory"),
    "a broken link": (FileNotFoundError, "", "skipped .*{}-1.trans.txt: No such file"),
}


@pytest.fixture(scope="module")
def transcribed(_corpus_template, tmp_path_factory):
    """Manifest and log of a fine-tuning with all these transcripts."""
    folder = tmp_path_factory.mktemp("texts")
    corpus = shutil.copytree(_corpus_template, folder / "corpus")
    for speaker, (content, _, _) in enumerate(TEXTS.values(), 100):
        chapter = corpus / f"train/{speaker}/1"
        chapter.mkdir(parents=True)
        FLAC(chapter / f"{speaker}-1-0000")
        path = chapter / f"{speaker}-1.trans.txt"
        if content is NotADirectoryError:
            path.mkdir()
        elif content is FileNotFoundError:
            path.symlink_to("nowhere")
        elif content is not None:
            name = str(speaker).encode()
            path.write_bytes(content.replace(b"{}", name).replace(b"{0}", name))
    finetune(corpus, folder / "run", n_mels=40, optimizer_step_limit=None)
    return manifest(folder / "run", "train"), log(folder / "run")


@pytest.mark.parametrize("kind", TEXTS)
def test_a_faulty_transcript_is_read_as_far_as_it_can_be(transcribed, kind):
    rows, told = transcribed
    speaker = 100 + list(TEXTS).index(kind)
    _, text, line = TEXTS[kind]
    assert rows[f"{speaker}-1-0000"]["text"] == text
    if line is not None:
        assert len(re.findall(line.format(speaker), told)) == 1


def test_utterances_without_text_are_left_out_of_fine_tuning_only(transcribed):
    _, told = transcribed
    without = sum(not text for _, text, _ in TEXTS.values())
    assert f"left out {without} of {6 + len(TEXTS)} utterances" in told


# What training cannot go through: exit status 2 and one sentence.


def no_folder(corpus, output, patch):
    shutil.rmtree(corpus)


def file_for_a_folder(corpus, output, patch):
    shutil.rmtree(corpus)
    corpus.write_text("no folder")


def file_for_a_split(corpus, output, patch):
    shutil.rmtree(corpus / "train")
    (corpus / "train").write_text("no folder")


def nothing(corpus, output, patch):
    pass


def manifests_a_file(corpus, output, patch):
    output.mkdir()
    (output / "manifests").write_text("no folder")


def manifest_unreadable(corpus, output, patch):
    def prepare(*arguments):
        raise PermissionError(13, "Permission denied", "/corpus/locked")

    patch.setattr("speechbrain_birq.data.corpora.librispeech.find_utterances", prepare)


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


def raising(error, training):
    def make(corpus, output, patch):
        for number in (2, 3):  # three of one length make a batch
            name = f"train/12/1/12-1-000{number}.flac"
            shutil.copy(corpus / "train/12/1/12-1-0001.flac", corpus / name)
        forward = BiRQ.forward

        def failing(self, *arguments):
            if self.training == training:
                if error is None:
                    return torch.empty(2**50)  # 4 PB: the CPU's own error
                raise error
            return forward(self, *arguments)

        patch.setattr(BiRQ, "forward", failing)

    return make


def killed_reader(corpus, output, patch):
    draw = MaskItem.__call__

    def killed(self, sig, name):
        if name == "12-1-0000":
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(self, sig, name)

    patch.setattr(MaskItem, "__call__", killed)


def not_finite(corpus, output, patch):
    """A batch with utterance 12-1-0000 has a loss that is not a number."""
    forward = BiRQBrain.compute_forward

    def spoiled(self, batch, stage):
        objective = forward(self, batch, stage)
        if "12-1-0000" not in batch.id:
            return objective
        return objective._replace(anchor_loss=objective.anchor_loss * math.nan)

    patch.setattr(BiRQBrain, "compute_forward", spoiled)


def diverged(corpus, output, patch):
    forward = BiRQBrain.compute_forward

    def spoiled(self, batch, stage):
        objective = forward(self, batch, stage)
        return objective._replace(anchor_loss=objective.anchor_loss * math.inf)

    patch.setattr(BiRQBrain, "compute_forward", spoiled)


GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
MEMORY = "out of memory in a batch of "
ONE = dict(batch_seconds=0.1)  # every utterance is a batch of its own
MANY = dict(batch_seconds=5, min_seconds=1.4, max_seconds=1.6)  # three in a batch
FATAL = {
    "no data folder": (no_folder, {}, "does not exist: give --data_folder"),
    "a file for a data folder": (file_for_a_folder, {}, "does not exist"),
    "a file for a split": (file_for_a_split, {}, "no split 'train'"),
    "a split above": (nothing, dict(train_split="../corpus/dev"), "below"),
    "an absolute split": (nothing, dict(train_split="/corpus/dev"), "below"),
    "half a join": (nothing, dict(train_split="train+"), "below"),
    "a file for the manifests": (manifests_a_file, {}, "manifests (File exists)"),
    "a locked folder": (manifest_unreadable, {}, "/corpus/locked (Permission denied)"),
    "GPU memory": (raising(GPU, True), MANY, MEMORY, "lower batch_seconds and raise"),
    "GPU memory, alone": (raising(GPU, True), ONE, MEMORY, "lower max_seconds"),
    "GPU memory, validation": (raising(GPU, False), ONE, "lower max_eval_seconds"),
    "CPU memory": (raising(None, True), MANY, MEMORY, "lower batch_seconds"),
    "NumPy's memory": (raising(MemoryError(), True), {}, MEMORY),
    "reader killed": (killed_reader, dict(num_workers=1), "a process that reads audio"),
    "not finite, no patience": (
        not_finite,
        dict(nonfinite_patience=0, optimizer_step_limit=None),
        "1 steps of this epoch",
        "12-1-0000",
    ),
    "diverged": (
        diverged,
        dict(batch_seconds=1, nonfinite_patience=3, optimizer_step_limit=None),
        "4 steps of this epoch",
        "-1-000",
    ),
}


@pytest.mark.parametrize("kind", FATAL)
def test_what_stops_a_training_is_one_sentence(
    corpus, tmp_path, fails, monkeypatch, kind
):
    arrange, settings, *words = FATAL[kind]
    arrange(corpus, tmp_path / "run", monkeypatch)
    fails(lambda: pretrain(corpus, tmp_path / "run", **settings), *words)


@pytest.mark.parametrize(
    "error",
    [
        EOFError(),
        ConnectionResetError(104, "Connection reset by peer"),
        FileNotFoundError(2, "No such file or directory"),
        RuntimeError("DataLoader worker (pid(s) 17) exited unexpectedly"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_reader_killed_while_it_hands_over_a_batch_is_told(error):
    told = "a process that reads audio was killed"
    with pytest.raises(BadInput, match=told), mishaps_told():
        raise error


def test_an_error_that_nobody_knows_is_left_alone():
    with pytest.raises(RuntimeError, match="a bug"), mishaps_told():
        raise RuntimeError("a bug")


@pytest.mark.parametrize(
    "arrange, words",
    [
        (full_disk_for_figures, "No space left on device; the line is written with"),
        (full_disk_for_checkpoints, "no checkpoint saved in"),
    ],
)
def test_a_full_disk_does_not_end_a_training(
    corpus, tmp_path, monkeypatch, arrange, words
):
    arrange(corpus, tmp_path / "run", monkeypatch)
    pretrain(corpus, tmp_path / "run")
    assert words in log(tmp_path / "run")
    assert json.loads((tmp_path / "run/results.json").read_text())["steps"] == 3


def test_the_sentence_about_memory_has_the_duration_of_the_batch(
    corpus, tmp_path, fails, monkeypatch
):
    for path in corpus.glob("train/*/*/*"):
        if path.stem != "12-1-0001":  # 1.5 s
            path.unlink()
    raising(GPU, True)(corpus, tmp_path, monkeypatch)
    told = fails(lambda: pretrain(corpus, tmp_path / "run", batch_seconds=5))
    assert "a batch of 4.5 s (3 x 1.5 s with padding; 12-1-000" in told


def test_a_batch_that_is_not_finite_is_skipped_counted_and_named(
    corpus, tmp_path, monkeypatch
):
    not_finite(corpus, tmp_path, monkeypatch)
    more = dict(nonfinite_patience=1, optimizer_step_limit=None, number_of_epochs=2)
    pretrain(corpus, tmp_path / "run", batch_seconds=3, log_interval=100, **more)
    skipped = re.findall("skipped step .*", log(tmp_path / "run"))
    assert len(skipped) == 2  # once an epoch
    assert all("1 now in this epoch" in s and "12-1-0000" in s for s in skipped)
    figures = read_metrics(tmp_path / "run", "valid")
    assert [math.isfinite(row["loss"]) for row in figures] == [True, True]


def test_a_skipped_batch_enters_no_mean(corpus, tmp_path, monkeypatch):
    not_finite(corpus, tmp_path, monkeypatch)
    more = dict(optimizer_step_limit=None, batch_seconds=0.1, number_of_epochs=2)
    pretrain(corpus, tmp_path / "run", log_interval=6, **more)
    *_, last = read_metrics(tmp_path / "run", "train")
    assert last["step"] >= 5 and math.isfinite(last["G"]) and last["G"] > 0


def test_after_a_reader_was_killed_the_same_command_goes_on(
    corpus, tmp_path, fails, monkeypatch
):
    more = dict(num_workers=1, ckpt_interval_steps=1, batch_seconds=0.1)
    more |= dict(ckpt_interval_minutes=0, optimizer_step_limit=None)
    killed_reader(corpus, tmp_path, monkeypatch)
    fails(lambda: pretrain(corpus, tmp_path / "run", **more), "same command goes on")
    monkeypatch.undo()
    pretrain(corpus, tmp_path / "run", **more)
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["steps"] == 6


def test_processes_that_read_name_a_file_once_together(corpus, tmp_path):
    path = damaged(FLAC, half)(corpus / "train/11/1/11-1-0099")
    more = dict(num_workers=2, number_of_epochs=2, optimizer_step_limit=None)
    pretrain(corpus, tmp_path / "run", **more)
    assert log(tmp_path / "run").count(f"skipped {path}: unreadable") == 1


def test_without_a_tensorboard_folder_training_goes_on(corpus, tmp_path):
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


@pytest.mark.parametrize("limit", [300, 4000])
def test_an_hour_in_a_test_split_is_refused_before_training_unless_allowed(
    corpus, tmp_path, fails, monkeypatch, limit
):
    hour(corpus / "test/31/1/31-1-0099")

    class Reached(Exception):
        pass

    def reached(*arguments):
        raise Reached

    monkeypatch.setattr("speechbrain_birq.experiment._tokens", reached)
    more = dict(n_mels=40, max_eval_seconds=limit)
    if limit > 3600:
        with pytest.raises(Reached):
            finetune(corpus, tmp_path / "run", **more)
        return
    fails(
        lambda: finetune(corpus, tmp_path / "run", **more),
        "31-1-0099 of the test split 'test' is 3600 s long, max_eval_seconds is 300",
    )


# Figures and settings.


@pytest.mark.parametrize(
    "value", ["!apply:os.system [touch {}]", "!!python/object/apply:os.system [x]"]
)
def test_the_command_line_runs_nothing(corpus, tmp_path, fails, value):
    target = tmp_path / "owned"
    value = value.format(target)
    fails(lambda: pretrain(corpus, tmp_path / "run", lr=value), "may not hold a tag")
    assert not target.exists()
