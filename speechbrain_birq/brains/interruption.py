"""SIGTERM and Ctrl-C: the training saves after its next step, then ends."""

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

logger = logging.getLogger(__name__)

WILL_END = (
    "saving after this step (or this validation), then ending; Ctrl-C ends at once"
)


class Interruption:
    """Listens, as a context, for a signal that asks the training to end.

    A second Ctrl-C ends the program at once.

    Example
    -------
    >>> import os
    >>> with Interruption() as interruption:
    ...     os.kill(os.getpid(), signal.SIGTERM)
    ...     interruption.agreed("cpu")
    <Signals.SIGTERM: 15>
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread may listen
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Not by a logger: the signal may have interrupted one in this very thread.
        os.write(2, f"\n{self.signal.name}: {WILL_END}\n".encode())

    def agreed(self, device: str | torch.device) -> signal.Signals | None:
        """Return the signal that any rank has received; all ranks call it together."""
        if not dist.is_initialized():
            return self.signal
        number = torch.tensor(int(self.signal or 0), device=device)
        dist.all_reduce(number, op=dist.ReduceOp.MAX)
        return signal.Signals(int(number)) if number else None


def stop(received: signal.Signals, step: int) -> None:
    """End the program after its checkpoint, with the shell's status for a signal.

    Raises
    ------
    SystemExit
        130 for Ctrl-C, 143 for SIGTERM.
    """
    logger.warning(
        "stopped by %s after %d steps: run the same command again to resume",
        received.name,
        step,
    )
    raise SystemExit(128 + received)
