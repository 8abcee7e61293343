"""Run every check and benchmark that needs a GPU, and write one JSON file.

    bash benchmarks/gpu.sh
    python benchmarks/gpu.py --only precisions one_rank
    python benchmarks/gpu.py --device cpu --tiny --json tiny.json

Sections: losses of 20 steps in each precision, also compiled (``precisions``); codes
against those of the CPU (``labels``); a step that synchronizes with the device is an
error (``waits``); a step under DDP with one rank, NCCL on a GPU (``one_rank``); the
time of the optimizers (``optimizers``); one step of C1, C2 and C3 (``full_size``); step
and profile beside SpeechBrain's (``step``). Each runs in a process of its own, in this
order. A section that fails or exceeds its limit leaves its error in the file, and the
next one runs. The limits sum up to 20 minutes; with ``--tiny`` there are none.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).parent
CHECKS = ("precisions", "labels", "waits", "one_rank", "optimizers")
LIMITS = dict(  # seconds
    precisions=240,
    labels=30,
    waits=60,
    one_rank=60,
    optimizers=120,
    full_size=300,
    step=390,
)
STEP_ARMS = ("peer_bf16", "best_rq_bf16", "best_rq_compiled_bf16", "birq_0.7_bf16")
TINY_ARMS = ("peer", "best_rq")


def main():
    """Run the sections and write the file."""
    options = arguments()
    found = {"machine": machine(options.device), "options": vars(options)}
    found["sections"] = {}
    for name in options.only or LIMITS:
        section = run(name, options)
        found["sections"][name] = section
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
        state = section.get("error", "done").strip().splitlines()[-1]
        print(f"{name}: {section['seconds']:.0f} s, {state}", flush=True)
    print(f"written to {options.json}")
    sys.exit(any("error" in section for section in found["sections"].values()))


def arguments():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="two narrow layers")
    parser.add_argument("--only", nargs="+", choices=LIMITS, help="default: all")
    parser.add_argument("--json", default="gpu.json", help="file for the figures")
    return parser.parse_args()


def machine(device) -> dict:
    """Return what the figures depend on."""
    import torch

    git = ["git", "-C", str(FOLDER), "rev-parse", "HEAD"]
    found = {
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": platform.processor() or platform.machine(),
    }
    if device != "cpu":
        found |= {
            "device": torch.cuda.get_device_name(),
            "memory": torch.cuda.get_device_properties(0).total_memory / 2**30,
            "CUDA": torch.version.cuda,
        }
    return found


def run(name, options) -> dict:
    """Run a section in a process of its own; return its figures or its error."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        words = command(name, options, path)
        section = {"command": " ".join(["python", *words])}
        try:
            done = subprocess.run(
                [sys.executable, *words],
                capture_output=True,
                text=True,
                timeout=None if options.tiny else LIMITS[name],
            )
            if done.returncode:
                section["error"] = done.stderr[-3000:]
            else:
                section["figures"] = json.loads(path.read_text())
        except subprocess.TimeoutExpired:
            section["error"] = f"stopped after {LIMITS[name]} s"
    return section | {"seconds": time.perf_counter() - started}


def command(name, options, path) -> list:
    """Return the words of a section's command."""
    common = ["--device", options.device, "--json", str(path)]
    tiny = ["--tiny"] * options.tiny
    if name in CHECKS:
        return [str(FOLDER / "gpu_checks.py"), name, *tiny, *common]
    if name == "full_size":
        size = tiny or ["--precision", "bf16", "--seconds", "200"]
        return [str(FOLDER / "full_size.py"), *size, *common]
    size = ["--size", "base", "--batch", "16", "--seconds", "12.5"]
    arms = STEP_ARMS
    if options.tiny:
        size = ["--size", "tiny", "--batch", "1", "--seconds", "1", "--rounds", "1"]
        arms = TINY_ARMS
    return [str(FOLDER / "step.py"), *size, "--arms", *arms, *common]


if __name__ == "__main__":
    main()
