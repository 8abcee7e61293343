"""Which utterances of YODAS: drawn from the list of durations, before any audio.

Whole videos are drawn, in a seeded order of archives, so that nearly all that is
downloaded is used. The price is that the hours come from as few archives as hold them.
"""

import random
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from speechbrain_birq.data.corpora.yodas.hub import HubDataset, RemoteFile
from speechbrain_birq.errors import BadInput

PARTS = {"audio": ".tar.gz", "text": ".txt", "duration": ".txt"}
UTTERANCE = re.compile(r"([\w-]+)-[^-]+-[^-]+-[^-]+", re.ASCII)  # video-index-start-end
LARGEST_TABLE = 2**27  # bytes of texts or durations; those of an archive have 10 MB

Sortable = TypeVar("Sortable", str, "Archive")


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


def find_archives(
    dataset: HubDataset, languages: Collection[str] = ()
) -> list[Archive]:
    """Find the archives of the languages; all English ones if none is named.

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
        for path in paths[1:]:
            if files[path].size > LARGEST_TABLE:
                raise BadInput(f"{path} of {dataset.repo} has {files[path].size} bytes")
        yield Archive(f"{language}/{number}", *(files[path] for path in paths))


def read_table(path: str | Path) -> dict[str, str]:
    """Read lines ``<utterance> <value>``, separated by spaces or a comma.

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
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no text: delete it and start again") from error
    return table


def read_durations(path: str | Path, name: str) -> dict[str, float]:
    """Read the seconds of each utterance; a first line without a number is a header.

    Arguments
    ---------
    path : str or Path
    name : str
        Name of the file in messages.

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
        except ValueError as error:
            if number == 0:
                continue
            raise BadInput(
                f"{name}: {value[:40]!r} of {utterance[:60]} is no number of seconds"
            ) from error
        if not UTTERANCE.fullmatch(utterance):
            raise BadInput(
                f"{name}: {utterance[:60]!r} is no <video>-<index>-<start>-<end>"
            )
        durations[utterance] = seconds
    return durations


def video(utterance: str) -> str:
    """Return the video that an utterance comes from.

    Example
    -------
    >>> video("dQw4w9-gXcQ-00001-00000220-00000460")
    'dQw4w9-gXcQ'
    """
    match = UTTERANCE.fullmatch(utterance)
    assert match is not None  # ``read_durations`` has checked the names
    return match[1]


def draw(
    archives: Sequence[Archive],
    durations: Callable[[Archive], Mapping[str, float]],
    *,
    seed: int,
    hours: float,
    dev_hours: float,
    min_seconds: float,
    max_seconds: float,
) -> Iterator[Drawn]:
    """Draw utterances: ``dev_hours`` of some videos, then ``hours`` of others.

    Arguments
    ---------
    archives : sequence of Archive
        All that may be drawn from.
    durations : callable
        archive -> {utterance: seconds}; called in the order drawn, until it is enough.
    seed : int
        Seed of the order of the archives, and of the videos in each.
    hours, dev_hours : float
        Hours of train and dev; overshot by less than one utterance.
    min_seconds, max_seconds : float
        Shorter and longer utterances are left out.

    Yields
    ------
    Drawn

    Raises
    ------
    BadInput
        At the end, if the archives hold less.
    """
    missing = {"dev": dev_hours * 3600, "train": hours * 3600}
    dev_videos: set[str] = set()
    for archive in _shuffled(archives, f"{seed}"):
        videos: dict[str, list[tuple[str, float]]] = {}
        for utterance, seconds in durations(archive).items():
            if min_seconds <= seconds <= max_seconds:
                videos.setdefault(video(utterance), []).append((utterance, seconds))
        for name in _shuffled(videos, f"{seed} {archive.name}"):
            split = "dev" if missing["dev"] > 0 else "train"
            if split == "dev":
                dev_videos.add(name)
            elif name in dev_videos:  # a video may lie in several archives
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


def _shuffled(names: Iterable[Sortable], seed: str) -> list[Sortable]:
    order = sorted(names)
    random.Random(seed).shuffle(order)
    return order
