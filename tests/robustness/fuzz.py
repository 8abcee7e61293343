"""Feeds random input to what reads files and settings; only `BadInput` may come out.

    python tests/robustness/fuzz.py --target manifest --minutes 5

Targets: manifest (bytes of a CSV), transcript (bytes of a trans.txt), shards (a good
folder of shards, damaged), archives (tar.gz with members that lie), overrides (values
on the command line), run_folder (YAML of a good run, edited). Hypothesis draws the
input, another seed in every round, and shrinks what fails. Whatever a target would run
(a process, a shell) is a failure, too; so is an example of 10 s or 500 MB.
"""

import argparse
import contextlib
import io
import logging
import os
import random
import shutil
import signal
import string
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from fuzz_archives import archives
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from speechbrain.utils.importutils import LazyModule

sys.path.append(str(Path(__file__).parents[1]))

from bounds import bounded

from speechbrain_birq.checkpoints.run_folder import load_architecture, read_architecture
from speechbrain_birq.config import load_configuration, parse_arguments
from speechbrain_birq.data.corpora.librispeech import prepare_librispeech
from speechbrain_birq.data.manifest import (
    FIELDS,
    Utterance,
    read_manifest,
)
from speechbrain_birq.data.pipeline import AudioReader, make_dataset
from speechbrain_birq.data.shards.dataset import make_shard_dataset as shard_dataset
from speechbrain_birq.data.shards.reader import find_shards
from speechbrain_birq.data.shards.writer import write_shards
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import load_labeller

HPARAMS = Path(__file__).parents[2] / "hparams"
RATE = 16000
ROUND = 50  # examples between two looks at the clock
RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen")
ran = []


def _audit(event, arguments):
    if event in RUNS:
        ran.append(f"{event} {arguments}")


class Told(Exception):
    """A sentence that no user should see, or something was run."""


@contextlib.contextmanager
def only_bad_input():
    """Let nothing through but a short BadInput, and nothing be run."""
    ran.clear()
    try:
        yield
    except BadInput as error:
        if "\n" in str(error) or len(str(error)) >= 500:
            raise Told(f"no short sentence: {error}") from error
    if ran:
        raise Told(f"was run: {ran}")


# Manifests

CELL = st.one_of(
    st.sampled_from(["", "1", "1e999", "nan", "-1", "a.wav", '"', "\0", "\r", "1_0"]),
    st.text(max_size=20),
)
ROWS = st.lists(st.lists(CELL, max_size=7), max_size=5)


def _csv(rows, columns, end):
    head = ",".join(columns)
    return end.join([head, *(",".join(row) for row in rows)]).encode(
        "utf-8", "surrogatepass"
    )


MANIFESTS = st.one_of(
    st.binary(max_size=300),
    st.builds(
        _csv,
        ROWS,
        st.one_of(st.just(FIELDS), st.lists(st.sampled_from(FIELDS), max_size=7)),
        st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    ),
)


def manifest(folder):
    """Bytes of a manifest, to a dataset."""

    def check(data):
        (folder / "a.csv").write_bytes(data)
        with only_bad_input():
            for row in read_manifest(folder / "a.csv"):
                assert 0 <= row.duration < float("inf")
            make_dataset(
                folder / "a.csv",
                reader=AudioReader(RATE),
                min_seconds=0,
                max_seconds=20,
            )

    return MANIFESTS, check


# Transcripts

LINES = st.lists(
    st.tuples(
        st.sampled_from(["11-1-0000", "11-1-0001", "", " ", "\ufeff11-1-0000"]),
        st.sampled_from([" ", "\t", "", "\0", "\u2028"]),
        st.text(max_size=20),
    ).map("".join),
    max_size=5,
)
TRANSCRIPTS = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda lines, end, code: end.join(lines).encode(code, "replace"),
        LINES,
        st.sampled_from(["\n", "\r\n", "\r"]),
        st.sampled_from(["utf-8", "utf-16", "latin-1", "utf-8-sig"]),
    ),
)


def transcript(folder):
    """Bytes of a transcript, to a manifest and back."""
    chapter = folder / "corpus/train/11/1"
    chapter.mkdir(parents=True)
    soundfile.write(chapter / "11-1-0000.flac", np.full(800, 0.1), RATE)

    def check(data):
        (chapter / "11-1.trans.txt").write_bytes(data)
        with only_bad_input():
            paths = prepare_librispeech(folder / "corpus", ["train"], folder / "m")
            (row,) = read_manifest(paths["train"])
            assert row.ID == "11-1-0000" and "\n" not in row.text
            assert row.text == " ".join(row.text.split())

    return TRANSCRIPTS, check


# Shards


def _damage(draw, path):
    kind = draw(st.sampled_from(["bytes", "cut", "gone", "empty", "junk", "folder"]))
    data = bytearray(path.read_bytes())
    if kind == "bytes":
        for _ in range(draw(st.integers(1, 4))):
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    elif kind == "cut":
        del data[draw(st.integers(0, len(data))) :]
    elif kind == "junk":
        data = bytearray(draw(st.binary(max_size=200)))
    elif kind == "empty":
        data.clear()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind != "gone":
        path.write_bytes(data)


def shards(folder):
    """A folder of shards with one to three damaged files, every utterance read."""
    rng = np.random.default_rng(0)
    recordings = (
        (Utterance(f"a-{n}", 0.1, "", "s", "A B"), 0.1 * rng.standard_normal(1600))
        for n in range(6)
    )
    good, copy = folder / "good", folder / "copy"
    write_shards(recordings, good / "train", shard_hours=0.3 / 3600)
    files = sorted(p.relative_to(good) for p in good.rglob("*") if p.is_file())
    numbers = iter(range(10**12))

    def check(data):
        # Readers remember by name: a new one for each.
        place = copy / str(next(numbers))
        shutil.copytree(good, place)
        for name in data.draw(
            st.lists(st.sampled_from(files), min_size=1, max_size=3, unique=True)
        ):
            _damage(data.draw, place / name)
        try:
            with only_bad_input():
                _read_shards(place)
        finally:
            shutil.rmtree(place)

    return st.data(), check


def _read_shards(place):
    found = find_shards(place, "train")
    if found is None:
        return
    dataset = shard_dataset(
        found, reader=AudioReader(RATE), min_seconds=0, max_seconds=20, needs_text=True
    )
    for example in dataset:
        assert torch.isfinite(example["sig"]).all()
        assert isinstance(example["id"], str)
    list(dataset.batches(batch_seconds=1, shuffle=True, seed=0, ranks=(0, 1)))
    list(found.texts())


# Overrides

ATTACKS = [
    "!apply:os.system [touch owned]",
    "!!python/object/apply:os.system [touch owned]",
    "!new:subprocess.Popen [[touch, owned]]",
    "!name:os.system [touch owned]",
    "!include:/etc/passwd",
    "!ref <lr>",
    "[!apply:os.system [touch owned]]",
    "{a: !apply:os.system [touch owned]}",
    "'!apply:os.system [touch owned]'",
    "1\nseed: !apply:os.system [touch owned]",
    "!<!apply:os.system> [touch owned]",
    "%TAG ! tag:x,2000:\n--- 1",
]
VALUES = st.one_of(
    st.sampled_from(ATTACKS),
    st.sampled_from(["<lr>", "<seed", "{", "[1, 2", "*a", "&a [*a]", "", "~", "-"]),
    st.sampled_from(["1e400", ".nan", "-.inf", "0x10", "1_000", "2001-01-01", "yes"]),
    st.integers(-3, 9).map(str),
    st.integers(10**12, 10**40).map(str),
    st.floats().map(str),
    st.text(max_size=12),
    st.recursive(
        st.integers(-9, 9).map(str),
        lambda inner: st.lists(inner, max_size=3).map(lambda v: f"[{', '.join(v)}]"),
        max_leaves=6,
    ),
)


def overrides(folder):
    """Up to three values on the command line, to a configuration."""
    os.chdir(folder)
    keys = [
        line.split(":")[0]
        for line in (HPARAMS / "birq_tiny.yaml").read_text().splitlines()
        if line[:1].isalpha() and not line.startswith("output_folder")
    ]
    names = st.one_of(st.sampled_from(keys), st.text(string.ascii_letters, max_size=9))

    def check(pairs):
        argv = [str(HPARAMS / "birq_tiny.yaml"), "--data_folder=x"]
        argv += ["--output_folder=run", "--num_layers=1", "--d_model=8", "--d_ffn=8"]
        argv += ["--tensorboard=False", "--nhead=2", "--label_layer=1"]
        argv += [f"--{key}={value}" for key, value in pairs]
        with only_bad_input(), contextlib.redirect_stderr(io.StringIO()):
            try:
                path, _, given_values = parse_arguments(argv)
            except SystemExit as ended:  # argparse has told what it wants
                if ended.code not in (0, 2):
                    raise
                return
            load_configuration(path, given_values)
        if Path("owned").exists():
            raise Told("a value was run")

    return st.lists(st.tuples(names, VALUES), min_size=1, max_size=3), check


# Run folders

OLD = Path(__file__).parents[1] / "checkpoints" / "old_layout" / "pretrained"
PIECES = st.one_of(
    st.sampled_from(
        "!new: !name: !apply:os.system !!python/object/apply:os.mkdir !ref <encoder> "
        "<<: &a *a id001 !tuple (1,2) (!!python/name:os.system) --- ... %TAG | > ? - "
        "[ ] { } : ' , # .nan -1 0 1e9 99999999999 null true torch.nn.Linear".split()
    ),
    st.sampled_from(["\n", "\n  ", " ", "\t", '"', "\r", "\ufeff", "\u2028", "\\x28"]),
    st.text(max_size=8),
)
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 30), st.lists(PIECES, max_size=4)),
    min_size=1,
    max_size=4,
)
LOADERS = {
    "architecture.yaml": (load_architecture, read_architecture),
    "hyperparams.yaml": (lambda run: load_labeller(run, 1),),
}


def run_folder(folder):
    """Up to four edits of a run folder's YAML: pieces in place of characters."""
    run = shutil.copytree(OLD, folder / "run")
    texts = {name: (run / name).read_text() for name in LOADERS}

    def check(drawn):
        name, edits = drawn
        text = texts[name]
        for place, length, pieces in edits:
            start = int(place * len(text))
            text = text[:start] + "".join(pieces) + text[start + length :]
        (run / name).write_text(text, encoding="utf-8", errors="surrogatepass")
        for load in LOADERS[name]:
            with only_bad_input():
                load(run)
        (run / name).write_text(texts[name])

    return st.tuples(st.sampled_from(sorted(LOADERS)), EDITS), check


TARGETS = {
    f.__name__: f
    for f in (manifest, transcript, shards, archives, overrides, run_folder)
}


def fuzz(target, examples, number=0):
    """Check so many examples of a target; the same ones for the same number.

    Raises
    ------
    Exception
        Whatever came out that should not, with the smallest input that brings it out.
    """
    checked = 0
    before = os.getcwd()
    for module in list(sys.modules.values()):
        if isinstance(module, LazyModule):  # hypothesis asks every module for its file
            module.__file__ = None
    with tempfile.TemporaryDirectory() as folder:
        strategy, check = TARGETS[target](Path(folder))

        def counted(data):
            nonlocal checked
            checked += 1
            with bounded(signal.ITIMER_PROF):
                check(data)

        run = settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )(seed(number)(given(strategy)(counted)))
        try:
            run()
        finally:
            os.chdir(before)
    return checked


sys.addaudithook(_audit)


def main():
    """Rounds of one target until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", choices=TARGETS, required=True)
    parser.add_argument("--minutes", type=float, default=5)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    started, checked = time.time(), 0
    while time.time() - started < 60 * options.minutes:
        checked += fuzz(options.target, ROUND, random.randrange(2**32))
    minutes = (time.time() - started) / 60
    print(f"{options.target}: {checked} examples in {minutes:.1f} minutes, no fault")


if __name__ == "__main__":
    main()
