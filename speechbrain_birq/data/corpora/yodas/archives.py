"""From YODAS' archives to utterances and samples, and which archives are done."""

import io
import json
import logging
from collections import Counter
from contextlib import contextmanager
from functools import lru_cache

import soundfile
import torch
import torchaudio
from tqdm import tqdm

from speechbrain_birq.data.corpora.yodas.sampling import read_table, video
from speechbrain_birq.data.corpora.yodas.tar_audio import DamagedArchive, read_members
from speechbrain_birq.data.manifest import Utterance
from speechbrain_birq.data.shards.writer import written_names
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)

SAMPLE_RATE = 16000
RATES = range(4000, 192001)  # Hz; others are no speech but a broken header
MAX_CHANNELS = 8
BAR = (
    "{l_bar}{bar}| {n:.1f} of {total:.1f} h, {elapsed} gone, {remaining} left{postfix}"
)


class Prepared:
    """``prepared.json``: which archives are done, and what was found in them.

    Arguments
    ---------
    folder : Path
        Where it is, or will be.

    Raises
    ------
    BadInput
        If it is damaged.
    """

    def __init__(self, folder):
        self.file = folder / "prepared.json"
        self.state = {"finished": False, "dev": {}, "train": {}}
        if self.file.exists():
            try:
                self.state |= json.loads(self.file.read_text(encoding="utf-8"))
            except (ValueError, TypeError) as error:
                raise BadInput(
                    f"{self.file} is damaged: delete it and give the same command again"
                ) from error

    @property
    def finished(self) -> bool:
        return self.state["finished"]

    def finish(self) -> None:
        self._save(finished=True)

    def has(self, split, name) -> bool:
        return name in self.state[split]

    def add(self, split, name, counts) -> None:
        """An archive is done: its utterances are in finished shards."""
        self._save(**{split: self.state[split] | {name: counts}})

    def hours(self, archives) -> float:
        """Of what is done, by the list."""
        return sum(
            hours
            for archive in archives
            for split, hours in archive["hours"].items()
            if self.has(split, archive["name"])
        )

    def counts(self) -> dict:
        """Sums over all archives."""
        total = Counter()
        for split in ("dev", "train"):
            for counts in self.state[split].values():
                total.update(counts)
        return dict(total)

    def _save(self, **changes):
        self.state |= changes
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(self.state, indent=1) + "\n", encoding="utf-8")
        partial.replace(self.file)


class ArchiveReader:
    """Downloads the archives of a selection one by one and reads their utterances.

    An archive is deleted when all that it gave lies in finished shards.

    Arguments
    ---------
    folder : Path
        Holds the shards, one folder a split.
    dataset : HubDataset
    selection : UtteranceList
    prepared : Prepared
    """

    def __init__(self, folder, dataset, selection, prepared):
        self.folder, self.dataset = folder, dataset
        self.selection, self.prepared = selection, prepared
        summary = selection.load()
        self.archives = {a["name"]: a for a in summary["archives"]}
        self.shortest = summary["settings"]["min_seconds"]
        self.longest = summary["settings"]["max_seconds"]
        self._read = []  # (split, archive, counts, shards that were finished by then)

    @contextmanager
    def progress(self):
        """Shows hours done and time left."""
        total = sum(h for a in self.archives.values() for h in a["hours"].values())
        done = self.prepared.hours(self.archives.values())
        with tqdm(total=total, initial=done, bar_format=BAR, mininterval=1) as self.bar:
            yield

    def recordings(self, split):
        """Of the archives that are not done: (``Utterance``, samples (S,)), lazily.

        What lies in finished shards is not decoded again.
        """
        finished = written_names(self.folder / split, SAMPLE_RATE)
        for name, splits in self.selection.utterances():
            wanted = {utterance for utterance, s in splits.items() if s == split}
            if not wanted or self.prepared.has(split, name):
                continue
            counts, before = Counter(), self.bar.n
            yield from self._archive(name, wanted, finished, counts)
            self.bar.update(before + self.archives[name]["hours"][split] - self.bar.n)
            self._read.append((split, name, dict(counts), self._shards(split)))
            self.settle()

    def settle(self, everything=False) -> None:
        """Archives whose utterances are in finished shards are done.

        Arguments
        ---------
        everything : bool
            No shard is open any more.
        """
        for entry in list(self._read):
            split, name, counts, shards = entry
            # The shard that was open when the archive ended has been finished since.
            if everything or self._shards(split) > shards:
                self.prepared.add(split, name, counts)
                self._read.remove(entry)
                if split == "train" or not self.archives[name]["hours"]["train"]:
                    for part in ("audio", "text"):
                        self._path(name, part).unlink(missing_ok=True)

    def _archive(self, name, wanted, finished, counts):
        texts = read_table(self._fetch(name, "text"))
        counts["without_text"] = sum(not texts.get(u) for u in wanted)
        counts["written"] = len(wanted & finished)
        left = wanted - finished
        if not left:
            return
        try:
            for utterance, data in read_members(self._fetch(name, "audio"), left):
                left.discard(utterance)
                samples = self._decoded(name, utterance, data, counts)
                if samples is None:
                    continue
                counts["written"] += 1
                seconds, text = len(samples) / SAMPLE_RATE, texts.get(utterance, "")
                self.bar.update(seconds / 3600)
                yield Utterance(utterance, seconds, "", video(utterance), text), samples
                if not left:
                    break
        except DamagedArchive as error:
            logger.warning("%s: the rest cannot be read (%s)", name, error)
        if left:
            counts["missing"] = len(left)
            shown = ", ".join(sorted(left)[:5]) + (" ..." if len(left) > 5 else "")
            logger.warning("%s: %d utterances missing: %s", name, len(left), shown)

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

    def _fetch(self, name, part):
        self.bar.set_postfix_str(f"fetching {part} of {name}")
        path = self.dataset.fetch(self.archives[name][part], self._path(name, part))
        self.bar.set_postfix_str(f"reading {name}")
        return path

    def _path(self, name, part):
        return self.folder / "downloads" / f"{name.replace('/', '-')}.{part}"

    def _shards(self, split):
        return len(list((self.folder / split / "tables").glob("*.npy")))


def decode(data, max_seconds) -> torch.Tensor:
    """The audio of a file as (S,) float32, mono, 16 kHz.

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
            frames = round((max_seconds + 1) * rate)
            samples = file.read(frames, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"unreadable ({error})") from error
    samples = torch.from_numpy(samples).mean(1)
    if not samples.isfinite().all():
        raise ValueError("numbers that are not finite")
    return samples if rate == SAMPLE_RATE else _resampler(rate)(samples)


@lru_cache(maxsize=16)
def _resampler(rate):
    return torchaudio.transforms.Resample(rate, SAMPLE_RATE)
