"""Audio out of a tar.gz, as a stream: nothing in it is ever written to a path."""

import gzip
import io
import logging
import tarfile
import zlib
from collections.abc import Container, Iterator
from pathlib import Path, PurePosixPath

logger = logging.getLogger(__name__)

MAX_RATIO = 200  # unpacked to packed bytes; gzip reaches 1000, speech 1.2 to 3
MAX_HEADER = 2**16  # bytes of a long name or of the fields of a pax header
HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
MAX_MEMBER = 2**28  # bytes: more than half an hour at 24 kHz in floats


class CorruptArchive(Exception):
    """The rest of an archive cannot be read."""


def read_members(path: Path, wanted: Container[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the wanted files of a tar.gz, in its order, one at a time in memory.

    A name with ``..`` or a leading ``/``, a link or a device is named in the log and
    skipped.

    Arguments
    ---------
    path : Path
        The archive.
    wanted : container of str
        Names without folders and suffix.

    Yields
    ------
    tuple
        (name without folders and suffix, bytes)

    Raises
    ------
    CorruptArchive
        Where the archive ends early, is no tar.gz, or unpacks to more than
        ``MAX_RATIO`` times its size; what came before is good.
    """
    try:
        with gzip.open(path) as unpacked:
            bounded = _Bounded(unpacked, MAX_RATIO * path.stat().st_size)
            with tarfile.open(fileobj=bounded, mode="r|", tarinfo=_Member) as tar:
                yield from _wanted(tar, wanted, path, bounded)
    except RecursionError as error:  # tarfile calls itself for each header of a header
        raise CorruptArchive("headers that are nested too deeply") from error
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        raise CorruptArchive(str(error) or type(error).__name__) from error


def _wanted(tar, wanted, path, bounded):
    while (member := tar.next()) is not None:
        # tarfile would loop over all of these bytes, beyond the archive's end. The size
        # of a sparse member is another one than that of its data.
        ahead = tar.offset - tar.fileobj.tell()
        if ahead > bounded.left + tarfile.RECORDSIZE:
            raise CorruptArchive(
                f"a member of {ahead} bytes: it unpacks to more than {MAX_RATIO} times "
                f"its size"
            )
        tar.members = []  # tarfile keeps them all otherwise
        name = PurePosixPath(member.name)
        if name.stem not in wanted:
            continue
        if problem := _refused(member, name):
            logger.warning("%s: skipped %s: %s", path, member.name, problem)
            continue
        yield name.stem, tar.extractfile(member).read()


def _refused(member, name):
    if not member.isreg() or member.issparse():
        return "no plain file"
    if name.is_absolute() or ".." in name.parts:
        return "its name leads out of the archive"
    if member.size > MAX_MEMBER:
        return f"{member.size} bytes are no utterance"
    return None


class _Member(tarfile.TarInfo):
    """Refuses long headers: tarfile reads long names and pax headers into memory."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        member = super().frombuf(buf, encoding, errors)
        if member.type in HEADERS and not 0 <= member.size <= MAX_HEADER:
            raise CorruptArchive(f"a header of {member.size} bytes")
        return member


class _Bounded(io.RawIOBase):
    """Refuses to read more than so many bytes."""

    def __init__(self, file, limit):
        self.file, self.left = file, limit

    def readable(self):
        return True

    def read(self, size=-1):
        block = self.file.read(size)
        self.left -= len(block)
        if self.left < 0:
            raise tarfile.ReadError(f"unpacks to more than {MAX_RATIO} times its size")
        return block
