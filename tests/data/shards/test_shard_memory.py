"""5,000 hours start like 100: in seconds, with the same memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
PER_SHARD = 800

# Everything that happens before the first audio is read, in a process of its own.
START = """
import json, resource, sys, time

import speechbrain_birq.experiment  # what a training imports
from speechbrain_birq.data.loaders import make_loader
from speechbrain_birq.data.pipeline import AudioReader
from speechbrain_birq.data.shards.dataset import make_shard_dataset
from speechbrain_birq.data.shards.reader import find_shards

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

imports, started = peak(), time.process_time()
dataset = make_shard_dataset(
    find_shards(sys.argv[1], "train"),
    reader=AudioReader(16000),
    min_seconds=0.5,
    max_seconds=20,
    needs_text=True,
)
loader = make_loader(dataset, batch_seconds=100, shuffle=True, seed=0, min_samples=1)
loader.batch_sampler.set_epoch(1)
batches = len(loader)
first = next(iter(loader.batch_sampler))
print(json.dumps({
    "imports": imports,
    "peak": peak(),
    "seconds": time.process_time() - started,
    "batches": batches,
    "first": len(first),
    "utterances": len(dataset),
}))
"""


def simulate(folder, utterances):
    """The index of shards that are not there, utterances of 4.5 s on average."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    samples = (16000 * rng.gamma(2, 2.25, utterances)).astype(np.uint32)
    np.save(folder / "samples.npy", samples)
    np.save(folder / "texts.npy", np.ones(utterances, bool))
    shards = [
        {"name": f"{number:06d}", "utterances": PER_SHARD, "seconds": PER_SHARD * 4.5}
        for number in range(utterances // PER_SHARD)
    ]
    (folder / "index.json").write_text(
        json.dumps({"sample_rate": 16000, "shards": shards})
    )


def start(folder, utterances):
    simulate(folder / "train", utterances)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", START, str(folder)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_5000_hours_start_quickly_with_the_memory_of_100(tmp_path):
    small = start(tmp_path / "small", 80_000)
    large = start(tmp_path / "large", 4_000_000)
    assert large["utterances"] > 0.9 * 4_000_000
    assert large["batches"] * large["first"] > 1_000_000
    # Seconds of the processor, so that a busy machine makes no difference.
    assert large["seconds"] < 20
    assert large["peak"] - large["imports"] < 300
    assert large["peak"] < 1.1 * small["peak"]
