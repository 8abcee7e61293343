"""A folder of shards and a server of it."""

import functools
import http.server
import shutil
import threading

import pytest
from small_shards import write

from speechbrain_birq.data import bounded_http


@pytest.fixture(scope="session")
def _template(tmp_path_factory):
    shards = tmp_path_factory.mktemp("shards")
    write(shards / "train")
    return shards


@pytest.fixture
def shards(_template, tmp_path):
    """<shards>/train: 12 utterances in 5 shards."""
    return shutil.copytree(_template, tmp_path / "data")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files, and pieces of them; counts the bytes of bodies, fails where asked to.

    What lies below /moved is redirected to ``moved_to``; pieces are ``extra`` bytes
    longer than asked for.
    """

    ranges, sent, failures = True, 0, {}
    moved_to, extra = "", 0

    def do_GET(self):
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", self.moved_to + self.path[len("/moved") :])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        name = self.path.rsplit("/", 1)[-1]
        if self.failures.get(name, 0) > 0:
            self.failures[name] -= 1
            self.send_error(503)
            return
        piece = self.headers.get("Range")
        if piece is None or not self.ranges:
            super().do_GET()
            return
        try:
            with open(self.translate_path(self.path), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            self.send_error(404)
            return
        start, end = map(int, piece.removeprefix("bytes=").split("-"))
        data = data[start : end + 1] + bytes(self.extra)
        type(self).sent += len(data)
        self.send_response(206)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(shards):
    """(URL of ``shards``, the class that answers)."""
    handler = type("H", (Handler,), {"failures": {}, "sent": 0})
    serve = functools.partial(handler, directory=str(shards))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}", handler
        bounded_http._session.cache_clear()
        httpd.shutdown()
        thread.join()


@pytest.fixture
def patient(monkeypatch):
    """Retries without a pause."""
    retries = bounded_http.RETRIES.new(backoff_factor=0)
    monkeypatch.setattr(bounded_http, "RETRIES", retries)
    bounded_http._session.cache_clear()


@pytest.fixture
def impatient(monkeypatch):
    """No retries."""
    monkeypatch.setattr(bounded_http, "RETRIES", bounded_http.Retry(0))
    bounded_http._session.cache_clear()
    yield
    bounded_http._session.cache_clear()
