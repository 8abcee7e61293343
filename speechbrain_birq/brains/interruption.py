"""SIGTERM and Ctrl-C: the training saves at its next step, then ends."""

import logging
import os
import signal
import threading

import torch
import torch.distributed as dist

logger = logging.getLogger(__name__)

WILL_END = (
    "saving after this step (or this validation), then ending; Ctrl-C ends at once"
)


class Interruption:
    """Whether the training was asked to end; a context that listens for it.

    A second Ctrl-C ends the program at once.

    Example
    -------
    >>> import os
    >>> with Interruption() as interruption:
    ...     os.kill(os.getpid(), signal.SIGTERM)
    ...     interruption.agreed("cpu")
    <Signals.SIGTERM: 15>
    """

    def __init__(self):
        self.signal, self._before = None, {}

    def __enter__(self):
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread may listen
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        self.signal = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        told = f"\n{self.signal.name}: {WILL_END}\n"
        os.write(2, told.encode())  # a logger may be busy in the very same thread

    def agreed(self, device) -> signal.Signals | None:
        """The signal that any rank has got; all ranks ask at the same moments."""
        if not dist.is_initialized():
            return self.signal
        number = torch.tensor(int(self.signal or 0), device=device)
        dist.all_reduce(number, op=dist.ReduceOp.MAX)
        return signal.Signals(number.item()) if number else None


def stop(signal_, step) -> None:
    """End the program, its checkpoint saved, with the shell's status for a signal.

    Raises
    ------
    SystemExit
        130 for Ctrl-C, 143 for SIGTERM.
    """
    logger.warning(
        "stopped by %s after %d steps: the same command goes on from there",
        signal_.name,
        step,
    )
    raise SystemExit(128 + signal_)
