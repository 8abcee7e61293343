"""Servers and stores that lie or never end: one sentence, soon, small."""

import gzip
import socket
import threading
import time
from typing import ClassVar

import fsspec
import pytest
from bounds import SECONDS, bounded

from speechbrain_birq.data import bounded_http
from speechbrain_birq.data.bounded_http import TooSlow
from speechbrain_birq.data.corpora.yodas import hub as hub_module
from speechbrain_birq.data.corpora.yodas.hub import HubDataset, RemoteFile
from speechbrain_birq.data.shards import deadline, storage
from speechbrain_birq.data.shards.reader import find_shards
from speechbrain_birq.errors import BadInput

pytestmark = pytest.mark.faults

# Servers: what they send for every request; None ends it.
HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n"


def slow_body(request):
    yield HEAD % b"206 Partial Content" + b"Content-Length: 1000\r\n\r\n"
    yield from trickle(b"x" * 1000)


def slow_headers(request):
    yield from trickle(HEAD % b"206 Partial Content" * 10)


def trickle(data, seconds=0.2):
    for byte in data:
        yield bytes([byte])
        time.sleep(seconds)


def silent(request):
    time.sleep(60)
    yield b""


def endless(request):
    yield HEAD % b"200 OK" + b"\r\n"
    while True:
        yield bytes(2**20)


BOMB = gzip.compress(bytes(2**26), 1)


def packed(request):
    head = HEAD % b"200 OK" + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    yield head % len(BOMB) + BOMB


@pytest.fixture
def serve():
    """serve(answer): the URL of a server that answers every request in one way."""
    listening = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def talk(connection, answer):
        with connection:
            request = connection.recv(2**16)
            try:
                for data in answer(request):
                    if ended.is_set():
                        return
                    connection.sendall(data)
            except OSError:
                return

    def accept(answer):
        while not ended.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=talk, args=[connection, answer])
            thread.daemon = True
            thread.start()

    def start(answer):
        threading.Thread(target=accept, args=[answer], daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    ended.set()
    listening.close()
    bounded_http._session.cache_clear()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (slow_body, "less than 4 kB/s"),
        (slow_headers, "does not answer in 2 s"),
        (endless, "sends more than"),
    ],
)
def test_a_server_that_never_ends(serve, monkeypatch, answer, reason):
    monkeypatch.setattr(bounded_http, "HEADER_SECONDS", 2)
    monkeypatch.setattr(bounded_http, "PATIENCE", 2)
    # 256 MB take longer than 10 s where server and client share a busy core.
    monkeypatch.setattr(storage, "LARGEST", 2**26)
    with bounded(), pytest.raises(OSError, match=reason):
        storage.read(serve(answer), "index.json")


def test_a_body_is_not_unpacked(serve):
    with bounded():
        assert len(storage.read(serve(packed), "index.json")) < 2**20


@pytest.mark.parametrize("answer", [endless, packed])
def test_shards_of_such_a_server_are_refused(serve, answer):
    with bounded(), pytest.raises(BadInput, match=r"index\.json cannot be read"):
        find_shards(serve(answer), "train")


def test_every_wait_ends_within_the_bound():
    waits = [bounded_http.HEADER_SECONDS, bounded_http.PATIENCE, deadline.PATIENCE]
    assert max(*waits, *bounded_http.TIMEOUT) <= SECONDS


@pytest.mark.slow  # 9 s each
@pytest.mark.parametrize("head", [b"", HEAD % b"200 OK" + b"\r\n"])
def test_a_byte_every_two_seconds_is_one_sentence_in_time(serve, head):
    def answer(request):
        yield head
        yield from trickle(HEAD % b"200 OK" * 100, 2)

    with bounded(), pytest.raises(TooSlow):
        storage.read(serve(answer), "index.json")


def test_a_server_that_says_nothing_is_asked_again_and_given_up(serve, monkeypatch):
    monkeypatch.setattr(bounded_http, "TIMEOUT", (1, 0.2))
    monkeypatch.setattr(bounded_http, "RETRIES", bounded_http.Retry(2))
    with bounded(), pytest.raises(BadInput, match="timed out"):
        find_shards(serve(silent), "train")


def test_headers_without_an_end_are_refused(serve, monkeypatch):
    monkeypatch.setattr(bounded_http, "RETRIES", bounded_http.Retry(0))

    def answer(request):
        yield HEAD % b"200 OK"
        while True:
            yield b"X-Header: value\r\n" * 100

    with bounded(), pytest.raises(BadInput, match=r"index\.json cannot be read"):
        find_shards(serve(answer), "train")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_connections_through_a_proxy_have_the_same_bounds(scheme):
    adapter = bounded_http._session(0).get_adapter(f"{scheme}://host")
    for manager in (adapter.poolmanager, adapter.proxy_manager_for("http://proxy:1")):
        pool = manager.connection_from_url(f"{scheme}://host")
        assert pool.ConnectionCls.getresponse.__module__ == bounded_http.__name__


# The hub of YODAS

FILE = RemoteFile("data/en000/audio/0.tar.gz", 100_000, 64 * "0")
COMMIT = 40 * "0"


def answered(body, status=b"200 OK", header=b""):
    size = b"Content-Length: %d\r\nConnection: close\r\n" % len(body)
    return HEAD % status + size + header + b"\r\n" + body


def hub_of(serve, monkeypatch, file):
    """A hub whose files come as ``file(request)`` yields them."""
    monkeypatch.setattr(hub_module, "WAIT", 0)
    monkeypatch.setattr(bounded_http, "HEADER_SECONDS", 0.3)
    monkeypatch.setattr(bounded_http, "PATIENCE", 0.3)

    def answer(request):
        if b"/api/" in request:
            yield answered(b'{"sha": "%s"}' % COMMIT.encode())
        else:
            yield from file(request)

    return HubDataset("a/b", endpoint=serve(answer))


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (slow_body, "less than 4 kB/s"),
        (slow_headers, "does not answer in"),
        (endless, "sends more than"),
        (packed, "sends more than"),
    ],
)
def test_a_file_of_a_hub_that_lies_is_given_up(
    serve, monkeypatch, tmp_path, file, reason
):
    hub = hub_of(serve, monkeypatch, file)
    with bounded(), pytest.raises(BadInput, match=f"gave up .*5 tries.*{reason}"):
        hub.fetch(FILE, tmp_path / "file")
    left = tmp_path / "file.partial"
    assert not left.exists() or left.stat().st_size <= FILE.size


@pytest.mark.parametrize("answer", [slow_body, slow_headers, endless, packed])
def test_a_hub_that_lies_in_its_listing_is_refused(serve, monkeypatch, answer):
    monkeypatch.setattr(bounded_http, "HEADER_SECONDS", 2)
    monkeypatch.setattr(bounded_http, "PATIENCE", 2)
    with bounded(), pytest.raises(BadInput, match="cannot list a/b") as told:
        HubDataset("a/b", endpoint=serve(answer))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "entry",
    [
        f'{{"path": "a", "size": -1, "oid": "{COMMIT}", "type": "file"}}',
        f'{{"path": "a", "size": 1e300, "oid": "{COMMIT}", "type": "file"}}',
        '{"path": "a", "size": 1, "oid": "../../x", "type": "file"}',
        '{"path": "a", "type": "file"}',
        "[]",
        "7",
        "[" * 100_000,
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(serve, entry):
    def answer(request):
        body = f"[{entry}]" if b"/tree/" in request else f'{{"sha": "{COMMIT}"}}'
        yield answered(body.encode())

    hub = HubDataset("a/b", endpoint=serve(answer))
    with bounded(), pytest.raises(BadInput, match="cannot list a/b/data"):
        hub.files("data")


def test_a_listing_that_goes_on_elsewhere_is_refused(serve):
    def answer(request):
        link = b'Link: <http://127.0.0.2:1/>; rel="next"\r\n'
        body = b"[]" if b"/tree/" in request else b'{"sha": "%s"}' % COMMIT.encode()
        yield answered(body, header=link)

    hub = HubDataset("a/b", endpoint=serve(answer))
    with bounded(), pytest.raises(BadInput, match=r"next page is at http://127.0.0.2"):
        hub.files("data")


def test_a_listing_without_an_end_is_refused(serve, monkeypatch):
    monkeypatch.setattr(hub_module, "PAGES", 10)

    def answer(request):
        host = request.partition(b"Host: ")[2].partition(b"\r\n")[0]
        link = b'Link: <http://%s/api/tree/>; rel="next"\r\n' % host
        body = b"[]" if b"/tree/" in request else b'{"sha": "%s"}' % COMMIT.encode()
        yield answered(body, header=link)

    hub = HubDataset("a/b", endpoint=serve(answer))
    with bounded(), pytest.raises(BadInput, match="more than 10 pages"):
        hub.files("data")


def test_another_host_gets_no_token(serve, monkeypatch):
    requests = []

    def answer(request):
        requests.append(request.lower())
        if b"get /b" in requests[-1]:
            yield answered(b"body")
        else:
            there = f"http://localhost:{port}/b".encode()
            yield answered(b"", b"302 Found", b"Location: %s\r\n" % there)

    url = serve(answer)
    port = url.rpartition(":")[2]
    token = {"Authorization": "Bearer secret"}
    with bounded_http.opened(f"{url}/a", token, any_host=True) as response:
        assert b"".join(bounded_http.blocks(response, url, 9)) == b"body"
    assert [b"secret" in request for request in requests] == [True, False]


def test_https_never_becomes_http(monkeypatch):
    class Session:
        def get(self, url, **options):
            response = bounded_http.requests.Response()
            response.status_code, response.raw = 302, None
            response.headers["Location"] = "http://host/file"
            response.close = lambda: None
            return response

    monkeypatch.setattr(bounded_http, "_session", lambda pid: Session())
    with (
        pytest.raises(OSError, match="redirected to http://host/file"),
        bounded_http.opened("https://host/file", {}, any_host=True),
    ):
        pass


# Stores that fsspec reads


class Store(fsspec.AbstractFileSystem):
    """A store of bytes; what it says and does is set by each test."""

    protocol, cachable = "hostile", False
    data, size, wait, extra, error = b"", None, 0, 0, None
    asked: ClassVar = []

    def info(self, path, **options):
        if self.error:
            raise self.error
        size = len(self.data) if self.size is None else self.size
        return {"name": path, "size": size, "type": "file"}

    def cat_file(self, path, start=None, end=None, **options):
        self.asked.append((start, end))
        time.sleep(self.wait)
        return self.data[start:end] + bytes(self.extra)


@pytest.fixture
def store(monkeypatch):
    store = type("Store", (Store,), {"asked": []})
    monkeypatch.setattr(storage, "_filesystem", lambda protocol: store())
    monkeypatch.setattr(deadline, "PATIENCE", 0.3)
    deadline._calls.cache_clear()
    yield store
    store.wait = 0
    deadline._calls.cache_clear()


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ({"wait": 20}, "does not come in 0.3 s"),
        ({"size": 2**40}, "1099511627776 bytes"),
        ({"size": -1}, "-1 bytes"),
        ({"size": "many"}, "many bytes"),
        ({"size": None, "extra": 2**20}, "where 1 were asked for"),
        ({"error": RuntimeError("no\ncredentials")}, "no credentials"),
        ({"error": FileNotFoundError("no such bucket")}, "no such bucket"),
    ],
)
def test_a_store_that_lies_is_refused(store, lie, reason):
    store.data = b"x" * 100
    for name, value in lie.items():
        setattr(store, name, value)
    with bounded(), pytest.raises(BadInput, match=reason) as told:
        find_shards("hostile://bucket", "train")
    assert "\n" not in str(told.value)


def test_a_file_of_a_store_that_is_shorter_than_it_says(store):
    store.data, store.size = b"x" * 100, 200
    with pytest.raises(OSError, match="gives 100 bytes where 200"):
        storage.read("hostile://bucket", "index.json")


def test_a_large_piece_of_a_store_comes_in_ranges(store):
    store.data = bytes(range(256)) * 10_000
    data = storage.read("hostile://bucket", "shard.tar", 5, 2_500_000)
    assert data == store.data[5:2_500_005]
    block = storage.BLOCK
    assert store.asked == [
        (5, 5 + block),
        (5 + block, 5 + 2 * block),
        (5 + 2 * block, 2_500_005),
    ]


def test_reads_that_never_end_are_not_piled_up(store, monkeypatch):
    monkeypatch.setattr(deadline, "CALLS", 3)
    store.wait = 5
    pieces = [("hostile://bucket", "shard.tar", 0, 10)] * 5
    with bounded():
        problems = [str(error) for error in storage.read_pieces(pieces)]
    assert sum("does not come in" in problem for problem in problems) == 3
    assert sum("earlier reads have not ended" in problem for problem in problems) == 2
