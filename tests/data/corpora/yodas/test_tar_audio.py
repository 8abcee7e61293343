"""Archives: read as streams, nothing leaves them, what is corrupt is left out."""

import gzip
import logging
import random
import tarfile

import pytest
from local_hub import tar_gz

from speechbrain_birq.data.corpora.yodas import tar_audio as archives
from speechbrain_birq.data.corpora.yodas.tar_audio import CorruptArchive, read_members

pytestmark = pytest.mark.faults


@pytest.fixture
def archive(tmp_path):
    """archive(members): the path of a tar.gz."""

    def make(members):
        path = tmp_path / "archive.tar.gz"
        path.write_bytes(tar_gz(members))
        return path

    return make


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def test_wanted_files_come_in_order_and_no_others(archive):
    path = archive([("x/b.wav", b"1"), ("x/c.wav", b"2"), ("a.wav", b"3")])
    assert list(read_members(path, {"a", "b"})) == [("b", b"1"), ("a", b"3")]


@pytest.mark.parametrize(
    "name", ["../../evil.wav", "/tmp/evil.wav", "a/../../evil.wav"]
)
def test_a_name_that_leads_out_is_passed_over(archive, tmp_path, caplog, name):
    path = archive([(name, b"bad"), ("good.wav", b"good")])
    before = sorted(tmp_path.rglob("*"))
    with caplog.at_level(logging.WARNING):
        assert list(read_members(path, {"evil", "good"})) == [("good", b"good")]
    assert f"skipped {name}: its name leads out" in caplog.text
    assert sorted(tmp_path.rglob("*")) == before
    assert not (tmp_path.parent / "evil.wav").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_passed_over(archive, tmp_path, caplog, kind):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    path = archive([special("evil.wav", kind, str(secret)), ("good.wav", b"good")])
    with caplog.at_level(logging.WARNING):
        assert list(read_members(path, {"evil", "good"})) == [("good", b"good")]
    assert "skipped evil.wav: no plain file" in caplog.text


def test_a_member_too_large_for_an_utterance_is_passed_over(archive, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBER", 100)
    path = archive([("a.wav", bytes(101)), ("b.wav", bytes(100))])
    assert [name for name, _ in read_members(path, {"a", "b"})] == ["b"]


def test_an_archive_that_unpacks_without_end_is_left(tmp_path):
    path = tmp_path / "bomb.tar.gz"
    bomb = tarfile.TarInfo("bomb")
    bomb.size = 2**26
    with gzip.open(path, "wb", 9) as file:
        file.write(bomb.tobuf())
        file.write(bytes(2**26))
    with pytest.raises(CorruptArchive, match="more than 200 times its size"):
        list(read_members(path, {"bomb2"}))


@pytest.mark.parametrize("end, whole", [(0.3, 2), (0.85, 7)])
def test_what_lies_before_the_damage_is_read(archive, end, whole):
    rng = random.Random(0)
    members = [(f"{n}.wav", rng.randbytes(20_000)) for n in range(9)]
    path = archive(members)
    path.write_bytes(path.read_bytes()[: int(end * path.stat().st_size)])
    read = []
    with pytest.raises(CorruptArchive):
        for name, data in read_members(path, {str(n) for n in range(9)}):
            read.append((f"{name}.wav", data))
    assert read == members[:whole]


@pytest.mark.parametrize("content", [b"", b"<html>no such file</html>", b"\x1f\x8b"])
def test_what_is_no_archive_is_told(tmp_path, content):
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(content)
    with pytest.raises(CorruptArchive):
        list(read_members(path, {"a"}))


def test_memory_does_not_grow_with_the_archive(archive, monkeypatch):
    """Neither contents nor headers of what was read are kept."""
    opened = []
    real = tarfile.open
    monkeypatch.setattr(
        tarfile, "open", lambda *a, **k: opened.append(real(*a, **k)) or opened[-1]
    )
    path = archive([(f"{n}.wav", bytes(10)) for n in range(500)])
    opened.clear()
    for _ in read_members(path, {str(n) for n in range(500)}):
        assert len(opened[0].members) <= 1


def test_only_what_is_asked_for_is_unpacked(archive, monkeypatch):
    members = [(f"{n}.wav", bytes(10_000)) for n in range(500)]
    read = []
    real = archives._Bounded.read
    monkeypatch.setattr(
        archives._Bounded,
        "read",
        lambda self, size=-1: read.append(size) or real(self, size),
    )
    next(read_members(archive(members), {"0"}))
    assert sum(read) < 100_000
