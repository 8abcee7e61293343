"""YODAS: a seeded subset of its English speech, downloaded and kept as 16 kHz shards.

Beside the shards ``train`` and ``dev`` lie ``selection.json`` and ``selection.tsv.gz``
(the utterances, chosen before any audio), ``prepared.json`` (which archives are done)
and, while it runs, ``downloads``.
"""

import fcntl
import shutil
from contextlib import contextmanager
from pathlib import Path

from speechbrain_birq.data.corpora.yodas.archives import ArchiveReader, Prepared
from speechbrain_birq.data.corpora.yodas.hub import FULL, HubDataset, no_space
from speechbrain_birq.data.corpora.yodas.sampling import (
    draw,
    find_archives,
    read_durations,
)
from speechbrain_birq.data.corpora.yodas.utterance_list import UtteranceList
from speechbrain_birq.data.shards.writer import find_lhotse, write_shards
from speechbrain_birq.errors import BadInput

REPO = "espnet/yodas"
LICENCE = "YODAS is published under CC BY 3.0: name its authors where you use it"
# Read speech measured 65 as shards (speechocean762); noise and music take more, 16-bit
# samples are 115.
FLAC_MB_PER_HOUR = 80


def prepare_yodas(
    output_folder,
    *,
    hours=5000.0,
    dev_hours=5.0,
    seed=0,
    languages=(),
    min_seconds=0.5,
    max_seconds=30.0,
    revision="main",
    endpoint=None,
) -> dict:
    """Draw a subset of YODAS, download it and write it as shards ``train`` and ``dev``.

    Called again after whatever stopped it, it continues. No video is in both.

    Arguments
    ---------
    output_folder : str or Path
    hours, dev_hours : float
        Of train and dev, by the dataset's own durations.
    seed : int
        Of the draw.
    languages : list
        Folders below ``data``; none: all named ``en`` and a number.
    min_seconds, max_seconds : float
        Utterances outside are left out, by the list and by their samples.
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
        If an argument, the disk, the hub or what an earlier call has left does not
        allow it.
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
    with _full_disk(folder), _alone(folder):
        prepared = Prepared(folder)
        selection = UtteranceList(folder)
        if not selection.exists():
            _select(folder, selection, settings, endpoint)
        summary = selection.load()
        _check_same(folder, summary["settings"], settings)
        if not prepared.finished:
            _write(folder, selection, summary, prepared, endpoint)
        return prepared.counts()


def find_yodas(data_folder, splits, manifest_folder):
    """What pretraining asks for splits that are not there as shards: refuses.

    Raises
    ------
    BadInput
        Always; it tells whether the preparation has begun.
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
    largest = sorted(archive.audio.size for archive in archives)[-2:]
    wanted = settings["hours"] + settings["dev_hours"]
    _check_disk(folder, wanted, sum(largest))
    lists = folder / "downloads" / "durations"

    def durations(archive):
        name = archive.name.replace("/", "-")
        path = dataset.fetch(archive.duration, lists / f"{name}.txt")
        return read_durations(path, archive.duration.path)

    rules = {k: v for k, v in settings.items() if k not in ("languages", "revision")}
    drawn = draw(archives, durations, **rules)
    selection.save(settings, dataset.commit, archives, drawn)
    shutil.rmtree(lists)


def _write(folder, selection, summary, prepared, endpoint):
    archives = summary["archives"]
    hours = {s: sum(a["hours"][s] for a in archives) for s in ("dev", "train")}
    sizes = sorted(archive["audio"].size for archive in archives)
    print(
        f"{hours['train']:.1f} h for train and {hours['dev']:.1f} h for dev from "
        f"{len(archives)} archives of {REPO} at {summary['commit'][:12]}, "
        f"{sum(sizes) / 1e9:.1f} GB to download. {LICENCE}."
    )
    # Two on their way into a shard, and those of dev, which train reads again.
    dev = sum(a["audio"].size for a in archives if a["hours"]["dev"])
    left = sum(hours.values()) - prepared.hours(archives)
    _check_disk(folder, left, sum(sizes[-2:]) + dev)
    dataset = HubDataset(REPO, summary["commit"], endpoint)
    reader = ArchiveReader(folder, dataset, selection, prepared)
    with reader.progress():
        for split in ("dev", "train"):
            if hours[split]:
                write_shards(reader.recordings(split), folder / split)
                reader.settle(everything=True)
    shutil.rmtree(folder / "downloads", ignore_errors=True)
    prepared.finish()


def _check_disk(folder, hours, archive_bytes):
    needed = hours * FLAC_MB_PER_HOUR * 1e6 + archive_bytes
    free = shutil.disk_usage(folder).free
    print(
        f"disk: about {needed / 1e9:.1f} GB needed ({hours:.1f} h of FLAC at "
        f"{FLAC_MB_PER_HOUR} MB and {archive_bytes / 1e9:.1f} GB of archives at a "
        f"time), {free / 1e9:.1f} GB free"
    )
    if needed > free:
        raise BadInput(
            f"{folder} has {free / 1e9:.1f} GB free and the shards need about "
            f"{needed / 1e9:.1f} GB: give another --output_folder, or fewer --hours"
        )


@contextmanager
def _alone(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")  # noqa: SIM115
    except OSError as error:
        raise BadInput(
            f"cannot write {folder} ({error.strerror}): give another --output_folder"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInput(
                f"another run prepares {folder}: wait for it, or end it"
            ) from error
        yield


@contextmanager
def _full_disk(folder):
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise BadInput(no_space(folder)) from error
