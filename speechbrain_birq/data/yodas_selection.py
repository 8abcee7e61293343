"""Which utterances of YODAS: drawn from the list of durations, before any audio.

Whole videos in a seeded order of archives: nearly all that is downloaded is used. The
price is that the hours come from as few archives as hold them.
"""

import gzip
import json
import math
import random
import re
import zlib
from itertools import groupby
from typing import NamedTuple

from speechbrain_birq.data.hub import RemoteFile
from speechbrain_birq.errors import BadInput

PARTS = {"audio": ".tar.gz", "text": ".txt", "duration": ".txt"}
UTTERANCE = re.compile(r"([\w-]+)-[^-]+-[^-]+-[^-]+", re.ASCII)  # video-index-start-end


class Archive(NamedTuple):
    """An archive of audio with its two annotation files."""

    name: str  # en000/00000000
    audio: RemoteFile
    text: RemoteFile
    duration: RemoteFile


class Drawn(NamedTuple):
    """An utterance that is to be prepared."""

    archive: str
    split: str
    ID: str
    seconds: float  # as the dataset's list has it


def find_archives(dataset, languages=()) -> list[Archive]:
    """All archives of the languages; all English ones if none is named.

    Raises
    ------
    BadInput
        If there is none, or one lacks an annotation file.
    """
    if not languages:
        languages = [f for f in dataset.folders("data") if re.fullmatch(r"en\d+", f)]
    archives = [a for lang in sorted(set(languages)) for a in _archives(dataset, lang)]
    if not archives:
        raise BadInput(f"{dataset.repo} has no archives data/en*/audio/*.tar.gz")
    return archives


def _archives(dataset, language):
    if not re.fullmatch(r"\w+", language, re.ASCII):
        raise BadInput(f"--languages {language!r} is no folder of {dataset.repo}/data")
    files = dataset.files(f"data/{language}")
    audio = re.compile(rf"data/{language}/audio/(\d+)\.tar\.gz", re.ASCII)
    numbers = [match[1] for match in map(audio.fullmatch, sorted(files)) if match]
    for number in numbers:
        paths = [f"data/{language}/{p}/{number}{end}" for p, end in PARTS.items()]
        for path in paths:
            if path not in files:
                raise BadInput(
                    f"{dataset.repo} has {paths[0]} but no {path}: name other "
                    f"--languages, or an earlier --revision"
                )
        yield Archive(f"{language}/{number}", *(files[path] for path in paths))


def read_table(path) -> dict[str, str]:
    """``<utterance> <value>`` lines, spaces or a comma between; blank lines are none.

    Raises
    ------
    BadInput
        If the file is no text.
    """
    table = {}
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line in file:
                key, *value = re.split(r"\s*[,\s]\s*", line.strip(), maxsplit=1)
                if key:
                    table[key] = value[0] if value else ""
    except UnicodeDecodeError:
        raise BadInput(f"{path} is no text: delete it and start again") from None
    return table


def read_durations(path, name) -> dict[str, float]:
    """Seconds of each utterance; a first line without a number is a header.

    Arguments
    ---------
    path : str or Path
    name : str
        What to call it in a complaint.

    Raises
    ------
    BadInput
        If a line has no number, or an utterance another name than
        ``<video>-<index>-<start>-<end>``.
    """
    durations = {}
    for number, (utterance, value) in enumerate(read_table(path).items()):
        try:
            seconds = float(value)
        except ValueError:
            if number == 0:
                continue
            raise BadInput(
                f"{name}: {value[:40]!r} of {utterance[:60]} is no number of seconds"
            ) from None
        if not UTTERANCE.fullmatch(utterance):
            raise BadInput(
                f"{name}: {utterance[:60]!r} is no <video>-<index>-<start>-<end>"
            )
        durations[utterance] = seconds
    return durations


def video(utterance) -> str:
    """The video that an utterance is of.

    Example
    -------
    >>> video("dQw4w9-gXcQ-00001-00000220-00000460")
    'dQw4w9-gXcQ'
    """
    return UTTERANCE.fullmatch(utterance)[1]


def draw(archives, durations, *, seed, hours, dev_hours, min_seconds, max_seconds):
    """Draw utterances: ``dev_hours`` of some videos, then ``hours`` of others.

    Arguments
    ---------
    archives : list
        Of ``Archive``.
    durations : callable
        archive -> {utterance: seconds}; asked in the order drawn, until it is enough.
    seed : int
        Of the order of the archives and of the videos in each.
    hours, dev_hours : float
        Of train and dev; overshot by less than one utterance.
    min_seconds, max_seconds : float
        Utterances outside are left out.

    Yields
    ------
    Drawn

    Raises
    ------
    BadInput
        At the end, if the archives hold less.
    """
    missing = {"dev": dev_hours * 3600, "train": hours * 3600}
    dev_videos = set()
    for archive in _shuffled(archives, f"{seed}"):
        videos = {}
        for utterance, seconds in durations(archive).items():
            if min_seconds <= seconds <= max_seconds:
                videos.setdefault(video(utterance), []).append((utterance, seconds))
        for name in _shuffled(videos, f"{seed} {archive.name}"):
            split = "dev" if missing["dev"] > 0 else "train"
            if split == "dev":
                dev_videos.add(name)
            elif name in dev_videos:  # it goes on in another archive
                continue
            for utterance, seconds in videos[name]:
                if missing[split] <= 0:
                    break
                missing[split] -= seconds
                yield Drawn(archive.name, split, utterance, seconds)
        if missing["train"] <= 0:
            return
    there = hours + dev_hours - sum(missing.values()) / 3600
    raise BadInput(
        f"the {len(archives)} archives hold {there:.4g} h of utterances of "
        f"{min_seconds:g} to {max_seconds:g} s, not {hours + dev_hours:g} h: lower "
        f"--hours, or name more --languages"
    )


def _shuffled(names, seed):
    order = sorted(names)
    random.Random(seed).shuffle(order)
    return order


class Selection:
    """The saved list: ``selection.json`` says how it was drawn and from which archives,
    ``selection.tsv.gz`` has a line for each utterance (some 11 bytes packed).

    Arguments
    ---------
    folder : Path
        Where the two files are, or will be.
    """

    def __init__(self, folder):
        self.summary_file = folder / "selection.json"
        self.list_file = folder / "selection.tsv.gz"

    def exists(self) -> bool:
        return self.summary_file.exists() and self.list_file.exists()

    def save(self, settings, commit, archives, drawn) -> None:
        """Write both files, whole or not at all.

        Arguments
        ---------
        settings : dict
            What the list depends on.
        commit : str
            Of the dataset.
        archives : list
            Of ``Archive``; only those that something is drawn from are kept.
        drawn : iterable
            Of ``Drawn``, those of an archive in a row.
        """
        by_name = {archive.name: archive for archive in archives}
        kept, partial = [], self.list_file.with_suffix(".partial")
        with open(partial, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, 0) as file:
            for name, rows in groupby(drawn, lambda row: row.archive):
                seconds = {"dev": [], "train": []}
                for row in rows:
                    file.write("\t".join(map(str, row)).encode() + b"\n")
                    seconds[row.split].append(row.seconds)
                kept.append(_summary(by_name[name], seconds))
        partial.replace(self.list_file)
        summary = {"settings": settings, "commit": commit, "archives": kept}
        partial = self.summary_file.with_suffix(".partial")
        partial.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        partial.replace(self.summary_file)

    def load(self) -> dict:
        """What ``selection.json`` holds, its files as ``RemoteFile``.

        Raises
        ------
        BadInput
            If it is damaged.
        """
        try:
            summary = json.loads(self.summary_file.read_text(encoding="utf-8"))
            for archive in summary["archives"]:
                archive["audio"] = RemoteFile(*archive["audio"])
                archive["text"] = RemoteFile(*archive["text"])
            return summary | {"settings": dict(summary["settings"])}
        except (ValueError, TypeError, KeyError):
            raise BadInput(self._damaged(self.summary_file)) from None

    def utterances(self):
        """Archive after archive: (name, {utterance: split}).

        Raises
        ------
        BadInput
            Where the list is damaged.
        """
        try:
            with gzip.open(self.list_file, "rt", encoding="utf-8") as file:
                rows = (line.rstrip("\n").split("\t") for line in file)
                for name, group in groupby(rows, lambda row: row[0]):
                    yield name, {utterance: split for _, split, utterance, _ in group}
        except (OSError, EOFError, ValueError, zlib.error):
            raise BadInput(self._damaged(self.list_file)) from None

    def _damaged(self, file):
        return f"{file} is damaged: delete its folder and begin again"


def _summary(archive, seconds):
    return {
        "name": archive.name,
        "audio": archive.audio,
        "text": archive.text,
        "utterances": sum(map(len, seconds.values())),
        "hours": {s: math.fsum(part) / 3600 for s, part in seconds.items()},
    }
