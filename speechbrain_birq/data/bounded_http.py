"""GET over HTTP(S) with a bound on everything that a server decides.

``requests`` alone bounds neither the bytes of a body, nor its unpacked size, nor the
time of an answer that comes byte by byte.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

CONNECTIONS = 16  # that a process keeps open
TIMEOUT = (10, 8)  # seconds to connect, seconds without a byte; both are tried again
HEADER_SECONDS = 9  # from a request to the end of the answer's headers
# A body may take 6 s, and then a second for 4000 bytes. The clock is looked at when
# bytes come, so one that sends a byte every few seconds ends up to as much later.
PATIENCE, SLOWEST = 6, 4000
BLOCK = 2**20  # bytes that are read between two looks at the clock
RETRIES = Retry(4, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504))
REDIRECTS = 4


class TooSlow(OSError):
    """An answer that comes, but not in time."""


@contextmanager
def opened(
    url: str, headers: Mapping[str, str], any_host: bool = False
) -> Iterator[requests.Response]:
    """Send a GET and read the headers of its answer.

    Arguments
    ---------
    url : str
        ``http://`` or ``https://``
    headers : mapping
        Further headers of the request.
    any_host : bool
        Whether redirects to other hosts are followed. They get no ``Authorization``,
        and ``https`` never becomes ``http``.

    Yields
    ------
    requests.Response
        Its body is for ``blocks``.

    Raises
    ------
    OSError
        If the server cannot be reached, is too slow, has another status than 2xx, or
        redirects elsewhere.
    """
    with _response(url, {"Accept-Encoding": "identity"} | dict(headers), any_host) as r:
        if r.status_code == 404:
            raise FileNotFoundError(f"{url} does not exist (404)")
        r.raise_for_status()
        yield r


def blocks(response: requests.Response, url: str, limit: int) -> Iterator[bytes]:
    """Yield a body that has at most ``limit`` bytes and comes fast enough.

    It is not unpacked, whatever its headers say.

    Raises
    ------
    OSError
        If it is longer, slower, or cut off.
    """
    size, started = 0, time.monotonic()
    try:
        while block := response.raw.read1(BLOCK, decode_content=False):
            size += len(block)
            if size > limit:
                raise OSError(f"the server of {url} sends more than {limit} bytes")
            yield block
            if time.monotonic() - started > PATIENCE + size / SLOWEST:
                raise TooSlow(
                    f"the server of {url} sends less than {SLOWEST // 1000} kB/s"
                )
    except HTTPError as error:
        raise OSError(f"{url} cannot be read to its end: {error}") from error


def _response(url, headers, any_host):
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
            raise TooSlow(f"the server of {url} {error}") from error
        if not response.is_redirect:
            return response
        response.close()
        target, before = urljoin(target, response.headers["Location"]), target
        if urlsplit(target)[:2] != urlsplit(before)[:2]:
            if not any_host or before.startswith("https:") > target.startswith("https"):
                raise OSError(f"{url} is redirected to {target}: give the new address")
            headers = {k: v for k, v in headers.items() if k.lower() != "authorization"}
    raise OSError(f"{url} is redirected {REDIRECTS} times and more")


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


class _Adapter(HTTPAdapter):
    """Has the bounded connections, through a proxy, too."""

    def init_poolmanager(self, *args, **options):
        super().init_poolmanager(*args, **options)
        _bound(self.poolmanager)

    def proxy_manager_for(self, *args, **options):
        return _bound(super().proxy_manager_for(*args, **options))


def _bound(manager):
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return manager


# Connections do not survive a fork, so the process id is part of the key.
@lru_cache(maxsize=1)
def _session(pid):
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter(pool_maxsize=CONNECTIONS, max_retries=RETRIES))
    return session
