"""Trains while processes are killed and files are corrupt; compares with a calm run.

    python tests/robustness/soak.py --minutes 20

A tiny pretraining is started by its ordinary command, killed at random moments
(SIGKILL, SIGTERM, or SIGKILL of what reads audio) and started again, for so many
minutes; then its last epoch is completed. Among the good recordings lie, from the
start, files whose headers are good and whose bodies are not; files that are no audio
come and go at every start. In each epoch one batch is not finite and must be skipped.
Then the same command runs once more in another folder and is left alone. Weights,
batches and skipped steps of both must be equal, and every good utterance must have been
in every epoch. Exit status 1 if not.

--data_folder takes a corpus in LibriSpeech's layout instead of generated tones; it is
linked to, not changed.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests"))  # the faulty files that the tests have, too

from broken_files import REFUSED, UNUSABLE  # noqa: E402

from speechbrain_birq.data.formats import AUDIO_SUFFIXES  # noqa: E402

RATE = 16000
MIN_SECONDS, MAX_SECONDS = 0.5, 12
SPLITS = {"train": 48, "dev": 6}  # tones of each
# If two files have one name, the first is good: it would be another utterance.
NO_AUDIO = [fault for kind, fault in REFUSED.items() if kind != "same name"]
EPOCHS = 10**6  # more than there is time for
YAML = """!include:{base}
brain_class: !name:soak_brain.SoakBrain
train_split: {train}
valid_split: {dev}
num_layers: 2
d_model: 32
nhead: 2
d_ffn: 64
kernel_size: 5
label_layer: 1
num_codes: 64
dropout: 0.1
label_noise: True
batch_seconds: 4
min_seconds: {low}
max_seconds: {high}
num_workers: 1
warmup_steps: 100
total_steps: 1000000
enhanced_ramp_steps: 0
log_interval: 100
ckpt_interval_minutes: 0
tensorboard: False
"""


# What is killed -> how the training may end: a reader's end is told in a sentence.
ENDS = {"SIGKILL": (-9,), "SIGTERM": (-15, 143), "reader": (2,)}


class Run(NamedTuple):
    """A training that has come to its end."""

    steps: int
    skipped: int
    batches: dict  # (epoch, step) -> names
    digest: str  # of the weights


class Soak:
    """One training, its corpus and its random numbers.

    Arguments
    ---------
    folder : Path
        For everything.
    corpus : Path
    splits : dict
        "train" and "dev" -> name of the split
    seed : int
        Seed of what is killed and when.
    longest : float
        Seconds from a start to its kill, at most.
    """

    def __init__(self, folder, corpus, splits, seed, longest):
        self.longest = longest
        self.folder, self.corpus, self.splits = folder, corpus, splits
        self.random = random.Random(seed)
        audio = filter(is_audio, (corpus / splits["train"]).rglob("*"))
        self.good = sorted(path.stem for path in audio if fits(path))
        self.passing = corpus / splits["train"] / "soak" / "2"
        self.passing.mkdir(parents=True)
        unusable = corpus / splits["train"] / "soak" / "1"
        unusable.mkdir()
        for number, fault in enumerate(UNUSABLE.values()):
            fault.make(unusable / f"soak-1-{number:04d}")
        self.kills, self.changed = [], 0
        base = ROOT / "hparams/birq_tiny.yaml"
        text = YAML.format(base=base, low=MIN_SECONDS, high=MAX_SECONDS, **splits)
        (folder / "soak.yaml").write_text(text)

    def killed(self, minutes) -> Run:
        """Train so many minutes, killing; then to the end of the epoch."""
        end = time.time() + 60 * minutes
        while time.time() < end or not self.batches("killed"):
            self.change_files()
            process = self.start("killed", EPOCHS)
            self.kill(process, time.time() + self.moment())
            print(
                f"{(end - time.time()) / 60:5.1f} min to go: {self.kills[-1]}",
                flush=True,
            )
        return self.finish("killed", max(epoch for epoch, _ in self.batches("killed")))

    def moment(self):
        """Seconds until the next kill: often within a training, at times before it."""
        quarter = self.longest / 4
        if self.random.random() < 0.2:
            return self.random.uniform(0, quarter)
        return self.random.uniform(quarter, self.longest)

    def start(self, name, epochs):
        """The ordinary command, in a session of its own."""
        record = {
            "SOAK_RECORD": str(self.folder / f"{name}.batches"),
            "SOAK_SPOILED": self.good[0],
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests/robustness")]),
        }
        command = [sys.executable, ROOT / "recipes/LibriSpeech/pretrain.py"]
        command += [self.folder / "soak.yaml", "--data_folder", self.corpus]
        command += ["--output_folder", self.folder / name, "--noprogressbar"]
        command += ["--number_of_epochs", epochs, "--ckpt_interval_steps", 7]
        with open(self.folder / f"{name}.out", "ab") as out:
            return subprocess.Popen(
                list(map(str, command)),
                cwd=self.folder,
                env=os.environ | record,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def kill(self, process, when):
        """Kill it, or what reads for it, at a time; check how it ended."""
        try:
            process.wait(max(0, when - time.time()))
        except subprocess.TimeoutExpired:
            kind = self.random.choice(list(ENDS))
            if kind == "reader":
                kind = self.kill_reader(process)
            else:
                process.send_signal(signal.Signals[kind])
            self.kills.append(kind)
            self.wait(process)
            if process.returncode in ENDS[kind]:
                return
        self.fail("killed", f"ended with status {process.returncode}")

    def kill_reader(self, process):
        """Kill what reads; the training itself if that does not need it any more."""
        for reader in children(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(reader, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
            return "reader"
        process.kill()
        return "SIGKILL"

    def wait(self, process):
        """For its end, and the end of whatever it started."""
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            self.fail("killed", "did not end within 120 s")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def finish(self, name, epochs) -> Run:
        """Train to the end of an epoch, alone."""
        process = self.start(name, epochs)
        process.wait()
        if process.returncode:
            self.fail(name, f"ended with status {process.returncode}")
        results = json.loads((self.folder / name / "results.json").read_text())
        batches = self.batches(name)
        skipped = re.findall(
            r"skipped step (\d+)", (self.folder / name / "log.txt").read_text()
        )
        return Run(
            results["steps"], len(set(skipped)), batches, digest(self.folder / name)
        )

    def batches(self, name) -> dict:
        """(epoch, step) -> names; of a step that was made again, the last ones."""
        found = {}
        path = self.folder / f"{name}.batches"
        path.touch()
        for line in path.read_text(encoding="utf-8").splitlines():
            epoch, step, *names = line.split()
            found[int(epoch), int(step)] = names
        return found

    def change_files(self):
        """Take some files that are no audio away and put others there."""
        shutil.rmtree(self.passing)
        self.passing.mkdir()
        for number, fault in enumerate(NO_AUDIO):
            if self.random.random() < 0.5:
                fault.make(self.passing / f"soak-2-{number:04d}")
                self.changed += 1

    def fail(self, name, what):
        """Stop with what the training wrote last."""
        told = (self.folder / f"{name}.out").read_text(errors="replace")
        print(told[-3000:], file=sys.stderr)
        raise SystemExit(f"the training {what} after kills: {self.kills}")


def is_audio(path):
    """By its name."""
    return path.suffix.lower() in AUDIO_SUFFIXES


def fits(path):
    """Whether training takes a recording of this length."""
    return MIN_SECONDS <= soundfile.info(path).duration <= MAX_SECONDS


def children(pid):
    """Processes that a process has started: those that read audio."""
    try:
        return [
            int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def digest(run) -> str:
    """Hash all weights and buffers of a run's newest checkpoint."""
    newest = max(run.glob("save/CKPT+*"))
    state = torch.load(newest / "model.ckpt", weights_only=True)
    total = hashlib.sha256()
    for name, value in sorted(state.items()):
        total.update(name.encode() + value.contiguous().numpy().tobytes())
    return total.hexdigest()


def lost(run, good) -> int:
    """Utterances that an epoch lacks, over all epochs."""
    epochs = {epoch for epoch, _ in run.batches}
    seen = {
        (epoch, name) for (epoch, _), names in run.batches.items() for name in names
    }
    return sum((epoch, name) not in seen for epoch in epochs for name in good)


def write_tones(corpus):
    """Splits of gliding tones in noise, 0.6 to 3 s each."""
    rng = np.random.default_rng(0)
    for speaker, (split, count) in enumerate(SPLITS.items(), 11):
        chapter = corpus / split / str(speaker) / "1"
        chapter.mkdir(parents=True)
        for number in range(count):
            time_axis = np.arange(int(rng.uniform(0.6, 3) * RATE)) / RATE
            pitch = rng.uniform(90, 220) * (1 + 0.2 * np.sin(12 * time_axis))
            signal_ = 0.2 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE)
            signal_ += 0.01 * rng.standard_normal(len(time_axis))
            name = f"{speaker}-1-{number:04d}.flac"
            soundfile.write(chapter / name, signal_, RATE)
    return corpus


def linked(corpus, splits, target):
    """The same files in folders of our own."""
    for split in splits.values():
        for path in filter(is_audio, sorted((corpus / split).rglob("*"))):
            link = target / path.relative_to(corpus)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    return target


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--data_folder", type=Path, help="instead of generated tones")
    parser.add_argument("--train_split", default="train")
    parser.add_argument("--valid_split", default="dev")
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument(
        "--longest", type=float, default=60, help="seconds until a kill, at most"
    )
    return parser.parse_args()


def main():
    """Soak, reference run, table."""
    options = arguments()
    splits = {"train": options.train_split, "dev": options.valid_split}
    with tempfile.TemporaryDirectory() as name:
        folder, corpus = Path(name), Path(name) / "corpus"
        if options.data_folder:
            linked(options.data_folder, splits, corpus)
        else:
            write_tones(corpus)
            splits = {split: split for split in SPLITS}
        soak = Soak(folder, corpus, splits, options.seed, options.longest)
        stormy = soak.killed(options.minutes)
        epochs = max(epoch for epoch, _ in stormy.batches)
        calm = soak.finish("calm", epochs)
    passed = report(soak, stormy, calm, epochs)
    raise SystemExit(0 if passed else 1)


def report(soak, stormy, calm, epochs) -> bool:
    """Print the table; whether all is as it should be."""
    kinds = ", ".join(f"{soak.kills.count(k)} {k}" for k in sorted(set(soak.kills)))
    gone = lost(stormy, soak.good), lost(calm, soak.good)
    same = stormy.digest == calm.digest
    rows = [
        ("kills survived", f"{len(soak.kills)} ({kinds})"),
        ("starts again", len(soak.kills)),
        ("epochs, steps", f"{epochs}, {stormy.steps} (calm run {calm.steps})"),
        ("batches skipped", f"{stormy.skipped} (calm run {calm.skipped})"),
        ("corrupt bodies", f"{len(UNUSABLE)} from the start"),
        ("files that came and went", soak.changed),
        ("good utterances", len(soak.good)),
        ("utterances lost", f"{gone[0]} (calm run {gone[1]})"),
        ("same batches", "yes" if stormy.batches == calm.batches else "NO"),
        ("weights", f"{stormy.digest[:16]} (calm run {calm.digest[:16]})"),
        ("hashes equal", "yes" if same else "NO"),
    ]
    for name, value in rows:
        print(f"{name:26}{value}")
    return (
        same
        and stormy.batches == calm.batches
        and not any(gone)
        and stormy.skipped == calm.skipped
    )


if __name__ == "__main__":
    main()
