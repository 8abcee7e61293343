"""Measure hours of audio a second from files and from shards, against bare decoding.

    python benchmarks/loader.py
    python benchmarks/loader.py --data_folder /data/LibriSpeech --split dev-clean
    python benchmarks/loader.py --num_workers 2 --json loader.json

The same audio is read in three ways that take turns: soundfile decodes each FLAC file
in one process; the loader reads a manifest; the loader reads shards of the same files.
The first round is not counted. Without --data_folder, half an hour of noise with a
speech-like spectrum is written to a temporary folder; the shards always are.
"""

import argparse
import json
import statistics
import tempfile
import time
from operator import truediv
from pathlib import Path

import numpy as np
import soundfile

from speechbrain_birq.data.corpora.librispeech import prepare_librispeech
from speechbrain_birq.data.loaders import make_loader
from speechbrain_birq.data.manifest import read_manifest
from speechbrain_birq.data.pipeline import AudioReader, make_dataset
from speechbrain_birq.data.shards.convert import shard_corpus
from speechbrain_birq.data.shards.dataset import make_shard_dataset
from speechbrain_birq.data.shards.reader import find_shards

RATE = 16000
COLUMNS = "{:24}{:>12}{:>14}{:>10}{:>10}"


def main(argv=None):
    """Measure, print the table and return its rows."""
    options = arguments(argv)
    with tempfile.TemporaryDirectory() as folder:
        source = options.data_folder or make_audio(Path(folder) / "audio", options)
        ways, hours = prepare(Path(source), Path(folder), options)
        rows = measure(ways, hours, options.rounds)
    print(COLUMNS.format("", "hours/s", "x real time", "of bare", "spread"))
    for row in rows:
        print(
            f"{row['way']:24}{row['hours_per_second']:12.3f}{row['real_time']:14,.0f}"
            f"{row['of_bare']:10.2f}{row['spread']:10.2f}"
        )
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")
    return rows


def arguments(argv):
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_folder", help="corpus in LibriSpeech's layout")
    parser.add_argument("--split", default="train")
    parser.add_argument(
        "--hours", type=float, default=0.5, help="hours of synthetic audio"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch_seconds", type=float, default=100)
    parser.add_argument(
        "--num_workers", type=int, default=0, help="workers of each loader"
    )
    parser.add_argument("--json", help="file for the rows")
    return parser.parse_args(argv)


def make_audio(folder, options):
    """Write noise with the spectrum and pauses of speech: FLAC halves both in size."""
    rng, left, number = np.random.default_rng(0), options.hours * 3600, 0
    chapter = folder / options.split / "1" / "1"
    chapter.mkdir(parents=True)
    while left > 0:
        seconds = rng.uniform(2, 16)
        noise = rng.standard_normal(int(seconds * RATE))
        signal = np.convolve(noise, np.hanning(16), "same")
        signal *= 0.03 * np.interp(
            np.arange(len(signal)),
            np.arange(0, len(signal), 2000),
            _envelope(rng, signal),
        )
        soundfile.write(chapter / f"1-1-{number:05d}.flac", signal, RATE)
        left, number = left - seconds, number + 1
    return folder


def _envelope(rng, signal):
    return rng.gamma(0.5, 1, -(-len(signal) // 2000)).clip(0, 3)


def prepare(source, folder, options):
    """Return {name: function that reads everything once} and the hours of audio."""
    (manifest,) = prepare_librispeech(source, [options.split], folder).values()
    rows = read_manifest(manifest)
    hours = {"shard_hours": max(0.05, sum(row.duration for row in rows) / 3600 / 8)}
    shard_corpus(source, folder / "shards", splits=[options.split], **hours)
    limits = dict(min_seconds=0, max_seconds=float("inf"))
    datasets = {
        "files": make_dataset(manifest, reader=AudioReader(RATE), **limits),
        "shards": make_shard_dataset(
            find_shards(folder / "shards", options.split),
            reader=AudioReader(RATE),
            **limits,
        ),
    }
    ways = {"bare soundfile": lambda: [decode(row.wav) for row in rows]}
    for name, dataset in datasets.items():
        loader = make_loader(
            dataset,
            batch_seconds=options.batch_seconds,
            shuffle=True,
            seed=0,
            min_samples=1,
            num_workers=options.num_workers,
        )
        ways[f"loader, {name}"] = lambda loader=loader: [
            len(batch.id) for batch in loader
        ]
    return ways, sum(row.duration for row in rows) / 3600


def decode(path):
    """Decode a file to float32, like both loaders; return the number of samples."""
    return len(soundfile.read(path, dtype="float32")[0])


def measure(ways, hours, rounds) -> list[dict]:
    """Read with each way in turn and return the rows of the table.

    Figures are medians over the rounds. ``of_bare`` is the median of the ratios within
    each round, so that a machine that is busy for a while makes little difference.
    ``spread`` is the slowest round divided by the fastest one, minus 1.
    """
    seconds = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, read in ways.items():
            started = time.perf_counter()
            read()
            if number:  # the first round fills the disk's cache
                seconds[name].append(time.perf_counter() - started)
    bare = seconds["bare soundfile"]
    return [
        {
            "way": name,
            "hours_per_second": hours / statistics.median(taken),
            "real_time": 3600 * hours / statistics.median(taken),
            "of_bare": statistics.median(map(truediv, bare, taken)),
            "spread": max(taken) / min(taken) - 1,
        }
        for name, taken in seconds.items()
    ]


if __name__ == "__main__":
    main()
