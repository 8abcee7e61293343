"""Measure memory and time of attention against length, with a window and in full.

    python benchmarks/attention_memory.py

Runs SpeechBrain's rotary attention forward and backward on one utterance, with and
without a window, each length in its own process. Memory is the peak of this process
minus its memory before the first call. Exponents are fitted to the upper half of the
lengths. The longest one takes 11 GB without a window.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time

LENGTHS = (500, 1000, 2000, 4000, 8000, 16000)


def main():
    """Measure each length and print the table."""
    options = arguments()
    if options.child:
        print(json.dumps(measure(*options.child, options)))
        return
    print(f"{options.width} wide, {options.heads} heads, window {options.window}")
    print(f"{'frames':>8}{'full: MB':>12}{'s':>8}{'window: MB':>14}{'s':>8}")
    rows = {kind: [] for kind in ("full", "window")}
    for length in LENGTHS:
        for kind, kept in rows.items():
            kept.append(run(kind, length))
        (wide, slow), (narrow, quick) = rows["full"][-1], rows["window"][-1]
        print(
            f"{length:8}{wide:12.0f}{slow:8.2f}{narrow:14.0f}{quick:8.2f}", flush=True
        )
    for kind, kept in rows.items():
        memory, seconds = (exponent([row[i] for row in kept]) for i in (0, 1))
        print(f"{kind}: memory ~ length^{memory:.2f}, time ~ length^{seconds:.2f}")


def arguments():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--window", type=int, default=200)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(kind, length):
    """Measure one length in a new process; return (MB, seconds)."""
    command = [sys.executable, *sys.argv, "--child", kind, str(length)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(kind, length, options):
    """Return peak memory above the start in MB, and seconds of forward and backward."""
    import torch
    from speechbrain.nnet.attention import RoPEMHA

    from speechbrain_birq.models.encoders.windowed_attention import within_window

    attention = RoPEMHA(options.width, options.heads)
    if kind == "window":
        attention = within_window(attention, options.window)
    states = torch.randn(1, int(length), options.width, requires_grad=True)
    padding = torch.zeros(1, int(length), dtype=torch.bool)
    before, started = peak(), time.perf_counter()
    output, _ = attention(states, states, states, key_padding_mask=padding)
    output.sum().backward()
    return peak() - before, time.perf_counter() - started


def peak():
    """Return the peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def exponent(values):
    """Return the slope of the logarithms over the upper half of the lengths."""
    half = len(values) // 2
    rise = math.log(values[-1] / values[half])
    return rise / math.log(LENGTHS[-1] / LENGTHS[half])


if __name__ == "__main__":
    main()
