"""Clocks, memory, operations and shares of a step for the other benchmarks."""

import resource
import statistics
import time
from collections import Counter
from contextlib import contextmanager
from unittest import mock

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

MARK = "section:"
BACKWARD = "autograd::engine::evaluate_function"


def synchronize(device):
    """Wait until the device has finished."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def timed(call, device) -> dict:
    """Return wall-clock seconds of a call, and CPU seconds of all threads.

    On a machine with other load, CPU seconds are the better measure.
    """
    synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    synchronize(device)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def medians(rows) -> dict:
    """Return the median of each column."""
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def reset_memory(device):
    """Reset the peak of a GPU's memory; the peak of a process cannot be reset."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device) -> float:
    """Return the peak memory of the GPU, or on a CPU of this process, in GB."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def matrix_product(device, precision) -> float:
    """Return the operations a second of a large matrix product on the device."""
    size = 8192 if torch.device(device).type == "cuda" else 1536
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = torch.randn(2, size, size, device=device, dtype=dtype)
    return 2 * size**3 / timed(lambda: left @ right, device)["wall"]


def operations(call) -> int:
    """Count the operations of matrix products and convolutions, with gradients.

    The call runs without fused attention, because the counter does not know all of its
    forms.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@contextmanager
def marked(sections):
    """Mark calls of functions as named sections of a profile.

    Arguments
    ---------
    sections : dict
        Name -> list of (owner, attribute): methods of an object, or functions of a
        module.
    """
    patches = [
        mock.patch.object(owner, attribute, _marking(getattr(owner, attribute), name))
        for name, places in sections.items()
        for owner, attribute in places
    ]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in reversed(patches):
            patch.stop()


def _marking(function, name):
    def call(*args, **kwargs):
        with record_function(MARK + name):
            return function(*args, **kwargs)

    return call


def shares(call, sections, device) -> dict:
    """Return the share of a call's time in each section, with its backward pass.

    The rest is ``other``. The call is profiled once. On a CPU, the profiler's own time
    makes sections with many small operations look larger.
    """
    cuda = torch.device(device).type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda
    column = "device_time_total" if cuda else "cpu_time_total"
    with marked(sections), profile(activities=activities, acc_events=True) as profiler:
        with record_function(MARK + "other"):
            call()
        synchronize(device)
    return _shares(
        [e for e in profiler.events() if e.device_type.name == "CPU"], column
    )


def _shares(events, column):
    times = Counter()
    # Node of the graph -> section. The last event with a sequence number created it.
    made_in = {}
    for event in sorted(events, key=lambda event: event.time_range.start):
        if event.name.startswith(MARK):
            times[event.name] += getattr(event, column)
            times[_inside(event.cpu_parent, MARK)] -= getattr(event, column)
        elif event.sequence_nr >= 0 and not _inside(event, BACKWARD):
            made_in[event.sequence_nr] = _inside(event, MARK)
    for event in events:
        section = made_in.get(event.sequence_nr)
        if event.name.startswith(BACKWARD) and section:
            times[section] += getattr(event, column)
            times[MARK + "other"] -= getattr(event, column)
    times.pop(None, None)
    total = sum(times.values())
    return {name.removeprefix(MARK): value / total for name, value in times.items()}


def _inside(event, prefix):
    """Return the name of the innermost enclosing event whose name has this prefix."""
    while event is not None and not event.name.startswith(prefix):
        event = event.cpu_parent
    return event and event.name
