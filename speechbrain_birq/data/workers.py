"""Processes that read audio: they outlive the signals that end a training."""

import signal

GRACE = 60  # seconds for the training to save


def outlive_signals(worker) -> None:
    """Let Ctrl-C and SIGTERM, sent to all processes at once, not end this one first.

    The training still needs its batches to complete a step. SIGTERM is obeyed after
    ``GRACE`` seconds: nothing waits forever for a worker that does not end.

    Arguments
    ---------
    worker : int
        Its number, which the DataLoader gives.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
