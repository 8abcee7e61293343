"""A user's mistake, told in one sentence."""

import re
import signal
import sys
import threading
import traceback
from contextlib import contextmanager
from functools import wraps

GO_ON = "the same command goes on from the last checkpoint"
KILLED = (
    "a process that reads audio was killed{}, perhaps for want of memory: lower "
    f"num_workers or cache_audio_gb; {GO_ON}"
)


class BadInput(Exception):
    """What is wrong, where, and what to do: shown to the user as it is."""


def one_sentence(main):
    """Let ``main`` end with the sentence of a ``BadInput`` and exit status 2.

    Ctrl-C ends with a sentence, too, and with a shell's status for it, 130.

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
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except BadInput as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt:
            print("\nstopped by Ctrl-C: what is finished stays", file=sys.stderr)
            raise SystemExit(130) from None

    return wrapped


@contextmanager
def mishaps_told():
    """Turn a full disk or a killed reading process into one sentence.

    Raises
    ------
    BadInput

    Example
    -------
    >>> with mishaps_told():
    ...     open("/nowhere/log.txt", "w")
    Traceback (most recent call last):
    speechbrain_birq.errors.BadInput: cannot use /nowhere/log.txt (No such file or \
directory): mend that; the same command goes on from the last checkpoint
    """
    try:
        yield
    except (OSError, EOFError, RuntimeError) as error:
        if threading.current_thread() is threading.main_thread():
            # torch raises an error, wherever we are, for each reader that ends.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        sentence = _sentence(error)
        if sentence is None:
            raise
        traceback.clear_frames(error.__traceback__)  # ends the loader
        raise BadInput(sentence) from error


def _sentence(error):
    """What happened, or None where nobody knows."""
    if isinstance(error, RuntimeError):
        return _of_a_worker(str(error)) or _of_a_checkpoint(str(error))
    if isinstance(error, (EOFError, ConnectionError)) or _of_no_file(error):
        return KILLED.format("")  # it ended while it handed a batch over
    if error.errno is None:
        return None
    where = error.filename or "the output folder"
    return f"cannot use {where} ({error.strerror}): mend that; {GO_ON}"


def _of_no_file(error):
    return isinstance(error, FileNotFoundError) and error.filename is None


def _of_a_worker(text):
    found = re.search(r"DataLoader worker \(pid\D*([\d, ]+)", text)
    return found and KILLED.format(f" (pid {found[1].strip()})")


def _of_a_checkpoint(text):
    if "PytorchStreamWriter" not in text and "unexpected pos" not in text:
        return None
    return f"cannot write a checkpoint: make room on the disk; {GO_ON}"
