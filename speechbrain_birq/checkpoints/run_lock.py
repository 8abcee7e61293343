"""One folder, one run: a lock that ends with the process that holds it."""

import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from speechbrain.utils.distributed import if_main_process

from speechbrain_birq.distributed import gathered
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)

NAME = ".lock"
_held: set[BinaryIO] = set()


@contextmanager
def locked(folder: str | Path, file: Path | None = None) -> Iterator[None]:
    """Hold a folder for one run; all ranks call it together, the first one locks.

    The file stays in the folder. What counts is the lock on it, which the kernel
    removes when the process ends, however it ends.

    Arguments
    ---------
    folder : str or Path
        It is made if it does not exist.
    file : Path, optional
        What to lock in place of ``.lock`` in the folder, for a folder that is to
        appear once it is complete; then only the folder above ``file`` is made.

    Raises
    ------
    BadInput
        On every rank: if another process holds the folder, or it cannot be written.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> with locked(folder):
    ...     with locked(folder):
    ...         pass
    Traceback (most recent call last):
    speechbrain_birq.errors.BadInput: ... is used by process ...: wait until it ends, \
stop it, or give another output folder
    """
    with ExitStack() as stack:
        problem = None
        if if_main_process():
            path = file or Path(folder) / NAME
            problem = stack.enter_context(locked_alone(folder, path))
        problem = gathered(problem)[0]
        if problem is not None:
            raise BadInput(problem)
        yield


@contextmanager
def locked_alone(folder: str | Path, path: Path) -> Iterator[str | None]:
    """Hold a folder without the other ranks.

    Arguments
    ---------
    folder : str or Path
        For messages.
    path : Path
        The file to lock; it is made.

    Yields
    ------
    str or None
        Why the folder is not held, if it is not.
    """
    held, problem = _lock(folder, path)
    try:
        yield problem
    finally:
        if held is not None:
            _held.discard(held)
            held.close()


def _lock(folder, path):
    """The locked file, or None and the reason."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab+", buffering=0)  # noqa: SIM115
    except OSError as error:
        reason = f"cannot write {path} ({error.strerror}): give another output folder"
        return None, reason
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with file:
            file.seek(0)
            holder = file.read(200).decode(errors="replace") or "another process"
        return None, (
            f"{folder} is used by {holder}: wait until it ends, stop it, or give "
            f"another output folder"
        )
    except OSError as error:  # some network file systems have no locks
        logger.warning("no lock on %s (%s): start no other run in it", path, error)
    if os.fstat(file.fileno()).st_nlink == 0:  # a refused start has just removed it
        file.close()
        return _lock(folder, path)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    holder = f"process {os.getpid()} on {socket.gethostname()} since {since}"
    with suppress(OSError):  # a full disk: the lock holds all the same
        file.truncate(0)
        file.write(holder.encode())
    _held.add(file)
    return file, None


def _close_in_child():
    """Leave the lock to the parent: a loader's worker may outlive it by seconds."""
    while _held:
        _held.pop().close()


os.register_at_fork(after_in_child=_close_in_child)
