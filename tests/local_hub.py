"""Hub on 127.0.0.1 with a made-up YODAS, which can fail on request."""

import hashlib
import io
import json
import tarfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import numpy as np
import soundfile

COMMIT = "c0ffee" + 34 * "0"
REPO = "espnet/yodas"
PAGE = 5  # entries on a page of a listing; the real hub has 1,000


class LocalHub:
    """Server with the part of the hub's API that huggingface_hub uses.

    ``files`` is {path: bytes}. ``faults`` is {path: list of (kind, number)}; each GET
    of the file uses up one of them: "cut" closes the connection after this number of
    bytes, "short" announces and sends this number of bytes, "wrong" changes the byte at
    this position, "gone" answers 404. ``served`` lists (path, first byte, bytes sent)
    of each GET.
    """

    def __init__(self, files):
        self.files, self.faults, self.served = dict(files), {}, []
        self.revisions = ["main", COMMIT]
        self.before = lambda path: None  # called with the path of each GET of a file
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = (
                -1
            )  # header and body in one packet: separate ones take 40 ms each

            def do_GET(self):
                hub.answer(self, unquote(urlsplit(self.path).path))

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    @contextmanager
    def running(self):
        thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            thread.join()
            self.server.server_close()

    def answer(self, handler, path):
        api = f"/api/datasets/{REPO}"
        if path in (f"{api}/revision/{name}" for name in self.revisions):
            send(handler, json.dumps({"id": REPO, "sha": COMMIT}).encode())
        elif path.startswith(f"{api}/tree/{COMMIT}/"):
            self._list(handler, path.removeprefix(f"{api}/tree/{COMMIT}/"))
        elif path.startswith(f"/datasets/{REPO}/resolve/{COMMIT}/"):
            path = path.removeprefix(f"/datasets/{REPO}/resolve/{COMMIT}/")
            if path.endswith(".gz"):  # the real hub redirects for large files
                send(handler, b"", 302, Location=f"{self.endpoint}/elsewhere/{path}")
            else:
                self._file(handler, path)
        elif path.startswith("/elsewhere/"):
            self._file(handler, path.removeprefix("/elsewhere/"))
        else:
            send(handler, b"{}", 404)

    def _list(self, handler, folder):
        query = urlsplit(handler.path).query
        entries = self._recursive(folder) if "recursive=true" in query.lower() else []
        entries = entries or self._folders(folder)
        if not entries:
            return send(handler, b"{}", 404, **{"X-Error-Code": "EntryNotFound"})
        start = int(query.partition("cursor=")[2] or 0)
        headers = {}
        if start + PAGE < len(entries):
            following = (
                handler.path.partition("&cursor=")[0] + f"&cursor={start + PAGE}"
            )
            headers["Link"] = f'<{self.endpoint}{following}>; rel="next"'
        send(handler, json.dumps(entries[start : start + PAGE]).encode(), **headers)

    def _folders(self, folder):
        parts = len(folder.split("/")) + 1
        under = {"/".join(p.split("/")[:parts]) for p in self.files if p > folder}
        return [
            {"type": "directory", "oid": 40 * "0", "path": p}
            for p in sorted(under)
            if p.startswith(f"{folder}/")
        ]

    def _recursive(self, folder):
        return [
            describe(path, data)
            for path, data in sorted(self.files.items())
            if path.startswith(f"{folder}/")
        ]

    def _file(self, handler, path):
        self.before(path)
        kind, number = (self.faults.get(path) or [("", 0)]).pop(0)
        if path not in self.files or kind == "gone":
            return send(handler, b"{}", 404, **{"X-Error-Code": "EntryNotFound"})
        data = self.files[path]
        if kind == "wrong":
            data = data[:number] + bytes([data[number] ^ 1]) + data[number + 1 :]
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        body = data[start : number if kind in ("cut", "short") else None]
        handler.send_response(206 if asked else 200)
        promised = len(body) if kind == "short" else len(data) - start
        handler.send_header("Content-Length", str(promised))
        if asked:
            handler.send_header(
                "Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}"
            )
        handler.end_headers()
        self.served.append((path, start, len(body)))
        handler.wfile.write(body)
        if kind == "cut":
            handler.close_connection = True

    def times(self, path):
        """Return how often a file was requested."""
        return sum(served == path for served, _, _ in self.served)


def send(handler, body, status=200, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def describe(path, data):
    """Return the entry of a file in the hub's listing."""
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry = {"type": "file", "oid": blob, "size": len(data), "path": path}
    if path.endswith(".gz"):
        sha = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": sha, "size": len(data), "pointerSize": 130}
    return entry


def sound(seconds, rate=24000, seed=0):
    """Return the bytes of a WAV file of noise."""
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * rate))
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def tar_gz(members):
    """Return the bytes of a tar.gz of (name, bytes) or (``TarInfo``, bytes)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as tar:
        for info, data in members:
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def utterances(video, count, seconds=1.0):
    """Return {name: seconds} of a video's utterances, named as in YODAS."""
    return {
        f"{video}-{number:05d}-{100 * number:08d}-{100 * number + 90:08d}": (
            seconds + 0.05 * number
        )
        for number in range(count)
    }


def made_up_yodas(languages=("en000", "en001"), archives=2, videos=4, count=3):
    """Return {path: bytes} of a small corpus in YODAS' layout."""
    files = {}
    for language in languages:
        for number in range(archives):
            names = {}
            for index in range(videos):
                names |= utterances(f"{language[-1]}{number}_-{index}vidEO", count)
            add_archive(files, f"{language}/{number:08d}", names)
    return files


def add_archive(files, name, seconds):
    """Add audio, text and durations of an archive; every second file has 16 kHz."""
    language, number = name.split("/")
    files[f"data/{language}/audio/{number}.tar.gz"] = tar_gz(
        (f"{number}/{utterance}.wav", sound(length, (24000, 16000)[i % 2], i))
        for i, (utterance, length) in enumerate(seconds.items())
    )
    text = "".join(f"{utterance} words of {utterance[-3:]}\n" for utterance in seconds)
    files[f"data/{language}/text/{number}.txt"] = text.encode()
    durations = "".join(f"{name} {length:.2f}\n" for name, length in seconds.items())
    files[f"data/{language}/duration/{number}.txt"] = durations.encode()
