"""Files and servers that lie about sizes or never end: one sentence, soon, small."""

import gzip
import io
import os
import resource
import signal
import socket
import tarfile
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from local_hub import tar_gz

from speechbrain_birq.checkpoints.files import seal
from speechbrain_birq.checkpoints.recovery import read_checkpoint
from speechbrain_birq.checkpoints.run_folder import best_checkpoint
from speechbrain_birq.data.corpora.yodas.tar_audio import CorruptArchive, read_members
from speechbrain_birq.data.shards import storage
from speechbrain_birq.data.shards.reader import find_shards
from speechbrain_birq.errors import BadInput

pytestmark = pytest.mark.faults

SECONDS, BYTES = 10, 500 * 10**6


class TooLong(BaseException):
    """Nobody catches it by mistake."""


def too_long(*_):
    raise TooLong


@contextmanager
def bounded():
    """End the block after 10 s, and where it takes 500 MB more memory than before."""
    with open("/proc/self/status") as file:
        used = next(int(line.split()[1]) for line in file if "VmData" in line)
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    before = signal.signal(signal.SIGALRM, too_long)
    resource.setrlimit(resource.RLIMIT_DATA, (1024 * used + BYTES, limits[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_DATA, limits)
        signal.signal(signal.SIGALRM, before)


# Servers: what they send for every request; None ends it.
HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n"


def slow_body():
    yield HEAD % b"206 Partial Content" + b"Content-Length: 1000\r\n\r\n"
    yield from trickle(b"x" * 1000)


def slow_headers():
    yield from trickle(HEAD % b"206 Partial Content" * 10)


def trickle(data):
    for byte in data:
        yield bytes([byte])
        time.sleep(0.2)


def endless():
    yield HEAD % b"200 OK" + b"\r\n"
    while True:
        yield bytes(2**20)


def packed():
    bomb = gzip.compress(bytes(2**26), 1)
    head = HEAD % b"200 OK" + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    yield head % len(bomb) + bomb


@pytest.fixture
def serve():
    """serve(answer): the URL of a server that answers every request in one way."""
    listening = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def talk(connection, answer):
        with connection:
            connection.recv(2**16)
            try:
                for data in answer():
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
    storage._session.cache_clear()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (slow_body, "less than 4 kB/s"),
        (slow_headers, "does not answer in 2 s"),
        (endless, "sends more than"),
    ],
)
def test_a_server_that_never_ends(serve, monkeypatch, answer, reason):
    monkeypatch.setattr(storage, "HEADER_SECONDS", 2)
    monkeypatch.setattr(storage, "PATIENCE", 2)
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


def header(name, kind, size):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


LONG = tarfile.GNUTYPE_LONGNAME
ARCHIVES = {
    "a member of 2^40 bytes": header("a.wav", tarfile.REGTYPE, 2**40),
    "another of 2^40 bytes": header("b.wav", tarfile.REGTYPE, 2**40),
    "a long name of 2^40 bytes": header("a", LONG, 2**40),
    "a long name that is large": header("a", LONG, 2**29) + bytes(2**22),
    "a pax header of 2^40 bytes": header("a", tarfile.XHDTYPE, 2**40),
    "5,000 long names": (header("a", LONG, 1) + bytes(512)) * 5000,
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_with_a_lie_in_its_headers(tmp_path, kind):
    path = tmp_path / "archive.tar.gz"
    good = gzip.decompress(tar_gz([("first.wav", b"audio")]))[:1024]
    with gzip.open(path, "wb") as file:
        file.write(good + ARCHIVES[kind] + os.urandom(2**20))
    found = []
    with bounded(), pytest.raises(CorruptArchive, match=r"bytes|nested"):
        found += (name for name, _ in read_members(path, {"first", "a"}))


def endless_checkpoint(folder, name):
    checkpoint = folder / "save" / "CKPT+1"
    checkpoint.mkdir(parents=True)
    for written in ("CKPT.yaml", "model.ckpt"):
        (checkpoint / written).write_text("unixtime: 1\nend-of-epoch: true\n")
    seal(checkpoint)
    (checkpoint / name).unlink()
    return checkpoint / name


@pytest.mark.parametrize("kind", ["/dev/zero", "a FIFO"])
@pytest.mark.parametrize("name", ["CKPT.yaml", "model.ckpt", "SHA256SUMS"])
def test_a_checkpoint_without_an_end(tmp_path, name, kind):
    path = endless_checkpoint(tmp_path, name)
    if kind == "a FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to(kind)
    with bounded(), pytest.raises(BadInput, match="no checkpoint in") as caught:
        best_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_description_that_is_an_alias_bomb(tmp_path):
    text = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True):
        text += f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    (tmp_path / "CKPT.yaml").write_text(text + "unixtime: *i\n")
    with bounded(), pytest.raises(BadInput, match=r"CKPT\.yaml is corrupt"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", ["/dev/zero", "a FIFO", "2^40 bytes"])
def test_a_column_of_shards_without_an_end(shards, kind):
    path = shards / "train" / "samples.npy"
    path.unlink()
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "/dev/zero":
        path.symlink_to(kind)
    else:
        path.touch()
        os.truncate(path, 2**40)
    with bounded(), pytest.raises(BadInput, match=r"samples\.npy"):
        find_shards(shards, "train")


def test_a_column_whose_header_lies_about_its_length(shards):
    path = shards / "train" / "samples.npy"
    data = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        data, {"descr": "<u4", "fortran_order": False, "shape": (2**40,)}
    )
    path.write_bytes(data.getvalue() + bytes(1000))
    with bounded(), pytest.raises(BadInput, match=r"samples\.npy"):
        find_shards(shards, "train")
