"""Measure start-up, and the encoder alone against SpeechBrain's of the same size.

    python benchmarks/start.py --threads 1 2 --json start.json

Imports are timed in new processes that take turns, and so is the time from the command
to the first step on a corpus of noise. The real-time factor is seconds of computing for
each second of audio, including the features, for one utterance.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMES = """
import time
started = time.perf_counter()
import speechbrain
between = time.perf_counter()
import speechbrain_birq
from speechbrain_birq.inference import SpeechEncoder
print(between - started, time.perf_counter() - between)
"""


def main():
    """Measure, print and write the figures."""
    options = arguments()
    found = {"import": imports(options.rounds)}
    if not options.no_training:
        found["first step"] = first_step()
    found["encoder"] = {n: encoders(n, options) for n in options.threads}
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")


def arguments():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count()])
    parser.add_argument(
        "--size", default="small", help="size of the encoder, a name in arms.py"
    )
    parser.add_argument(
        "--seconds", type=float, default=12.0, help="length of the utterance"
    )
    parser.add_argument("--no_training", action="store_true")
    parser.add_argument("--json", help="file for the figures")
    return parser.parse_args()


def imports(rounds) -> dict:
    """Return seconds of ``import speechbrain``, and of importing ours after it."""
    rows = []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", TIMES], capture_output=True, text=True, check=True
        )
        rows.append([float(number) for number in done.stdout.split()[-2:]])
    peer, ours = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"import speechbrain {peer:.2f} s, our encoder after it {ours:.2f} s more")
    return {"speechbrain": peer, "ours": ours}


def first_step() -> float:
    """Return seconds from the command to the report of the first step."""
    with tempfile.TemporaryDirectory() as folder:
        _write_noise(Path(folder, "corpus"))
        command = [sys.executable, "recipes/LibriSpeech/pretrain.py"]
        command += ["hparams/birq_adamw_tiny.yaml", "--data_folder", f"{folder}/corpus"]
        command += ["--output_folder", f"{folder}/run", "--noprogressbar"]
        command += ["--tensorboard", "False", "--total_steps", "2"]
        command += ["--warmup_steps", "1", "--log_interval", "1"]
        started, metrics = time.perf_counter(), Path(folder, "run/metrics.jsonl")
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and not metrics.is_file():
                time.sleep(0.02)
            seconds = time.perf_counter() - started
            if process.wait():
                raise SystemExit("the training failed: see above")
    print(f"first step of birq_adamw_tiny.yaml {seconds:.1f} s after the command")
    return seconds


def _write_noise(folder):
    import numpy
    import soundfile

    generator = numpy.random.default_rng(0)
    for split in ("pretrain", "dev"):
        for number in range(8):
            chapter = folder / split / "1" / f"{number}"
            chapter.mkdir(parents=True)
            noise = 0.1 * generator.standard_normal(16000 * (2 + number))
            soundfile.write(chapter / f"1-{number}-0000.flac", noise, 16000)


def encoders(threads, options) -> dict:
    """Measure the real-time factors of SpeechBrain's encoder and of ours in turn."""
    import torch
    from arms import ARMS, SIZES, build, make_audio
    from timing import timed

    torch.set_num_threads(threads)
    audio, size = make_audio(1, options.seconds), SIZES[options.size]
    calls = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("peer", "best_rq_relpos", "best_rq", "best_rq_stacked"):
            made = build(ARMS[name], size, folder, "cpu")
            made.brain.modules.eval()
            calls[name] = _encoding(name, made.brain, audio)
    with torch.no_grad():
        rows = [
            {name: timed(call, "cpu") for name, call in calls.items()}
            for _ in range(options.rounds + 1)
        ][1:]
    found = {}
    for name in calls:
        factor = statistics.median(r[name]["wall"] for r in rows) / options.seconds
        gain = statistics.median(r["peer"]["cpu"] / r[name]["cpu"] for r in rows)
        found[name] = {"real-time factor": factor, "CPU x peer": gain}
        print(
            f"{threads} thread(s), {name:16} real-time factor {factor:.4f}, "
            f"{gain:.2f} times SpeechBrain's by CPU time"
        )
    return found


def _encoding(name, brain, audio):
    if name != "peer":
        model = brain.modules.model
        return lambda: model.encoder(*model.frontend(audio.wavs, audio.wav_lens))

    def peer():
        features = brain.hparams.compute_features(audio.wavs)
        features = brain.modules.normalize(features, audio.wav_lens, epoch=1)
        missing = -features.shape[1] % 4
        features = torch.nn.functional.pad(features, (0, 0, missing, 0))
        return brain.modules.wrapper(brain.modules.CNN(features), audio.wav_lens)

    import torch

    return peer


if __name__ == "__main__":
    main()
