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
from test_experiment import FINETUNE, PRETRAIN, ROOT

from speechbrain_birq import checkpoints, durable, experiment
from speechbrain_birq.brains import BiRQBrain, CTCBrain
from speechbrain_birq.brains.base import SumBrain
from speechbrain_birq.checkpoints import AtomicCheckpointer
from speechbrain_birq.data.librispeech import prepare_librispeech
from speechbrain_birq.data.shard_corpus import shard_corpus
from speechbrain_birq.diagnostics.metrics import read_metrics

pytestmark = [pytest.mark.resume, pytest.mark.slow]

KILLS = 10  # of each kind of training
RANDOM = dict(
    optimizer_step_limit=None,
    number_of_epochs=2,
    batch_seconds=2,
    grad_accumulation_factor=2,
    num_workers=1,
    ckpt_interval_minutes=0,
    ckpt_interval_steps=2,
    keep_checkpoints=1,
    dropout=0.1,
    normalize="global",
    normalize_seconds=3,
    chunk_prob=0.5,
    chunk_min=2,
    chunk_max=4,
)
KINDS = {
    "pretrain": (
        "birq_tiny.yaml",
        PRETRAIN
        | RANDOM
        | dict(label_norm="channel", label_noise=True, temperature=1.0, log_interval=2),
    ),
    "finetune": ("ctc_tiny.yaml", FINETUNE | RANDOM | dict(n_mels=40)),
}

# (owner, name of a function): the process ends when it is called the n-th time.
POINTS = [
    (checkpoints, "save_tensors"),  # half of a checkpoint is written
    (durable, "seal"),  # all of it, without a checksum
    (checkpoints, "read_checkpoint"),  # it has its name, the old one is still there
    (checkpoints, "_delete"),
    (BiRQBrain, "evaluate_batch"),
    (CTCBrain, "evaluate_batch"),
    (SumBrain, "accumulate"),
    (durable, "append"),
    (AtomicCheckpointer, "save_checkpoint"),  # figures are written, no checkpoint yet
    (experiment, "add_result"),
]


def train(kind, data, folder, point=None, times=1, number=signal.SIGKILL):
    """A training, in a process of its own."""
    with open(f"{folder}.txt", "ab", buffering=0) as told:
        os.dup2(told.fileno(), 1)
        os.dup2(told.fileno(), 2)
    torch.set_num_threads(1)
    if point is not None:
        _signal_at(*POINTS[point], times, number)
    yaml, settings = KINDS[kind]
    settings = settings | dict(data_folder=data, output_folder=folder)
    argv = [f"--{key}={value}" for key, value in settings.items() if value is not None]
    start = getattr(experiment, kind)
    start(prepare_librispeech, [str(ROOT / "hparams" / yaml), "--noprogressbar", *argv])


def _signal_at(owner, name, times, number):
    original, calls = getattr(owner, name), []

    def spied(*args, **kwargs):
        calls.append(name)
        if len(calls) == times:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    setattr(owner, name, spied)


@pytest.fixture(scope="module")
def data(_corpus_template, tmp_path_factory):
    """kind -> its corpus: pretraining reads shards, fine-tuning files."""
    shards = tmp_path_factory.mktemp("shards")
    options = dict(splits=["train", "dev"], shard_hours=0.0005)
    shard_corpus(_corpus_template, shards, **options)
    return {"pretrain": shards, "finetune": _corpus_template}


@pytest.fixture(scope="module")
def start(data):
    """start(kind, folder, ...): the process of a training; everything is imported."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_resume"])

    def started(kind, folder, **more):
        process = context.Process(
            target=train, args=(kind, data[kind], folder), kwargs=more
        )
        process.start()
        return process

    return started


def outcome(folder):
    """Hashes of weights and optimiser, and all figures but rates."""
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


def plans(kind, seconds):
    """So many kills: at every point that the training comes by, else at random."""
    rng = random.Random(kind)
    other = CTCBrain if kind == "pretrain" else BiRQBrain
    mine = [number for number, (owner, _) in enumerate(POINTS) if owner is not other]
    rng.shuffle(mine)
    for number in mine[: KILLS - 3]:
        yield dict(point=number, times=rng.randint(1, 3)), None
    for _ in range(3):
        yield {}, rng.uniform(0.3, 0.9) * seconds


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_at_any_moment_ends_as_if_never_killed(
    start, unkilled, tmp_path, kind
):
    expected, seconds = unkilled(kind)
    folder = tmp_path / "run"
    kills = 0
    for more, wait in plans(kind, seconds):
        for _ in range(3):  # a run that had got too far to be killed is begun anew
            process = start(kind, folder, **more)
            process.join(wait)
            if process.is_alive():
                process.kill()
            process.join()
            if process.exitcode == -signal.SIGKILL:
                kills += 1
                break
            assert process.exitcode == 0, told(folder)
            assert outcome(folder) == expected
            shutil.rmtree(folder)
            more = more and more | dict(times=1)
    process = start(kind, folder)
    process.join()
    assert process.exitcode == 0, told(folder)
    assert outcome(folder) == expected
    assert not list((folder / "save").glob("partial+*"))
    assert kills == KILLS


@pytest.mark.parametrize(
    "kind, number, status",
    [("pretrain", signal.SIGTERM, 143), ("finetune", signal.SIGINT, 130)],
)
def test_a_signal_saves_then_ends_and_the_run_goes_on(
    start, unkilled, tmp_path, kind, number, status
):
    folder = tmp_path / "run"
    accumulate = POINTS.index((SumBrain, "accumulate"))
    process = start(kind, folder, point=accumulate, times=1, number=number)
    process.join()
    assert process.exitcode == status, told(folder)
    assert f"stopped by {number.name} after 1 steps" in (folder / "log.txt").read_text()
    assert len(list((folder / "save").glob("CKPT+*"))) == 1
    process = start(kind, folder)
    process.join()
    assert process.exitcode == 0, told(folder)
    assert outcome(folder) == unkilled(kind)[0]


def test_the_hash_sees_a_single_bit():
    """The power of the tests above."""
    weight = torch.ones(3)
    before = hash_of({"weight": weight})
    weight[1] = torch.nextafter(weight[1], torch.tensor(2.0))
    assert hash_of({"weight": weight}) != before
