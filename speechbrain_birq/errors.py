"""How an error reaches the user: one sentence on the terminal, its cause in the log."""

import atexit
import errno
import io
import logging
import multiprocessing.connection
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import wraps
from types import FrameType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)

# Code outside these packages is the user's: an encoder or a Brain named in a YAML file.
LIBRARIES = sys.stdlib_module_names | set(
    """
    PIL aiohttp filelock fsspec httpcore httpx huggingface_hub hyperpyyaml kenlm lhotse
    matplotlib numpy pygtrie requests ruamel safetensors scipy sentencepiece soundfile
    speechbrain speechbrain_birq tensorboard torch torchaudio tqdm urllib3 yaml
    """.split()
)
# Where torch raises an error when a process of a DataLoader has ended: while it waits
# for a batch, or in its handler of SIGCHLD.
LOADER = "torch.utils.data.dataloader"
CHILD_HANDLER = "torch.utils.data._utils.signal_handling"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
AGAIN = "then run the same command again (training resumes from its last checkpoint)"


class BadInput(Exception):
    """What is wrong, where, and what to do: shown to the user as it is."""


def one_sentence(main: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command: a mistake that the user can correct ends it in one sentence.

    The sentence goes to the terminal. The traceback goes to ``log.txt`` of the run
    folder, if there is one, and to the terminal if the environment has
    ``BIRQ_TRACEBACK=1``. Any other error is left to Python.

    Exit status: 2 after a sentence, 130 after Ctrl-C, 141 if nobody reads the output.

    Example
    -------
    >>> @one_sentence
    ... def main():
    ...     raise BadInput("no folder /x: give an existing one with --data_folder")
    >>> main()
    Traceback (most recent call last):
    SystemExit: 2
    """

    @wraps(main)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        atexit.register(_kill_workers)
        # A log line that cannot be written must not print a traceback each time.
        before, logging.raiseExceptions = logging.raiseExceptions, False
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal that knows ASCII alone still shows texts and names of files.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return _flushed(main, *args, **kwargs)
        except KeyboardInterrupt as error:
            _report("\nstopped by Ctrl-C: finished parts are kept", error)
            raise SystemExit(130) from error
        except Exception as error:
            _ignore_ended_workers()
            gone = isinstance(error, BrokenPipeError) and _reader_has_gone()
            _discard_output()
            if gone:
                raise SystemExit(128 + signal.SIGPIPE) from error
            sentence = _sentence(error, main)
            if sentence is None:
                raise
            _report(f"error: {sentence}", error)
            raise SystemExit(2) from error
        finally:
            logging.raiseExceptions = before

    return wrapped


def from_user_code(error: BaseException) -> bool:
    """Say whether an error came through code of the user's own.

    Call it where the error is caught: the functions between there and the place where
    it was raised count. An error of a user's class must be shown as Python shows it,
    with file and line, and not become a ``BadInput``.

    Example
    -------
    >>> try:
    ...     int("x")
    ... except ValueError as error:
    ...     print(from_user_code(error))
    False
    """
    # The first frame is the function that has caught the error.
    return any(map(_is_users, _frames(error)[1:]))


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error is a lack of memory, of the CPU or of a GPU.

    Example
    -------
    >>> out_of_memory(MemoryError()), out_of_memory(RuntimeError("a bug"))
    (True, False)
    """
    import torch  # an error at the command line needs no torch

    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # torch has a class for the memory of a GPU only. The CPU's allocator raises a plain
    # RuntimeError; its own name, a word of the code, is all that tells it from others.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


def _flushed(main, *args, **kwargs):
    """Flush the output while errors are still caught; at exit Python prints them."""
    try:
        return main(*args, **kwargs)
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()


def _report(text, error):
    told = "".join(traceback.format_exception(error))
    # At level DEBUG the line enters log.txt, but not the terminal.
    logger.debug("%s\n%s", text.strip(), told)
    if os.environ.get("BIRQ_TRACEBACK") == "1":
        print(told, end="", file=sys.stderr)
    print(text, file=sys.stderr)


def _sentence(error, main):
    """What the user can do, or None if nobody knows."""
    killed = _killed_worker(error)
    if killed is not None:
        pid, number = killed
        return (
            f"process {pid}, which reads audio, was killed by "
            f"{signal.Signals(number).name}, perhaps because memory ran out: lower "
            f"num_workers or cache_audio_gb, {AGAIN}"
        )
    if isinstance(error, BadInput):
        text = str(error)
        if text.startswith("Caught BadInput in DataLoader worker"):
            text = text.rpartition("BadInput: ")[2].strip()  # after its traceback
        return text
    if not isinstance(error, OSError) or error.errno is None:
        return None
    frames = [frame for frame in _frames(error) if frame.f_code is not main.__code__]
    if any(map(_is_users, frames)):
        return None
    where = error.filename
    if error.errno in FULL:
        # A copy names its source first; a file that is open already is not named.
        where = error.filename2 or where or "the output"
    return where and f"cannot use {where} ({error.strerror}): solve this, {AGAIN}"


def _reader_has_gone():
    """Whether the output goes to a pipe that nobody reads, as with ``| head``."""
    try:
        output = sys.stdout.fileno()
    except (AttributeError, OSError):  # none, or a notebook's
        return False
    poll = select.poll()
    poll.register(output, 0)  # errors are always reported
    return bool(poll.poll(0))


def _discard_output():
    """Drop what cannot be written: at exit Python would try again and complain."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _ignore_ended_workers():
    """Keep torch from raising another error for every further worker that ends."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _kill_workers():
    """Kill at exit the processes that an interrupted DataLoader has left.

    Python would send them SIGTERM and wait, but they obey that only after a minute:
    see ``outlive_signals``.
    """
    _ignore_ended_workers()
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def _killed_worker(error):
    """(pid, signal) if the death of a process that reads audio has caused the error."""
    frames = [frame for one in _chain(error) for frame in _frames(one)]
    # The iterator of a DataLoader still knows its processes when they have ended.
    workers = {
        worker.sentinel: worker
        for frame in frames
        if _module(frame) == LOADER
        for worker in getattr(frame.f_locals.get("self"), "_workers", ())
    }
    # A killed process breaks its connections a moment before it has an exit code.
    for ended in workers and multiprocessing.connection.wait(list(workers), timeout=1):
        workers[ended].join()
        if workers[ended].exitcode < 0:
            return workers[ended].pid, -workers[ended].exitcode
    handled = any(_module(frame) == CHILD_HANDLER for frame in frames)
    if handled and hasattr(os, "waitid"):  # macOS has it from Python 3.13 on
        child = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if child is not None and child.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
            return child.si_pid, child.si_status
    return None


def _chain(error) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _frames(error) -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def _is_users(frame):
    return _module(frame).partition(".")[0] not in LIBRARIES


def _module(frame):
    return frame.f_globals.get("__name__") or "torch"  # compiled code has no module
