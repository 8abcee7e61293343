"""Files that survive a kill and a power cut: atomic writes, checksums, safe loading."""

import hashlib
import os
import pickle
import uuid
from pathlib import Path

import torch

from speechbrain_birq.errors import BadInput

SUMS = "SHA256SUMS"


def flush(path) -> None:
    """Wait until a file, or the names in a folder, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path, content) -> None:
    """Write a file whole or not at all; what was there before is replaced.

    Arguments
    ---------
    path : str or Path
    content : str or bytes

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
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    # A name of its own: ranks may write the same file at the same time.
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(data)
        flush(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    flush(path.parent)


def append(path, text) -> None:
    """Append a text to a file, whole or not at all.

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


def seal(folder) -> None:
    """Write checksums of all files of a folder, as ``sha256sum`` would; flush it all.

    ``sha256sum -c SHA256SUMS`` in the folder verifies it by hand.
    """
    paths = sorted(path for path in Path(folder).iterdir() if path.name != SUMS)
    lines = [f"{_sha256(path)}  {path.name}\n" for path in paths]
    (Path(folder) / SUMS).write_text("".join(lines), encoding="utf-8")
    for path in (*paths, Path(folder) / SUMS, folder):
        flush(path)


def damage(folder, names=None) -> str | None:
    """What is wrong with the files of a sealed folder.

    Arguments
    ---------
    folder : str or Path
    names : collection, optional
        Of the files to verify; all by default.

    Returns
    -------
    str or None
        None: every file is as it was sealed, and there is no other.

    Example
    -------
    >>> folder = Path(getfixture("tmp_path"))
    >>> _ = (folder / "a").write_text("text")
    >>> seal(folder)
    >>> damage(folder) is None
    True
    >>> _ = (folder / "a").write_text("test")
    >>> damage(folder)
    'a has another checksum'
    """
    try:
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
            if _sha256(Path(folder) / name) != sums[name]:
                return f"{name} has another checksum"
        except OSError as error:
            return f"{name}: {error.strerror}"
    return None


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def save_tensors(state, path) -> None:
    """Save tensors, plain values, and lists, tuples and dictionaries of them.

    Raises
    ------
    OSError
        If there is no room: torch itself raises a RuntimeError.
    """
    try:
        torch.save(state, path)
    except RuntimeError as error:
        raise OSError(f"cannot write {path} ({_first_line(error)})") from error


def load_tensors(path):
    """Load what ``save_tensors`` has saved, to the CPU, never running code.

    Raises
    ------
    BadInput
        If the file is damaged, or holds more than tensors and plain values.

    Example
    -------
    >>> path = getfixture("tmp_path") / "x.ckpt"
    >>> save_tensors({"steps": 3}, path)
    >>> load_tensors(path)
    {'steps': 3}
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error):
            raise BadInput(
                f"{path} would run code when it is loaded, which was refused: do not "
                f"trust its folder"
            ) from error
        raise BadInput(_damaged(path, error)) from error
    except (EOFError, OSError, RuntimeError) as error:
        raise BadInput(_damaged(path, error)) from error


def _damaged(path, error):
    return f"{path} is damaged ({_first_line(error)}): take another run folder"


def _first_line(error):
    return str(error).strip().partition("\n")[0][:200]
