"""Measure how a step grows with audio, codes, codebooks, width, depth and ranks.

    python benchmarks/scaling.py --threads 1 --json scaling.json
    python benchmarks/scaling.py --only codes ranks

Each point is a BiRQ (k = 0.7 K, with gradient) in its own process. Seconds are medians
over steps; exponents are fitted to all points of a line. ``ranks`` gives the same work
to each of 1 and 2 gloo processes, so the difference is the cost of communication.
"""

import argparse
import json
import math
import os
import socket
import statistics
import tempfile
from pathlib import Path

import torch.multiprocessing as multiprocessing

STEPS = 3
BASE = dict(seconds=12.0, num_codes=256, num_codebooks=1, d_model=144, num_layers=4)
LINES = {
    "seconds": (6.0, 12.0, 24.0, 48.0),
    "codes": (256, 1024, 4096, 8192),
    "codebooks": (1, 2, 4, 8),
    "width": (144, 288, 576),
    "depth": (2, 4, 8, 16),
}
KEYS = {"codes": "num_codes", "codebooks": "num_codebooks"}
KEYS |= {"width": "d_model", "depth": "num_layers"}


def main():
    """Measure each line, print its exponents and write the figures."""
    options = arguments()
    found = {}
    for line in options.only:
        measure = ranks if line == "ranks" else grow
        found[line] = measure(line, options)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")


def arguments():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [*LINES, "ranks"]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--points", type=int, help="smallest points of each line; default: all"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", help="file for the figures")
    return parser.parse_args()


def grow(line, options) -> list:
    """Measure seconds and GB along one line."""
    rows = []
    for value in LINES[line][: options.points]:
        point = BASE | {KEYS.get(line, line): value}
        (row,) = alone(point, options, world=1)
        rows.append({line: value, **row})
        print(
            f"{line:10}{value:>8} {row['wall']:8.3f} s {row['cpu']:8.3f} CPU s "
            f"{row['memory']:7.2f} GB",
            flush=True,
        )
    for column in ("wall", "cpu", "memory"):
        power = exponent([row[line] for row in rows], [row[column] for row in rows])
        print(f"{column} ~ {line}^{power:.2f}")
    return rows


def ranks(line, options) -> dict:
    """Give each of 1 and 2 processes the same work and half of the threads."""
    options.threads = max(1, options.threads // 2)
    found = {}
    for world in (1, 2):
        rows = alone(BASE, options, world)
        found[world] = statistics.mean(row["wall"] for row in rows)
        reducing = statistics.mean(row["reducing"] for row in rows)
        print(
            f"{world} rank(s): {found[world]:.3f} s a step; the all-reduce alone takes "
            f"{reducing:.3f} s"
        )
    print(f"weak scaling: {100 * found[1] / found[2]:.0f} %")
    return found


def exponent(values, costs) -> float:
    """Return the slope of the logarithms by least squares."""
    x, y = [math.log(v) for v in values], [math.log(max(c, 1e-3)) for c in costs]
    if len(x) < 2:
        return math.nan
    return statistics.linear_regression(x, y).slope


def alone(point, options, world) -> list:
    """Measure a point in new processes; return a row for each rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    processes = [
        context.Process(target=_rank, args=(rank, world, port, point, options, queue))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit(f"{point} failed: see above")
    return [queue.get() for _ in processes]


def _rank(rank, world, port, point, options, queue):
    import torch
    import torch.distributed as dist
    from arms import Arm, Size, build, make_audio
    from timing import medians, peak_memory, timed

    torch.set_num_threads(options.threads)
    if world > 1:
        address = f"tcp://127.0.0.1:{port}"
        dist.init_process_group(
            "gloo", init_method=address, rank=rank, world_size=world
        )
    sizes = {key: point[key] for key in ("num_codes", "num_codebooks")}
    arm = Arm("birq", convolutional=False, **sizes)
    width = point["d_model"]
    size = Size(point["num_layers"], width, width // 36, 4 * width)
    before = peak_memory(options.device)
    with tempfile.TemporaryDirectory() as folder:
        made = build(arm, size, folder, options.device)
        audio = make_audio(1, point["seconds"], seed=rank)
        rows = []
        for _ in range(STEPS + 2):
            batch = made.batch(audio)
            rows.append(timed(lambda batch=batch: made(batch), options.device))
    row = medians(rows[2:]) | {"memory": peak_memory(options.device) - before}
    queue.put(row | {"reducing": _reducing(made) if world > 1 else 0.0})
    if world > 1:
        # Threads of gloo that outlive the interpreter now and then abort the process.
        dist.destroy_process_group()


def _reducing(made) -> float:
    """Return seconds of an all-reduce of as many numbers as there are gradients."""
    import torch
    import torch.distributed as dist
    from timing import medians, timed

    numbers = torch.zeros(made.num_parameters)
    rows = [timed(lambda: dist.all_reduce(numbers), "cpu") for _ in range(STEPS)]
    return medians(rows)["wall"]


if __name__ == "__main__":
    main()
