"""Measure how long the headers of a large corpus take, the first time and the second.

    python benchmarks/headers.py
    python benchmarks/headers.py --files 100000 --rounds 3

The files are links to a few FLAC files of noise, in a temporary folder with a cache of
its own, so the disk's cache is warm: the figures are the processor's time.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from speechbrain_birq.data.files_below import files_below
from speechbrain_birq.data.headers import measure_all

DIFFERENT = 50


def main(argv=None):
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=1, help="first times")
    options = parser.parse_args(argv)
    print(f"{'':24}{'seconds':>10}{'of the CPU':>12}")
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder) / "audio", options.files)
        paths = timed("list files", lambda: files_below(f"{folder}/audio", ".flac"))
        for number in range(options.rounds):
            os.environ["XDG_CACHE_HOME"] = f"{folder}/cache{number}"
            timed("headers, first time", lambda: measure_all(paths))
            timed("headers, second time", lambda: measure_all(paths))


def make_files(folder, count):
    """Write a few files and link the others to them, 1,000 in a folder."""
    noise = np.random.default_rng(0).standard_normal(16000)
    for number in range(count):
        path = folder / f"{number // 1000:04d}" / f"{number:06d}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < DIFFERENT:
            soundfile.write(path, 0.1 * noise[: 8000 + 100 * number], 16000)
        else:
            first = number % DIFFERENT
            os.link(folder / "0000" / f"{first:06d}.flac", path)


def timed(name, call):
    """Print the seconds of a call and return its result."""
    started, before = time.perf_counter(), cpu_seconds()
    result = call()
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - before
    print(f"{name:24}{seconds:10.2f}{cpu:12.2f}", flush=True)
    return result


def cpu_seconds():
    """Return the processor's seconds of this process, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
