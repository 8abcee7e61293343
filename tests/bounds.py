"""What hostile input may take: 10 s and 500 MB."""

import resource
import signal
from contextlib import contextmanager

SECONDS, BYTES = 10, 500 * 10**6
SIGNALS = {signal.ITIMER_REAL: signal.SIGALRM, signal.ITIMER_PROF: signal.SIGPROF}


class TooLong(BaseException):
    """Nobody catches it by mistake."""


def too_long(*_):
    raise TooLong


@contextmanager
def bounded(clock=signal.ITIMER_REAL):
    """End the block after 10 s, and where it takes 500 MB more memory than before.

    ``signal.ITIMER_PROF`` counts the processor's time alone: on a busy machine, an
    example of a fuzz may wait for longer.
    """
    with open("/proc/self/status") as file:
        used = next(int(line.split()[1]) for line in file if "VmData" in line)
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    before = signal.signal(SIGNALS[clock], too_long)
    resource.setrlimit(resource.RLIMIT_DATA, (1024 * used + BYTES, limits[1]))
    signal.setitimer(clock, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(clock, 0)
        resource.setrlimit(resource.RLIMIT_DATA, limits)
        signal.signal(SIGNALS[clock], before)
