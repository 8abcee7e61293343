"""Files of a corpus: links are followed, hidden files are not."""

import logging
import os
from pathlib import Path

from speechbrain_birq.data.audio_checks import printable

logger = logging.getLogger(__name__)


def files_below(folder: str | Path, endings: str | tuple[str, ...]) -> list[Path]:
    """List the files at any depth below a folder, in order.

    Links to folders are followed, because corpora that share their audio are made of
    them; a folder is visited once, so that links in a circle end. Names that begin with
    a dot are skipped: macOS leaves a ``._1.flac`` beside each ``1.flac``. Links that
    lead nowhere and folders that cannot be read are named in the log.

    Arguments
    ---------
    folder : str or Path
    endings : str or tuple
        Ends of the names, in lower case; ``.FLAC`` matches ``.flac``.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> for name in ("b.FLAC", "a.flac", "._a.flac", "a.txt"):
    ...     (folder / name).touch()
    >>> (folder / "again").symlink_to(folder)
    >>> [path.name for path in files_below(folder, ".flac")]
    ['a.flac', 'b.FLAC']
    """
    found, visited = [], set()
    for place, folders, names in os.walk(folder, onerror=_log, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        # A folder of that name is listed too, so that whoever opens it names it.
        for name in (*folders, *names):
            if name.startswith("."):
                continue
            path = Path(place, name)
            if name.lower().endswith(endings):
                found.append(path)
            # A link with another ending is for another search.
            elif not path.suffix and path.is_symlink() and not path.exists():
                logger.warning("skipped %s: a link that leads nowhere", printable(path))
    return sorted(found)


def _log(error):
    logger.warning("skipped %s: %s", printable(error.filename), error.strerror)
