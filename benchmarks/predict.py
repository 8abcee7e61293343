"""Predicted hours and memory of the paper's pretrainings on 1, 8 and 64 H200.

    python benchmarks/predict.py

Nothing here is measured on a GPU: it is arithmetic on the YAML files, with the
assumptions below. The printed page stands in ``NOTES.md``.
"""

import math
from pathlib import Path
from typing import NamedTuple

import ruamel.yaml

from speechbrain_birq.configuration import flatten

HPARAMS = Path(__file__).parents[1] / "hparams"
GPUS = (1, 8, 64)
RATE = 50  # frames a second
PEAK = 990e12  # operations a second: dense bf16, by the data sheet
UTILISATION = 0.4  # of it, assumed
BANDWIDTH = {8: 450e9, 64: 50e9}  # bytes/s a GPU: NVLink within 8, 400 Gbit/s beyond
KERNELS = 150  # a layer and step, forward, backward and optimiser: assumed
LAUNCH = 5e-6  # s for each of them


class Run(NamedTuple):
    """A pretraining of the paper."""

    name: str
    parameters: float  # as benchmarks/full_size.py counts them
    hours: float  # of speech in an epoch
    utterances: int  # in a step, over all GPUs


RUNS = (
    Run("birq_wide", 137.05e6, 960, 100),
    Run("birq_base", 154.13e6, 960, 64),
    Run("birq_large", 273.67e6, 5000, 128),
)
EPOCHS, AVERAGE_SECONDS = 100, 12.3


def main():
    """Print the page's table."""
    print(table())


def table() -> str:
    """One row a model and method, as Markdown."""
    columns = ["run", "operations", "GPU-hours by these"]
    columns += [f"hours on {gpus}" for gpus in GPUS]
    columns += [f"GB on {gpus}" for gpus in GPUS]
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    for run in RUNS:
        for birq in (False, True):
            lines.append(" | ".join(cells(run, birq)))
    return "\n".join(f"| {line} |" for line in lines)


def cells(run, birq) -> list:
    """Figures of one pretraining."""
    name = run.name if birq else run.name.replace("birq", "best_rq")
    total = operations(run, birq)
    return [
        f"`{name}`",
        f"{total:.1e}",
        f"{total / (PEAK * UTILISATION) / 3600:.0f}",
        *(f"{hours(run, birq, gpus):.0f}" for gpus in GPUS),
        *(f"{memory(run, birq, gpus):.0f}" for gpus in GPUS),
    ]


def layers(run) -> dict:
    """The sizes in the YAML."""
    base, changes = flatten(HPARAMS / f"{run.name}.yaml")
    tree = ruamel.yaml.YAML().load(base.read_text(encoding="utf-8")) | changes
    return {name: tree[name] for name in ("num_layers", "label_layer", "d_model")}


def factor(run, birq) -> float:
    """Cost in BEST-RQ steps: the clean pass through k of K layers, with gradient."""
    sizes = layers(run)
    return 1 + birq * sizes["label_layer"] / sizes["num_layers"]


def operations(run, birq) -> float:
    """6 for each weight and frame; attention's own products left out."""
    frames = run.hours * 3600 * RATE * EPOCHS
    return 6 * run.parameters * frames * factor(run, birq)


def hours(run, birq, gpus) -> float:
    """Of the whole pretraining, the sum of gradients not hidden behind the rest."""
    steps = run.hours * 3600 * EPOCHS / (run.utterances * AVERAGE_SECONDS)
    work = operations(run, birq) / steps / gpus / (PEAK * UTILISATION)
    launches = layers(run)["num_layers"] * KERNELS * factor(run, birq) * LAUNCH
    return steps * (max(work, launches) + exchange(run, gpus)) / 3600


def exchange(run, gpus) -> float:
    """Seconds of a ring's sum of float32 gradients."""
    if gpus == 1:
        return 0.0
    return 2 * (gpus - 1) / gpus * 4 * run.parameters / BANDWIDTH[gpus]


def memory(run, birq, gpus) -> float:
    """GB: weights, gradients, Adam's moments; some 60 numbers of 2 bytes a frame,
    layer and channel.
    """
    sizes = layers(run)
    frames = math.ceil(run.utterances / gpus) * AVERAGE_SECONDS * RATE
    kept = frames * sizes["num_layers"] * sizes["d_model"] * 60 * 2
    return (16 * run.parameters + kept * factor(run, birq)) / 1e9


if __name__ == "__main__":
    main()
