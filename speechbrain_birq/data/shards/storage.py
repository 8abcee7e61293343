"""Bytes of files on a disk, behind HTTP(S) or in an object store.

fsspec reads object stores. HTTP has a reader of its own because fsspec's neither tries
again, nor notices a server that ignores Range, nor bounds what it reads into memory.
"""

import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import fsspec

from speechbrain_birq.data.bounded_http import CONNECTIONS, blocks, opened
from speechbrain_birq.data.shards.deadline import in_time
from speechbrain_birq.errors import BadInput

BLOCK = 2**20  # bytes of a store that are asked for at once
LARGEST = 2**28  # bytes of a file that is read whole: lengths of 60 million utterances

Piece = tuple[str, str, int, int]  # root, name, start, size


def is_url(root: object) -> bool:
    """Return whether a root is a URL and no folder of this machine.

    Example
    -------
    >>> is_url("https://host/shards"), is_url("s3://bucket/shards"), is_url("/shards")
    (True, True, False)
    """
    return "://" in str(root)


def read(
    root: str,
    name: str,
    start: int | None = None,
    size: int | None = None,
    largest: int | None = None,
) -> bytes:
    """Read a file, or a piece of it.

    Arguments
    ---------
    root : str
        Folder; ``http://`` or ``https://`` URL; URL of a store that fsspec knows
        (``s3://``, ``gs://``, ``hf://``, ...).
    name : str
        Path of the file below the root.
    start, size : int, optional
        Bytes of the piece. Over HTTP it is asked for with a Range header.
    largest : int, optional
        Most bytes of a file that is read whole; by default ``LARGEST``.

    Raises
    ------
    OSError
        If it cannot be read, or is shorter than ``start + size``.
    BadInput
        If fsspec needs another package for this kind of URL.
    """
    path = f"{str(root).rstrip('/')}/{name}"
    largest = LARGEST if largest is None else min(largest, LARGEST)
    if path.startswith(("http://", "https://")):
        data = _get(path, start, size, largest)
    else:
        data = (_from_store if is_url(path) else _from_disk)(path, start, size, largest)
    if start is not None and size is not None and len(data) != size:
        raise OSError(f"{root}/{name} ends before byte {start + size}")
    return data


def read_pieces(pieces: Sequence[Piece]) -> list[bytes | OSError]:
    """Read several pieces; from afar, many at once.

    Returns
    -------
    list
        For each piece its bytes, or the ``OSError``.
    """
    if not any(is_url(root) for root, *_ in pieces):
        return [_read_or_error(piece) for piece in pieces]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return list(pool.map(_read_or_error, pieces))


def _read_or_error(piece):
    try:
        return read(*piece)
    except OSError as error:
        return error
    except (OverflowError, ValueError) as error:  # a place that no file has
        return OSError(str(error))


def _get(url, start, size, largest):
    asked = {} if start is None else {"Range": f"bytes={start}-{start + size - 1}"}
    with opened(url, asked) as response:
        # Before the body is read: it would be the whole shard.
        if start is not None and response.status_code != 206:
            raise OSError(f"the server of {url} does not know Range requests")
        return b"".join(blocks(response, url, largest if size is None else size))


def _from_disk(path, start, size, largest):
    """Read a regular file: a pipe or a device may never end."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is no regular file")
    if size is None and status.st_size > largest:
        raise OSError(f"{path} has more than {largest} bytes")
    with open(path, "rb") as file:
        file.seek(start or 0)
        # Python makes room for all that is asked for, before it reads.
        left = max(0, status.st_size - (start or 0))
        return file.read(left if size is None else min(size, left))


def _from_store(path, start, size, largest):
    """Read through fsspec, which has neither deadlines nor bounds of its own."""
    filesystem = _filesystem(path.split("://")[0])
    try:
        if size is None:
            start, size = 0, in_time(path, lambda: filesystem.info(path)["size"])
        else:
            largest = LARGEST
        if type(size) is not int or not 0 <= size <= largest:
            raise OSError(f"{path} has {size} bytes, not 0 to {largest}")
        ranges = [
            (at, min(BLOCK, start + size - at))
            for at in range(start, start + size, BLOCK)
        ]
        return b"".join(_range(filesystem, path, *part) for part in ranges)
    except OSError:
        raise
    except Exception as error:  # of the store's library
        raise OSError(f"{path}: {error}") from error


def _range(filesystem, path, start, size):
    data = in_time(
        path, lambda: filesystem.cat_file(path, start=start, end=start + size)
    )
    if len(data) != size:
        raise OSError(f"{path} gives {len(data)} bytes where {size} were asked for")
    return data


def _filesystem(protocol: str) -> Any:
    try:
        return _filesystem_of(os.getpid(), protocol)
    except (ImportError, ValueError) as error:
        raise BadInput(f"{protocol}:// cannot be read: {error}") from error


@lru_cache(maxsize=4)
def _filesystem_of(pid, protocol):
    return fsspec.filesystem(protocol)
