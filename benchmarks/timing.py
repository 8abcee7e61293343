"""Clocks, shares of a step, operations: how the other benchmarks measure."""

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
    """Wait for the device."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def timed(call, device) -> dict:
    """Seconds of a call: on the wall, and of all threads of this process.

    On a machine that does other things, too, the second says more about a CPU.
    """
    synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    synchronize(device)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def medians(rows) -> dict:
    """Of each column."""
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def reset_memory(device):
    """Start the peak of a GPU's memory anew; a process's cannot be."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device) -> float:
    """GB: of the GPU's memory, on a CPU of this process's."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def matrix_product(device, precision) -> float:
    """Operations a second of a large matrix product: what the device can do."""
    size = 8192 if torch.device(device).type == "cuda" else 1536
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = torch.randn(2, size, size, device=device, dtype=dtype)
    return 2 * size**3 / timed(lambda: left @ right, device)["wall"]


def operations(call) -> int:
    """Of the matrix products and convolutions of a call, gradients included.

    Fused attention is unrolled for this once: not all of its forms are counted.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@contextmanager
def marked(sections):
    """Within it, calls of named functions are sections of a profile.

    Arguments
    ---------
    sections : dict
        Name -> list of (object, attribute): methods, or functions of a module.
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
    """Share of a call's time in each section, its part of the backward pass included.

    What lies in no section is ``other``. From one profiled call: on a CPU the
    profiler's own time makes parts of many small operations look larger.
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
    made_in = {}  # node of the graph -> section; the last to see a number made it
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
    """Name of the innermost event so named that an event is, or lies in."""
    while event is not None and not event.name.startswith(prefix):
        event = event.cpu_parent
    return event and event.name
