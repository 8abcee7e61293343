"""YODAS: a seeded subset of its English speech, downloaded and kept as 16 kHz shards.

Beside the shards ``train`` and ``dev`` lie ``selection.json`` and ``selection.tsv.gz``
(the utterances, chosen before any audio) and, while it runs, ``downloads``. Each
archive becomes one shard of each split that it has utterances of.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from speechbrain_birq.checkpoints.files import check_free_space
from speechbrain_birq.checkpoints.run_lock import locked
from speechbrain_birq.data.corpora.yodas.archives import ArchiveReader, counted
from speechbrain_birq.data.corpora.yodas.hub import FULL, HubDataset, no_space
from speechbrain_birq.data.corpora.yodas.sampling import (
    draw,
    find_archives,
    read_durations,
)
from speechbrain_birq.data.corpora.yodas.utterance_list import UtteranceList
from speechbrain_birq.data.shards.writer import find_lhotse, write_index
from speechbrain_birq.errors import BadInput

REPO = "espnet/yodas"
SPLITS = ("dev", "train")
LICENSE = "YODAS is published under CC BY 3.0: name its authors where you use it"
# Read speech measured 65 as shards (speechocean762); noise and music take more, 16-bit
# samples are 115.
FLAC_MB_PER_HOUR = 80


def prepare_yodas(
    output_folder: str | Path,
    *,
    hours: float = 5000.0,
    dev_hours: float = 5.0,
    seed: int = 0,
    languages: Sequence[str] = (),
    min_seconds: float = 0.5,
    max_seconds: float = 30.0,
    revision: str = "main",
    endpoint: str | None = None,
) -> dict[str, int]:
    """Draw a subset of YODAS, download it and write it as shards ``train`` and ``dev``.

    Called again after whatever stopped it, it resumes. No video is in both.

    Arguments
    ---------
    output_folder : str or Path
        Where the shards go.
    hours, dev_hours : float
        Hours of train and dev, by the dataset's own durations.
    seed : int
        Seed of the draw.
    languages : sequence of str
        Folders below ``data``; none: all named ``en`` and a number.
    min_seconds, max_seconds : float
        Shorter and longer utterances are left out, by the list and by their samples.
    revision : str
        Branch, tag or commit of the dataset. The commit is kept with the list.
    endpoint : str, optional
        Another address than the hub's.

    Returns
    -------
    dict
        Counts: ``written``, ``missing``, ``unreadable``, ``wrong_length``,
        ``without_text``.

    Raises
    ------
    BadInput
        If an argument cannot be met, the disk is too small, the hub fails, or the
        folder holds something else.
    """
    settings = {
        "hours": hours,
        "dev_hours": dev_hours,
        "seed": seed,
        "languages": sorted(set(languages)),
        "min_seconds": min_seconds,
        "max_seconds": max_seconds,
        "revision": revision,
    }
    _check(settings)
    find_lhotse()
    folder = Path(output_folder)
    with _full_disk(folder), locked(folder):
        selection = UtteranceList(folder)
        if not selection.exists():
            _select(folder, selection, settings, endpoint)
        summary = selection.load()
        _check_same(folder, summary["settings"], settings)
        hours_of = {s: sum(a["hours"][s] for a in summary["archives"]) for s in SPLITS}
        splits = [split for split in SPLITS if hours_of[split]]
        if not all((folder / split / "index.json").exists() for split in splits):
            _refuse_old_layout(folder)
            _write(folder, selection, summary, hours_of, endpoint)
        return _counts(folder, splits)


def find_yodas(
    data_folder: str | Path, splits: Sequence[str], manifest_folder: str | Path
) -> NoReturn:
    """Refuse splits that do not exist as shards; pretraining calls it for these.

    Raises
    ------
    BadInput
        Always; the message says whether the preparation has begun.
    """
    names = " and ".join(splits)
    command = f"python recipes/YODAS/prepare.py --output_folder {data_folder}"
    if UtteranceList(Path(data_folder)).exists():
        raise BadInput(
            f"{data_folder} has no shards {names}, its preparation is not finished: "
            f"give again {command} and wait for its end"
        )
    raise BadInput(
        f"{data_folder} has no shards {names}: prepare them with {command}, or give "
        f"another --data_folder"
    )


def _check(settings):
    if not settings["hours"] > 0 or not settings["dev_hours"] >= 0:
        raise BadInput("--hours must be above 0 and --dev_hours not below 0")
    if not 0 < settings["min_seconds"] < settings["max_seconds"]:
        raise BadInput("--min_seconds must be above 0 and below --max_seconds")


def _check_same(folder, saved, settings):
    for name, value in settings.items():
        if saved.get(name) != value:
            raise BadInput(
                f"{folder} was begun with --{name} {saved.get(name)}, not {value}: "
                f"give the same again, or another --output_folder"
            )


def _select(folder, selection, settings, endpoint):
    dataset = HubDataset(REPO, settings["revision"], endpoint)
    archives = find_archives(dataset, settings["languages"])
    largest = max(archive.audio.size for archive in archives)
    _check_disk(folder, settings["hours"] + settings["dev_hours"], largest)
    lists = folder / "downloads" / "durations"

    def durations(archive):
        name = archive.name.replace("/", "-")
        path = dataset.fetch(archive.duration, lists / f"{name}.txt")
        return read_durations(path, archive.duration.path)

    rules = {k: v for k, v in settings.items() if k not in ("languages", "revision")}
    drawn = draw(archives, durations, **rules)
    selection.save(settings, dataset.commit, archives, drawn)
    shutil.rmtree(lists)


def _write(
    folder: Path,
    selection: UtteranceList,
    summary: Mapping[str, Any],
    hours: Mapping[str, float],
    endpoint: str | None,
) -> None:
    archives = summary["archives"]
    sizes = [archive["audio"].size for archive in archives]
    print(
        f"{hours['train']:.1f} h for train and {hours['dev']:.1f} h for dev from "
        f"{len(archives)} archives of {REPO} at {summary['commit'][:12]}, "
        f"{sum(sizes) / 1e9:.1f} GB to download. {LICENSE}."
    )
    dataset = HubDataset(REPO, summary["commit"], endpoint)
    reader = ArchiveReader(folder, dataset, summary)
    _check_disk(folder, reader.hours_left(), max(sizes))
    with reader.progress():
        for name, splits in selection.utterances():
            reader.write(name, splits)
    shutil.rmtree(folder / "downloads", ignore_errors=True)
    for split in SPLITS:
        if hours[split]:
            write_index(folder / split)


def _counts(folder, splits):
    """What was written and left out, of all splits."""
    total = {"written": 0, "without_text": 0}
    for split in splits:
        index = json.loads((folder / split / "index.json").read_text(encoding="utf-8"))
        total["written"] += sum(shard["utterances"] for shard in index["shards"])
        for name, count in counted(folder / split).items():
            total[name] = total.get(name, 0) + count
    return total


def _refuse_old_layout(folder):
    """Refuse shards of an hour, beside which all utterances would be written again."""
    if (folder / "prepared.json").exists():
        raise BadInput(
            f"{folder} was begun by an earlier version that wrote other shards: give "
            f"another --output_folder, or delete it"
        )


def _check_disk(folder, hours, archive_bytes):
    needed = hours * FLAC_MB_PER_HOUR * 1e6 + archive_bytes
    print(
        f"disk: about {needed / 1e9:.1f} GB needed ({hours:.1f} h of FLAC at "
        f"{FLAC_MB_PER_HOUR} MB and {archive_bytes / 1e9:.1f} GB for the largest "
        f"archive)"
    )
    check_free_space(folder, needed, "give another --output_folder, or fewer --hours")


@contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise BadInput(no_space(folder)) from error
