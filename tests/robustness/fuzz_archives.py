"""Target of fuzz.py: archives of YODAS whose bytes, headers or members are wrong."""

import contextlib
import gzip
import io
import tarfile

import numpy as np
import soundfile
from hypothesis import strategies as st

from speechbrain_birq.data.corpora.yodas.archives import SAMPLE_RATE, decode
from speechbrain_birq.data.corpora.yodas.tar_audio import CorruptArchive, read_members

WANTED = {"a", "b", "c"}
MAX_SECONDS = 5
SIZES = st.one_of(
    st.integers(0, 3000), st.sampled_from([2**16, 2**28, 2**33, 2**40, 2**62])
)
KINDS = st.one_of(
    st.sampled_from([b"0", b"\0", b"1", b"2", b"3", b"5", b"6", b"7", b"S"]),
    st.sampled_from([b"L", b"K", b"x", b"g", b"X"]),
)
NAMES = st.one_of(
    st.sampled_from(
        ["a.wav", "b.flac", "../c.wav", "/c.wav", "c", "x/y/a", "", "b" * 99]
    ),
    st.text(max_size=12),
)
PAX = st.dictionaries(
    st.sampled_from(
        "path linkpath size mtime uid GNU.sparse.map GNU.sparse.size GNU.sparse.major "
        "GNU.sparse.minor GNU.sparse.name GNU.sparse.realsize hdrcharset".split()
    ),
    st.one_of(
        st.sampled_from(["1", "-1", "0,4", "9" * 30, "a.wav"]), st.text(max_size=9)
    ),
    max_size=3,
)


def _sound(kind):
    file = io.BytesIO()
    soundfile.write(file, np.full(400, 0.1), SAMPLE_RATE, format=kind)
    return file.getvalue()


SOUNDS = [_sound("WAV"), _sound("FLAC"), b"no sound", b""]


def _header(name, kind, size, body):
    """A header that may lie about its size, with a true checksum."""
    info = tarfile.TarInfo(name.replace("\0", ""))
    info.type, info.size = kind, size
    block = info.tobuf(tarfile.GNU_FORMAT, errors="replace")
    return block + body + bytes(-len(body) % 512)


def _member(name, kind, body):
    return _header(name, kind, len(body), body)


def _pax(fields, kind):
    lines = b""
    for key, value in fields.items():
        line = f" {key}={value}\n".encode("utf-8", "replace")
        lines += str(len(line) + 2).encode() + line
    return _member("pax", kind, lines)


BODIES = st.one_of(st.sampled_from(SOUNDS), st.binary(max_size=1200))
MEMBERS = st.one_of(
    st.builds(_member, NAMES, st.just(b"0"), BODIES),
    st.builds(_member, NAMES, KINDS, BODIES),
    st.builds(_header, NAMES, KINDS, SIZES, BODIES),
    st.builds(_pax, PAX, st.sampled_from([b"x", b"g"])),
    st.builds(
        lambda m, n: m * n,
        st.builds(_member, NAMES, KINDS, st.just(b"a")),
        SIZES.filter(lambda size: size <= 3000),
    ),
    st.binary(max_size=1100),
)
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=3)), max_size=3
)


def _edited(data, edits, left):
    data = bytearray(data)
    for place, new in edits:
        start = int(place * len(data))
        data[start : start + len(new)] = new
    return bytes(data[: int(left * len(data)) + 1])


ARCHIVES = st.tuples(
    st.lists(MEMBERS, max_size=5), EDITS, EDITS, st.sampled_from([1, 1, 1, 0.9, 0.5])
)


def archives(folder):
    """Members, edits of the tar, edits of the tar.gz: every wanted file is decoded."""
    path = folder / "archive.tar.gz"

    def check(drawn):
        members, inside, outside, left = drawn
        tar = _edited(b"".join(members) + bytes(1024), inside, 1)
        path.write_bytes(_edited(gzip.compress(tar, 1), outside, left))
        with contextlib.suppress(CorruptArchive):
            for name, data in read_members(path, WANTED):
                assert name in WANTED
                with contextlib.suppress(ValueError):
                    samples = decode(data, MAX_SECONDS)
                    assert len(samples) <= (MAX_SECONDS + 1) * SAMPLE_RATE
        assert [entry.name for entry in folder.iterdir()] == [path.name]

    return ARCHIVES, check
