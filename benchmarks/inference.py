"""Measure the features of 100 files: one by one, and in batches.

    OMP_NUM_THREADS=2 python benchmarks/inference.py

The files are tones of 2 to 16 s (FLAC, 16 kHz), the model is an untrained encoder of
the size of ``birq_tiny.yaml``. Both ways take turns, round by round. The slowest part
of one file is shown too: reading, front end, encoder.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from timing import timed

from speechbrain_birq.checkpoints.checkpointer import AtomicCheckpointer
from speechbrain_birq.checkpoints.run_folder import (
    load_architecture,
    save_architecture,
)
from speechbrain_birq.inference import SpeechEncoder

ROOT = Path(__file__).parents[1]
ARCHITECTURE = """
frontend: !new:speechbrain_birq.models.frontend.FrontEnd
    n_mels: 80
    stack: 4
encoder: !new:speechbrain_birq.models.encoders.encoder.SpeechBrainEncoder
    kind: conformer
    input_dim: 320
    num_layers: {layers}
    d_model: {width}
    nhead: 4
    d_ffn: {ffn}
    kernel_size: 15
"""


def main():
    """Measure, print and write the figures."""
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder, "run"), options)
        files = write_files(Path(folder, "audio"), options)
        found = measure(SpeechEncoder(run), files, options)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")


def arguments():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--seconds", type=float, nargs=2, default=[2.0, 16.0])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=144)
    parser.add_argument("--ffn", type=int, default=576)
    parser.add_argument("--batch_seconds", type=float, nargs="+", default=[50.0, 200.0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="file for the figures")
    return parser.parse_args()


def make_run(folder, options) -> Path:
    """Write the run folder of an untrained encoder."""
    folder.mkdir()
    text = ARCHITECTURE.format(
        layers=options.layers, width=options.width, ffn=options.ffn
    )
    save_architecture(text, folder / "architecture.yaml")
    torch.manual_seed(0)
    model = torch.nn.ModuleDict(load_architecture(folder))
    AtomicCheckpointer(folder / "save", {"model": model}).save_checkpoint()
    return folder


def write_files(folder, options) -> list[str]:
    """Write tones of random lengths; return their names."""
    folder.mkdir()
    generator, files = np.random.default_rng(0), []
    for number in range(options.files):
        time = np.arange(int(16000 * generator.uniform(*options.seconds))) / 16000
        tone = 0.3 * np.sin(2 * np.pi * generator.uniform(90, 400) * time)
        tone += 0.01 * generator.standard_normal(len(time))
        files.append(str(folder / f"{number}.flac"))
        soundfile.write(files[-1], tone, 16000)
    return files


def measure(encoder, files, options) -> dict:
    """Time all ways in turn; print and return medians."""
    encoder.to(options.device)
    ways = {"one by one": lambda: [encoder.features(file) for file in files]}
    for most in options.batch_seconds:
        ways[f"batches of {most:g} s"] = lambda most=most: encoder.features_of(
            files, batch_seconds=most
        )
    ways |= parts(encoder, files, options.device)
    for way in ways.values():
        way()
    rounds = [
        {name: timed(way, options.device) for name, way in ways.items()}
        for _ in range(options.rounds)
    ]
    found = {}
    for name in ways:
        found[name] = {
            kind: statistics.median(one[name][kind] for one in rounds)
            for kind in ("wall", "cpu")
        }
        gain = {
            kind: statistics.median(
                one["one by one"][kind] / one[name][kind] for one in rounds
            )
            for kind in ("wall", "cpu")
        }
        print(
            f"{name:20} {found[name]['wall']:7.2f} s, CPU {found[name]['cpu']:7.2f} s, "
            f"{gain['wall']:.2f} times as fast, {gain['cpu']:.2f} by CPU time"
        )
    return found


def parts(encoder, files, device) -> dict:
    """Return what one by one consists of, each alone."""
    signals = [encoder.read(file).to(device) for file in files]
    one = torch.ones(1, device=device)
    with torch.no_grad():
        frames = [encoder.frontend(signal, one) for signal in signals]

    @torch.no_grad()
    def encode():
        for each in frames:
            encoder.encoder(*each)

    return {
        "  reading": lambda: [encoder.read(file) for file in files],
        "  front end": lambda: [encoder.frontend(signal, one) for signal in signals],
        "  encoder": encode,
    }


if __name__ == "__main__":
    main()
