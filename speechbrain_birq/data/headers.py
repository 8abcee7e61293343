"""Durations of audio files, and other numbers: read, or taken from a memory."""

import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import soundfile
from tqdm import tqdm

from speechbrain_birq.checkpoints.files import write
from speechbrain_birq.data.audio_checks import LONGEST, check_header, printable

logger = logging.getLogger(__name__)

CHUNK = 100  # files of one task: a task for each file would take longer than its header
WAIT = 0.0005  # seconds that a file is waited for, from which on threads pay
MOST = 1_000_000  # files whose durations are kept, 0.1 GB
REMEMBERED = 2000  # files from which on their durations are kept: 0.2 s of headers


# Bytes, time of the last change in nanoseconds, a number that was read from the file,
# such as its seconds. The first two say whether the third still holds. A list, because
# JSON gives lists.
Entry = list[Any]
Read = Callable[[Any, os.stat_result], float]


def measure(path: Path) -> float:
    """Return the seconds of audio that the file's header promises.

    Raises
    ------
    ValueError
        If the file is empty or no audio, or its header cannot be true.
    """
    return _measured(path, path.stat())


def _measured(path, status):
    if stat.S_ISDIR(status.st_mode):
        raise ValueError("a folder")
    if status.st_size == 0:
        raise ValueError("empty file")
    try:
        # soundfile.info would also collect what it does not need: a fifth of the time.
        with soundfile.SoundFile(path) as file:
            rate, num_samples = file.samplerate, file.frames
    except Exception as error:  # soundfile raises many kinds
        raise ValueError(f"unreadable ({error})") from error
    check_header(rate, num_samples)
    return num_samples / rate


def measure_all(paths: Sequence[Path], num_threads: int = 8) -> dict[Path, float]:
    """Measure readable files; the others are named in the log and left out.

    The durations of large corpora are kept in the user's cache folder
    (``$XDG_CACHE_HOME`` or ``~/.cache``), and taken from there as long as a file has
    its size and its time. Deleting that folder does no harm.

    Arguments
    ---------
    paths : sequence of Path
        Audio files.
    num_threads : int
        Headers that are read at the same time where each is a wait, as over a network.

    Returns
    -------
    dict
        path -> seconds
    """
    entries, bad = remembered("headers", paths, _measured, _is_duration, num_threads)
    for path, reason in bad.items():
        logger.warning("skipped %s: %s", printable(path), printable(reason))
    if bad:
        logger.warning("skipped %d of %d audio files", len(bad), len(paths))
    return {path: entries[str(path)][2] for path in paths if path not in bad}


def remembered(
    kind: str,
    paths: Sequence[Path] | Sequence[str],
    read: Read,
    makes_sense: Callable[[float], bool],
    num_threads: int = 8,
) -> tuple[dict[str, Entry], dict[Any, str]]:
    """Read a number of each file, once as long as the file has its size and its time.

    Arguments
    ---------
    kind : str
        Folder of the user's cache, for large corpora.
    paths : sequence
    read : callable
        (path, status) -> number; raises ``ValueError`` or ``OSError``.
    makes_sense : callable
        number -> whether a file may have it; otherwise the memory is not used.
    num_threads : int
        As for ``measure_all``.

    Returns
    -------
    tuple
        path as text -> entry of a readable file, path -> why another one is not.
    """
    memory = _memory(kind, paths) if len(paths) >= REMEMBERED else None
    known = {} if memory is None else _read(memory, makes_sense)
    entries, bad = _entries(kind, paths, known, read, num_threads)
    gone = {str(path) for path in bad}
    # Other tables may name other files of this folder.
    others = known.keys() - gone if len(known) < MOST else ()
    kept = {name: known[name] for name in others} | entries
    if memory is not None and kept != known:
        with suppress(OSError):  # no home, no room: files are read again
            memory.parent.mkdir(parents=True, exist_ok=True)
            write(memory, json.dumps(kept))
    return entries, bad


def _is_duration(seconds):
    return 0 < seconds <= LONGEST


def _entries(kind, paths, known, read, num_threads):
    """Entries of the readable files, and why the others are none."""
    entries: dict[str, Entry] = {}
    bad: dict[Path, str] = {}
    bar = tqdm(total=len(paths), desc=kind, unit=" files", delay=2, disable=None)
    with bar:
        for chunk, results in _results(paths, known, read, num_threads):
            for path, result in zip(chunk, results, strict=True):
                if isinstance(result, str):
                    bad[path] = result
                else:
                    entries[str(path)] = result
            bar.update(len(chunk))
    return entries, bad


def _results(paths, known, read, num_threads):
    """Pairs of a chunk of the paths and what is known of each.

    Threads help where a file is a wait. Where it is none they get into each other's
    way: 100,000 headers of a local disk take 6 s in one thread and 11 s in eight. So
    the threads begin after the first files that are waited for.
    """

    def results(chunk):
        return [_entry(path, known, read) for path in chunk]

    chunks = iter(
        [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    )
    for chunk in chunks:
        started, worked = time.perf_counter(), time.thread_time()
        found = results(chunk)
        seconds, work = time.perf_counter() - started, time.thread_time() - worked
        yield chunk, found
        if seconds - work > WAIT * len(chunk):
            break
    rest = list(chunks)
    with ThreadPoolExecutor(num_threads) as pool:
        yield from zip(rest, pool.map(results, rest), strict=True)


def _entry(path: Any, known: Mapping[str, Entry], read: Read) -> Entry | str:
    """The entry of a file, or why it cannot be used."""
    try:
        name = str(path)
        status = os.stat(name)
        # `cp -p` and `rsync -t` set the first of these to that of another file.
        changed = max(status.st_mtime_ns, status.st_ctime_ns)
        entry = known.get(name)
        if entry and entry[0] == status.st_size and entry[1] == changed:
            return entry
        return [status.st_size, changed, read(path, status)]
    except (ValueError, OSError) as error:
        return str(error)


def cache_folder() -> Path:
    """Return the folder of what can be made again."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "speechbrain_birq"


def _memory(kind, paths):
    """File of the entries of a folder."""
    names = [str(path) for path in paths]
    # The first and the last in order have no more in common than all.
    ends = [os.path.abspath(end) for end in (min(names), max(names))]
    folder = os.path.commonpath(ends)
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:32]
    return cache_folder() / kind / f"{name}.json"


def _read(memory: Path, makes_sense: Callable[[float], bool]) -> dict[str, Entry]:
    """What an earlier call has written, if all of it makes sense."""
    try:
        entries = json.loads(memory.read_text(encoding="utf-8"))
        for size, changed, number in entries.values():
            if not (isinstance(size, int) and isinstance(changed, int)):
                return {}
            if not makes_sense(number):
                return {}
        return entries
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
