"""From YODAS' archives to shards: one for each archive and split."""

import io
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import soundfile
import torch
import torchaudio
from tqdm import tqdm

from speechbrain_birq.checkpoints.files import write
from speechbrain_birq.data.audio_checks import UNKNOWN_LENGTH, check_header
from speechbrain_birq.data.corpora.yodas.hub import HubDataset
from speechbrain_birq.data.corpora.yodas.sampling import read_table, video
from speechbrain_birq.data.corpora.yodas.tar_audio import CorruptArchive, read_members
from speechbrain_birq.data.manifest import Utterance, some_of
from speechbrain_birq.data.shards.writer import Recording, has_shard, write_shard

logger = logging.getLogger(__name__)

SAMPLE_RATE = 16000
RATES = range(4000, 192001)  # Hz; others are no speech but a corrupt header
MAX_CHANNELS = 8
BAR = (
    "{l_bar}{bar}| {n:.1f} of {total:.1f} h, {elapsed} gone, {remaining} left{postfix}"
)


class ArchiveReader:
    """Downloads the archives of a selection one by one and writes their shards.

    A shard is written atomically, so that an archive is done for a split if its shard
    exists. What was left out of it is counted in ``<split>/counts``.

    Arguments
    ---------
    folder : Path
        Holds the shards, one folder for each split.
    dataset : HubDataset
        Where the archives come from.
    summary : mapping
        The selection's, as ``UtteranceList.load`` returns it.
    """

    def __init__(self, folder: Path, dataset: HubDataset, summary: Mapping[str, Any]):
        self.folder, self.dataset = folder, dataset
        self.archives = {archive["name"]: archive for archive in summary["archives"]}
        self.shortest = summary["settings"]["min_seconds"]
        self.longest = summary["settings"]["max_seconds"]

    @contextmanager
    def progress(self) -> Iterator[None]:
        """Show hours done and time left, while the block runs."""
        total = sum(h for a in self.archives.values() for h in a["hours"].values())
        done = total - self.hours_left()
        with tqdm(total=total, initial=done, bar_format=BAR, mininterval=1) as self.bar:
            yield

    def hours_left(self) -> float:
        """Return the hours of what is not done, by the list."""
        return sum(
            hours
            for name, archive in self.archives.items()
            for split, hours in archive["hours"].items()
            if not self.is_done(name, split)
        )

    def is_done(self, name: str, split: str) -> bool:
        """Return whether the shard of an archive and a split exists."""
        return has_shard(self.folder / split, _shard(name))

    def write(self, name: str, splits: Mapping[str, str]) -> None:
        """Write the shards of an archive that do not exist, then delete the archive.

        Arguments
        ---------
        name : str
            Name of the archive.
        splits : mapping
            utterance -> split
        """
        for split in ("dev", "train"):
            wanted = {utterance for utterance, s in splits.items() if s == split}
            if wanted and not self.is_done(name, split):
                before = self.bar.n
                recordings = self._recordings(name, split, wanted)
                write_shard(recordings, self.folder / split, _shard(name))
                hours = self.archives[name]["hours"][split]
                self._advance(before + hours - self.bar.n)
        for part in ("audio", "text"):
            self._path(name, part).unlink(missing_ok=True)

    def _recordings(self, name, split, wanted) -> Iterator[Recording]:
        texts = read_table(self._fetch(name, "text"))
        counts = Counter(without_text=sum(not texts.get(u) for u in wanted))
        left = set(wanted)
        try:
            for utterance, data in read_members(self._fetch(name, "audio"), left):
                left.discard(utterance)
                samples = self._decoded(name, utterance, data, counts)
                if samples is None:
                    continue
                seconds, text = len(samples) / SAMPLE_RATE, texts.get(utterance, "")
                self._advance(seconds / 3600)
                yield Utterance(utterance, seconds, "", video(utterance), text), samples
                if not left:
                    break
        except CorruptArchive as error:
            logger.warning("%s: the rest cannot be read (%s)", name, error)
        if left:
            counts["missing"] = len(left)
            shown = some_of(sorted(left))
            logger.warning("%s: %d utterances missing: %s", name, len(left), shown)
        # Before the shard is finished: a shard that exists has its counts.
        path = self.folder / split / "counts" / f"{_shard(name)}.json"
        path.parent.mkdir(exist_ok=True)
        write(path, json.dumps(counts) + "\n")

    def _decoded(self, name, utterance, data, counts):
        try:
            samples = decode(data, self.longest)
        except ValueError as error:
            counts["unreadable"] += 1
            logger.warning("%s: skipped %s: %s", name, utterance, error)
            return None
        if not self.shortest <= len(samples) / SAMPLE_RATE <= self.longest:
            counts["wrong_length"] += 1
            return None
        return samples

    def _advance(self, hours):
        # The list rounds durations, and tqdm warns beyond its end.
        self.bar.update(min(hours, self.bar.total - self.bar.n))

    def _fetch(self, name, part):
        self.bar.set_postfix_str(f"fetching {part} of {name}")
        path = self.dataset.fetch(self.archives[name][part], self._path(name, part))
        self.bar.set_postfix_str(f"reading {name}")
        return path

    def _path(self, name, part):
        return self.folder / "downloads" / f"{_shard(name)}.{part}"


def _shard(archive):
    """en000/00000000 -> en000-00000000"""
    return archive.replace("/", "-")


def counted(folder: Path) -> Counter[str]:
    """Sum up what was left out of the finished shards of a split."""
    total: Counter[str] = Counter()
    for path in (folder / "counts").glob("*.json"):
        total.update(json.loads(path.read_text(encoding="utf-8")))
    return total


def decode(data: bytes, max_seconds: float) -> torch.Tensor:
    """Decode a file to (S,) float32, mono, 16 kHz.

    Arguments
    ---------
    data : bytes
        In any format that soundfile knows.
    max_seconds : float
        What goes beyond is not decoded further than a second.

    Raises
    ------
    ValueError
        If it is no audio, or none that can be used.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, channels = file.samplerate, file.channels
            if rate not in RATES or channels > MAX_CHANNELS:
                raise ValueError(f"{rate} Hz, {channels} channels")
            if file.frames == UNKNOWN_LENGTH:
                check_header(rate, UNKNOWN_LENGTH)
            frames = round((max_seconds + 1) * rate)
            samples = file.read(frames, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"unreadable ({error})") from error
    samples = torch.from_numpy(samples).mean(1)
    if not samples.isfinite().all():
        raise ValueError("numbers that are not finite")
    return samples if rate == SAMPLE_RATE else _resampler(rate)(samples)


@lru_cache(maxsize=16)
def _resampler(rate: int) -> Any:
    return torchaudio.transforms.Resample(rate, SAMPLE_RATE)
