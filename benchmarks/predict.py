"""Predict hours and memory of the paper's models on H200s, for SCALING.md.

    python benchmarks/predict.py

Nothing here is measured. Sizes come from the experiments in ``hparams/``, the
assumptions are the constants below.
"""

from pathlib import Path
from typing import NamedTuple

HPARAMS = Path(__file__).parents[1] / "hparams"
MODELS = {
    "birq_wide": ("C1", 960),
    "birq_base": ("C2", 960),
    "birq_large_yodas": ("C3", 5000),
    "birq_paper_wide": ("C1 as printed", 960),
    "birq_paper_base": ("C2 as printed", 960),
    "birq_paper_large_yodas": ("C3 as printed", 5000),
}
GPUS = (1, 8, 64)
PEAK, REACHED = 990e12, 0.4  # bf16 operations a second of an H200; share in use
NODE = 8  # GPUs connected by NVLink
BANDWIDTH = {"NVLink": 450e9, "network": 50e9}  # bytes a second, one way
GRADIENT = 4  # bytes a weight that the ranks sum: float32
STATE = 16  # bytes a weight: weight, gradient and Adam's two moments in float32
# Numbers of 2 bytes that a layer keeps for the backward pass, for each unit of width.
KEPT = 60
FRAMES_PER_SECOND = 50


class Model(NamedTuple):
    """Sizes and schedule of an experiment, and the costs that follow from them."""

    weights: float
    num_layers: int
    d_model: int
    label_layer: int
    label_gradient: bool  # whether the clean pass has a backward pass
    batch_seconds: float  # audio in the batch of one GPU
    total_steps: int
    epochs: int
    hours: float  # audio in an epoch

    @property
    def frames(self) -> float:
        """Encoder frames of all epochs."""
        return self.hours * 3600 * FRAMES_PER_SECOND * self.epochs

    @property
    def passes(self) -> float:
        """Cost relative to BEST-RQ: the clean pass runs to layer k of K.

        It adds k/K with its backward pass, and a third of that without.
        """
        depth = self.label_layer / self.num_layers
        return 1 + (depth if self.label_gradient else depth / 3)

    @property
    def operations(self) -> float:
        """2 operations forward and 4 backward a weight and frame; no attention."""
        return 6 * self.weights * self.frames * self.passes

    @property
    def batch(self) -> float:
        """Seconds of audio in a step of all GPUs."""
        return self.hours * 3600 * self.epochs / self.total_steps

    def computing(self, gpus) -> float:
        """Return wall-clock hours without communication."""
        return self.operations / (gpus * PEAK * REACHED) / 3600

    def reducing(self, gpus) -> float:
        """Return hours of a ring all-reduce in every step, without any overlap."""
        bandwidth = BANDWIDTH["NVLink" if gpus <= NODE else "network"]
        sent = 2 * (gpus - 1) / gpus * GRADIENT * self.weights
        return self.total_steps * sent / bandwidth / 3600

    def memory(self, gpus) -> float:
        """Return GB for each GPU; a GPU accumulates what exceeds its batch."""
        seconds = min(self.batch_seconds, self.batch / gpus)
        layers = self.num_layers + (self.label_layer if self.label_gradient else 0)
        numbers = seconds * FRAMES_PER_SECOND * layers * self.d_model * KEPT
        return (STATE * self.weights + 2 * numbers) / 1e9


def read(name, hours) -> Model:
    """Read the sizes of an experiment from its YAML file."""
    from speechbrain_birq.config import flatten

    keys = flatten(HPARAMS / f"{name}.yaml")
    names = "num_layers d_model label_layer label_gradient batch_seconds total_steps"
    return Model(
        weights=count_weights(keys),
        **{name: keys[name] for name in names.split()},
        epochs=keys["number_of_epochs"],
        hours=hours,
    )


def count_weights(keys) -> int:
    """Count the weights of encoder and heads on the meta device, without memory."""
    import torch

    from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder

    names = ("num_layers", "d_model", "nhead", "d_ffn", "kernel_size")
    with torch.device("meta"):
        encoder = SpeechBrainEncoder(
            kind=keys["encoder_kind"],
            input_dim=keys["n_mels"] * keys["stack"],
            **{name: keys[name] for name in names},
        )
    heads = 1 if keys["shared_head"] else 2
    codes = heads * keys["num_codebooks"] * keys["num_codes"]
    return sum(p.numel() for p in encoder.parameters()) + (keys["d_model"] + 1) * codes


def table(models) -> str:
    """Format hours and memory as a Markdown table."""
    heads = [f"{n} H200: h, GPU-h, GB" for n in GPUS]
    lines = ["| model | weights, M | operations | " + " | ".join(heads) + " |"]
    lines.append("|---" * (3 + len(GPUS)) + "|")
    for (short, hours), model in models.items():
        cells = [f"{short}, {hours:,} h", f"{model.weights / 1e6:.1f}"]
        cells.append(f"{model.operations:.2g}")
        for gpus in GPUS:
            clock = model.computing(gpus) + model.reducing(gpus)
            cells.append(f"{clock:.1f}, {clock * gpus:.0f}, {model.memory(gpus):.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def communication(models) -> str:
    """Format the share of the all-reduce as a Markdown table."""
    lines = ["| model | " + " | ".join(f"{n} GPUs, %" for n in GPUS[1:]) + " |"]
    lines.append("|---" * len(GPUS) + "|")
    for (short, hours), model in models.items():
        shares = [100 * model.reducing(n) / model.computing(n) for n in GPUS[1:]]
        cells = [f"{short}, {hours:,} h", *(f"{share:.0f}" for share in shares)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def example(model) -> str:
    """Write out the arithmetic of one cell."""
    return (
        f"C2 has {model.frames:.3g} frames ({model.hours:,} h x 3,600 s x "
        f"{FRAMES_PER_SECOND} x {model.epochs} epochs); 6 x "
        f"{model.weights / 1e6:.1f} M x that x {model.passes:.2f} = "
        f"{model.operations:.3g} operations; / ({PEAK / 1e12:.0f} TFLOP/s x {REACHED}) "
        f"= {model.computing(1):.1f} hours on one GPU. On 8 a step sends 2 x 7/8 x "
        f"{GRADIENT} bytes x {model.weights / 1e6:.1f} M = "
        f"{2 * 7 / 8 * GRADIENT * model.weights / 1e9:.2f} GB, {model.total_steps:,} "
        f"times: {model.reducing(8):.2f} hours."
    )


def page() -> list:
    """Return the computed parts of SCALING.md."""
    models = {model: read(name, model[1]) for name, model in MODELS.items()}
    return [table(models), communication(models), example(models["C2", 960])]


if __name__ == "__main__":
    print("\n\n".join(page()))
