"""Files that survive a kill and a power cut: atomic writes, checksums, safe loading."""

import errno
import hashlib
import math
import os
import pickle
import shutil
import stat
import uuid
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from speechbrain_birq.errors import BadInput

# What torch raises for a corrupt file.
CORRUPT = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
SUMS = "SHA256SUMS"
SUMS_BYTES = 2**20  # a line a file


def flush(path: str | Path) -> None:
    """Wait until a file, or the names in a folder, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file atomically: it is replaced when the block ends without an error.

    Yields
    ------
    Path
        A new name in the same folder, to be written within the block.

    Raises
    ------
    OSError
        If it cannot be written; the old file is still there.

    Example
    -------
    >>> path = Path(getfixture("tmp_path")) / "list.txt"
    >>> with replacing(path) as partial, open(partial, "w") as file:
    ...     print("a line", file=file)
    >>> path.read_text()
    'a line\\n'
    """
    path = Path(path)
    # A name of its own, because ranks may write the same file at the same time.
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        flush(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    flush(path.parent)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Make a folder atomically: it appears when the block ends without an error.

    What a killed process leaves is removed by the next call for the same folder.

    Yields
    ------
    Path
        A hidden folder beside it, to be filled within the block.

    Raises
    ------
    OSError
        If it cannot be written, or there is a folder that is not empty.

    Example
    -------
    >>> path = Path(getfixture("tmp_path")) / "labels"
    >>> with new_folder(path) as partial:
    ...     (partial / "index.json").touch()
    ...     path.exists()
    False
    >>> [file.name for file in path.iterdir()]
    ['index.json']
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        os.sync()  # once: to flush hundreds of small files takes seconds
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    flush(path.parent)


def write(path: str | Path, content: str | bytes) -> None:
    """Write a file atomically; what was there before is replaced.

    Raises
    ------
    OSError
        If it cannot be written; the old file is still there.

    Example
    -------
    >>> path = Path(getfixture("tmp_path")) / "results.json"
    >>> write(path, "{}")
    >>> path.read_text()
    '{}'
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with replacing(path) as partial:
        partial.write_bytes(data)


def append(path: str | Path, text: str) -> None:
    """Append all of a text to a file, or nothing.

    Raises
    ------
    OSError
        If there is no room; the file is as it was.
    """
    path = Path(path)
    before = path.stat().st_size if path.is_file() else 0
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        if path.is_file():
            os.truncate(path, before)
        raise


def check_free_space(
    folder: str | Path, num_bytes: float, advice: str = "give another folder"
) -> int:
    """Refuse to start what the disk of a folder has no room for.

    Arguments
    ---------
    folder : str or Path
        It need not exist yet.
    num_bytes : float
        What will be written into it.
    advice : str
        How the message ends.

    Returns
    -------
    int
        Free bytes of the disk.

    Raises
    ------
    BadInput
        If there are fewer free bytes than ``num_bytes``.

    Example
    -------
    >>> check_free_space(getfixture("tmp_path") / "new", num_bytes=1) > 1
    True
    """
    folder = Path(folder).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if num_bytes > free:
        raise BadInput(
            f"{folder} needs about {num_bytes / 1e9:.1f} GB, its disk has "
            f"{free / 1e9:.1f} GB free: {advice}"
        )
    return free


def seal(folder: str | Path) -> None:
    """Write checksums of all files of a folder, as ``sha256sum`` would; flush it all.

    ``sha256sum -c SHA256SUMS`` in the folder verifies it by hand.
    """
    paths = sorted(path for path in Path(folder).iterdir() if path.name != SUMS)
    lines = [f"{sha256(path)}  {path.name}\n" for path in paths]
    (Path(folder) / SUMS).write_text("".join(lines), encoding="utf-8")
    for path in (*paths, Path(folder) / SUMS, Path(folder)):
        flush(path)


def corruption(folder: str | Path, names: Collection[str] | None = None) -> str | None:
    """Say what differs from the checksums of a sealed folder.

    Arguments
    ---------
    folder : str or Path
    names : collection, optional
        The files to verify; all by default, and there must be no other.

    Returns
    -------
    str or None
        None if every file is as it was sealed.

    Example
    -------
    >>> folder = Path(getfixture("tmp_path"))
    >>> _ = (folder / "a").write_text("text")
    >>> seal(folder)
    >>> corruption(folder) is None
    True
    >>> _ = (folder / "a").write_text("test")
    >>> corruption(folder)
    'a has another checksum'
    """
    try:
        _check_regular(Path(folder) / SUMS, SUMS_BYTES)
        lines = (Path(folder) / SUMS).read_text(encoding="utf-8").splitlines()
        sums = {line[66:]: line[:64] for line in lines}
    except FileNotFoundError:
        return f"no {SUMS}; `sha256sum * > {SUMS}` in it accepts it as it is"
    except (OSError, UnicodeDecodeError):
        return f"{SUMS} cannot be read"
    if names is None:
        names = sums.keys() | {path.name for path in Path(folder).iterdir()} - {SUMS}
    for name in sorted(names):
        if name not in sums:
            return f"{name} has no checksum"
        try:
            if sha256(Path(folder) / name) != sums[name]:
                return f"{name} has another checksum"
        except OSError as error:
            return f"{name}: {error.strerror}"
    return None


def _check_regular(path, max_bytes=math.inf):
    """Refuse a pipe or a device, which may never end, before it is opened."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if status.st_size > max_bytes:
        raise OSError(errno.EFBIG, f"more than {max_bytes} bytes", str(path))


def sha256(path: str | Path) -> str:
    """Return the checksum of a regular file, in hexadecimal digits."""
    _check_regular(path)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def save_tensors(state: Any, path: str | Path) -> None:
    """Save tensors, plain values, and lists, tuples and dictionaries of them.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    try:
        # torch's own file object forgets why it could not write, Python's says it.
        with open(path, "wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        # After a failed write torch closes its archive, which raises a RuntimeError.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error


def load_tensors(path: str | Path) -> Any:
    """Load what ``save_tensors`` has saved, to the CPU, without running code.

    Raises
    ------
    BadInput
        If the file is corrupt, or holds more than tensors and plain values.

    Example
    -------
    >>> path = getfixture("tmp_path") / "x.ckpt"
    >>> save_tensors({"steps": 3}, path)
    >>> load_tensors(path)
    {'steps': 3}
    """
    try:
        _check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    # torch has one class for corrupt pickles and for those that would run code.
    except (*CORRUPT, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise BadInput(
            f"{path} is corrupt or would run code ({_first_line(error)}): take another "
            f"run folder, one that you trust"
        ) from error


def _check_archive(path):
    """Refuse what loading could take more memory for than the file has bytes."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    size = sum(member.file_size for member in members)
    if size > status.st_size or any(member.compress_type for member in members):
        raise ValueError(f"{status.st_size} bytes that unpack to {size}")


def _first_line(error):
    return str(error).strip().partition("\n")[0][:200]
