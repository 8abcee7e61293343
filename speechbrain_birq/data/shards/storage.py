"""Bytes of files: on a disk, behind HTTP(S), in an object store."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import fsspec
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from speechbrain_birq.errors import BadInput

CONNECTIONS = 16  # a process reads so many pieces at once from afar
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte
RETRIES = Retry(4, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504))


def is_url(root) -> bool:
    """Whether this names no folder of this machine.

    Example
    -------
    >>> is_url("https://host/shards"), is_url("s3://bucket/shards"), is_url("/shards")
    (True, True, False)
    """
    return "://" in str(root)


def read(root, name, start=None, size=None) -> bytes:
    """A file, or a piece of it.

    Arguments
    ---------
    root : str
        Folder; ``http://`` or ``https://`` URL; URL of a store that fsspec knows
        (``s3://``, ``gs://``, ``hf://``, ...).
    name : str
        Of the file, from there.
    start, size : int, optional
        Bytes of the piece. Over HTTP it is asked for with a Range header.

    Raises
    ------
    OSError
        If it cannot be read, or is shorter than ``start + size``.
    BadInput
        If fsspec needs another package for this kind of URL.
    """
    get = _get if str(root).startswith(("http://", "https://")) else _cat
    data = get(f"{str(root).rstrip('/')}/{name}", start, size)
    if size is not None and len(data) != size:
        raise OSError(f"{root}/{name} ends before byte {start + size}")
    return data


def read_pieces(pieces) -> list:
    """Several pieces; from afar, many at once.

    Arguments
    ---------
    pieces : list
        Of (root, name, start, size).

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


def _get(url, start, size):
    headers = {} if start is None else {"Range": f"bytes={start}-{start + size - 1}"}
    # Streamed: a server that ignores Range would send the whole shard.
    session = _session(os.getpid())
    with session.get(url, headers=headers, timeout=TIMEOUT, stream=True) as response:
        if response.status_code == 404:
            raise FileNotFoundError(f"{url} does not exist (404)")
        response.raise_for_status()
        if headers and response.status_code != 206:
            raise OSError(f"the server of {url} does not know Range requests")
        return response.content


def _cat(path, start, size):
    filesystem = _filesystem(path.split("://")[0] if is_url(path) else "file")
    end = None if start is None else start + size
    return filesystem.cat_file(path, start=start, end=end)


# Connections do not survive a fork: every worker makes its own.
@lru_cache(maxsize=1)
def _session(pid):
    session = requests.Session()
    adapter = HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=RETRIES)
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session


def _filesystem(protocol):
    try:
        return _filesystem_of(os.getpid(), protocol)
    except (ImportError, ValueError) as error:
        raise BadInput(f"{protocol}:// cannot be read: {error}") from error


@lru_cache(maxsize=4)
def _filesystem_of(pid, protocol):
    return fsspec.filesystem(protocol)
