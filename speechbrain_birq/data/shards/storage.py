"""Bytes of files on a disk, behind HTTP(S) or in an object store.

fsspec reads object stores. HTTP has a reader of its own because fsspec's neither tries
again, nor notices a server that ignores Range, nor bounds what it reads into memory.
"""

import os
import socket
import stat
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import urljoin, urlsplit

import fsspec
import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from speechbrain_birq.errors import BadInput

CONNECTIONS = 16  # pieces that a process reads from afar at the same time
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte
HEADER_SECONDS = 70  # from a request to the end of the answer's headers
PATIENCE, SLOWEST = 8, 4000  # a body may take 8 s, and then a second for 4000 bytes
BLOCK = 2**20  # bytes that are read between two looks at the clock
RETRIES = Retry(4, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504))
REDIRECTS = 4
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
    root: str, name: str, start: int | None = None, size: int | None = None
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

    Raises
    ------
    OSError
        If it cannot be read, or is shorter than ``start + size``.
    BadInput
        If fsspec needs another package for this kind of URL.
    """
    get = _get if str(root).startswith(("http://", "https://")) else _cat
    data = get(f"{str(root).rstrip('/')}/{name}", start, size)
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


def _get(url, start, size):
    headers = {"Accept-Encoding": "identity"}
    if start is not None:
        headers["Range"] = f"bytes={start}-{start + size - 1}"
    with _response(url, headers) as response:
        if response.status_code == 404:
            raise FileNotFoundError(f"{url} does not exist (404)")
        response.raise_for_status()
        # Before the body is read: it would be the whole shard.
        if start is not None and response.status_code != 206:
            raise OSError(f"the server of {url} does not know Range requests")
        return _body(response, url, LARGEST if size is None else size)


def _response(url, headers):
    """The answer to a request; a redirect is followed on the same host only."""
    session, target = _session(os.getpid()), url
    for _ in range(1 + REDIRECTS):
        try:
            response = session.get(
                target,
                headers=headers,
                timeout=TIMEOUT,
                stream=True,
                allow_redirects=False,
            )
        except _SlowHeadersError as error:
            raise OSError(f"the server of {url} {error}") from error
        if not response.is_redirect:
            return response
        response.close()
        target, before = urljoin(target, response.headers["Location"]), target
        if urlsplit(target)[:2] != urlsplit(before)[:2]:
            raise OSError(f"{url} is redirected to {target}: give the new address")
    raise OSError(f"{url} is redirected {REDIRECTS} times and more")


def _body(response, url, limit):
    """Read a body that has at most so many bytes and comes fast enough."""
    data, started = bytearray(), time.monotonic()
    try:
        while block := response.raw.read1(BLOCK, decode_content=False):
            data += block
            if len(data) > limit:
                raise OSError(f"the server of {url} sends more than {limit} bytes")
            if time.monotonic() - started > PATIENCE + len(data) / SLOWEST:
                raise OSError(
                    f"the server of {url} sends less than {SLOWEST // 1000} kB/s"
                )
    except HTTPError as error:
        raise OSError(f"{url} cannot be read to its end: {error}") from error
    return bytes(data)


class _SlowHeadersError(Exception):
    """No ``OSError``, because urllib3 would try again."""


def _headers_in_time(read_headers, sock):
    """Read status and headers; close the socket if they do not come in time.

    A timeout is that of a single read: a byte every 2 s would keep it from ending.
    """
    late = threading.Event()

    def close():
        late.set()
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(HEADER_SECONDS, close)
    timer.daemon = True
    timer.start()
    try:
        return read_headers()
    except Exception as error:
        if not late.is_set():
            raise
        raise _SlowHeadersError(f"does not answer in {HEADER_SECONDS} s") from error
    finally:
        timer.cancel()


class _Connection(HTTPConnection):
    def getresponse(self):
        return _headers_in_time(super().getresponse, self.sock)


class _SecureConnection(HTTPSConnection):
    def getresponse(self):
        return _headers_in_time(super().getresponse, self.sock)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


def _cat(path, start, size):
    if not is_url(path):
        _check_file(path, LARGEST if size is None else None)
    filesystem = _filesystem(path.split("://")[0] if is_url(path) else "file")
    end = None if start is None else start + size
    return filesystem.cat_file(path, start=start, end=end)


def _check_file(path, limit):
    """Refuse a pipe or a device, which may never end, and what does not fit."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is no regular file")
    if limit is not None and status.st_size > limit:
        raise OSError(f"{path} has more than {limit} bytes")


# Connections do not survive a fork, so the process id is part of the key.
@lru_cache(maxsize=1)
def _session(pid):
    session = requests.Session()
    adapter = HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=RETRIES)
    adapter.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session


def _filesystem(protocol: str) -> Any:
    try:
        return _filesystem_of(os.getpid(), protocol)
    except (ImportError, ValueError) as error:
        raise BadInput(f"{protocol}:// cannot be read: {error}") from error


@lru_cache(maxsize=4)
def _filesystem_of(pid, protocol):
    return fsspec.filesystem(protocol)
