"""Runs killed at any moment end as if they had never been killed: ``-m resume``."""

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from gloo_ranks import IMPORTS
from small_runs import FINETUNE, PRETRAIN, ROOT

from speechbrain_birq import experiment
from speechbrain_birq.brains import BiRQBrain, CTCBrain
from speechbrain_birq.brains.base import SumBrain
from speechbrain_birq.checkpoints import checkpointer, files
from speechbrain_birq.checkpoints.checkpointer import AtomicCheckpointer
from speechbrain_birq.data.corpora.librispeech import prepare_librispeech
from speechbrain_birq.data.shards.convert import shard_corpus
from speechbrain_birq.metrics.curves import read_metrics

pytestmark = [pytest.mark.resume, pytest.mark.slow]

RANDOM = dict(
    optimizer_step_limit=None,
    number_of_epochs=2,
    batch_seconds=2,
    grad_accumulation_factor=2,
    ckpt_interval_minutes=0,
    ckpt_interval_steps=2,
    keep_checkpoints=1,
    dropout=0.1,
    normalize="global",
    normalize_seconds=3,
)
CHUNKS = dict(chunk_prob=0.5, chunk_min=2, chunk_max=4)
NOISE = dict(label_norm="channel", label_noise=True, temperature=1.0, log_interval=2)
REFITTED = dict(fit_seconds=3, refit_steps=2)
# Half of the kinds read audio in a process of its own.
WORKER = dict(num_workers=1)
# kind -> function, YAML, settings, what it reads
KINDS = {
    "pretrain": (
        "pretrain",
        "birq_tiny.yaml",
        PRETRAIN | RANDOM | CHUNKS | NOISE | WORKER,
        "corpus",
    ),
    "pretrain, shards": (
        "pretrain",
        "birq_plus_tiny.yaml",
        PRETRAIN | RANDOM | NOISE | REFITTED,
        "shards",
    ),
    "finetune": (
        "finetune",
        "ctc_tiny.yaml",
        FINETUNE | RANDOM | CHUNKS | dict(n_mels=40),
        "corpus",
    ),
    "probe, shards": (
        "finetune",
        "probe_tiny.yaml",
        FINETUNE | RANDOM | WORKER | dict(n_mels=40, dropout=0.0),
        "shards",
    ),
}

# (owner, name of a function): the process is killed when it is called the n-th time.
POINTS = {
    "half of a checkpoint": (checkpointer, "save_tensors"),
    "a checkpoint without checksums": (files, "seal"),
    "two checkpoints": (checkpointer, "read_checkpoint"),
    "an old checkpoint": (checkpointer, "_delete"),
    "figures without a checkpoint": (AtomicCheckpointer, "save_checkpoint"),
    "a figure": (files, "append"),
    "gradients": (SumBrain, "accumulate"),
    "a step": (SumBrain, "optimizers_step"),
    "validation of labels": (BiRQBrain, "evaluate_batch"),
    "validation of text": (CTCBrain, "evaluate_batch"),
    "results": (experiment, "add_result"),
}
# In the order of a training, so that every kill finds it running.
KILLS = {
    "pretrain": ["half of a checkpoint", "gradients", "validation of labels"],
    "pretrain, shards": ["two checkpoints", "a step", "validation of labels"],
    "finetune": ["an old checkpoint", "validation of text", "results"],
    "probe, shards": [
        "a checkpoint without checksums",
        "figures without a checkpoint",
        "a figure",
    ],
}
AT_RANDOM = 2  # further kills of each, at any time


def train(kind, data, folder, point=None, times=1, number=signal.SIGKILL):
    """A training, in a process of its own."""
    with open(f"{folder}.txt", "ab", buffering=0) as told:
        os.dup2(told.fileno(), 1)
        os.dup2(told.fileno(), 2)
    torch.set_num_threads(1)
    # Its loaders would take the fork server for their workers, unlike a user's.
    multiprocessing.set_start_method("fork", force=True)
    if point is not None:
        _signal_at(*POINTS[point], times, number)
    function, yaml, settings, _ = KINDS[kind]
    settings = settings | dict(data_folder=data, output_folder=folder)
    argv = [f"--{key}={value}" for key, value in settings.items() if value is not None]
    main = getattr(experiment, function)
    try:
        main(
            prepare_librispeech,
            [str(ROOT / "hparams" / yaml), "--noprogressbar", *argv],
        )
    finally:  # this process has no atexit, which does it for a user's
        for worker in multiprocessing.active_children():
            worker.kill()


def _signal_at(owner, name, times, number):
    original, calls = getattr(owner, name), []

    def spied(*args, **kwargs):
        calls.append(name)
        if len(calls) == times:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    setattr(owner, name, spied)


@pytest.fixture(scope="module")
def start(_corpus_template, tmp_path_factory):
    """start(kind, folder, ...): the process of a training; everything is imported."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_resume", *IMPORTS])
    shards = tmp_path_factory.mktemp("shards")
    shard_corpus(_corpus_template, shards, shard_hours=0.0007)  # 3 shards in train
    data = {"corpus": _corpus_template, "shards": shards}

    def started(kind, folder, **more):
        what = data[KINDS[kind][-1]]
        process = context.Process(target=train, args=(kind, what, folder), kwargs=more)
        process.start()
        return process

    return started


def outcome(folder):
    """Hashes of weights and optimizer, and all figures but rates."""
    newest = max((folder / "save").glob("CKPT+*"), key=lambda p: p.stat().st_mtime)
    rows = read_metrics(folder)
    for row in rows:
        row.pop("frames_per_second", None)
    hashes = {
        name: hash_of(torch.load(newest / f"{name}.ckpt", weights_only=True))
        for name in ("model", "optimizer")
    }
    results = json.loads((folder / "results.json").read_text())
    assert results.pop("seconds") > 0
    results["valid"].pop("frames_per_second", None)
    return {"rows": rows, "results": results, **hashes}


def hash_of(state):
    digest = hashlib.sha256()

    def add(value):
        if isinstance(value, torch.Tensor):
            digest.update(value.numpy().tobytes())
        elif isinstance(value, dict):
            for key in value:
                add(key)
                add(value[key])
        elif isinstance(value, (list, tuple)):
            for item in value:
                add(item)
        else:
            digest.update(repr(value).encode())

    add(state)
    return digest.hexdigest()


def told(folder):
    return Path(f"{folder}.txt").read_text(errors="replace")[-3000:]


@pytest.fixture(scope="module")
def unkilled(start, tmp_path_factory):
    """unkilled(kind): the outcome of a run that nobody disturbs, and its seconds."""
    known = {}

    def get(kind):
        if kind not in known:
            folder = tmp_path_factory.mktemp("runs") / "unkilled"
            began = time.time()
            process = start(kind, folder)
            process.join()
            assert process.exitcode == 0, told(folder)
            known[kind] = outcome(folder), time.time() - began
        return known[kind]

    return get


def moments(kind, seconds):
    """Where, or after how many seconds, to kill: the random ones among the others."""
    rng = random.Random(kind)
    found = [(dict(point=p, times=rng.randint(1, 3)), None) for p in KILLS[kind]]
    for _ in range(AT_RANDOM):
        moment = {}, rng.uniform(0.2, 0.6) * seconds
        found.insert(rng.randrange(len(found)), moment)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_at_any_moment_ends_as_if_never_killed(
    start, unkilled, tmp_path, kind
):
    expected, seconds = unkilled(kind)
    folder = tmp_path / "run"
    for more, wait in moments(kind, seconds):
        kill(lambda **now: start(kind, folder, **now), more, wait, folder)
    process = start(kind, folder)
    process.join()
    assert process.exitcode == 0, told(folder)
    assert outcome(folder) == expected
    assert not list((folder / "save").glob("partial+*"))


def kill(start, more, wait, folder):
    """Start it and kill it; a run that had got too far for that begins anew."""
    for attempt in range(5):
        process = start(**more)
        process.join(wait and wait / 2**attempt)
        if process.is_alive():
            process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            return
        assert process.exitcode == 0, told(folder)
        shutil.rmtree(folder)
        more = more and more | dict(times=1)
    pytest.fail(f"no moment to kill it: {more} {wait}")


@pytest.mark.parametrize(
    "kind, number, status",
    [("pretrain", signal.SIGTERM, 143), ("finetune", signal.SIGINT, 130)],
)
def test_a_signal_saves_then_ends_and_the_run_goes_on(
    start, unkilled, tmp_path, kind, number, status
):
    folder = tmp_path / "run"
    process = start(kind, folder, point="gradients", times=1, number=number)
    process.join()
    assert process.exitcode == status, told(folder)
    assert f"stopped by {number.name} after 1 steps" in (folder / "log.txt").read_text()
    assert len(list((folder / "save").glob("CKPT+*"))) == 1
    process = start(kind, folder)
    process.join()
    assert process.exitcode == 0, told(folder)
    assert outcome(folder) == unkilled(kind)[0]


def test_there_are_twenty_kills_and_every_point_is_met():
    assert sum(map(len, KILLS.values())) + AT_RANDOM * len(KILLS) == 20
    assert {point for points in KILLS.values() for point in points} == set(POINTS)


def test_the_hash_sees_a_single_bit():
    """The power of the tests above."""
    weight = torch.ones(3)
    before = hash_of({"weight": weight})
    weight[1] = torch.nextafter(weight[1], torch.tensor(2.0))
    assert hash_of({"weight": weight}) != before
